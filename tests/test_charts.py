"""What every picture of the report is made of: scales, axes, marks, and how they are written."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report_html import HOSTILE

from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.scales import Linear, Log

FINITE = st.floats(-1e12, 1e12, allow_nan=False)
POSITIVE = st.floats(1e-9, 1e9)


@given(st.lists(FINITE, min_size=1, max_size=20), st.booleans())
def test_a_linear_scale_holds_all_its_figures_and_names_a_few_round_ones(values, zero):
    scale = Linear.around(values, 50, 600, zero=zero)
    hair = (scale.high - scale.low) * 1e-8
    assert scale.low <= min(values) + hair
    assert scale.high >= max(values) - hair
    assert not zero or scale.low <= 0 <= scale.high
    assert 2 <= len(scale.ticks()) <= 12
    assert all(50 <= scale(value) <= 600 for value in [*values, *scale.ticks()])


def test_a_linear_scale_is_exact():
    scale = Linear.around([0.03, 0.97], 100, 300)
    assert (scale.low, scale.high) == (0.0, 1.0)
    assert scale.ticks() == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert (scale(0.5), scale(-7), scale(7)) == (200, 100, 300)
    upwards = Linear(0, 10, 200, 0)
    assert (upwards(0), upwards(2.5), upwards(10)) == (200, 150, 0)


def test_figures_that_are_all_the_same_or_none_at_all_still_have_a_scale():
    for values in ([5.0, 5.0], [], [math.nan, math.inf], [1e300]):
        scale = Linear.around(values, 0, 100)
        assert scale.low < scale.high
        assert math.isfinite(scale(1.0))


@given(st.lists(POSITIVE, min_size=1, max_size=20), st.sampled_from([2.0, 10.0]))
def test_a_logarithmic_scale_holds_all_its_figures_with_few_ticks(values, base):
    scale = Log.around(values, 0, 500, base=base)
    assert all(0 < scale(value) < 500 for value in values)
    assert len(scale.ticks()) <= 14


def test_a_logarithmic_scale_gives_equal_ratios_equal_distances():
    scale = Log(1, 100, 0, 200)
    assert [round(scale(value), 9) for value in (0.1, 1, 10, 100, 1000)] == [0, 0, 100, 200, 200]
    assert scale.ticks() == (1, 10, 100)
    assert Log(1, 64, 0, 60, base=2).ticks() == (1, 2, 4, 8, 16, 32, 64)
    assert Log(0.4, 3, 0, 1).ticks() == pytest.approx((0.5, 1, 2))  # powers of ten alone would be one


def test_axes_name_their_ticks_where_the_scale_has_them():
    scale = Linear(0, 10, 60, 560)
    found = axes.below(scale, 20, 200, "time in ms", "{:g}".format)
    words = [(mark.text, dict(mark.attributes)["x"]) for mark in found if mark.tag == "text"]
    assert words == [
        ("0", 60),
        ("2", 160),
        ("4", 260),
        ("6", 360),
        ("8", 460),
        ("10", 560),
        ("time in ms", 310),
    ]
    upright = axes.beside(Linear(0, 1, 200, 20), 60, 560, "recall", "{:g}".format, ticks=(0, 1))
    assert [mark.text for mark in upright if mark.tag == "text"] == ["0", "1", "recall"]


@pytest.mark.parametrize("name", HOSTILE)
def test_words_in_a_picture_are_words_whatever_they_are(name: str):
    chart = Chart(
        anchor="a", title=name, description=name, width=100, height=50,
        marks=(marks.text(1, 2, name), marks.link(f"x#{name}", [marks.point(1, 2, 0, title=name)], name)),
        legend=(Key(marks.point(0, 0, 1), name),),
    )  # fmt: skip
    tree = ElementTree.fromstring(str(chart.svg))
    tags = {element.tag.partition("}")[2] for element in tree.iter()}
    assert tags <= {"svg", "title", "desc", "text", "a", "circle"}
    assert [element.text or "" for element in tree.iter() if element.tag.endswith("}text")] == [name]
    assert tree.attrib["role"] == "img"
    assert tree.attrib["aria-labelledby"] == "a-title a-told"
    [(picture, told)] = chart.keys
    assert told == name
    assert "<path" in picture


def test_control_characters_do_not_break_a_picture():
    written = marks.written(marks.text(0, 0, "a\x00b\x1bc"))
    assert ElementTree.fromstring(written).text == "a\ufffdb\ufffdc"


def test_series_differ_in_shape_and_colour():
    drawn = [marks.written(marks.point(10, 10, k)) for k in range(len(marks.SHAPES))]
    assert len({text.partition("d=")[2] or "circle" for text in drawn}) == len(marks.SHAPES)
    assert [f"series-{k % marks.COLORS}" in text for k, text in enumerate(drawn)] == [True] * len(drawn)


def test_long_words_are_cut_with_an_ellipsis():
    assert marks.fitted("Shirt", 100) == "Shirt"
    cut = marks.fitted("n01440764 tench, Tinca tinca", 100)
    assert cut.endswith("…")
    assert marks.width_of(cut) <= 100
    assert marks.width_of("漢字") > marks.width_of("ab")


def test_coordinates_are_short():
    assert marks.written(marks.line(0.04, -0.04, 10.0, 3.14159, "grid")) == (
        '<line class="grid" x1="0" y1="0" x2="10" y2="3.1"/>'
    )
    assert (
        marks.written(marks.rect(1, 2, -3, 4, "bar"))
        == '<rect class="bar" x="1" y="2" width="0" height="4"/>'
    )
