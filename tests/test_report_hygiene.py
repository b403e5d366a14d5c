"""What the report's pages show of calibration and batch invariance."""

from __future__ import annotations

from typing import Any

import pytest
from test_report_html import FASHION, HOSTILE, assert_sound, cells_of, document, evaluated

from trtcheck.report import view
from trtcheck.report.charts import shares

OVERLAP: dict[str, Any] = {
    "images": 1000, "distinct": 990, "evaluated": 10_000, "exact": 12, "resized": 1, "compared": 988,
    "plain": 2, "unsearched": None,
    "exact_pairs": [
        {"evaluation": 17 + k, "calibration": k, "evaluation_file": None, "calibration_file": None}
        for k in range(10)
    ],
    "resized_pairs": [
        {"evaluation": 7, "calibration": 3, "evaluation_file": "bag/7.png", "calibration_file": "bag/x.png"}
    ],
}  # fmt: skip
COVERAGE: dict[str, Any] = {
    "by": "labels", "classes": 10, "counts": {**dict.fromkeys(FASHION, 110), "Bag": 0}, "missing": ["Bag"],
    "by_chance": [], "unclassed": 0,
}  # fmt: skip
WORST: dict[str, Any] = {
    "tensor": "/stem/act", "node": "/stem/Relu", "low": -10.9, "high": 10.8, "channels": 1,
    "elements": 50_000, "outside": 1600, "nan": 0, "smallest": -0.375, "largest": 66.5, "share": 0.032,
    "used": 6.16,
}  # fmt: skip
INPUT: dict[str, Any] = {
    **WORST, "tensor": "image", "node": None, "nan": 4, "largest": None, "share": 0.01, "used": None,
}  # fmt: skip
CALIBRATION: dict[str, Any] = {
    "made_elsewhere": False, "overlap": OVERLAP, "coverage": COVERAGE,
    "saturation": {"images": 1000, "tensors": 60, "unknown": 2, "rows": [WORST] + [INPUT] * 49},
    "limits": {"saturation": 0.01, "on_calibration": "tell"},
}  # fmt: skip
LOGITS: dict[str, Any] = {
    "name": "logits", "exact": False, "difference": 0.0312, "image": 5000, "batch": 32, "beyond": 7,
    "nonfinite": 0, "nonfinite_image": None, "nonfinite_batch": None,
}  # fmt: skip
LABEL = {**LOGITS, "name": "label", "exact": True, "difference": 0.5, "beyond": 1}
SAME = {**LOGITS, "difference": 0.0, "image": None, "batch": None, "beyond": 0}
BATCHES: dict[str, Any] = {
    "images": 32, "total": 10_000, "sizes": [1, 7, 32], "tolerance": 0.01, "outputs": [LOGITS, LABEL],
    "uncompared": [], "reason": None, "repeated": [SAME], "reference": None, "reference_error": "too large",
    "answers": {"differing": 2, "image": 5000, "batch": 32, "alone": 1, "there": 3}, "confidence": 0.99,
}  # fmt: skip


