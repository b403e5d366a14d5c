"""The benchmarks as users run them, in small: that they run, and that what the documentation says holds."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.util import find_spec
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


@pytest.fixture(scope="module")
def latency():
    return output("latency_verdicts.py", "--workers", "2")


def rule(text, place, name):
    """The row of a rule in the table of all rules below *place*."""
    [row] = [
        row for row in table(text[text.index(place) :], "Every rule as it is used") if row["rule"] == name
    ]
    return row


def test_latency_verdicts_keep_their_promises_on_times_of_an_h100(latency):
    goals = table(latency, "#### ResNet-50")
    wanted = [row["goal"].rpartition(": ")[2] for row in goals]
    assert wanted == ["at most 1 %", "at most 2 %", "at most 2 %", "at least 95 %", "at least 95 %"] * 2
    assert [row["reached"] for row in goals] == ["yes"] * 10
    assert goals[0]["found"].startswith("0 of 104:")


def test_a_slowdown_of_the_tolerance_fails_too_often_without_the_session_term(latency):
    without = rule(latency, "#### ResNet-50", "trtcheck interleaved, without session term")
    assert min(numbers(without["+2 %: fail, %"])) > 4


def test_raw_samples_call_identical_builds_different(latency):
    row = rule(latency, "#### ResNet-50", "U test on raw samples, 0.05")
    assert float(row["pass, %"]) < 70


def test_a_limit_of_five_percent_misses_slowdowns_of_five_percent(latency):
    for limit in ("mean", "min"):
        row = rule(latency, "#### ResNet-50", f"pytest-benchmark `{limit}:5%`")
        assert numbers(row["+5 %: fail, %"])[0] < 60
        [layers] = [name for name in row if name.startswith("+5.") and "/ +10." in name]
        at_all, double = numbers(row[layers])
        assert 60 < at_all < 95 < double


def test_asv_answers_by_its_own_code_or_is_said_to_be_missing(latency):
    rules = [row["rule"] for row in table(latency, "Every rule as it is used")]
    installed = find_spec("asv") is not None
    assert ("asv, factor 1.05" in rules) == installed
    assert ("asv is not installed" in latency) != installed


def test_times_taken_here_are_judged_by_the_same_rules(latency):
    here = latency.index("#### Chains of")
    assert "4 measurements, each judged once, from 2 processes" in latency[here:]
    for name in ("trtcheck interleaved", "trtcheck interleaved, p95", "pytest-benchmark `mean:5%`"):
        assert " of 4 (" in rule(latency, "#### Chains of", name)["identical: fail"]


def test_tables_of_recorded_times_do_not_depend_on_the_number_of_processes(latency):
    recorded = output("latency_verdicts.py", "--workers", "1", "--recorded-only")
    start = latency.index("#### ResNet-50")
    assert latency[start : latency.index("#### Chains of")] == recorded[recorded.index("#### ResNet-50") :]


@pytest.fixture(scope="module")
def merge():
    return output("merge.py")


def test_of_an_image_only_its_labels_and_answers_move(merge):
    for row in table(merge, "### ImageNet-22k"):
        if row[""] == "of these labels, MB":
            assert [float(row[f"{shards} shards"]) for shards in (2, 7)] == [20_000 * 14 / 1e6] * 2
            return
    pytest.fail("no row of labels")


def test_of_detections_the_answers_weigh_the_same_for_any_number_of_images(merge):
    rows = {row[""]: row for row in table(merge, "### detection")}
    assert float(rows["of these labels, MB"]["7 shards"]) == 0
    two, seven = (float(rows["largest answer, MB"][f"{shards} shards"]) for shards in (2, 7))
    assert two == pytest.approx(seven, rel=0.05)
    assert two < 0.01


def test_every_pair_of_the_nightly_run_is_merged_and_reported(merge):
    by_shards, after = table(merge, "### nightly"), merge[merge.index("### nightly") :]
    rows = {row[""]: row for row in by_shards}
    assert rows["answers"] == {"": "answers", "1 shards": "6", "2 shards": "12"}
    judged = [row["after the merge"] for row in table(after[after.index("| after the merge") :], "|")]
    assert {"outputs, s", "accuracy, s", "recall, s", "precision, s", "report.json, MB"} <= set(judged)


@pytest.mark.skipif(find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_workers_and_serial_runs_count_the_same_and_their_times_add_up():
    text = output("devices.py", "--cpu", "--part", "pairs")
    assert "All runs count the same." in text
    rows = {row["run"]: row for row in table(text, "2 models x 2 precisions")}
    assert set(rows) == {
        "cold, -n 2",
        "64 images each, -n 2",
        "-n 2",
        "64 images each, -n 1",
        "-n 1",
        "serial",
    }
    for row in rows.values():
        before, items, after, wall = (
            float(row[name])
            for name in ("first item after, s", "busiest worker, s", "after the last item, s", "wall, s")
        )
        assert before + items + after <= wall + 0.2, row  # each is rounded to a tenth


def test_the_loop_is_held_against_bare_sessions():
    [uint8, float32] = table(output("throughput.py"), "engine: fp32")
    assert (uint8["data"], float32["data"]) == ("uint8", "float32")
    assert float(uint8["share of the limit"].split()[1]) > 0


def test_comparing_jpeg_files_is_held_against_decoding_and_inference():
    rows = table(output("decoding.py"), "| sessions")
    assert all(float(row["comparison, images/s"]) > 0 for row in rows)
