"""How large the errors of outputs are, as the page draws them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from test_report_html import FASHION, HOSTILE, assert_sound, document, evaluated

from trtcheck.metrics.drift import OutputDrift
from trtcheck.outputs_check import drift_row
from trtcheck.report import view
from trtcheck.report.charts import histogram


def output(**changed):
    return {
        "name": "logits", "max_abs": 0.3, "errors": {"exact": 50, "bins": [[-4, 30], [-3, 15], [-2, 5]]},
        **changed,
    }  # fmt: skip


def test_the_histogram_draws_every_bin_as_high_as_its_share():
    chart = histogram.of_output(output(), "errors-1", 0.25)
    bars = [dict(mark.attributes) for mark in chart.marks if mark.tag == "rect"]
    assert [round(bar["height"] / bars[0]["height"], 6) for bar in bars] == [1, 0.6, 0.3, 0.1]
    assert [round(bars[k + 1]["x"] - bars[k]["x"], 3) for k in (1, 2)] == [
        round(bars[1]["width"] + 1, 3)
    ] * 2  # equal ratios, equal widths
    assert chart.description == (
        "100 values, 50 % of them without error; the largest is 0.3."
    )  # fmt: skip
    assert "limit 0.25" in [mark.text for mark in chart.marks]
    assert [row.name for row in chart.table.rows] == [
        "none",
        "0.0625 to 0.125",
        "0.125 to 0.25",
        "0.25 to 0.5",
    ]


def test_many_bins_are_put_together_and_lose_nothing():
    wide = output(errors={"exact": 0, "bins": [[e, 1] for e in range(-80, 20)]})
    chart = histogram.of_output(wide, "errors-1", None)
    assert len(chart.table.rows) <= histogram.MOST_BARS
    assert sum(int(row.cells[0]) for row in chart.table.rows) == 100


def test_outputs_that_were_not_compared_as_numbers_have_no_histogram(tmp_path):
    assert histogram.of_output(output(errors={"exact": 0, "bins": []}), "e", None) is None
    assert histogram.of_output({"name": "old"}, "e", None) is None  # of a report from before
    only_exact = histogram.of_output(output(errors={"exact": 7, "bins": []}, max_abs=0.0), "e", None)
    assert only_exact.description == "7 values, 100 % of them without error; the largest is 0."
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    engine["outputs"] = [{**engine["outputs"][0], **output(name=name)} for name in HOSTILE]
    pages = assert_sound(document((engine, items)), tmp_path)
    assert "Absolute errors of output" in pages["fashion--fp16.html"].text


def bars_of(chart):
    return [dict(mark.attributes) for mark in chart.marks if mark.tag == "rect"]


@settings(deadline=None, max_examples=60)
@given(npst.arrays(np.float32, (4, 30), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_every_value_is_in_the_row_of_its_error(values):
    chart = histogram.of_output(drift_row(OutputDrift.of("y", np.zeros_like(values), values)), "e", None)
    error = np.abs(values.astype(float)).ravel()
    for row in chart.table.rows:
        if row.name == "none":
            assert int(row.cells[0]) == (error == 0).sum()
    counts = [int(row.cells[0]) for row in chart.table.rows]
    assert sum(counts) == error.size
    for bar in bars_of(chart):
        assert 0 <= bar["x"] <= bar["x"] + bar["width"] <= histogram.WIDTH
        assert 0 <= bar["y"] <= bar["y"] + bar["height"] <= histogram.HEIGHT


def test_the_largest_and_smallest_numbers_there_are_can_be_drawn():
    old = np.array([[1e308, 0.0, 0.0, 0.0, 1.0]])
    new = np.array([[-1e308, 5e-324, 1e308, 1e-30, 1.0]])
    row = drift_row(OutputDrift.of("y", old, new))
    assert row["errors"] == {"exact": 1, "bins": [[-1023, 1], [-100, 1], [1023, 1], [1024, 1]]}
    chart = histogram.of_output(row, "e", 1e-3)
    assert all(math.isfinite(bar["x"] + bar["width"]) for bar in bars_of(chart))
    assert sum(int(row.cells[0]) for row in chart.table.rows) == 5


def test_outputs_of_integers_have_no_histogram():
    row = drift_row(OutputDrift.of("label", np.array([[1, 2]]), np.array([[1, 3]])))
    assert row["errors"] == {"exact": 0, "bins": []}
    assert histogram.of_output(row, "e", None) is None


@pytest.mark.parametrize(("limits", "drawn"), [({"max_abs": 0.25}, 1), ({"max_abs": None, "cosine": 0.9}, 0)])
def test_the_limit_is_that_of_the_check(limits, drawn):
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    engine["outputs"] = [{**engine["outputs"][0], **output()}]
    items = [{**item, "limits": limits} if item["check"] == "outputs" else item for item in items]
    [page] = view.engines(document((engine, items)))
    [chart] = page.errors
    assert [mark.text for mark in chart.marks].count("limit 0.25") == drawn


def test_many_outputs_have_a_picture_each_up_to_six_and_a_row_each():
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    engine["outputs"] = [{**engine["outputs"][0], **output(name=f"head {k}")} for k in range(9)]
    [page] = view.engines(document((engine, items)))
    assert [chart.title for chart in page.errors] == [
        f"Absolute errors of output 'head {k}'" for k in range(6)
    ]
    assert len(page.outputs.rows) == 9
