"""Models of any age and habit come into one shape, and nodes keep the names that users know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FLOAT, graph, weight
from models import lowered, run
from onnx import helper

from trtcheck.errors import LoweringError, ModelError

X = np.linspace(-2, 3, 12, dtype=np.float32).reshape(2, 6)


def test_old_model_with_weights_listed_as_inputs_is_lifted(tmp_path: Path) -> None:
    old = graph(
        [
            helper.make_node("Unsqueeze", ["x"], ["u"], name="up", axes=[2]),
            helper.make_node("Squeeze", ["u"], ["s"], name="down", axes=[2]),
            helper.make_node("MatMul", ["s", "w"], ["m"], name="product"),
            helper.make_node("Clip", ["m"], ["y"], name="clip", min=-1.0, max=1.0),
        ],
        [("x", FLOAT, ["N", 6]), ("w", FLOAT, [6, 2])],
        [("y", FLOAT, ["N", 2])],
        [weight("w", np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2))],
        opset=9,
    )
    old.ir_version = 3
    expected = (X @ np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)).clip(-1, 1)
    made = lowered(old, "fp16", tmp_path)
    assert [value.name for value in made.model.graph.input] == ["x"]
    assert (made.manifest["opset"], made.model.ir_version) == (13, 8)
    assert {"up", "down", "product", "clip"} <= {node.name for node in made.model.graph.node}
    np.testing.assert_allclose(run(made.model, {"x": X}), expected, atol=4e-3)
    quantized = lowered(old, "int8", tmp_path, [{"x": X}])
    assert quantized.manifest["nodes"]["quantized"] == 1
    np.testing.assert_allclose(run(quantized.model, {"x": X}), expected, atol=0.05)


def test_lifting_keeps_an_output_of_unknown_rank(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", FLOAT, ["N", 6])],
        [("y", FLOAT, None)],
        [weight("w", np.eye(6, dtype=np.float32))],
        opset=12,
    )
    made = lowered(model, "fp16", tmp_path)
    assert not made.model.graph.output[0].type.tensor_type.HasField("shape")  # the converter says: a scalar
    np.testing.assert_allclose(run(made.model, {"x": X}), X, rtol=1e-3)


def test_operator_without_a_successor_is_a_clear_error(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Relu", ["x"], ["y"], consumed_inputs=[0])],
        [("x", FLOAT, [6])],
        [("y", FLOAT, [6])],
        opset=1,
    )
    model.graph.node.append(helper.make_node("ATen", ["y"], ["z"], operator="?"))
    with pytest.raises(
        LoweringError, match=r"cannot be lifted from opset 1 to 13[\s\S]*export the model again"
    ):
        lowered(model, "fp16", tmp_path)


def test_missing_file_is_a_model_error(tmp_path: Path) -> None:
    from trtcheck.case import LoweringSpec, Precision
    from trtcheck.precision import lower

    with pytest.raises(ModelError, match="no such ONNX file"):
        lower(tmp_path / "none.onnx", Precision.FP16, LoweringSpec(), target=tmp_path / "y.onnx")


def test_names_survive_and_become_unique(tmp_path: Path) -> None:
    names = ["twin", "", "twin", "twin_1", ""]
    tensors = ["x", "a", "b", "c", "d", "y"]
    model = graph(
        [
            helper.make_node("Relu" if i % 2 else "Sigmoid", [tensors[i]], [tensors[i + 1]], name=name)
            for i, name in enumerate(names)
        ],
        [("x", FLOAT, [2, 6])],
        [("y", FLOAT, [2, 6])],
    )
    made = lowered(model, "fp32", tmp_path)
    assert [n.name for n in made.model.graph.node] == ["twin", "Relu_1", "twin_2", "twin_1", "Sigmoid_4"]
    only = lowered(model, "fp16", tmp_path, exclude=["Sigmoid_4"])
    assert only.types()["Sigmoid_4"] == "fp32"
    assert only.types()["Relu_1"] == "fp16"


def test_functions_are_inlined_and_constants_folded(tmp_path: Path) -> None:
    scale = helper.make_function(
        "mine",
        "Half",
        ["a"],
        ["b"],
        [
            helper.make_node("Constant", [], ["half"], value_float=0.5),
            helper.make_node("Mul", ["a", "half"], ["b"], name="halve"),
        ],
        [helper.make_opsetid("", 17)],
    )
    model = graph(
        [
            helper.make_node("Half", ["x"], ["h"], domain="mine", name="call"),
            helper.make_node("Identity", ["w"], ["w1"]),
            helper.make_node("Transpose", ["w1"], ["w2"], perm=[1, 0]),
            helper.make_node("Constant", [], ["shape"], value_ints=[6, 2]),
            helper.make_node("Reshape", ["w2", "shape"], ["w3"]),
            helper.make_node("MatMul", ["h", "w3"], ["y"], name="product"),
        ],
        [("x", FLOAT, ["N", 6])],
        [("y", FLOAT, ["N", 2])],
        [weight("w", np.arange(12, dtype=np.float32).reshape(3, 4))],
        domains={"mine": 1},
    )
    model.functions.append(scale)
    made = lowered(model, "int8", tmp_path, [{"x": X}], rest="fp32")
    assert made.ops() == ["Mul", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    expected = X / 2 @ np.arange(12, dtype=np.float32).reshape(3, 4).T.reshape(6, 2)
    assert np.abs(run(made.model, {"x": X}) - expected).max() < 0.02 * np.abs(expected).max()


def test_weights_that_are_stored_in_fp16_are_weights(tmp_path: Path) -> None:
    stored = np.linspace(-1, 1, 12).reshape(6, 2).astype(np.float16)
    model = graph(
        [
            helper.make_node("Cast", ["w16"], ["w"], name="unpack", to=FLOAT),
            helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        ],
        [("x", FLOAT, ["N", 6])],
        [("y", FLOAT, ["N", 2])],
        [weight("w16", stored)],
    )
    made = lowered(model, "int8", tmp_path, [{"x": X}], method="minmax")
    assert made.manifest["nodes"] == {"total": 1, "narrowed": 0, "quantized": 1, "wide": 0}
    assert made.weight("w_quantized").shape == (6, 2)
    np.testing.assert_allclose(run(made.model, {"x": X}), X @ stored.astype(np.float32), atol=0.1)


def test_unknown_exclusion_names_what_comes_close(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("Relu", ["x"], ["r"], name="stem/relu"),
            helper.make_node("Exp", ["r"], ["y"], name="head"),
        ],
        [("x", FLOAT, [6])],
        [("y", FLOAT, [6])],
    )
    for precision in ("fp32", "fp16"):
        with pytest.raises(LoweringError, match=r"'stem/rely'[\s\S]*did you mean 'stem/relu'\?"):
            lowered(model, precision, tmp_path, exclude=["head", "stem/rely"])
    with pytest.raises(LoweringError, match=r"names no node of the model: 'Conv_\*'"):
        lowered(model, "fp16", tmp_path, exclude=["Conv_*"])


def test_a_name_with_brackets_is_taken_literally(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("Relu", ["x"], ["r"], name="head"),
            helper.make_node("Exp", ["r"], ["y"], name="block[0]"),
        ],
        [("x", FLOAT, [6])],
        [("y", FLOAT, [6])],
    )
    made = lowered(model, "fp16", tmp_path, exclude=["block[0]"])
    assert made.kept()["block[0]"] == "excluded"


def test_dimensions_written_as_minus_one_or_question_mark_are_left_open(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Relu", ["x"], ["y"], name="relu")],
        [("x", FLOAT, [-1, 3, "?", "?"])],
        [("y", FLOAT, [-1, 3, "?", "width"])],
    )
    made = lowered(model, "fp16", tmp_path).model.graph
    dims = [d for value in (*made.input, *made.output) for d in value.type.tensor_type.shape.dim]
    assert [d.dim_value for d in dims] == [0, 3, 0, 0] * 2
    assert [d.dim_param for d in dims] == [""] * 7 + ["width"]


def test_subgraphs_are_lifted_too(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(op, ["h"], [name], axes=[1], keepdims=1)],
            name,
            [],
            [helper.make_tensor_value_info(name, FLOAT, None)],
        )

    model = graph(
        [
            helper.make_node("Mul", ["x", "two"], ["h"], name="double"),
            helper.make_node("ReduceSum", ["h"], ["s"], name="sum", axes=[0, 1], keepdims=0),
            helper.make_node("Greater", ["s", "zero"], ["c"], name="test"),
            helper.make_node(
                "If",
                ["c"],
                ["z"],
                name="if",
                then_branch=branch("t", "ReduceSum"),
                else_branch=branch("e", "ReduceMax"),
            ),
            helper.make_node("Mul", ["z", "two"], ["y"], name="again"),
        ],
        [("x", FLOAT, ["N", 6])],
        [("y", FLOAT, ["N", 1])],
        [weight("two", np.float32(2)), weight("zero", np.float32(0))],
        opset=11,
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.kept() == {"if": "has a subgraph"}
    types = made.types()
    assert (types["double"], types["if"], types["again"]) == ("fp16", "fp32", "fp16")
    np.testing.assert_allclose(run(made.model, {"x": X}), 4 * X.sum(1, keepdims=True), rtol=2e-3)
    np.testing.assert_allclose(run(made.model, {"x": -X}), 4 * (-X).max(1, keepdims=True), rtol=2e-3)
