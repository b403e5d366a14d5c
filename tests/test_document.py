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

from trtcheck import batch_invariance, checks, engine_check, environment
from trtcheck.backends.base import BuiltEngine
from trtcheck.baselines import approve, store
from trtcheck.baselines.latency_schema import LatencyRun, StoredSession
from trtcheck.batch_invariance import BatchInvariance
from trtcheck.calibration import check as calibration_check
from trtcheck.calibration.coverage import Coverage
from trtcheck.calibration.findings import CalibrationFindings, Pair
from trtcheck.calibration.overlap import Match, Overlap
from trtcheck.calibration.saturation import Saturation, SaturationRow
from trtcheck.case import Case, Check, EngineSpec, Gates, Numerics, Outcome, Precision, Verdict
from trtcheck.evaluation import Evaluation
from trtcheck.latency import check as latency_check
from trtcheck.latency.check import Standing
from trtcheck.latency.measurement import Health, Measurement, Timings, WarmUp
from trtcheck.latency.record import LatencyResult
from trtcheck.latency.timing import Clock, TimingMode
from trtcheck.metrics.between_batches import AnswerDifference, OutputDifference
from trtcheck.report import false_alarm
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
    "ci": None,
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
    of_checks = {
        "accuracy", "classes", "pooled", "overlap", "coverage", "saturation", "Between batches", "Times",
        "Comparisons", "Limits", "Changes", "Errors", "history", "runs[]", "jobs[]", "ci", "stored",
    }  # fmt: skip
    assert set(PROMISED) == {"top", "models[]", "engines[]", "items[]", "checks", *of_checks}
    assert len(PROMISED["engines[]"]) > 20


def test_sections_have_exactly_the_promised_fields(report):
    assert set(report) == set(PROMISED["top"])
    for model in report["models"]:
        assert set(model) == set(PROMISED["models[]"])
    for engine in report["engines"]:
        assert set(engine) == set(PROMISED["engines[]"])
    own = set(PROMISED["items[]"])
    assert own == {
        "nodeid", "model", "engine", "check", "verdict", "numerics", "message", "notes", "warnings", "fails",
    }  # fmt: skip
    assert set(PROMISED["checks"]) == {check.value for check in Check}
    assert set(report["false_alarm"]) == named(PROMISED["top"]["false_alarm"]) - {
        "test", "threshold", "proven",
    }  # fmt: skip
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
        "settings",
    }
    of_backend = {"name", "version", "device", "reason", "driver", "settings"}
    assert set(report["environment"]["backend"]) == of_backend
    assert set(engine["reference"]) == {"provider", "version", "device", "reason"}
    assert named(tables[1]["reference"]) - {"onnxruntime-cpu", "onnxruntime-cuda"} == set(engine["reference"])
    assert set(report["run"]) == named(PROMISED["top"]["run"])
    for name in ("model", "data", "calibration"):
        assert set(model[name]) == named(tables[0][name]), name
    for name in ("accuracy", "top_k", "flips", "agreement", "baseline"):
        described = (
            tables[1][name].partition("`worst`: ")[0] + "`worst`" if name == "flips" else tables[1][name]
        )
        fields = {"path", "message", "changes"}
        statuses = named(described, "`compared`") - fields if name == "baseline" else set()
        assert set(engine[name]) == named(described) - statuses, name
    assert set(engine["flips"]["worst"][0]) == named(tables[1]["flips"], "most confidence lost first, with")
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
    assert found["build"] == named(PROMISED["checks"]["build"])
    churn = {"rate", "low", "high", "confidence", "limit", "alpha", "test", "verdict"}
    assert found["outputs"] | churn == named(PROMISED["checks"]["outputs"])
    accuracy = set(PROMISED["accuracy"])
    assert found["accuracy"] == accuracy | {"own_verdict", "top_k", "baseline"}
    items = {i["check"]: i for i in report["items"] if i["engine"] == "fp16"}
    assert set(items["outputs"]["churn"]) == churn
    assert set(items["accuracy"]["top_k"]) == accuracy | {"k", "gated", "verdict"}
    assert set(items["accuracy"]["baseline"]) == accuracy | {"verdict", "paired"}
    for check in ("recall", "precision"):
        assert found[check] == {"alpha", "test", "classes", "pooled", "baseline"}
        own_rows, beside = items[check], items[check]["baseline"]
        assert set(beside) == {"alpha", "test", "classes", "pooled", "verdict", "paired"}
        for rows in (own_rows, beside):
            assert set(rows["classes"][0]) == set(PROMISED["classes"])
            assert set(rows["pooled"]) == set(PROMISED["pooled"])


