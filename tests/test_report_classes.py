"""Classes on the page: gates at one look, pictures of recall, and all of them in useful orders."""

from __future__ import annotations

from typing import Any

import pytest
from test_report_html import FASHION, HOSTILE, Page, assert_sound, cells_of, document, evaluated
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
    told = "Of 1 class 1 fails. Largest falls of recall: Shirt from .800 to .400."
    assert chart.description == told


def test_a_picture_is_bounded_and_key_classes_are_in_it():
    rows = [judged(f"class {k}", 0.9, 0.8) for k in range(60)]
    rows[50] = {**rows[50], "key": True}
    chart = dumbbell.of_classes(rows, "recall", "a", "n", FULL)
    names = [m.text for m in chart.marks if m.text.startswith("class ")]
    assert len(names) == dumbbell.MOST_ROWS
    assert names[-1] == "class 50"
    assert chart.title == "Recall before and after: the worst and key classes, 20 of 60 classes"
    assert chart.description.startswith("Of 60 classes none fails. Largest falls of recall: class 0 from")
    assert chart.description.endswith("40 classes are left out.")
    spare = dumbbell.of_classes(rows, "recall", "a", "n", SPARE)
    assert len([m for m in spare.marks if m.text.startswith("class ")]) == dumbbell.FEWER_ROWS


def test_key_classes_leave_room_for_those_that_fail():
    failed = [judged(f"bad {k}", 0.9, 0.5, "fail") for k in range(30)]
    keys = [judged(f"key {k}", 0.9, 0.9, key=True) for k in range(30)]
    chart = dumbbell.of_classes([*failed, *keys], "recall", "a", "n", FULL)
    names = [m.text for m in chart.marks if m.text.startswith(("bad ", "key "))]
    assert names == [*(f"bad {k}" for k in range(10)), *(f"key {k}" for k in range(10))]
    assert chart.description.startswith("Of 60 classes 30 fail.")
    few = dumbbell.of_classes([*failed[:3], *keys], "recall", "a", "n", FULL)
    assert len([m for m in few.marks if m.text.startswith("key ")]) == 17


def test_a_floor_and_an_accepted_drop_are_both_drawn():
    rows = [judged("a", 0.9, 0.7, "fail", floor=0.8, margin=0.05), judged("b", 0.9, 0.9)]
    chart = dumbbell.of_classes(rows, "recall", "a", "n", FULL)
    ticks = {m.text: dict(m.attributes)["x"] for m in chart.marks if "tick" in kinds(m)}
    scale = (ticks["0.9"] - ticks["0.7"]) / 0.2
    limits = [mark["x1"] for mark in points(chart, "limit")]
    assert limits == pytest.approx([ticks["0.8"], ticks["0.9"] - 0.05 * scale, ticks["0.9"] - 0.01 * scale])
    names = [key.name for key in chart.legend]
    assert names == ["before", "after", "the change", "interval of the drop", "limit or floor"]


def test_no_interval_is_drawn_where_none_is_known():
    chart = dumbbell.of_classes([judged("a", 0.9, 0.7, interval=None)], "recall", "a", "n", FULL)
    assert points(chart, "whisker") == []
    assert "interval of the drop" not in [key.name for key in chart.legend]


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
    assert orders["classes-by-recall-drop"][-1] == "class 3"
    assert orders["classes-by-precision-drop"][0] == "class 3"
    assert orders["classes-by-support"] == orders["classes-listed"]  # all are alike: the model's order stays
    assert orders["classes-by-precision"][0] == "class 3"
    assert page.listed.page is None
    assert view.class_pages(listed(10)) == ()


def test_rows_have_both_figures_and_their_drops():
    found = listed(10)
    [page] = view.engines(found)
    by_drop = next(order for order in page.listed.orders if order.anchor == "classes-by-recall-drop")
    cells = dict(zip(page.listed.columns, by_drop.rows[0], strict=True))
    own = found["engines"][0]["classes"][7]
    before, after = own["before"]["recall"], own["after"]["recall"]
    assert (cells["class"], cells["support"]) == ("class 7", "10")
    assert float(cells["recall before"]) == pytest.approx(before, abs=6e-4)
    assert float(cells["recall now"]) == pytest.approx(after, abs=6e-4)
    assert float(cells["drop of recall"]) == pytest.approx(100 * (before - after), abs=0.06)
    undefined = dict(zip(page.listed.columns, by_drop.rows[-1], strict=True))
    assert (undefined["recall now"], undefined["drop of recall"]) == ("\N{EN DASH}", "\N{EN DASH}")


