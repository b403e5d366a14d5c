"""Looks at the calibration of an engine: its data beside the evaluation's, and its ranges on these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.answering import Reference
from trtcheck.calibration.coverage import Coverage, cover, labels_of
from trtcheck.calibration.findings import Pair
from trtcheck.calibration.overlap import TOLD, CalibrationSide, Match, Overlap, Read, compare
from trtcheck.data.batches import Batch, batches, read_feeds
from trtcheck.metrics.confusion import NO_LABEL
from trtcheck.streaming import stream_reference

if TYPE_CHECKING:
    from trtcheck.case import Case
    from trtcheck.data import Images
    from trtcheck.progress import Advance
    from trtcheck.resolve import Resolved

OpenReference = Callable[[], AbstractContextManager[Reference]]


def survey(
    case: Case, resolved: Resolved, calibration: Images, open_reference: OpenReference, advance: Advance
) -> tuple[CalibrationSide, Coverage | None]:
    """Reads the calibration images once: what they are, and which classes they show.

    Args:
        case: The case.
        resolved: Its evaluation data and classes.
        calibration: The calibration data.
        open_reference: Opens the reference's answers on them, needed where labels do not tell the classes.
        advance: Called with the number of images after every batch.

    Raises:
        DataError: The images do not fit the model, or cannot be read.
    """
    side = CalibrationSide()

    def taken_in() -> Iterator[Batch]:
        for batch in batches(calibration, resolved.signature, case.input, case.batch):
            side.add(batch)
            yield batch

    labels = labels_of(calibration, resolved.classes) if resolved.scores is not None else None
    if resolved.scores is not None and labels is None:
        with open_reference() as reference:
            answered = stream_reference(
                case, classes=resolved.classes, scores=resolved.scores,
                truth=np.full(len(calibration), NO_LABEL), batches=taken_in(), reference=reference,
                advance=advance,
            )  # fmt: skip
        return side, cover(answered.predicted, resolved.truth, resolved.classes, by_labels=False)
    for batch in taken_in():
        advance(batch.count)
    if labels is None:
        return side, None
    return side, cover(labels, resolved.truth, resolved.classes, by_labels=True)


def overlap_of(
    case: Case, resolved: Resolved, side: CalibrationSide, calibration: Images, advance: Advance
) -> Overlap:
    """Searches the calibration *side* for the evaluation images; arguments as of `survey`.

    Raises:
        DataError: An image cannot be used.
    """
    return compare(
        side,
        batches(resolved.images, resolved.signature, case.input, case.batch),
        calibration=_reader(calibration, case, resolved),
        evaluation=_reader(resolved.images, case, resolved),
        advance=advance,
    )


def pairs_of(matches: Sequence[Match], evaluation: Images, calibration: Images) -> tuple[Pair, ...]:
    """The first of *matches*, with the names of their files where the sources have files."""
    return tuple(
        Pair(
            match.evaluation, match.calibration,
            _file(evaluation, match.evaluation), _file(calibration, match.calibration),
        )
        for match in matches[:TOLD]
    )  # fmt: skip


def _reader(images: Images, case: Case, resolved: Resolved) -> Read:
    def read(index: int) -> dict[str, np.ndarray]:
        return read_feeds(images, resolved.signature, case.input, index, index + 1)

    return read


def _file(images: Images, index: int) -> str | None:
    """The file of an image below its source's folder, or None where the source has no files."""
    from trtcheck.data.folder import FolderImages

    if not isinstance(images, FolderImages):
        return None
    return images.file(index).relative_to(Path(images.name)).as_posix()
