"""FP16 and BF16 graphs: strongly typed, with FP32 only where the operator or the user wants it."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import FLOAT, FP16, cnn, graph, weight
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import lowered, relative_l2, run, run_rounding
from onnx import ModelProto, TensorProto, helper

from trtcheck.errors import LoweringError
from trtcheck.precision.constants import round_array

RNG = np.random.default_rng(5)
BOOL, INT64, DOUBLE = int(TensorProto.BOOL), int(TensorProto.INT64), int(TensorProto.DOUBLE)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def chain(
    *steps: tuple[str, list[str]], weights: list[TensorProto] | None = None, opset: int = 17
) -> ModelProto:
    """Nodes n0, n1, … each fed with the result of the one before and the named constants; x to y, (N, 6)."""
    nodes, last = [], "x"
    for index, (op, others) in enumerate(steps):
        output = "y" if index == len(steps) - 1 else f"t{index}"
        nodes.append(helper.make_node(op, [last, *others], [output], name=f"n{index}"))
        last = output
    return graph(nodes, [("x", FLOAT, ["N", 6])], [("y", FLOAT, None)], weights or [], opset=opset)


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_classifier_is_narrow_throughout_and_close(precision: str, limit: float, tmp_path: Path) -> None:
    model = cnn()
    made = lowered(model, precision, tmp_path)
    inner = {name: kind for name, kind in made.types().items() if not name.startswith("y")}
    kept = [] if precision == "fp16" else ["hardswish"]  # which TensorRT does not take in BF16
    assert {name for name in inner if inner[name] != precision} == {
        n for k in kept for n in (k, "c1_fp32_cast")
    }
    assert made.ops().count("Cast") == 2 + 2 * len(kept)
    assert [entry["node"] for entry in made.manifest["kept"]] == kept
    assert [v.type.tensor_type.elem_type for v in (*made.model.graph.input, *made.model.graph.output)] == [
        FLOAT
    ] * 2
    counts = {"total": 9, "narrowed": 9 - len(kept), "quantized": 0, "wide": len(kept)}
    assert made.manifest["nodes"] == counts
    x = random(3, 1, 12, 12)
    error = relative_l2(run_rounding(made.model, {"x": x}), run(model, {"x": x}))
    assert limit / 100 < error < limit  # neither wrong nor FP32 inside


def test_fp16_model_loads_in_onnxruntime(tmp_path: Path) -> None:
    model, x = cnn(), random(3, 1, 12, 12)
    assert relative_l2(run(lowered(model, "fp16", tmp_path).model, {"x": x}), run(model, {"x": x})) < 2e-3


def sum_of_squares() -> ModelProto:
    """RMS normalization written out: the sum of 4096 squares of size 50 is 2e5, its mean is 50."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"], name="square"),
        helper.make_node("ReduceSum", ["squares", "axis"], ["sum"], name="sum"),
        helper.make_node("Mul", ["sum", "n"], ["mean"], name="mean"),
        helper.make_node("Sqrt", ["mean"], ["rms"], name="root"),
        helper.make_node("Div", ["x", "rms"], ["y"], name="divide"),
    ]
    weights = [weight("axis", np.array([1])), weight("n", np.float32([1 / 4096]))]
    return graph(nodes, [("x", FLOAT, ["N", 4096])], [("y", FLOAT, ["N", 4096])], weights)


def test_sum_of_squares_overflows_fp16_and_one_exclusion_restores_it(tmp_path: Path) -> None:
    model = sum_of_squares()
    x = random(2, 4096) * np.float32(7)
    assert (x * x).sum(1).min() > 65504
    expected = run(model, {"x": x})
    assert not run_rounding(lowered(model, "fp16", tmp_path).model, {"x": x}).any()  # x / inf
    made = lowered(model, "fp16", tmp_path, exclude=["sum"])
    assert relative_l2(run_rounding(made.model, {"x": x}), expected) < 2e-3
    # What scales the sum down stays with it; where it meets another tensor, it is narrowed again.
    types = made.types()
    kinds = [types[name] for name in ("square", "sum", "mean", "root", "divide")]
    assert kinds == ["fp16", "fp32", "fp32", "fp32", "fp16"]
    assert made.kept()["root"] == "reworks the result of 'sum', which is excluded"


