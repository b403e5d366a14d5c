"""Whether an image's answer depends on the images beside it: real engines of ONNX Runtime on tiny models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import suite_models
from onnx import TensorProto, helper
from suite_models import FLOAT, INT64

from trtcheck import batch_invariance, batch_trials
from trtcheck.backends.base import BuiltEngine
from trtcheck.case import (
    BuildSpec,
    Case,
    Check,
    EngineSpec,
    Gates,
    InputSpec,
    Numerics,
    Outcome,
    Precision,
    Verdict,
)
from trtcheck.errors import CaseError
from trtcheck.model import Signature, Tensor
from trtcheck.progress import LoggedProgress
from trtcheck.session import Workbench

FP32 = EngineSpec("fp32", Precision.FP32)
WIDTH = 12


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(
        cache=tmp_path / "cache", shared=tmp_path / "shared", backend="onnxruntime-cpu", threads=2,
        progress=LoggedProgress(),
    )  # fmt: skip


def judged(bench: Workbench, case: Case, engine: EngineSpec = FP32) -> Outcome:
    """The outcome of the check; its figures must be JSON."""
    result = bench.batch_invariance(case, engine)
    outcome = batch_invariance.outcome(case, engine, bench.built(case, engine), result)
    assert outcome.check is Check.BATCH_INVARIANCE
    json.dumps(outcome.measured, allow_nan=False)
    return outcome


def rows(count: int = 50, seed: int = 0) -> np.ndarray:
    """Vectors (N, 12) of very different size, so that a neighbour's size shows."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, WIDTH)) * rng.uniform(0.2, 5, (count, 1))).astype(np.float32)


def made(
    tmp_path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    data: np.ndarray | None = None,
    batch: int | str = "N",
    outputs: Mapping[str, tuple[int, Sequence[int | str]]] | None = None,
    case_batch: int = 16,
) -> Case:
    """A case of vectors x (N, 12) through *nodes* to y, which nothing is known of but its outputs."""
    shape = [batch, WIDTH]
    model = suite_models.model(
        nodes, {"x": (FLOAT, shape)}, outputs or {"y": (FLOAT, shape)}, dict(weights or {})
    )
    checks = (Check.BUILD, Check.OUTPUTS, Check.BATCH_INVARIANCE)
    values = rows() if data is None else data
    source = (values, np.full(len(values), -1))
    onnx_path = suite_models.save(model, tmp_path / "model.onnx")
    return Case(name="tiny", onnx=onnx_path, data=source, batch=case_batch, checks=checks)


