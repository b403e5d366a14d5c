"""Confusion matrices of many classes as pictures: before, after, and what changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trtcheck.report import pictures
from trtcheck.report.view.matrices import HEAT_LEVELS, MATRIX_CLASSES
from trtcheck.samples import png

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation

BLOCKS = 200
"""Fields of a picture's side: where classes are more, neighbours share one."""
PIXELS = 400
"""About how many pixels a side has."""
SIDES = ("before", "after", "difference")

# The shades of the heat maps on a light ground: white, nine blues for what is right, nine reds for what is
# wrong, and the frame. A picture brings its ground along, for dark pages too.
_BLUES = ("eef4fd", "dde9fb", "c9ddf8", "b3cff5", "9bc0f1", "82afeb", "2e69b8", "20589f", "164882")
_REDS = ("fff1ec", "ffe1d7", "ffcebf", "ffb9a5", "fda18a", "f5876e", "bf3425", "a5261a", "891a12")
_PALETTE = bytes.fromhex("".join(("ffffff", *_BLUES, *_REDS, "57606c")))
_FRAME = 19


def names(evaluation: Evaluation) -> dict[str, str] | None:
    """Paths of an engine's pictures by what they show; None where a matrix with numbers is shown instead."""
    if evaluation.labels is None or len(evaluation.classes) <= MATRIX_CLASSES:
        return None
    return {side: pictures.name(evaluation.model, evaluation.engine, f"confusion-{side}") for side in SIDES}


def of(evaluations: Iterable[Evaluation]) -> dict[str, bytes]:
    """The pictures of all engines of many classes, as PNG files by their path."""
    found: dict[str, bytes] = {}
    for evaluation in evaluations:
        paths = names(evaluation)
        if paths is not None:
            drawn = shades(evaluation)
            found |= {paths[side]: png(picture(drawn[side])) for side in SIDES}
    return found


def shades(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """The shades of all fields of the three pictures, rows the truth: 0 none, 1 to 9 right, -1 to -9 wrong.

    Returns:
        int8 (B, B) or (B, B + 2) by side; the last column is "no answer", behind an empty one, where there
        is any. A field of several classes shows the share of its rows; of the difference the largest
        change among its fields, so that none is averaged away.
    """
    labels = evaluation.judged_labels()
    counted = labels.counted
    truth, classes = labels.truth[counted], len(evaluation.classes)
    sides = {"before": labels.reference[counted], "after": labels.candidate[counted]}
    blocks = min(BLOCKS, classes)
    gap = 2 if any((answers < 0).any() for answers in sides.values()) else 0
    shape = (blocks, blocks + gap)
    found = {side: _counted(truth, answers, classes, shape) for side, answers in sides.items()}
    return {**found, "difference": _changed(truth, sides["before"], sides["after"], classes, shape)}


def _block(labels: np.ndarray, classes: int, shape: tuple[int, int]) -> np.ndarray:
    """The field of every label; the last one for no answer."""
    blocks = shape[0]
    return np.where(labels < 0, shape[1] - 1, labels.astype(np.int64) * blocks // classes)


def _counted(truth: np.ndarray, answers: np.ndarray, classes: int, shape: tuple[int, int]) -> np.ndarray:
    row, column = _block(truth, classes, shape), _block(answers, classes, shape)
    support = np.maximum(np.bincount(row, minlength=shape[0]), 1)[:, None]
    cells, right = row * shape[1] + column, truth == answers

    def share(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(cells[chosen], minlength=shape[0] * shape[1]).reshape(shape) / support

    hits, misses = share(right), share(~right)
    # One per cent of errors has to be seen, too: wrong answers go by the root of their share.
    wrong = np.where(misses > 0, 1 + (np.sqrt(misses) * (HEAT_LEVELS - 2)).astype(int), 0)
    good = np.where(hits > 0, np.maximum(np.rint(hits * (HEAT_LEVELS - 1)).astype(int), 1), 0)
    return np.where(hits > 0, good, -np.minimum(wrong, HEAT_LEVELS - 1)).astype(np.int8)


def _changed(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray, classes: int, shape: tuple[int, int]
) -> np.ndarray:
    width = classes + 1
    rows = truth.astype(np.int64) * width
    cells = np.concatenate([rows + np.where(side < 0, classes, side) for side in (after, before)])
    signs = np.repeat((1, -1), len(truth))
    # Only cells that hold an image are met, whatever the number of classes.
    found, place = np.unique(cells, return_inverse=True)
    change = np.bincount(place.ravel(), weights=signs, minlength=len(found))
    found, change = found[change != 0], change[change != 0]
    row, column = found // width, found % width
    good = np.where(row == column, change, -change)
    strength = np.log2(1 + np.abs(good))
    level = np.ceil(strength / max(strength.max(initial=0.0), 1e-9) * (HEAT_LEVELS - 1))
    order = np.argsort(np.abs(good), kind="stable")  # the largest change of a field is written last
    out = np.zeros(shape, np.int8)
    places = (_block(row, classes, shape), _block(np.where(column == classes, -1, column), classes, shape))
    out[places[0][order], places[1][order]] = (np.sign(good) * level)[order]
    return out


def picture(levels: np.ndarray) -> Image.Image:
    """The picture of the shades (R, C), with a frame."""
    size = max(1, PIXELS // len(levels))
    colours = np.where(levels < 0, HEAT_LEVELS - 1 - levels, levels).astype(np.uint8)
    whole = np.pad(np.kron(colours, np.ones((size, size), np.uint8)), 1, constant_values=_FRAME)
    image = Image.frombytes("P", (whole.shape[1], whole.shape[0]), whole.tobytes())
    image.putpalette(_PALETTE)
    return image