def test_exclusion_ends_at_the_next_convolution(tmp_path: Path) -> None:
    made = lowered(cnn(), "fp16", tmp_path, exclude=["conv"])
    types = made.types()
    assert [types[n] for n in ("conv", "relu", "dw", "hardswish")] == ["fp32", "fp32", "fp16", "fp16"]
    assert made.manifest["nodes"] == {"total": 9, "narrowed": 7, "quantized": 0, "wide": 2}
    assert made.manifest["exclude"] == ["conv"]


def test_mask_and_epsilon_keep_their_meaning(tmp_path: Path) -> None:
    lowest = np.finfo(np.float32).min
    mask = np.float32([0, 0, lowest, 0, -np.inf, 0])
    model = chain(
        ("Add", ["mask"]),
        ("Softmax", []),
        ("ReduceSum", ["axis"]),
        ("Sub", ["one"]),
        ("Abs", []),
        ("Add", ["eps"]),
        weights=[
            weight("mask", mask),
            weight("axis", np.array([1])),
            weight("one", np.float32(1)),
            weight("eps", np.float32(1e-12)),
        ],
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.manifest["clamped"] == ["mask", "eps"]
    assert made.weight("mask").tolist() == [0, 0, -65504, 0, -np.inf, 0]
    assert made.weight("eps") == np.float16(6e-8)
    assert made.weight("eps").shape == ()
    assert np.isfinite(run_rounding(made.model, {"x": random(2, 6)})).all()
    assert (run_rounding(made.model, {"x": random(2, 6)}) > 0).all()  # 1e-12 as FP16 is 0
    wide = lowered(model, "bf16", tmp_path)
    assert wide.manifest["clamped"] == [
        "mask"
    ]  # -3.4028e38 rounds to -inf in bfloat16, whose end is 3.3895e38
    assert np.isfinite(wide.weight("mask").astype(np.float32)).sum() == 5


FLOATS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=0, max_dims=2, max_side=4), elements=st.floats(width=32)
)


@given(
    FLOATS, st.sampled_from([(TensorProto.FLOAT16, np.float16), (TensorProto.BFLOAT16, ml_dtypes.bfloat16)])
)
def test_rounding_is_to_nearest_and_never_makes_infinity_or_zero(
    array: np.ndarray, kind: tuple[int, type]
) -> None:
    narrow, dtype = kind
    rounded, changed = round_array(array, narrow)
    assert (rounded.dtype, rounded.shape) == (np.dtype(dtype), array.shape)
    np.testing.assert_array_equal(np.isfinite(rounded.astype(np.float32)), np.isfinite(array))
    with np.errstate(over="ignore"):
        plain = array.astype(dtype)
    differs = (plain.view(np.uint16) != rounded.view(np.uint16)) & ~np.isnan(array)
    assert bool(differs.any()) == changed
    if array.size == 1:
        assert bool((rounded == 0).all()) == bool((array == 0).all())


