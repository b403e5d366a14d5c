"""Formulas that a GPU's FP16 kernels might follow: float64 inside, rounded to FP16 where the formula says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Arrays = dict[str, np.ndarray]
Formula = Callable[[Sequence[np.ndarray], Mapping[str, Any]], Arrays]


def half(values: np.ndarray | float) -> np.ndarray:
    """FP16 numbers nearest to *values*, held as float64."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float16).astype(np.float64)


def steps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many FP16 numbers lie between the elements of *a* and *b*; NaN counts as none."""
    ordered = []
    for value in (a, b):
        bits = np.ascontiguousarray(value).view(np.int16).astype(np.int64)
        ordered.append(np.where(bits < 0, -(bits & 0x7FFF), bits))
    return np.where(np.isnan(a) | np.isnan(b), 0, np.abs(ordered[0] - ordered[1]))


def conv(x: np.ndarray, w: np.ndarray, **attributes: Any) -> np.ndarray:
    """A two-dimensional convolution without bias, in the type of its arguments."""
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    down, along = attributes.get("strides", [1, 1])
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    group = attributes.get("group", 1)
    parts = []
    if w.shape[1] == 1 and group == x.shape[1] == w.shape[0]:
        windows = sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::down, ::along]
        return np.einsum("nchwij,cij->nchw", windows, w[:, 0])
    for own, kernel in zip(np.split(x, group, 1), np.split(w, group, 0), strict=True):
        windows = sliding_window_view(own, w.shape[2:], (2, 3))[:, :, ::down, ::along]
        n, c, high, wide, *size = windows.shape
        columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * high * wide, c * math.prod(size))
        product = columns @ kernel.reshape(len(kernel), -1).T
        parts.append(product.reshape(n, high, wide, len(kernel)).transpose(0, 3, 1, 2))
    return np.concatenate(parts, 1)


def _wide(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [value.astype(np.float64) for value in inputs]


def _narrow(found: Mapping[str, np.ndarray]) -> Arrays:
    with np.errstate(over="ignore"):
        return {key: value.astype(np.float16) for key, value in found.items()}


def _along(parameter: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    return (
        parameter.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
        if parameter.size > 1
        else (parameter.reshape(()))
    )


def _quantize(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    x, scale, zero = inputs
    scale = _along(scale, x, attributes.get("axis", 1))
    wide, narrow = x.astype(np.float32), x.dtype == np.float16
    divisor = scale.astype(np.float32)
    with np.errstate(over="ignore"):
        quotients = {
            "FP32 quotient": wide / divisor,
            "FP32 times reciprocal": wide * (np.float32(1) / divisor),
        }
        if narrow:
            inverse = (np.float32(1) / divisor).astype(np.float16).astype(np.float32)
            quotients |= {
                "FP16 quotient": (wide / divisor).astype(np.float16),
                "FP16 by reciprocal in FP32": quotients["FP32 times reciprocal"].astype(np.float16),
                "FP16 times FP16 reciprocal": (wide * inverse).astype(np.float16),
            }
    return {
        key: np.clip(np.rint(value.astype(np.float64)) + float(zero.flat[0]), -128, 127).astype(np.int8)
        for key, value in quotients.items()
    }


def _dequantize(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    q, scale = inputs[0], _along(inputs[1], inputs[0], attributes.get("axis", 1))
    exact = q.astype(np.float64) * scale.astype(np.float64)
    with np.errstate(over="ignore"):
        return {"once": exact.astype(scale.dtype)}


def _conv(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    x, w, *bias = _wide(inputs)
    sums = conv(x, w, **{k: v for k, v in attributes.items() if k in ("pads", "strides", "group")})
    if not bias:
        return _narrow({"once": sums})
    b = bias[0][:, None, None]
    return _narrow({"once": sums + b, "sum, bias": half(sums) + b})


def _gemm(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    a, b, *c = _wide(inputs)
    product = a @ (b.T if attributes.get("transB") else b)
    if not c:
        return _narrow({"once": product})
    return _narrow({"once": product + c[0], "product, bias": half(product) + c[0]})


def _hard_sigmoids(x: np.ndarray, alpha: float, beta: float) -> Arrays:
    """Ways to a HardSigmoid, in float64; those that say so have rounded to FP16 on the way."""
    a = half(alpha)
    ways = {
        "FP32": x * np.float32(alpha) + beta,
        "FP16 factor": x * a + beta,
        "FP16 factor, product": half(x * a) + beta,
        "product": half(x * np.float32(alpha)) + beta,
    }
    return {key: np.clip(value, 0, 1) for key, value in ways.items()}


def _hard_sigmoid(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    (x,) = _wide(inputs)
    return _narrow(_hard_sigmoids(x, attributes.get("alpha", 0.2), attributes.get("beta", 0.5)))


def _hard_swish(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:  # noqa: ARG001
    (x,) = _wide(inputs)
    ways = _hard_sigmoids(x, 1 / 6, 0.5)
    return _narrow(
        {"once": x * ways["FP32"]} | {f"sigmoid ({key}), product": x * half(way) for key, way in ways.items()}
    )


def _leaky_relu(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    (x,) = _wide(inputs)
    alpha = attributes.get("alpha", 0.01)
    ways = {"once": np.float32(alpha), "FP16 factor": half(alpha)}
    return _narrow({key: np.where(x >= 0, x, x * factor) for key, factor in ways.items()})


def _average(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:  # noqa: ARG001
    (x,) = _wide(inputs)
    count = x.shape[2] * x.shape[3]
    sums = x.sum((2, 3), keepdims=True)
    return _narrow(
        {
            "once": sums / count,
            "sum, quotient": half(sums) / count,
            "sum, FP16 reciprocal": sums * half(1 / count),
        }
    )


def _average_windows(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    (x,) = _wide(inputs)
    down, along = attributes["strides"]
    windows = sliding_window_view(x, tuple(attributes["kernel_shape"]), (2, 3))[:, :, ::down, ::along]
    return _narrow({"once": windows.mean((4, 5))})


def _softmax(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:  # noqa: ARG001
    (x,) = _wide(inputs)
    e = np.exp(x - x.max(-1, keepdims=True))
    return _narrow({"once": e / e.sum(-1, keepdims=True)})


def _layer_norm(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:  # noqa: ARG001
    x, w, b = _wide(inputs)
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return _narrow({"once": z * w + b, "norm, scale, bias": half(half(z) * w) + b})


def _elementwise(function: Callable[..., np.ndarray]) -> Formula:
    def formula(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:  # noqa: ARG001
        with np.errstate(all="ignore"):
            return _narrow({"once": function(*_wide(inputs))})

    return formula


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf)(x)


CANDIDATES: dict[str, Formula] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "GlobalAveragePool": _average,
    "AveragePool": _average_windows,
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(np.divide),
    "Sqrt": _elementwise(np.sqrt),
    "Exp": _elementwise(np.exp),
    "Tanh": _elementwise(np.tanh),
    "Erf": _elementwise(_erf),
    "LeakyRelu": _leaky_relu,
    "Relu": _elementwise(lambda x: np.maximum(x, 0)),
    "Sigmoid": _elementwise(lambda x: 1 / (1 + np.exp(-x))),
    "Gelu": _elementwise(lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))),
    "Mish": _elementwise(lambda x: x * np.tanh(np.logaddexp(0, x))),
}
"""By operator: from its inputs (FP16 or integers) and attributes to what each formula makes of them."""


def _keep(values: np.ndarray, offset: int) -> np.ndarray:
    """FP32 *values* cut to 10 bits of mantissa after *offset* was added to their bits."""
    bits = values.view(np.uint32).astype(np.uint64) + offset
    return (bits & 0xFFFFE000).astype(np.uint32).view(np.float32)


def _nearest_even(values: np.ndarray) -> np.ndarray:
    odd = (values.view(np.uint32) >> 13) & 1
    bits = values.view(np.uint32).astype(np.uint64) + 0xFFF + odd
    return (bits & 0xFFFFE000).astype(np.uint32).view(np.float32)


TF32: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nearest even": _nearest_even,
    "nearest away": lambda values: _keep(values, 0x1000),
    "cut": lambda values: _keep(values, 0),
    "FP32": lambda values: values,
}
"""Ways to make TF32 of finite FP32 numbers."""
