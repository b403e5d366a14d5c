"""How often latency verdicts cry wolf, and how often they see a slowdown: tables of docs/statistics.md.

    pip install asv
    python benchmarks/latency_verdicts.py > latency_verdicts.md

First on times recorded on an H100 (benchmarks/data), which gives the same tables everywhere; then on times
taken here and now on this machine's processor, which should have nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy
from latency_data import MUCH_SLOWER, OLD, ROUNDS, SAME, SEED, SLOWER, Change, Times, h100, log_ratios
from latency_machine import Taken, Taking, take
from latency_rules import (
    ADAPTIVE,
    INTERLEAVED,
    MOST_ROUNDS,
    STORED,
    TOLERANCE,
    Rule,
    others,
    others_interleaved,
    ours,
    versions,
)
from verdicts import percent, table

from trtcheck.environment import processor, runtime_version, usable_cores
from trtcheck.judge import Verdict, clopper_pearson
from trtcheck.judge.latency_bounds import SESSION_SD, SESSION_SD_PROCESSOR
from trtcheck.latency.sampling import BLOCK, RELOAD

IDENTICAL, SCALED, AT_TOLERANCE, AT_FIVE, BY_A_LAYER, BY_TWO = (
    "identical", "times 1.02", "scaled to +2 %", "scaled to +5 %", "a layer more", "two layers more",
)  # fmt: skip
HARM = 0.05
MEASUREMENTS, QUICK_MEASUREMENTS = 1000, 104
QUICK = Taking(minutes=0.05, measurements=2, budget=3.0)
CONFIDENCE = 0.975
"""Of each bound: 95 % for both."""
TEXT = f"""\
Builds are identical, or one has a layer more (on the H100 a residual block) or two. A measurement of trtcheck
is {ROUNDS} rounds in one process, with two blocks of every build in each. The tolerance is
{100 * TOLERANCE:g} %, alpha 1 %, the session term the default: {100 * SESSION_SD:g} % on the GPU,
{100 * SESSION_SD_PROCESSOR:g} % on the processor, where all builds are loaded anew every {RELOAD} rounds, as
`pytest` does. "{ROUNDS} to {MOST_ROUNDS} rounds" goes on as long as the verdict is open, as `pytest` does
within its budget. p95 is judged beside the median, by the same rule. For the ratio to another model (here:
the identical build) and for the absolute median, {STORED} other processes are the stored sessions.

The other tools answer by their own code. They get what they ask for: pytest-benchmark and the one-sided
U test all times of one process for each build, asv ten samples of 10 ms from two processes for each (its
default; "factor" is that of `asv compare`). The second table gives them trtcheck's rounds instead.

"+2 %" is the tolerance, made in two ways: an identical build with its times multiplied by 1.02, so that what
differs between identical sessions of a process stays in; and the slower build with its times scaled to +2.0 %
in the middle one of the processes. "+5 %" is the slower build scaled to +5.0 %; a limit of 5 % finds that in
half of the runs at best. Seconds are what the queries took that a verdict needs anew (identical builds),
without warming up; an engine of 5 ms needs {4 * ROUNDS * BLOCK * 0.005:g} s for {ROUNDS} rounds.

