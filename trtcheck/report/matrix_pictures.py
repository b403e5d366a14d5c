"""Confusion matrices of many classes as pictures: before, after, and what changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trtcheck.metrics.confusion import Changes, Confusion
from trtcheck.report import pictures
from trtcheck.report.view.matrices import MATRIX_CLASSES
from trtcheck.samples import png

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation

BLOCKS = 200
"""Fields of a picture's side: where classes are more, neighbours share one."""
PIXELS = 400
"""About how many pixels a side has."""
SIDES = ("before", "after", "difference")
SHADES = 5
"""Of wrong answers, and of changes: from a single image to the largest number there is."""
PALE = 4
"""Shades of right answers, pale beside the wrong ones, which a matrix is looked at for."""

# A picture brings its ground along, for dark pages too. On white the palest red and blue stand out as
# graphics must (WCAG 1.4.11: 3 to 1). Sixteen colours take half a byte each.
_GROUND, _GREY = "ffffff", "57606c"
_BLUES = ("5b93dc", "3d79cb", "2560ac", "164882", "0c2f5c")
_REDS = ("e8705a", "d9503d", "bf3425", "9c1f16", "6f100b")
_PALES = ("dbe7f6", "c3d7f0", "a9c5ea", "8fb2e2")
_PALETTE = bytes.fromhex("".join((_GROUND, *_BLUES, *_REDS, *_PALES, _GREY)))
_FIRST_PALE = 1 + 2 * SHADES
FRAME = _FIRST_PALE + PALE


def names(evaluation: Evaluation) -> dict[str, str] | None:
    """Paths of an engine's pictures by what they show; None where there is nothing to draw.

    That is where no image has a label, and where a matrix with numbers is shown instead.
    """
    labels = evaluation.labels
    if labels is None or not labels.counted.any() or len(evaluation.classes) <= MATRIX_CLASSES:
        return None
    return {side: pictures.name(evaluation.model, evaluation.engine, f"confusion-{side}") for side in SIDES}


def of(evaluations: Iterable[Evaluation]) -> dict[str, bytes]:
    """The pictures of all engines of many classes, as PNG files by their path."""
    found: dict[str, bytes] = {}
    for evaluation in evaluations:
        paths, labels, classes = names(evaluation), evaluation.labels, len(evaluation.classes)
        if paths is not None and labels is not None:
            before = Confusion.of(labels.truth, labels.reference, classes)
            drawn = shades(before, Confusion.of(labels.truth, labels.candidate, classes))
            found |= {path: png(picture(drawn[side])) for side, path in paths.items()}
    return found


def shades(before: Confusion, after: Confusion) -> dict[str, np.ndarray]:
    """The shades of all fields of the three pictures, rows the truth.

    Wrong answers and changes go by the logarithm of their number: a single image is seen, too. A field that
    several classes share holds all their images; in the difference its largest change, so that none is
    averaged away.

    Returns:
        uint8 indices of colours (B, B), or (B, B + 2) with "no answer" as the last column, behind a line,
        where there is any.
    """
    blocks = min(BLOCKS, before.classes)
    gap = 2 if any((side.answer == side.classes).any() for side in (before, after)) else 0
    shape = (blocks, blocks + gap)
    sides = {side: _summed(found, shape) for side, found in (("before", before), ("after", after))}
    most = max(int(wrong.max()) for _, wrong in sides.values())  # one scale, so that both can be compared
    found = {
        **{side: _counted(right, wrong, most) for side, (right, wrong) in sides.items()},
        "difference": _changed(Changes.of(before, after), before.classes, shape),
    }
    for drawn in found.values():
        drawn[:, blocks : blocks + gap - 1] = FRAME
    return found


def _places(truth: np.ndarray, answer: np.ndarray, classes: int, shape: tuple[int, int]) -> np.ndarray:
    """The field of every pair, in the flat picture."""
    row, column = (labels * shape[0] // classes for labels in (truth, answer))
    return np.asarray(row * shape[1] + np.where(answer == classes, shape[1] - 1, column))


def _summed(found: Confusion, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Share of the right answers of each row, where these stand, and number of wrong ones, by field."""
    places = _places(found.truth, found.answer, found.classes, shape)
    right = np.where(found.truth == found.answer, found.counts, 0)
    hits, misses = (
        np.bincount(places, counts, shape[0] * shape[1]).reshape(shape)
        for counts in (right, found.counts - right)
    )
    return hits / np.maximum((hits + misses).sum(axis=1, keepdims=True), 1), misses


def _steps(counts: np.ndarray, most: int) -> np.ndarray:
    """Shades of numbers, 0 for none, 1 for a single image to `SHADES` for *most*."""
    grown = np.log(np.maximum(counts, 1)) / np.log(max(most, 2))
    return np.where(counts > 0, 1 + np.rint(grown * (SHADES - 1)), 0).astype(np.uint8)


def _counted(right: np.ndarray, wrong: np.ndarray, most: int) -> np.ndarray:
    pale = _FIRST_PALE + np.minimum(right * PALE, PALE - 1).astype(np.uint8)
    red = np.where(wrong > 0, SHADES + _steps(wrong, most), 0)
    return np.where(right > 0, pale, red).astype(np.uint8)


def _changed(changes: Changes, classes: int, shape: tuple[int, int]) -> np.ndarray:
    change = changes.after - changes.before
    size = np.abs(change)
    better = (change > 0) == (changes.truth == changes.answer)
    colours = _steps(size, int(size.max(initial=0))) + np.where(better, 0, SHADES)
    order = np.argsort(size, kind="stable")  # the largest change of a field is written last
    drawn = np.zeros(shape, np.uint8)
    drawn.ravel()[_places(changes.truth, changes.answer, classes, shape)[order]] = colours[order]
    return drawn


def picture(drawn: np.ndarray) -> Image.Image:
    """The picture of the indices of colours (R, C), with a frame."""
    size = max(1, PIXELS // len(drawn))
    fields = np.kron(drawn, np.ones((size, size), np.uint8))
    whole = np.pad(fields, 1, constant_values=FRAME)
    image = Image.frombytes("P", (whole.shape[1], whole.shape[0]), whole.tobytes())
    image.putpalette(_PALETTE)
    return image