def mixing(kind: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes in which one row of x changes what comes of another."""
    node = helper.make_node
    if kind == "dynamic quantization":
        made = [
            node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"], name="quantize"),
            node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dequantize"),
        ]
        return made, {}
    if kind == "mean over the batch":
        return [
            node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0], keepdims=1),
            node("Sub", ["x", "mean"], ["y"], name="centre"),
        ], {}
    if kind == "batch norm in training mode":
        ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
        inputs = ["x", "ones", "zeros", "zeros", "ones"]
        norm = node(
            "BatchNormalization", inputs, ["y", "running_mean", "running_var"], name="norm", training_mode=1
        )
        return [norm], {"ones": ones, "zeros": zeros}
    if kind == "softmax over the batch":
        return [node("Softmax", ["x"], ["y"], name="softmax", axis=0)], {}
    made = [
        node("Transpose", ["x"], ["turned"], name="turn", perm=[1, 0]),
        node("Reshape", ["turned", "shape"], ["y"], name="reshape"),
    ]
    return made, {"shape": np.array([-1, WIDTH])}


FAULTS = (
    "dynamic quantization", "mean over the batch", "batch norm in training mode", "softmax over the batch",
    "reshape that mixes images",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_mixes_images_fails_and_is_told_to_do_so_itself(tmp_path, bench, fault):
    outcome = judged(bench, made(tmp_path, *mixing(fault)))
    assert outcome.verdict is Verdict.FAIL, outcome.message
    for part in ("output 'y' of image", "a batch of 1 and a batch of", "limit 0.001", "32 of 50 images in"):
        assert part in outcome.message
    assert "the original FP32 model in ONNX Runtime does the same (difference" in outcome.message
    if "not deterministic" not in outcome.message:  # ONNX Runtime's training-mode norm may be neither
        assert "the model itself mixes images" in outcome.message
    (row,) = outcome.measured["outputs"]
    assert row["difference"] > 0.001
    assert row["image"] in range(50)
    assert row["beyond"] > 16, "it is no rare accident"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fixed_batch_hides_no_fault(tmp_path, bench, fault):
    outcome = judged(bench, made(tmp_path, *mixing(fault), batch=4))
    assert outcome.verdict is Verdict.FAIL, outcome.message
    assert "a batch of 4 times itself and a batch of 4" in outcome.message


def faulty_engine(tmp_path: Path) -> EngineSpec:
    """A file of another model, which takes the mean of the batch off every image."""
    nodes, weights = mixing("mean over the batch")
    shape = ["N", WIDTH]
    faulty = suite_models.model(nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)}, weights)
    return EngineSpec("other", None, suite_models.save(faulty, tmp_path / "other.onnx"))


def test_what_only_the_engine_does_is_not_laid_on_the_model(tmp_path, bench):
    case = made(tmp_path, [helper.make_node("Identity", ["x"], ["y"], name="copy")])
    outcome = judged(bench, case, faulty_engine(tmp_path))
    assert outcome.verdict is Verdict.FAIL
    assert "in ONNX Runtime does not (difference 0): it is the engine or its lowering" in outcome.message
    assert outcome.measured["reference"][0]["difference"] == 0


def test_an_original_that_takes_no_single_image_is_told(tmp_path, bench):
    pairs = [
        helper.make_node("Reshape", ["x", "two"], ["pairs"], name="pair"),
        helper.make_node("Reshape", ["pairs", "one"], ["y"], name="part"),
    ]
    case = made(tmp_path, pairs, {"two": np.array([-1, 2 * WIDTH]), "one": np.array([-1, WIDTH])})
    outcome = judged(bench, case, faulty_engine(tmp_path))
    assert outcome.verdict is Verdict.FAIL
    assert "the original model could not be asked" in outcome.message
    assert "ONNX Runtime failed on a batch" in outcome.message


def test_an_output_whose_shape_depends_on_the_data_is_named(tmp_path, bench):
    nodes = [
        helper.make_node("ReduceMin", ["x"], ["least"], name="least", axes=[0], keepdims=0),
        helper.make_node("Greater", ["least", "floor"], ["kept"], name="keep"),
        helper.make_node("Compress", ["x", "kept"], ["some"], name="compress", axis=1),
        helper.make_node("Identity", ["x"], ["y"], name="copy"),
    ]
    data = rows(32)
    data[20, 3] = -200
    outputs = {"some": (FLOAT, ["N", "kept"]), "y": (FLOAT, ["N", WIDTH])}
    case = made(tmp_path, nodes, {"floor": np.float32(-100)}, data=data, outputs=outputs)
    outcome = judged(bench, case)
    assert outcome.verdict is Verdict.PASS
    assert "output 'some' changes its shape from batch to batch" in outcome.notes


def test_an_engine_that_answers_by_chance_is_told_apart(tmp_path, bench):
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"], name="noise"),
        helper.make_node("Add", ["x", "noise"], ["y"], name="add"),
    ]
    outcome = judged(bench, made(tmp_path, nodes))
    assert outcome.verdict is Verdict.FAIL
    assert "the engine is not deterministic: the same batch asked for twice differs by" in outcome.message


def test_nan_that_a_neighbour_brings_fails_whatever_the_limit(tmp_path, bench):
    # 0 / 0 where the largest value of the batch is not in the image; no finite number changes.
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], name="most", axes=[0, 1], keepdims=1),
        helper.make_node("ReduceMax", ["x"], ["own"], name="own", axes=[1], keepdims=1),
        helper.make_node("Equal", ["most", "own"], ["is_most"], name="equal"),
        helper.make_node("Where", ["is_most", "x", "nan"], ["y"], name="choose"),
    ]
    case = made(tmp_path, nodes, {"nan": np.float32(np.nan)})
    outcome = judged(bench, replace(case, gates=Gates(batch_tolerance=1e9)))
    assert outcome.verdict is Verdict.FAIL
    assert "is NaN or infinite at other places in a batch of" in outcome.message
    assert outcome.measured["outputs"][0]["nonfinite"] >= 30
    assert "the model itself mixes images" in outcome.message


def fashion(tmp_path: Path, count: int = 120, **more: object) -> Case:
    images, labels = suite_models.images(count)
    path = suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    case = Case(
        name="tiny", onnx=path, data=(images, labels), classes=suite_models.CLASSES, batch=20,
        calibration=suite_models.images(40, seed=9), input=InputSpec(scale=1 / 255),
    )  # fmt: skip
    return replace(case, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", list(Precision))
def test_a_harmless_model_passes_at_every_precision_and_says_what_was_tried(tmp_path, bench, precision):
    engine = EngineSpec(precision.value, precision)
    outcome = judged(bench, fashion(tmp_path), engine)
    assert outcome.verdict is Verdict.PASS, outcome.message
    limit = batch_invariance.TOLERANCES[precision]
    assert outcome.message.startswith("32 of 120 images in batches of 1, 7 and 20: largest difference ")
    assert f"(output 'scores', limit {limit:g})" in outcome.message
    assert "up to 14 % of such images may differ by more unseen" in outcome.message
    assert outcome.measured["answers"]["differing"] == 0
    assert outcome.measured["repeated"] is outcome.measured["reference"] is None
    emulated = bench.built(fashion(tmp_path), engine).numerics is Numerics.EMULATED
    assert any("emulated" in note for note in outcome.notes) == emulated


def test_the_limit_can_be_set_and_makes_a_measurement_of_its_own(tmp_path, bench):
    case = made(tmp_path, *mixing("dynamic quantization"))
    assert judged(bench, case).verdict is Verdict.FAIL
    assert judged(bench, replace(case, gates=Gates(batch_tolerance=0.5))).verdict is Verdict.PASS
    assert judged(bench, replace(case, gates=Gates(batch_tolerance=1e-6))).verdict is Verdict.FAIL


def test_the_measurement_is_made_once_a_session(tmp_path, bench):
    case = made(tmp_path, *mixing("mean over the batch"))
    first = bench.batch_invariance(case, FP32)
    bench.built(case, FP32).path.unlink()  # a second measurement could not load it
    assert bench.batch_invariance(case, FP32) == first


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"batch": 1}, "one image at a time"),
        ({"case_batch": 1}, "one image at a time"),
        ({"data": rows(1)}, "has one image"),
        ({"data": np.repeat(rows(1), 20, axis=0)}, "all 20 images tried are the same"),
    ],
    ids=["fixed batch 1", "batch 1 of the suite", "one image", "equal images"],
)
def test_where_nothing_stands_beside_an_image_nothing_passes(tmp_path, bench, change, reason):
    outcome = judged(bench, made(tmp_path, *mixing("mean over the batch"), **change))
    assert outcome.verdict is Verdict.SKIPPED
    assert reason in outcome.message


def test_two_images_are_enough(tmp_path, bench):
    outcome = judged(bench, made(tmp_path, *mixing("mean over the batch"), data=rows(2)))
    assert outcome.verdict is Verdict.FAIL
    assert "2 of 2 images" in outcome.message


def test_an_answer_that_changes_within_the_limit_is_a_note(tmp_path, bench):
    # The scores of the two classes tie but for a thousandth of the batch's mean.
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0, 1], keepdims=1),
        helper.make_node("Mul", ["mean", "small"], ["shift"], name="mul"),
        helper.make_node("Mul", ["x", "zero"], ["nothing"], name="nothing"),
        helper.make_node("Slice", ["nothing", "start", "stop", "axis"], ["two"], name="two"),
        helper.make_node("Add", ["two", "one"], ["even"], name="even"),
        helper.make_node("Add", ["even", "shift"], ["y"], name="shift"),
    ]
    weights = {
        "small": np.array([[0.0, 1e-4]], np.float32), "zero": np.float32(0), "one": np.float32(1),
        "start": np.array([0]), "stop": np.array([2]), "axis": np.array([1]),
    }  # fmt: skip
    case = made(tmp_path, nodes, weights, outputs={"y": (FLOAT, ["N", 2])})
    case = replace(case, classes=("even", "odd"))
    outcome = judged(bench, case)
    assert outcome.verdict is Verdict.PASS
    (note,) = [note for note in outcome.notes if "answer" in note]
    assert "a near tie within the limit" in note
    assert "'even'" in note
    assert "'odd'" in note
    assert outcome.measured["answers"]["differing"] > 1


def test_an_output_near_zero_is_no_alarm(tmp_path, bench):
    # One image of zeros: all of its output is what the batch's mean leaks into it, 1e-5 of the others' norm.
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0], keepdims=1),
        helper.make_node("Mul", ["mean", "small"], ["shift"], name="mul"),
        helper.make_node("Add", ["x", "shift"], ["y"], name="add"),
    ]
    data = rows(32)
    data[5] = 0
    outcome = judged(bench, made(tmp_path, nodes, {"small": np.float32(1e-5)}, data=data))
    assert outcome.verdict is Verdict.PASS, outcome.message
    assert 0 < outcome.measured["outputs"][0]["difference"] < 1e-3


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_to_square_are_compared(tmp_path, bench):
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], name="widen", to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "huge"], ["y"], name="mul"),
    ]
    double = {"y": (TensorProto.DOUBLE, ["N", WIDTH])}
    same = judged(bench, made(tmp_path, nodes, {"huge": np.float64(1e200)}, outputs=double))
    assert same.verdict is Verdict.PASS, same.message
    mean = helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0], keepdims=1)
    centre = helper.make_node("Sub", ["x", "mean"], ["centred"], name="centre")
    nodes[0].input[0] = "centred"
    case = made(tmp_path, [mean, centre, *nodes], {"huge": np.float64(1e200)}, outputs=double)
    assert judged(bench, replace(case, name="mixed")).verdict is Verdict.FAIL


def test_integers_that_differ_are_told_and_do_not_fail_beside_numbers_that_agree(tmp_path, bench):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"], name="centre"),
        helper.make_node("ArgMax", ["centred"], ["index"], name="best", axis=1, keepdims=0),
        helper.make_node("Identity", ["x"], ["y"], name="copy"),
    ]
    both = {"y": (FLOAT, ["N", WIDTH]), "index": (INT64, ["N"])}
    outcome = judged(bench, made(tmp_path, nodes, outputs=both))
    assert outcome.verdict is Verdict.PASS
    (warning,) = outcome.warnings
    assert "output 'index' of image" in warning
    assert "near ties do that" in warning

    alone = made(tmp_path, nodes[:3], outputs={"index": (INT64, ["N"])})
    other = judged(bench, replace(alone, name="index"))
    assert other.verdict is Verdict.INCONCLUSIVE
    assert "there are no scores to tell" in other.message


def test_text_is_compared_exactly(tmp_path, bench):
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], name="most", axes=[0, 1], keepdims=0),
        helper.make_node("ReduceMax", ["x"], ["own"], name="own", axes=[1], keepdims=0),
        helper.make_node("Equal", ["most", "own"], ["is_most"], name="equal"),
        helper.make_node("Where", ["is_most", "yes", "no"], ["label"], name="label"),
        helper.make_node("Identity", ["x"], ["y"], name="copy"),
    ]
    words = {"yes": np.array("most", object), "no": np.array("less", object)}
    outputs = {"label": (TensorProto.STRING, ["N"]), "y": (FLOAT, ["N", WIDTH])}
    outcome = judged(bench, made(tmp_path, nodes, words, outputs=outputs))
    assert outcome.verdict is Verdict.PASS
    (warning,) = outcome.warnings
    assert "output 'label' of image" in warning
    assert "at most 100 % of an image's values" in warning


def test_outputs_without_a_row_for_each_image_are_named(tmp_path, bench):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[0], keepdims=1),
        helper.make_node("NonZero", ["over"], ["places"], name="places"),
        helper.make_node("Relu", ["x"], ["over"], name="relu"),
        helper.make_node("Identity", ["x"], ["y"], name="copy"),
    ]
    nodes = [nodes[0], nodes[2], nodes[1], nodes[3]]
    outputs = {
        "y": (FLOAT, ["N", WIDTH]), "mean": (FLOAT, [1, WIDTH]), "places": (INT64, [2, "found"]),
    }  # fmt: skip
    outcome = judged(bench, made(tmp_path, nodes, outputs=outputs))
    assert outcome.verdict is Verdict.PASS
    told = " ".join(outcome.notes)
    assert "output 'mean' has no row for each image: its shapes are [1, 12] and [1, 12]" in told
    assert "output 'places' has no row for each image" in told

    only = made(tmp_path, nodes[:1], outputs={"mean": (FLOAT, [1, WIDTH])})
    other = judged(bench, replace(only, name="only"))
    assert other.verdict is Verdict.INCONCLUSIVE
    assert "nothing could be compared" in other.message


@pytest.mark.parametrize("fault", [False, True])
def test_the_images_may_stand_along_another_axis_or_lose_it_when_alone(tmp_path, bench, fault):
    nodes, weights = mixing("mean over the batch")
    if not fault:
        nodes = [helper.make_node("Identity", ["x"], ["y"], name="copy")]
    nodes = [
        *nodes,
        helper.make_node("Transpose", ["y"], ["turned"], name="turn", perm=[1, 0]),
        helper.make_node("Squeeze", ["y"], ["squeezed"], name="squeeze"),
    ]
    outputs = {"turned": (FLOAT, [WIDTH, "N"]), "squeezed": (FLOAT, None)}
    outcome = judged(bench, made(tmp_path, nodes, weights, outputs=outputs))  # type: ignore[arg-type]
    assert not outcome.measured["uncompared"]
    assert [row["name"] for row in outcome.measured["outputs"]] == ["turned", "squeezed"]
    assert outcome.verdict is (Verdict.FAIL if fault else Verdict.PASS)


def test_an_output_of_nothing_but_nan_is_no_pass(tmp_path, bench):
    nodes = [helper.make_node("Mul", ["x", "nan"], ["y"], name="mul")]
    outcome = judged(bench, made(tmp_path, nodes, {"nan": np.float32(np.nan)}))
    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert "holds no number that could be compared" in outcome.message


def test_several_inputs_integers_and_the_product_s_own_preprocessing_get_here(tmp_path, bench):
    tokens = np.random.default_rng(1).integers(0, 11, (60, 7))
    labels = (tokens.sum(axis=1) > 35).astype(np.int64)
    path = suite_models.save(suite_models.sums(), tmp_path / "sums.onnx")
    sums = Case(name="sums", onnx=path, data=(tokens, labels), classes=("low", "high"))
    assert judged(bench, sums).verdict is Verdict.PASS

    images, truth = suite_models.images(60)
    weight = np.linspace(0.5, 2, 60, dtype=np.float32)[:, None]
    files = tmp_path / "two.npz"
    np.savez(files, images=images[:, None].astype(np.float32), weight=weight, labels=truth)
    path = suite_models.save(suite_models.two_inputs(), tmp_path / "two.onnx")
    two = Case(name="two", onnx=path, data=files, classes=suite_models.CLASSES)
    outcome = judged(bench, two)
    assert outcome.verdict is Verdict.PASS
    assert outcome.measured["images"] == 32


def test_a_recording_is_refused_in_a_sentence(tmp_path, bench):
    engine = EngineSpec("board", None, tmp_path / "board.npz")
    with pytest.raises(CaseError, match="'board' are recorded: they cannot be asked for in other batches"):
        bench.batch_invariance(fashion(tmp_path), engine)


def signature(batch: int | None) -> Signature:
    return Signature((Tensor("x", np.dtype(np.float32), (batch, 3)),), ())


def built(**facts: object) -> BuiltEngine:
    path = Path("engine")
    return BuiltEngine(path, path, "tensorrt", Numerics.NATIVE, cached=False, lowered={}, facts=facts)


@pytest.mark.parametrize(
    ("batch", "profile", "sizes"),
    [
        (32, None, (1, 7, 32)),
        (100, (1, 64), (1, 7, 64)),
        (16, (4, 64), (4, 7, 16)),
        (2, (4, 64), (4, 7, 11)),
        (1, (1, 4096), (1, 7, 8)),
        (16, (8, 8), (8,)),
        (2, None, (1, 2)),
        (1, (1, 4), (1, 3, 4)),
        (1, (1, 1), (1,)),
    ],
)
def test_batches_stay_within_the_profile_of_a_fake_tensorrt_engine(batch, profile, sizes):
    case = Case(name="x", onnx=Path("x.onnx"), data="x.npz", batch=batch)
    shapes = {} if profile is None else {"x": {"min": [profile[0], 3], "max": [profile[1], 3]}}
    limits = batch_trials.limits_of(case, built(profile=shapes), signature(None), signature(None))
    assert batch_trials.sizes_of(*limits) == sizes


def test_a_smallest_batch_above_one_is_filled_with_one_image(tmp_path, bench):
    # ONNX Runtime has no profiles: this calls what a TensorRT engine of 3 to 8 images is tried by.
    case = made(tmp_path, *mixing("mean over the batch"))
    resolved, engine = bench.resolve(case), bench.built(case, FP32)
    facts = {**engine.facts, "profile": {"x": {"min": [3, WIDTH], "max": [8, WIDTH]}}}
    asked = []

    class Limited:
        """The engine of ONNX Runtime behind the limits of a profile."""

        def __init__(self) -> None:
            self._inner = bench.load(case, FP32, engine, resolved)
            self.signature = self._inner.signature

        def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            asked.append(len(feeds["x"]))
            return self._inner.infer(feeds)

        def close(self) -> None:
            self._inner.close()

    result = batch_trials.try_batches(
        case, FP32, replace(engine, facts=facts), resolved, resolved.signature.with_batch(8), Limited(),
        reference=Limited, advance=lambda _count: None,
    )  # fmt: skip
    assert set(asked) == {3, 7, 8}
    outcome = batch_invariance.outcome(case, FP32, engine, result)
    assert outcome.verdict is Verdict.FAIL
    assert "between a batch of 3 times itself and a batch of" in outcome.message


def test_a_large_fixed_batch_costs_fewer_images():
    assert len(batch_trials.chosen(10000, 1)) == 32
    assert len(batch_trials.chosen(10000, 64)) == 8
    assert len(batch_trials.chosen(5, 64)) == 5
    assert batch_trials.chosen(10000, 1)[0] == 0
    assert batch_trials.chosen(10000, 1)[-1] == 9999


@pytest.mark.parametrize(
    ("engine", "types", "limit"),
    [
        (FP32, {"FLOAT": 9, "quantized": 0}, 1e-3),
        (FP32, {"FLOAT": 9, "quantized": 3}, 5e-2),
        (EngineSpec("fp16", Precision.FP16), {"FLOAT16": 9}, 1e-2),
        (EngineSpec("file", None, Path("file.onnx")), {"FLOAT": 9}, 1e-3),
        (EngineSpec("file", None, Path("file.onnx")), {"FLOAT": 9, "BFLOAT16": 1}, 5e-2),
        (EngineSpec("file", None, Path("file.engine")), {"FLOAT": 9}, 1e-2),
        (EngineSpec("file", None, Path("file.engine")), {"FLOAT16": 9, "INT8": 1}, 5e-2),
        (EngineSpec("file", None, Path("file.engine")), {}, 5e-2),
    ],
)
def test_the_limit_follows_the_widest_type_of_the_engine(engine, types, limit):
    case = Case(name="x", onnx=Path("x.onnx"), data="x.npz")
    assert batch_invariance.tolerance_of(case, engine, built(types=types)) == limit
    tf32 = replace(case, build=BuildSpec(tf32=True))
    assert batch_invariance.tolerance_of(tf32, engine, built(types=types)) >= limit
    own = replace(case, gates=Gates(batch_tolerance=0.0))
    assert batch_invariance.tolerance_of(own, engine, built(types=types)) == 0.0
