"""Confusion on the page: differences, lists, and pictures of many classes."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_evaluation import judged, record
from test_report_html import HOSTILE, assert_sound, document, evaluated

from trtcheck.evaluation import Evaluation, Labels
from trtcheck.metrics.confusion import Confusion
from trtcheck.report import document as documents
from trtcheck.report import html, matrix_pictures, pictures, view
from trtcheck.report.matrix_pictures import BLOCKS, FRAME, PALE, SHADES, of, picture, shades

BLUE, RED = range(1, 1 + SHADES), range(1 + SHADES, 1 + 2 * SHADES)
PALES = range(1 + 2 * SHADES, 1 + 2 * SHADES + PALE)
DARKEST = RED[-1]


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
    engine["changed_confusions"] = {"appeared": 12_345, "vanished": 1}
    [page] = view.engines(document((engine, items)))
    space = "\N{NARROW NO-BREAK SPACE}"
    assert [table.caption for table in page.confusions] == [
        f"Confusions that appeared: wrong answers that became more; the largest 1 of 12{space}345",
        "Confusions that vanished: wrong answers that became fewer",
    ]


def test_both_directions_have_their_share_of_the_list(tmp_path):
    classes = [f"class {k}" for k in range(80)]
    truth = np.repeat(np.arange(80), 40)
    before = np.where(np.arange(3200) % 40 == 0, (truth + 1) % 80, truth)  # one mistake a class, mended later
    after = np.where(np.arange(3200) % 40 > 30, (truth + 2) % 80, truth)  # nine new ones
    engine = reported(replace(judged(truth, before, after, classes), record=record()), tmp_path)
    changes = [row["after"] - row["before"] for row in engine["confusions"]]
    assert sorted(set(changes)) == [-1, 9]
    assert (changes.count(9), changes.count(-1)) == (25, 25)
    assert engine["changed_confusions"] == {"appeared": 80, "vanished": 80}


def reported(made: Evaluation, root, drawn=()):
    """The engine as the report has it."""
    found = documents.document(
        items=[], evaluations=[made], baselines={}, environment={}, run={}, root=root, pictures=drawn
    )  # fmt: skip
    return found["engines"][0]


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


def drawn_shades(made: Evaluation):
    labels, classes = made.labels, len(made.classes)
    return shades(*(Confusion.of(labels.truth, a, classes) for a in (labels.reference, labels.candidate)))


def test_a_new_confusion_of_forty_classes_is_a_red_field_and_nothing_else_changed():
    found = drawn_shades(many(40, 20_000))["difference"]
    assert found.shape == (40, 40)
    assert found[5, 9] == DARKEST  # the largest change of all, for the worse
    assert found[5, 5] in RED  # right answers that were lost
    changed = {tuple(place) for place in np.argwhere(found)}
    assert all(row == 5 for row, _ in changed)
    assert len(changed) > 10
    assert all(found[5, k] in BLUE for _, k in changed - {(5, 9), (5, 5)})  # other mistakes are gone


def test_every_field_of_before_and_after_is_what_the_matrix_says():
    made = many(40, 20_000)
    found = drawn_shades(made)
    for side, confusion in zip(("before", "after"), made.confusion(), strict=True):
        for (row, column), shade in np.ndenumerate(found[side]):
            count = confusion.matrix[row, column]
            expected = PALES if row == column and count else RED if count else [0]
            assert shade in expected, (side, row, column)
    assert found["after"][5, 9] == DARKEST
    assert found["after"][5, 5] == 0  # no right answer is left
    single = made.confusion()[0].matrix[:, :-1] == 1
    assert single.any()
    assert set(found["before"][single]) <= {RED[0]}  # one image is the palest red, on the scale of both


def test_a_matrix_of_two_hundred_classes_and_one_of_more_have_their_fields_where_classes_stand():
    classes, images = 1000, 4000
    truth = np.arange(images) % classes
    after = np.where(truth == 997, 3, np.where(truth == 500, 502, truth))
    made = replace(
        many(classes, images),
        labels=Labels(*(v.astype(np.int32) for v in (truth, truth, after)), truth == truth, after == truth),
    )
    found = drawn_shades(made)
    assert found["after"][199, 0] in RED  # far from the diagonal, at its place
    assert set(np.unique(found["before"])) == {0, PALES[-1]}
    assert sorted(map(tuple, np.argwhere(found["difference"]))) == [(100, 100), (199, 0), (199, 199)]
    assert set(found["difference"][found["difference"] > 0]) <= set(RED)


def test_a_field_of_several_classes_shows_the_largest_change():
    def counted(*cells):
        matrix = np.zeros((400, 401), int)
        for truth, answer, count in cells:
            matrix[truth, answer] = count
        return Confusion.of_matrix(matrix)

    before = counted((10, 20, 0), (11, 21, 2), (12, 30, 0), (13, 31, 5))
    after = counted((10, 20, 5), (11, 21, 0), (12, 30, 2), (13, 31, 0))
    found = shades(before, after)["difference"]
    assert (found[5, 10], found[6, 15]) == (DARKEST, BLUE[-1])
    assert np.count_nonzero(found) == 2


@pytest.mark.parametrize("classes", [21, 1000, 22_000])
def test_no_change_is_lost_however_many_classes_share_a_field(classes: int):
    made = many(classes, 50_000)
    blocks = min(classes, BLOCKS)
    found = drawn_shades(made)
    assert found["difference"].shape == (blocks, blocks)
    row, column = 5 * blocks // classes, 9 * blocks // classes
    # In a field of the diagonal stand the right answers that were lost, too, which are as many.
    assert found["difference"][row, column] in RED
    assert found["before"][0, 0] in PALES
    drawn = of([made])
    assert len(drawn) == 3
    assert all(len(content) < 15_000 for content in drawn.values())
    for content in drawn.values():
        assert pictures.is_own(content)
        image = Image.open(io.BytesIO(content))
        assert image.mode == "P"
        assert 380 <= image.width <= 402


def test_the_file_has_the_colours_of_its_fields():
    drawn = of([many(40, 20_000)])
    [path] = [path for path in drawn if path.endswith("difference.png")]
    image = Image.open(io.BytesIO(drawn[path])).convert("RGB")
    size = 10
    red, green, blue = image.getpixel((1 + 9 * size + 4, 1 + 5 * size + 4))  # class 5 taken for class 9
    assert red > 2 * max(green, blue)
    assert image.getpixel((1 + 9 * size + 4, 1 + 6 * size + 4)) == (255, 255, 255)  # the row below: unchanged
    assert image.getpixel((0, 0)) == image.getpixel((401, 401)) != (255, 255, 255)  # the frame


def test_images_without_an_answer_have_a_column_that_stands_apart():
    made = many(30, 3000)
    labels = made.labels
    lost = replace(labels, candidate=np.where(labels.truth == 7, -1, labels.candidate).astype(np.int32))
    found = drawn_shades(replace(made, labels=lost))
    assert found["after"].shape == (30, 32)
    assert found["after"][7, 31] == DARKEST
    assert set(found["after"][:, 30]) == {FRAME}
    assert np.flatnonzero(found["after"][:, 31]).tolist() == [7]
    assert picture(found["after"]).size == (32 * 13 + 2, 30 * 13 + 2)


def test_without_labels_or_answers_of_the_reference_the_report_is_still_made(tmp_path):
    made = many(30, 100)
    none = np.full(100, -1, np.int32)
    unlabelled = replace(made, labels=replace(made.labels, truth=none))
    assert of([unlabelled]) == {}
    assert reported(unlabelled, tmp_path)["confusion_pictures"] is None
    silent = replace(made, labels=replace(made.labels, reference=none))
    drawn = of([silent])
    assert reported(silent, tmp_path, drawn)["confusion_pictures"].keys() == {"before", "after", "difference"}


def test_a_report_of_twenty_two_thousand_classes_holds_no_matrix(tmp_path):
    made = many(22_000, 50_000)
    tracemalloc.start()
    try:
        engine = reported(made, tmp_path)
        of([made])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200e6  # one matrix takes 3.9 GB
    lost = int((made.labels.truth == 5).sum())
    [row] = [row for row in engine["confusions"] if row["answer"] == "class 9" and row["truth"] == "class 5"]
    assert (row["before"], row["after"]) == (0, lost)
    assert len(engine["classes"]) == 22_000
    assert sum(row["support"] for row in engine["classes"]) == 50_000


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
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == text.count('alt="') == text.count('width="400"') == 3
    assert "class 5 taken for class 9, 0 before and" in text
    assert len(list((tmp_path / "with" / "pictures").iterdir())) == 3
