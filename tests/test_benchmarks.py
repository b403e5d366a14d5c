"""The benchmarks as users run them, in small: that they run, and that what the documentation says holds."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from trtcheck.judge import clopper_pearson

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SURE = 0.99999
"""Confidence at which a simulated share contradicts a promise: no seed and no NumPy should."""


@cache
def output(script, *options):
    """What a benchmark prints."""
    command = [sys.executable, str(BENCHMARKS / script), "--quick", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def table(text, title):
    """The rows of the table below the line that has *title*, by column."""
    lines = text[text.index(title) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    cells = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    head, _, *rows = cells
    assert rows
    return [dict(zip(head, row, strict=True)) for row in rows]


def numbers(cell):
    """The figures of a cell such as ``< 0.1 / 0.5 / 100``."""
    return [float(part.strip(" <>%")) for part in cell.split("/")]


def bounds(percent, suites):
    """Exact bounds, in percent, of a share that was printed in percent."""
    low, high = clopper_pearson(round(percent / 100 * suites), suites, SURE)
    return 100 * low, 100 * high


@pytest.fixture(scope="module")
def verdicts():
    return output("verdicts.py", "--workers", "2")


def test_harmless_suites_fail_in_at_most_one_percent(verdicts):
    for row in table(verdicts, "### Harmless suites"):
        suites = int(row["suites"].replace(",", ""))
        for share in numbers(row["trtcheck"]):
            assert bounds(share, suites)[0] <= 1, row
        assert min(numbers(row["naive"])) > 80, row


def test_the_goals_are_reached(verdicts):
    nothing, *harms = table(verdicts, "### Goals")
    assert nothing["suites to fail"] == "at most 1 %"
    assert [row["suites to fail"] for row in harms] == ["95 %", "99 %", "99 %"]
    for row in harms:
        [goal], [found] = numbers(row["suites to fail"]), numbers(row["trtcheck fails"])
        assert bounds(found, 200)[1] >= goal, row
        assert found > 90, row


def test_harm_in_one_class_is_found_where_holm_sleeps(verdicts):
    rows = table(verdicts, "with one class worse by 1 / 20 / 40 points")
    [row] = [row for row in rows if (row["classes"], row["images a class"]) == ("100", "20")]
    assert numbers(row["Holm"])[2] < 10
    assert numbers(row["trtcheck"])[2] > 30
    for row in rows:
        assert numbers(row["trtcheck"])[0] < 10, row  # one point in one class is within the margin's noise


def test_small_harm_in_all_classes_is_found_by_the_pooled_test_alone(verdicts):
    rows = table(verdicts, "with all classes worse by 1 / 20 / 40 points")
    [row] = [row for row in rows if (row["classes"], row["images a class"]) == ("100", "50")]
    assert numbers(row["Holm"])[0] < 5
    assert numbers(row["trtcheck"])[0] > 40


def test_a_key_class_is_seen_better_where_many_answers_change(verdicts):
    rows = table(verdicts, "### Suites of 100 classes")
    without, with_key = (
        next(
            numbers(row["worse by 0 / 1 / 20 / 40 points"])
            for row in rows
            if (row["benign flips, %"], row["images a class"], row["a key class"]) == ("10", "50", key)
        )
        for key in ("no", "yes")
    )
    assert with_key[3] > without[3]
    assert bounds(with_key[0], 200)[0] <= 1


def test_label_vectors_get_the_verdicts_of_their_counts(verdicts):
    for row in table(verdicts, "### Whole verdicts"):
        assert row["recall as counted, harmless"] == "3 of 3"
        assert row["recall as counted, one class -20 points"] == "3 of 3"
        suites = int(row["harmless suites"].replace(",", ""))
        assert bounds(*numbers(row["precision fails, %"]), suites)[0] <= 1, row


def test_the_tables_do_not_depend_on_the_number_of_processes(verdicts):
    assert output("verdicts.py", "--workers", "1") == verdicts


def test_speeds_are_printed_beside_what_they_are_compared_with():
    text = output("metrics.py")
    assert f"NumPy {np.__version__}" in text
    for row in table(text, "Millions of images"):
        ours, numpy_s, sklearn_s = (
            float(row[name]) for name in ("`confusion_matrix`", "`numpy.bincount`", "scikit-learn")
        )
        assert min(ours, numpy_s, sklearn_s) > 0
        assert float(row["to NumPy"].rstrip(" x")) == pytest.approx(ours / numpy_s, rel=0.1)
    assert [row["goal"] for row in table(text, "Seconds of a verdict")] == ["< 1 s"] * 4
