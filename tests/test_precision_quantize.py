"""INT8: symmetric Q/DQ pairs on the inputs of convolutions and matrix products, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import FLOAT, cnn, graph, weight
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import Lowered, lowered, relative_l2, run, run_rounding
from onnx import ModelProto, NodeProto, TensorProto, helper

from trtcheck.errors import LoweringError
from trtcheck.precision.quantize import scales_of

RNG = np.random.default_rng(11)
RESTS = pytest.mark.parametrize("rest", ["fp16", "fp32"])


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def single(op: str, shape: tuple[int, ...], array: np.ndarray, **attributes: object) -> ModelProto:
    """One node of *op* with the weights *array*, on an input of *shape* (its first axis open)."""
    node = helper.make_node(op, ["x", "w"], ["y"], name="node", **attributes)
    return graph([node], [("x", FLOAT, ["N", *shape[1:]])], [("y", FLOAT, None)], [weight("w", array)])


def producer(made: Lowered, tensor: str) -> NodeProto:
    return next(node for node in made.model.graph.node if tensor in node.output)


SINGLES = {
    "conv": (single("Conv", (8, 4, 6, 6), random(5, 4, 3, 3)), (8, 4, 6, 6), 0),
    "depthwise": (single("Conv", (8, 4, 6, 6), random(4, 1, 3, 3), group=4), (8, 4, 6, 6), 0),
    "grouped": (single("Conv", (8, 4, 6, 6), random(6, 2, 3, 3), group=2), (8, 4, 6, 6), 0),
    "transposed": (single("ConvTranspose", (8, 4, 6, 6), random(4, 5, 3, 3)), (8, 4, 6, 6), 1),
    "transposed in groups": (
        single("ConvTranspose", (8, 4, 6, 6), random(4, 3, 3, 3), group=2), (8, 4, 6, 6), None,
    ),
    "gemm": (single("Gemm", (8, 16), random(16, 5)), (8, 16), 1),
    "gemm transB": (single("Gemm", (8, 16), random(5, 16), transB=1), (8, 16), 0),
    "matmul": (single("MatMul", (8, 16), random(16, 5)), (8, 16), 1),
    "matmul by a stack": (single("MatMul", (3, 8, 16), random(3, 16, 5)), (3, 8, 16), None),
    "matmul by a vector": (single("MatMul", (8, 16), random(16)), (8, 16), None),
}  # fmt: skip


@RESTS
@pytest.mark.parametrize("name", SINGLES)
def test_weights_are_quantized_per_output_channel(name: str, rest: str, tmp_path: Path) -> None:
    model, shape, axis = SINGLES[name]
    x = random(*shape)
    made = lowered(model, "int8", tmp_path, [{"x": x}], rest=rest, method="minmax")
    array = next(np.frombuffer(t.raw_data, np.float32).reshape(t.dims) for t in model.graph.initializer)
    others = tuple(i for i in range(array.ndim) if i != axis)
    exact = np.abs(array.astype(np.float64)).max(axis=others) / 127
    scale, integers = made.weight("w_scale"), made.weight("w_quantized")
    assert scale.shape == exact.shape
    assert scale.dtype == (np.float16 if rest == "fp16" else np.float32)
    if rest == "fp16":  # the next FP16 number, never below
        assert (scale >= exact).all()
        assert (np.nextafter(scale, np.float16(0)) < exact).all()
    else:
        np.testing.assert_allclose(scale, exact, rtol=1e-7)
    expanded = scale.astype(np.float64) if axis is None else np.expand_dims(scale.astype(np.float64), others)
    np.testing.assert_array_equal(integers, np.rint(array / expanded))
    assert 125 <= np.abs(integers.astype(int)).max() <= 127
    attributes = {a.name: a.i for a in producer(made, made.node("node").input[1]).attribute}
    assert attributes == ({} if axis is None else {"axis": axis})
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 0.02
    assert made.manifest["nodes"] == {"total": 1, "narrowed": 0, "quantized": 1, "wide": 0}


@RESTS
def test_tiny_and_dead_channels(rest: str, tmp_path: Path) -> None:
    array = random(4, 3, 3, 3)
    array[1] = 0
    array[2] *= np.float32(1e-6)  # a scale of 2e-8, below the smallest FP16 number
    array[3] *= np.float32(1e-4)  # a scale of 2e-6, among FP16's subnormal numbers: off by up to 1 in 34
    model, x = single("Conv", (4, 3, 6, 6), array), random(4, 3, 6, 6)
    made = lowered(model, "int8", tmp_path, [{"x": x}], rest=rest)
    scale = made.weight("w_scale").astype(np.float64)
    assert scale[1] == 1
    assert not made.weight("w_quantized")[1].any()
    assert np.abs(made.weight("w_quantized")[3].astype(int)).max() > 120
    stored = made.weight("w_quantized") * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_array_less(np.abs(stored - array).max(axis=(1, 2, 3)), scale * 0.5001)
    answer, expected = run(made.model, {"x": x}), run(model, {"x": x})
    assert np.isfinite(answer).all()
    assert relative_l2(answer[:, 0], expected[:, 0]) < 0.02
    assert relative_l2(answer[:, 3], expected[:, 3]) < 0.03
    if rest == "fp16":
        assert scale[2] == 2.0**-24
    else:
        assert relative_l2(answer[:, 2], expected[:, 2]) < 0.02


@given(hnp.arrays(np.float64, hnp.array_shapes(max_dims=1), elements=st.floats(0, 2.0**127, width=32)))
def test_scales_never_let_the_largest_value_saturate(largest: np.ndarray) -> None:
    for fp16 in (False, True):
        scales = scales_of(largest, fp16=fp16)
        assert scales.dtype == np.float32
        assert (scales > 0).all()
        assert np.isfinite(scales).all()
        if fp16:
            np.testing.assert_array_equal(scales.astype(np.float16).astype(np.float32), scales)
            reachable = np.minimum(largest, 65504)  # all that FP16 activations can be
            assert (reachable / scales.astype(np.float64) <= 127 + 1e-9).all()
        else:
            assert (largest / scales.astype(np.float64) <= 127 * (1 + 1e-6)).all()


@RESTS
def test_gemm_with_a_row_for_a_bias(rest: str, tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", transB=1)
    bias = random(1, 5)
    model = graph(
        [node],
        [("x", FLOAT, ["N", 16])],
        [("y", FLOAT, ["N", 5])],
        [weight("w", random(5, 16)), weight("b", bias)],
    )
    x = random(8, 16)
    made = lowered(model, "int8", tmp_path, [{"x": x}], rest=rest, method="minmax")
    assert made.node("gemm").input[2] == "b"
    np.testing.assert_array_equal(made.weight("b"), bias.astype(np.float16 if rest == "fp16" else np.float32))
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 0.02


def arithmetic() -> ModelProto:
    """A product, then counting over classes: one-hot codes times 1000, summed, and a small rest."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("ArgMax", ["m"], ["best"], name="best", axis=-1, keepdims=0),
        helper.make_node("OneHot", ["best", "depth", "values"], ["code"], name="code"),
        helper.make_node("Mul", ["code", "thousand"], ["big"], name="big"),
        helper.make_node("Add", ["big", "small"], ["sum"], name="sum"),
        helper.make_node("Reshape", ["sum", "shape"], ["flat"], name="reshape"),
        helper.make_node("ReduceSum", ["flat", "axis"], ["total"], name="total", keepdims=0),
        helper.make_node("Sub", ["total", "thousand"], ["y"], name="rest"),
    ]
    weights = [
        weight("w", random(16, 4)), weight("depth", np.array([4])), weight("values", np.float32([0, 1])),
        weight("thousand", np.float32(1000)), weight("small", np.float32([0.5, 1, 1.5, 2])),
        weight("shape", np.array([-1, 4])), weight("axis", np.array([1])),
    ]  # fmt: skip
    return graph(nodes, [("x", FLOAT, ["N", 16])], [("y", FLOAT, ["N"])], weights)


