"""Speed-up against loss: what is weighed, by which yardstick, and what is left out with its reason."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from test_report_html import FASHION, HOSTILE, assert_sound, document, evaluated
from test_report_latency import THROTTLED, of_reference, timed
from test_report_times import at, of_class, pixels, words

from trtcheck.report import view
from trtcheck.report.charts import tradeoff as charts
from trtcheck.report.charts.tradeoff import Estimate, Point
from trtcheck.report.view import tradeoff
from trtcheck.report.view.statuses import STATUSES

Item = dict[str, Any]
RUINED = {"Shirt": ("Coat", 0.5)}


def weighed(*times: Item, engines: dict[str, dict[str, Any]] | None = None, names: Any = FASHION) -> Item:
    """A report of engines with classes, and of their times."""
    losing = engines or {"fp32": {}, "fp16": {}, "int8": RUINED}
    found = [evaluated("fashion", engine, names, 100, ruined) for engine, ruined in losing.items()]
    return document(*found, items=[{**item, "model": "fashion"} for item in times])


def of(found: Item) -> tradeoff.Tradeoff:
    weighed = tradeoff.of_model("fashion", "model-1", found)
    assert weighed is not None
    return weighed


def beside(engine: str, ratio: float, batch: int = 1, **changed: Any) -> Item:
    return timed(engine, batch, 2.0 / ratio, speedups=of_reference(ratio), **changed)


ALL = (beside("fp32", 1.0), beside("fp16", 2.0), beside("int8", 3.0))


def cells(found: tradeoff.Tradeoff) -> dict[str, dict[str, Any]]:
    heads = [column.name for column in found.table.columns]
    return {row.name: dict(zip(heads, row.cells, strict=True)) for row in found.table.rows}


def test_engines_stand_where_their_speed_up_and_their_loss_are():
    found = of(weighed(*ALL))
    [chart] = found.charts
    assert [row.name for row in found.table.rows] == ["INT8", "FP16", "FP32"]
    ticks = pixels(chart)
    assert ticks["2x"] - ticks["1x"] == pytest.approx(ticks["4x"] - ticks["2x"])
    points = [mark for mark in of_class(chart, "point") if mark.tag == "circle"]
    assert at(points[0])["cx"] == pytest.approx(
        ticks["2x"] + (ticks["4x"] - ticks["2x"]) * 0.585, abs=0.5
    )  # log2(3 / 2)
    assert points[0].title.startswith("INT8: 3.00x (2.97 to 3.03), recall of 'Shirt'")
    assert points[0].title.endswith("points lower, fail")
    assert words(chart, "verdict") == ["INT8 ✗ fail", "FP16 ✓ pass", "FP32 ✓ pass"]
    assert {"within 1 %", "over 2 %", "2x to 4x"} <= set(words(chart, "label"))
    assert "speed-up over the reference" in words(chart, "name")
    assert chart.numbers == found.table.anchor


def test_losses_have_the_interval_of_the_class_that_falls_most():
    report = weighed(*ALL)
    [shirt] = [
        row for item in report["items"] if (item["engine"], item["check"]) == ("int8", "recall")
        for row in item["classes"] if row["name"] == "Shirt"
    ]  # fmt: skip
    row = cells(of(report))["INT8"]
    low, high = (f"{100 * end:.1f}" for end in shirt["interval"])
    assert row["worst class's fall"] == f"{100 * shirt['drop']:.1f} ({low} to {high})"
    assert row["worst class"] == "Shirt"
    assert cells(of(report))["FP16"]["batch 1"] == "2.00x (1.98 to 2.02)"


def test_bands_lie_where_the_axis_says():
    [chart] = of(weighed(*ALL)).charts
    heights = {
        mark.text: at(mark)["y"] - 4 for mark in of_class(chart, "tick") if at(mark)["text-anchor"] == "end"
    }
    [within], [beyond] = of_class(chart, "within"), of_class(chart, "beyond")
    assert at(within)["y"] == pytest.approx(heights.get("1", at(within)["y"]))
    assert at(beyond)["y"] + at(beyond)["height"] == pytest.approx(heights["2"])
    assert at(beyond)["y"] < at(within)["y"]


@pytest.mark.parametrize(("times", "axis", "fp16"), [
    ((beside("fp32", 1.0), beside("fp16", 2.0)), "speed-up over the reference", "2.00x (1.98 to 2.02)"),
    ((timed("fp32", 1, 2.0, speedups={}), timed("fp16", 1, 1.0, speedups={})),
     "speed-up over the FP32 engine", "2.00x"),
    ((beside("fp32", 1.0), timed("fp16", 1, 1.0, speedups={})), "speed-up over the FP32 engine", "2.00x"),
    ((timed("fp16", 1, 1.0, speedups={}), timed("int8", 1, 0.5, speedups={})),
     "median time of a query in ms", "1.000 ms"),
    ((timed("fp16", 1, 1.0, speedups={}),), "median time of a query in ms", "1.000 ms"),
])  # fmt: skip
def test_all_engines_of_a_picture_have_one_yardstick_which_it_names(times: tuple[Item, ...], axis, fp16):
    found = of(weighed(*times))
    assert axis in words(found.charts[0], "name")
    assert cells(found)["FP16"]["batch 1"] == fp16
    assert bool(of_class(found.charts[0], "hoped")) == ("speed-up" in axis)


def test_there_are_pictures_of_the_smallest_a_middle_and_the_largest_batch():
    times = [beside(engine, ratio, batch) for engine, ratio in (("fp32", 1.0), ("fp16", 2.0))
             for batch in (1, 2, 4, 8, 16)]  # fmt: skip
    report = weighed(*times)
    assert [chart.title[-2:].strip() for chart in of(report).charts] == ["1", "4", "16"]
    report["models"] *= tradeoff.MANY_MODELS + 1
    assert [chart.title[-2:] for chart in of(report).charts] == ["16"]


def test_engines_without_a_time_are_listed_with_their_loss_and_the_reason():
    skipped = {
        name: value for name, value in timed("int8", 1, 1.0, verdict="skipped").items() if name != "latency"
    }  # fmt: skip
    skipped["message"] = "int8 is emulated here: it has no time worth taking"
    found = of(weighed(ALL[0], ALL[1], skipped))
    row = found.table.rows[-1]
    assert (row.name, row.detail) == ("INT8", skipped["message"])
    assert cells(found)["INT8"]["batch 1"] == "not timed here"
    assert cells(found)["INT8"]["worst class"] == "Shirt"
    assert len(words(found.charts[0], "verdict")) == 2


def test_times_of_elsewhere_and_of_an_unfit_machine_are_left_out_with_the_reason():
    environment = {**ALL[2]["environment"], "device": "Orin"}
    other = {**ALL[2], "environment": environment, "environment_digest": "f" * 16}
    found = of(weighed(ALL[0], ALL[1], other))
    assert "another environment" in found.table.rows[-1].detail
    assert "Orin" in found.table.rows[-1].detail
    assert cells(found)["INT8"]["batch 1"] == "not timed here"
    found = of(weighed(ALL[0], ALL[1], {**ALL[2], "health": THROTTLED}))
    assert found.table.rows[-1].detail.endswith("against its times: the GPU lowered its clock")


def test_without_any_time_there_is_a_table_of_several_engines_and_nothing_of_one(tmp_path):
    report = weighed()
    found = of(report)
    assert (found.charts, found.told) == ((), "")
    assert {row["time"] for row in cells(found).values()} == {"not timed here"}
    assert "Faster, and at what price" in assert_sound(report, tmp_path)["index.html"].text
    assert tradeoff.of_model("fashion", "m", weighed(engines={"fp16": {}})) is None


def test_fp32_alone_is_no_choice():
    found = of(weighed(ALL[0]))
    assert (found.charts, found.told) == ((), "")
    assert cells(found)["FP32"]["batch 1"] == "1.00x (0.99 to 1.01)"
    assert tradeoff.of_model("fashion", "m", weighed(ALL[0], engines={"fp32": {}})) is None


def test_nothing_is_weighed_where_no_class_was_evaluated():
    report = weighed(*ALL)
    for engine in report["engines"]:
        engine["classes"] = []
    assert tradeoff.of_model("fashion", "m", report) is None


def test_an_engine_without_labels_is_listed_but_not_drawn():
    report = weighed(*ALL)
    report["engines"][1]["classes"] = []
    found = of(report)
    assert cells(found)["FP16"]["worst class's fall"] is None
    assert words(found.charts[0], "verdict") == ["INT8 ✗ fail", "FP32 ✓ pass"]


def test_the_worst_key_class_is_told_where_another_falls_further():
    report = weighed(*ALL)
    for item in report["items"]:
        for row in item.get("classes") or ():
            row["key"] = row["name"] == "Trouser" and item["check"] == "recall"
    found = of(report)
    assert cells(found)["INT8"]["worst key class's fall"].endswith("(Trouser)")
    [chart] = found.charts
    assert of_class(chart, "hollow")
    assert [key.name for key in chart.legend] == ["worst key class, where another class falls further"]
    assert of(weighed(*ALL)).charts[0].legend == ()


def test_the_fastest_engine_that_loses_little_and_does_not_fail_is_named():
    report = weighed(*ALL)
    for engine in report["engines"]:
        if engine["engine"] != "int8":
            for row in engine["classes"]:
                row["after"] = row["before"]
    found = of(report)
    assert found.told.endswith("recall: at batch 1 FP16, 2.00x (1.98 to 2.02) as fast as the reference.")
    report["engines"][1]["verdict"] = "fail"
    assert "at batch 1 FP32" in of(report).told
    report["engines"][0]["verdict"] = "error"
    assert of(report).told.endswith("at batch 1 none.")


def test_names_that_would_cover_one_another_move_apart():
    points = [
        Point(f"engine {number}", STATUSES["pass"], Estimate(2.0), Estimate(0.001 * number), None, "")
        for number in range(6)
    ]
    chart = charts.of_points(points, "a", "t", "x", speedup=True, told="", numbers="n")
    heights = sorted(at(mark)["y"] for mark in of_class(chart, "verdict"))
    assert min(b - a for a, b in pairwise(heights)) >= 14


def test_very_many_engines_are_listed_and_some_of_them_drawn():
    many = {f"engine{number}": {} for number in range(20)}
    times = [beside(engine, 1.0 + number / 10) for number, engine in enumerate(many)]
    found = of(weighed(*times, engines=many))
    assert len(found.table.rows) == 20
    assert len(words(found.charts[0], "verdict")) == charts.MOST_POINTS
    assert "4 of them are not drawn" in found.charts[0].description


def test_a_first_page_with_hostile_names_is_sound(tmp_path):
    engines = {name or "x": RUINED if n == 0 else {} for n, name in enumerate(HOSTILE)}
    report = weighed(
        *(beside(name, 1.0 + n) for n, name in enumerate(engines)),
        engines={name: {} for name in engines}, names=HOSTILE,
    )  # fmt: skip
    index = assert_sound(report, tmp_path)["index.html"]
    assert "model-1-price-b1" in index.ids
    assert len(view.index(report).models[0].tradeoff.table.rows) == len(HOSTILE)


def test_pictures_of_a_model_stay_small():
    [chart] = of(weighed(*ALL)).charts
    assert len(str(chart.svg)) < 6000
