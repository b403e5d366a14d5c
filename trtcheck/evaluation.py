"""The streaming comparison of one engine with the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from trtcheck.data.batches import Batch
from trtcheck.errors import CaseError, EngineError
from trtcheck.metrics.confusion import NO_ANSWER, NO_LABEL, Confusion
from trtcheck.metrics.drift import OutputDrift
from trtcheck.metrics.flips import Flips
from trtcheck.metrics.scores import ScoreDrift, answers, in_top_k

if TYPE_CHECKING:
    from trtcheck.backends.base import LoadedEngine
    from trtcheck.case import Case
    from trtcheck.model import Signature
    from trtcheck.samples import Sample

Outputs = Mapping[str, np.ndarray]


class Reference(Protocol):
    """Where the reference's answers come from: a session, or the cache of an earlier one."""

    def answers(self, batch: Batch) -> Outputs:
        """Outputs for the real images of *batch* (count, ...), by name."""
        ...


@dataclass(frozen=True, eq=False)
class Labels:
    """Who answered what: the sufficient statistic of every accuracy verdict.

    Attributes:
        truth: Labels (N,), -1 for none.
        reference: Answers of the reference (N,), -1 for none.
        candidate: Answers of the engine (N,), -1 for none.
        reference_top_k: Whether the label is among the reference's k best, bool (N,).
        candidate_top_k: The same for the engine.
    """

    truth: np.ndarray
    reference: np.ndarray
    candidate: np.ndarray
    reference_top_k: np.ndarray
    candidate_top_k: np.ndarray

    @classmethod
    def blank(cls, truth: np.ndarray) -> Labels:
        """Room for the answers on all images with labels *truth* (N,)."""
        n = len(truth)
        return cls(
            truth.astype(np.int32), np.full(n, NO_ANSWER, np.int32), np.full(n, NO_ANSWER, np.int32),
            np.zeros(n, bool), np.zeros(n, bool),
        )  # fmt: skip

    @property
    def counted(self) -> np.ndarray:
        """Which images have a label, bool (N,)."""
        return np.asarray(self.truth != NO_LABEL)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that one pass over the data found out about one engine; `trtcheck.evaluate` returns it.

    Attributes:
        model: Name of the case.
        engine: Name of the engine.
        classes: Class names in the order of their numbers; empty where no scores are judged.
        images: Number of images compared.
        start: Index of the first of them in the data.
        top_k: k of the top-k figures.
        labels: Who answered what; None where the model gives no class scores.
        outputs: Error of every output.
        scores: Drift of the class scores; None where there are none.
        flips: Images whose answer changed.
        problems: What is missing, extra or misshapen, in a sentence an output, by its name in order; each
            fails the outputs check.
        overflow: The nodes that leave the narrow type's range, in a sentence, or None.
        samples: What a person is shown of the images whose answer changed most.
        record: Facts of backend, build and digests, JSON-ready.
    """

    model: str
    engine: str
    classes: tuple[str, ...]
    images: int
    top_k: int
    labels: Labels | None
    outputs: tuple[OutputDrift, ...]
    scores: ScoreDrift | None
    flips: Flips
    problems: Mapping[str, str] = field(default_factory=dict)
    overflow: str | None = None
    samples: tuple[Sample, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    start: int = 0

    def confusion(self) -> tuple[Confusion, Confusion]:
        """Confusion of the reference and of the engine.

        Raises:
            CaseError: The model gives no class scores.
        """
        labels = self.judged_labels()
        count = len(self.classes)
        return (
            Confusion.of(labels.truth, labels.reference, count),
            Confusion.of(labels.truth, labels.candidate, count),
        )

    def judged_labels(self) -> Labels:
        """The labels and answers, where there is anything to judge.

        Raises:
            CaseError: There are no class scores, no image has a label, or the reference answers none.
        """
        if self.labels is None:
            raise CaseError(
                f"{self.model}[{self.engine}] gives no class scores, so accuracy, recall and precision "
                "cannot be judged",
                found="; ".join(self.problems.values()) or "a case without class scores",
            )
        if not self.labels.counted.any():
            raise CaseError(
                f"no image of {self.model} has a label, so accuracy, recall and precision cannot be judged",
                expected="labels of 0 or more for some images",
                hint='checks = ["build", "outputs"] compares outputs without labels',
            )
        if (self.labels.reference[self.labels.counted] == NO_ANSWER).all():
            raise CaseError(
                f"the reference of {self.model} answers no image, so nothing can be compared with it",
                expected="finite class scores from the original model",
                found="NaN, or infinite scores of several classes, for every image",
                hint="check scale, mean and std of the suite, and the model itself",
            )
        return self.labels

    @property
    def nonfinite(self) -> int:
        """Output elements that are NaN or infinite where the reference has a number."""
        return sum(drift.nan + drift.inf for drift in self.outputs)


@dataclass(frozen=True, eq=False)
class ReferenceResult:
    """What the reference answers on a case.

    Attributes:
        model: Name of the case.
        classes: Class names in the order of their numbers.
        truth: Labels (N,), -1 for none.
        predicted: Answers (N,), -1 for none.
    """

    model: str
    classes: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def confusion(self) -> Confusion:
        """Its confusion matrix, with recall, precision and accuracy."""
        return Confusion.of(self.truth, self.predicted, len(self.classes))


def scores_output(signature: Signature, case: Case, classes: int | None) -> str:
    """The name of the output that holds the class scores.

    Args:
        signature: Inputs and outputs of the reference.
        case: The case; its ``output`` decides where it is given.
        classes: Number of classes, None where the model decides.

    Raises:
        CaseError: No output fits, or several do.
    """
    names = [tensor.name for tensor in signature.outputs]
    listing = "; ".join(str(tensor) for tensor in signature.outputs)
    if case.output is not None:
        if case.output not in names:
            raise CaseError(
                f"{case.name}: output = {case.output!r} is not an output of the model", where=case.onnx,
                expected=f"one of: {', '.join(names)}", found=case.output,
            )  # fmt: skip
        return case.output
    fitting = [
        tensor.name
        for tensor in signature.outputs
        if tensor.dtype.kind not in "iubOUS" and _width_may_be(tensor.shape, classes)
    ]
    if len(fitting) == 1:
        return fitting[0]
    wanted = "class scores (N, C)" if classes is None else f"class scores (N, {classes})"
    if not fitting:
        raise CaseError(
            f"{case.name}: no output of the model can hold the class scores", where=case.onnx,
            expected=f"an output with {wanted}" + (f" for the {classes} classes" if classes else ""),
            found=listing, hint='set classes = […], or checks = ["build", "outputs"] for other models',
        )  # fmt: skip
    raise CaseError(
        f"{case.name}: several outputs could hold the class scores", where=case.onnx,
        expected=f'one {wanted}, or output = "…" in the suite', found=listing,
    )  # fmt: skip


def _width_may_be(shape: tuple[int | None, ...] | None, classes: int | None) -> bool:
    """Whether a tensor of *shape* may hold (N, classes) scores; axes of 1 behind the classes are fine."""
    if shape is None:
        return True
    if len(shape) < 2 or any(size not in (1, None) for size in shape[2:]):
        return False
    return shape[1] is None or (shape[1] > 1 if classes is None else shape[1] == classes)


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
    drifts: dict[str, OutputDrift] = {}
    problems: dict[str, str] = {}
    labels = Labels.blank(truth)
    drift = ScoreDrift(k=case.top_k)
    flips = Flips()
    images = 0
    scored = scores is not None
    for batch in batches:
        old = reference.answers(batch)
        new = _real_rows(engine.infer(batch.feeds), batch)
        found = compare_shapes(old, new)
        problems = found | problems  # one sentence an output: the first batch's
        for name in old.keys() & new.keys() - found.keys():
            if old[name].dtype.kind in "OUS":
                problems = different_text(name, old[name], new[name], batch.start) | problems
                continue
            part = OutputDrift.of(name, old[name], new[name], batch.start)
            drifts[name] = drifts[name] + part if name in drifts else part
        if scores is not None:
            rows = slice(batch.start - start, batch.start - start + batch.count)
            before = as_scores(old[scores], len(classes), case, scores)
            labels.reference[rows] = answers(before)
            labels.reference_top_k[rows] = in_top_k(before, labels.truth[rows], case.top_k)
            if scores in new and scores not in found:
                after = as_scores(new[scores], len(classes), case, scores)
                labels.candidate[rows] = answers(after)
                labels.candidate_top_k[rows] = in_top_k(after, labels.truth[rows], case.top_k)
                drift += ScoreDrift.of(before, after, case.top_k)
                flips += Flips.of(labels.truth[rows], before, after, batch.start)
            else:
                scored = False
        images += batch.count
        advance(batch.count)
    if images != len(truth):
        raise EngineError(f"{case.name}: {images} of {len(truth)} images were evaluated")
    order = {name: k for k, name in enumerate(sorted(drifts))}
    return Evaluation(
        model=case.name, engine=engine_name, classes=classes, images=images, top_k=case.top_k,
        labels=labels if scored else None,
        outputs=tuple(drifts[name] for name in order),
        scores=drift if scored else None, flips=flips, problems=dict(sorted(problems.items())), start=start,
    )  # fmt: skip


def merged(parts: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of all images that *parts* have seen, each of its own neighbouring images.

    Counts are those of one pass; sums of floats may differ from it in their last digits. Overflow, samples
    and record are those of whoever looks at the whole: they are left out.

    Args:
        parts: At least one, in any order, of one model and engine.

    Raises:
        EngineError: They leave images out, or have seen some twice.
    """
    ordered = sorted(parts, key=lambda part: part.start)
    first = ordered[0]
    for before, after in pairwise(ordered):
        if after.start != before.start + before.images:
            raise EngineError(
                f"{first.model}[{first.engine}]: the parts of the evaluation do not fit together",
                expected=f"a part that starts at image {before.start + before.images}",
                found=f"image {after.start}",
            )
    drifts: dict[str, OutputDrift] = {}
    problems: dict[str, str] = {}
    for part in ordered:
        problems = {**part.problems, **problems}  # one sentence an output: the first part's
        for drift in part.outputs:
            drifts[drift.name] = drifts[drift.name] + drift if drift.name in drifts else drift
    labels = [part.labels for part in ordered if part.labels is not None]
    scored = [part.scores for part in ordered if part.scores is not None]
    whole = len(labels) == len(ordered)
    return replace(
        first, images=sum(part.images for part in ordered), labels=_joined(labels) if whole else None,
        outputs=tuple(drifts[name] for name in sorted(drifts)),
        scores=reduce(add, scored) if whole else None, flips=reduce(add, (part.flips for part in ordered)),
        problems=dict(sorted(problems.items())), overflow=None, samples=(), record={},
    )  # fmt: skip


