"""Approved results: what a file holds, whether it may be compared, and how it is replaced."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluation import compared, judged, record

from trtcheck import checks, environment
from trtcheck.backends.base import BackendInfo
from trtcheck.baselines import approve, schema, store
from trtcheck.case import Gates, Verdict
from trtcheck.errors import BaselineError
from trtcheck.evaluation import Evaluation

TRUTH = np.arange(90) % 3
ANSWERS = np.where(np.arange(90) < 6, (TRUTH + 1) % 3, TRUTH)
NAMES = ("Shirt", "Coat", "Ankle böot")
WHERE = Path("baselines/cats/fp16/onnxruntime-cpu-emulated.json")


def evaluated(candidate=ANSWERS, classes=NAMES, **more) -> Evaluation:
    return judged(TRUTH, TRUTH, candidate, classes, **more)


TEXT = schema.dump(schema.of_evaluation(evaluated()))


def document(**changed) -> str:
    return json.dumps({**json.loads(TEXT), **changed})


# the file


def test_a_baseline_comes_back_as_it_was():
    expected = schema.of_evaluation(evaluated())
    found = schema.parse(TEXT, WHERE)
    np.testing.assert_array_equal(found.predictions, ANSWERS)
    assert {**vars(found), "predictions": None} == {**vars(expected), "predictions": None}
    assert list(found.classes) == list(NAMES)
    assert found.classes["Shirt"] == {"tp": 28, "fp": 2, "fn": 2, "tn": 58}
    assert schema.dump(found) == TEXT


def test_a_file_is_small_sorted_and_reads_line_by_line():
    assert TEXT.endswith("}\n")
    assert json.dumps(json.loads(TEXT), indent=1, sort_keys=True, ensure_ascii=False) + "\n" == TEXT
    assert "Ankle böot" in TEXT
    assert max(map(len, TEXT.splitlines())) < 120
    assert '"tp": 28' in TEXT
    assert all(figure is None or abs(figure) < 1e9 for figure in json.loads(TEXT)["outputs"]["y"].values())
    assert "NaN" not in TEXT


def test_equal_results_give_equal_bytes_and_a_changed_answer_few_changed_lines():
    assert schema.dump(schema.of_evaluation(evaluated())) == TEXT
    other = ANSWERS.copy()
    other[89] = 0  # an 'Ankle böot' taken for a 'Shirt'
    old, new = TEXT.splitlines(), schema.dump(schema.of_evaluation(evaluated(other))).splitlines()
    changed = [line.strip().split(":")[0] for a, line in zip(old, new, strict=True) if a != line]
    figures = {'"tp"', '"fn"', '"fp"', '"tn"', '"cosine"', '"relative_l2"'}
    assert [line for line in changed if line not in figures][1:] == []  # the packed answers are one line
    assert '"tp"' in changed


def test_undefined_figures_are_null():
    candidate = np.where(np.arange(90) < 3, -1, ANSWERS)
    baseline = schema.parse(schema.dump(schema.of_evaluation(evaluated(candidate))), WHERE)
    assert baseline.predictions[:3].tolist() == [-1] * 3
    old = np.zeros((4, 2), np.float32)
    nothing = replace(compared({"y": old}, {"y": old * np.nan}, scores=None), record=record())
    baseline = schema.parse(schema.dump(schema.of_evaluation(nothing)), WHERE)
    assert baseline.outputs["y"]["relative_l2"] is None
    assert (baseline.classes, baseline.predictions) == ({}, None)


@pytest.mark.parametrize("top", [2, 32_766, 32_767, 32_768, 100_000])
def test_answers_of_many_classes_are_kept(top):
    labels = np.array([-1, 0, top] * 50, np.int32)
    packed = schema._pack(labels)
    assert packed[0] == ("<i2" if top < 1 << 15 else "<i4")
    assert schema._unpack(packed, 150).tolist() == labels.tolist()


def damaged(text: str) -> str:
    with pytest.raises(BaselineError) as caught:
        schema.parse(text, WHERE)
    assert str(WHERE) in str(caught.value).splitlines()[0]
    return str(caught.value)


def test_a_newer_schema_asks_for_an_upgrade():
    message = damaged(document(schema_version=2))
    assert "written by a newer trtcheck" in message
    assert "pip install --upgrade pytest-trtcheck" in message
    # A newer file may look quite different.
    assert "newer" in damaged('{"schema_version": 99}')


@pytest.mark.parametrize("version", [0, -1, None, True, "1", 1.5, [1]])
def test_other_schemas_are_damage(version):
    assert "the baseline is damaged" in damaged(document(schema_version=version))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "7", '"x"', "{}", "\ufeff{}", "[" * 100_000, "9" * 5000, '{"schema_version": 1}'],
)
def test_what_is_no_baseline_is_damage(text):
    message = damaged(text)
    assert "the baseline is damaged" in message
    assert f"git checkout -- {WHERE}" in message
    assert "--trt-update-baselines" in message


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": []}, {"classes": {"a": "b"}}, {"classes": {"a": {"tp": 1}}}, {"classes": None},
        {"classes": {"a": {"tp": 1, "fp": 1.5, "fn": 0, "tn": 0, "number": 0}}},
        {"classes": {"a": {"tp": -1, "fp": 0, "fn": 0, "tn": 0, "number": 0}}},
        {"classes": {"a": {"tp": True, "fp": 0, "fn": 0, "tn": 0, "number": 0}}},
        {"classes": {"a": {"tp": 1, "fp": 0, "fn": 0, "tn": 0, "number": 1}}},
        {"classes": {k: {"tp": 1, "fp": 0, "fn": 0, "tn": 0, "number": 0} for k in "ab"}},
        {"images": -1}, {"images": 89}, {"images": 91}, {"images": 10**30}, {"images": "90"},
        {"images": 1e400},
        {"predictions": []}, {"predictions": ["<i8", "AAAA"]}, {"predictions": ["<i2", "!!"]},
        {"predictions": ["<i2", "AAAA"]}, {"predictions": ["<i2", 5]}, {"predictions": "<i2"},
        {"predictions": {}}, {"predictions": 5}, {"outputs": None}, {"outputs": {"y": 5}},
        {"digests": None}, {"environment": 3}, {"model": None}, {"engine": 1},
    ],
)  # fmt: skip
def test_fields_that_cannot_be_are_damage(changed):
    assert "the baseline is damaged" in damaged(document(**changed))


def test_every_truncation_is_damage():
    for end in range(len(TEXT) - 2):
        damaged(TEXT[:end])


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_change_is_read_or_refused_and_never_breaks(data):
    start = data.draw(st.integers(0, len(TEXT) - 1))
    stop = data.draw(st.integers(start, min(len(TEXT), start + 40)))
    middle = data.draw(
        st.one_of(st.text(max_size=6), st.sampled_from(["9" * 40, "null", "[]", "{}", "-1", "1e999"]))
    )
    evaluation = evaluated()
    try:
        baseline = schema.parse(TEXT[:start] + middle + TEXT[stop:], WHERE)
        store._compare(baseline, evaluation, WHERE)
    except BaselineError:
        return
    outcome = checks.recall(evaluation, Gates(), lambda: store.Approved(WHERE, baseline, ()))
    assert outcome.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)


# where it is, and whether it may be compared


def test_the_path_is_model_engine_environment(tmp_path):
    assert (
        store.path_of(tmp_path, evaluated()) == tmp_path / "cats" / "fp16" / "onnxruntime-cpu-emulated.json"
    )
    native = evaluated(numerics="native")
    assert store.path_of(tmp_path, native).name == "onnxruntime-cpu-native.json"


def ran_on(info: BackendInfo, numerics: str) -> Evaluation:
    return evaluated(numerics=numerics, environment=environment.fingerprint(info))


@pytest.mark.parametrize(
    ("info", "numerics", "name"),
    [
        (BackendInfo("onnxruntime-cuda", "1.31.1", "NVIDIA H100 80GB HBM3", "", "580.159"), "native",
         "onnxruntime-cuda-1-nvidia-h100-80gb-hbm3-native.json"),
        (BackendInfo("tensorrt", "11.4.0.106", "NVIDIA L4", "", "580.1"), "native",
         "tensorrt-11-nvidia-l4-native.json"),
        (BackendInfo("recorded", "TensorRT 10.3", "Jetson Orin Nano 8 GB", ""), "recorded",
         "recorded-jetson-orin-nano-8-gb.json"),
    ],
)  # fmt: skip
def test_on_a_gpu_model_and_major_version_are_part_of_the_place(tmp_path, info, numerics, name):
    assert store.path_of(tmp_path, ran_on(info, numerics)).name == name


def test_an_approval_of_another_gpu_is_not_compared_and_a_new_driver_does_not_matter(tmp_path):
    here = BackendInfo("tensorrt", "11.4.0", "NVIDIA L4", "", "580.1")
    path, _ = store.write(tmp_path, ran_on(here, "native"))
    later = ran_on(replace(here, driver="590.2", version="11.9"), "native")
    assert store.find(tmp_path, later).baseline is not None
    other = ran_on(replace(here, device="NVIDIA L40S"), "native")
    path.rename(store.path_of(tmp_path, other))
    with pytest.raises(BaselineError, match="the baseline was made elsewhere") as caught:
        store.find(tmp_path, other)
    assert "expected: device NVIDIA L40S" in str(caught.value)
    assert "found:    NVIDIA L4" in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "😀", "/etc/x", "a\\b", "C:x", "x" * 300, "a\nb"])
def test_hostile_names_stay_below_the_folder(name, tmp_path):
    root = tmp_path / "deep" / "baselines"
    evaluation = evaluated(model=name, engine=name)
    path, _ = store.write(root, evaluation)
    assert path.resolve().parents[2] == root.resolve()
    found = store.find(root, evaluation)
    assert (found.baseline.model, found.baseline.engine) == (name, name)
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_a_missing_baseline_names_the_command(tmp_path):
    found = store.find(tmp_path / "none", evaluated())
    assert (found.baseline, found.path) == (None, tmp_path / "none/cats/fp16/onnxruntime-cpu-emulated.json")
    assert found.notes == (
        "no baseline yet: none/cats/fp16/onnxruntime-cpu-emulated.json; "
        "what makes it: the same command with --trt-update-baselines",
    )


def test_a_baseline_of_another_environment_is_not_compared_but_named(tmp_path):
    store.write(tmp_path, evaluated(numerics="native"))
    found = store.find(tmp_path, evaluated())
    assert found.baseline is None
    assert "(there is one for onnxruntime-cpu-native)" in found.notes[0]


def test_a_baseline_that_was_renamed_to_another_environment_is_refused(tmp_path):
    path, _ = store.write(tmp_path, evaluated(numerics="native"))
    path.rename(path.with_name("onnxruntime-cpu-emulated.json"))
    with pytest.raises(BaselineError, match=r"made elsewhere(.|\n)*numerics emulated(.|\n)*native"):
        store.find(tmp_path, evaluated())


@pytest.mark.parametrize(("field", "other"), [("engine", "int8"), ("model", "shoes")])
def test_a_baseline_of_another_model_or_engine_is_refused(field, other, tmp_path):
    path, _ = store.write(tmp_path, evaluated())
    path.write_text(json.dumps({**json.loads(path.read_text()), field: other}))
    with pytest.raises(BaselineError, match=rf"another model or engine(.|\n)*cats\[fp16\](.|\n)*{other}"):
        store.find(tmp_path, evaluated())


def test_an_approved_result_is_found(tmp_path):
    store.write(tmp_path, evaluated())
    found = store.find(tmp_path, evaluated())
    assert found.notes == ()
    assert found.baseline.classes["Coat"]["tp"] == 28


def changed_record(**digests) -> dict:
    made = record()
    for name, digest in digests.items():
        part = {"labels": "data", "calibration": "lowered"}.get(name, name)
        key = "digest" if part == name else f"{name}_digest"
        made[part][key] = digest
    return made


@pytest.mark.parametrize(("part", "what"), [("data", "the evaluation data"), ("labels", "the labels")])
def test_changed_data_and_labels_are_refused(part, what, tmp_path):
    store.write(tmp_path, evaluated())
    now = replace(evaluated(), record=changed_record(**{part: "sha256:else"}))
    with pytest.raises(BaselineError, match=f"{what} changed since the baseline was approved") as caught:
        store.find(tmp_path, now)
    assert "found:    else" in str(caught.value)
    assert "the same command with --trt-update-baselines" in str(caught.value)


@pytest.mark.parametrize(("part", "note"), [
    ("model", "the model changed since the baseline was approved (model -> else)"),
    ("calibration", "the calibration data changed since the baseline was approved (none -> else)"),
])  # fmt: skip
def test_a_changed_model_or_calibration_is_compared_and_said(part, note, tmp_path):
    store.write(tmp_path, evaluated())
    found = store.find(tmp_path, replace(evaluated(), record=changed_record(**{part: "sha256:else"})))
    assert found.notes == (note,)
    assert found.baseline is not None


def test_everything_that_changed_is_listed_also_where_it_forbids_to_compare(tmp_path):
    store.write(tmp_path, evaluated())
    now = changed_record(model="sha256:new model", data="sha256:new data")
    now["environment"]["packages"] |= {"onnxruntime": "9.9", "tensorrt": "11.4"}
    now["lowered"]["method"] = "minmax"
    state = approve.state(tmp_path, replace(evaluated(), record=now))
    then = record()["environment"]["packages"].get("onnxruntime", "none")
    assert state["status"] == "refused"
    assert state["changes"] == [
        {"what": "model", "approved": "model", "now": "new model"},
        {"what": "evaluation data", "approved": "data", "now": "new data"},
        {"what": "calibration method", "approved": "none", "now": "minmax"},
        {"what": "onnxruntime", "approved": then, "now": "9.9"},
    ]
    assert approve.state(tmp_path, evaluated())["changes"] == []


def test_a_file_from_before_the_lowering_was_kept_changed_in_nothing_that_it_does_not_say(tmp_path):
    path, _ = store.write(tmp_path, evaluated())
    kept = json.loads(path.read_text())
    del kept["lowering"]
    path.write_text(json.dumps(kept))
    assert approve.state(tmp_path, evaluated())["changes"] == []
    path.write_text("damaged")
    assert approve.state(tmp_path, evaluated())["changes"] == []


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("Shirt", "Coat", "Bag"), "different: Ankle böot, Bag"),
        (
            ("Coat", "Shirt", "Ankle böot"),
            "the same names in another order",
        ),  # by name it would compare others
    ],
)
def test_changed_classes_are_refused(classes, message, tmp_path):
    store.write(tmp_path, evaluated())
    with pytest.raises(BaselineError, match="the classes changed") as caught:
        store.find(tmp_path, evaluated(classes=classes))
    assert message in str(caught.value)


def test_a_count_of_other_images_is_refused(tmp_path):
    path, _ = store.write(tmp_path, evaluated())
    path.write_text(document(images=80, predictions=None))
    with pytest.raises(BaselineError, match=r"counts other images(.|\n)*90 images(.|\n)*80"):
        store.find(tmp_path, evaluated())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"\x80" * 50])
def test_a_damaged_file_is_refused_with_its_path(content, tmp_path):
    path, _ = store.write(tmp_path, evaluated())
    path.write_bytes(content)
    with pytest.raises(BaselineError, match=r"the baseline (is damaged|cannot be read)") as caught:
        store.find(tmp_path, evaluated())
    assert str(path) in str(caught.value).splitlines()[0]


def test_a_folder_in_the_files_place_is_refused(tmp_path):
    store.path_of(tmp_path, evaluated()).mkdir(parents=True)
    with pytest.raises(BaselineError, match="cannot be read"):
        store.find(tmp_path, evaluated())
    with pytest.raises(BaselineError, match="cannot be written"):
        store.write(tmp_path, evaluated())


def test_scores_that_are_missing_now_leave_the_baseline_readable(tmp_path):
    store.write(tmp_path, evaluated())
    old = np.eye(3, dtype=np.float32)[TRUTH]
    lost = replace(compared({"y": old}, {}, truth=TRUTH, classes=NAMES), record=record())
    assert store.find(tmp_path, lost).baseline is not None


# writing


def test_writing_says_whether_anything_changed(tmp_path):
    path, changed = store.write(tmp_path, evaluated())
    assert changed
    stamp = path.stat().st_mtime_ns
    assert store.write(tmp_path, evaluated()) == (path, False)
    assert path.stat().st_mtime_ns == stamp
    assert store.write(tmp_path, evaluated(TRUTH)) == (path, True)
    assert path.read_bytes() == schema.dump(schema.of_evaluation(evaluated(TRUTH))).encode()
    assert b"\r" not in path.read_bytes()


def test_a_write_that_fails_leaves_the_approved_file(tmp_path, monkeypatch):
    path, _ = store.write(tmp_path, evaluated())

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BaselineError, match=r"cannot be written(.|\n)*no space left"):
        store.write(tmp_path, evaluated(TRUTH))
    assert path.read_text(encoding="utf-8") == TEXT
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_file_can_be_read_by_reviewers(tmp_path):
    umask = os.umask(0o022)
    try:
        path, _ = store.write(tmp_path, evaluated())
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_class_name_that_is_no_unicode_cannot_be_approved(tmp_path):
    # What os.listdir gives for a folder whose name is no UTF-8.
    with pytest.raises(BaselineError, match="cannot be written"):
        store.write(tmp_path, evaluated(classes=("a", "b", "\udcff")))


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "baselines").write_text("")
    with pytest.raises(BaselineError, match="cannot be written"):
        store.write(tmp_path / "baselines", evaluated())


def test_git_shows_a_changed_baseline_line_by_line(tmp_path):
    path, _ = store.write(tmp_path, evaluated())
    copy = tmp_path / "before.json"
    copy.write_bytes(path.read_bytes())
    store.write(tmp_path, evaluated(TRUTH))
    command = ["git", "diff", "--no-index", "--numstat", str(copy), str(path)]
    added, removed, _ = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split(
        "\t", 2
    )
    assert int(added) == int(removed) < 30


# what a run does


def items(*verdicts: str) -> list[dict[str, Any]]:
    return [
        {
            "check": check,
            "verdict": verdict,
            "fails": verdict in ("fail", "error"),
            "nodeid": "test_cats.py::test_it",
        }
        for check, verdict in zip(("outputs", "recall"), verdicts, strict=False)
    ]


def test_approving_says_what_was_done_with_relative_paths(tmp_path):
    root = tmp_path / "baselines"
    states = [
        approve.write(root, evaluated(), items("pass", "inconclusive"), interrupted=False) for _ in range(2)
    ]
    assert [state["status"] for state in states] == ["written", "unchanged"]
    assert states[0]["path"] == "baselines/cats/fp16/onnxruntime-cpu-emulated.json"
    assert store.find(root, evaluated()).baseline is not None


def test_what_is_inconclusive_is_not_approved_where_that_fails(tmp_path):
    strict = [item | {"fails": item["check"] == "recall"} for item in items("pass", "inconclusive")]
    state = approve.write(tmp_path / "baselines", evaluated(), strict, interrupted=False)
    assert state["message"] == "not written: recall failed"


@pytest.mark.parametrize(
    ("nodeids", "checks", "missing"),
    [
        (True, ("build", "outputs"), "batch_invariance, accuracy, recall, precision"),
        (True, ("build", "outputs", "batch_invariance", "accuracy", "recall"), "precision"),
        (False, ("outputs",), "accuracy, recall, precision"),
        (True, ("build", "outputs", "batch_invariance", "accuracy", "recall", "precision"), None),
        (False, ("recall",), None),
    ],
)
def test_what_was_not_judged_is_not_approved(nodeids, checks, missing, tmp_path):
    ran = [
        {
            "check": check,
            "verdict": "pass",
            "fails": False,
            "nodeid": f"t.toml::cats[fp16]::{check}" if nodeids else "test_a.py::t",
        }
        for check in checks
    ]
    state = approve.write(tmp_path / "baselines", evaluated(), ran, interrupted=False)
    expected = "written" if missing is None else f"not written: {missing} did not run"
    assert state["message"].startswith(expected)


def nonfinite() -> Evaluation:
    return evaluated(np.where(np.arange(90) == 0, -1, ANSWERS))


def misshapen() -> Evaluation:
    return replace(evaluated(), problems={"z": "output 'z' is missing"})


@pytest.mark.parametrize(
    ("made", "verdicts", "interrupted", "reason"),
    [
        (evaluated, ("pass", "fail"), False, "recall failed"),
        (evaluated, ("error", "fail"), False, "outputs, recall failed"),
        (evaluated, ("pass", "pass"), True, "the run was interrupted"),
        (nonfinite, ("pass", "pass"), False, "NaN or infinity"),
        (misshapen, ("pass", "pass"), False, "output 'z' is missing"),
    ],
)
def test_an_unhealthy_run_approves_nothing(made, verdicts, interrupted, reason, tmp_path):
    state = approve.write(tmp_path / "baselines", made(), items(*verdicts), interrupted=interrupted)
    assert (state["status"], state["message"]) == ("not written", f"not written: {reason}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "baselines").write_text("")
    state = approve.write(tmp_path / "baselines", evaluated(), items("pass", "pass"), interrupted=False)
    assert state["status"] == "failed"
    assert "the baseline cannot be written" in state["message"]


def test_an_ordinary_run_says_how_the_baseline_stands(tmp_path):
    root = tmp_path / "baselines"
    missing = approve.state(root, evaluated())
    assert (missing["status"], missing["path"]) == (
        "missing",
        "baselines/cats/fp16/onnxruntime-cpu-emulated.json",
    )
    assert "no baseline yet" in missing["message"]
    path, _ = store.write(root, evaluated())
    assert approve.state(root, evaluated())["status"] == "compared"
    changed = replace(evaluated(), record=changed_record(model="sha256:else"))
    assert "the model changed" in approve.state(root, changed)["message"]
    refused = approve.state(root, replace(evaluated(), record=changed_record(data="sha256:else")))
    assert (refused["status"], refused["path"]) == ("refused", missing["path"])
    assert "the evaluation data changed" in refused["message"]
    path.write_text("{")
    assert approve.state(root, evaluated())["status"] == "refused"