def test_what_was_found_of_calibration_and_batches_has_exactly_the_promised_fields():
    case = Case(name="cats", onnx=Path("model.onnx"), data=Path("eval.npz"))
    spec = EngineSpec("int8", Precision.INT8)
    built = BuiltEngine(Path("e.onnx"), Path("l.onnx"), "onnxruntime-cpu", Numerics.EMULATED, True, {}, {})
    pair = Pair(evaluation=3, calibration=4)
    row = SaturationRow("a", "/relu", -1.0, 1.0, 1, 100, 3, 0, -0.5, 2.0)
    found = CalibrationFindings(
        made_elsewhere=False, overlap=Overlap(100, 90, 50, (Match(4, 3),), (Match(4, 3),)),
        exact_pairs=(pair,), resized_pairs=(pair,), coverage=Coverage(True, {"Bag": 100}),
        saturation=Saturation((row,), 50, 0),
    )  # fmt: skip
    told = item("a", calibration_check.outcome(case, spec, built, found))
    own = set(PROMISED["items[]"])
    assert set(told) - own == named(PROMISED["checks"]["calibration"])
    described = PROMISED["overlap"]
    assert set(told["overlap"]) == set(described)
    assert set(told["overlap"]["exact_pairs"][0]) == named(described["exact_pairs"])
    assert set(told["coverage"]) == set(PROMISED["coverage"])
    assert set(told["saturation"]) == set(PROMISED["saturation"])
    assert set(told["saturation"]["rows"][0]) == named(PROMISED["saturation"]["rows"])
    output = OutputDifference("y", False, 0.5, 1, 8, 3)
    between = BatchInvariance(
        images=8, total=50, sizes=(1, 8), tolerance=0.01, outputs=(output,), answers=AnswerDifference(),
        repeated=(output,), reference=(output,),
    )  # fmt: skip
    told = item("a", batch_invariance.outcome(case, spec, built, between))
    of_answers = set(told["answers"])
    assert set(told) - own | of_answers == named(PROMISED["checks"]["batch_invariance"])
    for rows in ("outputs", "repeated", "reference"):
        assert set(told[rows][0]) == set(PROMISED["Between batches"])


def timed(rounds: int = 12) -> LatencyResult:
    """A measurement of made-up times: an engine of 1 ms beside an approved one and a reference of 2 ms."""
    mode = TimingMode(Clock.HOST, transfers=False, cuda_graph=False, spin_wait=False)
    times = np.random.default_rng(1).normal(1.0, 0.001, (3, rounds, 20))
    names = ("engine", "approved", "reference")
    timings = {
        name: Timings(mode, own * (2 if name == "reference" else 1), np.full(rounds, 0.021))
        for name, own in zip(names, times, strict=True)
    }
    session = StoredSession("s", "2026-01-31T12:00:00+00:00", "sha256:e", rounds, 1.0, 1.1, 950.0)
    run = LatencyRun(
        model="cats", engine="fp16", batch=8, environment={"backend": "onnxruntime-cpu"}, lowered="sha256:l",
        engine_path="engine.onnx", engine_suffix=".onnx", session=session, unhealthy=(),
    )  # fmt: skip
    measured = Measurement(
        batch=8, timings=timings, warm_up=WarmUp(True, 1.0, 100), looks=((rounds, 1.0),),
        health=Health(figures={"processor": {"cores": 4}}), joules_per_query=0.5, absent={"fp32": "broken"},
    )  # fmt: skip
    return LatencyResult(
        measurement=measured, runs=(run,), shown={"reference": "ONNX Runtime"}, backend="onnxruntime-cpu",
        precision="fp16", numerics=Numerics.NATIVE,
    )  # fmt: skip


