"""TF32 as a precision: its rounding against numpy's bits, where it is applied, and what it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import FLOAT, FP16, cnn, graph, plan_of, quantized, save, weight
from hypothesis import given, settings
from hypothesis import strategies as st
from models import lowered
from onnx import TensorProto, helper

from trtcheck.backends.emulation import emulate
from trtcheck.backends.onnxruntime import OnnxRuntimeCpu, run_once, session_options
from trtcheck.backends.tf32 import rounded
from trtcheck.case import Numerics, Precision
from trtcheck.errors import EngineError, LoweringError

RNG = np.random.default_rng(11)
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
LARGEST = np.float32(2.0**114)
SMALLEST = np.finfo(np.float32).tiny


def by_bits(values: np.ndarray) -> np.ndarray:
    """TF32 by the bits: 13 of them rounded away, to nearest even; what is too large or no number passes."""
    bits = values.view(np.uint32).astype(np.uint64)
    half = np.uint64(0xFFF) + ((bits >> np.uint64(13)) & np.uint64(1))
    kept = ((bits + half) & ~np.uint64(0x1FFF)).astype(np.uint32).view(np.float32)
    return np.where(np.abs(values) < LARGEST, kept, values)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def same_bits(found: np.ndarray, expected: np.ndarray) -> bool:
    numbers = ~np.isnan(expected)
    return bool(
        np.array_equal(found[numbers].view(np.uint32), expected[numbers].view(np.uint32))
        and np.isnan(found[~numbers]).all()
    )


def all_kinds(count: int) -> np.ndarray:
    """Normal numbers of every size (half of them halfway between two of TF32), zeros, infinities, NaN."""
    bits = RNG.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)
    bits[::2] = (bits[::2] & ~np.uint32(0x1FFF)) | np.uint32(0x1000)
    values = bits.view(np.float32)
    edges = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        LARGEST,
        np.nextafter(LARGEST, np.float32(0)),
        SMALLEST,
        3.4e38,
    ]
    values = np.concatenate([values, np.array(edges, np.float32)])
    values[np.isnan(values)] = np.nan  # a quiet one: processors complain of the others
    return np.where(np.abs(values) < SMALLEST, np.copysign(np.float32(0), values), values)


def product(left: np.ndarray, element: int = FLOAT) -> onnx.ModelProto:
    """``y = x @ left``, x in FP32."""
    return graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        [("x", element, ["N", left.shape[0]])],
        [("y", element, ["N", left.shape[1]])],
        [weight("w", left, element)],
    )


# The rounding.


def test_weights_are_rounded_as_the_bits_say() -> None:
    values = all_kinds(1_000_000)
    assert same_bits(rounded(values), by_bits(values))


def test_subnormal_weights_stay_where_they_are_within_a_tf32_step() -> None:
    values = RNG.integers(0, 1 << 23, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    assert np.abs(rounded(values) - values).max() <= 2.0**-137


@pytest.mark.parametrize("level", LEVELS)
def test_the_graph_rounds_as_the_bits_say_at_every_optimization_level(level: str) -> None:
    model = emulate(product(np.ones((1, 1), np.float32)), tf32=True)
    options = session_options(2)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = all_kinds(200_000)
    (found,) = session.run(None, {"x": values[:, np.newaxis]})
    assert same_bits(found[:, 0] + np.float32(0), by_bits(values) + np.float32(0))


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32, allow_subnormal=False))
def test_every_number_is_rounded_as_its_bits_say(value: float) -> None:
    values = np.array([value], np.float32)
    assert same_bits(rounded(values), by_bits(values))


def test_ties_go_to_even() -> None:
    step = 2.0**-10
    values = np.array([1 + step / 2, 1 + 3 * step / 2, 1 + 0.51 * step], np.float32)
    assert rounded(values).tolist() == [1, 1 + 2 * step, 1 + step]


# Where it is applied.


def test_a_product_whose_error_is_known() -> None:
    """Both factors are 1 + 2**-11 + 2**-20, which TF32 takes for 1 + 2**-10."""
    factor = np.float32(1 + 2.0**-11 + 2.0**-20)
    found = run_once(emulate(product(np.array([[factor]])), tf32=True), {"x": np.array([[factor]])})["y"]
    assert found.item() == np.float32((1 + 2.0**-10) ** 2)
    assert run_once(product(np.array([[factor]])), {"x": np.array([[factor]])})["y"].item() < 1.001


def test_convolutions_and_gemm_read_rounded_factors_and_exact_biases(tmp_path: Path) -> None:
    model, x = cnn(), random(4, 1, 12, 12)
    source = OnnxRuntimeCpu(threads=1)
    path = save(model, tmp_path / "cnn.onnx")
    facts = source.build(plan_of(path, Precision.TF32), tmp_path / "engine.onnx")
    assert facts["computes"] == {"conv": "tf32", "dw": "tf32", "pw": "tf32", "gemm": "tf32"}
    engine = onnx.load(tmp_path / "engine.onnx")
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in engine.graph.initializer}
    for original in model.graph.initializer:
        array = onnx.numpy_helper.to_array(original)
        if original.name.startswith("b") or original.name in ("w0", "w1"):  # over a single channel
            np.testing.assert_array_equal(held[original.name], array)
        else:
            assert original.name not in held
            np.testing.assert_array_equal(held[f"{original.name}__tf32"], by_bits(array))
    exact = run_once(model, {"x": x})["y"]
    error = np.abs(run_once(engine, {"x": x})["y"] - exact).max()
    assert 1e-6 < error < 1e-2


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_against_numpy(transposed: int) -> None:
    w, b, x = random(16, 8), random(8), random(5, 16)
    model = graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", transB=transposed)],
        [("x", FLOAT, ["N", 16])], [("y", FLOAT, ["N", 8])],
        [weight("w", np.ascontiguousarray(w.T) if transposed else w), weight("b", b)],
    )  # fmt: skip
    expected = by_bits(x).astype(np.float64) @ by_bits(w) + b
    found = run_once(emulate(model, tf32=True), {"x": x})["y"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6)
    assert np.abs(x.astype(np.float64) @ w + b - expected).max() > 1e-4


def test_two_readers_share_one_rounded_tensor_and_others_read_the_exact_one() -> None:
    w = random(4, 4)
    model = graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
            helper.make_node("MatMul", ["x", "w"], ["b"], name="second"),
            helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
            helper.make_node("Add", ["sum", "w"], ["y"], name="exact"),
        ],
        [("x", FLOAT, [4, 4])], [("y", FLOAT, [4, 4])], [weight("w", w)],
    )  # fmt: skip
    made = emulate(model, tf32=True)
    assert sum(node.op_type == "Where" for node in made.graph.node) == 1
    x = random(4, 4)
    expected = 2 * (by_bits(x).astype(np.float64) @ by_bits(w)) + w
    np.testing.assert_allclose(run_once(made, {"x": x})["y"], expected, rtol=0, atol=4e-6)


def branches() -> onnx.ModelProto:
    """``y = x @ w if b else x + w``, w from outside."""
    then = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["r"], name="inner")],
        "then", [], [helper.make_tensor_value_info("r", FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["r"], name="sum")],
        "else", [], [helper.make_tensor_value_info("r", FLOAT, None)],
    )  # fmt: skip
    return graph(
        [helper.make_node("If", ["b"], ["y"], name="if", then_branch=then, else_branch=other)],
        [("x", FLOAT, [4, 4]), ("b", TensorProto.BOOL, [])], [("y", FLOAT, [4, 4])],
        [weight("w", random(4, 4))],
    )  # fmt: skip


def test_products_inside_subgraphs_are_rounded_and_named(tmp_path: Path) -> None:
    model, x = branches(), random(4, 4)
    w = onnx.numpy_helper.to_array(model.graph.initializer[0])
    made = emulate(model, tf32=True)
    found = run_once(made, {"x": x, "b": np.array(True)})["y"]
    np.testing.assert_allclose(found, by_bits(x).astype(np.float64) @ by_bits(w), rtol=0, atol=4e-6)
    assert np.abs(found - x @ w).max() > 1e-5
    np.testing.assert_array_equal(run_once(made, {"x": x, "b": np.array(False)})["y"], x + w)
    path = save(model, tmp_path / "model.onnx")
    facts = OnnxRuntimeCpu(threads=1).build(plan_of(path, Precision.TF32), tmp_path / "engine.onnx")
    assert facts["computes"] == {"inner": "tf32"}


def test_einsum_is_left_in_fp32() -> None:
    model = graph(
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="einsum", equation="ij,jk->ik")],
        [("x", FLOAT, [4, 4])], [("y", FLOAT, [4, 4])], [weight("w", random(4, 4))],
    )  # fmt: skip
    assert emulate(model, tf32=True).graph == emulate(model).graph


def test_integer_products_and_fp16_ones_are_not_touched() -> None:
    for model in (product(random(4, 4), FP16), quantized(FLOAT)):
        assert emulate(model, tf32=True).graph == emulate(model).graph


def test_the_fp32_products_of_a_narrow_engine_may_use_tf32(tmp_path: Path) -> None:
    made = lowered(cnn(), "fp16", tmp_path, exclude=("gemm",))
    assert made.manifest["kept"][0]["node"] == "gemm"
    backend, target = OnnxRuntimeCpu(threads=1), tmp_path / "engine.onnx"
    path = tmp_path / "fp16.onnx"
    x, answers = random(4, 1, 12, 12), []
    for tf32 in (False, True):
        plan = plan_of(path, Precision.FP16, tf32=tf32)
        computes = backend.build(plan, target)["computes"]
        assert computes == dict.fromkeys(("conv", "dw", "pw"), "fp16") | {"gemm": "tf32" if tf32 else "fp32"}
        assert backend.numerics(plan) is Numerics.EMULATED
        answers.append(backend.load(target, plan).infer({"x": x})["y"])
    assert 1e-7 < np.abs(answers[0] - answers[1]).max() < 1e-2


def test_too_old_an_opset_is_told() -> None:
    model = product(random(2, 2))
    model.opset_import[0].version = 8
    with pytest.raises(EngineError, match=r"(?s)product: TF32 cannot.*opset 9 or later.*opset 8"):
        emulate(model, tf32=True)


# The precision.


def test_lowering_gives_the_graph_of_fp32(tmp_path: Path) -> None:
    made = lowered(cnn(), "tf32", tmp_path)
    assert made.model == lowered(cnn(), "fp32", tmp_path).model
    assert made.manifest["precision"] == "tf32"


def test_an_exclusion_cannot_be_honoured(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match=r"(?s)exclude cannot be honoured under TF32.*one switch.*gemm"):
        lowered(cnn(), "tf32", tmp_path, exclude=("gemm",))


def test_numerics_are_emulated_where_anything_is_rounded(tmp_path: Path) -> None:
    backend = OnnxRuntimeCpu(threads=1)
    path = save(cnn(), tmp_path / "cnn.onnx")
    assert backend.numerics(plan_of(path, Precision.TF32)) is Numerics.EMULATED
    assert backend.numerics(plan_of(path, Precision.FP32, tf32=True)) is Numerics.NATIVE
    relu = graph([helper.make_node("Relu", ["x"], ["y"])], [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])])
    path = save(relu, tmp_path / "relu.onnx")
    assert backend.numerics(plan_of(path, Precision.TF32)) is Numerics.NATIVE
    assert backend.build(plan_of(path, Precision.TF32), tmp_path / "engine.onnx")["computes"] == {}
