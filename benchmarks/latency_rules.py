"""What trtcheck and other tools say of an old and a new build, for benchmarks/latency_verdicts.py.

The other tools' answers are those of their own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec

import numpy as np
from latency_data import ROUNDS, Change, Side, Times
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import parse_compare_fail
from scipy.stats import mannwhitneyu

from trtcheck import judge
from trtcheck.judge import LatencyVerdict, Verdict

TOLERANCE = 0.02
STORED = 5
"""Stored sessions: the fewest that the rules on stored figures take."""
MOST_ROUNDS = 96
"""Rounds at most where the measurement goes on as long as the verdict is open: eight times the usual."""
ALPHA = 0.01
LIMITS = ("mean:5%", "min:5%", "mean:2%")
ASV_FACTORS = (1.05, 1.1)
"""pytest-benchmark's usual limit, and asv's default."""
ASV_SAMPLES = 10
"""Of a side: by default asv takes at most five in each of two processes."""
ASV_SAMPLE_MS = 10.0
"""Least time of an asv sample (its `sample_time`), which is the mean of as many calls as that takes."""
U_TEST_ALPHA = 0.05
INTERLEAVED = "trtcheck interleaved"
ADAPTIVE = f"{INTERLEAVED}, {ROUNDS} to {MOST_ROUNDS} rounds"


@dataclass(frozen=True)
class Answer:
    """What a rule says of one measurement.

    Attributes:
        verdict: Pass, fail or inconclusive.
        seconds: What the queries took that it needs anew; the old build's times of other tools are stored.
    """

    verdict: Verdict
    seconds: float


@dataclass(frozen=True)
class Rule:
    """A way to tell whether a build became slower.

    Attributes:
        name: In words.
        answer: What it says of the measurement of that number.
        processes: Processes that it needs times of.
        resampled: Whether it needs more rounds than a measurement has, and so resampled ones.
    """

    name: str
    answer: Callable[[Times, Change, int], Answer]
    processes: int = 1
    resampled: bool = False


def ours(term: float) -> tuple[Rule, ...]:
    """The rules of trtcheck, the strongest first.

    Args:
        term: The default session term of the place where the times were taken.
    """
    twice = 2 * term
    return (
        Rule(INTERLEAVED, partial(interleaved, session_sd=term)),
        Rule(ADAPTIVE, partial(adaptive, session_sd=term), resampled=True),
        Rule(f"{INTERLEAVED}, p95", partial(interleaved, statistic="p95", session_sd=term)),
        Rule(f"{INTERLEAVED}, without session term", partial(interleaved, session_sd=0.0)),
        Rule(f"{INTERLEAVED}, session term {100 * twice:g} %", partial(interleaved, session_sd=twice)),
        Rule(
            f"trtcheck ratio to another model, {STORED} stored sessions",
            partial(ratio, session_sd=term),
            STORED + 1,
        ),
        Rule(f"trtcheck absolute median, {STORED} stored sessions", absolute, STORED + 1),
    )


def interleaved(times: Times, change: Change, number: int, **options: float | str) -> Answer:
    """The approved engine timed in the same rounds."""
    old, new = times.pair(change, number)
    found = judge.latency(old, new, tolerance=TOLERANCE, alpha=ALPHA, **options)  # type: ignore[arg-type]
    return _answer(found, old, new)


def adaptive(times: Times, change: Change, number: int, session_sd: float) -> Answer:
    """The same, with more rounds as long as the verdict is open; every look spends its share of alpha."""
    all_old, all_new = times.pair(change, number, MOST_ROUNDS)
    for rounds, share in judge.looks(ROUNDS, MOST_ROUNDS):
        old, new = all_old[:rounds], all_new[:rounds]
        found = judge.latency(old, new, tolerance=TOLERANCE, alpha=ALPHA * share, session_sd=session_sd)
        if found.verdict is not Verdict.INCONCLUSIVE:
            break
    return _answer(found, old, new)


def ratio(times: Times, change: Change, number: int, session_sd: float) -> Answer:
    """The ratio to another model, with those of stored sessions."""
    stored, now, seconds = times.ratios(change, number, STORED)
    found = judge.latency_ratio(stored, now, tolerance=TOLERANCE, alpha=ALPHA, session_sd=session_sd)
    return Answer(found.verdict, seconds)


def absolute(times: Times, change: Change, number: int) -> Answer:
    """The median, with those of stored sessions."""
    old, [new] = times.sides(change, number, STORED, 1)
    stored = [float(np.median(session)) for session in old]
    found = judge.latency_absolute(stored, float(np.median(new)), tolerance=TOLERANCE, alpha=ALPHA)
    return _answer(found, new)


def _answer(found: LatencyVerdict, *measured: np.ndarray) -> Answer:
    return Answer(found.verdict, sum(float(times.sum()) for times in measured) / 1000)


Fails = Callable[[Side, Side], bool]
"""Whether the new side is called slower than the old one."""


@dataclass(frozen=True)
class Tool:
    """Another tool's rule.

    Attributes:
        name: In words.
        fails: The rule.
        processes: Processes of a side.
        taken: The queries that it takes of those that there are.
    """

    name: str
    fails: Fails
    processes: int = 1
    taken: Callable[[Side], Side] = list

    def apart(self, times: Times, change: Change, number: int) -> Answer:
        """Old and new in processes of their own, as the tool is used; the old times are stored."""
        return self._answer(*times.sides(change, number, self.processes, self.processes))

    def together(self, times: Times, change: Change, number: int) -> Answer:
        """Old and new in the rounds of one process, as trtcheck measures."""
        old, new = times.pair(change, number)
        return self._answer([old.ravel()], [new.ravel()])

    def _answer(self, old: Side, new: Side) -> Answer:
        old, new = self.taken(old), self.taken(new)
        verdict = Verdict.FAIL if self.fails(old, new) else Verdict.PASS
        return Answer(verdict, sum(float(times.sum()) for times in new) / 1000)


def others() -> tuple[Rule, ...]:
    """The other tools' rules as they are used."""
    return tuple(Rule(tool.name, tool.apart, 2 * tool.processes) for tool in _tools())


