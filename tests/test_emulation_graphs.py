"""Any lowered graph can be emulated: foreign FP16 files, subgraphs, functions, Q/DQ, borders, attributes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import (
    BF16,
    FLOAT,
    FP16,
    NUMPY,
    branches,
    cnn,
    graph,
    loud_cnn,
    norm_by_hand,
    overflowing_matmul,
    quantized,
    weight,
)
from numpy_oracle import answers, ulps
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from trtcheck.backends.emulation import emulate, needs_emulation, transform
from trtcheck.backends.graph_types import is_narrow, typed
from trtcheck.backends.onnxruntime import element_types, run_once
from trtcheck.backends.products import facts
from trtcheck.errors import EngineError

X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)


# Files that trtcheck's own lowering did not make.


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_a_file_of_onnx_runtimes_converter_is_rounded_node_by_node(keep_io_types: bool) -> None:
    foreign = convert_float_to_float16(cnn(), keep_io_types=keep_io_types)
    x = X if keep_io_types else X.astype(np.float16)
    expected = answers(foreign, {"x": x})["y"]
    found = run_once(emulate(foreign), {"x": x})["y"]
    assert found.dtype == expected.dtype == (np.float32 if keep_io_types else np.float16)
    assert np.abs(found.astype(float) - expected).max() <= 2**-10
    assert np.mean(found == expected) > 0.8
    plain = run_once(foreign, {"x": x})["y"]
    assert np.mean(plain == expected) < 0.8  # without a rounding a node it is another computation


def test_an_overflow_in_a_converted_file_that_onnx_runtime_calls_fine() -> None:
    foreign = convert_float_to_float16(loud_cnn(), keep_io_types=True)
    assert np.isfinite(run_once(foreign, {"x": X})["y"]).all()
    expected = answers(foreign, {"x": X})["y"]
    found = run_once(emulate(foreign), {"x": X})["y"]
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


def test_an_overflow_in_a_file_made_by_hand_that_onnx_runtime_calls_fine() -> None:
    x = np.full((2, 19), 100, np.float16)
    x[1] = 1
    plain = run_once(norm_by_hand(), {"x": x})["y"]
    assert plain[0, 0] == pytest.approx(19**-0.5, rel=1e-3)
    found = run_once(emulate(norm_by_hand()), {"x": x})["y"]
    # The sum is 1.9e5, inf in FP16, and 100 / inf is 0: the row is lost without any NaN.
    assert (found[0] == 0).all()
    assert found[1, 0] == np.float16(19**-0.5)


def test_a_file_out_of_order_is_sorted() -> None:
    model = overflowing_matmul()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert np.isinf(run_once(emulate(model), {"x": np.array([[400]], np.float32)})["y"])


def test_a_stale_type_in_the_file_does_not_hide_a_narrow_tensor() -> None:
    model = overflowing_matmul()
    model.graph.value_info.append(helper.make_tensor_value_info("product", FLOAT, None))
    assert np.isinf(run_once(emulate(model), {"x": np.array([[400]], np.float32)})["y"])


def test_contributed_operators_are_typed_by_onnx_runtime() -> None:
    model = graph(
        [
            helper.make_node("QuickGelu", ["x"], ["g"], name="gelu", domain="com.microsoft"),
            helper.make_node("Mul", ["g", "g"], ["y"], name="mul"),
        ],
        [("x", FP16, ["N"])],
        [("y", FP16, ["N"])],
        domains={"com.microsoft": 1},
    )
    x = np.array([1, 255, 256], np.float16)
    emulated = emulate(model, element_types)
    assert np.isinf(run_once(emulated, {"x": x})["y"]).tolist() == [False, False, True]
    with pytest.raises(EngineError, match="gelu: the type of tensor 'g' is unknown"):
        emulate(model)  # with nobody to ask


# Mixed with Q/DQ.


@pytest.mark.parametrize("element", [FLOAT, FP16, BF16], ids=["fp32", "fp16", "bf16"])
def test_quantization_mixed_with_narrow_types_is_executed_as_written(element: int) -> None:
    model = quantized(element)
    assert needs_emulation(model)
    assert is_narrow(model) is (element != FLOAT)
    x = 2 * np.random.default_rng(4).standard_normal((3, 2, 6, 6)).astype(np.float32)
    expected = answers(model, {"x": x})["y"]
    np.testing.assert_array_equal(run_once(emulate(model), {"x": x})["y"], expected)
    assert np.isinf(expected).any() == (element == FP16)
    assert facts(typed(model))["types"]["quantized"] == 1


# Borders.


@pytest.mark.parametrize("element", [FP16, BF16], ids=["fp16", "bf16"])
def test_narrow_inputs_and_outputs(element: int) -> None:
    # "twice" is an output that is also read on; "b" is a weight that is an output; "x" passes through.
    model = graph(
        [
            helper.make_node("Add", ["x", "b"], ["twice"], name="add"),
            helper.make_node("Mul", ["twice", "b"], ["y"], name="mul"),
        ],
        [("x", element, ["N"])],
        [("twice", element, ["N"]), ("y", element, ["N"]), ("b", element, [1])],
        [weight("b", [1.0009765625 if element == FP16 else 1.0078125], element)],
    )
    x = np.array([1, 3.140625, 60000, 65504], np.float32)
    new = emulate(model)
    declared = FP16 if element == FP16 else FLOAT
    assert [v.type.tensor_type.elem_type for v in (*new.graph.input, *new.graph.output)] == [declared] * 4
    found = run_once(new, {"x": x})
    expected = answers(model, {"x": x.astype(NUMPY[element])})
    for name in ("twice", "y", "b"):
        np.testing.assert_array_equal(found[name].astype(NUMPY[element]), expected[name])


def test_a_bf16_input_is_rounded_at_the_border() -> None:
    model = graph(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", BF16, ["N"])], [("y", BF16, ["N"])], opset=22
    )
    assert run_once(emulate(model), {"x": np.array([1.001], np.float32)})["y"] == 1.0


def test_names_survive_and_additions_are_recognisable() -> None:
    model = overflowing_matmul()
    model.graph.node[1].output[0] = "p__emulated"
    model.graph.node[2].input[0] = "p__emulated"
    result = transform(model)
    assert result.suffix == "__emulated_"
    names = [node.name for node in result.model.graph.node]
    assert [n for n in names if result.suffix not in n] == ["enter", "matmul", "mul", "leave"]
    outputs = {name for node in result.model.graph.node for name in node.output}
    assert {"narrow", "p__emulated", "scaled", "y"} <= outputs
    assert model.graph.initializer[0].data_type == FP16  # the model that was given is left alone


def test_weights_listed_as_inputs_are_weights() -> None:
    model = overflowing_matmul()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", FP16, [1, 1]))
    new = emulate(model)
    assert [value.name for value in new.graph.input] == ["x"]
    assert np.isinf(run_once(new, {"x": np.array([[400]], np.float32)})["y"])


# Subgraphs and functions.


@pytest.mark.parametrize("branch", [True, False])
def test_branches_round_too(branch: bool) -> None:
    feeds = {"x": np.array([0.1, 1.5, 3], np.float16), "b": np.array(branch)}
    expected = answers(branches(FP16), feeds)["y"]
    np.testing.assert_array_equal(run_once(emulate(branches(FP16)), feeds)["y"], expected)
    assert np.isinf(expected).tolist() == [False, branch, branch]


def test_the_state_of_a_loop_is_rounded_in_every_turn() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "c"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("state", FP16, [1])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("next", FP16, [1]),
         helper.make_tensor_value_info("seen", FP16, [1])],
    )  # fmt: skip
    model = graph(
        [helper.make_node("Loop", ["n", "", "x"], ["last", "all"], name="loop", body=body)],
        [("x", FP16, [1]), ("n", TensorProto.INT64, [])],
        [("last", FP16, [1]), ("all", FP16, None)],
        [weight("c", [1.2001953125], FP16)],
    )
    expected, value = [], np.array([3.0], np.float16)
    with np.errstate(over="ignore"):
        for _ in range(60):
            value = (value.astype(np.float32) * np.float32(1.2001953125)).astype(np.float16)
            expected.append(value)
    found = run_once(emulate(model), {"x": np.array([3.0], np.float16), "n": np.array(60)})
    np.testing.assert_array_equal(found["all"], expected)
    assert np.isinf(found["last"])


def test_a_scan_is_rounded_too() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["total", "row"], ["next"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [helper.make_tensor_value_info(n, FP16, [1]) for n in ("total", "row")],
        [helper.make_tensor_value_info(n, FP16, [1]) for n in ("next", "seen")],
    )
    model = graph(
        [helper.make_node("Scan", ["zero", "x"], ["sum", "all"], name="scan", body=body, num_scan_inputs=1)],
        [("x", FP16, [5, 1])],
        [("sum", FP16, [1]), ("all", FP16, [5, 1])],
        [weight("zero", [2048], FP16)],
    )
    found = run_once(emulate(model), {"x": np.ones((5, 1), np.float16)})
    assert found["sum"] == 2048  # 2048 + 1 is not an FP16 value, five times over


def test_local_functions_are_inlined_and_rounded_inside() -> None:
    square = helper.make_function(
        "local", "Norm", ["a"], ["b"],
        [helper.make_node("Mul", ["a", "a"], ["s"]), helper.make_node("Sqrt", ["s"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = graph(
        [helper.make_node("Norm", ["x"], ["y"], name="norm", domain="local")],
        [("x", FP16, ["N"])],
        [("y", FP16, ["N"])],
        domains={"local": 1},
    )
    model.functions.append(square)
    x = np.array([3, 300], np.float16)
    assert run_once(emulate(model), {"x": x})["y"].tolist() == [3, np.inf]


# Types inside attributes, and what has no plain type.


def test_types_inside_attributes_become_fp32() -> None:
    half = onnx.numpy_helper.from_array(np.array([0.1], np.float16), "value")
    model = graph(
        [
            helper.make_node("Constant", [], ["c"], name="constant", value=half),
            helper.make_node("ConstantOfShape", ["shape"], ["f"], name="fill", value=half),
            helper.make_node("EyeLike", ["f"], ["e"], name="eye", dtype=FP16),
            helper.make_node("CastLike", ["i", "c"], ["l"], name="like"),
            helper.make_node("Add", ["f", "e"], ["s"], name="add"),
            helper.make_node("Add", ["s", "l"], ["y"], name="add2"),
            helper.make_node("RandomUniformLike", ["i"], ["r"], name="random", dtype=FP16),
            helper.make_node("SequenceConstruct", ["y", "e"], ["q"], name="sequence"),
            helper.make_node("SequenceAt", ["q", "at"], ["z"], name="at"),
        ],
        [("i", FLOAT, [2, 2])],
        [("y", FP16, [2, 2]), ("r", FP16, [2, 2]), ("z", FP16, [2, 2])],
        [weight("shape", np.array([2, 2])), weight("at", np.array(1))],
    )
    found = run_once(emulate(model), {"i": np.full((2, 2), 4.001, np.float32)})
    tenth, four = np.float16(0.1), np.float16(4.001)
    one = np.float16(np.float32(tenth) + 1)
    expected = np.array([[one, tenth], [tenth, one]], np.float16).astype(np.float32) + np.float32(four)
    np.testing.assert_array_equal(found["y"], expected.astype(np.float16))
    np.testing.assert_array_equal(found["z"], np.eye(2))
    assert found["r"].dtype == np.float16


def test_fp32_files_need_no_emulation() -> None:
    assert not needs_emulation(cnn())
    assert needs_emulation(convert_float_to_float16(cnn(), keep_io_types=True))
    assert needs_emulation(branches(FP16))


def test_an_unknown_operator_is_named() -> None:
    model = graph(
        [helper.make_node("Mystery", ["x"], ["m"], name="riddle", domain="acme"),
         helper.make_node("Relu", ["m"], ["y"], name="relu")],
        [("x", FP16, ["N"])], [("y", FP16, ["N"])], domains={"acme": 1},
    )  # fmt: skip
    with pytest.raises(EngineError, match=r"(?s)riddle: the type of tensor 'm' is unknown.*acme::Mystery"):
        emulate(model)


def test_mixed_float_types_are_refused_for_hardware_would_refuse_them() -> None:
    model = overflowing_matmul()
    model.graph.initializer[0].CopyFrom(weight("w", [[400]], FLOAT))
    with pytest.raises(EngineError, match=r"(?s)matmul: .*MatMul mixes float types.*FLOAT16.*FLOAT in 'w'"):
        emulate(model)


def test_a_wrongly_declared_output_is_refused() -> None:
    model = overflowing_matmul()
    del model.graph.node[-1]
    model.graph.node[-1].output[0] = "y"
    with pytest.raises(EngineError, match="type"):
        emulate(model)


def test_narrow_sequences_at_the_border_are_refused() -> None:
    model = graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], [("x", FP16, [1])], [])
    model.graph.output.append(helper.make_tensor_sequence_value_info("y", FP16, None))
    with pytest.raises(EngineError, match="'y' is no tensor"):
        emulate(model)


def test_the_distance_of_the_oracle_counts_steps() -> None:
    one = np.array([1.0, -0.0, np.nan], np.float16)
    assert ulps(one, np.array([1.0009765625, 0.0, np.nan], np.float16)) == 1
    assert ulps(np.array([-1e-7], np.float16), np.array([1e-7], np.float16)) == 4
    assert ulps(one, np.array([1.0, 0.0, 0.0], np.float16)) == 1 << 16


def test_a_body_may_use_a_name_of_the_graph_around_it() -> None:
    body = helper.make_graph(
        [helper.make_node("Mul", ["x", "all"], ["y"])],
        "body",
        [helper.make_tensor_value_info("x", FP16, [1])],
        [helper.make_tensor_value_info("y", FP16, [1])],
        [weight("all", [300], FP16)],
    )
    model = graph(
        [helper.make_node("Scan", ["x"], ["all"], name="scan", body=body, num_scan_inputs=1)],
        [("x", FP16, [3, 1])],
        [("all", FP16, [3, 1])],
    )
    found = run_once(emulate(model), {"x": np.array([[3], [300], [1.0009765625]], np.float16)})["all"]
    assert found.ravel().tolist() == [900, np.inf, 300.25]  # 300.29 in FP32