def checked(**figures: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An engine with one more item for each check by name."""
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    items += [
        {
            "nodeid": f"suite.toml::fashion[int8]::{check}", "model": "fashion", "engine": "int8",
            "check": check, "verdict": "pass", "fails": False, "numerics": "emulated",
            "message": f"{check} is told", "notes": [], "warnings": [], **own,
        }
        for check, own in figures.items()
    ]  # fmt: skip
    return engine, items


def test_calibration_and_batches_have_sections_that_their_verdicts_lead_to(tmp_path):
    found = document(checked(calibration=CALIBRATION, batch_invariance=BATCHES))
    page = assert_sound(found, tmp_path)["fashion--int8.html"]
    assert {"#calibration", "#batch-invariance"} <= set(page.links)
    assert {"calibration", "batch-invariance"} <= set(page.ids)


def test_checks_without_figures_have_no_section(tmp_path):
    nothing = {"overlap": None, "coverage": None, "saturation": None, "limits": CALIBRATION["limits"]}
    untried = {**BATCHES, "outputs": [], "verdict": "skipped", "reason": "one image only"}
    found = document(checked(calibration={**nothing, "verdict": "skipped"}, batch_invariance=untried))
    page = assert_sound(found, tmp_path)["fashion--int8.html"]
    assert not {"calibration", "batch-invariance"} & set(page.ids)


def test_copies_classes_and_ranges_of_the_calibration():
    [page] = view.engines(document(checked(calibration=CALIBRATION)))
    told = {fact.term: fact.text for fact in page.calibration.facts}
    assert told == {
        "calibration images": "1000", "of these different": "990",
        "evaluation images": "10\N{NARROW NO-BREAK SPACE}000", "of these among the calibration's": "12",
        "the same at another size": "1", "classes seen": "9 of 10, by their labels",
        "classes never seen": "'Bag'", "quantized tensors": "60", "looked at on": "1000 evaluation images",
        "quantizers left out": "2",
    }  # fmt: skip
    copies, classes, ranges = page.calibration.tables
    assert copies.caption == "Evaluation images that are calibration images: the first 11 of 13"
    assert cells_of(copies, "17") == {"calibration image": "0", "kind": "exact copy"}
    assert cells_of(copies, "7 (bag/7.png)")["calibration image"] == "3 (bag/x.png)"
    assert [row.name for row in classes.rows[:2]] == ["Bag", "T-shirt"]
    assert (len(ranges.rows), len(ranges.folded)) == (15, 35)
    assert ranges.caption.endswith("worst first; limit 1 % outside: 50 of 60 tensors")
    minus = "\N{MINUS SIGN}"
    assert cells_of(ranges, "/stem/act") == {
        "made by": "/stem/Relu", "outside": "3.2 % ▲", "range": f"{minus}10.9 to 10.8",
        "values": f"{minus}0.375 to 66.5", "used": "616 %", "NaN": "0",
    }  # fmt: skip
    at_the_limit = cells_of(ranges, "image")
    assert (at_the_limit["made by"], at_the_limit["outside"]) == ("an input of the model", "1 %")
    assert at_the_limit["values"] == f"{minus}0.375 to infinite"
    assert (at_the_limit["used"], at_the_limit["NaN"]) == (None, "4")


def test_what_was_not_looked_for_is_said():
    small = {
        **OVERLAP,
        "resized": 0,
        "resized_pairs": [],
        "exact": 0,
        "exact_pairs": [],
        "unsearched": "too small",
    }
    figures = {**CALIBRATION, "overlap": small, "coverage": None, "saturation": None}
    [page] = view.engines(document(checked(calibration=figures)))
    told = {fact.term: fact.text for fact in page.calibration.facts}
    assert told["the same at another size"] == "not looked for: too small"
    assert "classes seen" not in told
    assert page.calibration.tables == ()


def test_every_output_between_batches():
    [page] = view.engines(document(checked(batch_invariance=BATCHES)))
    told = {fact.term: fact.text for fact in page.batches.facts}
    assert told == {
        "images tried": "32 of 10\N{NARROW NO-BREAK SPACE}000", "batch sizes": "1, 7, 32",
        "limit": "0.01 of an output's norm", "answers that change with the batch": "2 of 32",
    }  # fmt: skip
    table = page.batches.table
    assert cells_of(table, "logits") == {
        "largest difference": "0.031 ✗", "in image": "5000", "in a batch of": "32",
        "images beyond the limit": "7", "images NaN or infinite": "0", "the same batch twice": "0",
    }  # fmt: skip
    assert [row.status.word if row.status else None for row in table.rows] == ["fail", None]
    label = cells_of(table, "label")
    assert (label["largest difference"], label["the same batch twice"]) == ("50 % of the values", None)


def test_outputs_that_never_differ_say_none():
    [page] = view.engines(
        document(checked(batch_invariance={**BATCHES, "outputs": [SAME], "repeated": None}))
    )
    cells = cells_of(page.batches.table, "logits")
    assert (cells["largest difference"], cells["in image"], cells["in a batch of"]) == ("0", "none", "none")
    assert "the same batch twice" not in cells
    broken = {**SAME, "difference": None, "nonfinite": 3, "nonfinite_image": 1, "nonfinite_batch": 7}
    [page] = view.engines(document(checked(batch_invariance={**BATCHES, "outputs": [broken]})))
    assert cells_of(page.batches.table, "logits")["largest difference"] == "infinite ✗"
    assert page.batches.table.rows[0].status == view.STATUSES["fail"]


def test_the_calibration_is_told_in_words_and_drawn_beside_its_limit(tmp_path):
    found = document(checked(calibration=CALIBRATION))
    [page] = view.engines(found)
    thousands = "10\N{NARROW NO-BREAK SPACE}000"
    assert page.calibration.findings == (
        f"Calibration images are evaluated, too: of {thousands} images 12 exactly and 1 at another size.",
        "The calibration has not seen 1 of 10 classes: 'Bag'.",
        "1 of 60 quantized tensors has more than 1 % of the values outside the calibrated range; most of all "
        "'/stem/act', with 3.2 %.",
    )
    [chart] = page.calibration.charts
    bars = [mark for mark in chart.marks if mark.tag == "rect"]
    assert len(bars) == shares.MOST_ROWS
    widths = [dict(bar.attributes)["width"] for bar in bars]
    assert widths[0] / widths[1] == pytest.approx(3.2)
    [line] = [dict(mark.attributes) for mark in chart.marks if mark.title == "limit 1 %"]
    first = dict(bars[1].attributes)
    assert line["x1"] == pytest.approx(first["x"] + first["width"])  # the second tensor is at the limit
    assert_sound(found, tmp_path)


def test_a_calibration_without_a_fault_says_so_and_draws_nothing():
    even = {**COVERAGE, "counts": dict.fromkeys(FASHION, 20), "missing": []}
    none = {**OVERLAP, "exact": 0, "resized": 0, "exact_pairs": [], "resized_pairs": []}
    fine = {"images": 1000, "tensors": 2, "unknown": 0, "rows": [{**WORST, "share": 0.0}] * 2}
    figures = {**CALIBRATION, "overlap": none, "coverage": even, "saturation": fine}
    [page] = view.engines(document(checked(calibration=figures)))
    thousands = "10\N{NARROW NO-BREAK SPACE}000"
    assert page.calibration.findings == (
        f"None of the {thousands} evaluation images was found among the calibration images.",
        "The calibration has seen every class in 20 images.",
        "No value of the quantized tensors lies outside its calibrated range.",
    )
    assert page.calibration.charts == ()
    assert [table.anchor for table in page.calibration.tables] == ["calibration-ranges"]


def test_of_many_tensors_beyond_the_limit_only_the_recorded_ones_are_counted():
    rows = [{**WORST, "tensor": name} for name in HOSTILE]
    many = {"images": 1000, "tensors": 700, "unknown": 0, "rows": rows}
    [page] = view.engines(document(checked(calibration={**CALIBRATION, "saturation": many})))
    assert page.calibration.findings[-1].startswith(
        f"At least {len(rows)} of 700 quantized tensors have more"
    )
