"""Batches of preprocessed images, made ahead of the consumer in background threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trtcheck.case import InputSpec
from trtcheck.data import Images
from trtcheck.data.arrays import ArrayImages
from trtcheck.data.folder import FolderImages
from trtcheck.data.preprocess import check_fit, preprocess
from trtcheck.data.recycled import Empty, Recycled
from trtcheck.environment import usable_cores
from trtcheck.errors import DataError
from trtcheck.model import Signature

TOGETHER_IMAGES = 256
"""Images that are read and preprocessed at once, at most, where batches are smaller: so many that numpy's
cost of a call does not count."""
TOGETHER_BYTES = 8 << 20
"""What such images may take, as they are fed."""
AHEAD_BYTES = 512 << 20
"""What is made ahead, at most; one piece is in any case."""
_MOST_MAKERS = 6


@dataclass(frozen=True)
class Batch:
    """Feeds of consecutive images.

    Attributes:
        start: Index of the first image in the data set.
        count: The number of real images; rows of *feeds* beyond it are padding and must not be counted.
        feeds: Arrays by input name, first axis the image, dtypes those of the model's inputs.
    """

    start: int
    count: int
    feeds: dict[str, np.ndarray]


def batches(
    images: Images,
    signature: Signature,
    spec: InputSpec,
    size: int,
    *,
    start: int = 0,
    stop: int | None = None,
    prefetch: int = 2,
    together: int = TOGETHER_IMAGES,
    pad: bool = False,
) -> Iterator[Batch]:
    """Cuts *images* into batches and preprocesses them; memory does not grow with their number.

    Reading is one thread's work at a time, for sources need not be thread-safe; files of a folder are decoded
    by as many threads as there are cores. Preprocessing takes a quarter of them: a GPU is quicker than one.

    Args:
        images: The data.
        signature: The model's inputs. A batch size that they fix is used in place of *size*, and the
            last batch is padded to it with its last image.
        spec: Preprocessing.
        size: Images a batch, where the model leaves it open.
        start: First image.
        stop: Image to stop before; None for all.
        prefetch: Pieces of one or several batches made ahead for each core that makes them, while the
            consumer works on one; 0 makes none ahead.
        together: Images that small batches are made of at once, see `TOGETHER_IMAGES`.
        pad: Whether the last batch is padded, also where the model leaves the batch size open.

    Returns:
        An iterator; closing it early ends the background threads.

    Raises:
        DataError: The data do not fit the model (at once), or a later image cannot be used (when its batch
            is due).
        ValueError: The range is not within the data set, or a size is impossible.
    """
    stop = len(images) if stop is None else stop
    if not 0 <= start <= stop <= len(images):
        raise ValueError(f"images {start} to {stop} of {len(images)}")
    fixed = signature.fixed_batch
    size = size if fixed is None else fixed
    if size < 1 or prefetch < 0:
        raise ValueError(f"batch size {size}, prefetch {prefetch}")
    row = check_fit(images, signature, spec)
    count = max(1, min(together, TOGETHER_BYTES // max(1, row)) // size)
    makers = max(1, min(_MOST_MAKERS, usable_cores() // 4))
    ahead = min(prefetch * makers, AHEAD_BYTES // max(1, row * size * count))
    firsts = range(start, stop, size * count)
    cutter = _Cutter(images, signature, spec, size, stop, pad=pad or fixed is not None)
    return _ahead(cutter, firsts, count, max(ahead, min(prefetch, 1)), makers)


@dataclass(frozen=True)
class _Piece:
    """Neighbouring batches that were made at once.

    Attributes:
        batches: The batches, or those before *error*.
        error: What is wrong with the batch that follows.
    """

    batches: Sequence[Batch]
    error: Exception | None = None


def _ahead(cutter: _Cutter, firsts: range, count: int, ahead: int, makers: int) -> Iterator[Batch]:
    """Yields pieces of *count* batches, made *ahead* pieces ahead; an error is raised when it is due."""
    # Leaving the block joins the threads, whatever the consumer does: first who waits for those that decode.
    with (
        cutter.reading(firsts.start) as source,
        ThreadPoolExecutor(makers, thread_name_prefix="trtcheck-prefetch") as pool,
    ):
        pending: deque[Future[_Piece]] = deque()
        try:
            for first in firsts:
                pending.append(pool.submit(cutter.piece, source, first, count))
                if len(pending) > ahead:
                    yield from _told(pending.popleft().result())
            while pending:
                yield from _told(pending.popleft().result())
        finally:
            for future in pending:
                future.cancel()


def _told(piece: _Piece) -> Iterator[Batch]:
    yield from piece.batches
    if piece.error is not None:
        raise piece.error


class Readable(Protocol):
    """What images are read from: `Images`, or what decodes those of a folder ahead."""

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """Arrays of the images *start* to *stop* (exclusive) by name, first axis the image."""
        ...


@dataclass(frozen=True)
class _Recycling:
    """Reads *images* into arrays that *empty* makes."""

    images: ArrayImages
    empty: Empty

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """See `Readable`."""
        return self.images.read(start, stop, self.empty)


class _Cutter:
    """Makes batches out of images that one thread reads at a time.

    Args:
        images: The data.
        signature: The model's inputs.
        spec: Preprocessing.
        size: Images a batch.
        stop: Image to stop before.
        pad: Whether the last batch is as large as the others.
    """

    def __init__(
        self, images: Images, signature: Signature, spec: InputSpec, size: int, stop: int, *, pad: bool
    ) -> None:
        self._images = images
        self._signature = signature
        self._spec = spec
        self._size = size
        self._stop = stop
        self._pad = pad
        self._recycled = Recycled()
        self._reading = threading.Lock()

    def reading(self, start: int) -> AbstractContextManager[Readable]:
        """What `piece` reads the images from *start* on from: files are decoded ahead meanwhile."""
        if isinstance(self._images, FolderImages):
            return self._images.reading(range(start, self._stop))
        if isinstance(self._images, ArrayImages):
            return nullcontext(_Recycling(self._images, self._recycled.empty))
        return nullcontext(self._images)

    def piece(self, source: Readable, first: int, count: int) -> _Piece:
        """The *count* batches from image *first* on, or as many as there are."""
        stop = min(first + self._size * count, self._stop)
        try:
            return _Piece(self._cut(source, first, stop))
        except Exception:
            if stop - first <= self._size:
                raise
        made: list[Batch] = []
        for start in range(first, stop, self._size):
            try:
                made += self._cut(source, start, min(start + self._size, stop))
            except Exception as error:  # noqa: BLE001  raised when its batch is due
                return _Piece(made, error)
        return _Piece(made)  # what failed was of no batch alone

    def _cut(self, source: Readable, first: int, stop: int) -> list[Batch]:
        with self._reading:
            arrays = read_arrays(source, first, stop, self._images.name)
        feeds = preprocess(
            arrays, self._signature, self._spec, where=self._images.name, start=first,
            empty=self._recycled.empty,
        )  # fmt: skip
        return [
            self._batch(
                {name: feed[start : start + self._size] for name, feed in feeds.items()}, first + start
            )
            for start in range(0, stop - first, self._size)
        ]

    def _batch(self, feeds: dict[str, np.ndarray], start: int) -> Batch:
        """A batch of *feeds*, padded where its size is to be kept."""
        count = min(self._size, self._stop - start)
        if self._pad and self._size > count:
            feeds = {
                name: np.concatenate([feed, np.repeat(feed[-1:], self._size - count, axis=0)])
                for name, feed in feeds.items()
            }
        return Batch(start, count, feeds)


def read_feeds(
    images: Images, signature: Signature, spec: InputSpec, start: int, stop: int
) -> dict[str, np.ndarray]:
    """Images *start* to *stop* as the model is fed, by input name, first axis the image.

    Raises:
        DataError: An image cannot be used.
    """
    arrays = read_arrays(images, start, stop, images.name)
    return preprocess(arrays, signature, spec, where=images.name, start=start)


def read_arrays(source: Readable, start: int, stop: int, where: str) -> Mapping[str, np.ndarray]:
    """Images *start* to *stop* as the *source* holds them, by array name; messages name it *where*.

    Raises:
        DataError: The source returns another number of images.
    """
    arrays = source.read(start, stop)
    count = stop - start
    for name, array in arrays.items():
        if len(array) != count:
            raise DataError(
                f"array '{name}' was read with the wrong number of images",
                where=where,
                expected=f"{count}, for images {start} to {stop}",
                found=len(array),
            )
    return arrays
