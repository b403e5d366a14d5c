"""Pictures of times: what is drawn stands where the numbers say, and what is not known is not drawn."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import numpy as np
import pytest
from test_latency_judged import FIVE, measurement, stored, timings
from test_report_html import HOSTILE, assert_sound
from test_report_latency import JUDGED, LIMIT, NOTHING, THROTTLED, UNSURE, reported, resnet, timed, told

from trtcheck.baselines.latency_schema import LatencyRun
from trtcheck.case import Gates, Numerics, Verdict
from trtcheck.latency.check import Standing, outcome
from trtcheck.latency.measurement import ENGINE, REFERENCE, Timings
from trtcheck.latency.record import LatencyResult
from trtcheck.report import view
from trtcheck.report.charts import batches, forest, marks, percentiles, rounds
from trtcheck.report.charts.chart import Chart
from trtcheck.report.charts.marks import Mark

Item = dict[str, Any]


def of_class(chart: Chart, name: str) -> list[Mark]:
    """The marks of a picture that have the class *name*."""
    return [mark for mark in chart.marks if name in str(dict(mark.attributes).get("class", "")).split()]


def at(mark: Mark) -> dict[str, float]:
    return dict(mark.attributes)  # type: ignore[arg-type]


def drawn(chart: Chart, series: int) -> list[tuple[float, float]]:
    """Where the points of a series of rounds begin."""
    [mark] = [mark for mark in of_class(chart, f"series-{series}") if mark in of_class(chart, "point")]
    starts = re.findall(r"M([\d.]+) ([\d.]+)", str(at(mark)["d"]))
    return [(float(x), float(y)) for x, y in starts]


def words(chart: Chart, kind: str) -> list[str]:
    return [mark.text for mark in of_class(chart, kind) if mark.tag == "text"]


def pixels(chart: Chart, unit: str = "") -> dict[str, float]:
    """Where the ticks of the horizontal axis stand."""
    ticks = [mark for mark in of_class(chart, "tick") if at(mark)["text-anchor"] == "middle"]
    return {mark.text.removesuffix(unit): at(mark)["x"] for mark in ticks}


def outcome_of(timed_here: dict[str, Timings], gates: Gates, standing: Standing) -> Any:
    run = LatencyRun("cats", "fp16", 4, {}, "sha256:lowered", None, ".engine", stored(9, timed_here))
    result = LatencyResult(measurement(timed_here), (run,), {}, "onnxruntime-cuda", "fp16", Numerics.NATIVE)
    return outcome(result, gates, standing)


BESIDE = {ENGINE: timings(9), REFERENCE: timings(10, ms=2)}


def test_every_round_of_every_contestant_has_its_quantiles():
    found = outcome_of(BESIDE, Gates(), Standing({"message": ""})).measured["round_quantiles_ms"]
    assert list(found) == ["engine", "reference"]
    for name, own in BESIDE.items():
        expected = np.percentile(own.samples_ms, [5, 25, 50, 75, 95], axis=1).T
        assert found[name] == pytest.approx(expected, rel=1e-5)
        assert all(
            len(f"{value:.12g}".replace(".", "").lstrip("0")) <= 6 for row in found[name] for value in row
        )


def test_what_was_timed_beside_the_engine_has_its_tail_and_says_how_sure_that_is():
    found = outcome_of(BESIDE, Gates(), Standing({"message": ""})).measured["contestants"]["reference"]
    assert found["p90_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["indicative"] == ["p90", "p95", "p99"]  # of 600 queries


def test_stored_sessions_that_count_stand_with_the_times():
    state = {"status": "compared", "path": None, "message": "compared", "sessions": 5}
    found = outcome_of(BESIDE, Gates(), Standing(state, FIVE)).measured["latency_baseline"]
    assert [set(session) for session in found["stored"]] == [
        {"started", "median_ms", "p95_ms", "throughput", "ratio"}
    ] * 5
    assert found["stored"][0]["ratio"] == pytest.approx(0.5, rel=0.01)  # of 1 ms to 2 ms
    assert outcome_of(BESIDE, Gates(), Standing(state)).measured["latency_baseline"]["stored"] == []


@pytest.mark.parametrize(("gates", "verdict"), [
    (Gates(latency_ms=0.5), Verdict.FAIL), (Gates(latency_ms=1.0), Verdict.INCONCLUSIVE),
    (Gates(latency_ms=5.0), Verdict.PASS),
])  # fmt: skip
def test_a_message_begins_with_its_batch_size_and_names_it_once(gates: Gates, verdict: Verdict):
    found = outcome_of({ENGINE: timings()}, gates, Standing({"message": "nothing approved"}))
    assert found.verdict is verdict
    assert found.message.startswith("at batch 4: ")
    assert found.message.count("batch 4") == 1


def test_the_headline_names_the_batch_size_of_what_is_slower():
    found = reported(timed("fp16", 8, 1.65, verdict="fail", fails=True,
                           message="at batch 8: median 1.569 ms -> 1.652 ms: 5.3 % slower"))  # fmt: skip
    assert view.headline(found) == "FP16 fails: at batch 8: median 1.569 ms -> 1.652 ms: 5.3 % slower"


def quantiles(number: int, median: float = 1.0, wide: float = 0.01) -> list[list[float]]:
    return [[median * (1 + wide * k) for k in (-2, -1, 0, 1, 4 + n)] for n in range(number)]


def of_rounds(number: int, **contestants: float) -> Item:
    """A latency item of *number* rounds, with the median of each contestant."""
    item = timed("fp16", 8, 1.0)
    item["round_quantiles_ms"] = {name: quantiles(number, median) for name, median in contestants.items()}
    item["round_medians_ms"] = {name: [median] * number for name, median in contestants.items()}
    return item


def test_rounds_are_boxes_between_quartiles_on_lines_of_nine_tenths():
    chart = rounds.of_item(of_rounds(3, engine=1.0), "r")
    [box], [line] = of_class(chart, "box"), of_class(chart, "line")
    assert (str(at(box)["d"]).count("z"), str(at(line)["d"]).count("M")) == (3, 3)
    # 1 % is half as high as the box, and the first line reaches from 2 % below to 4 % above.
    height = float(str(at(box)["d"]).split("z")[0].split("v")[1].split("h")[0])
    ends = [float(part.split(" ")[1]) for part in str(at(line)["d"]).split("M")[1].split("L")]
    assert (ends[0] - ends[1]) / height == pytest.approx(3, rel=0.02)
    assert chart.table.rows[1].cells == ("1.000", "0.9900 to 1.010", "0.9800 to 1.050")
    assert "medians of 3 rounds between 1.000 and 1.000 ms" in chart.description


def test_contestants_far_apart_have_a_panel_each_and_a_shape_each():
    near = rounds.of_item(of_rounds(12, engine=1.0, approved=1.01), "r")
    apart = rounds.of_item(of_rounds(12, engine=1.0, approved=1.01, reference=2.3), "r")
    assert apart.height > near.height
    assert [key.name for key in apart.legend] == [
        "FP16", "the approved engine", "ONNX Runtime CUDA 1.31 fp32",
    ]  # fmt: skip
    for series in range(3):
        assert len(drawn(apart, series)) == 12
    # The slow one stands above the others, on an axis of its own.
    height = rounds.of_item(of_rounds(2, engine=1.0), "r").height
    assert max(y for _, y in drawn(apart, 2)) < min(y for _, y in drawn(apart, 0)) - height / 4


def test_a_few_slow_queries_do_not_flatten_the_picture():
    item = of_rounds(12, engine=1.0)
    item["round_quantiles_ms"]["engine"][4][4] = 60.0
    chart = rounds.of_item(item, "r")
    names = [float(mark.text) for mark in of_class(chart, "tick") if at(mark)["text-anchor"] == "end"]
    assert max(names) < 2
    assert "of FP16 some queries took longer than is drawn, up to 60.00 ms" in chart.description


def test_many_rounds_have_no_boxes_and_few_shapes():
    chart = rounds.of_item(of_rounds(96, engine=1.0, approved=1.01, reference=2.3, int8=0.7), "r")
    assert of_class(chart, "box") == []
    assert [len(drawn(chart, series)) for series in range(4)] == [24] * 4
    assert len(chart.table.rows) == 96
    assert len(str(chart.svg)) < 30_000


def test_older_reports_and_single_rounds_have_medians_alone():
    old = rounds.of_item(timed("fp16", 8, 1.0), "r")
    assert of_class(old, "box") == of_class(old, "line") == []
    assert [len(drawn(old, series)) for series in range(2)] == [24, 24]
    one = rounds.of_item(of_rounds(1, engine=1.0), "r")
    assert len(drawn(one, 0)) == 1
    assert "medians of 1 round between" in one.description


def changes(*judged: Item, **changed: Any) -> Chart:
    [chart] = forest.of_items([timed("fp16", 8, 1.6, judged=list(judged), **changed)], "f", "numbers")
    return chart


def test_a_change_stands_between_its_bounds_beside_its_limit():
    chart = changes(JUDGED)
    ticks = pixels(chart, " %")
    [zero, two] = [ticks["0"], ticks["+2"]]

    def pixel(share: float) -> float:
        return zero + share / 0.02 * (two - zero)

    [limit] = of_class(chart, "limit")
    assert at(limit)["x1"] == pytest.approx(two)
    whisker = of_class(chart, "whisker")[0]
    assert (at(whisker)["x1"], at(whisker)["x2"]) == pytest.approx((pixel(0.0479), pixel(0.0585)))
    [point] = of_class(chart, "point")
    assert marks.written(point) == marks.written(
        marks.point(pixel(0.0532), 30, 1, "fail", "+5.3 %, +4.8 % to +5.8 %: fail", size=5.5)
    )
    assert words(chart, "verdict") == ["✗ fail"]
    assert words(chart, "label") == ["batch 8: median"]
    assert chart.description == "batch 8: median: +5.3 % (+4.8 % to +5.8 %, limit +2 %): fail."
    assert chart.numbers == "numbers"


def test_what_was_compared_with_nothing_is_not_drawn():
    assert forest.of_items([timed("fp16", 8, 1.6, judged=[NOTHING])], "f", "numbers") == ()
    assert forest.of_items([timed("fp16", 8, 1.6)], "f", "numbers") == ()
    assert words(changes(JUDGED, NOTHING), "label") == ["batch 8: median"]


def test_a_change_without_bounds_or_detectable_effect_is_a_point():
    chart = changes({**JUDGED, "low": None, "high": None, "detectable": None})
    whisker = of_class(chart, "whisker")[0]
    assert at(whisker)["x1"] == at(whisker)["x2"]
    assert of_class(chart, "bracket") == []
    assert [key.name for key in chart.legend] == ["one-sided bounds", "limit"]


def test_bounds_far_beyond_leave_the_change_readable_and_have_no_stop():
    chart = changes(JUDGED, {**UNSURE, "low": -0.9, "high": 30.0, "detectable": 40.0})
    ticks = pixels(chart, " %")
    assert max(float(name.replace("\N{MINUS SIGN}", "-")) for name in ticks) <= 40
    stops = [mark for mark in of_class(chart, "whisker") if at(mark)["x1"] == at(mark)["x2"]]
    assert len(stops) == 2  # of the first row


def test_stored_sessions_are_marked_by_how_far_they_are_off_their_middle():
    ratios = [0.5, 0.5, 0.51, 0.49]
    sessions = [
        {"started": "", "median_ms": 1.0, "p95_ms": 1.1, "throughput": 9.0, "ratio": ratio}
        for ratio in ratios
    ]
    state = {"status": "compared", "path": None, "message": "", "sessions": 4, "stored": sessions}
    chart = changes({**JUDGED, "rule": "ratio", "sessions": 4}, latency_baseline=state)
    middle = math.exp(sum(map(math.log, ratios)) / 4)
    ticks = pixels(chart, " %")
    step = (ticks["+2"] - ticks["0"]) / 0.02
    offs = [(at(mark)["x1"] - ticks["0"]) / step for mark in of_class(chart, "session")]
    assert offs == pytest.approx([ratio / middle - 1 for ratio in ratios])
    # One session has no middle to be off from, and ratios of p95 are not at hand.
    for row, left in ((JUDGED, sessions[:1]), ({**UNSURE, "rule": "ratio"}, sessions)):
        assert of_class(changes(row, latency_baseline={**state, "stored": left}), "session") == []


def test_a_rival_has_a_picture_of_its_own():
    rival = {**JUDGED, "what": "faster_than", "against": "int8", "effect": -0.6, "low": -0.61, "high": -0.59}
    first, second = forest.of_items([timed("fp16", 8, 1.6, judged=[JUDGED, rival])], "f", "numbers")
    assert (words(first, "label"), words(second, "label")) == (["batch 8: median"], ["batch 8: against int8"])


def test_times_that_the_machine_speaks_against_have_no_verdict_in_pictures_either():
    chart = changes(JUDGED, health=THROTTLED)
    assert words(chart, "verdict") == ["? inconclusive"]


def test_very_many_changes_are_drawn_worst_first():
    items = [
        timed("fp16", size, 1.6, judged=[{**JUDGED, "verdict": "pass"}, UNSURE]) for size in range(1, 16)
    ]
    items.append(timed("fp16", 99, 1.6, judged=[JUDGED]))
    [chart] = forest.of_items(items, "f", "numbers")
    assert len(of_class(chart, "verdict")) == forest.MOST_ROWS
    assert "batch 99: median" in words(chart, "label")
    assert "27 more in the table; 11 of them are not drawn" in chart.description


def test_times_and_throughput_stand_against_batch_sizes():
    items = [timed(engine, size, median * size) for engine, median in (("fp16", 1.0), ("int8", 0.5))
             for size in (8, 1, 64)]  # fmt: skip
    time, rate = batches.of_items(items, "b", "speed")
    ticks = pixels(time)
    assert ticks["8"] - ticks["1"] == pytest.approx(ticks["64"] - ticks["8"])  # equal ratios
    assert [key.name for key in time.legend] == ["FP16", "INT8"]
    assert len(of_class(time, "trace")) == 2
    assert "INT8: from 0.5000 ms at batch 1 to 32.00 ms at batch 64" in time.description
    assert "FP16: from 1000 images/s at batch 1 to 1000 images/s at batch 64" in rate.description
    assert batches.of_items(items[:1], "b", "speed") == ()


def test_the_first_page_draws_batch_sizes_of_each_environment_apart():
    found = resnet()
    time, rate = view.index(found).models[0].scaling
    assert [key.name for key in time.legend] == ["FP32", "FP16", "INT8"]
    assert time.numbers == rate.numbers == "model-1-speed"
    elsewhere = {"environment_digest": "f" * 16, "environment": {"backend": "tensorrt", "device": "Orin"}}
    mixed = reported(*(timed("fp16", size, 1.0 * size) for size in (1, 8)),
                     *({**timed("int8", size, 0.5 * size), **elsewhere} for size in (1, 8)))  # fmt: skip
    drawn = view.index(mixed).models[0].scaling
    assert [len(chart.legend) for chart in drawn] == [1, 1, 1, 1]
    assert drawn[2].title == "Time of a query by batch size, tensorrt on Orin"
    single = reported(timed("fp16", 8, 1.0), timed("int8", 8, 1.0))
    assert view.index(single).models[0].scaling == ()


def test_the_first_page_tells_how_engines_stand_against_the_approved_ones():
    def heads(found: Item) -> list[str]:
        return [column.name for column in view.index(found).models[0].speed.columns]

    assert "against the approved engine" not in heads(resnet())
    approved = {"approved": {"ratio": 0.95, "low": 0.94, "high": 0.96, "confidence": 0.99}}
    found = reported(timed("fp16", 1, 1.0, speedups=approved), timed("fp16", 8, 2.0, speedups={}))
    place = heads(found).index("against the approved engine")
    rows = view.index(found).models[0].speed.rows
    assert [row.cells[place] for row in rows] == ["0.95x (0.94 to 0.96)", None]


def test_percentiles_of_too_few_queries_are_hollow_and_limits_are_lines():
    item = timed("fp16", 8, 1.6, limits=[LIMIT, {**LIMIT, "gate": "latency_p95_ms", "limit": 99.0}])
    chart = percentiles.of_item(item, "p")
    assert len(of_class(chart, "hollow")) == 3  # p95 and p99 of the engine, p95 of the reference
    [limit] = of_class(chart, "limit")  # 99 ms would leave nothing of the rest
    assert limit.title == "limit of p50: 1.5"
    assert "limit of the p95 99 ms" in chart.description
    assert chart.table.rows[0].cells == ("1.600", "1.606", "~ 1.611", "~ 1.632")
    assert chart.table.rows[1].cells[1] is None  # older reports have no p90 of the reference
    plain = percentiles.of_item(timed("fp16", 8, 1.6, contestants={}), "p")
    assert of_class(plain, "limit") == []
    far = percentiles.of_item(timed("fp16", 8, 1.6, limits=[{**LIMIT, "limit": 50.0}]), "p")
    assert "limit" not in [key.name for key in far.legend]
    assert "limit of the median 50 ms" in far.description
    assert [key.name for key in plain.legend] == ["FP16", "indicative: from too few queries"]


def test_a_recording_has_pictures_of_its_runs():
    item = of_rounds(10, engine=3.2)
    item |= {"contestants": {}, "speedups": {}, "judged": [JUDGED], "environment": {"backend": "recording"}}
    [page] = view.engines(reported(item))
    assert [len(drawn.legend) for drawn in page.latency.rounds] == [1]
    assert page.latency.percentiles[0].table.rows[0].name == "FP16"
    assert len(page.latency.changes) == 1


def test_hints_of_an_unfit_machine_are_told_once(tmp_path):
    health = {**THROTTLED, "hints": ["raise the power limit: nvidia-smi -pl"]}
    item = timed("fp16", 8, 1.6, health=health, verdict="inconclusive",
                 warnings=["it might help: raise the power limit: nvidia-smi -pl"])  # fmt: skip
    pages = assert_sound(reported(item), tmp_path)
    assert pages["resnet50--fp16.html"].text.count("raise the power limit") == 1


def test_the_state_of_the_machine_comes_before_the_times(tmp_path):
    text = assert_sound(resnet(), tmp_path)["resnet50--int8.html"].text
    places = [text.index(part) for part in (
        "Changes of time", "State of the machine while it was timed", "Time of a query, throughput and",
        "Time of a query in every round",
    )]  # fmt: skip
    assert places == sorted(places)


def test_pictures_of_hostile_names_are_sound(tmp_path):
    items = []
    for number, name in enumerate(HOSTILE):
        for batch in (1, 8):
            rival = {**JUDGED, "what": "faster_than", "against": name}
            item = timed(name or "x", batch, 1.0 + number, precision="fp16", judged=[JUDGED, rival])
            item["contestants"] = {"reference": {**item["contestants"]["reference"], "shown": name}}
            items.append(item)
    assert_sound(reported(*items), tmp_path)
    [page] = [page for page in view.engines(reported(*items)) if page.engine == "a; b"]
    assert len(page.latency.changes) == len(page.latency.rounds) == 2


def test_more_batch_sizes_than_pictures_are_told(tmp_path):
    found = reported(*(timed("fp16", 2**k, 1.0 * 2**k) for k in range(8)))
    [page] = view.engines(found)
    assert len(page.latency.rounds) == len(page.latency.percentiles) == 6
    assert page.latency.left_out.startswith("There are no pictures of batch 64, 128")
    assert_sound(found, tmp_path)


def test_the_terminal_says_at_which_batch_the_throughput_is():
    [line] = [line for line in told(resnet()) if line.startswith("FAIL         resnet50[fp16]")]
    assert "7018 images/s at b64" in line


def test_a_page_with_all_pictures_of_times_stays_small(tmp_path):
    items = []
    for batch in (1, 8, 32, 64):
        item = of_rounds(96, engine=1.0, approved=1.01, reference=2.3)
        item |= {"batch": batch, "judged": [JUDGED, UNSURE], "nodeid": f"suite::latency-b{batch}"}
        item["contestants"] = {
            name: copy.deepcopy(item["contestants"]["reference"]) for name in ("approved", "reference")
        }
        items.append(item)
    [page] = [page for name, page in assert_sound(reported(*items), tmp_path).items() if "fp16" in name]
    assert len(page.text.encode()) < 200_000
