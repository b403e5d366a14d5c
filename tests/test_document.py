"""report.json: the fields that docs/report-schema.md promises, in plain JSON."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluation import compared, judged, record

from trtcheck import checks, engine_check, environment
from trtcheck.backends.base import BuiltEngine
from trtcheck.baselines import approve, store
from trtcheck.case import Case, Check, EngineSpec, Gates, Numerics, Outcome, Precision, Verdict
from trtcheck.evaluation import Evaluation
from trtcheck.report.document import FULL_MATRIX, document, item, plain

SCHEMA = Path(__file__).parents[1] / "docs" / "report-schema.md"
GATES = Gates(top_k_accuracy_drop=0.01)
TRUTH = np.where(np.arange(600) < 590, np.arange(600) % 3, -1)
REFERENCE = np.where(np.arange(600) < 9, (TRUTH + 1) % 3, np.maximum(TRUTH, 0))
CANDIDATE = np.where(np.arange(600) % 10 == 0, (REFERENCE + 1) % 3, REFERENCE)
RUN = {
    "started": "2024-01-02T03:04:05+00:00",
    "seconds": 1.5,
    "version": "1",
    "command": "",
    "workers": 0,
    "exitstatus": 0,
}


def facts(root: Path, **changed: Any) -> dict[str, Any]:
    lowered = {
        "made_by": "trtcheck", "digest": "sha256:l", "source_digest": "sha256:s", "method": "entropy",
        "calibration_digest": "sha256:c", "calibration_images": 64, "rest": "fp16", "exclude": [],
        "nodes": {}, "kept": [], "clamped": [], "notes": [],
    }  # fmt: skip
    return record(
        lowered=lowered,
        facts={
            "nodes": 3, "types": {"FLOAT16": 3}, "computes": {"head": "fp16"},
            "engine_bytes": 99,
        },
        model={"path": str(root / "model.onnx"), "digest": "sha256:m", "inputs": ["x"], "outputs": ["y"]},
        data={"name": str(root / "eval.npz"), "digest": "sha256:d", "labels_digest": "sha256:l"},
        calibration={"name": f"{root / 'a.npy'}, {root / 'b.npy'}", "digest": "sha256:c", "images": 64},
        **changed,
    )  # fmt: skip


def evaluated(root: Path, engine: str = "fp16", candidate: np.ndarray = CANDIDATE, **more: Any) -> Evaluation:
    evaluation = judged(TRUTH, REFERENCE, candidate, ("Shirt", "Coat", "Bag"), engine=engine, **more)
    return replace(evaluation, record=facts(root))


def made(root: Path, evaluations: list[Evaluation]) -> dict[str, Any]:
    """A document of real outcomes and baselines."""
    records, baselines = [], {}
    for evaluation in evaluations:
        store.write(root / "baselines", evaluation)
        baselines[evaluation.model, evaluation.engine] = approve.state(root / "baselines", evaluation)
        built = BuiltEngine(
            Path("engine.onnx"), Path("model.onnx"), "onnxruntime-cpu", Numerics.EMULATED, cached=True,
            lowered=evaluation.record["lowered"], facts=evaluation.record["facts"],
        )  # fmt: skip
        case = Case(name=evaluation.model, onnx=root / "model.onnx", data=root / "eval.npz")
        spec = EngineSpec(evaluation.engine, Precision.FP16)
        find = partial(store.find, root / "baselines", evaluation)
        outcomes = [
            engine_check.build(case, spec, built),
            *(judge(evaluation, GATES, find) for judge in checks.CHECKS.values()),
        ]
        records += [item(f"suite.toml::{o.model}[{o.engine}]::{o.check}", o) for o in outcomes]
    skipped = Outcome("dogs", "", Check.BUILD, Verdict.SKIPPED, "type --trt-engine=…")
    place = evaluations[0].record["environment"] if evaluations else environment.bare_fingerprint()
    return document(
        items=[*records, item("suite.toml::dogs", skipped)], evaluations=evaluations, baselines=baselines,
        environment=place, run=RUN, root=root,
    )  # fmt: skip


def promised() -> dict[str, dict[str, str]]:
    """Field to description by section of docs/report-schema.md; rows of several fields are taken apart."""
    sections: dict[str, dict[str, str]] = {}
    section = "top"
    for line in SCHEMA.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip()
        elif line == "and by check:":
            section = "checks"
        elif line.startswith("| `"):
            names, described = [cell.strip() for cell in line.strip("|").split(" | ", 1)]
            for name in re.findall(r"`(\w+)`", names):
                sections.setdefault(section, {})[name] = described
    return sections


PROMISED = promised()


def named(description: str, *after: str) -> set[str]:
    """The names in backticks of the *description*, from the text *after* on."""
    for text in after:
        description = description[description.index(text) :]
    return set(re.findall(r"`(\w+)`", description))


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    return made(tmp_path, [evaluated(tmp_path), evaluated(tmp_path, "int8")])


def test_the_documentation_is_read():
    assert set(PROMISED) == {"top", "models[]", "engines[]", "items[]", "checks"}
    assert len(PROMISED["engines[]"]) > 20


def test_sections_have_exactly_the_promised_fields(report):
    assert set(report) == set(PROMISED["top"])
    for model in report["models"]:
        assert set(model) == set(PROMISED["models[]"])
    for engine in report["engines"]:
        assert set(engine) == set(PROMISED["engines[]"])
    own = set(PROMISED["items[]"])
    assert own == {"nodeid", "model", "engine", "check", "verdict", "numerics", "message", "notes"}
    assert {i["check"] for i in report["items"] if i["model"] == "cats"} == set(PROMISED["checks"])
    for each in report["items"]:
        assert own <= set(each)


def test_sections_inside_have_exactly_the_promised_fields(report):
    model, engine = report["models"][0], report["engines"][0]
    tables = PROMISED["models[]"], PROMISED["engines[]"]
    assert set(report["environment"]) == named(PROMISED["top"]["environment"]) - {
        "name",
        "version",
        "device",
        "reason",
        "driver",
    }
    assert set(report["environment"]["backend"]) == {"name", "version", "device", "reason", "driver"}
    assert set(report["run"]) == named(PROMISED["top"]["run"])
    for name in ("model", "data", "calibration"):
        assert set(model[name]) == named(tables[0][name]), name
    for name in ("accuracy", "top_k", "flips", "agreement", "baseline"):
        described = (
            tables[1][name].partition("`worst`: ")[0] + "`worst`" if name == "flips" else tables[1][name]
        )
        statuses = named(described, "`compared`") - {"path", "message"} if name == "baseline" else set()
        assert set(engine[name]) == named(described) - statuses, name
    assert set(engine["flips"]["worst"][0]) == named(tables[1]["flips"], "at most 100 with")
    assert set(engine["outputs"][0]) == named(tables[1]["outputs"])
    assert set(engine["confusions"][0]) == named(tables[1]["confusions"])
    figures = {"tp", "fp", "fn", "tn", "precision", "recall", "f1"}
    assert set(engine["classes"][0]) | figures == named(tables[1]["classes"])
    for side in ("before", "after"):
        assert set(engine["classes"][0][side]) == figures
        assert engine["averages"][side].keys() == {"macro", "weighted"}
        assert engine["averages"][side]["macro"].keys() == {"precision", "recall", "f1"}
    assert set(engine["lowered"]) == named(tables[1]["lowered"])
    assert set(engine["facts"]) == named(tables[1]["facts"]) - {"quantized"}


def test_items_have_exactly_the_promised_fields(report):
    own = set(PROMISED["items[]"])
    found = {i["check"]: set(i) - own for i in report["items"] if i["engine"] == "fp16"}
    for check in ("build", "outputs"):
        assert found[check] == named(PROMISED["checks"][check]), check
    accuracy = named(PROMISED["checks"]["accuracy"]) - {"k", "gated"}
    assert found["accuracy"] == accuracy | {"baseline"}
    [accurate] = [i for i in report["items"] if (i["engine"], i["check"]) == ("fp16", "accuracy")]
    assert set(accurate["top_k"]) - {"verdict"} == accuracy - {"top_k"} | {"k", "gated"}
    for check in ("recall", "precision"):
        assert found[check] == {"alpha", "classes", "baseline"}
        [judged_item] = [i for i in report["items"] if (i["engine"], i["check"]) == ("fp16", check)]
        row = named(PROMISED["checks"][check], "rows with")
        assert set(judged_item["classes"][0]) == row
        assert set(judged_item["baseline"]) == {"classes", "verdict"}
        assert set(judged_item["baseline"]["classes"][0]) == row


def test_a_report_is_json_that_every_reader_takes(tmp_path):
    candidate = np.where(np.arange(600) < 50, -1, CANDIDATE)
    report = made(tmp_path, [evaluated(tmp_path, candidate=candidate)])
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report
    [engine] = [e for e in report["engines"] if e["engine"] == "fp16"]
    assert engine["flips"]["worst"][0]["confidence_after"] is None
    assert engine["flips"]["worst"][0]["after"] is None
    assert engine["confusion"]["after"][0][-1] > 0
    assert None in [row["answer"] for row in engine["confusions"]]


def test_figures_are_those_of_the_evaluation(report):
    engine = report["engines"][0]
    counted = TRUTH >= 0
    assert (engine["images"], engine["labelled"]) == (600, 590)
    assert engine["accuracy"]["after"] == pytest.approx(np.mean(CANDIDATE[counted] == TRUTH[counted]))
    assert engine["flips"]["total"] == int((CANDIDATE != REFERENCE).sum()) == 60
    assert engine["flips"]["churn"] == 0.1
    assert len(engine["flips"]["worst"]) == 60
    row = engine["classes"][1]
    assert (row["name"], row["support"]) == ("Coat", int((TRUTH == 1).sum()))
    assert row["after"]["tp"] == int(((TRUTH == 1) & (CANDIDATE == 1)).sum())
    assert row["after"]["recall"] == row["after"]["tp"] / row["support"]
    assert engine["confusion"]["after"][1][2] == int(((TRUTH == 1) & (CANDIDATE == 2)).sum())
    changes = [abs(row["after"] - row["before"]) for row in engine["confusions"]]
    assert changes == sorted(changes, reverse=True)
    assert all(row["truth"] != row["answer"] for row in engine["confusions"])


def test_paths_below_the_root_are_relative(report, tmp_path):
    model = report["models"][0]
    assert (model["model"]["path"], model["data"]["name"]) == ("model.onnx", "eval.npz")
    assert model["calibration"]["name"] == "a.npy, b.npy"
    assert report["engines"][0]["baseline"]["path"].startswith("baselines/cats/fp16/")
    assert str(tmp_path) not in json.dumps(report)


def test_paths_elsewhere_stay_as_they_are(tmp_path):
    report = made(tmp_path / "project", [evaluated(tmp_path / "data")])
    assert report["models"][0]["model"]["path"] == str(tmp_path / "data" / "model.onnx")


def test_a_model_that_was_skipped_has_no_engine(report):
    skipped = [i for i in report["items"] if i["model"] == "dogs"]
    assert [(i["engine"], i["verdict"]) for i in skipped] == [(None, "skipped")]
    assert [e["engine"] for e in report["engines"]] == ["fp16", "int8"]
    [dogs] = [m for m in report["models"] if m["name"] == "dogs"]
    assert (dogs["engines"], dogs["verdict"], dogs["model"], dogs["classes"]) == ([], "skipped", None, [])


def test_an_engine_that_could_not_be_evaluated_still_has_its_fields(tmp_path):
    failed = Outcome("cats", "int8", Check.RECALL, Verdict.ERROR, "INT8 needs calibration data")
    report = document(
        items=[item("a", failed)], evaluations=[], baselines={}, environment=environment.bare_fingerprint(),
        run=RUN, root=tmp_path,
    )  # fmt: skip
    [engine] = report["engines"]
    assert set(engine) == set(PROMISED["engines[]"])
    assert (engine["verdict"], engine["checks"], engine["baseline"]) == ("error", {"recall": "error"}, None)
    assert (report["verdict"], report["models"][0]["gates"]) == ("error", None)


def test_without_labels_or_scores_a_report_is_still_made(tmp_path):
    unlabelled = replace(judged([-1, -1], [0, 1], [0, 0]), record=facts(tmp_path))
    old = np.ones((2, 2), np.float32)
    unscored = replace(
        compared({"y": old}, {"y": old}, scores=None, engine_name="bf16"), record=facts(tmp_path)
    )
    report = document(
        items=[], evaluations=[unlabelled, unscored], baselines={}, environment={}, run=RUN, root=tmp_path
    )
    without, labelless = report["engines"]
    assert (labelless["labelled"], labelless["accuracy"]) == (0, {"before": None, "after": None})
    assert labelless["flips"]["total"] == 1
    assert labelless["classes"][0]["before"]["recall"] is None
    assert (without["accuracy"], without["flips"], without["agreement"], without["images"]) == (
        None,
        None,
        None,
        2,
    )
    json.dumps(report, allow_nan=False)


def test_many_classes_are_given_by_their_changes_only(tmp_path):
    count = FULL_MATRIX + 1
    truth = np.arange(count)
    evaluation = replace(
        judged(truth, truth, (truth + 1) % count, [str(k) for k in range(count)]), record=facts(tmp_path)
    )
    [engine] = document(
        items=[], evaluations=[evaluation], baselines={}, environment={}, run=RUN, root=tmp_path
    )["engines"]
    assert engine["confusion"] is None
    assert len(engine["confusions"]) == 50
    assert len(engine["classes"]) == count


def outcome(check: Check, verdict: Verdict, measured: dict[str, Any] | None = None) -> Outcome:
    return Outcome("cats", "fp16", check, verdict, "why", Numerics.EMULATED, measured or {}, ("note",))


def test_an_items_own_fields_are_never_those_of_a_figure():
    made = item("a::b", outcome(Check.ACCURACY, Verdict.FAIL, {"verdict": "pass", "message": "", "b": 3}))
    assert (made["verdict"], made["message"], made["b"]) == ("fail", "why", 3)
    assert list(made)[:3] == ["nodeid", "model", "engine"]


def test_an_item_that_fails_by_top_k_or_baseline_alone_is_a_fail(tmp_path):
    evaluation = evaluated(tmp_path)
    labels = evaluation.labels
    same = replace(evaluation, labels=replace(
        labels, candidate=labels.reference, candidate_top_k=labels.reference_top_k & (np.arange(600) > 60)
    ))  # fmt: skip
    assert item("a", checks.accuracy(same, GATES))["verdict"] == "fail"
    store.write(tmp_path / "b", replace(evaluation, labels=replace(labels, candidate=labels.truth)))
    both_worse = replace(evaluation, labels=replace(labels, reference=labels.candidate))
    judged_item = item(
        "a", checks.accuracy(both_worse, Gates(), lambda: store.find(tmp_path / "b", both_worse))
    )
    assert (judged_item["verdict"], judged_item["baseline"]["verdict"]) == ("fail", "fail")


def test_the_worst_of_several_items_of_one_check_counts(tmp_path):
    items = [
        item("a", outcome(Check.RECALL, Verdict.FAIL)), item("b", outcome(Check.RECALL, Verdict.PASS)),
        item("c", outcome(Check.BUILD, Verdict.PASS)),
    ]  # fmt: skip
    report = document(items=items, evaluations=[], baselines={}, environment={}, run=RUN, root=tmp_path)
    assert report["engines"][0]["checks"] == {"build": "pass", "recall": "fail"}
    assert report["verdict"] == report["engines"][0]["verdict"] == report["models"][0]["verdict"] == "fail"
    assert report["engines"][0]["notes"] == ["note"]
    assert [i["nodeid"] for i in report["items"]] == ["c", "a", "b"]


@pytest.mark.parametrize(("first", "second"), [
    ("error", "fail"), ("fail", "inconclusive"), ("inconclusive", "pass"), ("pass", "skipped"),
])  # fmt: skip
def test_the_worse_verdict_stands_for_both(first, second, tmp_path):
    items = [item(str(k), outcome(Check.RECALL, Verdict(v))) for k, v in enumerate((second, first, second))]
    assert (
        document(items=items, evaluations=[], baselines={}, environment={}, run=RUN, root=tmp_path)["verdict"]
        == first
    )


def test_no_items_are_no_success(tmp_path):
    assert (
        document(items=[], evaluations=[], baselines={}, environment={}, run=RUN, root=tmp_path)["verdict"]
        == "skipped"
    )


def test_plain_values():
    values = {"a": (1, [2.5, None]), "b": math.nan, "c": -math.inf, 3: Verdict.PASS, "t": True}
    assert plain(values) == {"a": [1, [2.5, None]], "b": None, "c": None, "3": "pass", "t": True}
    assert type(plain(Verdict.PASS)) is str


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1),
        np.float64(1),
        np.int64(1),
        np.bool_(True),
        np.zeros(2),
        {1, 2},
        b"x",
        Path("x"),
        object(),
    ],
)
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(TypeError, match="does not belong in a report"):
        plain({"a": [value]})


def test_the_order_of_evaluations_and_items_changes_nothing(tmp_path):
    evaluations = [evaluated(tmp_path), evaluated(tmp_path, "int8")]
    forward = made(tmp_path, evaluations)
    shuffled = document(
        items=forward["items"][::-1], evaluations=evaluations[::-1],
        baselines={("cats", e["engine"]): e["baseline"] for e in forward["engines"]},
        environment=forward["environment"], run=RUN, root=tmp_path,
    )  # fmt: skip
    assert shuffled == forward
