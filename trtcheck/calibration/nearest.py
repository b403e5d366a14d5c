"""Pairs of pictures that stand out from all others: the candidates for copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trtcheck.calibration.pictures import distances

KEPT = 8
"""Nearest neighbours that are kept of every picture: up to one fewer copies of one picture are found."""
MOST_BY_CHANCE = 3.0
"""Pairs that stand out less are no candidates."""
_ROWS = 512

# Chosen on the data of docs/quantizers.md, to let copies pass: those that are none are weeded out afterwards.
_CLOSE = 0.03  # a copy is at most so far
_GAP = 0.4  # and at most this times as far as the nearest picture that is none
_ORDINARY = 0.1  # which counts as no farther than this: among few pictures nothing else may be near

_FAR = np.float32(2)  # beyond every distance, which is at most 1
_FOURTH, _EIGHTH = 3, 7
_STEPS = 1 / 4 + 1 / 5 + 1 / 6 + 1 / 7


@dataclass(frozen=True)
class Candidate:
    """A calibration and an evaluation picture that are nearer to each other than to any third one.

    Attributes:
        calibration: Row of the calibration picture.
        evaluation: Row of the evaluation picture.
        gap: Their distance over that of the nearest picture which is no copy, 0 to 0.4.
        by_chance: How many pairs of different pictures would stand out as much, over all of the set.
    """

    calibration: int
    evaluation: int
    gap: float
    by_chance: float


class Nearest:
    """Finds the nearest neighbours of every picture of two sets while one of them streams by.

    Args:
        bases: Bases (5, M, P) of the calibration pictures, see `trtcheck.calibration.pictures.tangents`.
    """

    def __init__(self, bases: np.ndarray) -> None:
        self._bases = bases
        self._seen = 0
        self._waiting: list[np.ndarray] = []
        self._of_calibration = _Few.of(bases.shape[1])
        self._of_evaluation: list[_Few] = []

    def add(self, vectors: np.ndarray) -> None:
        """Takes in the next evaluation pictures, by their *vectors* (N, P)."""
        self._waiting.append(vectors)
        # Few large products: the threads of a small one would wait for each other most of the time.
        if sum(map(len, self._waiting)) >= _ROWS:
            self._compare()

    def _compare(self) -> None:
        vectors = np.concatenate([np.zeros((0, self._bases.shape[2]), np.float32), *self._waiting])
        self._waiting = []
        for start in range(0, len(vectors), _ROWS):
            found = distances(vectors[start : start + _ROWS], self._bases)
            self._of_evaluation.append(_Few.nearest(found, 0))
            self._of_calibration = self._of_calibration.with_more(_Few.nearest(found.T, self._seen))
            self._seen += len(found)

    def candidates(self) -> list[Candidate]:
        """Pairs that are close, and far closer than the next picture of either set; the closest first.

        "Far closer" is what keeps trousers apart: two of a kind are close, but a third is nearly as close.
        How far depends on the data: where pictures differ in a few ways only (the place of one blob), the
        nearest is by chance far nearer than the second. Where they differ in m ways, the ratio of squared
        distances is below g with probability g^(m/2) (Facco et al., "Estimating the intrinsic dimension of
        datasets by a minimal neighborhood information", 2017).
        """
        self._compare()
        if not self._seen:
            return []
        mine, other = self._of_calibration, _Few.joined(self._of_evaluation)
        (cut, gap), (other_cut, other_gap) = mine.cut(), other.cut()
        power = max(mine.ways(), other.ways()) / 2
        found = []
        for own, column in mine.within(cut):
            distance, partner = mine.at(own, column)
            both = float(max(gap[own], other_gap[partner]))
            by_chance = both**power * self._bases.shape[1]
            if distance <= other_cut[partner] and by_chance <= MOST_BY_CHANCE:
                found.append(Candidate(own, partner, both, by_chance))
        return sorted(found, key=lambda pair: (pair.gap, pair.calibration, pair.evaluation))


@dataclass(frozen=True)
class _Few:
    """The nearest neighbours of N pictures: distances (N, 8), ascending, and their indices (N, 8)."""

    distance: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, count: int) -> _Few:
        """*count* pictures without a neighbour."""
        return cls(np.full((count, KEPT), _FAR), np.full((count, KEPT), -1, np.int64))

    @classmethod
    def nearest(cls, found: np.ndarray, first: int) -> _Few:
        """From distances (N, M) to neighbours that are numbered from *first*."""
        kept = min(KEPT, found.shape[1])
        index = np.argpartition(found, kept - 1, axis=1)[:, :kept]
        distance = np.take_along_axis(found, index, axis=1)
        return cls.of(len(found)).with_more(cls(distance, index + first))

    @classmethod
    def joined(cls, parts: list[_Few]) -> _Few:
        return cls(np.concatenate([p.distance for p in parts]), np.concatenate([p.index for p in parts]))

    def with_more(self, other: _Few) -> _Few:
        """The nearest of both; of equals those that came first."""
        distance = np.concatenate([self.distance, other.distance], axis=1)
        index = np.concatenate([self.index, other.index], axis=1)
        order = np.argsort(distance, axis=1, kind="stable")[:, :KEPT]
        return _Few(np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1))

    def cut(self) -> tuple[np.ndarray, np.ndarray]:
        """Up to which distance each picture's neighbours are candidates, -1 for none, and the gap behind.

        Several copies of one picture are all near: the gap is looked for behind each of the neighbours.
        """
        here, behind = self.distance[:, :-1], np.minimum(self.distance[:, 1:], _ORDINARY)
        apart = (here <= _CLOSE) & (here <= _GAP * behind)
        last = apart.shape[1] - 1 - np.argmax(apart[:, ::-1], axis=1)
        rows = np.arange(len(last))
        gap = here[rows, last] / np.maximum(behind[rows, last], np.finfo(np.float32).tiny)
        some = apart.any(axis=1)
        return np.where(some, here[rows, last], -1), np.where(some, gap, 1)

    def ways(self) -> float:
        """In how many ways pictures differ: the intrinsic dimension, 1 where neighbours are too few to tell.

        From the fourth and the eighth neighbour: the logarithm of their squared distances' ratio is 2/m times
        (1/4 + ... + 1/7) on average (Levina, Bickel, "Maximum likelihood estimation of intrinsic dimension",
        NIPS 2004). The median, and no nearer ones, so that copies among them do not count.
        """
        whole = self.index[:, _EIGHTH] >= 0
        near, far = self.distance[whole, _FOURTH], self.distance[whole, _EIGHTH]
        usable = near > 0
        if not usable.any():
            return 1.0
        growth = float(np.median(np.log(far[usable] / near[usable])))
        return 2 * _STEPS / max(growth, 1e-6)

    def within(self, cut: np.ndarray) -> Iterator[tuple[int, int]]:
        """Rows and columns of the neighbours that are no farther than *cut* (N,)."""
        for row, column in np.argwhere(self.distance <= cut[:, np.newaxis]):
            yield int(row), int(column)

    def at(self, row: int, column: int) -> tuple[float, int]:
        """Distance and number of one neighbour."""
        return float(self.distance[row, column]), int(self.index[row, column])
