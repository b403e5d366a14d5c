"""BatchNormalization leaves the graph in FP32 arithmetic, before anything is narrowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import FLOAT, graph, weight
from models import lowered, relative_l2, run, run_rounding
from onnx import ModelProto, TensorProto, helper

RNG = np.random.default_rng(3)


def parameters(channels: int, variance: float = 1.0, seed: int = 0) -> list[TensorProto]:
    """Scale, bias, mean and variance; activations of that variance come out of size 1."""
    rng = np.random.default_rng(seed)
    arrays = {
        "scale": rng.uniform(0.5, 2, channels),
        "bias": rng.normal(size=channels),
        "mean": rng.normal(size=channels) * np.sqrt(variance),
        "var": variance * rng.uniform(0.5, 2, channels),
    }
    return [weight(name, array.astype(np.float32)) for name, array in arrays.items()]


def normalize(source: str, target: str = "y", **attributes: float) -> list[object]:
    inputs = [source, "scale", "bias", "mean", "var"]
    return [helper.make_node("BatchNormalization", inputs, [target], name="bn", **attributes)]


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def conv(variance: float = 1.0, scale: float = 1.0) -> ModelProto:
    return graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv"), *normalize("c", epsilon=1e-3)],
        [("x", FLOAT, ["N", 4, 5, 5])],
        [("y", FLOAT, ["N", 6, 3, 3])],
        [
            weight("w", random(6, 4, 3, 3) * np.float32(scale)),
            weight("b", random(6)),
            *parameters(6, variance),
        ],
    )


def transposed(groups: int) -> ModelProto:
    return graph(
        [
            helper.make_node("ConvTranspose", ["x", "w"], ["c"], name="conv", group=groups, strides=[2, 2]),
            *normalize("c"),
        ],
        [("x", FLOAT, ["N", 4, 5, 5])],
        [("y", FLOAT, ["N", 6, None, None])],
        [weight("w", random(4, 6 // groups, 3, 3)), *parameters(6)],
    )


def gemm(bias: tuple[int, ...] | None, **attributes: float) -> ModelProto:
    inputs = ["x", "w"] if bias is None else ["x", "w", "b"]
    shape = (6, 4) if attributes.get("transB") else (4, 6)
    weights = [weight("w", random(*shape)), *parameters(6)]
    weights += [] if bias is None else [weight("b", random(*bias))]
    return graph(
        [helper.make_node("Gemm", inputs, ["c"], name="gemm", **attributes), *normalize("c")],
        [("x", FLOAT, [3, 4])],
        [("y", FLOAT, [3, 6])],
        weights,
    )


FOLDED = {
    "conv": (conv(), (2, 4, 5, 5)),
    "transposed": (transposed(1), (2, 4, 5, 5)),
    "transposed in groups": (transposed(2), (2, 4, 5, 5)),
    "gemm": (gemm(None), (3, 4)),
    "gemm [N]": (gemm((6,), beta=0.5, alpha=2.0), (3, 4)),
    "gemm [1, N]": (gemm((1, 6), transB=1), (3, 4)),
    "gemm scalar": (gemm((1,), beta=2.0), (3, 4)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folding_changes_no_answer(name: str, tmp_path: Path) -> None:
    model, shape = FOLDED[name]
    made = lowered(model, "fp32", tmp_path)
    assert made.ops() == [model.graph.node[0].op_type]
    assert made.manifest["folded"] == 1
    assert made.model.graph.node[0].name in ("conv", "gemm")
    x = random(*shape)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 1e-6


@pytest.mark.parametrize("bias", [(3, 6), (3, 1)])
def test_gemm_whose_c_differs_by_row_is_rewritten_instead(bias: tuple[int, ...], tmp_path: Path) -> None:
    model = gemm(bias)
    made = lowered(model, "fp32", tmp_path)
    assert made.ops() == ["Gemm", "Mul", "Add"]
    x = random(3, 4)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 1e-6


@pytest.mark.parametrize("variance", [1e7, 1e8])
def test_huge_variances_stay_finite_and_right_in_fp16(variance: float, tmp_path: Path) -> None:
    model = conv(variance, scale=variance**0.5 / 6)
    assert variance > 65504  # so that narrowing the parameter itself gives inf
    x = random(8, 4, 5, 5)
    made = lowered(model, "fp16", tmp_path)
    assert relative_l2(run_rounding(made.model, {"x": x}), run(model, {"x": x})) < 2e-3


def test_batchnorm_of_an_input_becomes_mul_and_add(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Relu", ["x"], ["r"], name="relu"), *normalize("r")],
        [("x", FLOAT, ["N", 6, 2, 2])],
        [("y", FLOAT, ["N", 6, 2, 2])],
        parameters(6, 1e8),
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.ops() == ["Cast", "Relu", "Mul", "Add", "Cast"]
    assert made.node("bn").op_type == "Add"
    assert (made.manifest["folded"], made.manifest["nodes"]["total"]) == (1, 3)
    x = random(8, 6, 2, 2) * np.float32(1e4)
    assert relative_l2(run_rounding(made.model, {"x": x}), run(model, {"x": x})) < 2e-3


def test_convolution_with_a_second_reader_is_not_touched(tmp_path: Path) -> None:
    model = conv()
    model.graph.node.append(helper.make_node("Sigmoid", ["c"], ["second"], name="reader"))
    model.graph.output.append(helper.make_tensor_value_info("second", FLOAT, None))
    made = lowered(model, "fp32", tmp_path)
    assert made.ops() == ["Conv", "Mul", "Add", "Sigmoid"]
    x = random(2, 4, 5, 5)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 1e-6


def test_weights_shared_by_two_convolutions_are_folded_for_one(tmp_path: Path) -> None:
    model = conv()
    model.graph.node.append(helper.make_node("Conv", ["x", "w", "b"], ["second"], name="other"))
    model.graph.output.append(helper.make_tensor_value_info("second", FLOAT, None))
    expected = FOLDED["conv"][0].SerializeToString()
    made = lowered(model, "fp32", tmp_path)
    assert expected != made.model.SerializeToString()
    assert made.node("conv").input[1] != "w"
    assert made.node("other").input[1] == "w"
    x = random(2, 4, 5, 5)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 1e-6


def test_excluded_batchnorm_stays_in_fp32(tmp_path: Path) -> None:
    made = lowered(conv(), "fp16", tmp_path, exclude=["bn"])
    assert made.node("bn").op_type == "BatchNormalization"
    assert (made.types()["conv"], made.types()["bn"]) == ("fp16", "fp32")
    assert made.manifest["folded"] == 0


def test_halves_of_a_rewritten_batchnorm_can_be_excluded_by_the_names_they_get(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Relu", ["x"], ["r"], name="relu"), *normalize("r")],
        [("x", FLOAT, ["N", 6])],
        [("y", FLOAT, ["N", 6])],
        parameters(6),
    )
    made = lowered(model, "fp16", tmp_path, exclude=["bn_mul"])
    assert (made.types()["relu"], made.types()["bn_mul"]) == ("fp16", "fp32")


def test_batchnorm_with_computed_parameters_stays_wide(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Relu", ["x"], ["r"], name="relu"), *normalize("r")],
        [("x", FLOAT, ["N", 6]), ("scale", FLOAT, [6])],
        [("y", FLOAT, ["N", 6])],
        parameters(6)[1:],
    )
    made = lowered(model, "fp16", tmp_path)
    assert "computed" in made.kept()["bn"]
    assert made.types()["bn"] == "fp32"
    x = {"x": random(4, 6), "scale": random(6)}
    assert relative_l2(run(made.model, x), run(model, x)) < 2e-3


def test_batchnorm_in_training_mode_stays_wide(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"], name="relu"), *normalize("r", training_mode=1)]
    nodes[1].output.extend(["running_mean", "running_var"])
    model = graph(nodes, [("x", FLOAT, [4, 6])], [("y", FLOAT, [4, 6])], parameters(6))
    made = lowered(model, "fp16", tmp_path)
    assert "training mode" in made.kept()["bn"]
    x = random(4, 6)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 2e-3
