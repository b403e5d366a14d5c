"""Inserts symmetric INT8 quantization (Q/DQ pairs) where TensorRT computes in INT8."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from trtcheck.precision.graph import DOMAINS, Names, Values, attribute, drop_unused
from trtcheck.precision.placement import FLOAT, QUANTIZED_OPS

LEVELS = 127
"""Largest integer used; -128 is left out, so that the range is symmetric."""

_SMALLEST_FP16 = 2.0**-24
_LARGEST_FP16 = 65504.0


@dataclass
class Plan:
    """Which inputs of which nodes are quantized.

    Attributes:
        activations: By node name, the indices of inputs that the graph computes.
        weights: By node name, the indices of constant inputs.
        kept: Names of nodes that could be quantized by their type and are not, and why.
    """

    activations: dict[str, list[int]] = field(default_factory=dict)
    weights: dict[str, list[int]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def tensors(self, graph: GraphProto) -> list[str]:
        """Names of the activations whose range calibration has to find, in graph order."""
        named = {node.name: node for node in graph.node}
        return list(
            dict.fromkeys(named[n].input[i] for n, indices in self.activations.items() for i in indices)
        )


def plan(model: ModelProto, values: Values, excluded: Collection[str]) -> Plan:
    """Chooses what is quantized in a prepared FP32 *model*: inputs of Conv, ConvTranspose, Gemm and MatMul.

    Never their results and never their biases, which stay in the type of the rest.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen = Plan()
    for node in model.graph.node:
        if node.op_type not in QUANTIZED_OPS or node.domain not in DOMAINS:
            continue
        operands = list(node.input[:2])
        computed = [i for i, name in enumerate(operands) if name not in constants]
        if node.name in excluded:
            chosen.kept[node.name] = "excluded"
        elif any(values.types.get(name) != FLOAT for name in operands):
            chosen.kept[node.name] = "not quantized: its inputs are not FP32 tensors"
        elif not computed:
            chosen.kept[node.name] = "not quantized: all its inputs are constant"
        elif 1 in computed and node.op_type in ("Conv", "ConvTranspose"):
            chosen.kept[node.name] = "not quantized: its weights are computed by the graph"
        elif not all(_is_finite(constants[name]) for name in operands if name in constants):
            chosen.kept[node.name] = "not quantized: its weights are not finite"
        else:
            chosen.activations[node.name] = computed
            chosen.weights[node.name] = [i for i in (0, 1) if i not in computed]
    return chosen


def _is_finite(tensor: TensorProto) -> bool:
    return bool(np.isfinite(numpy_helper.to_array(tensor)).all())


def insert(model: ModelProto, chosen: Plan, largest: Mapping[str, float], *, fp16_scales: bool) -> None:
    """Quantizes *model* in place.

    Args:
        model: A prepared FP32 model.
        chosen: What is quantized.
        largest: Magnitude at which each activation saturates.
        fp16_scales: Whether scales must be FP16 numbers, as where FP16 is computed around them: they are
            rounded up before the integers are made, so that nothing saturates by rounding.
    """
    graph = model.graph
    inserter = _Inserter(graph, largest, fp16_scales)
    nodes: list[NodeProto] = []
    for node in graph.node:
        for index in chosen.activations.get(node.name, ()):
            node.input[index] = inserter.activation(node.input[index], nodes)
        for index in chosen.weights.get(node.name, ()):
            node.input[index] = inserter.weight(node, index, nodes)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)


def scales_of(largest: np.ndarray, *, fp16: bool) -> np.ndarray:
    """The float32 scales that map magnitudes up to *largest* to 127; 1 where all is 0.

    With *fp16* each is a positive FP16 number, the next one at or above the exact scale.
    """
    exact = np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float64)
    if not fp16:
        smallest = np.finfo(np.float32).tiny
        return np.maximum(exact, smallest).astype(np.float32)
    bounded = np.clip(exact, _SMALLEST_FP16, _LARGEST_FP16)
    rounded = bounded.astype(np.float16)
    up = np.where(
        rounded.astype(np.float64) < bounded, np.nextafter(rounded, np.float16(_LARGEST_FP16)), rounded
    )
    return up.astype(np.float32)


def channel_axis(node: NodeProto, index: int, rank: int) -> int | None:
    """The axis of output channels in the constant input *index* of *node*; None quantizes it as one."""
    if index == 0:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if rank == 2 else None


class _Inserter:
    """Makes each Q/DQ pair once, whatever the number of its readers."""

    def __init__(self, graph: GraphProto, largest: Mapping[str, float], fp16: bool) -> None:
        self.graph = graph
        self.largest = largest
        self.fp16 = fp16
        self.names = Names(graph)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.done: dict[tuple[str, int | None], str] = {}

    def activation(self, tensor: str, nodes: list[NodeProto]) -> str:
        """The name of *tensor* after Q and DQ, which are appended to *nodes* where they are new."""
        if (tensor, None) not in self.done:
            scale = scales_of(np.array(self.largest[tensor]), fp16=self.fp16)
            parameters = self._parameters(tensor, scale)
            quantized = self.names.tensor(f"{tensor}_quantized")
            name = self.names.node(f"{tensor}_QuantizeLinear")
            nodes.append(helper.make_node("QuantizeLinear", [tensor, *parameters], [quantized], name=name))
            self.done[tensor, None] = self._dequantize(tensor, [quantized, *parameters], None, nodes)
        return self.done[tensor, None]

    def weight(self, node: NodeProto, index: int, nodes: list[NodeProto]) -> str:
        """The name of the constant input *index* of *node* after DQ; its integers replace the constant."""
        name = node.input[index]
        array = numpy_helper.to_array(self.constants[name]).astype(np.float64)
        axis = channel_axis(node, index, array.ndim)
        if (name, axis) not in self.done:
            others = tuple(i for i in range(array.ndim) if i != axis)
            per_channel = np.abs(array).max(axis=others, initial=0, keepdims=True)
            scale = scales_of(per_channel, fp16=self.fp16)
            integers = np.clip(np.rint(array / scale), -LEVELS, LEVELS).astype(np.int8)
            stored = self._constant(f"{name}_quantized", integers)
            parameters = self._parameters(name, scale.reshape(() if axis is None else -1))
            self.done[name, axis] = self._dequantize(name, [stored, *parameters], axis, nodes)
        return self.done[name, axis]

    def _parameters(self, tensor: str, scale: np.ndarray) -> tuple[str, str]:
        return (
            self._constant(f"{tensor}_scale", scale),
            self._constant(f"{tensor}_zero_point", np.zeros(scale.shape, np.int8)),
        )

    def _constant(self, wanted: str, array: np.ndarray) -> str:
        tensor = numpy_helper.from_array(np.asarray(array), self.names.tensor(wanted))
        self.graph.initializer.append(tensor)
        return str(tensor.name)

    def _dequantize(self, tensor: str, inputs: list[str], axis: int | None, nodes: list[NodeProto]) -> str:
        output = self.names.tensor(f"{tensor}_dequantized")
        name = self.names.node(f"{tensor}_DequantizeLinear")
        nodes.append(helper.make_node("DequantizeLinear", inputs, [output], name=name))
        if axis is not None:
            nodes[-1].attribute.append(helper.make_attribute("axis", axis))
        return output
