"""Takes BatchNormalization out of a graph while its parameters are still exact.

Its variances may be anything up to 1e8 and more; narrowed on their own they become infinite, while the factor
``scale / sqrt(variance + epsilon)`` that they stand for is an ordinary number.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from trtcheck.precision.graph import DOMAINS, Names, Values, attribute, consumers, drop_unused

Array = np.ndarray


@dataclass(frozen=True)
class _Affine:
    """What a BatchNormalization computes per channel: ``factor * x + shift``, both float64 (C,)."""

    factor: Array
    shift: Array


def fold(model: ModelProto, values: Values, excluded: Collection[str]) -> int:
    """Folds BatchNormalizations into the Conv, ConvTranspose or Gemm before them, else into Mul and Add.

    Args:
        model: The model, changed in place.
        values: Ranks of its tensors.
        excluded: Names of nodes that stay as they are.

    Returns:
        How many were taken out.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    used, names = consumers(graph), Names(graph)
    producers = {name: node for node in graph.node for name in node.output if name}
    nodes: list[NodeProto] = []
    folded = 0
    for node in graph.node:
        affine = None if node.name in excluded else _affine(node, constants)
        if affine is None:
            nodes.append(node)
            continue
        before = producers.get(node.input[0])
        if (
            before is not None
            and used[node.input[0]] == 1
            and _absorb(before, affine, constants, names, graph)
        ):
            before.output[0] = node.output[0]
            producers[node.output[0]] = before
        elif (rank := values.ranks.get(node.input[0])) is not None and rank >= 2:
            nodes += _rewrite(node, affine, rank, names, graph)
        else:
            nodes.append(node)
            continue
        folded += 1
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)
    return folded


def _affine(node: NodeProto, constants: dict[str, TensorProto]) -> _Affine | None:
    """The factors of a BatchNormalization for inference with constant FP32 parameters, else None."""
    if node.op_type != "BatchNormalization" or node.domain not in DOMAINS:
        return None
    if attribute(node, "training_mode", 0) or len([name for name in node.output if name]) > 1:
        return None
    parameters = [constants.get(name) for name in node.input[1:5]]
    arrays = [
        numpy_helper.to_array(p).astype(np.float64)
        for p in parameters
        if p is not None and p.data_type == TensorProto.FLOAT
    ]
    if len(arrays) < 4:
        return None
    scale, bias, mean, variance = arrays
    factor = scale / np.sqrt(variance + np.float64(attribute(node, "epsilon", 1e-5)))
    return _Affine(factor, bias - mean * factor)


def _absorb(
    node: NodeProto, affine: _Affine, constants: dict[str, TensorProto], names: Names, graph: GraphProto
) -> bool:
    """Multiplies *affine* into the weights of *node*; False where they are not constant or do not fit."""
    kinds = {"Conv": _conv_weight, "ConvTranspose": _transposed_weight, "Gemm": _gemm_weight}
    if node.op_type not in kinds or node.domain not in DOMAINS:
        return False
    arrays = []
    for name in node.input[1:3]:
        tensor = constants.get(name)
        if name and (tensor is None or tensor.data_type != TensorProto.FLOAT):
            return False
        if tensor is not None:
            arrays.append(numpy_helper.to_array(tensor).astype(np.float64))
    channels = affine.factor.size
    bias = arrays[1] if len(arrays) > 1 else np.zeros(1)
    if node.op_type == "Gemm":
        bias = bias * np.float64(attribute(node, "beta", 1.0))
    if bias.size not in (1, channels) or (bias.ndim and bias.shape[-1] != bias.size):
        return False  # a Gemm's C may differ from row to row; then it is no bias
    weight = kinds[node.op_type](node, arrays[0], affine.factor)
    shifted = np.broadcast_to(bias.reshape(-1) * affine.factor + affine.shift, (channels,))
    inputs = [node.input[0]]
    for array, role in ((weight, "weight"), (shifted, "bias")):
        tensor = numpy_helper.from_array(array.astype(np.float32), names.tensor(f"{node.name}_folded_{role}"))
        graph.initializer.append(tensor)
        constants[tensor.name] = tensor
        inputs.append(tensor.name)
    del node.input[:]
    node.input.extend(inputs)
    if node.op_type == "Gemm":
        others = [a for a in node.attribute if a.name != "beta"]
        del node.attribute[:]
        node.attribute.extend(others)
    return True


def _conv_weight(_: NodeProto, weight: Array, factor: Array) -> Array:
    scaled: Array = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    return scaled


def _transposed_weight(node: NodeProto, weight: Array, factor: Array) -> Array:
    """Weights (C_in, C_out / groups, ...): each group of input channels has its own output channels."""
    groups = int(attribute(node, "group", 1))
    per_input = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    scaled: Array = weight * per_input.reshape(*per_input.shape, *(1,) * (weight.ndim - 2))
    return scaled


def _gemm_weight(node: NodeProto, weight: Array, factor: Array) -> Array:
    scaled: Array = weight * (factor[:, None] if attribute(node, "transB", 0) else factor)
    return scaled


def _rewrite(
    node: NodeProto, affine: _Affine, rank: int, names: Names, graph: GraphProto
) -> tuple[NodeProto, NodeProto]:
    """The same as a Mul and an Add; the Add, which makes the result, keeps the node's name."""
    inputs = []
    for array, role in ((affine.factor, "factor"), (affine.shift, "shift")):
        shaped = array.astype(np.float32).reshape(-1, *(1,) * (rank - 2))
        graph.initializer.append(numpy_helper.from_array(shaped, names.tensor(f"{node.name}_{role}")))
        inputs.append(graph.initializer[-1].name)
    scaled = names.tensor(f"{node.output[0]}_scaled")
    return (
        helper.make_node("Mul", [node.input[0], inputs[0]], [scaled], name=names.node(f"{node.name}_mul")),
        helper.make_node("Add", [scaled, inputs[1]], [node.output[0]], name=node.name),
    )
