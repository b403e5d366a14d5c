"""What the report says of times; all figures here are made up, of the size that an H100 has for ResNet-50."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_report_html import FASHION, assert_sound, cells_of, document, evaluated

from trtcheck.report import false_alarm, speeds, view
from trtcheck.report.document import document as make_document
from trtcheck.report.terminal import summary

Item = dict[str, Any]
FASTER = {"low": 2.281, "high": 2.34, "confidence": 0.99}
JUDGED: Item = {
    "what": "median", "gated": True, "against": "the approved engine", "rule": "interleaved",
    "effect": 0.0532, "low": 0.0479, "high": 0.0585, "detectable": 0.0261, "tolerance": 0.02, "alpha": 0.01,
    "rounds": 12, "sessions": 0, "session_sd": 0.0015, "verdict": "fail", "reason": "",
}  # fmt: skip
UNSURE = {
    **JUDGED, "what": "p95", "gated": False, "effect": -0.004, "low": -0.031, "high": 0.024,
    "detectable": 0.061, "verdict": "inconclusive", "reason": "12 rounds are too few to tell",
}  # fmt: skip
NOTHING = {
    **JUDGED, "what": "throughput", "rule": "none", "effect": None, "low": None, "high": None,
    "detectable": None, "rounds": 12, "verdict": "inconclusive", "reason": "2 stored sessions of 5",
}  # fmt: skip
LIMIT: Item = {
    "gate": "latency_ms", "limit": 1.5, "measured": 1.649, "low": 1.646, "high": 1.652, "alpha": 0.01,
    "verdict": "fail",
}  # fmt: skip
THROTTLED = {"reasons": ["the GPU lowered its clock"], "hints": [], "unknown": [], "figures": {}}
ENERGY = {**LIMIT, "gate": "energy_mj", "limit": 60.0, "measured": 51.25, "low": None, "high": None,
          "alpha": None, "verdict": "pass"}  # fmt: skip


def timed(engine: str, batch: int, median: float, **changed: Any) -> Item:
    """The record of a latency item."""
    own = {
        "nodeid": f"suite.toml::resnet50[{engine}]::latency-b{batch}", "model": "resnet50", "engine": engine,
        "check": "latency", "verdict": "pass", "numerics": "native", "message": "latency is told",
        "notes": [], "warnings": [], "fails": False,
        "batch": batch, "backend": "onnxruntime-cuda", "precision": engine,
        "timing": {"clock": "device", "transfers": False, "cuda_graph": True, "spin_wait": False},
        "latency": {
            "median_ms": median, "mean_ms": median * 1.001, "stddev_ms": median * 0.004,
            "min_ms": median * 0.99, "max_ms": median * 1.2, "p90_ms": median * 1.004,
            "p95_ms": median * 1.007, "p99_ms": median * 1.02, "samples": 24_600, "rounds": 24,
            "indicative": ["p95", "p99"],
        },
        "throughput": batch / median * 1e3, "energy_mj": 51.25,
        "round_medians_ms": {"engine": [median] * 24, "reference": [median * 2.31] * 24},
        "contestants": {
            "reference": {
                "median_ms": median * 2.31, "p95_ms": median * 2.33, "throughput": batch / median / 2.31e-3,
                "timing": {"clock": "device", "transfers": False, "cuda_graph": True, "spin_wait": False},
                "shown": "ONNX Runtime CUDA 1.31 fp32",
            },
        },
        "absent": {"approved": "the approved engine 0123456789ab is not kept on this machine"},
        "speedups": {"reference": {"ratio": 2.31, **FASTER}},
        "judged": [], "limits": [],
        "warm_up": {"plateau": True, "seconds": 1.52, "queries": 900}, "looks": [[24, 1.0]],
        "health": {
            "reasons": [], "hints": [], "unknown": ["the GPU's memory temperature"],
            "figures": {"gpu": {
                "before": {"sm_mhz": 345, "limiters": ["idle"], "power_w": None}, "limiters": {},
                "power_w": {"min": 401.2, "median": 412.53, "max": 420.0},
                "processes": [{"process": "python (7)", "own": True, "percent": 98}],
            }},
        },
        "environment": {
            "backend": "onnxruntime-cuda", "clock": "device", "device": "NVIDIA H100", "driver": "570",
        },
        "environment_digest": "0123456789abcdef",
        "latency_baseline": {"status": "missing", "path": None, "message": "not approved yet", "sessions": 0},
    }  # fmt: skip
    return {**own, **changed}


def of_reference(ratio: float, spread: float = 0.01) -> Item:
    """A speed-up over the reference."""
    ends = {"low": ratio * (1 - spread), "high": ratio * (1 + spread)}
    return {"reference": {"ratio": ratio, **ends, "confidence": 0.99}}


def reported(*items: Item) -> dict[str, Any]:
    """The document of engines that were timed and nothing else."""
    return make_document(
        items=items, evaluations=[], baselines={}, environment=document()["environment"],
        run=document()["run"], root=Path("/nowhere"),
    )  # fmt: skip


def resnet() -> dict[str, Any]:
    """Three precisions at three batch sizes; INT8 is slower than FP16 at batch 8."""
    unhealthy = {
        "reasons": ["the GPU lowered its clock from 1980 to 1410 MHz: it reached its power limit of 700 W"],
        "hints": ["a user may raise the power limit: nvidia-smi -pl"], "unknown": [], "figures": {},
    }  # fmt: skip
    bad = [{**JUDGED, "verdict": "inconclusive", "reason": "the GPU lowered its clock"}, UNSURE]
    return reported(
        timed("fp32", 1, 1.644, speedups=of_reference(1.01)),
        timed("fp32", 8, 3.811, speedups=of_reference(1.0)),
        timed("fp32", 64, 22.1, speedups=of_reference(1.02)),
        timed("fp16", 64, 9.12, speedups=of_reference(2.42)),
        timed("fp16", 8, 1.652, verdict="fail", fails=True, judged=[JUDGED, UNSURE, NOTHING],
              limits=[LIMIT, ENERGY], message="median 1.569 ms -> 1.652 ms: 5.3 % slower",
              looks=[[24, 1.0]], speedups=of_reference(2.31)),
        timed("fp16", 1, 0.7121, speedups=of_reference(2.32)),
        timed("int8", 1, 0.5901, speedups=of_reference(2.81)),
        timed("int8", 8, 1.918, speedups=of_reference(1.99)),
        timed("int8", 64, 6.421, verdict="inconclusive", message="the GPU lowered its clock",
              health=unhealthy, judged=bad, looks=[[24, 1.0]], speedups=of_reference(3.44),
              warm_up={"plateau": False, "seconds": 10.0, "queries": 0}),
    )  # fmt: skip


def told(found: dict[str, Any]) -> list[str]:
    return [line.text for line in summary(found)]


def test_batch_sizes_are_in_order_and_one_check_of_their_engine():
    found = resnet()
    assert [i["batch"] for i in found["items"] if i["engine"] == "fp16"] == [1, 8, 64]
    assert {e["engine"]: e["checks"] for e in found["engines"]} == {
        "fp32": {"latency": "pass"}, "fp16": {"latency": "fail"}, "int8": {"latency": "inconclusive"},
    }  # fmt: skip


def test_the_terminal_tells_times_of_every_batch_size_and_the_throughput_of_the_largest():
    lines = told(resnet())
    [fp16] = [line for line in lines if line.startswith("FAIL         resnet50[fp16]")]
    assert (
        "b1 0.712 ms (2.32x the reference), b8 1.65 ms (2.31x the reference), "
        "b64 9.12 ms (2.42x the reference), 7018 images/s at b64"
    ) in fp16
    alone = told(reported(timed("fp16", 8, 1.652, speedups={})))
    assert alone[0].startswith("PASS         resnet50[fp16] native: b8 1.65 ms, 4843 images/s at b8")


def test_a_skipped_latency_check_has_no_times():
    skipped = timed("int8", 8, 1.0, verdict="skipped")
    only = {name: skipped[name] for name in list(skipped)[:10]}
    found = reported(only)
    assert told(found)[:-1] == ["SKIPPED      resnet50[int8] native: checked: latency"]
    assert view.engines(found)[0].latency is None
    assert view.index(found).models[0].speed is None


def test_a_precision_that_is_slower_than_a_wider_one_is_a_warning():
    found = resnet()
    [warning] = [line for line in told(found) if line.startswith("WARNING")]
    assert warning == (
        "WARNING suite.toml::resnet50[int8]::latency-b8: int8 is slower than fp16 at batch 8: 1.92 ms "
        "against 1.65 ms (0.86x, 0.85 to 0.87 at 99 %; both held against the reference)"
    )
    [warned] = view.index(found).warnings
    assert warned.message.startswith("int8 is slower than fp16 at batch 8")
    assert warned.engines == (("INT8", "resnet50--int8.html#check-latency-3"),)


def slower(*items: Item) -> list[str]:
    return [text for item in speeds.with_warnings(items) for text in item["warnings"]]


@pytest.mark.parametrize(("narrow", "wide", "words"), [
    ("int8", "fp16", "int8 is slower than fp16"), ("fp16", "tf32", "fp16 is slower than tf32"),
    ("bf16", "fp32", "bf16 is slower than fp32"), ("tf32", "fp32", "tf32 is slower than fp32"),
    ("fp32", "int8", None), ("fp16", "bf16", None), ("mine", "fp32", None),
])  # fmt: skip
def test_only_narrower_precisions_are_expected_to_be_faster(narrow, wide, words):
    own = timed(narrow, 1, 2.0, speedups=of_reference(1.0))
    found = slower(own, timed(wide, 1, 1.0, speedups=of_reference(2.0)))
    assert [text.partition(" at batch")[0] for text in found] == ([] if words is None else [words])


def test_what_the_ratios_leave_open_is_no_warning():
    fp16 = timed("fp16", 1, 1.0, speedups=of_reference(2.0, 0.02))
    assert slower(fp16, timed("int8", 1, 1.02, speedups=of_reference(1.96, 0.02))) == []
    [text] = slower(fp16, timed("int8", 1, 1.06, speedups=of_reference(1.88, 0.02)))
    assert "0.94x, 0.91 to 0.97 at 99 %" in text


def test_the_same_rounds_tell_more_than_the_reference():
    rival = {"fp16": {"ratio": 0.9, "low": 0.89, "high": 0.91, "confidence": 0.99}}
    int8 = timed("int8", 1, 1.0, speedups={**of_reference(3.0), **rival})
    [text] = slower(timed("fp16", 1, 0.9, speedups=of_reference(2.0)), int8)
    assert text.endswith("(0.90x, 0.89 to 0.91 at 99 %; timed in the same rounds)")


def test_medians_alone_must_be_further_apart():
    fp16 = timed("fp16", 1, 1.0, speedups={})
    assert slower(fp16, timed("int8", 1, 1.015)) == []
    assert slower(fp16, timed("int8", 1, 1.1)) == [
        "int8 is slower than fp16 at batch 1: 1.10 ms against 1.00 ms (0.91x; by their medians alone)"
    ]


def test_times_of_other_environments_models_and_batch_sizes_are_not_compared():
    fp16 = timed("fp16", 1, 1.0)
    assert slower(fp16, timed("int8", 1, 9.0, speedups={}))
    for other in ({"environment_digest": "f" * 16}, {"model": "other"}, {"batch": 8}):
        assert slower(fp16, {**timed("int8", 1, 9.0, speedups={}), **other}) == []


def test_times_that_the_machine_speaks_against_are_not_compared():
    for health in ({"fp16": THROTTLED}, {"int8": THROTTLED}):
        items = [
            timed(engine, 1, median, speedups={}, **({"health": health[engine]} if engine in health else {}))
            for engine, median in (("fp16", 1.0), ("int8", 9.0))
        ]
        assert slower(*items) == []


def test_the_first_page_has_one_table_of_all_engines_by_batch_size():
    found = resnet()
    table = view.index(found).models[0].speed
    assert [(row.name, row.cells[0]) for row in table.rows] == [
        (engine, batch) for batch in ("1", "8", "64") for engine in ("FP32", "FP16", "INT8")
    ]
    assert [column.name for column in table.columns][-2:] == ["against FP32", "against FP16"]
    rows = [dict(zip((c.name for c in table.columns), row.cells, strict=True)) for row in table.rows]
    int8 = rows[5]
    assert (int8["median"], int8["images/s"], int8["mJ/image"]) == ("1.918", "4171", "51.25")
    assert int8["against the reference"] == "1.99x (1.97 to 2.01)"
    assert int8["against FP32"] == "1.99x (1.96 to 2.02)"
    assert int8["against FP16"] == "0.86x (0.85 to 0.87) ▲"
    assert (rows[3]["against FP32"], rows[4]["against FP16"]) == (None, None)
    assert [row.status.word if row.status else None for row in table.rows] == [
        None, None, None, None, "fail", "warning", None, None, "inconclusive",
    ]  # fmt: skip


@pytest.fixture
def page():
    return next(page for page in view.engines(resnet()) if page.engine == "FP16").latency


def table(page: Any, anchor: str) -> Any:
    return next(found for found in (*page.judged, *page.tables) if found.anchor == anchor)


def test_an_engine_says_how_it_was_timed(page):
    assert {fact.term: fact.text for fact in page.facts} == {
        "clock": "the GPU's (CUDA events)", "transfers": "not timed", "CUDA graph": "on", "spin-wait": "off",
        "warm-up": "900 queries, 1.5 s",
        "rounds": "24 rounds of 24\N{NARROW NO-BREAK SPACE}600 queries in all",
        "environment": "backend onnxruntime-cuda, device NVIDIA H100, driver 570",
        "environment digest": "0123456789abcdef",
    }  # fmt: skip


def test_looks_on_the_way_are_told():
    found = reported(timed("fp16", 1, 1.0, looks=[[12, 0.7], [24, 0.3]]))
    facts = {fact.term: fact.text for fact in view.engines(found)[0].latency.facts}
    assert facts["rounds"].endswith("queries in all, judged 2 times on the way")


def test_what_differs_between_batch_sizes_is_told_of_each():
    graph = {**timed("fp16", 8, 1.0)["timing"], "cuda_graph": None}
    found = reported(timed("fp16", 1, 1.0), timed("fp16", 8, 2.0, timing=graph))
    facts = {fact.term: fact.text for fact in view.engines(found)[0].latency.facts}
    assert facts["CUDA graph"] == "batch 1: on; batch 8: unknown"
    assert facts["clock"] == "the GPU's (CUDA events)"


def test_percentiles_of_too_few_queries_are_marked(page):
    found = table(page, "latency-figures")
    assert [row.name for row in found.rows] == ["batch 1", "batch 8", "batch 64"]
    assert cells_of(found, "batch 8") == {
        "median": "1.652", "p90": "1.659", "p95": "~ 1.664", "p99": "~ 1.685", "spread": "0.0066",
        "images/s": "4843", "mJ/image": "51.25", "against the reference": "2.31x (2.29 to 2.33)",
    }  # fmt: skip


def test_what_took_part_and_what_did_not_stands_beside_the_engine(page):
    rows = table(page, "latency-beside").rows[:2]
    assert rows[0].cells[0] == "ONNX Runtime CUDA 1.31 fp32"
    assert rows[1].cells == ("approved: took no part", None, None, None, None)
    assert rows[1].detail == "the approved engine 0123456789ab is not kept on this machine"


def test_a_change_has_its_bounds_its_limit_and_what_would_have_been_found(page):
    minus = "\N{MINUS SIGN}"
    found = table(page, "latency-judged")
    assert found.caption == "Changes of time, bounds at 99 %"
    median, p95, throughput = (
        dict(zip((c.name for c in found.columns), row.cells, strict=True)) for row in found.rows
    )
    assert median == {
        "verdict": view.STATUSES["fail"], "figure": "median", "compared by": "same rounds",
        "change": "+5.3 %", "its bounds": "+4.8 % to +5.8 %", "limit": "+2 %", "would have failed": "+2.6 %",
        "rounds": "12", "sessions": "0",
    }  # fmt: skip
    assert (p95["figure"], p95["its bounds"]) == ("p95 (told only)", f"{minus}3.1 % to +2.4 %")
    assert (throughput["compared by"], throughput["change"]) == ("nothing to compare with", None)
    assert [row.status.word if row.status else None for row in found.rows] == ["fail", None, "inconclusive"]
    assert found.rows[2].detail == "2 stored sessions of 5"


def judged_rows(**changed: Any) -> list[tuple[str, str, str | None, str]]:
    """Verdict, figure, colour and reason of each row of the changes of time."""
    told = [{**UNSURE, "verdict": verdict, "reason": ""} for verdict in ("fail", "pass")]
    rows = [JUDGED, {**JUDGED, "what": "throughput", "verdict": "pass"}, *told, UNSURE]
    [page] = view.engines(reported(timed("fp16", 8, 1.652, judged=rows, **changed)))
    return [
        (row.cells[0].word, row.cells[1], row.status and row.status.word, row.detail)
        for row in table(page.latency, "latency-judged").rows
    ]


def test_what_times_say_by_themselves_does_not_count_where_the_machine_speaks_against_them():
    by_itself = "{} by itself, but the times do not count"
    assert judged_rows(health=THROTTLED) == [
        ("inconclusive", "median", "inconclusive", by_itself.format("fail")),
        ("inconclusive", "throughput", "inconclusive", by_itself.format("pass")),
        ("inconclusive", "p95", "inconclusive", by_itself.format("fail")),
        ("inconclusive", "p95 (told only)", None, by_itself.format("pass")),
        ("inconclusive", "p95 (told only)", None, "12 rounds are too few to tell"),
    ]


def test_told_only_is_what_does_not_count():
    assert judged_rows() == [
        ("fail", "median", "fail", ""), ("pass", "throughput", None, ""), ("fail", "p95", "fail", ""),
        ("pass", "p95 (told only)", None, ""),
        ("inconclusive", "p95 (told only)", None, "12 rounds are too few to tell"),
    ]  # fmt: skip


def test_limits_have_the_figure_and_its_bounds(page):
    found = table(page, "latency-limits")
    assert [row.cells[1:] for row in found.rows] == [
        ("latency_ms", "1.5", "1.649", "1.646 to 1.652"), ("energy_mj", "60", "51.25", None),
    ]  # fmt: skip
    assert [row.status.word if row.status else None for row in found.rows] == ["fail", None]


def test_how_the_approved_times_stand_is_told_of_every_batch_size():
    state = {"status": "compared", "path": "baselines/b8.json", "message": "compared", "sessions": 6}
    found = reported(timed("fp16", 1, 1.0), timed("fp16", 8, 2.0, latency_baseline=state))
    rows = table(view.engines(found)[0].latency, "latency-approved").rows
    assert [(*row.cells, row.detail) for row in rows] == [
        ("missing", "0", "not approved yet"), ("compared", "6", "baselines/b8.json: compared"),
    ]  # fmt: skip


def test_rounds_of_every_contestant_are_listed_below_their_picture(page):
    [_, drawn, _] = page.rounds
    assert drawn.anchor == "latency-rounds-b8"
    assert [column.name for column in drawn.table.columns] == ["FP16", "ONNX Runtime CUDA 1.31 fp32"]
    assert (len(drawn.table.rows), drawn.table.rows[0].cells) == (24, ("1.652", "3.816"))


def test_the_state_of_the_machine_stands_with_its_batch_size(tmp_path):
    pages = assert_sound(resnet(), tmp_path)
    page = next(page for page in view.engines(resnet()) if page.engine == "INT8")
    *_, last = page.latency.health
    assert (last.batch, len(last.reasons), len(last.hints)) == ("batch 64", 1, 1)
    assert {fact.term: fact.text for fact in page.latency.health[0].facts} == {
        "gpu before": "sm mhz 345, limiters idle", "gpu power w": "min 401.2, median 412.5, max 420",
        "gpu processes": "process python (7), own yes, percent 98",
        "not known": "the GPU's memory temperature",
    }  # fmt: skip
    assert "the GPU lowered its clock from 1980 to 1410 MHz" in pages["resnet50--int8.html"].text


def test_a_report_with_times_is_sound_and_leads_from_the_verdict_to_the_figures(tmp_path):
    pages = assert_sound(resnet(), tmp_path)
    page = pages["resnet50--fp16.html"]
    assert "#latency-figures" in page.links
    assert {"latency", "latency-figures", "latency-judged", "latency-rounds-b64"} <= set(page.ids)
    assert "resnet50--int8.html#check-latency" in pages["index.html"].links


def test_suites_without_times_have_no_column_and_no_section(tmp_path):
    found = document(evaluated("fashion", "fp16", FASHION, 100, {}))
    pages = assert_sound(found, tmp_path)
    assert "latency" not in view.index(found).checks
    assert "Speed" not in pages["index.html"].words
    assert "Latency" not in pages["fashion--fp16.html"].words


def test_limits_by_batch_size_are_listed_with_the_model():
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    found = document((engine, items))
    found["models"][0]["gates"] |= {
        "latency_ms": {"1": 0.8, "8": 2.0}, "latency_slowdown": 0.02, "throughput_drop": 0.05,
    }  # fmt: skip
    gates = {fact.term: fact.text for fact in view.index(found).models[0].gates}
    assert (gates["latency_ms"], gates["latency_slowdown"], gates["throughput_drop"]) == (
        "batch 1: 0.8, batch 8: 2", "2 %", "5 %",
    )  # fmt: skip


@pytest.mark.parametrize(("changed", "tests", "bound"), [
    ({"judged": [JUDGED, UNSURE, NOTHING]}, 2, 0.02),
    ({"judged": [JUDGED], "limits": [LIMIT, ENERGY]}, 2, 0.02),
    # The last of two looks had three tenths of the level; all looks together have it whole.
    ({"judged": [{**JUDGED, "alpha": 0.003}], "looks": [[12, 0.7], [24, 0.3]]}, 1, 0.01),
    ({"verdict": "skipped", "judged": []}, 0, 0),
])  # fmt: skip
def test_every_comparison_and_limit_that_chance_can_fail_is_counted(changed, tests, bound):
    found = false_alarm.bound([timed("fp16", 8, 1.0, **{"looks": [[12, 1.0]], **changed})])
    assert (found["tests"], found["bound"]) == (tests, pytest.approx(bound))
    assert found["alpha"] == (0.01 if tests else None)
