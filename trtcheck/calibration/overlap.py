"""Evaluation images that are in the calibration set, exactly or as the same picture at another size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trtcheck.calibration import pictures
from trtcheck.calibration.nearest import MOST_BY_CHANCE, Candidate, Nearest
from trtcheck.data.batches import Batch

Feeds = dict[str, np.ndarray]
Read = Callable[[int], Feeds]
"""Reads one image, preprocessed: arrays (1, ...) by input name."""

TOLD = 10
"""Pairs that are told by name."""
MOST_COMPARED = 20_000
"""Calibration pictures that are searched for resized copies; of more, as many, evenly spaced."""
_MOST_VERIFIED = 1000
_VERIFIED_AT_ONCE = 16
_UNEXPLAINED = 0.05
"""Share of a picture that no copy leaves unexplained; measured, as `_Limits` are."""


@dataclass(frozen=True)
class _Limits:
    """What a pair may show at most and still be one picture; measured, see docs/quantizers.md.

    Attributes:
        evidence: Unexplained share times gap.
        by_chance: As of `Candidate`.
    """

    evidence: float
    by_chance: float

    def hold(self, candidate: Candidate, share: float) -> bool:
        return (
            share <= _UNEXPLAINED
            and share * candidate.gap <= self.evidence
            and candidate.by_chance <= self.by_chance
        )


_STRICT = _Limits(evidence=0.001, by_chance=0.05)
_AMONG_OTHERS = _Limits(evidence=0.002, by_chance=MOST_BY_CHANCE)
"""Where copies are there in numbers, one more is likelier than a chance likeness."""
_NUMBERS = 5
_SHARE = 0.01

NO_PICTURES = "the model takes no single input of pictures (N, C, H, W)"
SMALL = f"pictures with sides under {pictures.LEAST_SIDE} pixels cannot be told from others of their kind"
OTHER_GRID = "calibration and evaluation pictures differ in size and are too small to be compared"


@dataclass(frozen=True)
class Match:
    """An evaluation image and the calibration image that it equals, both by index."""

    calibration: int
    evaluation: int


@dataclass(frozen=True)
class Overlap:
    """What the calibration and the evaluation data have in common.

    Attributes:
        images: Calibration images.
        distinct: How many of them differ from all before them.
        evaluated: Evaluation images.
        exact: Evaluation images that are in the calibration set as they are, each with its first copy there.
        resized: Evaluation images that are in it at another size or compressed again.
        compared: Calibration pictures that were searched for such copies.
        plain: Calibration pictures of one colour, which have nothing to be compared by.
        unverified: Pairs that stand out beyond the thousand that were looked at closely.
        unsearched: Why resized copies were not looked for; None where they were.
    """

    images: int
    distinct: int
    evaluated: int
    exact: tuple[Match, ...] = ()
    resized: tuple[Match, ...] = ()
    compared: int = 0
    plain: int = 0
    unverified: int = 0
    unsearched: str | None = None


class CalibrationSide:
    """The calibration images as the evaluation's are compared with them; filled batch by batch."""

    def __init__(self) -> None:
        self.images = 0
        self.first: dict[bytes, int] = {}
        """The first image of every digest."""
        self.plain = 0
        """How many pictures are of one colour."""
        self.unsearched: str | None = None
        """Why pictures cannot be compared; None where they can."""
        self._grids: list[np.ndarray] = []
        self._indices: list[int] = []

    def add(self, batch: Batch) -> None:
        """Takes in the images of *batch*; copies of an earlier one are counted and not kept."""
        new = []
        for row, key in enumerate(row_digests(batch)):
            if self.first.setdefault(key, batch.start + row) == batch.start + row:
                new.append(row)
        self.images += batch.count
        grid = _grid(batch, self._grids[0].shape[1:] if self._grids else None)
        if isinstance(grid, str):
            self.unsearched = grid
            return
        has_detail = pictures.has_detail(grid)
        detailed = [row for row in new if has_detail[row]]
        self.plain += len(new) - len(detailed)
        self._grids.append(grid[detailed])
        self._indices += [batch.start + row for row in detailed]

    def searched(self) -> tuple[np.ndarray, np.ndarray]:
        """The grids (M, h, w) to compare with and their images' indices (M,); none if `unsearched`."""
        if self.unsearched is not None:
            return np.zeros((0, 0, 0), np.float32), np.zeros(0, np.int64)
        kept = evenly(len(self._indices), MOST_COMPARED)
        return np.concatenate(self._grids)[kept], np.array(self._indices, np.int64)[kept]


def evenly(count: int, most: int) -> np.ndarray:
    """At most *most* of *count* indices, evenly spaced, int64."""
    if count <= most:
        return np.arange(count)
    return np.arange(most) * count // most


