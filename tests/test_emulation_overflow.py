"""The first node that leaves the range of its type is named, with its largest value and what to do."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

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
    save,
    weight,
)
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from trtcheck.backends import overflow
from trtcheck.backends.emulation import emulate
from trtcheck.backends.finding import Overflow
from trtcheck.backends.onnxruntime import element_types, run_once
from trtcheck.backends.overflow import Run
from trtcheck.case import LoweringSpec, Precision
from trtcheck.precision import lower

X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)


def first_overflow(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], run: Run = run_once
) -> Overflow | None:
    """The same on ONNX Runtime."""
    return overflow.first_overflow(model, feeds, run, element_types)


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


# All of them.


def gelu_then_norm() -> onnx.ModelProto:
    """FP32: GELU's cube, which tanh forgives, meets its own input; a sum of squares, which nothing forgives.

    With x = 60: 60^3 = 216000, and (10 * 60)^2 = 360000.
    """
    weights = [weight("tenth", [0.1], FLOAT), weight("ten", [10], FLOAT)]
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"], name="gelu/square"),
        helper.make_node("Mul", ["square", "x"], ["cube"], name="gelu/cube"),
        helper.make_node("Add", ["x", "cube"], ["sum"], name="gelu/add"),
        helper.make_node("Mul", ["sum", "tenth"], ["scaled"], name="gelu/scale"),
        helper.make_node("Tanh", ["scaled"], ["gate"], name="gelu/tanh"),
        helper.make_node("Mul", ["x", "gate"], ["act"], name="gelu/gate"),
        helper.make_node("Mul", ["act", "ten"], ["wide"], name="norm/ten"),
        helper.make_node("ReduceSumSquare", ["wide"], ["squares"], name="norm/sum", axes=[-1]),
        helper.make_node("Sqrt", ["squares"], ["norm"], name="norm/sqrt"),
        helper.make_node("Div", ["wide", "norm"], ["y"], name="norm/div"),
    ]
    return graph(nodes, [("x", FLOAT, ["N", 2])], [("y", FLOAT, ["N", 2])], weights)


LOUD = {"x": np.array([[60, 0.5], [30, -0.25]], np.float32)}


def fp16_of(model: onnx.ModelProto, folder: Path, *exclude: str) -> onnx.ModelProto:
    """What trtcheck makes of *model* in FP16."""
    target = folder / "fp16.onnx"
    spec = LoweringSpec(exclude=exclude)
    lower(save(model, folder / "fp32.onnx"), Precision.FP16, spec, target=target)
    return onnx.load(target)


def pasted(found: Overflow | None) -> list[str]:
    """The list in the message, read as the user's toml would be."""
    text = re.search(r"exclude = \[.*?\](?= keeps)", str(found))
    assert text is not None
    return list(tomllib.loads(text.group())["exclude"])


def test_all_that_leave_the_range_are_told_at_once(tmp_path: Path) -> None:
    found = first_overflow(fp16_of(gelu_then_norm(), tmp_path), LOUD)
    # gelu/add does not leave by itself: its cube has; but it meets x there, so it has to be named.
    assert str(found) == (
        "gelu/cube reaches 2.2e5, FP16 ends at 65504: keep it in FP32; "
        "in all 2 nodes leave the range: gelu/cube (2.2e5), norm/sum (3.6e5); "
        'exclude = ["gelu/cube", "gelu/add", "norm/sum"] keeps them and what reads them in FP32'
    )


def test_the_list_pasted_is_enough(tmp_path: Path) -> None:
    fp32 = gelu_then_norm()
    listed = pasted(first_overflow(fp16_of(fp32, tmp_path), LOUD))
    better = fp16_of(fp32, tmp_path, *listed)
    assert first_overflow(better, LOUD) is None
    wanted, got = run_once(fp32, LOUD)["y"], run_once(emulate(better), LOUD)["y"]
    assert got == pytest.approx(wanted, abs=2e-3)
    # None of them is too much.
    for name in listed:
        fewer = fp16_of(fp32, tmp_path, *(other for other in listed if other != name))
        assert first_overflow(fewer, LOUD) is not None, name


def test_the_list_is_the_same_after_a_part_of_it_was_pasted(tmp_path: Path) -> None:
    fp32 = gelu_then_norm()
    found = first_overflow(fp16_of(fp32, tmp_path, "gelu/cube"), LOUD)
    # The cast behind gelu/cube is the one that overflows; its name is trtcheck's own.
    assert str(found) == (
        "gelu/cube reaches 2.2e5, FP16 ends at 65504: keep gelu/add in FP32; "
        "in all 2 nodes leave the range: gelu/cube (2.2e5), norm/sum (3.6e5); "
        'exclude = ["gelu/cube", "gelu/add", "norm/sum"] keeps them and what reads them in FP32'
    )
    found = first_overflow(fp16_of(fp32, tmp_path, "gelu/cube", "gelu/add"), LOUD)
    assert pasted(found) == ["gelu/cube", "gelu/add", "norm/sum"]


