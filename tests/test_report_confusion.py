"""Confusion on the page: differences, lists and pictures of many classes, and how large errors are."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_evaluation import judged, record
from test_report_html import FASHION, HOSTILE, assert_sound, document, evaluated

from trtcheck.evaluation import Labels
from trtcheck.report import document as documents
from trtcheck.report import html, matrix_pictures, pictures, view
from trtcheck.report.charts import histogram
from trtcheck.report.matrix_pictures import of, picture, shades


def test_the_difference_says_what_became_better_and_what_worse():
    engine, items = evaluated("cats", "int8", ["cat", "dog"], 10, {})
    engine["confusion"] = {"before": [[8, 2, 0], [1, 9, 0]], "after": [[6, 3, 1], [0, 10, 0]]}
    [page] = view.engines(document((engine, items)))
    *_, difference = page.matrices
    assert difference.caption == "Difference: after less before"
    assert difference.answers == ("cat", "dog", "no answer")
    minus = "\N{MINUS SIGN}"
    assert [[(c.text, c.hit, c.heat > 0) for c in row] for _, row in difference.rows] == [
        [(f"{minus}2", False, True), ("+1", False, True), ("+1", False, True)],
        [(f"{minus}1", True, True), ("+1", True, True), ("0", False, False)],
    ]


def test_confusions_that_appeared_and_vanished_have_lists_of_their_own():
    engine, items = evaluated("cats", "int8", ["cat", "dog"], 10, {})
    engine["confusions"] = [
        {"truth": "cat", "answer": "dog", "before": 2, "after": 9},
        {"truth": "dog", "answer": None, "before": 5, "after": 1},
    ]
    [page] = view.engines(document((engine, items)))
    appeared, vanished = page.confusions
    assert [(row.name, row.cells) for row in appeared.rows] == [("cat", ("dog", "2", "9", "+7"))]
    assert [(row.name, row.cells[0]) for row in vanished.rows] == [("dog", "no answer")]


def test_both_directions_have_their_share_of_the_list(tmp_path):
    classes = [f"class {k}" for k in range(80)]
    truth = np.repeat(np.arange(80), 40)
    before = np.where(np.arange(3200) % 40 == 0, (truth + 1) % 80, truth)  # one mistake a class, mended later
    after = np.where(np.arange(3200) % 40 > 30, (truth + 2) % 80, truth)  # nine new ones
    made = replace(judged(truth, before, after, classes), record=record())
    found = documents.document(
        items=[], evaluations=[made], baselines={}, environment={}, run={}, root=tmp_path
    )  # fmt: skip
    changes = [row["after"] - row["before"] for row in found["engines"][0]["confusions"]]
    assert sorted(set(changes)) == [-1, 9]
    assert (changes.count(9), changes.count(-1)) == (25, 25)


def many(classes: int, images: int, seed: int = 0):
    """A model of many classes that mistakes class 5 for class 9 in the engine alone, and some for others."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, images)
    before = np.where(rng.random(images) < 0.05, rng.integers(0, classes, images), truth)
    after = np.where(truth == 5, 9, before)
    names = tuple(f"class {k}" for k in range(classes))
    small = judged([0, 1], [0, 1], [0, 1], ("a", "b"))
    right = np.zeros(images, bool)
    labels = Labels(*(v.astype(np.int32) for v in (truth, before, after)), right, right)
    return replace(small, classes=names, images=images, labels=labels, record=record())


def test_a_new_confusion_of_forty_classes_is_a_red_field_and_nothing_else_changed():
    found = shades(many(40, 20_000))["difference"]
    assert found.shape == (40, 40)
    assert found[5, 9] == -9  # the largest change of all, for the worse
    assert found[5, 5] < 0  # right answers that were lost
    changed = {tuple(place) for place in np.argwhere(found)}
    assert all(row == 5 for row, _ in changed)
    assert all(found[5, k] > 0 for _, k in changed - {(5, 9), (5, 5)})  # other mistakes are gone


@pytest.mark.parametrize("classes", [21, 1000, 22_000])
def test_no_change_is_lost_however_many_classes_share_a_field(classes: int):
    made = many(classes, 50_000)
    blocks = min(classes, matrix_pictures.BLOCKS)
    found = shades(made)
    assert found["difference"].shape == (blocks, blocks)
    row, column = 5 * blocks // classes, 9 * blocks // classes
    assert found["difference"][row, column] == -9
    assert found["before"][0, 0] > 0
    drawn = of([made])
    assert len(drawn) == 3
    assert sum(map(len, drawn.values())) < 45_000
    for content in drawn.values():
        assert pictures.is_own(content)
        image = Image.open(io.BytesIO(content))
        assert 380 <= image.width <= 402


def test_images_without_an_answer_have_a_column_that_stands_apart():
    made = many(30, 3000)
    labels = made.labels
    lost = replace(labels, candidate=np.where(labels.truth == 7, -1, labels.candidate).astype(np.int32))
    found = shades(replace(made, labels=lost))
    assert found["after"].shape == (30, 32)
    assert found["after"][7, 31] == -9
    assert not found["after"][:, 30].any()
    assert picture(found["after"]).size == (32 * 13 + 2, 30 * 13 + 2)


def test_small_models_have_numbers_and_no_pictures():
    assert matrix_pictures.names(many(20, 100)) is None
    assert of([many(20, 100)]) == {}


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_of_matrices_are_shown_whatever_the_names(name: str, tmp_path):
    made = replace(many(30, 1000), model=name, engine=name)
    drawn = of([made])
    found = documents.document(
        items=[], evaluations=[made], baselines={}, environment={}, run=document()["run"], root=tmp_path,
        pictures=drawn.keys(),
    )  # fmt: skip
    assert_sound(found, tmp_path / "without")
    html.write(found, tmp_path / "with", drawn)
    [page] = [p for p in (tmp_path / "with").glob("*.html") if p.name != "index.html"]
    assert page.read_text(encoding="utf-8").count("<img") == 3
    assert len(list((tmp_path / "with" / "pictures").iterdir())) == 3


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