def test_up_to_a_hundred_classes_every_order_has_all():
    [page] = view.engines(listed(100))
    assert [len(order.rows) for order in page.listed.orders] == [100] * 7
    [page] = view.engines(listed(150))
    assert [len(order.rows) for order in page.listed.orders] == [150, *[50] * 6]
    assert page.listed.orders[1].caption == "The first 50 of 150 classes, by name"
    [table] = [table for table in page.classes if table.anchor == "recall-classes"]
    assert (len(table.rows), len(table.folded)) == (50, 100)


def test_every_class_that_fails_is_judged_on_the_page_up_to_two_hundred():
    def judged_rows(failed: int) -> tuple[list[str], str]:
        names = [f"class {k}" for k in range(300)]
        ruined = dict.fromkeys(names[:failed], ("class 299", 0.9))
        [page] = view.engines(document(evaluated("m", "e", names, 10, ruined)))
        [table] = [table for table in page.classes if table.anchor == "recall-classes"]
        rows = (*table.rows, *table.folded)
        return [row.cells[0].word for row in rows], table.caption

    assert judged_rows(3)[0] == ["fail"] * 3 + ["pass"] * 47
    assert judged_rows(120)[0] == ["fail"] * 120
    words, caption = judged_rows(250)
    assert words == ["fail"] * 200
    assert caption.endswith("200 of 300 classes, 250 fail")


def test_names_sort_as_people_count():
    names = ["n10", "n9", "N1", "a"]
    [page] = view.engines(document(evaluated("m", "e", names, 10, {})))
    by_name = next(order for order in page.listed.orders if order.anchor == "classes-by-name")
    assert [cells[0] for cells in by_name.rows] == ["a", "N1", "n9", "n10"]


