"""What the report's pages say of verdicts: evidence and limits, warnings, and what chance can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_report_html import FASHION, Page, assert_sound, cells_of, document, evaluated, table_of

from trtcheck.report import html, view

Engine = tuple[dict[str, Any], list[dict[str, Any]]]


def fashion(change: Callable[[dict[str, Any]], None] = lambda _items: None) -> Engine:
    """An engine whose items were changed by name of check."""
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    change({item["check"]: item for item in items})
    return engine, items


def page_of(engine: Engine) -> Any:
    return view.engines(document(engine))[0]


def hint_of(table: Any, column: str) -> str:
    return next(own.hint for own in table.columns if own.name == column)


def columns_of(table: Any) -> list[str]:
    return [column.name for column in table.columns]


def test_all_classes_together_stand_above_every_class():
    def fails(items):
        items["recall"]["verdict"] = items["recall"]["pooled"]["verdict"] = "fail"
        items["recall"]["pooled"].update(b=300, c=20, drop=0.0056, p=1e-12)

    engine = fashion(fails)
    page = page_of(engine)
    assert [table.anchor for table in page.classes] == [
        "recall-pooled", "recall-classes", "precision-pooled", "precision-classes",
    ]  # fmt: skip
    assert cells_of(page.classes[0], "all") == {
        "verdict": view.STATUSES["fail"], "images": "1000", "newly wrong": "300", "newly right": "20",
        "drop": "0.6 points", "limit": "0.2 points", "p": "< 1e-9", "level": "0.005",
        "detectable": "0.3 points",
    }  # fmt: skip
    [recall] = [finding for finding in page.findings if finding.checks == ("recall",)]
    assert recall.detail == "recall-pooled"


def test_a_plain_threshold_has_no_test_of_all_classes_and_its_p_value_decides_nothing(tmp_path):
    def threshold(items):
        for check in ("recall", "precision"):
            items[check].update(test="threshold", pooled={**items[check]["pooled"], "verdict": "skipped"})
        items["recall"]["baseline"] = None
        items["accuracy"].update(test="threshold")

    engine = fashion(threshold)
    assert_sound(document(engine), tmp_path)
    page = page_of(engine)
    assert [table.anchor for table in page.classes] == ["recall-classes", "precision-classes"]
    assert {finding.detail for finding in page.findings} >= {"recall-classes", "precision-classes"}
    table = table_of(page, "recall-classes")
    assert table.caption.endswith("a drop that reaches its limit fails, noise or not")
    assert "decides nothing" in hint_of(table, "p")
    assert cells_of(table, "Bag")["p"] == ".200"
    assert "decides nothing" in hint_of(table_of(page, "accuracy-figures"), "p")


def test_proof_of_harmlessness_is_named_as_the_rule():
    def proven(items):
        items["recall"]["test"] = items["recall"]["baseline"]["test"] = "proven"

    table = table_of(page_of(fashion(proven)), "recall-classes")
    assert table.caption.endswith("a drop that is not proven to be below its limit fails")
    assert "decides nothing" in hint_of(table, "p")


def test_key_classes_and_floors_have_columns_where_there_are_any():
    def keyed(items):
        rows = {row["name"]: row for row in items["recall"]["classes"]}
        rows["Bag"].update(key=True, floor=0.999, verdict="fail")
        rows["Coat"].update(floor=0.5)

    page = page_of(fashion(keyed))
    table = table_of(page, "recall-classes")
    assert cells_of(table, "Bag")["key"] == "key"
    assert cells_of(table, "Bag")["floor"] == ".999 missed"
    assert cells_of(table, "Coat")["floor"] == ".500"
    assert (cells_of(table, "Dress")["key"], cells_of(table, "Dress")["floor"]) == ("", "none")
    assert not {"key", "floor"} & set(columns_of(table_of(page, "precision-classes")))


def test_a_class_that_cannot_be_told_says_what_is_missing(tmp_path):
    def unsure(items):
        rows = items["recall"]["classes"]
        enough = {"images": 1000, "drop": 0.035}
        same, fell = {"before": 0.9, "after": 0.9}, {"before": 0.9, "after": 0.85}
        rows[0].update(same, verdict="inconclusive", blind=True, detectable=0.63, enough=enough)
        rows[1].update(fell, verdict="inconclusive", blind=False, enough={"images": 20_000, "drop": 0.0042})
        rows[2].update(verdict="inconclusive", before=0.0, enough=None)
        rows[3].update(verdict="inconclusive", after=None, drop=None, interval=None, enough=None)
        rows[4].update(fell, verdict="inconclusive", blind=True, detectable=None, enough=None)
        nothing = {"before": None, "after": None, "drop": None, "interval": None, "detectable": None}
        rows[5].update(nothing, verdict="inconclusive", key=True, support=0, enough={**enough, "images": 50})
        rows[6].update(nothing, verdict="inconclusive")
        items["accuracy"].update(same, verdict="inconclusive", detectable=0.3, enough=enough)

    engine = fashion(unsure)
    page = page_of(engine)
    details = {row.name: row.detail for row in table_of(page, "recall-classes").rows}
    assert [details[name] for name in FASHION[:8]] == [
        "drops under 63.0 points cannot be seen; about 1000 images would show 3.5 points",
        "the drop can be noise; about 20\N{NARROW NO-BREAK SPACE}000 images would show 0.4 points",
        "nothing to lose: the reference is never right",
        "no answer is this class any more",
        "the drop can be noise; no drop is sure to be seen",
        "no images; about 50 images would show 3.5 points",
        "no answer of the reference is this class: nothing can be compared",
        "",
    ]
    [accuracy, _top] = table_of(page, "accuracy-figures").rows
    seen = "drops under 30.0 points cannot be seen; about 1000 images would show 3.5 points"
    assert accuracy.detail == seen
    pages = assert_sound(document(engine), tmp_path)
    assert "about 1000 images would show 3.5 points" in pages["fashion--fp16.html"].text


@pytest.mark.parametrize(
    ("before", "after", "margin", "fell"),
    [
        (0.8, 0.79, 0.01, True),  # of floats more than .01
        (0.3, 0.2, 0.1, True),  # of floats less than .1
        (71 / 1000, 61 / 1000, 0.01, True),
        (2 / 3, 1 / 3, 0.3333333333333334, False),  # a third is less
        (0.7, 0.61, 0.1, False),
        (0.5, 0.5, 0.0, False),
    ],
)
def test_a_drop_of_exactly_the_limit_reaches_it(before: float, after: float, margin: float, fell: bool):
    def unsure(items):
        items["recall"]["classes"][0].update(
            before=before, after=after, drop=before - after, margin=margin, verdict="inconclusive"
        )

    rows = table_of(page_of(fashion(unsure)), "recall-classes").rows
    [row] = [row for row in rows if row.name == "T-shirt"]
    assert ("the drop can be noise" in row.detail) is fell


def test_accuracy_shows_floor_target_and_interval():
    def limited(items):
        items["accuracy"].update(floor=0.5, target=0.99, interval=(-0.002, 0.0149))

    cells = cells_of(table_of(page_of(fashion(limited)), "accuracy-figures"), "accuracy")
    assert (cells["floor"], cells["target"], cells["drop's interval"]) == (
        ".500",
        "99 %",
        "\N{MINUS SIGN}0.2 to 1.5",
    )
    assert not {"floor", "target"} & set(columns_of(table_of(page_of(fashion()), "accuracy-figures")))


def test_a_comparison_of_counts_alone_says_so_and_has_no_intervals():
    def counted(items):
        baseline = items["recall"]["baseline"]
        baseline.update(paired=False, classes=[{**row, "interval": None} for row in baseline["classes"]])

    page = page_of(fashion(counted))
    table = table_of(page, "baseline-recall")
    assert table.caption.startswith("Recall against the approved baseline, from counts alone")
    assert "drop's interval" not in columns_of(table)
    assert "Fisher" in hint_of(table, "p, Tarone-Holm")
    assert "from counts alone" in table_of(page, "baseline-recall-pooled").caption
    assert "Fisher" not in hint_of(table_of(page, "recall-classes"), "p, Tarone-Holm")


def test_changed_answers_have_a_bound_a_limit_and_the_confidence_lost():
    def churned(items):
        items["outputs"]["churn"] = {
            "rate": 1 / 12, "low": 0.0799, "high": 0.08013, "confidence": 0.99, "limit": 0.001,
        }  # fmt: skip

    page = page_of(fashion(churned))
    told = {fact.term: fact.text for fact in page.flips}
    assert told["share of images"] == "8.3 %, at most 8.1 % with 99 % confidence; limit .1 %"
    assert told["broken"].startswith("66 ")
    assert told["fixed"].startswith("11 ")
    assert cells_of(page.gallery.rest, "0")["lost"] == "90.0"
    assert cells_of(page.gallery.rest, "97")["lost"] == "89.5"


def test_warnings_stand_on_both_pages_by_word_and_mark(tmp_path):
    same = ["the set holds 3 images twice"]

    def warned(items):
        items["recall"]["warnings"] = same

    def warned_twice(items):
        items["recall"]["warnings"] = [*same, "class 'Bag' is missing"]

    other, own = fashion(warned_twice)
    engines = (fashion(warned), ({**other, "engine": "int8"}, [{**item, "engine": "int8"} for item in own]))
    found = document(*engines)
    index = view.index(found)
    assert [(warning.message, [name for name, _ in warning.engines]) for warning in index.warnings] == [
        (same[0], ["FP16", "INT8"]),
        ("class 'Bag' is missing", ["INT8"]),
    ]
    recall = index.checks.index("recall")
    assert [row.cells[recall].warnings for row in index.models[0].rows] == [1, 2]
    pages = assert_sound(found, tmp_path)
    mark = '<span class="status warning"><span aria-hidden="true">▲</span> warning</span>'
    for name, text in html.render(found).items():
        assert (mark in text) == name.endswith(".html")
    assert pages["index.html"].text.count("the set holds 3 images twice") == 1
    assert "2 warnings" in pages["index.html"].text
    assert pages["fashion--int8.html"].text.count("class 'Bag' is missing") == 1


def test_inconclusive_classes_of_a_passing_item_are_counted_on_the_index():
    def unsure(items):
        for row in items["recall"]["classes"][:2]:
            row["verdict"] = "inconclusive"

    found = document(fashion(unsure))
    index = view.index(found)
    [row] = index.models[0].rows
    unsure_classes = {check: cell.unsure for check, cell in zip(index.checks, row.cells, strict=True) if cell}
    assert unsure_classes == {"build": 0, "outputs": 0, "accuracy": 0, "recall": 2, "precision": 0}
    assert "? 2 inconclusive" in " ".join(Page(html.render(found)["index.html"]).text.split())


def test_what_is_inconclusive_and_fails_says_so():
    def strict(items):
        items["recall"].update(verdict="inconclusive", fails=True, message="too few images")

    engine, items = fashion(strict)
    found = document(({**engine, "verdict": "inconclusive"}, items))
    assert view.headline(found) == "FP16 is inconclusive and fails here: too few images"
    for name in ("index.html", "fashion--fp16.html"):
        assert "inconclusive and fails here" in Page(html.render(found)[name]).text
    items[3]["fails"] = False
    assert "strict" not in Page(html.render(found)["index.html"]).text


@pytest.mark.parametrize(("test", "told"), [("paired", True), ("threshold", False)])
def test_the_index_says_what_chance_can_do(test: str, told: bool):
    def ruled(items):
        for item in items.values():
            for judged in (item, item.get("baseline"), item.get("top_k")):
                if judged and "test" in judged:
                    judged["test"] = test

    text = Page(html.render(document(fashion(ruled)))["index.html"]).text
    sentence = "Chance that harmless changes fail this session: at most 4 % (4 tests at 1 %)"
    assert (sentence in text) is told


def test_limits_are_told_in_their_units():
    engine, items = fashion()
    found = document((engine, items))
    found["models"][0]["gates"].update(
        test="paired", key_classes=["Bag", "Co*"], pooled_drop=0.002, must_see=0.6, churn=0.001,
        accuracy_target=0.99, recall_floor=0.9, accuracy_floor=None, on_inconclusive="tell", saturation=0.01,
    )  # fmt: skip
    told = {fact.term: fact.text for fact in view.index(found).models[0].gates}
    expected = {
        "test": "paired", "key_classes": "Bag, Co*", "pooled_drop": "0.2 points", "must_see": "60.0 points",
        "churn": ".1 %", "accuracy_target": "99 %", "recall_floor": "0.9", "on_inconclusive": "tell",
        "saturation": "1 %",
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
    assert "accuracy_floor" not in told
