"""What speaks against times that were taken on the processor, judged from readings between rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from trtcheck.latency.measurement import Health
from trtcheck.latency.processor import ProcessorReading

SHORTEST_S = 0.5
"""A shorter time is not judged: the system counts work in ticks of 10 ms a core."""

SLACK_CORES, SLACK_SHARE = 0.25, 0.01
"""The work of others that is put up with where the engine needs every core: in cores, plus this share of all.
A runner's agent and the kernel's own work take that much, and slow all contestants of a round alike."""

STEAL = 0.02
"""The share of time that a hypervisor may give to others. Two percent is the tolerance of the verdict."""

DRIFT = 0.1
"""The change of frequency from the first half to the second that is none. Boost frequencies move by several
percent with every task that comes and goes; a processor that overheats loses more."""

THROTTLED = 0.1
"""The share of scheduling periods in which a container may have been stopped: medians bear as much."""

_FEWEST = 4
"""Samples without which no drift is told."""


def judge(
    readings: Sequence[ProcessorReading],
    *,
    threads: int,
    cores: int,
    governor: str | None = None,
    others: Sequence[tuple[str, float]] = (),
) -> tuple[Health, ...]:
    """What speaks against times that were taken between the first reading and the last.

    Args:
        readings: In order; two at least.
        threads: Threads that the engine needs cores for.
        cores: Cores that this process may use.
        governor: How the frequency is chosen, where that is known.
        others: Names of other processes that worked, and for how many seconds each.
    """
    first, last = readings[0], readings[-1]
    seconds = last.at - first.at
    parts = [
        Health(figures={"seconds": round(seconds, 3), "cores": cores, "threads": threads}),
        _frequency(readings, governor),
        _throttled(first, last),
    ]
    if first.busy_s is None or last.busy_s is None:
        parts.append(Health(unknown=("work of other processes and steal time: read on Linux only",)))
    elif seconds < SHORTEST_S:
        parts.append(Health(unknown=(f"work of other processes: {seconds:.2f} s are too short to tell",)))
    else:
        parts += [_load(first, last, threads, cores, others), _steal(first, last, cores)]
    return tuple(parts)


def _load(
    first: ProcessorReading, last: ProcessorReading, threads: int, cores: int,
    others: Sequence[tuple[str, float]],
) -> Health:  # fmt: skip
    seconds = last.at - first.at
    own = (last.own_s - first.own_s) / seconds
    busy = max((last.busy_s or 0.0) - (first.busy_s or 0.0), 0.0) / seconds
    rest = max(busy - own, 0.0)
    named: list[dict[str, Any]] = [
        {"process": name, "cores": round(each / seconds, 2)} for name, each in others
    ]
    figures = {"own_cores": round(own, 2), "others_cores": round(rest, 2), "others": named}
    needed = min(threads, cores)
    if rest + needed <= cores + SLACK_CORES + SLACK_SHARE * cores:
        return Health(figures=figures)
    who = ", ".join(f"{each['process']} {each['cores']:.1f}" for each in named if each["cores"] >= 0.1)
    return Health(
        (
            f"other processes kept {rest:.1f} of {_cores_in_words(cores)} busy, and the engine needs {needed}"
            f"{f' (most: {who})' if who else ''}",
        ),
        ("end other work on this machine while engines are timed, or time on a runner of your own; with "
         "pytest-xdist: pytest -k latency -n 0",),
        figures,
    )  # fmt: skip


def _cores_in_words(cores: int) -> str:
    return f"{cores} core{'' if cores == 1 else 's'}"


def _steal(first: ProcessorReading, last: ProcessorReading, cores: int) -> Health:
    if first.steal_s is None or last.steal_s is None:
        return Health()
    share = max(last.steal_s - first.steal_s, 0.0) / ((last.at - first.at) * cores)
    figures = {"steal": round(share, 4)}
    if share <= STEAL:
        return Health(figures=figures)
    return Health(
        (f"the hypervisor gave {share:.1%} of the processor's time to other machines (limit {STEAL:.0%})",),
        ("time on a machine that shares its processor with nobody",),
        figures,
    )


def _throttled(first: ProcessorReading, last: ProcessorReading) -> Health:
    if first.throttled is None or last.throttled is None:
        return Health()
    times = last.throttled - first.throttled
    periods = (last.periods or 0) - (first.periods or 0)
    figures = {"throttled_periods": times, "periods": periods}
    if times <= THROTTLED * periods:
        return Health(figures=figures)
    return Health(
        (f"the container's CPU limit stopped this process in {times} of {periods} scheduling periods",),
        ("give the container as many CPUs as the engine has threads (docker run --cpus=N), or "
         "fewer cores to use (docker run --cpuset-cpus=0-1, taskset)",),
        figures,
    )  # fmt: skip


def _frequency(readings: Sequence[ProcessorReading], governor: str | None) -> Health:
    found = [each.mhz for each in readings if each.mhz is not None]
    if not found:
        return Health(unknown=("the processor's frequency",))
    figures = {
        "mhz": {"min": round(min(found)), "median": round(statistics.median(found)), "max": round(max(found))}
    }
    if len(found) < _FEWEST:
        return Health(figures=figures)
    half = len(found) // 2
    then, now = statistics.median(found[:half]), statistics.median(found[-half:])
    if abs(now / then - 1) <= DRIFT:
        return Health(figures=figures)
    hints = ["let the processor cool down, or fix its frequency for the time of the measurement"]
    if governor not in (None, "performance"):
        hints.append(f"sudo cpupower frequency-set -g performance (the governor is {governor})")
    return Health(
        (f"the processor's frequency changed while engines were timed: from {then:.0f} to {now:.0f} MHz",),
        tuple(hints),
        figures,
    )