def test_followers_of_an_overflow_are_not_listed(tmp_path: Path) -> None:
    # Everything behind the square is inf or NaN in FP16; by themselves all of it would fit.
    model = graph(
        [
            helper.make_node("Mul", ["x", "x"], ["big"], name="square"),
            helper.make_node("Mul", ["big", "small"], ["fits"], name="scale"),
            helper.make_node("Sub", ["fits", "x"], ["less"], name="sub"),
            helper.make_node("MatMul", ["less", "w"], ["product"], name="matmul"),
            helper.make_node("Softmax", ["product"], ["y"], name="softmax"),
        ],
        [("x", FLOAT, ["N", 2])], [("y", FLOAT, ["N", 2])],
        [weight("small", [0.001], FLOAT), weight("w", np.eye(2, dtype=np.float32))],
    )  # fmt: skip
    found = first_overflow(fp16_of(model, tmp_path), {"x": np.full((1, 2), 300, np.float32)})
    assert str(found) == "square reaches 90000, FP16 ends at 65504: keep it in FP32"


def test_one_node_whose_readers_have_to_be_named(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("Relu", ["x"], ["r"], name="relu"),
            helper.make_node("Mul", ["r", "r"], ["big"], name="square"),
            helper.make_node("MatMul", ["big", "w"], ["y"], name="matmul"),
        ],
        [("x", FLOAT, ["N", 1])], [("y", FLOAT, ["N", 1])], [weight("w", [[0.001]], FLOAT)],
    )  # fmt: skip
    feeds = {"x": np.array([[300]], np.float32)}
    found = first_overflow(fp16_of(model, tmp_path), feeds)
    assert str(found) == (
        "square reaches 90000, FP16 ends at 65504: keep it in FP32; "
        'exclude = ["square", "matmul"] keeps it and what reads it in FP32'
    )
    assert first_overflow(fp16_of(model, tmp_path, *pasted(found)), feeds) is None


def test_an_input_behind_an_inserted_cast_is_named_as_input(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("Mul", ["x", "small"], ["fits"], name="scale"),
            helper.make_node("MatMul", ["fits", "w"], ["product"], name="matmul"),
            helper.make_node("Mul", ["product", "product"], ["y"], name="square"),
        ],
        [("x", FLOAT, ["N", 1])], [("y", FLOAT, ["N", 1])],
        [weight("small", [0.00390625], FLOAT), weight("w", [[0.75]], FLOAT)],
    )  # fmt: skip
    lowered = fp16_of(model, tmp_path)
    assert str(first_overflow(lowered, {"x": np.array([[7e4]], np.float32)})) == (
        "input 'x' reaches 70000, FP16 ends at 65504: keep scale in FP32"
    )
    assert str(first_overflow(lowered, {"x": np.array([[1.28e5]], np.float32)})) == (
        "input 'x' reaches 1.3e5, FP16 ends at 65504: keep scale in FP32; "
        "in all 2 nodes leave the range: input 'x' (1.3e5), square (1.4e5); "
        'exclude = ["scale", "square"] keeps them and what reads them in FP32'
    )


def squares(count: int) -> onnx.ModelProto:
    """So many nodes that leave the range, each of x itself, and their means added up."""
    nodes = []
    for i in range(count):
        nodes += [
            helper.make_node("Mul", ["x", "x"], [f"big{i}"], name=f"square{i}"),
            helper.make_node("Mul", [f"big{i}", "small"], [f"s{i}"], name=f"scale{i}"),
        ]
    nodes.append(helper.make_node("Sum", [f"s{i}" for i in range(count)], ["y"], name="sum"))
    return graph(nodes, [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])], [weight("small", [0.001], FLOAT)])


def test_no_more_than_eight_are_listed_but_all_can_be_pasted(tmp_path: Path) -> None:
    feeds = {"x": np.array([300], np.float32)}
    found = first_overflow(fp16_of(squares(11), tmp_path), feeds)
    assert "; in all 11 nodes leave the range: square0 (90000), square1 (90000), " in str(found)
    assert "square7 (90000) and 3 more; exclude = " in str(found)
    assert pasted(found) == [f"square{i}" for i in range(11)]
    assert str(found).endswith('"square10"] keeps them in FP32')


def test_a_model_that_fp16_does_not_suit_is_told_so(tmp_path: Path) -> None:
    found = first_overflow(fp16_of(squares(33), tmp_path), {"x": np.array([300], np.float32)})
    assert str(found).endswith(
        "square7 (90000) and 25 more; "
        "33 nodes would have to stay in FP32, too many to paste: BF16 has the range of FP32"
    )


