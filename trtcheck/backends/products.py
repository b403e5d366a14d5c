"""What multiplies in an ONNX graph, and in which precision: the nodes that a build is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from onnx import TensorProto

from trtcheck.backends.graph_types import Types, name_of, subgraphs, walk
from trtcheck.case import Precision

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that are judged. Einsum, LSTM, GRU and RNN multiply too, and are left as they are."""

_PASSES_ON = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

_PRECISIONS = {
    int(TensorProto.FLOAT): Precision.FP32.value,
    int(TensorProto.FLOAT16): Precision.FP16.value,
    int(TensorProto.BFLOAT16): Precision.BF16.value,
    int(TensorProto.DOUBLE): "fp64",
}


def facts(model: onnx.ModelProto, *, tf32: bool = False) -> dict[str, Any]:
    """What a typed *model* is made of, JSON-ready: the facts of the build that a graph can tell.

    Args:
        model: A model as `trtcheck.backends.graph_types.typed` returns it.
        tf32: Whether products of FP32 tensors read their inputs as TF32.

    Returns:
        ``nodes``, ``types`` (nodes by the types of their results, and ``quantized``: products of dequantized
        values) and ``computes`` (see `computes`).
    """
    counts: dict[str, int] = {}
    for node, types in _nodes(model.graph):
        for element in {types.element(name) for name in node.output if name} - {TensorProto.UNDEFINED}:
            counts[_label(element)] = counts.get(_label(element), 0) + 1
    found = computes(model, tf32=tf32)
    quantized = sum(kind == Precision.INT8 for kind in found.values())
    return {
        "nodes": sum(len(graph.node) for graph in walk(model.graph)),
        "types": {**dict(sorted(counts.items())), "quantized": quantized},
        "computes": found,
    }


def computes(model: onnx.ModelProto, *, tf32: bool = False) -> dict[str, str]:
    """The precision in which each product of a typed *model* computes, by the node's name, in graph order.

    ``int8`` where both factors come from DequantizeLinear, else the type of the result; products of integers
    are left out. A node without a name is told by its output, and so is one whose name is taken.

    Args:
        model: A model as `trtcheck.backends.graph_types.typed` returns it.
        tf32: Whether products of FP32 tensors read their inputs as TF32.
    """
    found: dict[str, str] = {}
    makers = dict(_makers(model.graph))
    for node, types in _nodes(model.graph):
        kind = _kind(node, types, makers, tf32) if node.op_type in PRODUCTS else None
        if kind is not None:
            found[_free_name(node, found)] = kind
    return found


def multiplies_fp32(model: onnx.ModelProto) -> bool:
    """Whether any product of a typed *model* is of FP32 tensors, or of tensors of unknown type."""
    makers = dict(_makers(model.graph))
    unknown = (TensorProto.UNDEFINED,)
    return any(
        node.op_type in PRODUCTS
        and (is_fp32_product(node, types, makers) or types.element(node.output[0]) in unknown)
        for node, types in _nodes(model.graph)
    )


def is_fp32_product(node: onnx.NodeProto, types: Types, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether *node* multiplies FP32 tensors that are not dequantized integers."""
    return _kind(node, types, makers, tf32=False) == Precision.FP32


def makers_of(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each tensor of *graph* and of the graphs inside it."""
    return dict(_makers(graph))


def _kind(node: onnx.NodeProto, types: Types, makers: Mapping[str, onnx.NodeProto], tf32: bool) -> str | None:
    if node.op_type not in PRODUCTS or not node.output:
        return None
    kind = _PRECISIONS.get(types.element(node.output[0]))
    if kind is None:
        return None
    if all(_is_dequantized(name, makers) for name in node.input[:2]):
        return Precision.INT8.value
    return Precision.TF32.value if tf32 and kind == Precision.FP32 else kind


def _free_name(node: onnx.NodeProto, taken: Mapping[str, str]) -> str:
    name = name_of(node)
    if name not in taken:
        return name
    named = f"{name} (output '{node.output[0]}')"
    name, number = named, 1
    while name in taken:
        name, number = f"{named} {number}", number + 1
    return name


def _nodes(graph: onnx.GraphProto, outer: Types | None = None) -> Iterator[tuple[onnx.NodeProto, Types]]:
    """Every node of *graph* and of the graphs inside it, with the types that it sees."""
    types = Types(graph, outer)
    for node in graph.node:
        yield node, types
        for inner in subgraphs(node):
            yield from _nodes(inner, types)


def _makers(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    for inner in walk(graph):
        for node in inner.node:
            yield from ((name, node) for name in node.output if name)


def _is_dequantized(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    node = makers.get(name)
    while node is not None and node.op_type in _PASSES_ON:
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"


def _label(element: int) -> str:
    return str(TensorProto.DataType.Name(element))
