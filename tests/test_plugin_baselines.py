"""Approved results: written when asked, compared otherwise."""

from __future__ import annotations

import json

import pytest
import suite_models

FILE = "baselines/tiny/fp16/onnxruntime-cpu-emulated.json"


@pytest.fixture
def approved(suite):
    suite.run("--trt-engine=fp16", "--trt-update-baselines").assert_outcomes(passed=6)
    return suite


def document(suite) -> dict:
    return json.loads((suite.path / FILE).read_text(encoding="utf-8"))


def test_without_a_baseline_it_passes_and_says_how_to_make_one(suite):
    result = suite.run("--trt-engine=fp16")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        ["no baseline yet: tiny*fp16*; approve: pytest * --trt-engine=fp16 --trt-update-baselines"]
    )
    assert not (suite.path / "baselines").exists()
    assert suite.report()["engines"][0]["baseline"]["status"] == "missing"
    assert any("no baseline yet" in note for note in suite.item("fp16", "recall")["notes"])


def test_update_writes_one_small_sorted_file_an_engine(suite):
    result = suite.run("--trt-engine=fp16,int8", "--trt-update-baselines")
    result.assert_outcomes(passed=13)
    result.stdout.fnmatch_lines(["baseline of tiny*fp16* written: *onnxruntime-cpu-emulated.json"])
    files = sorted(
        p.relative_to(suite.path).as_posix() for p in (suite.path / "baselines").rglob("*") if p.is_file()
    )
    assert files == [FILE, FILE.replace("fp16", "int8")]
    found = document(suite)
    assert found["schema_version"] == 1
    assert (found["model"], found["engine"], found["images"]) == ("tiny", "fp16", 240)
    assert list(found) == sorted(found)
    assert {"model", "data", "labels"} <= set(found["digests"])
    assert sum(found["classes"]["left"][name] for name in ("tp", "fp", "fn", "tn")) == 240
    assert suite.report()["engines"][0]["baseline"]["status"] == "written"


def test_the_same_results_leave_the_file_untouched(approved):
    before = (approved.path / FILE).read_bytes(), (approved.path / FILE).stat().st_mtime_ns
    result = approved.run("--trt-engine=fp16", "--trt-update-baselines", cache="another")
    result.stdout.fnmatch_lines(["baseline of tiny*fp16* unchanged: *"])
    assert ((approved.path / FILE).read_bytes(), (approved.path / FILE).stat().st_mtime_ns) == before


def test_the_second_run_compares(approved):
    approved.run("--trt-engine=fp16").assert_outcomes(passed=6)
    for check in ("accuracy", "recall", "precision"):
        item = approved.item("fp16", check)
        assert "against the approved baseline: " in item["message"]
        assert item["baseline"]["verdict"] == "pass"
    assert approved.report()["engines"][0]["baseline"]["status"] == "compared"


def test_a_changed_model_whose_recall_fell_fails_against_the_baseline_alone(approved):
    approved.model(suite_models.classifier(blind=0.4))
    result = approved.run("--trt-engine=fp16")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    recall = approved.item("fp16", "recall")
    assert recall["verdict"] == "fail"
    assert recall["message"].startswith(
        "against the approved baseline: recall of 'bright' fell from .967 to "
    )
    verdicts = {row["name"]: row["verdict"] for row in recall["classes"]}
    assert verdicts.pop("bright") == "inconclusive", "the reference has lost it too: nothing is left to lose"
    assert set(verdicts.values()) == {"pass"}
    assert [row["name"] for row in recall["baseline"]["classes"] if row["verdict"] == "fail"] == ["bright"]
    assert approved.verdicts()["fp16 accuracy"] == "fail"
    assert any("the model changed since the baseline was approved" in note for note in recall["notes"])


def test_a_changed_model_that_is_as_good_is_compared_and_said(approved):
    approved.model(suite_models.classifier(blind=0.0001))
    result = approved.run("--trt-engine=fp16")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["tiny*: the model changed since the baseline was approved *"])


def test_changed_classes_of_the_same_data_cannot_be_compared(approved):
    approved.toml(classes=["links", "right", "dim", "bright"])
    approved.run("--trt-engine=fp16")
    assert approved.verdicts()["fp16 recall"] == "error"
    assert "the classes changed since the baseline was approved" in approved.item("fp16", "recall")["message"]


def changed_data(suite):
    images, labels = suite_models.images(seed=3)
    suite.data(images=images, labels=labels)


