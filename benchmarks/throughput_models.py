"""Networks of known sizes with random weights, and a suite's case around each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import resnet
from onnx import TensorProto, helper, numpy_helper

from trtcheck.case import Case, InputSpec

TINY, MOBILENET, RESNET = "tiny", "mobilenet", "resnet50"


@dataclass(frozen=True)
class Network:
    """A network of a size that people know.

    Attributes:
        name: What it is called.
        size: Height and width of an image, in pixels.
        classes: Number of classes.
        images: Images that are compared on the CPU, and on a GPU.
        batch: Batch size on the CPU.
    """

    name: str
    size: int
    classes: int
    images: tuple[int, int]
    batch: int


NETWORKS = (
    Network(TINY, 32, 10, (20_000, 50_000), 64),
    Network(MOBILENET, 224, 1000, (192, 4_000), 8),
    Network(RESNET, 224, 1000, (48, 3_000), 8),
)

_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, repetitions and stride of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381,
table 2)."""


class _Graph:
    """Nodes and weights, layer by layer; normalizations are part of the convolutions."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, scale: float) -> str:
        self.weights.append(numpy_helper.from_array(resnet.random(name, *shape, scale=scale), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolution(
        self,
        x: str,
        name: str,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        active: bool = True,
    ) -> str:
        fan = before // groups * kernel**2
        inputs = [
            x, self.weight(f"{name}.w", after, before // groups, kernel, kernel, scale=(2 / fan) ** 0.5),
            self.weight(f"{name}.b", after, scale=0.1),
        ]  # fmt: skip
        y = self.node(
            "Conv",
            inputs,
            name,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )
        return self.node("Relu", [y], f"{name}.relu") if active else y

    def finished(self, x: str, features: int, size: int, classes: int) -> onnx.ModelProto:
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x], "pool")], "features")
        inputs = [
            x,
            self.weight("head.w", classes, features, scale=features**-0.5),
            self.weight("head.b", classes, scale=0.1),
        ]
        self.node("Gemm", inputs, "scores", transB=1)
        graph = helper.make_graph(
            self.nodes, "network",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, size, size])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", classes])],
            self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny(net: Network) -> onnx.ModelProto:
    """Three convolutions: some 50 000 images a second on two cores."""
    graph = _Graph()
    x = graph.convolution("images", "a", 3, 16, 3, 2)
    x = graph.convolution(x, "b", 16, 32, 3, 1)
    x = graph.convolution(x, "c", 32, 64, 3, 2)
    return graph.finished(x, 64, net.size, net.classes)


def mobilenet(net: Network) -> onnx.ModelProto:
    """MobileNetV2, with Relu for Relu6: 3.5 M weights, .3 G products an image."""
    graph = _Graph()
    x, before = graph.convolution("images", "stem", 3, 32, 3, 2), 32
    for stage, (expansion, after, repetitions, stride) in enumerate(_BLOCKS):
        for number in range(repetitions):
            name, inner = f"{stage}.{number}", before * expansion
            step = stride if number == 0 else 1
            y = x if expansion == 1 else graph.convolution(x, f"{name}.expand", before, inner, 1)
            y = graph.convolution(y, f"{name}.depthwise", inner, inner, 3, step, groups=inner)
            y = graph.convolution(y, f"{name}.project", inner, after, 1, active=False)
            x = graph.node("Add", [x, y], f"{name}.add") if step == 1 and before == after else y
            before = after
    x = graph.convolution(x, "last", before, 1280, 1)
    return graph.finished(x, 1280, net.size, net.classes)


def written(net: Network, folder: Path, images: int, batch: int, *, floats: bool = False) -> Case:
    """A case of random pictures in .npy files: uint8 (N, H, W, 3), or float32 (N, 3, H, W) ready to be fed.

    Args:
        net: The network.
        folder: Where its files are written.
        images: How many pictures.
        batch: Images a batch.
        floats: Whether the pictures are kept as the network is fed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{net.name}.onnx"
    if not path.exists():
        made = {TINY: tiny, MOBILENET: mobilenet}.get(net.name)
        onnx.save(resnet.network(resnet.RESNET50) if made is None else made(net), path)
    kind = "float" if floats else "uint8"
    data, labels = folder / f"{net.name}.{kind}.{images}.npy", folder / f"{net.name}.{images}.labels.npy"
    rng = np.random.default_rng(resnet.SEED)
    np.save(labels, rng.integers(0, net.classes, images))
    shape = (images, 3, net.size, net.size) if floats else (images, net.size, net.size, 3)
    file = np.lib.format.open_memmap(data, mode="w+", dtype=np.float32 if floats else np.uint8, shape=shape)
    for start in range(0, images, 256):
        part = file[start : start + 256]
        part[...] = rng.standard_normal(part.shape) if floats else rng.integers(0, 256, part.shape)
    file.flush()
    spec = (
        InputSpec()
        if floats
        else InputSpec(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    )
    return Case(
        name=f"{net.name}-{kind}-{batch}", onnx=path, data={"images": data, "labels": labels}, batch=batch,
        input=spec, classes=tuple(map(str, range(net.classes))),
    )  # fmt: skip