def test_only_products_are_quantized(tmp_path: Path) -> None:
    model, x = arithmetic(), random(8, 16)
    made = lowered(model, "int8", tmp_path, [{"x": x}], rest="fp32")
    assert made.ops().count("QuantizeLinear") == 1
    assert made.manifest["nodes"] == {"total": 8, "narrowed": 0, "quantized": 1, "wide": 7}
    np.testing.assert_array_equal(
        run(made.model, {"x": x}), np.full(8, 5, np.float32)
    )  # with steps of 8: 0 or 8


def attention() -> ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"], name="query"),
        helper.make_node("Transpose", ["x"], ["k"], name="key", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["p"], name="softmax"),
        helper.make_node("MatMul", ["p", "x"], ["y"], name="mix"),
    ]
    return graph(
        nodes, [("x", FLOAT, ["N", 5, 8])], [("y", FLOAT, ["N", 5, 8])], [weight("wq", random(8, 8) / 4)]
    )


@RESTS
def test_products_of_two_activations_quantize_both_and_share_pairs(rest: str, tmp_path: Path) -> None:
    model, x = attention(), random(16, 5, 8)
    made = lowered(model, "int8", tmp_path, [{"x": x}], rest=rest, method="minmax")
    assert made.manifest["nodes"]["quantized"] == 3
    assert made.ops().count("QuantizeLinear") == 4  # x, q, k and p; x is read by two products
    assert made.node("query").input[0] == made.node("mix").input[1]
    for node, operands in (("scores", "qk"), ("mix", "p")):
        for name, operand in zip(made.node(node).input, operands, strict=False):
            assert producer(made, name).input[0] == f"{operand}_quantized"
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 0.05