def changed_labels(suite):
    arrays = suite_models.arrays()
    arrays["labels"][0] = 1
    suite.data(**arrays)


def newer(suite):
    (suite.path / FILE).write_text(json.dumps(document(suite) | {"schema_version": 99}))


def damaged(suite):
    (suite.path / FILE).write_text((suite.path / FILE).read_text()[:200])


REFUSED = {
    "the evaluation data changed since the baseline was approved": changed_data,
    "the labels changed since the baseline was approved": changed_labels,
    "the baseline was written by a newer trtcheck": newer,
    "the baseline is damaged": damaged,
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_baseline_that_cannot_be_compared_is_an_error_with_the_way_out(approved, what):
    REFUSED[what](approved)
    result = approved.run("--trt-engine=fp16")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {c: v for c, v in approved.verdicts().items() if v == "error"} == {
        "fp16 outputs": "error", "fp16 accuracy": "error", "fp16 recall": "error", "fp16 precision": "error",
    }  # fmt: skip
    recall = approved.item("fp16", "recall")
    assert what in recall["message"]
    assert "meanwhile, against the reference: pass: " in recall["message"]
    assert recall["classes"][3]["support"] == 60
    assert "  try:      " in recall["message"]
    assert approved.report()["engines"][0]["baseline"]["status"] == "refused"
    assert approved.report()["engines"][0]["accuracy"] is not None


@pytest.mark.parametrize("what", REFUSED)
def test_an_update_replaces_what_cannot_be_compared(approved, what):
    REFUSED[what](approved)
    approved.run("--trt-engine=fp16", "--trt-update-baselines").assert_outcomes(passed=6)
    approved.run("--trt-engine=fp16").assert_outcomes(passed=6)
    assert approved.report()["engines"][0]["baseline"]["status"] == "compared"


def test_an_engine_that_failed_is_not_approved_and_the_others_are(suite):
    suite.model(suite_models.overflowing())
    result = suite.run("--trt-engine=fp32,fp16", "--trt-update-baselines")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["baseline of tiny*fp16* not written: *outputs*failed"])
    assert [p.parent.name for p in (suite.path / "baselines").rglob("*.json")] == ["fp32"]


def test_an_engine_whose_failing_items_were_deselected_is_not_approved(suite):
    suite.model(suite_models.overflowing())
    suite.run("--trt-engine=fp16", "--trt-update-baselines", "-k", "precision").assert_outcomes(passed=1)
    assert not list(suite.path.glob("baselines/**/*.json"))


def test_a_run_that_stopped_early_approves_nothing(suite):
    suite.model(suite_models.overflowing())
    suite.run("--trt-engine=fp32,fp16", "--trt-update-baselines", "-x")
    assert not list(suite.path.glob("baselines/tiny/fp16/*"))


def test_workers_give_the_same_baselines_and_write_none_themselves(approved, monkeypatch):
    serial = (approved.path / FILE).read_bytes()
    (approved.path / FILE).unlink()
    workers = approved.run(
        "--trt-engine=fp16", "--trt-update-baselines", "-n2", cache="b", process=True, plugins=["xdist"]
    )
    workers.assert_outcomes(passed=6)
    assert workers.stdout.str().count("baseline of tiny[fp16] written: ") == 1
    assert (approved.path / FILE).read_bytes() == serial


def test_another_folder_of_baselines(suite):
    suite.pytester.makeini("[pytest]\ntrt_baselines = approved\n")
    suite.run("--trt-engine=fp16", "--trt-update-baselines")
    assert (suite.path / FILE.replace("baselines", "approved")).is_file()
    suite.run("--trt-engine=fp16", "--trt-update-baselines", "--trt-baselines=other")
    assert (suite.path / FILE.replace("baselines", "other")).is_file()


def test_an_int8_baseline_says_that_the_calibration_changed(suite):
    suite.run("--trt-engine=int8", "--trt-update-baselines")
    suite.data("calibration.npz", images=suite_models.images(64, seed=2)[0])
    result = suite.run("--trt-engine=int8")
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(["tiny*: the calibration data changed since the baseline was approved *"])


def test_a_part_of_the_checks_is_not_proposed_for_approval(suite):
    for part in (("-k", "recall"), ("trtcheck.toml::tiny[fp16]::recall",)):
        assert "; approve:" not in suite.run("--trt-engine=fp16", *part).stdout.str()
