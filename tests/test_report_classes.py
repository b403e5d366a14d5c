"""Classes on the page: gates at one look, pictures of recall, and all of them in useful orders."""

from __future__ import annotations

from typing import Any

import pytest
from test_report_html import FASHION, HOSTILE, assert_sound, cells_of, document, evaluated
from test_report_latency import JUDGED, LIMIT, THROTTLED, timed

from trtcheck.report import html, view
from trtcheck.report.charts import dumbbell
from trtcheck.report.view import room

FULL, SPARE = room.of_report(1), room.of_report(room.SMALL + 1)


def row(name: str, before: float | None, after: float | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "before": before, "after": after, **more}


def judged(name: str, before: float, after: float, verdict: str = "pass", **more: Any) -> dict[str, Any]:
    drop = before - after
    own = {
        "verdict": verdict,
        "interval": [drop - 0.02, drop + 0.03],
        "margin": 0.01,
        "floor": None,
        "key": False,
    }
    return row(name, before, after, **{**own, **more})


def kinds(mark) -> list[str]:
    return str(dict(mark.attributes).get("class", "")).split()


def points(chart, kind: str) -> list[dict[str, Any]]:
    """Attributes of the marks of a *kind*, in order."""
    return [dict(mark.attributes) for mark in chart.marks if kind in kinds(mark)]


# pictures


def test_marks_stand_where_the_numbers_say():
    chart = dumbbell.of_classes([judged("Shirt", 0.8, 0.4, "fail")], "recall", "a", "n", FULL)
    [before] = points(chart, "hollow")
    after = next(dict(mark.attributes) for mark in chart.marks if {"point", "fail"} <= set(kinds(mark)))
    words = [m.text for m in chart.marks if m.tag == "text"]
    ticks = {m.text: dict(m.attributes)["x"] for m in chart.marks if "tick" in kinds(m)}
    assert before["cx"] == ticks["0.8"]
    assert after["d"].startswith(f"M{ticks['0.4']:.1f}".removesuffix(".0"))
    [whisker] = points(chart, "whisker")
    left, right = (float(part) for part in (whisker["d"][1:].split(" ")[0], whisker["d"].split("H")[1]))
    assert left < ticks["0.4"] < right  # the interval of the drop lies around the value after
    scale = (ticks["0.8"] - ticks["0.4"]) / 0.4
    assert left == pytest.approx(ticks["0.8"] - 0.43 * scale, abs=0.1)
    assert right == pytest.approx(ticks["0.8"] - 0.38 * scale, abs=0.1)
    [limit] = points(chart, "limit")
    assert limit["x1"] == pytest.approx(ticks["0.8"] - 0.01 * scale)
    assert "✗ fail" in words
    assert chart.description == "Largest falls of recall: Shirt from .800 to .400."


def test_a_picture_is_bounded_and_key_classes_are_in_it():
    rows = [judged(f"class {k}", 0.9, 0.8) for k in range(60)]
    rows[50] = {**rows[50], "key": True}
    chart = dumbbell.of_classes(rows, "recall", "a", "n", FULL)
    names = [m.text for m in chart.marks if m.text.startswith("class ")]
    assert len(names) == dumbbell.MOST_ROWS
    assert names[-1] == "class 50"
    assert chart.title == "Recall before and after: the worst 20 of 60 classes"
    assert chart.description.endswith("40 classes are left out.")
    spare = dumbbell.of_classes(rows, "recall", "a", "n", SPARE)
    assert len([m for m in spare.marks if m.text.startswith("class ")]) == dumbbell.FEWER_ROWS


def test_undefined_values_are_left_out_of_a_picture():
    rows = [row("never", None, None), row("gone", 0.5, None), row("new", None, 0.25)]
    chart = dumbbell.of_classes(rows, "precision", "a", "n", FULL)
    assert [m.text for m in chart.marks if m.text in ("never", "gone", "new")] == ["gone", "new"]
    assert len(points(chart, "hollow")) == 1
    assert chart.description == "No precision fell."
    assert dumbbell.of_classes([row("never", None, None)], "recall", "a", "n", FULL) is None


def test_classes_that_no_check_judged_have_pictures_too():
    engine, _ = evaluated("fashion", "fp16", FASHION, 100, {})
    [page] = view.engines(document((engine, [])))
    assert [chart.anchor for chart in page.dumbbells] == ["recall-picture", "precision-picture"]
    assert not any(points(chart, "whisker") for chart in page.dumbbells)


# orders


def listed(count: int, engines: int = 1):
    names = [f"class {k}" for k in range(count)]
    made = [evaluated("m", f"engine{k}", names, 10, {"class 7": ("class 8", 0.9)}) for k in range(engines)]
    for engine, _ in made:
        engine["classes"][3]["after"] = {**engine["classes"][3]["after"], "recall": None, "precision": 0.01}
    return document(*made)


def test_ten_classes_stand_in_every_order():
    [page] = view.engines(listed(10))
    orders = {order.anchor: [cells[0] for cells in order.rows] for order in page.listed.orders}
    assert orders["classes-listed"] == [f"class {k}" for k in range(10)]
    assert orders["classes-by-name"] == [f"class {k}" for k in range(10)]
    assert orders["classes-by-recall"][0] == "class 7"
    assert orders["classes-by-recall"][-1] == "class 3"  # undefined last
    assert orders["classes-by-recall-drop"][0] == "class 7"
    assert orders["classes-by-precision"][0] == "class 3"
    assert page.listed.page is None
    assert view.class_pages(listed(10)) == ()