@RESTS
def test_int8_classifier_is_close_and_of_the_types_that_it_says(rest: str, tmp_path: Path) -> None:
    model, x = cnn(), random(64, 1, 12, 12)
    made = lowered(model, "int8", tmp_path, [{"x": x[:40]}, {"x": x[40:]}], rest=rest)
    types = made.types()
    assert {types[n] for n in ("conv", "relu", "hardswish", "softmax")} == {rest}
    others = {"narrowed": 5, "wide": 0} if rest == "fp16" else {"narrowed": 0, "wide": 5}
    assert made.manifest["nodes"] == {"total": 9, "quantized": 4, **others}
    assert (made.manifest["method"], made.manifest["rest"], made.manifest["percentile"]) == (
        "entropy",
        rest,
        None,
    )
    assert made.manifest["opset"] == (19 if rest == "fp16" else 17)
    assert 1e-4 < relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 0.05


def test_activation_scale_is_the_largest_value_over_127(tmp_path: Path) -> None:
    model, x = cnn(), random(64, 1, 12, 12)
    made = lowered(model, "int8", tmp_path, [{"x": x}], rest="fp32", method="minmax")
    assert made.weight("x_scale") == np.float32(np.abs(x).max() / 127.0)
    assert made.weight("x_zero_point").dtype == np.int8
    assert made.weight("x_zero_point") == 0


@RESTS
def test_excluded_nodes_stay_fp32(rest: str, tmp_path: Path) -> None:
    made = lowered(cnn(), "int8", tmp_path, [{"x": random(16, 1, 12, 12)}], rest=rest, exclude=["d*"])
    assert made.types()["dw"] == "fp32"
    assert made.weight("w1").dtype == np.float32
    assert made.kept()["dw"] == "excluded"
    assert made.manifest["nodes"]["quantized"] == 3
    assert made.types()["pw"] == rest


def test_what_cannot_be_quantized_is_kept_with_the_reason(tmp_path: Path) -> None:
    broken = random(4, 4)
    broken[0, 0] = np.nan
    nodes = [
        helper.make_node("Cast", ["rows"], ["integers"], name="cast", to=int(TensorProto.INT32)),
        helper.make_node("MatMul", ["integers", "integer_w"], ["exact"], name="integer"),
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="hypernetwork"),
        helper.make_node("MatMul", ["w", "w"], ["square"], name="constant"),
        helper.make_node("MatMul", ["rows", "square"], ["m"], name="computed"),
        helper.make_node("MatMul", ["m", "broken"], ["n"], name="nan"),
    ]
    model = graph(
        nodes,
        [("x", FLOAT, ["N", 2, 3, 3]), ("kernel", FLOAT, [3, 2, 1, 1]), ("rows", FLOAT, ["N", 4])],
        [("c", FLOAT, None), ("n", FLOAT, None), ("exact", int(TensorProto.INT32), None)],
        [weight("w", random(4, 4)), weight("broken", broken), weight("integer_w", np.ones((4, 2), np.int32))],
    )
    feeds = {"x": random(3, 2, 3, 3), "kernel": random(3, 2, 1, 1), "rows": random(3, 4)}
    made = lowered(model, "int8", tmp_path, [feeds], rest="fp32")
    assert made.kept() == {
        "integer": "not quantized: its inputs are not FP32 tensors",
        "hypernetwork": "not quantized: its weights are computed by the graph",
        "constant": "not quantized: all its inputs are constant",
        "nan": "not quantized: its weights are not finite",
    }
    assert made.manifest["nodes"]["quantized"] == 1