def others_interleaved() -> tuple[Rule, ...]:
    """The same rules on trtcheck's rounds."""
    return tuple(Rule(tool.name, tool.together) for tool in _tools())


def _tools() -> Iterator[Tool]:
    for limit in LIMITS:
        yield Tool(f"pytest-benchmark `{limit}`", partial(pytest_benchmark_fails, limit))
    if find_spec("asv"):
        for factor in ASV_FACTORS:
            yield Tool(f"asv, factor {factor:g}", partial(asv_fails, factor), 2, asv_calls)
    yield Tool(f"U test on raw samples, {U_TEST_ALPHA:g}", u_test_fails)


def pytest_benchmark_fails(limit: str, old: Side, new: Side) -> bool:
    """Whether `--benchmark-compare-fail=LIMIT` fails, with the first process of each side as its run."""
    check = parse_compare_fail(limit)
    return check.fails(_run(new[0]), _run(old[0])) is not None


def _run(samples: np.ndarray) -> dict[str, float]:
    stats = Stats()
    for seconds in (samples / 1000).tolist():
        stats.update(seconds)
    return {"mean": stats.mean, "min": stats.min}


def asv_fails(factor: float, old: Side, new: Side) -> bool:
    """Whether `asv compare --factor=FACTOR` lists the new side as slower; its samples are rows of calls."""
    from asv.commands.compare import _is_result_better
    from asv_runner.statistics import compute_stats

    samples = [[float(mean) / 1000 for calls in side for mean in calls.mean(axis=1)] for side in (old, new)]
    results, stats = zip(
        *(compute_stats(own, side[0].shape[1]) for own, side in zip(samples, (old, new), strict=True)),
        strict=True,
    )
    return bool(_is_result_better(*results, *zip(stats, samples, strict=True), factor))


def asv_calls(side: Side) -> Side:
    """The calls that asv takes by default, from the start of each process: (samples, calls) each.

    Ten samples of a side, evenly from its processes, each the mean of as many calls as make up 10 ms.
    """
    calls = max(1, int(np.ceil(ASV_SAMPLE_MS / np.median(side[0]))))
    samples = [min(ASV_SAMPLES // len(side), len(times) // calls) for times in side]
    return [times[: n * calls].reshape(n, calls) for times, n in zip(side, samples, strict=True)]


def u_test_fails(old: Side, new: Side) -> bool:
    """Whether a one-sided Mann-Whitney U test on the raw samples is significant."""
    return bool(mannwhitneyu(new[0], old[0], alternative="greater").pvalue < U_TEST_ALPHA)


def versions() -> str:
    """The tools whose code decides, with their versions."""
    found = f"pytest-benchmark {metadata.version('pytest-benchmark')}"
    if find_spec("asv"):
        return f"{found}, asv {metadata.version('asv')}"
    return f"{found}; asv is not installed (pip install asv), so its rule is left out"
