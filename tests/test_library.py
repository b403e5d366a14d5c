"""trtcheck in a script or a notebook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import suite_models

import trtcheck
from trtcheck.errors import CaseError


@pytest.fixture
def case(tmp_path):
    images, labels = suite_models.images()
    return trtcheck.Case(
        name="tiny",
        onnx=suite_models.save(suite_models.classifier(), tmp_path / "model.onnx"),
        data=(images, labels),
        calibration=images[:64],
        classes=suite_models.CLASSES,
        input=trtcheck.InputSpec(scale=1 / 255),
    )


def test_evaluate_and_judge(case, tmp_path):
    evaluation = trtcheck.evaluate(case, "int8", cache=tmp_path / "cache", threads=1)
    assert isinstance(evaluation, trtcheck.Evaluation)
    assert evaluation.images == 240
    assert evaluation.record["numerics"] == "emulated"
    before, after = evaluation.confusion()
    assert before.accuracy == pytest.approx(0.9917, abs=1e-4)
    assert after.support.tolist() == [60, 60, 60, 60]
    outcome = trtcheck.judge_evaluation(evaluation, "recall", trtcheck.Gates(recall_drop=0.02))
    assert isinstance(outcome, trtcheck.Outcome)
    assert outcome.verdict is trtcheck.Verdict.PASS
    assert outcome.measured["classes"][0]["margin"] == 0.02
    for check in ("outputs", trtcheck.Check.ACCURACY, "precision"):
        assert trtcheck.judge_evaluation(evaluation, check).verdict is trtcheck.Verdict.PASS


def test_a_check_of_the_engine_judges_no_evaluation(case, tmp_path):
    evaluation = trtcheck.evaluate(case, "fp32", cache=tmp_path)
    with pytest.raises(ValueError, match="'build' judges no evaluation"):
        trtcheck.judge_evaluation(evaluation, "build")
    with pytest.raises(ValueError, match="recal"):
        trtcheck.judge_evaluation(evaluation, "recal")


def test_it_gives_what_the_plugin_gives(case, suite):
    evaluation = trtcheck.evaluate(case, "fp16", cache=suite.path / "mine")
    suite.run("--trt-engine=fp16")
    [engine] = suite.report()["engines"]
    assert engine["confusion"]["after"] == evaluation.confusion()[1].matrix.tolist()
    assert engine["outputs"][0]["max_abs"] == pytest.approx(evaluation.outputs[0].max_abs, rel=1e-6)


def test_a_path_may_be_a_path(case, tmp_path):
    evaluation = trtcheck.evaluate(case, Path(case.onnx), backend="onnxruntime-cpu", cache=tmp_path / "cache")
    assert evaluation.engine == "model"


def test_an_engine_may_be_a_file(case, tmp_path):
    path = suite_models.save(suite_models.foreign_fp16(), tmp_path / "half.onnx")
    assert trtcheck.evaluate(case, str(path), cache=tmp_path).engine == "half"


@pytest.mark.parametrize("engine", ["fp17", "fp8", "gone.onnx", ""])
def test_an_engine_that_cannot_be_is_an_error_in_words(case, tmp_path, engine):
    with pytest.raises(trtcheck.TrtcheckError, match="engine"):
        trtcheck.evaluate(case, engine, cache=tmp_path)


def test_an_unknown_backend_is_refused(case, tmp_path):
    with pytest.raises(trtcheck.TrtcheckError, match="is not known") as caught:
        trtcheck.evaluate(case, "fp16", backend="tensorflow", cache=tmp_path)
    assert "did you mean tensorrt?" in str(caught.value)


def test_any_object_with_images_is_taken(case, tmp_path):
    class Mine:
        name = "mine"
        class_names = None

        def __init__(self, images, labels):
            self.images, self.labels = images, labels

        def __len__(self):
            return len(self.images)

        def read(self, start, stop):
            return {"images": self.images[start:stop]}

        def digest(self):
            return "sha256:mine"

    from dataclasses import replace

    evaluation = trtcheck.evaluate(replace(case, data=Mine(*suite_models.images())), "fp16", cache=tmp_path)
    assert evaluation.record["data"]["name"] == "mine"


def test_pairs_of_image_and_label_are_taken(case, tmp_path):
    from dataclasses import replace

    images, labels = suite_models.images(40)
    pairs = [(image, int(label)) for image, label in zip(images, labels, strict=True)]
    assert trtcheck.evaluate(replace(case, data=pairs), "fp16", cache=tmp_path).images == 40


def test_answers_that_are_nan_count_as_wrong_and_are_still_judged(tmp_path, case):
    from dataclasses import replace

    model = suite_models.save(suite_models.overflowing(), tmp_path / "over.onnx")
    evaluation = trtcheck.evaluate(replace(case, onnx=model), "fp16", cache=tmp_path)
    assert evaluation.nonfinite > 0
    assert trtcheck.judge_evaluation(evaluation, "outputs").verdict is trtcheck.Verdict.FAIL
    assert trtcheck.judge_evaluation(evaluation, "recall").verdict is trtcheck.Verdict.FAIL
    assert np.count_nonzero(evaluation.labels.candidate == -1) > 0


@pytest.mark.parametrize(
    ("check", "gates", "verdict"),
    [
        ("recall", {}, "pass"),
        ("recall", {"recall_floor": 0.99}, "fail"),
        ("recall", {"classes": {"*": trtcheck.ClassGates(recall_floor=0.99)}}, "fail"),
        ("recall", {"recall_floor": 0.99, "classes": {"*": trtcheck.ClassGates(recall_floor=0.9)}}, "pass"),
        ("recall", {"test": "proven"}, "fail"),
        ("recall", {"test": "threshold"}, "pass"),
        ("precision", {"precision_floor": 1.0}, "fail"),
        ("accuracy", {"accuracy_floor": 0.99}, "pass"),
        ("accuracy", {"accuracy_floor": 0.995}, "fail"),
        ("accuracy", {"accuracy_target": 1.0}, "pass"),
        ("outputs", {"churn": 0.0}, "pass"),
    ],
)
def test_every_gate_counts_without_pytest_too(case, tmp_path_factory, check, gates, verdict):
    cache = tmp_path_factory.getbasetemp() / "gates"
    evaluation = trtcheck.evaluate(case, "fp16", backend="onnxruntime-cpu", cache=cache)
    outcome = trtcheck.judge_evaluation(evaluation, check, trtcheck.Gates(**gates))
    assert outcome.verdict.value == verdict, outcome.message


def test_an_inconclusive_outcome_fails_where_the_gates_say_so(case, tmp_path):
    from dataclasses import replace

    evaluation = trtcheck.evaluate(replace(case, data=suite_models.images(12)), "fp16", cache=tmp_path)
    told = trtcheck.judge_evaluation(evaluation, "recall")
    failing = trtcheck.judge_evaluation(evaluation, "recall", trtcheck.Gates(on_inconclusive="fail"))
    assert (told.verdict.value, told.fails) == ("inconclusive", False)
    assert (failing.verdict.value, failing.fails) == ("inconclusive", True)


def test_a_suite_file_can_be_read(suite):
    [case] = trtcheck.read_suite(str(suite.path / "trtcheck.toml"))
    assert case.classes == suite_models.CLASSES
    assert trtcheck.evaluate(case, "fp16", cache=suite.path / "cache").images == 240


def test_public_names_are_those_that_are_listed():
    for name in trtcheck.__all__:
        assert getattr(trtcheck, name) is not None
    assert {"judge", "metrics", *trtcheck.__all__} == set(dir(trtcheck))
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = trtcheck.evalute


def test_what_a_case_is_given_becomes_builtins():
    case = trtcheck.Case(
        name="a", onnx="model.onnx", data="eval.npz", batch=np.int64(8), top_k=np.int32(3),
        checks=["recall", trtcheck.Check.BUILD], engines=["fp16"], classes=np.array(["x", "y"]),
        lowered={"fp16": "m.onnx"}, lowering={"int8": trtcheck.LoweringSpec()},
        gates=trtcheck.Gates(
            recall_drop=np.float64(0.02), max_abs=1, classes={"x": trtcheck.ClassGates(np.float32(0.5))}
        ),
        input=trtcheck.InputSpec(
            scale=np.float32(0.5), mean=np.ones(3), std=2, resize=np.int64(9), crop=[4, 5]
        ),
    )  # fmt: skip
    assert (type(case.batch), case.batch, type(case.top_k), case.top_k) == (int, 8, int, 3)
    assert case.checks == (trtcheck.Check.RECALL, trtcheck.Check.BUILD)
    assert all(isinstance(check, trtcheck.Check) for check in case.checks)
    assert (case.engines, case.classes) == (("fp16",), ("x", "y"))
    assert {type(name) for name in case.classes} == {str}
    assert case.lowered == {trtcheck.Precision.FP16: Path("m.onnx")}
    assert list(case.lowering) == [trtcheck.Precision.INT8]
    numbers = (case.gates.recall_drop, case.gates.max_abs, case.gates.classes["x"].recall_drop)
    assert numbers == (0.02, 1.0, 0.5)
    assert {type(number) for number in numbers} == {float}
    spec = case.input
    assert (spec.scale, spec.mean, spec.std, spec.resize, spec.crop) == (0.5, (1.0,) * 3, (2.0,), 9, (4, 5))
    assert {type(value) for value in (spec.scale, *spec.mean, *spec.std)} == {float}
    assert type(spec.resize) is int


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("batch", 0, "a whole number, 1 or more"),
        ("batch", 2.5, "a whole number, 1 or more"),
        ("batch", True, "a whole number, 1 or more"),
        ("batch", None, "a value"),
        ("top_k", "3", "a whole number, 1 or more"),
        ("checks", ["recal"], "outputs, batch_invariance, accuracy, recall, precision"),
        ("checks", "recall", "outputs, batch_invariance, accuracy, recall, precision"),
        ("engines", "fp16", "a list of strings"),
        ("classes", "abc", "a list of strings"),
        ("classes", [0, 1], "a list of strings"),
        ("lowered", {"fp17": "m.onnx"}, "fp32, tf32, fp16, bf16, int8"),
        ("lowered", {"fp16": 3}, "paths by precision"),
        ("lowering", {"fp16": {}}, "LoweringSpec by precision"),
        ("gates", {"recall_drop": 0.1}, "Gates"),
        ("onnx", 3, "a path"),
    ],
)
def test_a_case_that_cannot_be_is_refused_with_what_was_expected(key, value, expected):
    given = {"name": "a", "onnx": "model.onnx", "data": "eval.npz", key: value}
    with pytest.raises(CaseError, match=rf"Case\.{key} has a wrong value") as caught:
        trtcheck.Case(**given)
    assert expected in str(caught.value)
    assert f"found:    {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    "gates", [{"key_classes": ("brihgt",)}, {"classes": {"brihgt": trtcheck.ClassGates(recall_floor=0.9)}}]
)
def test_limits_of_a_class_that_is_not_there_are_refused(case, tmp_path, gates):
    evaluation = trtcheck.evaluate(case, "fp32", cache=tmp_path / "cache", threads=1)
    with pytest.raises(CaseError, match=r"a class that is not there: brihgt(.|\n)*did you mean bright"):
        trtcheck.judge_evaluation(evaluation, "recall", trtcheck.Gates(**gates))


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("LoweringSpec", "maker", "ModelOpt"),
        ("LoweringSpec", "maker", np.array(["trtcheck", "modelopt"])),
        ("LoweringSpec", "exclude", "conv1"),
        ("Gates", "alpha", 5),
        ("Gates", "alpha", 0),
        ("Gates", "alpha", 1e-300),
        ("Gates", "alpha", None),
        ("Gates", "recall_drop", 1.5),
        ("Gates", "recall_drop", "1%"),
        ("Gates", "cosine", float("nan")),
        ("Gates", "max_abs", float("inf")),
        ("Gates", "max_abs", 10**400),
        ("Gates", "classes", {"a": 0.1}),
        ("Gates", "test", "naive"),
        ("Gates", "key_classes", "crack"),
        ("Gates", "key_classes", np.array("crack")),
        ("Gates", "key_classes", {"crack": 1}),
        ("Gates", "classes", None),
        ("Gates", "must_see", None),
        ("Gates", "pooled_drop", 2**5000),
        ("Gates", "on_inconclusive", True),
        ("ClassGates", "precision_drop", -0.1),
        ("InputSpec", "scale", "1/255"),
        ("InputSpec", "scale", None),
        ("InputSpec", "mean", "0.5"),
        ("InputSpec", "mean", np.array(0.5)),
        ("InputSpec", "std", [0.5, "x"]),
        ("InputSpec", "resize", 2.5),
        ("InputSpec", "crop", (1, 2, 3)),
    ],
)
def test_limits_and_preprocessing_that_cannot_be_are_refused(kind, key, value):
    with pytest.raises(CaseError, match=rf"{kind}\.{key} has a wrong value") as caught:
        getattr(trtcheck, kind)(**{key: value})
    assert "expected: " in str(caught.value)


def test_files_named_like_the_default_folders_do_not_matter(case, tmp_path, monkeypatch):
    for name in ("reports", "baselines"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert trtcheck.evaluate(case, "fp32", cache=tmp_path / "cache").images == 240
