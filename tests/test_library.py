"""trtcheck in a script or a notebook."""

from __future__ import annotations

import numpy as np
import pytest
import suite_models

import trtcheck


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


def test_an_engine_may_be_a_file(case, tmp_path):
    path = suite_models.save(suite_models.foreign_fp16(), tmp_path / "half.onnx")
    assert trtcheck.evaluate(case, str(path), cache=tmp_path).engine == "half"


@pytest.mark.parametrize("engine", ["fp17", "fp8", "gone.onnx", ""])
def test_an_engine_that_cannot_be_is_an_error_in_words(case, tmp_path, engine):
    with pytest.raises(trtcheck.TrtcheckError, match="engine"):
        trtcheck.evaluate(case, engine, cache=tmp_path)


def test_a_backend_of_a_later_version_is_refused(case, tmp_path):
    with pytest.raises(trtcheck.TrtcheckError, match="not part of this version"):
        trtcheck.evaluate(case, "fp16", backend="tensorrt", cache=tmp_path)


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