def test_names_sort_as_people_count():
    names = ["n10", "n9", "N1", "a"]
    [page] = view.engines(document(evaluated("m", "e", names, 10, {})))
    by_name = next(order for order in page.listed.orders if order.anchor == "classes-by-name")
    assert [cells[0] for cells in by_name.rows] == ["a", "N1", "n9", "n10"]


def test_of_many_classes_the_page_has_the_worst_and_another_page_all():
    found = listed(300, engines=2)
    [first, _] = view.engines(found)
    assert [len(order.rows) for order in first.listed.orders] == [20] * 6
    [table] = [table for table in first.classes if table.anchor == "recall-classes"]
    assert (len(table.rows), len(table.folded)) == (50, 0)
    assert table.caption.endswith("50 of 300 classes, 1 fail")
    [page] = view.class_pages(found)
    assert page.headline == "All 300 classes of m, in the model's order"
    assert page.columns[:4] == ("support", "recall: reference", "recall: engine0", "recall: engine1")
    [cells] = [cells for cells in page.rows if cells[0] == "class 7"]
    recall = found["engines"][0]["classes"][7]
    assert float(cells[2]) == pytest.approx(recall["before"]["recall"], abs=6e-4)
    assert float(cells[3]) == pytest.approx(recall["after"]["recall"], abs=6e-4)
    assert next(cells for cells in page.rows if cells[0] == "class 3")[3] == "\N{EN DASH}"


def test_twenty_two_thousand_classes_stay_readable(tmp_path):
    count = 22_000
    engine, _ = evaluated("m", "fp16", ["a", "b"], 10, {})
    figures = {"tp": 1, "fp": 0, "fn": 0, "tn": 9, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    bad = {**figures, "recall": 0.5}
    engine["classes"] = [
        {"name": f"c{k}", "support": 1, "before": figures, "after": bad if k == 21_000 else figures}
        for k in range(count)
    ]
    engine["confusion"] = None
    found = document((engine, []))
    pages = html.render(found)
    assert len(pages["m--fp16.html"]) < 150_000
    assert len(pages["m---classes.html"]) < 600_000
    [page] = view.class_pages(found)
    assert page.headline.startswith("The 5000 that lost most recall of 22")

    assert "c21000" in {cells[0] for cells in page.rows}


@pytest.mark.parametrize("count", [60, 250])
def test_hostile_names_stay_names_in_every_order(count: int, tmp_path):
    names = [f"{name}{k}" for k in range(count // len(HOSTILE)) for name in HOSTILE]
    assert_sound(document(evaluated("m", "e", names, 5, {})), tmp_path)


# gates


def gate(page, name: str) -> dict[str, Any]:
    return cells_of(page.gates, name)


def test_every_gate_is_one_row_worst_first():
    engine, items = evaluated("fashion", "int8", FASHION, 1000, {"Shirt": ("Coat", 0.8)})
    items[1]["limits"] = {"max_abs": 1.0, "cosine": 0.999, "kl": None}
    items[1]["churn"] = {**items[1]["churn"], "limit": 0.5}
    items[0]["gates"] = {"engine_mb": 0.4, "memory_mb": 10.0}
    items[0]["facts"] = {"engine_bytes": 412_344}
    [page] = view.engines(document((engine, items)))
    assert [r.status.word for r in page.gates.rows if r.status] == sorted(
        (r.status.word for r in page.gates.rows if r.status), key=["fail", "inconclusive"].index
    )
    recall = gate(page, "recall, worst of 10 classes")
    worst = next(r for r in items[3]["classes"] if r["name"] == "Shirt")
    assert recall["verdict"].word == "fail"
    assert recall["measured"].startswith(f"'Shirt' .{round(worst['before'] * 1000)} → ")
    assert recall["limit"] == "drop 1.0"
    assert recall["p"] == "< 1e-9"
    assert gate(page, "outputs: max_abs")["verdict"].word == "fail"  # 1.25 of at most 1
    assert gate(page, "outputs: cosine")["verdict"].word == "pass"
    assert gate(page, "engine_mb")["verdict"].word == "fail"  # .412 of .4
    assert gate(page, "memory_mb")["verdict"].word == "inconclusive"  # not known here
    assert gate(page, "changed answers (churn)")["verdict"].word == "pass"
    assert {r.href for r in page.gates.rows} <= _ids(document((engine, items)))


def _ids(found: dict[str, Any]) -> set[str]:
    import re

    return set(re.findall(r'id="([a-z0-9-]+)"', html.render(found)["fashion--int8.html"]))


def test_times_are_gates_and_those_of_an_unfit_machine_are_none():
    fit = timed("int8", 8, 1.6, judged=[JUDGED], limits=[LIMIT], verdict="fail", fails=True)
    engine, items = evaluated("resnet50", "int8", FASHION, 100, {})
    [page] = view.engines(document((engine, [*items, fit])))
    assert gate(page, "median at batch 8")["verdict"].word == "fail"
    assert gate(page, "latency_ms at batch 8")["verdict"].word == "fail"
    unfit = {**fit, "health": THROTTLED, "verdict": "inconclusive", "fails": False}
    [page] = view.engines(document((engine, [*items, unfit])))
    assert gate(page, "median at batch 8")["verdict"].word == "inconclusive"


def test_a_model_without_checks_has_no_gates():
    engine, _ = evaluated("fashion", "fp16", FASHION, 10, {})
    [page] = view.engines(document((engine, [])))
    assert page.gates is None