def test_resize_scales_stay_fp32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Resize", ["r", "", "scales"], ["y"], name="resize", mode="linear"),
    ]
    model = graph(
        nodes,
        [("x", FLOAT, ["N", 2, 3, 3])],
        [("y", FLOAT, ["N", 2, None, None])],
        [weight("scales", np.float32([1, 1, 2.1, 2.1]))],
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.types()["resize"] == "fp16"
    assert made.weight("scales").dtype == np.float32
    x = random(1, 2, 3, 3)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 2e-3


def test_sizes_computed_in_float_stay_fp32(tmp_path: Path) -> None:
    # Exporters write "twice as long" as Cast, Mul, Cast; FP16 counts to 2048, so 2049 * 2 would become 4096.
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Cast", ["shape"], ["float"], name="enter", to=FLOAT),
        helper.make_node("Mul", ["float", "twice"], ["doubled"], name="double"),
        helper.make_node("Cast", ["doubled"], ["sizes"], name="leave", to=INT64),
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Resize", ["r", "", "", "sizes"], ["y"], name="resize"),
    ]
    model = graph(
        nodes,
        [("x", FLOAT, [1, 1, "L"])],
        [("y", FLOAT, [1, 1, "M"])],
        [weight("twice", np.float32([1, 1, 2]))],
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.kept() == {"double": "computes shapes"}
    assert run(made.model, {"x": random(1, 1, 2049)}).shape == (1, 1, 4098)


def test_casts_of_the_model_follow_their_readers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["f"], name="to_narrow", to=FLOAT),
        helper.make_node("Mul", ["f", "x"], ["m"], name="mul"),
        helper.make_node("Cast", ["m"], ["same"], name="needless", to=FLOAT),
        helper.make_node("Relu", ["same"], ["y"], name="relu"),
        helper.make_node("Cast", ["ids"], ["g"], name="to_both", to=FLOAT),
        helper.make_node("Sin", ["g"], ["narrow"], name="sin"),
        helper.make_node("Exp", ["g"], ["wide"], name="exp"),
        helper.make_node("Add", ["narrow", "wide"], ["second"], name="add"),
        helper.make_node("Cast", ["second"], ["double"], name="to_double", to=DOUBLE),
        helper.make_node("Mul", ["double", "pi"], ["third"], name="exact"),
        helper.make_node("Cast", ["ids"], ["h"], name="to_integer_only", to=FLOAT),
        helper.make_node("Cast", ["h"], ["fourth"], name="back", to=INT64),
    ]
    model = graph(
        nodes,
        [("ids", INT64, ["N", 6]), ("x", FLOAT, ["N", 6])],
        [("y", FLOAT, ["N", 6]), ("third", DOUBLE, ["N", 6]), ("fourth", INT64, ["N", 6])],
        [weight("pi", np.array([np.pi]))],
    )
    made = lowered(model, "fp16", tmp_path, exclude=["exp"])
    types = made.types()
    assert {n: types[n] for n in ("to_narrow", "needless", "to_both", "to_integer_only")} == {
        "to_narrow": "fp16", "needless": "fp16", "to_both": "fp32", "to_integer_only": "fp32",
    }  # fmt: skip
    assert types["exact"] == "other"
    # One cast for x, one for the tensor that both read, one for exp's result, one for the output y.
    assert made.ops().count("Cast") == 6 + 4
    ids = np.array([[1, 2, 3, 4, -5, -2049]])
    session = onnx.reference.ReferenceEvaluator(made.model)
    y, third, fourth = session.run(None, {"ids": ids, "x": np.ones((1, 6), np.float32)})
    assert y.dtype == np.float32
    assert third.dtype == np.float64
    assert fourth.tolist() == ids.tolist()  # -2049 is no FP16 number


def test_types_that_attributes_state(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["dims"], ["zeros"], name="zeros"),
        helper.make_node("EyeLike", ["zeros"], ["eye"], name="eye", dtype=FLOAT),
        helper.make_node("Range", ["start", "end", "step"], ["range"], name="range"),
        helper.make_node("MatMul", ["x", "eye"], ["m"], name="product"),
        helper.make_node("Add", ["m", "range"], ["a"], name="add"),
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("CastLike", ["mask", "r"], ["like"], name="like"),
        helper.make_node("Mul", ["a", "like"], ["y"], name="mul"),
    ]
    model = graph(
        nodes,
        [("x", FLOAT, [2, 6]), ("mask", BOOL, [2, 6]), ("start", FLOAT, [])],
        [("y", FLOAT, [2, 6])],
        [
            weight("dims", np.array([6, 6])), weight("end", np.float32(6)), weight("step", np.float32(1)),
        ],
    )  # fmt: skip
    made = lowered(model, "fp16", tmp_path)
    kept = made.kept()
    assert kept["eye"] == "EyeLike states its own type"
    assert kept["range"] == "ONNX opset 17 has no float16 Range"
    types = made.types()
    assert (types["zeros"], types["like"], types["eye"]) == ("fp16", "fp16", "fp32")
    feeds = {"x": random(2, 6), "mask": random(2, 6) > 0, "start": np.array(0, np.float32)}
    assert relative_l2(run(made.model, feeds), run(model, feeds)) < 2e-3


