"""The quantizers of activations in a lowered graph, whoever made it, and what their ranges hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.emulation import Emulation
from trtcheck.backends.graph_types import NARROW, Types, name_of, reads, walk

_INTEGERS = {
    int(TensorProto.INT8): (-128, 127),
    int(TensorProto.UINT8): (0, 255),
}
"""The integers that TensorRT quantizes activations to."""
_PROBED = frozenset({int(TensorProto.FLOAT), *NARROW})
_PASSES_ON = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True, eq=False)
class Quantizer:
    """One QuantizeLinear of an activation.

    Attributes:
        tensor: The activation's name in the lowered graph.
        node: The node that makes it; None for an input of the model.
        reads: Its name in the emulated graph.
        low: Smallest value that the range holds, float32, of a shape that meets the tensor's.
        high: Largest value, likewise.
        step: Distance of two neighbouring values, likewise.
    """

    tensor: str
    node: str | None
    reads: str
    low: np.ndarray
    high: np.ndarray
    step: np.ndarray


def find(emulation: Emulation) -> tuple[list[Quantizer], int]:
    """The quantizers of activations in the main graph, each tensor and range once, and how many are unknown.

    Unknown are those inside If, Loop and Scan, those whose scale is computed while the model runs, is a
    block's or no positive number, and those to other types than INT8 and UINT8.
    """
    graph = emulation.model.graph
    types = Types(emulation.source.graph)
    constants = _Constants(graph)
    depends = _depends_on_inputs(graph)
    written = {
        node.output[0]: node for node in emulation.source.graph.node if node.op_type == "QuantizeLinear"
    }
    makers = {name: node for node in emulation.source.graph.node for name in node.output}
    found: dict[tuple[str, bytes, bytes], Quantizer] = {}
    inside = [inner for inner in walk(graph) if inner is not graph]
    unknown = sum(node.op_type == "QuantizeLinear" for inner in inside for node in inner.node)
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in depends:
            continue
        source = written[node.output[0]]
        limits = _limits(node, source.input[0], types, constants)
        if limits is None:
            unknown += 1
            continue
        low, high, step = limits
        maker = _maker(source.input[0], makers)
        found.setdefault(
            (source.input[0], low.tobytes(), high.tobytes()),
            Quantizer(source.input[0], maker, node.input[0], low, high, step),
        )
    return list(found.values()), unknown


def _maker(tensor: str, makers: Mapping[str, onnx.NodeProto]) -> str | None:
    """The node that computes *tensor*; what merely casts or reshapes it is passed over."""
    while tensor in makers:
        node = makers[tensor]
        if node.op_type not in _PASSES_ON:
            return name_of(node)
        tensor = node.input[0]
    return None


def _depends_on_inputs(graph: onnx.GraphProto) -> set[str]:
    """The tensors of the main graph that the model's inputs decide, not constants alone."""
    weights = {weight.name for weight in graph.initializer}
    found = {value.name for value in graph.input} - weights
    for node in graph.node:
        if any(name in found for name in reads(node)):
            found.update(name for name in node.output if name)
    return found


class _Constants:
    """Values of the constants of a graph, those behind a cast or reshape included."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._weights = {weight.name: weight for weight in graph.initializer}
        self._nodes = {name: node for node in graph.node for name in node.output}

    def get(self, name: str) -> np.ndarray | None:
        """The value of *name*, or None where it is computed."""
        while name not in self._weights and name in self._nodes:
            node = self._nodes[name]
            if node.op_type == "Constant":
                return _constant(node)
            if node.op_type not in _PASSES_ON:
                return None
            name = node.input[0]
        weight = self._weights.get(name)
        return None if weight is None else np.asarray(numpy_helper.to_array(weight))

    def element(self, name: str) -> int:
        """The element type of a constant that is an initializer or a Constant node; 0 where it is neither."""
        if name in self._weights:
            return int(self._weights[name].data_type)
        node = self._nodes.get(name)
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            return int(node.attribute[0].t.data_type)
        return 0


def _constant(node: onnx.NodeProto) -> np.ndarray | None:
    value = node.attribute[0]
    if value.name == "value":
        return np.asarray(numpy_helper.to_array(value.t))
    if value.name in ("value_float", "value_floats", "value_int", "value_ints"):
        return np.asarray(helper.get_attribute_value(value))
    return None


def _limits(
    node: onnx.NodeProto, tensor: str, types: Types, constants: _Constants
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Smallest and largest value and step of the quantizer *node* of *tensor*, or None where unknown."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    scale = constants.get(node.input[1])
    zero_name = node.input[2] if len(node.input) > 2 else ""
    zero = constants.get(zero_name) if zero_name else np.zeros((), np.int64)
    if scale is None or zero is None or attributes.get("block_size"):
        return None
    if types.element(tensor) not in _PROBED or _rank(tensor, types) == 0:
        return None
    element = (
        constants.element(zero_name) if zero_name else attributes.get("output_dtype") or TensorProto.UINT8
    )
    element = element or types.element(node.output[0])
    if element not in _INTEGERS:
        return None
    smallest, largest = _INTEGERS[element]
    step = np.asarray(scale, np.float64).reshape(-1)
    if not (np.isfinite(step) & (step > 0)).all():
        return None
    zeros = np.asarray(zero).astype(np.float64).reshape(-1)
    low, high = (smallest - zeros) * step, (largest - zeros) * step
    if step.size > 1:
        shape = _channel_shape(tensor, types, int(attributes.get("axis", 1)), step.size)
        if shape is None:
            return None
        return tuple(part.astype(np.float32).reshape(shape) for part in (low, high, step))  # type: ignore[return-value]
    return tuple(part.astype(np.float32).reshape(()) for part in (low, high, step))  # type: ignore[return-value]


def _channel_shape(tensor: str, types: Types, axis: int, channels: int) -> list[int] | None:
    """The shape in which one number a channel meets *tensor*, or None where its rank is unknown."""
    rank = _rank(tensor, types)
    if rank is None:
        return None
    shape = [1] * rank
    shape[axis] = channels
    return shape


def _rank(tensor: str, types: Types) -> int | None:
    kind = types.get(tensor)
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return len(kind.tensor_type.shape.dim)
