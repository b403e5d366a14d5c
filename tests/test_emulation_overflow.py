"""The first node that leaves the range of its type is named, with its largest value and what to do."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import (
    BF16,
    FLOAT,
    FP16,
    branches,
    cnn,
    graph,
    loud_cnn,
    norm_by_hand,
    overflowing_matmul,
    quantized,
    weight,
)
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from trtcheck.backends.onnxruntime import run_once
from trtcheck.backends.overflow import Overflow, first_overflow

X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)


def chain(
    *nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = (), element: int = FP16
) -> onnx.ModelProto:
    return graph(nodes, [("x", element, ["N"])], [("y", element, ["N"])], weights)


def half(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array(values, np.float16)}


def test_a_sum_of_squares_of_190000() -> None:
    feeds = {"x": np.full((2, 19), 100, np.float16)}
    found = first_overflow(norm_by_hand(), feeds)
    assert found == Overflow("ReduceSum_12", "ReduceSum", 190000.0, 65504.0, "FP16")
    assert str(found) == "ReduceSum_12 reaches 1.9e5, FP16 ends at 65504: keep it in FP32"


def test_nothing_is_named_where_everything_fits() -> None:
    assert first_overflow(norm_by_hand(), {"x": np.ones((2, 19), np.float16)}) is None
    assert first_overflow(overflowing_matmul(BF16), {"x": np.array([[400]], np.float32)}) is None


def test_the_first_of_several_in_a_converted_file() -> None:
    foreign = convert_float_to_float16(loud_cnn(), keep_io_types=True)
    found = first_overflow(foreign, {"x": X})
    assert found is not None
    assert (found.node, found.op, found.type) == ("dw", "Conv", "FP16")
    # The largest value before rounding is the FP32 network's own, to FP16's accuracy.
    wide = loud_cnn()
    wide.graph.output.append(helper.make_tensor_value_info("c1", FLOAT, None))
    assert found.largest == pytest.approx(float(np.abs(run_once(wide, {"x": X})["c1"]).max()), rel=2e-3)
    assert first_overflow(convert_float_to_float16(cnn(), keep_io_types=True), {"x": X}) is None


@pytest.mark.parametrize(("value", "fits"), [(15.0, True), (16.0, False)])
def test_the_border_is_where_rounding_gives_infinity(value: float, fits: bool) -> None:
    # 65519 rounds to 65504; 65520 is the tie with 65536, which FP16 does not have.
    model = chain(
        helper.make_node("Add", ["x", "c"], ["y"], name="add"), weights=(weight("c", [65504], FP16),)
    )
    found = first_overflow(model, half(value))
    assert (found is None) is fits
    if found is not None:
        assert found.largest == 65520


def test_the_order_of_the_computation_counts_not_that_of_the_file() -> None:
    model = chain(
        helper.make_node("Mul", ["big", "big"], ["y"], name="second"),
        helper.make_node("Mul", ["x", "x"], ["big"], name="first"),
    )
    found = first_overflow(model, half(300))
    assert found is not None
    assert found.node == "first"


def test_a_node_that_only_passes_infinity_on_is_not_named() -> None:
    model = chain(helper.make_node("Relu", ["x"], ["y"], name="relu"))
    assert first_overflow(model, half(np.inf, 1)) is None
    assert first_overflow(model, half(np.nan, 1)) is None


def test_a_mask_of_infinity_is_not_an_overflow() -> None:
    model = graph(
        [
            helper.make_node("Where", ["keep", "x", "minus_inf"], ["masked"], name="mask"),
            helper.make_node("Softmax", ["masked"], ["p"], name="softmax"),
            helper.make_node("Mul", ["x", "x"], ["square"], name="square"),
            helper.make_node("Add", ["p", "square"], ["y"], name="add"),
        ],
        [("x", FP16, [3]), ("keep", TensorProto.BOOL, [3])],
        [("y", FP16, [3])],
        [weight("minus_inf", -np.inf, FP16)],
    )
    keep = np.array([True, False, True])
    assert first_overflow(model, {**half(1, 2, 3), "keep": keep}) is None
    found = first_overflow(model, {**half(1, 2, 300), "keep": keep})
    assert found is not None
    assert found.node == "square"


def test_zero_by_zero_gives_nan() -> None:
    model = chain(
        helper.make_node("Sub", ["x", "x"], ["zero"], name="sub"),
        helper.make_node("Div", ["zero", "zero"], ["nan"], name="div"),
        helper.make_node("Mul", ["nan", "x"], ["y"], name="mul"),
    )
    assert (
        str(first_overflow(model, half(1, 2))) == "div gives NaN in FP16: keep it in FP32, and what feeds it"
    )


def test_one_nan_among_large_values_is_found() -> None:
    model = chain(
        helper.make_node("Sqrt", ["x"], ["y"], name="sqrt"),
    )
    found = first_overflow(model, half(9, 4, -1, 16))
    assert found is not None
    assert np.isnan(found.largest)


def test_a_division_by_what_fp16_rounds_to_zero() -> None:
    model = chain(
        helper.make_node("Mul", ["x", "tiny"], ["small"], name="mul"),
        helper.make_node("Div", ["x", "small"], ["y"], name="div"),
        weights=(weight("tiny", [1e-4], FP16),),
    )
    assert str(first_overflow(model, half(1e-4))) == "div gives inf, FP16 ends at 65504: keep it in FP32"


def test_a_weight_that_does_not_fit_is_named() -> None:
    # Variances of 1e8 become inf: the layer answers its bias, finite and wrong.
    names = ("scale", "bias", "mean", "variance")
    model = graph(
        [helper.make_node("BatchNormalization", ["x", *names], ["y"], name="bn")],
        [("x", FP16, ["N", 1])],
        [("y", FP16, ["N", 1])],
        [weight(name, [value], FP16) for name, value in zip(names, (1, 2, 0, 1e8), strict=True)],
    )
    found = first_overflow(model, {"x": np.ones((2, 1), np.float16)})
    assert str(found) == "weight 'variance' of bn is infinite, FP16 ends at 65504: keep bn in FP32"


def test_a_constant_that_does_not_fit_is_named() -> None:
    value = onnx.numpy_helper.from_array(np.array([np.inf], np.float16))
    model = chain(
        helper.make_node("Constant", [], ["c"], name="constant", value=value),
        helper.make_node("Mul", ["x", "c"], ["y"], name="mul"),
    )
    found = first_overflow(model, half(1))
    assert found is not None
    assert (found.node, found.weight) == ("mul", "c")


def test_an_input_that_does_not_fit_is_named() -> None:
    model = chain(helper.make_node("Relu", ["x"], ["y"], name="relu"))
    found = first_overflow(model, {"x": np.array([7e4], np.float32)})
    assert str(found) == "input 'x' reaches 70000, FP16 ends at 65504: keep what reads it in FP32"


def test_a_cast_names_what_has_to_stay_wide() -> None:
    model = overflowing_matmul()
    found = first_overflow(model, {"x": np.array([[1e6]], np.float32)})
    assert str(found) == "enter reaches 1.0e6, FP16 ends at 65504: keep matmul in FP32"


def test_a_wide_node_that_fails_by_itself() -> None:
    model = graph(
        [helper.make_node("Cast", ["x"], ["wide"], name="cast", to=FLOAT),
         helper.make_node("Log", ["wide"], ["y"], name="log")],
        [("x", FP16, ["N"])], [("y", FLOAT, ["N"])],
    )  # fmt: skip
    assert (
        str(first_overflow(model, half(0)))
        == "log gives inf in FP32, on finite inputs: look at what feeds it"
    )


def test_bf16_ends_where_fp32_does() -> None:
    model = chain(helper.make_node("Mul", ["x", "x"], ["y"], name="mul"), element=BF16)
    found = first_overflow(model, {"x": np.array([3e19], np.float32)})
    assert str(found) == "mul gives inf, BF16 ends at 3.4e38: keep it in FP32"


def test_a_branch_is_named_as_a_whole() -> None:
    found = first_overflow(branches(FP16), {**half(1), "b": np.array(True)})
    assert found is not None
    assert (found.node, found.op) == ("if", "If")
    assert first_overflow(branches(FP16), {**half(1), "b": np.array(False)}) is None


def test_quantized_graphs_can_be_searched() -> None:
    x = 2 * np.random.default_rng(4).standard_normal((3, 2, 6, 6)).astype(np.float32)
    found = first_overflow(quantized(FP16), {"x": x})
    assert found is not None
    assert found.node == "square"
    assert first_overflow(quantized(FLOAT), {"x": x}) is None
    entering = first_overflow(quantized(FP16), {"x": x * 1e6})
    assert entering is not None
    assert (entering.node, entering.consumers) == ("enter", ("conv",))


def test_a_graph_without_float_results_has_nothing_to_overflow() -> None:
    model = graph(
        [helper.make_node("IsNaN", ["x"], ["y"], name="isnan")],
        [("x", FP16, ["N"])],
        [("y", TensorProto.BOOL, ["N"])],
    )
    assert first_overflow(model, half(1)) is None


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 20, 22])
def test_empty_tensors_and_every_opset(opset: int) -> None:
    nodes = [helper.make_node("Mul", ["x", "x"], ["m"], name="mul"), helper.make_node("Relu", ["m"], ["y"])]
    model = graph(nodes, [("x", FP16, ["N"])], [("y", FP16, ["N"])], opset=opset)
    assert first_overflow(model, half()) is None
    assert str(first_overflow(model, half(300))).startswith("mul reaches 90000, ")
