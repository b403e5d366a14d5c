"""Warming up until times no longer trend: clocks that ramp, caches and allocators that fill."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.errors import EngineError
from trtcheck.latency.measurement import ENGINE, WarmUp

if TYPE_CHECKING:
    from trtcheck.latency.timing import Block, Timer

Now = Callable[[], float]
"""A monotonic clock, in seconds."""

WINDOW_S = 0.05
"""An engine's turn; slower ones run one query in it."""

HALF = 4
"""Windows that are compared with as many before them: 8 of 50 ms are twice what trtexec warms up for."""

SLACK = 0.01
"""The change from one half to the next that is no trend, however little the windows spread."""

SPREADS = 2.0
"""The change, in standard errors of such a difference, that is put down to the windows' own spread."""


@dataclass(frozen=True)
class Warm:
    """What warming up came to.

    Attributes:
        warm_up: What is reported of it.
        query_s: What a query of each contestant took in the end, in seconds of the host's clock.
    """

    warm_up: WarmUp
    query_s: Mapping[str, float]


@dataclass(frozen=True)
class _Window:
    """Queries of one turn: how many, their median, and what all of them took by the host's clock."""

    queries: int
    median_ms: float
    seconds: float


def warm_up(timers: Mapping[str, Timer], seconds: float, clock: Now) -> Warm:
    """Runs all contestants in turn, a window each, until the times of every one of them have settled.

    In turn, because they share the device: what cools while its rival runs is measured so afterwards, too.

    Args:
        timers: The contestants, the engine among them.
        seconds: When to give up. Everyone has had a turn even then.
        clock: Tells the time.

    Raises:
        EngineError: The runtime failed, or took no time.
    """
    started = clock()
    windows: dict[str, list[_Window]] = {name: [] for name in timers}
    plateau = False
    for name in cycle(timers):
        left = started + seconds - clock()
        if left <= 0 and windows[name]:
            break
        last = windows[name][-1] if windows[name] else None
        windows[name].append(_window(timers[name], min(WINDOW_S, left), last, clock))
        plateau = all(settled([window.median_ms for window in turns]) for turns in windows.values())
        if plateau:
            break
    took = clock() - started
    return Warm(
        WarmUp(plateau, took, sum(window.queries for window in windows[ENGINE])),
        {name: _seconds_per_query(turns) for name, turns in windows.items()},
    )


def settled(medians: Sequence[float]) -> bool:
    """Whether times no longer trend: the latest windows are as those before them, up to their own spread.

    The spread is taken from differences of neighbours (von Neumann's), which a ramp hardly widens: one taken
    around a mean would grow with the very trend that it is to tell from noise.

    Args:
        medians: Medians of windows, in the order of measuring.

    Returns:
        False for fewer than 8 windows; see `HALF`, `SLACK`, `SPREADS`.
    """
    latest = np.asarray(medians[-2 * HALF :])
    if len(latest) < 2 * HALF:
        return False
    before, after = float(np.median(latest[:HALF])), float(np.median(latest[HALF:]))
    spread = math.sqrt(float(np.mean(np.diff(latest) ** 2)) / 2)
    return abs(after - before) <= SLACK * before + SPREADS * spread * math.sqrt(2 / HALF)


def run_block(timer: Timer, queries: int) -> Block:
    """A block whose figures can be reckoned with.

    Raises:
        EngineError: The runtime failed, or a query has no time above 0.
    """
    block = timer.block(queries)
    samples = block.samples_ms
    if len(samples) != queries or not (np.isfinite(samples).all() and samples.min() > 0 < block.seconds):
        raise EngineError(
            "the times of an engine's queries cannot be used",
            expected=f"{queries} times above 0 ms",
            found=f"{len(samples)} times from {samples.min(initial=math.inf):g} ms in {block.seconds:g} s",
        )
    return block


def run_until(timer: Timer, until: float, queries: int, clock: Now) -> list[Block]:
    """Back-to-back blocks until *until*, at least one; the last may end a little later.

    Args:
        timer: What runs.
        until: When to end, by *clock*.
        queries: Those of the first block. The next ones follow what is left of the time, and no more than
            double, as a first query often takes far longer or, counted coarsely, far shorter than the next.
        clock: Tells the time.

    Raises:
        EngineError: The runtime failed, or took no time.
    """
    blocks = [run_block(timer, queries)]
    while (left := until - clock()) > 0:
        fitting = math.ceil(left / (blocks[-1].seconds / queries))
        queries = min(fitting, 2 * queries)
        blocks.append(run_block(timer, queries))
    return blocks


def _window(timer: Timer, seconds: float, last: _Window | None, clock: Now) -> _Window:
    queries = 1 if last is None else max(1, int(seconds / (last.seconds / last.queries)))
    blocks = run_until(timer, clock() + seconds, queries, clock)
    samples = np.concatenate([block.samples_ms for block in blocks])
    return _Window(len(samples), float(np.median(samples)), math.fsum(block.seconds for block in blocks))


def _seconds_per_query(windows: Sequence[_Window]) -> float:
    """Mean of the latest half: outliers take their time as well."""
    latest = windows[-HALF:]
    return math.fsum(window.seconds for window in latest) / sum(window.queries for window in latest)