def test_shared_constant_serves_narrow_and_wide_readers(tmp_path: Path) -> None:
    model = chain(("Add", ["c"]), ("MatMul", ["w"]), ("Add", ["c"]), weights=[
        weight("c", np.float32([1e-9, 1, 2, 3, 4, 1e6])), weight("w", np.eye(6, dtype=np.float32)),
    ])  # fmt: skip
    made = lowered(model, "fp16", tmp_path, exclude=["n2"])
    assert made.weight("c").dtype == np.float32
    assert made.weight("c_fp16").dtype == np.float16
    assert made.node("n2").input[1] == "c"
    assert made.weight("c")[5] == np.float32(1e6)
    assert made.weight("c_fp16")[5] == 65504


def test_output_that_is_also_read_inside_keeps_its_name_and_type(tmp_path: Path) -> None:
    model = chain(("Relu", []), ("MatMul", ["w"]), weights=[weight("w", np.eye(6, dtype=np.float32))])
    model.graph.output.append(helper.make_tensor_value_info("t0", FLOAT, ["N", 6]))
    made = lowered(model, "fp16", tmp_path)
    assert made.node("n1").input[0] == "t0_fp16"
    assert made.types()["n1"] == "fp16"
    assert [v.name for v in made.model.graph.output] == ["y", "t0"]
    x = random(2, 6)
    for found in onnx.reference.ReferenceEvaluator(made.model).run(None, {"x": x}):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.maximum(x, 0).astype(np.float16).astype(np.float32))


def test_foreign_operator_stays_wide_and_so_does_what_it_makes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Gelu", ["r"], ["g"], name="gelu", domain="com.microsoft"),
        helper.make_node("Neg", ["g"], ["y"], name="neg"),
    ]
    model = graph(
        nodes, [("x", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 6])], opset=17, domains={"com.microsoft": 1}
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.kept() == {
        "gelu": "is of the non-standard domain 'com.microsoft'",
        "neg": "tensor 'g' is of unknown type",
    }
    x = random(2, 6)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 2e-3
    # With the tensor's type declared in the file, only the foreign node stays wide.
    model.graph.value_info.append(helper.make_tensor_value_info("g", FLOAT, ["N", 6]))
    declared = lowered(model, "fp16", tmp_path)
    assert list(declared.kept()) == ["gelu"]
    assert relative_l2(run(declared.model, {"x": x}), run(model, {"x": x})) < 2e-3


def test_declared_types_follow_the_tensors(tmp_path: Path) -> None:
    model = cnn()
    model.graph.value_info.append(helper.make_tensor_value_info("c0", FLOAT, ["N", 8, 12, 12]))
    made = lowered(model, "fp16", tmp_path)
    assert [v.type.tensor_type.elem_type for v in made.model.graph.value_info] == [FP16]


def test_bf16_lifts_to_the_opset_that_convolves_in_bfloat16(tmp_path: Path) -> None:
    assert lowered(cnn(), "bf16", tmp_path).manifest["opset"] == 22
    assert lowered(cnn(), "fp16", tmp_path).manifest["opset"] == 17


def test_model_that_has_nothing_to_narrow_is_refused(tmp_path: Path) -> None:
    narrow = graph([helper.make_node("Relu", ["x"], ["y"])], [("x", FP16, [6])], [("y", FP16, [6])])
    with pytest.raises(LoweringError, match="has no FP32 node that could be narrowed"):
        lowered(narrow, "fp16", tmp_path)
    with pytest.raises(LoweringError, match=r"found:\s+n0: excluded"):
        lowered(chain(("Relu", [])), "fp16", tmp_path, exclude=["*"])