def row_digests(batch: Batch) -> list[bytes]:
    """A digest of each image of *batch*, over all that the model is fed of it."""
    feeds = sorted(batch.feeds.items())
    kinds = hashlib.blake2b(repr([(n, str(f.dtype), f.shape[1:]) for n, f in feeds]).encode(), digest_size=16)
    found = []
    for row in range(batch.count):
        digest = kinds.copy()
        for _, feed in feeds:
            value = feed[row]
            # Of strings the array holds addresses.
            digest.update(
                repr(feed[row : row + 1].tolist()).encode() if feed.dtype.hasobject else value.tobytes()
            )
        found.append(digest.digest())
    return found


def compare(
    side: CalibrationSide, batches: Iterable[Batch], *, calibration: Read, evaluation: Read,
    advance: Callable[[int], None],
) -> Overlap:  # fmt: skip
    """Searches the calibration *side* for the images of *batches*.

    Args:
        side: The calibration images, all taken in.
        batches: The evaluation images, in order.
        calibration: Reads a calibration image again, for the pairs that stand out.
        evaluation: The same for an evaluation image.
        advance: Called with the number of images after every batch.
    """
    grids, indices = side.searched()
    unsearched = side.unsearched
    search = Nearest(pictures.tangents(grids)) if len(grids) else None
    exact, evaluated = [], 0
    rows: list[int] = []
    for batch in batches:
        keys = row_digests(batch)
        found = [side.first.get(key) for key in keys]
        exact += [Match(own, batch.start + k) for k, own in enumerate(found) if own is not None]
        if search is not None:
            grid = _grid(batch, grids.shape[1:])
            if isinstance(grid, str):
                search, unsearched = None, grid
            else:
                detailed = np.flatnonzero(pictures.has_detail(grid))
                search.add(pictures.vectors(grid)[detailed])
                rows += (batch.start + detailed).tolist()
        evaluated += batch.count
        advance(batch.count)
    resized: tuple[Match, ...] = ()
    unverified = 0
    if search is not None:
        known = {match.evaluation for match in exact}
        pairs = [(c, Match(int(indices[c.calibration]), rows[c.evaluation])) for c in search.candidates()]
        open_pairs = [pair for pair in pairs if pair[1].evaluation not in known]
        unverified = max(0, len(open_pairs) - _MOST_VERIFIED)
        resized = _verified(open_pairs[:_MOST_VERIFIED], len(indices), calibration, evaluation)
    return Overlap(
        images=side.images, distinct=len(side.first), evaluated=evaluated, exact=tuple(exact),
        resized=resized, unsearched=unsearched,
        compared=0 if unsearched else len(indices), plain=side.plain, unverified=unverified,
    )  # fmt: skip


def _grid(batch: Batch, shape: tuple[int, ...] | None) -> np.ndarray | str:
    """The coarse grids (N, h, w) of the pictures of *batch*, or the reason why there are none of *shape*."""
    feed = next(iter(batch.feeds.values()))
    if len(batch.feeds) != 1 or feed.ndim != 4 or feed.dtype.kind not in "fiu":
        return NO_PICTURES
    pixels = pictures.as_channels(feed[: batch.count])
    if min(pixels.shape[2:]) < pictures.LEAST_SIDE:
        return SMALL
    grid = pictures.coarse(pixels)
    return grid if shape in (None, grid.shape[1:]) else OTHER_GRID


def _verified(
    pairs: Sequence[tuple[Candidate, Match]], compared: int, calibration: Read, evaluation: Read
) -> tuple[Match, ...]:
    """Those *pairs* that are one picture at the model's resolution; an evaluation image counts once."""
    shares: list[float] = []
    for start in range(0, len(pairs), _VERIFIED_AT_ONCE):
        matches = [match for _, match in pairs[start : start + _VERIFIED_AT_ONCE]]
        own = _pixels(calibration, [match.calibration for match in matches])
        shares += pictures.unexplained(own, _pixels(evaluation, [m.evaluation for m in matches])).tolist()

    judged = sorted(zip(shares, pairs, strict=True), key=lambda entry: entry[0])
    found = {pair.evaluation: pair for share, (c, pair) in judged if _STRICT.hold(c, share)}
    if len(found) >= max(_NUMBERS, _SHARE * compared):
        taken = {match.calibration for match in found.values()}
        for share, (candidate, match) in judged:
            if match.calibration not in taken and _AMONG_OTHERS.hold(candidate, share):
                found.setdefault(match.evaluation, match)
                taken.add(match.calibration)
    return tuple(found[index] for index in sorted(found))


def _pixels(read: Read, indices: Sequence[int]) -> np.ndarray:
    return np.concatenate([pictures.as_channels(next(iter(read(index).values()))) for index in indices])