def test_of_many_classes_the_page_has_the_worst_and_another_page_all():
    found = listed(300, engines=2)
    [first, _] = view.engines(found)
    assert [len(order.rows) for order in first.listed.orders] == [50] * 6
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
    engine, items = evaluated("m", "fp16", ["a", "b"], 10, {})
    figures = {"tp": 1, "fp": 0, "fn": 0, "tn": 9, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    bad = {**figures, "recall": 0.5}
    engine["classes"] = [
        {"name": f"c{k}", "support": 1, "before": figures, "after": bad if k == 21_000 else figures}
        for k in range(count)
    ]
    engine["confusion"] = None
    told = items[3]["classes"][0]
    items[3]["classes"] = items[3]["baseline"]["classes"] = [
        {**told, "name": f"c{k}", "verdict": "fail" if k == 21_000 else "pass"} for k in range(count)
    ]
    found = document((engine, items))
    pages = html.render(found)
    [own] = view.engines(found)
    captions = {table.anchor: table.caption for table in (*own.classes, *own.compared)}
    assert captions["recall-classes"].endswith("; 50 of 22\N{NARROW NO-BREAK SPACE}000 classes, 1 fail")
    assert "worst first: 50 of 22\N{NARROW NO-BREAK SPACE}000 classes" in captions["baseline-recall"]
    assert gate(own, "recall, 1 of 22\N{NARROW NO-BREAK SPACE}000 classes fail")["where"] == "c21000"
    [plain] = view.engines(document((engine, [])))
    assert plain.classes[0].caption.endswith("run; 50 of 22\N{NARROW NO-BREAK SPACE}000 classes")
    assert plain.classes[0].rows[0].name == "c21000"
    assert len(pages["m--fp16.html"]) < 150_000
    assert len(pages["m---classes.html"]) < 600_000
    [page] = view.class_pages(found)
    headline = (
        "The 5000 that lost most recall of 22\N{NARROW NO-BREAK SPACE}000 classes of m, in the model's order"
    )
    assert page.headline == headline
    assert page.notes == ("report.json has all classes.",)
    assert "c21000" in {cells[0] for cells in page.rows}


def test_of_a_thousand_classes_a_page_stays_light():
    names = [f"n{k:08d} some kind of bird" for k in range(1000)]
    ruined = {names[k]: (names[k + 1], 0.9) for k in range(0, 20, 2)}
    pages = html.render(document(evaluated("imagenet", "fp16", names, 50, ruined)))
    assert len(pages["imagenet--fp16.html"].encode()) < 150_000
    rows = pages["imagenet---classes.html"].encode().split(b"<tbody>")[1].split(b"\n<tr>")[1:-1]
    assert len(rows) == 999
    assert max(map(len, rows)) - len(names[0]) < 90


def test_engines_without_a_column_are_linked_and_counted():
    found = listed(201, engines=8)
    found["engines"][1]["classes"] = [
        {**row, "name": f"x{k}"} for k, row in enumerate(found["engines"][1]["classes"])
    ]
    [page] = view.class_pages(found)
    assert [name for name, _ in page.engines] == [f"engine{k}" for k in (0, 2, 3, 4, 5, 6)]
    assert [name for name, _ in page.further] == ["engine1", "engine7"]
    assert page.notes == ("report.json has the figures of 2 more engines.",)


@pytest.mark.parametrize("count", [60, 250])
def test_hostile_names_stay_names_in_every_order(count: int, tmp_path):
    names = [f"{name}{k}" for k in range(count // len(HOSTILE)) for name in HOSTILE]
    assert_sound(document(evaluated("m", "e", names, 5, {})), tmp_path)


# gates


def gate(page, name: str) -> dict[str, Any]:
    return cells_of(page.gates, name)


def verdict(page, name: str) -> str:
    return gate(page, name)["verdict"].word


def ids_of(found: dict[str, Any], page: str) -> set[str]:
    return set(Page(html.render(found)[page]).ids)


def test_every_gate_is_one_row_worst_first():
    engine, items = evaluated("fashion", "int8", FASHION, 1000, {"Shirt": ("Coat", 0.8)})
    items[1]["limits"] = {"max_abs": 1.0, "cosine": 0.999, "kl": 0.1, "top1_agreement": None}
    items[1]["churn"] = {**items[1]["churn"], "limit": 0.5, "verdict": "pass"}
    items[0]["gates"] = {"engine_mb": 0.4, "memory_mb": 10.0}
    found = document((engine, items))
    [page] = view.engines(found)
    words = [row.cells[0].word for row in page.gates.rows]
    assert words == sorted(words, key=["fail", "inconclusive", "pass"].index)
    worst = next(row for row in items[3]["classes"] if row["name"] == "Shirt")
    before, after = (f".{round(1000 * worst[side])}" for side in ("before", "after"))
    assert gate(page, "recall, 1 of 10 classes fail") == {
        "verdict": view.STATUSES["fail"], "where": "Shirt",
        "measured": f"{before} → {after}, drop {100 * worst['drop']:.1f} points",
        "limit": "drop of 1.0 points",
        "interval": f"{100 * worst['interval'][0]:.1f} to {100 * worst['interval'][1]:.1f} points",
        "detectable": "2.7 points", "p": "< 1e-9", "level": "0.01",
    }  # fmt: skip
    assert gate(page, "recall, all classes together")["level"] == "0.005"
    assert verdict(page, "recall against the approved, 1 of 10 classes fail") == "fail"
    absolute = gate(page, "largest absolute error")
    assert (absolute["verdict"].word, absolute["measured"], absolute["limit"]) == (
        "fail",
        "1.250",
        "at most 1",
    )
    assert (absolute["where"], absolute["p"]) == ("logits", "")
    assert verdict(page, "cosine") == "pass"
    assert verdict(page, "mean KL divergence, nats") == "pass"
    assert gate(page, "size of the engine's file")["measured"] == "0.4123 MB"
    assert verdict(page, "size of the engine's file") == "fail"
    assert verdict(page, "device memory") == "inconclusive"  # not known here
    assert gate(page, "changed answers (churn)")["interval"] == "7.9 % to 9 %"
    assert {row.href for row in page.gates.rows} <= ids_of(found, "fashion--int8.html")


def test_limits_of_size_are_those_of_the_tensorrt_engine_built_besides():
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    items[0].update(gates={"engine_mb": 1.0}, beside={"facts": {"engine_bytes": 2_000_000}})
    [page] = view.engines(document((engine, items)))
    assert gate(page, "size of the engine's file")["measured"] == "2.000 MB"
    assert verdict(page, "size of the engine's file") == "fail"


def test_nodes_left_to_the_cpu_are_a_row_where_the_backend_tells_them():
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    placed = {"providers": {"CUDAExecutionProvider": 5, "CPUExecutionProvider": 2}, "on_cpu": {"Gather": 2}}
    for limit, facts, wanted in (
        (2, placed, ("pass", "2")), (1, placed, ("fail", "2")),
        (0, {"providers": {}, "on_cpu": {}}, ("inconclusive", None)),
    ):  # fmt: skip
        items[0].update(gates={"cpu_nodes": limit}, facts=facts)
        [page] = view.engines(document((engine, items)))
        row = gate(page, "nodes on the CPU")
        assert (row["verdict"].word, row["measured"], row["limit"]) == (*wanted, f"at most {limit}")
    items[0]["facts"] = {}
    [page] = view.engines(document((engine, items)))
    assert not any("nodes on the CPU" in map(str, row.cells) for row in page.gates.rows)


def test_accuracy_has_its_own_verdict_beside_those_of_top_k_and_the_baseline():
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    item = items[2]
    then = {name: value for name, value in item.items() if name in item["top_k"]}
    item.update(
        verdict="fail", own_verdict="pass", fails=True, baseline={**then, "verdict": "fail", "paired": True}
    )
    item["top_k"].update(gated=True, verdict="inconclusive")
    [page] = view.engines(document((engine, items)))
    assert verdict(page, "accuracy") == "pass"
    assert verdict(page, "top-5 accuracy") == "inconclusive"
    assert verdict(page, "accuracy against the approved") == "fail"
    [table] = [table for table in page.accuracy if table.anchor == "accuracy-figures"]
    assert cells_of(table, "accuracy")["verdict"].word == "pass"


@pytest.mark.parametrize("word", ["pass", "inconclusive", "fail"])
def test_churn_has_its_own_verdict_whatever_else_failed(word: str):
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    items[1]["limits"] = {"cosine": 0.9999}
    items[1].update(verdict="fail", churn={**items[1]["churn"], "limit": 0.0834, "verdict": word})
    [page] = view.engines(document((engine, items)))
    assert verdict(page, "changed answers (churn)") == word
    assert verdict(page, "cosine") == "fail"
    assert verdict(page, "outputs complete and finite") == "pass"


def test_outputs_that_cannot_be_compared_fail_as_such():
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    items[1].update(verdict="fail", message="output 'logits' of the reference has no finite value")
    [page] = view.engines(document((engine, items)))
    assert gate(page, "outputs complete and finite")["measured"] == "no"
    items[1]["outputs"] = [{**items[1]["outputs"][0], "nan": 3, "inf": 1, "cosine": None}]
    [page] = view.engines(document((engine, items)))
    assert gate(page, "outputs complete and finite")["measured"] == "4 values NaN or infinite"
    assert (gate(page, "cosine")["measured"], verdict(page, "cosine")) == (None, "fail")


def test_a_rule_without_a_test_has_no_level_and_floors_stand_beside_the_drop():
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    items[3].update(test="threshold", pooled={**items[3]["pooled"], "verdict": "skipped"}, baseline=None)
    items[3]["classes"][4].update(verdict="fail", floor=0.99)
    [page] = view.engines(document((engine, items)))
    cells = gate(page, "recall, 1 of 10 classes fail")
    assert (cells["where"], cells["limit"]) == ("Coat", "drop of 1.0 points, at least .990")
    assert (cells["p"], cells["level"]) == (".200", "")
    assert "recall, all classes together" not in {row.name for row in page.gates.rows}


def test_gates_of_several_items_lead_to_their_own_tables(tmp_path):
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    found = document((engine, [*items, {**items[3], "nodeid": "mine.py::test"}]))
    [page] = view.engines(found)
    hrefs = [row.href for row in page.gates.rows if row.name.startswith("recall")]
    assert len(set(hrefs)) == len(hrefs) == 8
    assert_sound(found, tmp_path)


def test_findings_of_the_calibration_are_a_gate_where_they_fail():
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    limits = {"saturation": 0.01, "on_calibration": "tell"}
    nothing = dict.fromkeys(("overlap", "coverage", "saturation"))
    item = {**items[0], **nothing, "check": "calibration", "nodeid": "c", "limits": limits, "verdict": "fail"}
    [page] = view.engines(document((engine, [*items, item])))
    assert "calibration" not in {row.name for row in page.gates.rows}
    item["limits"] = {**limits, "on_calibration": "fail"}
    found = document((engine, [*items, item]))
    [page] = view.engines(found)
    assert verdict(page, "calibration") == "fail"
    assert {row.href for row in page.gates.rows} <= ids_of(found, "fashion--int8.html")


def test_times_are_gates_and_those_of_an_unfit_machine_are_none():
    rival = {**JUDGED, "what": "faster_than", "against": "fp16", "alpha": 0.00999996}
    fit = timed("int8", 8, 1.6, judged=[JUDGED, rival], limits=[LIMIT], verdict="fail", fails=True)
    engine, items = evaluated("resnet50", "int8", FASHION, 100, {})
    [page] = view.engines(document((engine, [*items, fit])))
    assert verdict(page, "median at batch 8") == "fail"
    assert verdict(page, "latency_ms at batch 8") == "fail"
    rivals = gate(page, "faster than at batch 8")
    assert (rivals["where"], rivals["level"]) == ("fp16", "0.01")
    unfit = {**fit, "health": THROTTLED, "verdict": "inconclusive", "fails": False}
    [page] = view.engines(document((engine, [*items, unfit])))
    assert verdict(page, "median at batch 8") == "inconclusive"
    assert verdict(page, "latency_ms at batch 8") == "inconclusive"


def test_a_model_without_checks_has_no_gates():
    engine, _ = evaluated("fashion", "fp16", FASHION, 10, {})
    [page] = view.engines(document((engine, [])))
    assert page.gates is None
