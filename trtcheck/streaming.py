"""The streaming comparison of one engine with the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, final

import numpy as np

from trtcheck.answering import Answered, Outputs, answered
from trtcheck.class_scores import as_scores
from trtcheck.errors import CaseError, EngineError
from trtcheck.evaluation import Evaluation, Labels, ReferenceResult
from trtcheck.metrics.confusion import NO_ANSWER
from trtcheck.metrics.drift import OutputDrift
from trtcheck.metrics.flips import Flips
from trtcheck.metrics.scores import ScoreDrift, answers, in_top_k

if TYPE_CHECKING:
    from trtcheck.answering import Reference
    from trtcheck.backends.base import LoadedEngine
    from trtcheck.case import Case
    from trtcheck.data.batches import Batch


def stream(
    case: Case,
    *,
    engine_name: str,
    classes: tuple[str, ...],
    scores: str | None,
    truth: np.ndarray,
    batches: Iterator[Batch],
    reference: Reference,
    engine: LoadedEngine,
    advance: Callable[[int], None],
    start: int = 0,
) -> Evaluation:
    """Runs all *batches* through reference and engine and accumulates what differs.

    Args:
        case: The case.
        engine_name: Name of the engine in messages and reports.
        classes: Class names; empty where scores is None.
        scores: Name of the output with the class scores, or None to compare outputs only.
        truth: Labels (N,) of the images that the batches hold, -1 for none.
        batches: Batches in order.
        reference: Where the reference's answers come from.
        engine: The engine.
        advance: Called with the number of images after every batch.
        start: Index of the first image in the data.

    Raises:
        EngineError: The engine refused a batch.
        CaseError: The scores do not fit the classes.
    """
    tally = _Tally(case, classes, scores, Labels.blank(truth), start)
    with closing(answered(batches, reference, engine)) as chunks:
        for chunk in chunks:
            for one in joined(chunk):
                tally.add(one)
                advance(one.count)
    if tally.images != len(truth):
        raise EngineError(f"{case.name}: {tally.images} of {len(truth)} images were evaluated")
    return Evaluation(
        model=case.name, engine=engine_name, classes=classes, images=tally.images, top_k=case.top_k,
        labels=tally.labels if tally.scored else None,
        outputs=tuple(tally.drifts[name] for name in sorted(tally.drifts)),
        scores=tally.drift if tally.scored else None, flips=tally.flips,
        problems=dict(sorted(tally.problems.items())), start=start,
    )  # fmt: skip


@final
class _Tally:
    """What differs between reference and engine, added up.

    Args:
        case: The case.
        classes: Class names.
        scores: Name of the output with the class scores, or None.
        labels: Room for the answers.
        start: Index of the first image in the data.
    """

    def __init__(
        self, case: Case, classes: tuple[str, ...], scores: str | None, labels: Labels, start: int
    ) -> None:
        self._case = case
        self._classes = len(classes)
        self._scores = scores
        self._start = start
        self.labels = labels
        self.scored = scores is not None
        self.images = 0
        self.drifts: dict[str, OutputDrift] = {}
        self.drift = ScoreDrift(k=case.top_k)
        self.flips = Flips()
        self.problems: dict[str, str] = {}

    def add(self, one: Answered) -> None:
        """Compares the answers to neighbouring images.

        Raises:
            CaseError: The scores do not fit the classes.
        """
        old, new = one.reference, one.candidate
        found = compare_shapes(old, new)
        self.problems = found | self.problems  # one sentence an output: the first images'
        for name in old.keys() & new.keys() - found.keys():
            if old[name].dtype.kind in "OUS":
                self.problems = different_text(name, old[name], new[name], one.start) | self.problems
                continue
            part = OutputDrift.of(name, old[name], new[name], one.start)
            self.drifts[name] = self.drifts[name] + part if name in self.drifts else part
        if self._scores is not None:
            self._add_scores(one, self._scores, fits=self._scores in new and self._scores not in found)
        self.images += one.count

    def _add_scores(self, one: Answered, name: str, *, fits: bool) -> None:
        rows = slice(one.start - self._start, one.start - self._start + one.count)
        labels, k = self.labels, self._case.top_k
        truth = labels.truth[rows]
        before = as_scores(one.reference[name], self._classes, self._case, name)
        answered_before = labels.reference[rows] = answers(before)
        labels.reference_top_k[rows] = in_top_k(before, truth, k, answered_before)
        if not fits:
            self.scored = False
            return
        after = as_scores(one.candidate[name], self._classes, self._case, name)
        answered_after = labels.candidate[rows] = answers(after)
        labels.candidate_top_k[rows] = in_top_k(after, truth, k, answered_after)
        best = answered_before, answered_after
        self.drift += ScoreDrift.of(before, after, k, best)
        self.flips += Flips.of(truth, before, after, one.start, best)


def joined(chunk: Sequence[Answered]) -> Sequence[Answered]:
    """The batches of a *chunk* as one, where their outputs have the same rows; else as they are.

    Numpy's cost of a call is then paid once a chunk. Sums of floats differ in their last digits.
    """
    if len(chunk) == 1 or len({_layout(one) for one in chunk}) > 1 or not all(map(_has_rows, chunk)):
        return chunk
    sides = [
        {
            name: np.concatenate([getattr(one, side)[name] for one in chunk])
            for name in getattr(chunk[0], side)
        }
        for side in ("reference", "candidate")
    ]
    return (Answered(chunk[0].start, sum(one.count for one in chunk), *sides),)


def _layout(one: Answered) -> tuple[Any, ...]:
    """Names, types and shapes of rows of all outputs."""
    return tuple(
        tuple((name, value.dtype, value.shape[1:]) for name, value in side.items())
        for side in (one.reference, one.candidate)
    )


def _has_rows(one: Answered) -> bool:
    values = (*one.reference.values(), *one.candidate.values())
    return all(value.ndim and len(value) == one.count for value in values)


def stream_reference(
    case: Case,
    *,
    classes: tuple[str, ...],
    scores: str | None,
    truth: np.ndarray,
    batches: Iterator[Batch],
    reference: Reference,
    advance: Callable[[int], None],
) -> ReferenceResult:
    """Runs all *batches* through the reference alone; arguments as of `stream`.

    Raises:
        CaseError: The model gives no class scores.
    """
    if scores is None:
        raise CaseError(f"{case.name} gives no class scores, so its reference has no answers to count")
    predicted = np.full(len(truth), NO_ANSWER, np.int32)
    for batch in batches:
        values = reference.answers(batch)[scores]
        rows = slice(batch.start, batch.start + batch.count)
        predicted[rows] = answers(as_scores(values, len(classes), case, scores))
        advance(batch.count)
    return ReferenceResult(case.name, classes, truth.astype(np.int32), predicted)


def compare_shapes(old: Outputs, new: Outputs) -> dict[str, str]:
    """What is missing, extra, misshapen or of another kind among the outputs, by output name."""
    found = {}
    for name in sorted(old.keys() - new.keys()):
        found[name] = f"output '{name}' is missing; the engine gives: {', '.join(sorted(new)) or 'none'}"
    for name in sorted(new.keys() - old.keys()):
        found[name] = f"output '{name}' is extra; the reference gives: {', '.join(sorted(old))}"
    for name in sorted(old.keys() & new.keys()):
        a, b = old[name], new[name]
        if a.shape != b.shape:
            found[name] = f"output '{name}' has shape {b.shape} where the reference has {a.shape}"
        elif _kind(a.dtype) != _kind(b.dtype):
            found[name] = f"output '{name}' has type {b.dtype} where the reference has {a.dtype}"
    return found


def different_text(name: str, old: np.ndarray, new: np.ndarray, start: int) -> dict[str, str]:
    """A sentence on the first image whose text differs, by output name; empty where none does."""
    rows = np.flatnonzero((old != new).reshape(len(old), -1).any(axis=1))
    if not rows.size:
        return {}
    row = int(rows[0])
    return {
        name: f"output '{name}' is {new[row]!s} in image {start + row} where the reference has {old[row]!s}"
    }


def _kind(dtype: np.dtype) -> str:
    """Numbers with a fraction (bfloat16 has numpy kind V) are of one kind, whatever their width."""
    return "f" if dtype.kind in "fV" else "i" if dtype.kind in "iu" else dtype.kind
