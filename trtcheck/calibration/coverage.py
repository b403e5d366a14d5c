"""Which of the evaluation's classes the calibration images show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trtcheck.data import Images
from trtcheck.metrics.confusion import NO_LABEL

RECOMMENDED = 500
"""Calibration images that NVIDIA found sufficient: "experiments indicate that about 500 images are sufficient
for calibrating ImageNet classification networks" (TensorRT Developer Guide, Post-Training Quantization Using
Calibration)."""
FEWEST = 100
"""Below this many different images the ranges are a matter of luck."""
_CHANCE = 0.05
"""A class that a random sample misses more rarely is not excused."""


@dataclass(frozen=True)
class Coverage:
    """How the calibration images spread over the classes.

    Attributes:
        by_labels: Whether labels told the classes; else the reference's answers did.
        counts: Calibration images by class name, for the classes that are evaluated, in their order.
        unclassed: Calibration images that show no class: the reference answered NaN.
        by_chance: The missing classes that a random sample of as many images may well miss, too (probability
            5 % or more, by the class's share of the evaluation data).
    """

    by_labels: bool
    counts: dict[str, int]
    unclassed: int = 0
    by_chance: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """The calibration images."""
        return sum(self.counts.values()) + self.unclassed

    @property
    def missing(self) -> tuple[str, ...]:
        """The evaluated classes that no calibration image shows."""
        return tuple(name for name, count in self.counts.items() if count == 0)


def labels_of(calibration: Images, classes: Sequence[str]) -> np.ndarray | None:
    """The label of every calibration image as a position in *classes*, int64 (N,).

    None where an image has no label, or one that is none of *classes*.
    """
    if calibration.labels is None:
        return None
    labels = np.asarray(calibration.labels)
    if calibration.class_names is not None:
        position = {name: index for index, name in enumerate(classes)}
        by_number = np.array([position.get(name, NO_LABEL) for name in calibration.class_names], np.int64)
        labels = np.where(labels == NO_LABEL, NO_LABEL, by_number[labels])
    return labels if ((labels >= 0) & (labels < len(classes))).all() else None


def cover(shown: np.ndarray, truth: np.ndarray, classes: Sequence[str], *, by_labels: bool) -> Coverage:
    """How calibration images spread over the classes that are evaluated.

    Args:
        shown: The class of every calibration image (N,), -1 for none.
        truth: Labels of the evaluation data, -1 for none; without any, every class is evaluated.
        classes: The class names.
        by_labels: Whether *shown* are labels, else the reference's answers.
    """
    images = np.bincount(shown[shown >= 0], minlength=len(classes))
    support = np.bincount(truth[truth >= 0], minlength=len(classes))
    support = support if support.any() else np.ones(len(classes), np.int64)
    missed = (1 - support / support.sum()) ** len(shown)
    evaluated = np.flatnonzero(support)
    return Coverage(
        by_labels=by_labels,
        counts={classes[int(k)]: int(images[k]) for k in evaluated},
        unclassed=int(np.count_nonzero(shown < 0)),
        by_chance=tuple(classes[int(k)] for k in evaluated if not images[k] and missed[k] >= _CHANCE),
    )
