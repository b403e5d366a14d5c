"""Recorded times of identical and of slower builds, and how measurements come of them.

Whole rounds and whole processes are drawn, never single samples, which are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trtcheck.judge.latency_bounds import hodges_lehmann

SEED = 5
ROUNDS = 12
OLD, SAME, SLOWER, MUCH_SLOWER = "A_1", "A_2", "B5", "B10"
"""Builds. The first two are identical; the others have one more layer, and two."""
H100 = Path(__file__).parent / "data" / "h100_latency.npz"

Rounds = Mapping[str, np.ndarray]
"""Milliseconds by build (N, S): the same rounds of one process for all builds."""
Side = Sequence[np.ndarray]
"""Milliseconds of every query (S,) in the order of measuring, an array for each process."""


@dataclass(frozen=True)
class Change:
    """What happened to the new build.

    Attributes:
        label: In words.
        build: Which build it is.
        scale: What its times are multiplied by.
    """

    label: str
    build: str = SAME
    scale: float = 1.0


@dataclass(frozen=True)
class Times:
    """What was timed in one place.

    Attributes:
        processes: Interleaved builds, by process; all processes have as many rounds.
        separate: By build, the times of one build alone in processes of its own.
        resampled: Whether the rounds of a measurement are drawn with replacement, or follow one another.
    """

    processes: Sequence[Rounds]
    separate: Mapping[str, Side]
    resampled: bool

    @property
    def measurements(self) -> int:
        """Measurements of twelve rounds that have no round in common."""
        return sum(len(process[OLD]) // ROUNDS for process in self.processes)

    def pair(self, change: Change, number: int, rounds: int = ROUNDS) -> tuple[np.ndarray, np.ndarray]:
        """Times of the old and the new build in the same rounds of one process (R, S) each.

        Every process comes as often as the others. Where the builds are identical, the process's own offset
        between the two stays: that is what a verdict must allow for. *rounds* are fewer where a process does
        not have as many and none comes twice.
        """
        rng = _generator(change, number, 0)
        process, before = self.processes[number % len(self.processes)], number // len(self.processes)
        measured = self._measured(process, before * ROUNDS, rounds, rng)
        old, other = rng.permutation([OLD, SAME])
        new = other if change.build == SAME else change.build
        return measured[old], measured[new] * change.scale

    def sides(self, change: Change, number: int, old: int, new: int) -> tuple[Side, Side]:
        """Times of the old build in *old* processes and of the new one in *new* others."""
        rng = _generator(change, number, 1)
        before = self.separate[OLD]
        drawn = rng.permutation(len(before))
        if change.build == SAME:
            after = [before[place] for place in drawn[old : old + new]]
        else:
            slower = self.separate[change.build]
            after = [slower[place] for place in rng.permutation(len(slower))[:new]]
        return [before[place] for place in drawn[:old]], [times * change.scale for times in after]

    def ratios(self, change: Change, number: int, stored: int) -> tuple[list[float], np.ndarray, float]:
        """The new build and those of *stored* other processes beside another model in the same rounds.

        The other model is an identical build, which takes no other part.

        Returns:
            The log ratio of medians of each stored process, that of each round of the new build (R,), and the
            seconds that the latter's queries took.
        """
        rng = _generator(change, number, 2)
        chosen = [self.processes[place] for place in rng.permutation(len(self.processes))[: stored + 1]]
        starts = rng.integers(len(self.processes[0][OLD]), size=stored + 1)
        *before, now = (
            self._measured(process, start, ROUNDS, rng) for process, start in zip(chosen, starts, strict=True)
        )
        build = OLD if change.build == SAME else change.build
        logs = log_ratios(now[build], now[SAME]) + np.log(change.scale)
        seconds = float(now[build].sum() + now[SAME].sum()) / 1000
        return [hodges_lehmann(log_ratios(one[OLD], one[SAME])) for one in before], logs, seconds

    def _measured(self, process: Rounds, start: int, rounds: int, rng: np.random.Generator) -> Rounds:
        there = len(process[OLD])
        following = np.arange(start, start + min(rounds, there)) % there
        chosen = rng.integers(there, size=rounds) if self.resampled else following
        return {build: times[chosen] for build, times in process.items()}

    def true_change(self, build: str) -> float:
        """By how much *build* is slower than the identical two, as a fraction: the median over processes."""
        logs = [
            hodges_lehmann(log_ratios(one[build], one[old])) for one in self.processes for old in (OLD, SAME)
        ]
        return float(np.expm1(np.median(logs)))


def _generator(change: Change, number: int, kind: int) -> np.random.Generator:
    """Random numbers of one measurement's own; what is drawn does not depend on the scale."""
    return np.random.default_rng([SEED, *change.build.encode(), number, kind])


def log_ratios(times: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Logarithm of the ratio of medians, by round (R,), of times (R, S)."""
    found: np.ndarray = np.log(np.median(times, axis=1) / np.median(others, axis=1))
    return found


def h100() -> Times:
    """ResNet-50 FP16, batch 1, in ONNX Runtime CUDA with CUDA graphs on one H100.

    A round is two blocks of 25 of each build that follow one another, and may start at any of the 39 places.
    """
    with np.load(H100) as file:
        found = {name: file[name].astype(np.float64) for name in sorted(file.files)}
    names = {name.rpartition(".")[2] for name in found if name.startswith("interleaved")}
    processes = [
        {build: _rounds(found[f"interleaved.{build}.{name}"]) for build in (OLD, SAME, SLOWER, MUCH_SLOWER)}
        for name in sorted(names)
    ]
    separate = {
        build: [times for name, times in found.items() if name.startswith(f"separate.{recorded}.")]
        for build, recorded in ((OLD, "A"), (SLOWER, "B5"), (MUCH_SLOWER, "B10"))
    }
    return Times(processes, separate, resampled=True)


def _rounds(blocks: np.ndarray) -> np.ndarray:
    return np.concatenate([blocks[:-1], blocks[1:]], axis=1)
