"""Answers of shards, drawn at random: what `merge.py` merges."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import report

from trtcheck.evaluation import Evaluation, Labels
from trtcheck.evaluation_record import to_parts
from trtcheck.metrics.drift import OutputDrift
from trtcheck.metrics.flips import KEPT, Flips

SEED = 2026
CHURN = 0.004
"""Share of the images whose answer changes."""
SCORED = 2 * KEPT
"""Images whose scores are drawn: as many as it takes to fill the list of flips."""
DETECTIONS = {"boxes": (100, 4), "scores": (100,), "labels": (100,)}
"""Outputs of a detector by name, with their shapes without the batch."""


@dataclass(frozen=True)
class Plan:
    """One evaluation past these machines.

    Attributes:
        name: What it is.
        images: Images of each model.
        classes: Classes of each model; 0 for detections, whose outputs alone are compared.
        models: How many models.
        engines: Engines of each.
        shards: Into how many shards each pair of model and engine is cut, by turns.
    """

    name: str
    images: int
    classes: int
    models: int = 1
    engines: int = 1
    shards: tuple[int, ...] = (8, 64, 512)


PLANS = (
    Plan("ImageNet-22k", 14_197_122, 21_841),
    Plan("a million detection images", 1_000_000, 0),
    Plan("a hundred models nightly", 50_000, 1_000, models=100, engines=3, shards=(1, 8, 64)),
)
QUICK_PLANS = (
    Plan("ImageNet-22k, tiny", 20_000, 300, shards=(2, 7)),
    Plan("detection, tiny", 1_000, 0, shards=(2, 7)),
    Plan("nightly, tiny", 500, 10, models=3, engines=2, shards=(1, 2)),
)


def packed(evaluation: Evaluation, number: int) -> tuple[bytes, int]:
    """The answer of shard *number* as an executor carries it, and how many bytes of it are labels."""
    record, arrays = to_parts(evaluation)
    answer = {"shard": number, "worker": "host:12345", "kind": "done", "record": record, "arrays": arrays}
    return pickle.dumps(answer, protocol=5), sum(array.nbytes for array in arrays.values())


class Drawn:
    """Evaluations of the shards of one engine, drawn at random.

    Scores and outputs are drawn once: what is kept of them does not grow with the images.

    Args:
        plan: Of which plan.
        engine: Which of the engines.
    """

    def __init__(self, plan: Plan, engine: int) -> None:
        rng = np.random.default_rng([SEED, engine])
        name = f"e{engine}"
        if plan.classes:
            truth = rng.integers(0, plan.classes, SCORED)
            labels = Labels.blank(truth)
            labels.reference[:], labels.candidate[:] = truth, report.near(rng, truth, plan.classes)
            size = report.Size(1, 1, plan.classes, 0, 0, 1)
            self._whole = report.evaluation(rng, size, name, labels, [b""])
        else:
            drifts = tuple(_drift(rng, output, shape) for output, shape in DETECTIONS.items())
            self._whole = Evaluation(
                model="", engine=name, classes=(), images=SCORED, top_k=5, labels=None, outputs=drifts,
                scores=None, flips=Flips(),
            )  # fmt: skip

    def of(self, span: range) -> Evaluation:
        """The evaluation of the images *span* as a worker answers it: without the names of the classes."""
        whole, count = self._whole, len(span)
        found = replace(
            whole, model="model", classes=(), images=count, start=span.start, samples=(), record={},
            outputs=tuple(_grown(drift, count / SCORED) for drift in whole.outputs),
        )  # fmt: skip
        if whole.scores is None:
            return found
        rng = np.random.default_rng([SEED, span.start])
        labels = self._labels(rng, count)
        changed = np.flatnonzero(labels.reference != labels.candidate)
        right, now = labels.reference == labels.truth, labels.candidate == labels.truth
        worst = tuple(
            replace(flip, index=span.start + int(at), lost=float(rng.random()))
            for flip, at in zip(whole.flips.worst, changed, strict=False)
        )
        flips = Flips(len(changed), int((right & ~now).sum()), int((~right & now).sum()), count, worst)
        scores = replace(whole.scores, images=count, top1_same=count - len(changed), top_k_kept=count)
        return replace(found, labels=labels, flips=flips, scores=scores)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, which the coordinator knows; empty without class scores."""
        return self._whole.classes

    def _labels(self, rng: np.random.Generator, count: int) -> Labels:
        classes = len(self._whole.classes)
        truth = rng.integers(0, classes, count)
        reference = np.where(rng.random(count) < 0.2, report.near(rng, truth, classes), truth)
        return report.answered(rng, truth, reference, CHURN, None)


def _drift(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> OutputDrift:
    old = rng.normal(0, 1, (SCORED, *shape)).astype(np.float32)
    return OutputDrift.of(name, old, old + rng.normal(0, 1e-3, old.shape).astype(np.float32))


def _grown(drift: OutputDrift, factor: float) -> OutputDrift:
    """The same error over *factor* times as many images."""
    counts = {
        name: round(getattr(drift, name) * factor) for name in ("elements", "different", "finite", "exact")
    }
    errors = tuple((e, max(1, round(count * factor))) for e, count in drift.errors)
    return replace(drift, **counts, errors=errors)
