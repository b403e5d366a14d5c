"""Graphs of one FP16 node, or of a few that a runtime may fuse, with the formulas that they might follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from fidelity_formulas import CANDIDATES, Arrays, conv
from onnx import helper

UNARY = (
    "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Relu", "LeakyRelu", "Gelu", "Mish",
)  # fmt: skip


def single_nodes() -> dict[str, tuple[list[onnx.NodeProto], Arrays, Arrays, Callable[..., Arrays] | None]]:
    """Graphs of one or a few FP16 nodes: nodes, feeds, constants and candidates (None: the operator's)."""
    rng = np.random.default_rng(2)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float16)

    cases: dict[str, Any] = {}
    shapes = {
        "1x1 64": ((16, 64, 14, 14), (96, 64, 1, 1), {}),
        "3x3 64": ((16, 64, 14, 14), (64, 64, 3, 3), {"pads": [1] * 4}),
        "3x3 1 channel stride 2": ((16, 1, 28, 28), (16, 1, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
        "7x7 3 channels stride 2": ((4, 3, 64, 64), (64, 3, 7, 7), {"pads": [3] * 4, "strides": [2, 2]}),
        "depthwise 3x3 96": ((16, 96, 14, 14), (96, 1, 3, 3), {"pads": [1] * 4, "group": 96}),
    }
    for label, (x, w, attributes) in shapes.items():
        weights = normal(*w, scale=float(np.prod(w[1:])) ** -0.5)
        for bias in (False, True):
            names, constants = ["x", "w"], {"w": weights}
            if bias:
                names, constants = [*names, "b"], {**constants, "b": normal(w[0])}
            node = helper.make_node("Conv", names, ["y"], **attributes)
            cases[f"Conv {label}{' bias' if bias else ''}"] = ([node], {"x": normal(*x)}, constants, None)
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"])
    own = {"w": normal(64, 32, 1, 1, scale=0.1), "b": normal(32)}
    cases["ConvTranspose 1x1 bias"] = ([node], {"x": normal(8, 64, 14, 14)}, own, _transposed)
    w, b = normal(128, 10, scale=0.1), normal(10)
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    cases["Gemm bias"] = ([gemm], {"x": normal(100, 128)}, {"w": w, "b": b}, None)
    cases["MatMul"] = (
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": normal(100, 128)},
        {"w": w},
        None,
    )
    pair = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    cases["MatMul, Add"] = (
        pair,
        {"x": normal(100, 128)},
        {"w": w, "b": b},
        lambda i, a: CANDIDATES["Gemm"](i, a),
    )
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    for op in UNARY:
        x = np.abs(every) if op == "Sqrt" else every
        attributes = {"alpha": 1 / 6, "beta": 0.5} if op == "HardSigmoid" else {}
        cases[op] = ([helper.make_node(op, ["x"], ["y"], **attributes)], {"x": x}, {}, None)
    for op in ("Add", "Mul", "Div", "Sub"):
        cases[op] = (
            [helper.make_node(op, ["x", "w"], ["y"])],
            {"x": normal(1000, 64)},
            {"w": normal(64)},
            None,
        )
    cases["GlobalAveragePool 7x7"] = (
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])], {"x": normal(16, 64, 7, 7)}, {}, None,
    )  # fmt: skip
    pool = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2])
    cases["AveragePool 3x3"] = ([pool], {"x": normal(16, 16, 15, 15)}, {}, None)
    cases["Softmax"] = ([helper.make_node("Softmax", ["x"], ["y"])], {"x": normal(100, 1000)}, {}, None)
    norm = helper.make_node("LayerNormalization", ["x", "w", "b"], ["y"])
    own = {"w": normal(256), "b": normal(256)}
    cases["LayerNormalization"] = ([norm], {"x": normal(100, 256)}, own, None)
    w = normal(64, 64, 3, 3, scale=0.05)
    tail = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("Add", ["c", "x"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    cases["Conv bias, Add, Relu"] = (tail, {"x": normal(8, 64, 14, 14)}, {"w": w, "b": normal(64)}, _residual)
    return cases


def _residual(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:  # noqa: ARG001
    """A convolution with its bias, a shortcut and a Relu, rounded here and there."""
    x, w, b = (value.astype(np.float64) for value in inputs)
    sums, b = conv(x, w, pads=[1] * 4), b[:, None, None]

    def half(value: np.ndarray) -> np.ndarray:
        return value.astype(np.float16).astype(np.float64)

    found = {
        "once": sums + b + x,
        "conv+bias, add": half(sums + b) + x,
        "conv, bias, add": half(half(sums) + b) + x,
        "conv, add, bias": half(half(sums) + x) + b,
    }
    return {key: np.maximum(value, 0).astype(np.float16) for key, value in found.items()}


def _transposed(inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Arrays:
    """A transposed convolution of one pixel is a convolution whose weights are transposed."""
    x, w, b = inputs
    return CANDIDATES["Conv"]([x, w.transpose(1, 0, 2, 3), b], attributes)
