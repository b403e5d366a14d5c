"""What one pass over the data found out about an engine, and how parts of it are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from trtcheck.errors import CaseError, EngineError
from trtcheck.metrics.confusion import NO_ANSWER, NO_LABEL, Confusion
from trtcheck.metrics.drift import OutputDrift
from trtcheck.metrics.flips import Flips
from trtcheck.metrics.scores import ScoreDrift

if TYPE_CHECKING:
    from trtcheck.samples import Sample


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
