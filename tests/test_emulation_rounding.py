"""The emulated graph rounds every value as hardware does: against numpy and a numpy interpreter."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from graphs import BF16, FLOAT, FP16, NUMPY, cnn, graph, overflowing_matmul, weight
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_oracle import answers, ulps
from onnx import ModelProto, helper

from trtcheck.backends.emulation import emulate
from trtcheck.backends.onnxruntime import run_once, session_options

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
NARROW = pytest.mark.parametrize("element", [FP16, BF16], ids=["fp16", "bf16"])


def run_at(model: ModelProto, level: str, x: np.ndarray) -> np.ndarray:
    options = session_options(2)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def hard_values(element: int) -> np.ndarray:
    """Every narrow value, every midpoint between two (a tie), their FP32 neighbours, the extremes of FP32."""
    every = np.arange(1 << 16, dtype=np.uint16).view(NUMPY[element]).astype(np.float32)
    finite = np.unique(every[np.isfinite(every)]).astype(np.float64)
    middle = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    top = finite[-1] + (finite[-1] - finite[-2]) / 2
    largest = float(np.finfo(np.float32).max)
    edges = np.array([top, -top, largest, -largest, 65504, 1e-45, 0.0, -0.0, np.inf, -np.inf, np.nan])
    values = np.concatenate([every, middle, edges.clip(-largest, largest).astype(np.float32), [np.inf]])
    values = values.astype(np.float32)
    return np.concatenate([values, np.nextafter(values, np.float32(np.inf)), np.nextafter(values, -values)])


@pytest.mark.parametrize("level", LEVELS)
@NARROW
def test_a_rounded_value_is_numpys_at_every_optimization_level(element: int, level: str) -> None:
    model = graph(
        [
            helper.make_node("Cast", ["x"], ["n"], to=element),
            helper.make_node("Identity", ["n"], ["same"]),
            helper.make_node("Cast", ["same"], ["y"], to=FLOAT),
        ],
        [("x", FLOAT, ["N"])],
        [("y", FLOAT, ["N"])],
    )
    with np.errstate(all="ignore"):
        x = hard_values(element)
        expected = x.astype(NUMPY[element]).astype(np.float32)
    for values, right in ((x, expected), (x[:1], expected[:1]), (x[5:18], expected[5:18])):
        found = run_at(emulate(model), level, values)
        np.testing.assert_array_equal(found, right)
        number = ~np.isnan(right)
        np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(right[number]))
    assert np.isinf(expected).sum() > np.isinf(x).sum()


@pytest.mark.parametrize("level", LEVELS)
def test_a_product_of_160000_is_infinite_in_fp16(level: str) -> None:
    model, x = overflowing_matmul(), np.array([[400], [1]], np.float32)
    assert run_at(model, level, x)[0] == pytest.approx(1280, rel=1e-3)  # what ONNX Runtime says by itself
    y = run_at(emulate(model), level, x)
    assert np.isposinf(y[0])
    np.testing.assert_array_equal(y, answers(model, {"x": x})["y"])


def test_a_product_of_160000_is_finite_and_coarse_in_bf16() -> None:
    model, x = overflowing_matmul(BF16), np.array([[400]], np.float32)
    y = run_once(emulate(model), {"x": x})["y"]
    assert y == answers(model, {"x": x})["y"] == 1280.0


# One node in a narrow type: (operator, attributes, shape of x, shapes of weights, tolerance in narrow steps).
# Sums and exponentials are computed in FP32 in an order and by polynomials of ONNX Runtime's own, so their
# last FP32 bits differ from numpy's; where that straddles a tie, the narrow values are neighbours.
NODES = {
    "add": ("Add", {}, (4, 6), [(6,)], 0),
    "sub": ("Sub", {}, (4, 6), [(6,)], 0),
    "mul": ("Mul", {}, (4, 6), [(6,)], 0),
    "div": ("Div", {}, (4, 6), [(6,)], 0),
    "relu": ("Relu", {}, (4, 6), [], 0),
    "softmax": ("Softmax", {"axis": -1}, (4, 60), [], 1),
    "sum": ("ReduceSum", {"keepdims": 0}, (4, 60), [], 1),
    "matmul": ("MatMul", {}, (5, 40), [(40, 7)], 1),
    "gemm": ("Gemm", {"transB": 1, "alpha": 0.5}, (5, 40), [(7, 40), (7,)], 1),
    "conv": ("Conv", {"pads": [1, 1, 1, 1], "strides": [2, 2]}, (2, 3, 9, 9), [(4, 3, 3, 3), (4,)], 1),
    "depthwise": ("Conv", {"pads": [1, 1, 1, 1], "group": 6}, (2, 6, 9, 9), [(6, 1, 3, 3), (6,)], 1),
    "pool": ("GlobalAveragePool", {}, (2, 3, 7, 7), [], 1),
}


def one_node(kind: str, element: int) -> ModelProto:
    op, attributes, shape, weights, _ = NODES[kind]
    rng = np.random.default_rng(len(kind))
    return graph(
        [
            helper.make_node("Cast", ["x"], ["n"], to=element),
            helper.make_node(
                op, ["n", *(f"w{i}" for i in range(len(weights)))], ["m"], name=kind, **attributes
            ),
            helper.make_node("Cast", ["m"], ["y"], to=FLOAT),
        ],
        [("x", FLOAT, ["N", *shape[1:]])],
        [("y", FLOAT, None)],
        [weight(f"w{i}", rng.standard_normal(s), element) for i, s in enumerate(weights)],
        opset=13,
    )


@pytest.mark.parametrize("kind", NODES)
@NARROW
def test_a_node_is_computed_in_fp32_and_rounded_once(element: int, kind: str) -> None:
    model = one_node(kind, element)
    x = np.random.default_rng(7).standard_normal(NODES[kind][2]).astype(np.float32)
    expected = answers(model, {"x": x})["y"]
    found = run_once(emulate(model), {"x": x})["y"]
    narrow = NUMPY[element]
    np.testing.assert_array_equal(found, found.astype(narrow).astype(np.float32))  # nothing but narrow values
    assert ulps(found.astype(narrow), expected.astype(narrow)) <= NODES[kind][4]
    # Nearly all agree to the bit: a truncated result would differ in half of its values.
    assert np.mean(found == expected) > 0.95


@pytest.mark.parametrize("kind", ["matmul", "gemm", "conv", "depthwise", "sum"])
@NARROW
def test_sums_that_are_exact_in_fp32_agree_to_the_bit(element: int, kind: str) -> None:
    model = one_node(kind, element)
    rng = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        grid = rng.integers(-32, 33, tensor.dims).astype(np.float32) / 8
        tensor.CopyFrom(weight(tensor.name, grid, element))
    x = rng.integers(-64, 65, NODES[kind][2]).astype(np.float32) / 8
    expected = answers(model, {"x": x})["y"]
    np.testing.assert_array_equal(run_once(emulate(model), {"x": x})["y"], expected)


@NARROW
def test_a_network_agrees_with_the_oracle_node_by_node(element: int) -> None:
    model = cnn()
    for tensor in model.graph.initializer:
        array = np.frombuffer(tensor.raw_data, np.float32).reshape(tensor.dims)
        tensor.CopyFrom(weight(tensor.name, array, element))
    model.graph.input[0].type.tensor_type.elem_type = FLOAT
    model.graph.output[0].type.tensor_type.elem_type = FLOAT
    model.graph.node[0].input[0] = "narrow"
    model.graph.node[-1].output[0] = "scores"
    enter = helper.make_node("Cast", ["x"], ["narrow"], to=element)
    leave = helper.make_node("Cast", ["scores"], ["y"], to=FLOAT)
    nodes = [enter, *model.graph.node, leave]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

    x = np.random.default_rng(0).standard_normal((16, 1, 12, 12)).astype(np.float32)
    expected = answers(model, {"x": x})["y"]
    found = run_once(emulate(model), {"x": x})["y"]
    wide = answers(cnn(), {"x": x})["y"]
    step = float(ml_dtypes.finfo(NUMPY[element]).eps)
    assert np.abs(found - expected).max() <= 2 * step * expected.max()
    assert np.mean(found == expected) > 0.8
    assert np.abs(found - wide).max() > step / 16  # FP32 would answer otherwise


BINARY, UNARY = ("Add", "Sub", "Mul", "Div", "Max", "MatMul"), ("Relu", "Neg", "Abs", "Sqrt", "Identity")


@st.composite
def random_graphs(draw: st.DrawFn) -> ModelProto:
    """Chains and trees over 2x2 matrices: a sum of two exact products has one FP32 value in any order."""
    element = draw(st.sampled_from([FP16, BF16]))
    finite = st.floats(-300, 300, width=32)
    constant = np.array(draw(st.lists(finite, min_size=4, max_size=4)), np.float32).reshape(2, 2)
    nodes, tensors = [helper.make_node("Cast", ["x"], ["t0"], to=element)], ["t0", "w"]
    for index in range(1, draw(st.integers(2, 9))):
        op = draw(st.sampled_from(BINARY + UNARY))
        sources = [draw(st.sampled_from(tensors)) for _ in range(2 if op in BINARY else 1)]
        if op == "Div":  # whether a sum of zeros is -0 is not defined, and x / -0 would show it
            nodes.append(helper.make_node("Abs", [sources[1]], [f"abs{index}"]))
            sources[1] = f"abs{index}"
        nodes.append(helper.make_node(op, sources, [f"t{index}"], name=f"node{index}"))
        tensors.append(f"t{index}")
    nodes.append(helper.make_node("Cast", [tensors[-1]], ["y"], to=FLOAT))
    return graph(
        nodes, [("x", FLOAT, [2, 2])], [("y", FLOAT, [2, 2])], [weight("w", constant, element)], opset=13
    )


@settings(max_examples=150, deadline=None)
@given(random_graphs(), st.lists(st.floats(-300, 300, width=32), min_size=4, max_size=4))
def test_random_graphs_agree_with_the_oracle_to_the_bit(model: ModelProto, values: list[float]) -> None:
    x = np.array(values, np.float32).reshape(2, 2)
    np.testing.assert_array_equal(run_once(emulate(model), {"x": x}, 1)["y"], answers(model, {"x": x})["y"])