def test_what_is_infinite_in_fp32_too_is_reported_as_ever(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("Exp", ["x"], ["huge"], name="exp"),
            helper.make_node("Reciprocal", ["huge"], ["none"], name="reciprocal"),
            helper.make_node("Add", ["huge", "x"], ["y"], name="add"),
        ],
        [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])],
    )  # fmt: skip
    found = first_overflow(fp16_of(model, tmp_path), {"x": np.array([100], np.float32)})
    assert str(found) == "exp gives inf, FP16 ends at 65504: keep it in FP32"


def test_the_first_is_in_the_list_also_where_only_rounding_makes_it_infinite(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("Mul", ["x", "tiny"], ["small"], name="shrink"),
            helper.make_node("Div", ["x", "small"], ["ratio"], name="div"),
            helper.make_node("Relu", ["x"], ["r"], name="relu"),
            helper.make_node("Mul", ["r", "thousands"], ["big"], name="grow"),
            helper.make_node("Min", ["big", "ratio"], ["y"], name="min"),
        ],
        [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])],
        [weight("tiny", [2e-3], FLOAT), weight("thousands", [5e4], FLOAT)],
    )  # fmt: skip
    found = first_overflow(fp16_of(model, tmp_path), {"x": np.array([1e-5, 3], np.float32)})
    assert str(found) == (
        "div gives inf, FP16 ends at 65504: keep it in FP32; "
        "in all 2 nodes leave the range: div (inf), grow (1.5e5); "
        'exclude = ["div", "grow"] keeps them in FP32'
    )


@pytest.mark.parametrize(("scale", "runs"), [(1, 2), (0.01, 1)])
def test_a_second_run_only_where_there_is_an_overflow(tmp_path: Path, scale: float, runs: int) -> None:
    calls = []

    def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        calls.append(len(model.graph.output))
        return run_once(model, feeds)

    first_overflow(fp16_of(gelu_then_norm(), tmp_path), {"x": scale * LOUD["x"]}, run)
    assert len(calls) == runs


def test_int8_lists_the_models_own_nodes(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
            helper.make_node("Mul", ["a", "a"], ["aa"], name="square"),
            helper.make_node("MatMul", ["aa", "w"], ["b"], name="second"),
            helper.make_node("Mul", ["b", "b"], ["y"], name="again"),
        ],
        [("x", FLOAT, ["N", 1])], [("y", FLOAT, ["N", 1])], [weight("w", [[0.5]], FLOAT)],
    )  # fmt: skip
    feeds = {"x": np.array([[600]], np.float32)}
    source, target = save(model, tmp_path / "fp32.onnx"), tmp_path / "int8.onnx"

    def message(*exclude: str) -> Overflow | None:
        spec = LoweringSpec(exclude=exclude, rest="fp16")
        lower(source, Precision.INT8, spec, target=target, calibration=[(feeds, 1)])
        return first_overflow(onnx.load(target), feeds)

    found = message()
    assert not re.search("Linear|cast|quantized", str(found))
    assert pasted(found) == ["square", "second"]
    assert message(*pasted(found)) is None


def test_integers_cast_by_the_model_itself(tmp_path: Path) -> None:
    # This cast is the user's own node: it can be kept wide, and no node behind it is to blame.
    model = graph(
        [
            helper.make_node("Abs", ["x"], ["a"], name="abs"),
            helper.make_node("Cast", ["a"], ["f"], name="to_float", to=FLOAT),
            helper.make_node("Mul", ["f", "small"], ["fits"], name="scale"),
            helper.make_node("MatMul", ["fits", "w"], ["y"], name="matmul"),
        ],
        [("x", TensorProto.INT32, ["N", 1])], [("y", FLOAT, ["N", 1])],
        [weight("small", [0.001], FLOAT), weight("w", [[0.75]], FLOAT)],
    )  # fmt: skip
    feeds = {"x": np.array([[-70000]], np.int32)}
    found = first_overflow(fp16_of(model, tmp_path), feeds)
    assert str(found) == "to_float reaches 70000, FP16 ends at 65504: keep it in FP32"
    assert first_overflow(fp16_of(model, tmp_path, "to_float"), feeds) is None


def test_a_dequantized_weight_that_does_not_fit_is_told_of_its_reader() -> None:
    model = quantized(FP16)
    scales = next(w for w in model.graph.initializer if w.name == "sw")
    scales.CopyFrom(weight("sw", [0.25, 0.5, 600, 4], FP16))
    found = first_overflow(model, {"x": np.ones((1, 2, 6, 6), np.float32)})
    assert str(found) == "weight 'w' of conv is infinite, FP16 ends at 65504: keep conv in FP32"
