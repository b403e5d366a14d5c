"""Takes the times of several engines in rounds, each of which holds all of them in mirrored order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.latency.measurement import ENGINE, Timings, WarmUp
from trtcheck.latency.plateau import Now, run_block, run_until, warm_up
from trtcheck.latency.timing import Block

if TYPE_CHECKING:
    from trtcheck.latency.timing import Timer

BLOCK = 25
"""Queries of a block, as in the measurements that the verdicts were tried on (docs/statistics.md)."""

SHORTEST_S = 0.01
"""The fastest contestant's block lasts that long at least: a shorter one shows single disturbances."""

WARM_UP_SHARE = 1 / 3
"""The part of the budget that warming up may take."""

HEADROOM = 0.8
"""The part of the time left that is planned with: rounds may take longer than the warm-up foretold."""

RELOAD = 3
"""Rounds between two loadings, where engines are loaded anew: four loadings in a dozen rounds."""

Look = tuple[int, float]
"""After how many rounds a verdict is asked for, and its share of alpha."""


@dataclass(frozen=True)
class Reload:
    """How contestants are loaded anew, for what differs from one loading to the next.

    Attributes:
        load: Loads all of them, in their order; those before are closed.
        seconds: What that takes.
    """

    load: Callable[[], Mapping[str, Timer]]
    seconds: float


@dataclass(frozen=True, eq=False)
class Sampled:
    """What was sampled.

    Attributes:
        timings: Times by contestant; all have the same number of rounds, one at least.
        warm_up: How they were warmed up.
        looks: The looks that were taken, in order: the last one is after all rounds.
        complete: Whether the rounds that were asked for fitted into the budget.
    """

    timings: Mapping[str, Timings]
    warm_up: WarmUp
    looks: tuple[Look, ...]
    complete: bool


def measure(
    timers: Mapping[str, Timer],
    *,
    rounds: int,
    budget_s: float,
    undecided: Callable[[Mapping[str, Timings], float], bool],
    looks: Sequence[Look],
    between: Callable[[], None],
    advance: Callable[[int], None],
    reload: Reload | None = None,
    clock: Now = time.perf_counter,
) -> Sampled:
    """Warms up, then times all contestants in rounds until the verdict is settled or the budget used up.

    A round that time runs out in is dropped. The first one is always ended, so that the budget is exceeded by
    a block at most or, where it is far too small, by what a turn of warming up and one round need.

    Args:
        timers: The contestants in order, ``"engine"`` among them.
        rounds: Rounds that are asked for.
        budget_s: Seconds that all of it may take, the warm-up included.
        undecided: Told the times so far and a look's share of alpha, whether more rounds could settle it.
        looks: The plan, see `affordable`; the first look is after *rounds*.
        between: Called before each round.
        advance: Called with 1 after each round.
        reload: Loads the contestants anew every three rounds; None leaves them loaded.
        clock: Tells the time, in seconds.

    Raises:
        EngineError: A contestant failed.
        ValueError: There is no engine, or the plan is none for *rounds*.
    """
    if ENGINE not in timers or rounds < 1 or not looks or looks[0][0] != rounds:
        raise ValueError(f"no measurement of {list(timers)} in {rounds} rounds with looks {list(looks)}")
    deadline = clock() + budget_s
    warm = warm_up(timers, budget_s * WARM_UP_SHARE, clock)
    began = clock()
    # A block after each loading is run for nothing: it warms up.
    blocks_a_round = 2 if reload is None else 2 + 1 / RELOAD
    loading_s = 0.0 if reload is None else reload.seconds / RELOAD
    queries = block_size(warm.query_s.values(), rounds, deadline - began - rounds * loading_s, blocks_a_round)
    round_s = blocks_a_round * queries * sum(warm.query_s.values()) + loading_s
    blocks: list[Mapping[str, Block]] = []
    taken: list[Look] = []
    for target, share in affordable(looks, round_s, deadline - began):
        if taken:
            pace = (clock() - began) / len(blocks)
            if pace * (target - len(blocks)) > deadline - clock():
                break
            if not undecided(_timings(timers, blocks), taken[-1][1]):
                break
        while len(blocks) < target:
            if reload is not None and blocks and len(blocks) % RELOAD == 0:
                timers = reload.load()
                for timer in timers.values():
                    run_block(timer, queries)
            between()
            done = _round(timers, queries, len(blocks), lambda: clock() >= deadline)
            if done is None:
                break
            blocks.append(done)
            advance(1)
        if not taken or len(blocks) > taken[-1][0]:
            taken.append((len(blocks), share))
    return Sampled(_timings(timers, blocks), warm.warm_up, tuple(taken), len(blocks) >= rounds)