Intervals are exact (Clopper-Pearson), 95 %, and those of single measurements: there are fewer processes, so
what differs between processes is less sure than they say.
"""


@dataclass(frozen=True)
class Tally:
    """What a rule said of all measurements, which came from so many processes, and failed in so many."""

    measurements: int
    processes: int
    failing: int
    failed: int
    passed: int
    seconds: float

    @property
    def inconclusive(self) -> int:
        """Neither passed nor failed."""
        return self.measurements - self.failed - self.passed


@dataclass(frozen=True)
class Series:
    """Measurements of one kind of change, judged by one rule; runs in any process."""

    times: Times
    rule: Rule
    change: Change
    measurements: int

    def tally(self) -> Tally:
        """Judges all of them."""
        answers = [self.rule.answer(self.times, self.change, number) for number in range(self.measurements)]
        verdicts = [answer.verdict for answer in answers]
        processes = len(self.times.processes)
        failing = {place % processes for place, one in enumerate(verdicts) if one is Verdict.FAIL}
        return Tally(
            self.measurements, processes, len(failing), verdicts.count(Verdict.FAIL),
            verdicts.count(Verdict.PASS), float(np.mean([answer.seconds for answer in answers])),
        )  # fmt: skip


Found = Mapping[str, Mapping[str, Tally]]
"""Tallies by rule and change."""


def changes(times: Times) -> list[Change]:
    """The changes that *times* can show."""
    slowdown = 1 + times.true_change(SLOWER)
    found = [
        Change(IDENTICAL),
        Change(SCALED, scale=1 + TOLERANCE),
        Change(AT_TOLERANCE, SLOWER, (1 + TOLERANCE) / slowdown),
        Change(AT_FIVE, SLOWER, (1 + HARM) / slowdown),
        Change(BY_A_LAYER, SLOWER),
    ]
    return [*found, Change(BY_TWO, MUCH_SLOWER)] if MUCH_SLOWER in times.separate else found


def judged(times: Times, rules: Sequence[Rule], measurements: int, pool: ProcessPoolExecutor) -> Found:
    """What the rules say; those that need more processes than there are have no row."""
    series = [
        Series(times, rule, change, measurements)
        for rule in rules
        if rule.processes <= len(times.processes)
        for change in changes(times)
    ]
    found: dict[str, dict[str, Tally]] = {}
    for one, tally in zip(series, pool.map(Series.tally, series), strict=True):
        found.setdefault(one.rule.name, {})[one.change.label] = tally
    return found


def show(title: str, times: Times, found: Found) -> None:
    """Prints a table of rules."""
    slower = [BY_A_LAYER, BY_TWO] if MUCH_SLOWER in times.separate else [BY_A_LAYER]
    builds = dict(zip(slower, (SLOWER, MUCH_SLOWER), strict=False))
    truth = " / ".join(f"+{100 * times.true_change(builds[label]):.1f} %" for label in slower)
    print(f"{title}\n")
    head = ["rule", "identical: fail", "pass, %", "+2 %: fail, %", "+5 %: fail, %", f"{truth}: fail, %"]
    rows = [
        [
            name, interval(of[IDENTICAL]), percent(of[IDENTICAL].passed / of[IDENTICAL].measurements),
            shares(of, [SCALED, AT_TOLERANCE]), shares(of, [AT_FIVE]), shares(of, slower),
            " / ".join(percent(of[label].inconclusive / of[label].measurements) for label in OPEN),
            f"{of[IDENTICAL].seconds:.2g}",
        ]
        for name, of in found.items()
    ]  # fmt: skip
    table([*head, "inconclusive, % (identical / +2 % / +5 %)", "seconds"], rows)


OPEN = (IDENTICAL, SCALED, AT_FIVE)


def shares(of: Mapping[str, Tally], labels: Sequence[str]) -> str:
    """The shares that fail, in percent."""
    return " / ".join(percent(of[label].failed / of[label].measurements) for label in labels)


def interval(tally: Tally) -> str:
    """How many fail, with the exact interval of their share."""
    low, high = clopper_pearson(tally.failed, tally.measurements, CONFIDENCE)
    return f"{tally.failed} of {tally.measurements:,} ({100 * low:.2g} to {100 * high:.2g} %)"


def goals(found: Found) -> list[list[str]]:
    """Rows of what is promised for the interleaved rule, and what came of it."""
    rows = []
    for name in (INTERLEAVED, ADAPTIVE):
        of = found[name]
        for label, goal, low, high in (
            (IDENTICAL, "identical builds fail: at most 1 %", 0.0, 0.01),
            (SCALED, "+2.0 %, times multiplied, fails: at most 2 %", 0.0, 0.02),
            (AT_TOLERANCE, "+2.0 %, slower build, fails: at most 2 %", 0.0, 0.02),
            (AT_FIVE, "+5.0 % fails: at least 95 %", 0.95, 1.0),
        ):
            tally = of[label]
            among = f"in {tally.failing} of {tally.processes} processes"
            rows.append([name, goal, *_reached(tally.failed, tally.measurements, low, high), among])
        same = of[IDENTICAL]
        told = _reached(same.passed, same.measurements, 0.95, 1.0)
        rows.append([name, "identical builds pass: at least 95 %", *told, ""])
    return rows


def _reached(count: int, of: int, at_least: float, at_most: float) -> tuple[str, str]:
    """The share with its interval, and whether it is as wanted."""
    low, high = clopper_pearson(count, of, CONFIDENCE)
    share = count / of
    told = f"{count:,} of {of:,}: {percent(share)} % ({100 * low:.1f} to {100 * high:.1f} %)"
    return told, "yes" if at_least <= share <= at_most else "no"


def report(times: Times, term: float, measurements: int, pool: ProcessPoolExecutor) -> None:
    """Prints the tables of one place, whose default session term is *term*."""
    found = judged(times, ours(term), measurements, pool)
    table(["rule", "goal", "found", "reached", "fails"], goals(found))
    apart = judged(times, others(), measurements, pool)
    show("Every rule as it is used:", times, {**found, **apart})
    show(
        "The other tools' rules on trtcheck's rounds:",
        times,
        judged(times, others_interleaved(), measurements, pool),
    )


def spread(times: Times) -> str:
    """How much identical builds differ between processes, in words."""
    logs = [log_ratios(one[SAME], one[OLD]) for one in times.processes]
    offsets = [100 * float(one.mean()) for one in logs]
    largest = max(abs(offset) for offset in offsets)
    within = 100 * float(np.median([one.std(ddof=1) for one in logs]))
    medians = [100 * float(np.log(np.median(session))) for session in times.separate[OLD]]
    between, alone = (np.std(figures, ddof=1) for figures in (offsets, medians))
    return (
        f"{len(logs)} processes. The log ratio of the identical builds\n"
        f"has sd {between:.2g} % between processes (largest {largest:.2g} %) and {within:.2g} % between\n"
        f"rounds; the log median of one build has sd {alone:.2g} % between {len(medians)} processes."
    )


def show_taken(taken: Taken, threads: int) -> None:
    """Prints what was timed here."""
    times, layers = taken.times, f"{taken.depth} and {taken.depth + 1}"
    print(f"#### Chains of {layers} convolutions, batch 1, ONNX Runtime on the processor\n")
    print(f"{processor()}, ONNX Runtime {runtime_version()}, threads: {threads}, load {load_average()}.")
    print(f"{times.measurements:,} measurements, each judged once, from {spread(times)}")
    print(f"Processes without a plateau after the warm-up: {taken.unsettled}; left out, as they were")
    print(f"not done in time: {taken.dropped}.\n")


def load_average() -> str:
    """How many processes wanted to run in the last five minutes, these among them."""
    return f"{os.getloadavg()[1]:.1f} on {usable_cores()} cores" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    """Prints the environment and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few measurements: a check that all of it runs")
    parser.add_argument("--minutes", type=float, default=5.0, help="time to measure here (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of an engine here (default: 1)")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), help="processes that judge (default: one a core)"
    )
    parser.add_argument("--recorded-only", action="store_true", help="only the times recorded on the H100")
    options = parser.parse_args()
    started = time.monotonic()
    command = " ".join(["python benchmarks/latency_verdicts.py", *sys.argv[1:]])
    libraries = f"NumPy {np.__version__}, SciPy {scipy.__version__}, {versions()}"
    print(f"Made by `{command}`, seed {SEED}; Python {platform.python_version()}, {libraries}\n")
    print(TEXT)
    # Judged before and after measuring, never meanwhile.
    recorded = h100()
    with ProcessPoolExecutor(options.workers) as pool:
        count = QUICK_MEASUREMENTS if options.quick else MEASUREMENTS
        print("#### ResNet-50 FP16, batch 1, ONNX Runtime CUDA with CUDA graphs, one H100\n")
        print(f"{count:,} measurements whose rounds were drawn with replacement, from {spread(recorded)}\n")
        report(recorded, SESSION_SD, count, pool)
    if not options.recorded_only:
        taking = Taking(options.minutes, threads=options.threads)
        taken = take(QUICK if options.quick else taking)
        with ProcessPoolExecutor(options.workers) as pool:
            show_taken(taken, options.threads)
            report(taken.times, SESSION_SD_PROCESSOR, taken.times.measurements, pool)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