@RESTS
def test_constant_on_the_left_is_quantized_as_one(rest: str, tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["w", "x"], ["y"], name="node")
    model = graph([node], [("x", FLOAT, ["N", 6, 3])], [("y", FLOAT, None)], [weight("w", random(5, 6))])
    x = random(4, 6, 3)
    made = lowered(model, "int8", tmp_path, [{"x": x}], rest=rest, method="minmax")
    assert made.weight("w_scale").shape == ()
    assert made.weight("w_quantized").shape == (5, 6)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 0.02


def test_dead_activation_gives_no_nan(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "nothing"], ["z"], name="kill"),
        helper.make_node("MatMul", ["z", "w"], ["y"], name="product"),
    ]
    weights = [weight("nothing", np.float32(0)), weight("w", random(6, 3))]
    model = graph(nodes, [("x", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 3])], weights)
    x = random(4, 6)
    for method in ("minmax", "entropy", "percentile"):
        made = lowered(model, "int8", tmp_path, [{"x": x}], method=method)
        assert made.weight("z_scale") == 1
        assert made.manifest["notes"] == ["always 0 on the calibration data, given the scale 1: z"]
        np.testing.assert_array_equal(run(made.model, {"x": x}), np.zeros((4, 3)))


def test_shared_weights_are_stored_once_for_each_axis(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="first", transB=1),
        helper.make_node("Gemm", ["a", "w"], ["b"], name="second", transB=1),
        helper.make_node("Gemm", ["b", "w"], ["y"], name="other_way"),
    ]
    model = graph(nodes, [("x", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 6])], [weight("w", random(6, 6))])
    x = random(32, 6)
    made = lowered(model, "int8", tmp_path, [{"x": x}], method="minmax", rest="fp32")
    assert made.node("first").input[1] == made.node("second").input[1] != made.node("other_way").input[1]
    assert (
        sum(t.data_type == TensorProto.INT8 and len(t.dims) == 2 for t in made.model.graph.initializer) == 2
    )
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 0.05


@pytest.mark.parametrize("calibration", [None, []])
def test_int8_without_calibration_data_is_refused(calibration: list[object] | None, tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="INT8 needs calibration data") as raised:
        lowered(cnn(), "int8", tmp_path, calibration)
    assert 'calibration = "…"' in str(raised.value)
    assert "[models.x.lowered] int8 =" in str(raised.value)
    assert not (tmp_path / "int8.onnx").exists()


def test_model_without_products_is_refused(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Relu", ["x"], ["y"], name="r")], [("x", FLOAT, ["N", 6])], [("y", FLOAT, None)]
    )
    with pytest.raises(LoweringError, match="has nothing that INT8 could compute"):
        lowered(model, "int8", tmp_path, [{"x": random(2, 6)}])
    with pytest.raises(LoweringError, match="conv: excluded"):
        lowered(cnn(), "int8", tmp_path, [{"x": random(2, 1, 12, 12)}], exclude=["*"])


def test_quantized_model_is_not_quantized_again(tmp_path: Path) -> None:
    x = random(16, 1, 12, 12)
    once = lowered(cnn(), "int8", tmp_path, [{"x": x}], rest="fp32")
    with pytest.raises(LoweringError, match=r"is quantized already[\s\S]*\[models\.x\.lowered\] int8"):
        lowered(once.model, "int8", tmp_path, [{"x": x}])


def test_fp16_around_int8_rounds_as_onnx_defines(tmp_path: Path) -> None:
    model, x = cnn(), random(8, 1, 12, 12)
    made = lowered(model, "int8", tmp_path, [{"x": x}])
    assert relative_l2(run_rounding(made.model, {"x": x}), run(made.model, {"x": x})) < 0.01
