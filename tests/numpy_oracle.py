"""An ONNX interpreter of its own for the tests: computes in float32, rounds every node's result.

Where ONNX Runtime's CUDA kernels round inside a node as well, so does it (`KERNELS`). It shares nothing with
trtcheck: types follow the values, and no shape inference is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper, numpy_helper

NARROW = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
Arrays = Mapping[str, np.ndarray]
Round = Callable[[Any], Any]


def _conv(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, **a: Any) -> np.ndarray:
    """im2col and a product, group by group."""
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    step_y, step_x = a.get("strides", [1, 1])
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    groups, parts = a.get("group", 1), []
    for xs, ws in zip(np.split(x, groups, 1), np.split(w, groups, 0), strict=True):
        windows = sliding_window_view(xs, ws.shape[2:], (2, 3))[:, :, ::step_y, ::step_x]
        n, c, height, width, kh, kw = windows.shape
        columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, c * kh * kw)
        product = columns.astype(np.float32) @ ws.reshape(len(ws), -1).T
        parts.append(product.reshape(n, height, width, len(ws)).transpose(0, 3, 1, 2))
    y = np.concatenate(parts, 1)
    return y if b is None else y + b[:, None, None]


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _gemm(a: np.ndarray, b: np.ndarray, c: np.ndarray | float = 0.0, **attributes: Any) -> np.ndarray:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    return np.float32(attributes.get("alpha", 1.0)) * (a @ b) + np.float32(attributes.get("beta", 1.0)) * c


def _quantize(round_: Round, x: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 1) -> np.ndarray:
    info = np.iinfo(zero.dtype)
    q = np.rint(round_(x / _along(scale, x, axis))) + _along(zero, x, axis).astype(np.float32)
    return np.clip(q, info.min, info.max).astype(zero.dtype)


def _biased_conv(
    round_: Round, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, **a: Any
) -> np.ndarray:
    products = round_(_conv(x, w, **a))
    return products if b is None else products + b[:, None, None]


def _hard_swish(round_: Round, x: np.ndarray) -> np.ndarray:
    return x * np.clip(round_(round_(x * np.float32(1 / 6)) + np.float32(0.5)), 0, 1)


def _hard_sigmoid(round_: Round, x: np.ndarray, alpha: float = 0.2, beta: float = 0.5) -> np.ndarray:
    return np.clip(x * round_(np.float32(alpha)) + round_(np.float32(beta)), 0, 1)


def _leaky_relu(round_: Round, x: np.ndarray, alpha: float = 0.01) -> np.ndarray:
    return np.where(x >= 0, x, x * round_(np.float32(alpha)))


def _softplus(round_: Round, x: np.ndarray) -> np.ndarray:
    terms = round_(np.log(round_(round_(np.exp(-np.abs(x))) + np.float32(1))))
    return round_(np.where(x > 0, x + terms, terms))


def _mish(round_: Round, x: np.ndarray) -> np.ndarray:
    return x * round_(np.tanh(_softplus(round_, x)))


def _dequantize(q: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 1) -> np.ndarray:
    return (q.astype(np.float32) - _along(zero, q, axis).astype(np.float32)) * _along(scale, q, axis)


def _along(parameter: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    if parameter.size == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Relu": lambda x: np.where(np.isnan(x), x, np.maximum(x, 0)),
    "Max": np.maximum,
    "MatMul": np.matmul,
    "Gemm": _gemm,
    "Softmax": _softmax,
    "ReduceSum": lambda x, axes=None, keepdims=1: x.sum(tuple(axes) if axes is not None else None,
                                                       keepdims=bool(keepdims)),
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdims=True, dtype=np.float32),
    "Flatten": lambda x: x.reshape(len(x), -1),
    "Transpose": lambda x, perm: x.transpose(perm),
    "Identity": lambda x: x,
    "DequantizeLinear": _dequantize,
}  # fmt: skip

KERNELS: dict[str, Callable[..., Any]] = {
    "Conv": _biased_conv,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Mish": _mish,
    "Softplus": _softplus,
    "QuantizeLinear": _quantize,
}
"""Operators that also round inside; the first argument rounds to the type of the node's first input."""


def answers(model: onnx.ModelProto, feeds: Arrays, *, outer: Arrays | None = None) -> dict[str, np.ndarray]:
    """The graph's outputs as a GPU gives them."""
    values = {**(outer or {}), **feeds}
    return _graph(model.graph, values)


def _graph(graph: onnx.GraphProto, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    values = {**values, **{w.name: numpy_helper.to_array(w) for w in graph.initializer}}
    with np.errstate(all="ignore"):
        waiting = list(graph.node)
        while waiting:  # files may be out of order
            ready = [node for node in waiting if all(name in values for name in node.input if name)]
            for node in ready:
                values.update(_node(node, values))
            waiting = [node for node in waiting if not any(node is done for done in ready)]
    return {output.name: values[output.name] for output in graph.output}


def _node(node: onnx.NodeProto, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    inputs = [values[name] for name in node.input if name]
    if node.op_type == "Cast":
        return {node.output[0]: inputs[0].astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))}
    if node.op_type == "Constant":
        return {node.output[0]: numpy_helper.to_array(attributes["value"])}
    if node.op_type == "If":
        branch = attributes["then_branch" if inputs[0] else "else_branch"]
        return dict(zip(node.output, _graph(branch, values).values(), strict=True))
    result_type = inputs[1 if node.op_type == "DequantizeLinear" else 0].dtype
    wide = [x.astype(np.float32) if x.dtype in NARROW else x for x in inputs]
    if node.op_type in KERNELS:
        kind = inputs[0].dtype
        result = KERNELS[node.op_type](
            lambda v: np.asarray(v).astype(kind).astype(np.float32), *wide, **attributes
        )
    else:
        result = OPERATORS[node.op_type](*wide, **attributes)
    if node.op_type == "QuantizeLinear":
        return {node.output[0]: result}
    return {node.output[0]: np.asarray(result).astype(result_type)}


def ulps(a: np.ndarray, b: np.ndarray) -> int:
    """The largest distance between *a* and *b*, in steps of their 16-bit type; NaN equals NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(f"{a.dtype}{a.shape} and {b.dtype}{b.shape} cannot be compared")
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return 1 << 16
    ordered = [
        np.where(np.signbit(x), -(x.view(np.int16) & 0x7FFF).astype(int), x.view(np.int16)) for x in (a, b)
    ]
    distance = np.abs(ordered[0].astype(int) - ordered[1].astype(int))
    return int(np.where(np.isnan(a), 0, distance).max(initial=0))