def run_for(timer: Timer, seconds: float, clock: Now = time.perf_counter) -> int:
    """Runs an engine alone, back to back, for about *seconds*; returns how many queries it answered.

    Raises:
        EngineError: The runtime failed.
    """
    blocks = run_until(timer, clock() + seconds, 1, clock)
    return sum(len(block.samples_ms) for block in blocks)


def block_size(query_s: Iterable[float], rounds: int, seconds: float, blocks_a_round: float = 2) -> int:
    """Queries of every block, fixed before the first round; the same for all, as percentiles depend on it.

    Args:
        query_s: What a query of each contestant takes, in seconds.
        rounds: Rounds of two blocks a contestant.
        seconds: What they may take.
        blocks_a_round: Blocks a contestant with those that warm up.

    Returns:
        25; more where the fastest would be done with them within 10 ms; fewer where the rounds would not
        fit; never less than 1.
    """
    costs = tuple(query_s)
    wanted = max(BLOCK, math.ceil(SHORTEST_S / min(costs)))
    fitting = int(HEADROOM * seconds / (blocks_a_round * rounds * sum(costs)))
    return max(1, min(wanted, fitting))


def affordable(looks: Sequence[Look], round_s: float, seconds: float) -> tuple[Look, ...]:
    """The looks that there will be time for, the first in any case; the last gets the shares of those beyond.

    Settled before the first round, from what queries cost and not from who is faster: what is left of alpha
    may be spent at the last look only if the times to be judged had no part in which one is the last.

    Args:
        looks: Rounds and share of alpha of each look, ascending; the shares add up to 1 at most.
        round_s: What a round takes, in seconds.
        seconds: What all of them may take.
    """
    fitting = [look for look in looks if look[0] * round_s <= HEADROOM * seconds] or looks[:1]
    beyond = math.fsum(share for _, share in looks[len(fitting) :])
    last, share = fitting[-1]
    return (*fitting[:-1], (last, share + beyond))


def order(names: Sequence[str], index: int) -> tuple[str, ...]:
    """Who is timed in round *index*: A B C C B A, and C B A A B C in every other round.

    The mirror image cancels what changes steadily within a round, for everyone. The first to start takes
    turns because two things are left: what follows a pause (the state of the machine is read between rounds)
    runs less warm, and where times change in a curve the outer blocks differ from the inner ones. Always the
    same contestant would bear both; in turns they cancel over two rounds, and where they are large they widen
    the interval instead of moving it.
    """
    there = tuple(names) if index % 2 == 0 else tuple(reversed(names))
    return (*there, *reversed(there))


def _round(
    timers: Mapping[str, Timer], queries: int, index: int, too_late: Callable[[], bool]
) -> dict[str, Block] | None:
    """Both blocks of every contestant, joined; None where the time is up, which the first round ignores."""
    halves: dict[str, list[Block]] = {name: [] for name in timers}
    for name in order(tuple(timers), index):
        if index > 0 and too_late():
            return None
        halves[name].append(run_block(timers[name], queries))
    return {name: _joined(blocks) for name, blocks in halves.items()}


def _joined(blocks: Sequence[Block]) -> Block:
    samples = np.concatenate([block.samples_ms for block in blocks])
    return Block(samples, math.fsum(block.seconds for block in blocks))


def _timings(timers: Mapping[str, Timer], blocks: Sequence[Mapping[str, Block]]) -> dict[str, Timings]:
    return {
        name: Timings(
            mode=timer.mode,
            samples_ms=np.stack([row[name].samples_ms for row in blocks]).astype(np.float64),
            seconds=np.array([row[name].seconds for row in blocks]),
        )
        for name, timer in timers.items()
    }