def _joined(parts: Sequence[Labels]) -> Labels:
    columns = (field.name for field in fields(Labels))
    return Labels(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _real_rows(outputs: Outputs, batch: Batch) -> Outputs:
    """The *outputs* without the rows of padding; those without one row an image stay as they are."""
    size = len(next(iter(batch.feeds.values())))
    return {
        name: value[: batch.count] if value.ndim and len(value) == size else value
        for name, value in outputs.items()
    }


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


def as_scores(values: np.ndarray, classes: int, case: Case, name: str) -> np.ndarray:
    """Class scores (N, C) from an output whose axes behind the classes are 1.

    Raises:
        CaseError: The output holds no numbers or has another shape.
    """
    if values.dtype.kind in "bOUS":
        raise CaseError(
            f"{case.name}: output '{name}' holds no class scores", where=case.onnx,
            expected="numbers", found=f"type {values.dtype}", hint="name another output",
        )  # fmt: skip
    flat = values.reshape(len(values), -1) if values.ndim > 2 and values[0].size == classes else values
    if flat.ndim != 2 or flat.shape[1] != classes:
        raise CaseError(
            f"{case.name}: output '{name}' does not fit the classes", where=case.onnx,
            expected=f"shape (N, {classes}) for {classes} classes", found=f"shape {values.shape}",
            hint="list as many classes as the model has scores, or name another output",
        )  # fmt: skip
    return flat
