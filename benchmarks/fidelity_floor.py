"""The same network with its sums of products in another order: what FP32 leaves open, and nothing foretells.

A sum of FP32 that is added up in another order differs in its last bits. Where it is rounded to FP16 or INT8
afterwards, one in thousands falls on the other side of a border, by a whole step; the next sums see that, and
so on. How many answers change between two orders is the least that can differ between two machines.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

_AXES = {"Conv": (1, 1), "MatMul": (-1, -2), "Gemm": (1, 0)}
"""The axes of both factors over which an operator adds up."""


def reordered(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """*model* with the terms of every Conv, MatMul and Gemm shuffled; convolutions of groups stay.

    Args:
        model: The graph that ONNX Runtime's CPU provider runs.
        seed: Of the order; 0 turns it round.
    """
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    shapes = _shapes(copy)
    nodes: list[onnx.NodeProto] = []
    orders: dict[int, str] = {}
    for node in copy.graph.node:
        for index, axis, count in _factors(node, shapes):
            name = orders.setdefault(count, f"order of {count} terms")
            turned = f"{node.name or node.output[0]}: factor {index} in another order"
            nodes.append(helper.make_node("Gather", [node.input[index], name], [turned], axis=axis))
            node.input[index] = turned
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    for count, name in orders.items():
        order = np.random.default_rng([seed, count]).permutation(count) if seed else np.arange(count)[::-1]
        copy.graph.initializer.append(numpy_helper.from_array(order.astype(np.int64), name))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _factors(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> Iterator[tuple[int, int, int]]:
    """Which factors of *node* are shuffled, along which axis, and how many terms that has."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shape = shapes.get(node.input[1], []) if node.op_type in _AXES else []
    if len(shape) < 2 or attributes.get("group", 1) > 1:
        return
    left, right = _AXES[node.op_type]
    left, right = left ^ attributes.get("transA", 0), right ^ attributes.get("transB", 0)
    if shape[right] > 1:
        yield from ((0, left, shape[right]), (1, right, shape[right]))


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes of the tensors of *model*'s graph; an unknown size is 0."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {w.name: list(w.dims) for w in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        found.setdefault(value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
    return found
