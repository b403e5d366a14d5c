"""Reading ONNX files: their inputs, outputs, batch size and digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck import digests
from trtcheck.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import onnx

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model.

    Attributes:
        name: Its name in the graph.
        dtype: Its element type; bfloat16 is that of ml_dtypes.
        shape: Its dimensions, None where they are open; None as a whole where the rank is unknown.
    """

    name: str
    dtype: np.dtype
    shape: Shape | None

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype}[{dims}]"


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model, in graph order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the inputs prescribe, or None where it is open."""
        sizes = {t.shape[0] for t in self.inputs if t.shape}
        fixed = sizes - {None}
        return next(iter(fixed)) if len(fixed) == 1 and None not in sizes else None

    def with_batch(self, size: int) -> Signature:
        """The same with inputs that prescribe batches of *size*."""
        inputs = tuple(
            replace(tensor, shape=(size, *tensor.shape[1:])) if tensor.shape else tensor
            for tensor in self.inputs
        )
        return replace(self, inputs=inputs)


def load(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """Reads the ONNX file at *path*, with or without its external weights.

    Raises:
        ModelError: The file is missing, no ONNX model, or lacks its external weights.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ModelError("no such ONNX file", where=path, hint='check the path in onnx = "…"')
    try:
        # Left to itself, onnx takes the format from the file's suffix.
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError, ValueError, RecursionError) as error:
        raise ModelError("cannot be read as an ONNX model", where=path, found=error) from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(
            "cannot be read as an ONNX model",
            where=path,
            expected="a graph with nodes and outputs",
            found=f"{path.stat().st_size} bytes without them",
        )
    if weights:
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (onnx.checker.ValidationError, OSError, ValueError, TypeError, RecursionError) as error:
            # TypeError: protobuf gives a name that is no UTF-8 as bytes.
            raise ModelError("its external weights cannot be read", where=path, found=error) from error
    return model


def _tensor(value: onnx.ValueInfoProto, path: Path) -> Tensor:
    import onnx

    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value")
        raise ModelError(
            f"'{value.name}' is no tensor",
            where=path,
            expected="tensors only",
            found=kind,
            hint="export the model without ZipMap (skl2onnx: options={'zipmap': False})",
        )
    tensor = value.type.tensor_type
    shape: Shape | None = None
    if tensor.HasField("shape"):
        # Some exporters write -1 or 0 for an open dimension.
        shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except KeyError as error:
        raise ModelError(
            f"'{value.name}' has an unknown element type", where=path,
            expected=f"one that onnx {onnx.__version__} knows", found=tensor.elem_type,
        ) from error  # fmt: skip
    return Tensor(value.name, dtype, shape)


def signature_of(model: onnx.ModelProto, path: Path) -> Signature:
    """Inputs (without weights that are listed as inputs) and outputs of a loaded *model*."""
    weights = {t.name for t in model.graph.initializer}
    return Signature(
        tuple(_tensor(v, path) for v in model.graph.input if v.name not in weights),
        tuple(_tensor(v, path) for v in model.graph.output),
    )


def read_signature(path: Path) -> Signature:
    """Inputs and outputs of the ONNX file at *path*; weights are not loaded."""
    return signature_of(load(path, weights=False), path)


def digest(path: Path) -> str:
    """Digest of the ONNX file at *path* and of every external weight file that it names."""
    return digests.of_files(files(path))


def files(path: Path) -> list[Path]:
    """The ONNX file at *path*, and every external weight file that it names.

    Raises:
        ModelError: The file is missing or damaged, or lacks its external weights.
    """
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    model = load(path, weights=False)
    try:
        weights = {
            path.parent / ExternalDataInfo(tensor).location
            for tensor in _weights(model.graph)
            if uses_external_data(tensor)
        }
    except (ValueError, TypeError) as error:
        raise ModelError("its external weights cannot be read", where=path, found=error) from error
    missing = sorted(str(file) for file in weights if not file.is_file())
    if missing:
        raise ModelError("its external weights are missing", where=path, expected=", ".join(missing))
    return [path, *sorted(weights)]


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in *graph*: initializers, constants, and those of its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _weights(attribute.g)
