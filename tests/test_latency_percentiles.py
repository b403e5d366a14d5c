"""What the times of queries amount to."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest

from trtcheck.latency.percentiles import nearest_ranks, queries_needed, summary, throughput


def test_percentiles_are_times_that_were_measured_by_the_ranks_of_trtexec():
    figures = summary(np.random.default_rng(1).permutation(np.arange(1.0, 201.0)))
    assert [figures[key] for key in ("p90_ms", "p95_ms", "p99_ms")] == [180, 190, 198]
    assert figures["median_ms"] == figures["mean_ms"] == 100.5
    assert (figures["min_ms"], figures["max_ms"], figures["samples"]) == (1, 200, 200)


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 1, 1)), (10, (9, 10, 10)), (24, (22, 23, 24))])
def test_few_times_have_percentiles_too(count, expected):
    assert tuple(nearest_ranks(np.arange(1.0, count + 1)).values()) == expected


def test_the_spread_is_that_of_a_sample():
    times = [1.0, 2.0, 4.0, 8.0]
    assert summary(np.array(times))["stddev_ms"] == pytest.approx(statistics.stdev(times))
    assert summary(np.array([3.0]))["stddev_ms"] == 0


def test_so_many_queries_as_mlperf_asks_for():
    assert [queries_needed(p) for p in (90, 95, 99)] == [24_576, 57_344, 270_336]


@pytest.mark.parametrize(
    ("count", "indicative"),
    [
        (24_575, ["p90", "p95", "p99"]),
        (24_576, ["p95", "p99"]),
        (57_344, ["p99"]),
        (270_335, ["p99"]),
        (270_336, []),
    ],
)
def test_a_percentile_of_fewer_queries_is_called_indicative(count, indicative):
    assert summary(np.ones(count))["indicative"] == indicative


@pytest.mark.parametrize("times", [[], [1.0, float("nan")], [float("inf")]], ids=str)
def test_no_figures_are_made_of_nothing(times):
    with pytest.raises(ValueError, match="at least one, and all of them finite"):
        summary(np.array(times))


def test_the_figures_are_builtins():
    figures = summary(np.linspace(1, 2, 50))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_throughput_counts_images():
    assert throughput(batch=8, queries=50, seconds=0.5) == 800
