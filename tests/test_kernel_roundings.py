"""Nodes round inside where a GPU's kernels do: against numpy, and against what an H100 answered."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import BF16, FLOAT, FP16, NUMPY, graph, weight
from numpy_oracle import answers, ulps
from onnx import ModelProto, TensorProto, helper

from trtcheck.backends.emulation import emulate, transform
from trtcheck.backends.onnxruntime import run_once

# What ONNX Runtime CUDA 1.31.1 answered on an H100: x, y, and what rounding once would have made of it.
HARD_SWISH = [
    (0.007293701171875, 0.00365447998046875, 0.0036563873291015625),
    (0.0302734375, 0.01528167724609375, 0.015289306640625),
    (0.267333984375, 0.1455078125, 0.1456298828125),
    (2.01171875, 1.6796875, 1.6806640625),
    (-0.093017578125, -0.0450439453125, -0.045074462890625),
    (-1.2666015625, -0.3662109375, -0.365966796875),
]
QUANTIZED = [
    (0.173828125, 2, 1),
    (0.9853515625, 8, 9),
    (5.2734375, 46, 45),
    (1.564453125, 14, 13),
    (-0.289794921875, -2, -3),
]
SCALE = 0.1159


def every(element: int) -> np.ndarray:
    """All finite numbers of a narrow type."""
    values = np.arange(1 << 16, dtype=np.uint16).view(NUMPY[element])
    return values[np.isfinite(values.astype(np.float32))]


def unary(op: str, element: int, **attributes: float) -> ModelProto:
    return graph(
        [
            helper.make_node("Cast", ["x"], ["n"], to=element),
            helper.make_node(op, ["n"], ["m"], name="node", **attributes),
            helper.make_node("Cast", ["m"], ["y"], to=FLOAT),
        ],
        [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])], opset=22,
    )  # fmt: skip


def quantizer(element: int, scale: np.ndarray, shape: list[int | str], **attributes: int) -> ModelProto:
    return graph(
        [
            helper.make_node("Cast", ["x"], ["n"], to=element),
            helper.make_node("QuantizeLinear", ["n", "scale", "zero"], ["q"], name="quantize", **attributes),
            helper.make_node("Cast", ["q"], ["y"], to=FLOAT),
        ],
        [("x", FLOAT, shape)], [("y", FLOAT, shape)],
        [weight("scale", scale, element), weight("zero", np.zeros(scale.shape, np.int8))], opset=21,
    )  # fmt: skip


def test_hard_swish_answers_as_the_h100_did() -> None:
    x, seen, once = (np.array(column, np.float32) for column in zip(*HARD_SWISH, strict=True))
    found = run_once(emulate(unary("HardSwish", FP16)), {"x": x})["y"]
    np.testing.assert_array_equal(found, seen)
    assert (seen != once).all()


def test_mish_differs_from_one_rounding_as_far_as_it_did_on_the_h100() -> None:
    """Of all finite FP16 numbers .732878654 were equal to it; the others were up to 7071 steps away."""
    x = every(FP16).astype(np.float32)
    wide = x.astype(np.float64)
    once = (wide * np.tanh(np.logaddexp(0, wide))).astype(np.float16)
    found = run_once(emulate(unary("Mish", FP16)), {"x": x})["y"].astype(np.float16)
    assert (found == once).mean() == pytest.approx(0.732878654, abs=2e-5)
    assert ulps(found, once) == 7071


def test_a_quantizer_answers_as_the_h100_did() -> None:
    x, seen, once = (np.array(column, np.float32) for column in zip(*QUANTIZED, strict=True))
    model = quantizer(FP16, np.array(SCALE), ["N"])
    np.testing.assert_array_equal(run_once(emulate(model), {"x": x})["y"], seen)
    np.testing.assert_array_equal(run_once(transform(model).model, {"x": x})["y"], once)


@pytest.mark.parametrize("element", [FP16, BF16], ids=["fp16", "bf16"])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("HardSwish", {}), ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.45}),
        ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.3}), ("Softplus", {}), ("Mish", {}),
    ],
)  # fmt: skip
def test_an_activation_rounds_as_the_oracle_does_on_every_number(
    op: str, attributes: dict[str, float], element: int
) -> None:
    model, x = unary(op, element, **attributes), every(element).astype(np.float32)
    found, expected = run_once(emulate(model), {"x": x})["y"], answers(model, {"x": x})["y"]
    # A sum of FP32 that falls on a tie of the narrow type may take either side: one number in a thousand.
    different = found != expected
    assert different.mean() < 1e-3
    assert np.abs(found - expected).max() <= np.spacing(np.float16(1)) * np.abs(expected).max()
    plain = run_once(transform(model).model, {"x": x})["y"]
    assert (plain != expected).mean() > 1e-3  # rounded once it would answer otherwise


@pytest.mark.parametrize("element", [FP16, BF16], ids=["fp16", "bf16"])
def test_a_quotient_is_rounded_to_the_type_of_the_scale(element: int) -> None:
    x = every(element).astype(np.float32)
    for scale in (0.0123, 0.1159, 1.0, 3.7):
        model = quantizer(element, np.array(scale), ["N"])
        found = run_once(emulate(model), {"x": x})["y"]
        np.testing.assert_array_equal(found, answers(model, {"x": x})["y"])


def test_a_quotient_of_a_scale_for_each_channel_is_rounded_too() -> None:
    x = every(FP16).astype(np.float32)[: 3 * 21_000].reshape(7, 3, 3000)
    model = quantizer(FP16, np.array([0.0123, 0.1159, 3.7]), ["N", 3, 3000], axis=-2)
    expected = answers(model, {"x": x})["y"]
    np.testing.assert_array_equal(run_once(emulate(model), {"x": x})["y"], expected)
    assert (run_once(transform(model).model, {"x": x})["y"] != expected).any()


def test_an_fp32_quantizer_divides_once() -> None:
    x = np.array([[column[0] for column in QUANTIZED]], np.float32)
    model = quantizer(FLOAT, np.array(SCALE), ["N", 5])
    assert [node.op_type for node in emulate(model).graph.node] == ["Cast", "QuantizeLinear", "Cast"]
    np.testing.assert_array_equal(run_once(emulate(model), {"x": x})["y"], answers(model, {"x": x})["y"])


def biased(bias: list[float], element: int = FP16, op: str = "Conv") -> ModelProto:
    """A product of one factor, 2049 where x is, and a bias."""
    rank = [1] * 3
    return graph(
        [
            helper.make_node("Cast", ["x"], ["n"], to=element),
            helper.make_node(op, ["n", "w", "b"], ["m"], name="conv"),
            helper.make_node("Cast", ["m"], ["y"], to=FLOAT),
        ],
        [("x", FLOAT, ["N", *rank])], [("y", FLOAT, ["N", *rank])],
        [weight("w", np.ones((1, *rank)), element), weight("b", np.array(bias), element)], opset=22,
    )  # fmt: skip


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_sum_of_products_is_rounded_before_its_bias_is_added(op: str) -> None:
    """2048 + 1 is 2048 in FP16 (a tie), and + 1 again; in one step it would be 2050."""
    model = biased([1.0], op=op)
    model.graph.initializer[0].CopyFrom(weight("w", np.full((1, 1, 1, 1), 683), FP16))
    x = np.full((1, 1, 1, 1), 3, np.float32)  # 3 * 683 is 2049
    assert run_once(emulate(model), {"x": x})["y"].item() == 2048
    assert run_once(transform(model).model, {"x": x})["y"].item() == 2050


def dense(bias: list[int], *, rank: int = 2, output: bool = False, swapped: bool = False) -> ModelProto:
    """A product of FP16 matrices and a sum with a bias of shape *bias*."""
    ahead = [1] * (rank - 2)
    shape = ["N", *ahead, 1]
    terms = ["b", "p"] if swapped else ["p", "b"]
    return graph(
        [
            helper.make_node("Cast", ["x"], ["n"], to=FP16),
            helper.make_node("MatMul", ["n", "w"], ["p"], name="product"),
            helper.make_node("Add", terms, ["m"], name="sum"),
            helper.make_node("Cast", ["m"], ["y"], to=FLOAT),
        ],
        [("x", FLOAT, shape)], [("y", FLOAT, shape), *([("p", FP16, shape)] if output else [])],
        [weight("w", np.full((1, 1), 683), FP16), weight("b", np.ones(bias), FP16)], opset=22,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (dense([1]), 2050), (dense([1, 1]), 2050), (dense([1], swapped=True), 2050),
        (dense([1], output=True), 2048), (dense([1], rank=3), 2048), (dense([1, 1, 1]), 2048),
    ],
    ids=["row", "row of a matrix", "swapped", "output", "three axes", "bias of three axes"],
)  # fmt: skip
def test_a_product_of_matrices_and_its_bias_are_rounded_once_where_onnx_runtime_joins_them(
    model: ModelProto, expected: int
) -> None:
    """2049 is a tie of FP16: rounded, it is 2048, and 1 more is a tie again; in one step it is 2050."""
    shape = [1 if dim.dim_param else dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    found = run_once(emulate(model), {"x": np.full(shape, 3, np.float32)})
    assert found["y"].item() == expected
    assert run_once(transform(model).model, {"x": np.full(shape, 3, np.float32)})["y"].item() == 2048


def test_a_product_that_has_another_reader_is_rounded() -> None:
    model = dense([1])
    model.graph.node.append(helper.make_node("Cast", ["p"], ["q"], to=FLOAT))
    model.graph.output.append(helper.make_tensor_value_info("q", FLOAT, ["N", 1]))
    found = run_once(emulate(model), {"x": np.full((1, 1), 3, np.float32)})
    assert (found["y"].item(), found["q"].item()) == (2048, 2048)


def test_the_bias_of_a_branch_is_found_outside_it() -> None:
    """The weights stand in the main graph, the convolution in a branch."""
    inner = helper.make_graph(
        [helper.make_node("Conv", ["n", "w", "b"], ["m"], name="conv")], "then", [],
        [helper.make_tensor_value_info("m", FP16, ["N", 1, 1, 1])],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Identity", ["n"], ["k"])], "else", [],
        [helper.make_tensor_value_info("k", FP16, ["N", 1, 1, 1])],
    )  # fmt: skip
    model = graph(
        [
            helper.make_node("Cast", ["x"], ["n"], to=FP16),
            helper.make_node("If", ["yes"], ["c"], then_branch=inner, else_branch=other),
            helper.make_node("Cast", ["c"], ["y"], to=FLOAT),
        ],
        [("x", FLOAT, ["N", 1, 1, 1]), ("yes", TensorProto.BOOL, [])], [("y", FLOAT, ["N", 1, 1, 1])],
        [weight("w", np.full((1, 1, 1, 1), 683), FP16), weight("b", np.ones(1), FP16)], opset=22,
    )  # fmt: skip
    feeds = {"x": np.full((1, 1, 1, 1), 3, np.float32), "yes": np.array(True)}
    found = run_once(emulate(model), feeds)["y"]
    assert found.item() == answers(model, feeds)["y"].item() == 2048


def test_results_keep_their_names_and_the_file_is_left_alone() -> None:
    model = biased([1.0])
    before = model.SerializeToString()
    made = {name for node in emulate(model).graph.node for name in node.output}
    assert {"y", "m", "n"} <= made
    assert model.SerializeToString() == before
