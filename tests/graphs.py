"""Tiny ONNX graphs for the tests of emulation and backends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.base import BuildPlan
from trtcheck.case import BuildSpec, Precision

FLOAT, FP16, BF16 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16), int(TensorProto.BFLOAT16)
NUMPY = {FLOAT: np.float32, FP16: np.float16, BF16: ml_dtypes.bfloat16}

Value = tuple[str, int, list[int | str] | None]


def weight(name: str, array: np.ndarray, element: int | None = None) -> TensorProto:
    """An initializer, cast to *element* if one is given."""
    if element is not None:
        with np.errstate(over="ignore"):
            array = np.asarray(array, np.float32).astype(NUMPY[element])
    return numpy_helper.from_array(np.asarray(array), name)


def graph(
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[Value],
    outputs: Iterable[Value],
    weights: Iterable[TensorProto] = (),
    *,
    opset: int = 17,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of *nodes*; inputs and outputs are (name, element type, shape)."""
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(made, opset_imports=opsets, ir_version=8 if opset < 22 else 10)


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def plan_of(lowered: Path, precision: Precision | None = None, **spec: Any) -> BuildPlan:
    """What a backend builds of the model *lowered*; further arguments are those of `BuildSpec`."""
    return BuildPlan(lowered, precision, {}, BuildSpec(**spec))


def overflowing_matmul(element: int = FP16) -> onnx.ModelProto:
    """FP32 in and out; 400 * 400 = 160 000 in the narrow type, then divided back by 125 (x 0.008)."""
    return graph(
        [
            helper.make_node("Cast", ["x"], ["narrow"], name="enter", to=element),
            helper.make_node("MatMul", ["narrow", "w"], ["product"], name="matmul"),
            helper.make_node("Mul", ["product", "scale"], ["scaled"], name="mul"),
            helper.make_node("Cast", ["scaled"], ["y"], name="leave", to=FLOAT),
        ],
        [("x", FLOAT, ["N", 1])],
        [("y", FLOAT, ["N", 1])],
        [weight("w", [[400]], element), weight("scale", [0.008], element)],
    )


def cnn(channels: int = 8, size: int = 12, classes: int = 5, seed: int = 0) -> onnx.ModelProto:
    """An FP32 classifier: convolution, depthwise and pointwise convolution, pooling, Gemm, Softmax."""
    rng = np.random.default_rng(seed)

    def random(name: str, *shape: int) -> TensorProto:
        return weight(name, (rng.standard_normal(shape) * 0.4).astype(np.float32))

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["r0", "w1", "b0"], ["c1"], name="dw", pads=[1, 1, 1, 1], group=channels),
        helper.make_node("HardSwish", ["c1"], ["h1"], name="hardswish"),
        helper.make_node("Conv", ["h1", "w2", "b0"], ["c2"], name="pw"),
        helper.make_node("GlobalAveragePool", ["c2"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="gemm", transB=1),
        helper.make_node("Softmax", ["logits"], ["y"], name="softmax"),
    ]
    weights = [
        random("w0", channels, 1, 3, 3), random("b0", channels), random("w1", channels, 1, 3, 3),
        random("w2", channels, channels, 1, 1), random("w3", classes, channels), random("b3", classes),
    ]  # fmt: skip
    shape: list[int | str] = ["N", 1, size, size]
    return graph(nodes, [("x", FLOAT, shape)], [("y", FLOAT, ["N", classes])], weights)


def loud_cnn() -> onnx.ModelProto:
    """The CNN with a first convolution and a depthwise one so strong that the latter passes 65504."""
    model = cnn()
    for tensor in model.graph.initializer:
        if tensor.name in ("w0", "w1"):
            tensor.CopyFrom(weight(tensor.name, 300 * numpy_helper.to_array(tensor)))
    return model


def norm_by_hand(element: int = FP16) -> onnx.ModelProto:
    """An RMS norm written out, as exporters write it: the sum of squares does not fit into FP16."""
    return graph(
        [
            helper.make_node("Mul", ["x", "x"], ["squares"], name="square"),
            helper.make_node("ReduceSum", ["squares", "axes"], ["sum"], name="ReduceSum_12", keepdims=1),
            helper.make_node("Sqrt", ["sum"], ["norm"], name="sqrt"),
            helper.make_node("Div", ["x", "norm"], ["y"], name="div"),
        ],
        [("x", element, ["N", 19])],
        [("y", element, ["N", 19])],
        [weight("axes", np.array([-1]))],
    )


def quantized(element: int) -> onnx.ModelProto:
    """FP32 in, INT8 convolution by Q/DQ, the rest in the narrow type."""
    rng = np.random.default_rng(2)
    return graph(
        [
            helper.make_node("Cast", ["x"], ["n"], name="enter", to=element),
            helper.make_node("QuantizeLinear", ["n", "sx", "zero"], ["qx"], name="q"),
            helper.make_node("DequantizeLinear", ["qx", "sx", "zero"], ["dx"], name="dq"),
            helper.make_node("DequantizeLinear", ["w", "sw", "zeros"], ["dw"], name="dqw", axis=0),
            helper.make_node("Conv", ["dx", "dw"], ["c"], name="conv"),
            helper.make_node("Mul", ["c", "c"], ["square"], name="square"),
            helper.make_node("Cast", ["square"], ["y"], name="leave", to=FLOAT),
        ],
        [("x", FLOAT, ["N", 2, 6, 6])],
        [("y", FLOAT, ["N", 4, 4, 4])],
        [
            weight("sx", 0.03125, element),
            weight("zero", np.int8(0)),
            weight("w", rng.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8)),
            weight("sw", [0.25, 0.5, 0.0078125, 4], element),
            weight("zeros", np.zeros(4, np.int8)),
        ],
        opset=19,
    )


def branches(x_type: int) -> onnx.ModelProto:
    """``y = (x * c) * c if b else (x + c)``; both branches read x and c from outside and share names."""

    def branch(name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info("r", x_type, None)])

    then = branch(
        "then", [helper.make_node("Mul", ["x", "c"], ["t"]), helper.make_node("Mul", ["t", "c"], ["r"])]
    )
    other = branch(
        "else", [helper.make_node("Add", ["x", "c"], ["t"]), helper.make_node("Relu", ["t"], ["r"])]
    )
    return graph(
        [
            helper.make_node("If", ["b"], ["m"], name="if", then_branch=then, else_branch=other),
            helper.make_node("Mul", ["m", "d"], ["y"], name="mul"),
        ],
        [("x", x_type, ["N"]), ("b", TensorProto.BOOL, [])],
        [("y", x_type, ["N"])],
        [weight("c", [400.25], x_type), weight("d", [0.0009765625], x_type)],
    )