def test_what_was_timed_has_exactly_the_promised_fields():
    state = {"status": "compared", "path": "baselines/x.json", "message": "compared", "sessions": 1}
    gates = Gates(latency_ms=2.0, energy_mj=100.0, throughput_drop=0.1)
    told = item("a", latency_check.outcome(timed(), gates, Standing(state)))
    own, times = set(PROMISED["items[]"]), PROMISED["Times"]
    assert set(told) - own == named(PROMISED["checks"]["latency"]) == set(times)
    assert set(told["timing"]) == named(times["timing"], "`clock`") - {"device", "host"}
    for field in ("latency", "warm_up", "health"):
        inside = named(times[field]) - ({"gpu", "processor"} if field == "health" else set())
        assert set(told[field]) == inside, field
    assert set(told["contestants"]["reference"]) == named(times["contestants"])
    assert set(told["speedups"]["approved"]) == named(times["speedups"])
    assert set(told["latency_baseline"]) == named(times["latency_baseline"]) - {"baseline"}
    assert [row["what"] for row in told["judged"]] == ["median", "p95", "throughput"]
    assert [row["gate"] for row in told["limits"]] == ["latency_ms", "energy_mj"]
    for section, rows in (("Comparisons", told["judged"]), ("Limits", told["limits"])):
        for row in rows:
            assert set(row) == set(PROMISED[section]), section
    assert set(told["round_medians_ms"]) == {"engine", "approved", "reference"}
    json.dumps(told, allow_nan=False)


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
    lost = [flip["lost"] for flip in engine["flips"]["worst"]]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > 0
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


def test_warnings_and_what_fails_stand_beside_the_verdict():
    unsure = replace(outcome(Check.RECALL, Verdict.INCONCLUSIVE), warnings=("class 'Bag' is blind",))
    told = item("a", unsure)
    assert (told["verdict"], told["warnings"], told["fails"]) == (
        "inconclusive", ["class 'Bag' is blind"], False,
    )  # fmt: skip
    assert item("a", replace(unsure, strict=True))["fails"]
    assert not item("a", replace(outcome(Check.RECALL, Verdict.PASS), strict=True))["fails"]
    assert item("a", outcome(Check.RECALL, Verdict.FAIL))["fails"]


def test_every_test_of_a_session_adds_to_what_chance_can_do(report):
    # Two engines: accuracy with a gated top-k, recall and precision, each against a baseline as well.
    assert report["false_alarm"] == {
        "tests": 14, "alpha": 0.01, "bound": pytest.approx(0.14), "unbounded": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("measured", "expected"), [
    ([], {"tests": 0, "alpha": None, "bound": 0, "unbounded": 0}),
    ([{"alpha": 0.01, "test": "paired"}, {"alpha": 0.02, "test": "paired"}],
     {"tests": 2, "alpha": None, "bound": 0.03, "unbounded": 0}),
    ([{"alpha": 0.01, "test": "paired", "top_k": {"gated": False, "alpha": 0.01, "test": "paired"}}],
     {"tests": 1, "alpha": 0.01, "bound": 0.01, "unbounded": 0}),
    ([{"alpha": 0.01, "test": "threshold"}, {"alpha": 0.01, "test": "proven"}],
     {"tests": 0, "alpha": None, "bound": 0, "unbounded": 2}),
    # Proof takes the answers of single images: the counts of a baseline are judged by a test.
    ([{"alpha": 0.01, "test": "proven", "baseline": {"alpha": 0.01, "test": "paired"}}],
     {"tests": 1, "alpha": 0.01, "bound": 0.01, "unbounded": 1}),
    ([{"alpha": 0.4, "test": "paired"}] * 3, {"tests": 3, "alpha": 0.4, "bound": 1, "unbounded": 0}),
    ([{"outputs": [], "baseline": {"outputs": {}}}], {"tests": 0, "alpha": None, "bound": 0, "unbounded": 0}),
])  # fmt: skip
def test_what_chance_can_do_is_the_sum_of_the_paired_tests(measured, expected):
    items = [item("a", outcome(Check.ACCURACY, Verdict.PASS, figures)) for figures in measured]
    assert false_alarm.bound(items) == {**expected, "bound": pytest.approx(expected["bound"])}


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
