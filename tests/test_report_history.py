"""The history of runs: what is kept, what becomes of files that are none of ours, and what is drawn."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report_html import FASHION, HOSTILE, assert_sound, document, evaluated
from test_report_latency import THROTTLED, timed

from trtcheck.errors import ReportError
from trtcheck.report import history, html, view

ENVIRONMENT = {"backend": "onnxruntime-cpu 1.32.0", "device": "a processor", "onnxruntime": "1.32.0"}


def run(number: int, *engines: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "schema_version": 1, "id": f"{number:08x}", "started": f"2026-10-{number + 1:02}T08:00:00+00:00",
        "version": "0.1", "commit": f"{number:040x}", "ref": "main", "verdict": "pass",
        "environment": ENVIRONMENT, "engines": list(engines), **changed,
    }  # fmt: skip


def engine(shirt: float = 0.75, **changed: Any) -> dict[str, Any]:
    recall = {**dict.fromkeys(FASHION, 0.95), "Shirt": shirt}
    return {
        "model": "fashion", "engine": "int8", "verdict": "pass", "backend": "onnxruntime-cpu",
        "numerics": "emulated",
        "digests": {"model": "m", "data": "d", "labels": "l", "calibration": "c", "lowered": "w"},
        "accuracy": 0.93, "churn": 0.01, "recall": recall, "key_classes": [], "latency": {}, **changed,
    }  # fmt: skip


def times(median: float, **changed: Any) -> dict[str, Any]:
    own = {
        "median_ms": median, "p95_ms": median * 1.1, "throughput": 1e3 / median, "verdict": "pass",
        "healthy": True, "environment": "e",
    }  # fmt: skip
    return {"1": {**own, **changed}}


def with_runs(*runs: dict[str, Any], unreadable: int = 0) -> dict[str, Any]:
    made = document(evaluated("fashion", "int8", FASHION, 100, {}))
    return {**made, "history": history.joined(made, runs, unreadable)}


def page_of(*runs: dict[str, Any], **more: Any):
    [page] = view.engines(with_runs(*runs, **more))
    return page.history


# what is kept


def test_a_record_has_what_later_reports_draw_and_is_what_is_read_again(tmp_path):
    made, items = evaluated("fashion", "int8", FASHION, 100, {"Shirt": ("Coat", 0.5)})
    items[3]["classes"][2]["key"] = True
    found = document((made, items))
    found["items"].append({**timed("int8", 8, 1.5), "model": "fashion", "health": THROTTLED})
    record = history.record_of(found)
    [own] = record["engines"]
    assert own["recall"]["Shirt"] == made["classes"][6]["after"]["recall"]
    assert own["key_classes"] == [FASHION[2]]
    assert own["latency"] == {
        "8": {
            "median_ms": 1.5, "p95_ms": pytest.approx(1.5 * 1.007), "throughput": pytest.approx(8e3 / 1.5),
            "verdict": "pass", "healthy": False, "environment": "0123456789abcdef",
        }
    }  # fmt: skip
    history.keep(record, tmp_path)
    [path] = tmp_path.iterdir()
    assert re.fullmatch(r"[a-z0-9-]+\.json", path.name)
    assert path.stat().st_size < 3000
    assert history.read(tmp_path) == ([record], 0)


def test_of_many_classes_those_that_matter_are_kept():
    names = [f"class {k}" for k in range(1000)]
    made, items = evaluated("birds", "int8", names, 10, {"class 77": ("class 78", 0.9)})
    items[3]["classes"][500]["key"] = True
    [own] = history.record_of(document((made, items)))["engines"]
    assert len(own["recall"]) <= 42
    assert {"class 77", "class 500"} <= own["recall"].keys()


def test_runs_of_the_same_second_are_both_kept(tmp_path):
    made = document(evaluated("fashion", "int8", FASHION, 10, {}))
    for _ in range(2):
        history.keep(history.record_of(made), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    found = history.with_earlier(made, history.record_of(made), tmp_path)
    assert len(found["history"]["runs"]) == 3


def test_files_that_cannot_be_read_are_counted_and_foreign_ones_left_alone(tmp_path):
    def name(number: int) -> Path:
        return tmp_path / f"2026100{number}t080000z-{number:08x}.json"

    name(0).write_text(json.dumps(run(0, engine())))
    name(1).write_text("damaged")
    name(2).write_text(json.dumps(run(2, engine(), schema_version=2)))
    name(3).write_text(json.dumps(run(3, {"model": "fashion"})))
    name(4).write_text(json.dumps({**run(4), "engines": 5}))
    name(5).mkdir()
    (tmp_path / "notes.json").write_text("mine")
    runs, unreadable = history.read(tmp_path)
    assert ([found["id"] for found in runs], unreadable) == (["00000000"], 5)
    assert (tmp_path / "notes.json").read_text() == "mine"
    assert history.read(tmp_path / "nowhere") == ([], 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_run_that_is_taken_for_one_can_be_drawn(data):
    """Whatever stands in a file: either it is refused, or every page can be made of it."""
    made: dict[str, Any] = run(0, engine(latency=times(1.0)))
    target = made
    while True:
        key = data.draw(st.sampled_from(sorted(target)))
        if isinstance(target[key], dict) and target[key] and data.draw(st.booleans()):
            target[key] = dict(target[key])
            target = target[key]
        elif key == "engines" and isinstance(target[key], list) and data.draw(st.booleans()):
            target = target[key][0]
        else:
            target[key] = data.draw(JSON)
            break
    if history.is_run(made):
        shown = with_runs(made, run(1, engine(latency=times(1.1))))
        html.render(shown)


# what is drawn


def test_lines_are_broken_where_the_data_changed_and_changes_are_marked():
    changed = {"model": "m2", "data": "d2", "labels": "l", "calibration": "c", "lowered": "w2"}
    other = {**ENVIRONMENT, "onnxruntime": "1.33.0"}
    found = page_of(
        run(0, engine(0.70)), run(1, engine(0.71)), run(2, engine(0.72), environment=other),
        run(3, engine(0.73, digests=changed), environment=other),
    )  # fmt: skip
    [chart] = found.charts
    marks = [mark for mark in chart.marks if dict(mark.attributes).get("class") == "change"]
    assert [mark.title for mark in marks] == [
        "onnxruntime 1.32.0 → 1.33.0", "model changed; evaluation data changed"
    ]  # fmt: skip
    lines = [dict(mark.attributes)["points"].split() for mark in chart.marks if mark.tag == "polyline"]
    assert {len(line) for line in lines} == {3}  # the fourth run stands alone
    assert [key.name for key in chart.legend][:2] == ["accuracy", "recall of 'Shirt'"]
    assert "recall of 'Shirt': .700 at first, .730 now" in chart.description
    newest = found.tables[0].rows[0]
    assert newest.name == "2026-10-04 08:00 0000000"
    assert newest.detail == "model changed; evaluation data changed"


def test_a_run_that_did_not_get_far_hides_no_change():
    unknown = dict.fromkeys(("model", "data", "labels", "calibration", "lowered"))
    nothing = engine(digests=unknown, accuracy=None, recall={})
    blind = {**ENVIRONMENT, "backend": None}
    changed = {**engine()["digests"], "labels": "l2", "calibration": "c2"}
    found = page_of(run(0, engine()), run(1, nothing, environment=blind), run(2, engine(digests=changed)))
    [chart] = found.charts
    assert not [mark for mark in chart.marks if mark.tag == "polyline"]
    assert [row.detail for row in found.tables[0].rows] == [
        "labels changed; calibration data changed", "", ""
    ]  # fmt: skip


def test_key_classes_come_first_then_what_fell_and_what_is_lowest():
    [chart] = page_of(run(0, engine()), run(1, engine(0.2, key_classes=["Bag"]))).charts
    names = [key.name for key in chart.legend]
    assert names[1] == "recall of 'Bag'"
    assert "recall of 'Shirt'" in names
    assert len(names) <= 6


def test_times_of_other_environments_are_not_connected_and_unfit_ones_are_hollow():
    found = page_of(
        run(0, engine(latency=times(1.0))), run(1, engine(latency=times(1.1, healthy=False))),
        run(2, engine(latency=times(3.0, environment="f"))),
        run(3, engine(latency=times(3.1, environment="f"))),
    )  # fmt: skip
    chart = found.charts[1]
    assert len([mark for mark in chart.marks if mark.tag == "polyline"]) == 2
    hollow = [mark for mark in chart.marks if "hollow" in dict(mark.attributes).get("class", "")]
    assert [mark.title for mark in hollow] == ["batch 1, 2026-10-02 08:00 0000000: 1.100"]


def test_the_first_run_says_so_and_without_a_history_there_is_no_section(tmp_path):
    assert page_of(run(0, engine())).sentence == "This is the first run of this engine that is kept."
    assert view.index(with_runs(run(0, engine()))).history is None
    [page] = view.engines(document(evaluated("fashion", "int8", FASHION, 100, {})))
    assert page.history is None


def test_the_index_lists_the_last_runs_with_what_failed_and_changed(tmp_path):
    bad = engine(verdict="fail")
    other = {**ENVIRONMENT, "device": "another"}
    found = with_runs(
        run(0, engine()), run(1, bad, verdict="fail"), run(2, engine(), environment=other), unreadable=2
    )
    table = view.index(found).history
    assert [(row.name, row.cells[1].word, row.cells[2]) for row in table.rows] == [
        ("2026-10-03 08:00", "pass", "none"), ("2026-10-02 08:00", "fail", "fashion INT8"),
        ("2026-10-01 08:00", "pass", "none"),
    ]  # fmt: skip
    assert table.rows[0].detail == "device a processor → another"
    changed = {**engine()["digests"], "calibration": "c2"}
    both = with_runs(run(0, engine()), run(1, engine(digests=changed)))
    assert view.index(both).history.rows[0].detail == "calibration data of fashion changed"
    assert table.caption.endswith("; 2 files could not be read")
    assert_sound(found, tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_the_history_stay_names(name: str, tmp_path):
    made = document(evaluated("fashion", "int8", [name or "x", "other"], 20, {}))
    own = engine(recall={name: 0.5, "other": 0.9}, key_classes=[name])
    runs = [run(k, own, commit=name, environment={**ENVIRONMENT, "device": f"{name}{k}"}) for k in range(3)]
    assert_sound({**made, "history": history.joined(made, runs, 0)}, tmp_path)


def test_fifty_runs_weigh_little():
    runs = [run(k % 28, engine(0.5 + k / 200, latency=times(1 + k / 50)), id=f"{k:08x}") for k in range(60)]
    found = with_runs(*runs)
    assert len(found["history"]["runs"]) == history.DRAWN
    weights = [len(html.render(d)["fashion--int8.html"]) for d in (found, {**found, "history": None})]
    assert weights[0] - weights[1] < 18_000


# real runs


def test_every_run_is_kept_and_drawn_in_the_next(suite):
    for _ in range(2):
        suite.run("--trt-engine=fp16")
    runs = suite.report()["history"]["runs"]
    assert [len(found["engines"]) for found in runs] == [1, 1]
    assert len(list((suite.path / "reports" / "history").iterdir())) == 2
    assert (
        "Recall and accuracy over runs" in next((suite.path / "reports").glob("tiny--fp16.html")).read_text()
    )


def test_the_folder_can_be_named_or_none(suite):
    suite.run("--trt-engine=fp16", "--trt-history=kept")
    suite.run("--trt-engine=fp16", "--trt-history=none")
    assert len(list((suite.path / "kept").iterdir())) == 1
    assert not (suite.path / "reports" / "history").exists()
    assert "history" not in suite.report()
    (suite.path / "file").write_text("")
    result = suite.run("--trt-engine=fp16", "--trt-history=file")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--trt-history needs a folder, or none*"])


def test_workers_keep_one_run_together(suite):
    suite.run("--trt-engine=fp16,fp32", "-n2", plugins=["xdist"], process=True)
    assert len(list((suite.path / "reports" / "history").iterdir())) == 1
    assert len(suite.report()["history"]["runs"][0]["engines"]) == 2


def test_a_folder_that_cannot_be_written_is_told(suite, tmp_path):
    (suite.path / "file").write_text("")
    result = suite.run("--trt-engine=fp16", f"--trt-history=file{os.sep}below")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["report: reports/index.html", "*the history of runs cannot be written*", "*--trt-history=none*"]
    )
    assert suite.report()["verdict"] == "pass"
    with pytest.raises(ReportError):
        history.keep(run(0), suite.path / "file" / "below")


def test_a_run_that_only_skips_keeps_nothing(suite):
    suite.run()
    assert not (suite.path / "reports").exists()