def test_double_and_integer_tensors_stay_what_they_are(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], name="embed"),
        helper.make_node("Mul", ["d", "half"], ["z"], name="double"),
        helper.make_node("ArgMax", ["e"], ["best"], name="argmax", axis=-1),
    ]
    model = graph(
        nodes,
        [("ids", INT64, ["N"]), ("d", DOUBLE, ["N"])],
        [("e", FLOAT, ["N", 3]), ("z", DOUBLE, ["N"]), ("best", INT64, ["N", 1])],
        [weight("table", random(5, 3)), weight("half", np.array([0.5]))],
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.weight("table").dtype == np.float16
    assert made.weight("half").dtype == np.float64
    assert made.manifest["nodes"] == {"total": 3, "narrowed": 2, "quantized": 0, "wide": 0}
    session = onnx.reference.ReferenceEvaluator(made.model)
    e, z, best = session.run(None, {"ids": np.array([1, 4]), "d": np.array([1.0, np.pi])})
    assert (e.dtype, z.tolist(), best.dtype) == (np.float32, [0.5, np.pi / 2], np.int64)


def test_layer_normalization_statistics_stay_fp32(tmp_path: Path) -> None:
    nodes = [helper.make_node("LayerNormalization", ["x", "g"], ["y", "mean"], name="norm")]
    model = graph(
        nodes,
        [("x", FLOAT, ["N", 6])],
        [("y", FLOAT, ["N", 6]), ("mean", FLOAT, ["N", 1])],
        [weight("g", np.ones(6, np.float32))],
    )
    for precision in ("fp16", "bf16"):
        made = lowered(model, precision, tmp_path)
        assert made.types()["norm"] == precision
        assert list(made.node("norm").output)[1] == "mean"


def test_filled_tensor_is_clamped_like_a_constant(tmp_path: Path) -> None:
    lowest = helper.make_tensor("value", FLOAT, [1], [float(np.finfo(np.float32).min)])
    nodes = [
        helper.make_node("ConstantOfShape", ["dims"], ["mask"], name="fill", value=lowest),
        helper.make_node("Where", ["keep", "x", "mask"], ["y"], name="where"),
    ]
    model = graph(
        nodes,
        [("x", FLOAT, [2, 6]), ("keep", BOOL, [2, 6])],
        [("y", FLOAT, [2, 6])],
        [weight("dims", np.array([2, 6]))],
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.manifest["clamped"] == ["fill"]
    x = random(2, 6)
    assert run(made.model, {"x": x, "keep": x > 0}).min() == -65504


def test_exclusion_goes_on_through_a_needless_cast(tmp_path: Path) -> None:
    model = sum_of_squares()
    model.graph.node[2].input[0] = "cast"
    model.graph.node.insert(2, helper.make_node("Cast", ["sum"], ["cast"], name="cast", to=FLOAT))
    made = lowered(model, "fp16", tmp_path, exclude=["sum"])
    x = random(2, 4096) * np.float32(7)
    assert relative_l2(run_rounding(made.model, {"x": x}), run(model, {"x": x})) < 2e-3


def test_omitted_outputs_and_nested_subgraphs(tmp_path: Path) -> None:
    def branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, FLOAT, None)])

    def choice(name: str, yes: onnx.GraphProto, no: onnx.GraphProto) -> onnx.NodeProto:
        return helper.make_node("If", ["c"], [name], name=f"if_{name}", then_branch=yes, else_branch=no)

    inner = choice(
        "b",
        branch("i", [helper.make_node("Neg", ["h"], ["i"])]),
        branch("j", [helper.make_node("Abs", ["h"], ["j"])]),
    )
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], name="lstm", hidden_size=2),
        choice("y", branch("b", [inner]), branch("e", [helper.make_node("Exp", ["h"], ["e"])])),
    ]
    model = graph(
        nodes,
        [("x", FLOAT, [3, 1, 4]), ("c", BOOL, [])],
        [("y", FLOAT, None)],
        [weight("w", random(1, 8, 4)), weight("r", random(1, 8, 2))],
    )
    made = lowered(model, "fp16", tmp_path)
    assert made.manifest["nodes"] == {"total": 2, "narrowed": 1, "quantized": 0, "wide": 1}
    for c in (True, False):
        feeds = {"x": random(3, 1, 4), "c": np.array(c)}
        assert relative_l2(run(made.model, feeds), run(model, feeds)) < 5e-3


def test_loop_body_reads_fp32_copies_of_narrow_tensors(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "h"], ["after"], name="step"),
            helper.make_node("Identity", ["go"], ["on"], name="go_on"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            helper.make_tensor_value_info("before", FLOAT, None),
        ],
        [helper.make_tensor_value_info("on", BOOL, []), helper.make_tensor_value_info("after", FLOAT, None)],
    )
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["h"], name="square"),
        helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body),
    ]
    model = graph(nodes, [("x", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 6])], [weight("n", np.array(3))])
    made = lowered(model, "fp16", tmp_path)
    assert made.kept() == {"loop": "has a subgraph"}
    x = random(2, 6)
    assert relative_l2(run(made.model, {"x": x}), x + 3 * x * x) < 2e-3
