"""Batches of preprocessed images, made ahead of the consumer in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trtcheck.case import InputSpec
from trtcheck.data import Images
from trtcheck.data.preprocess import check_fit, preprocess
from trtcheck.errors import DataError
from trtcheck.model import Signature


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
) -> Iterator[Batch]:
    """Cuts *images* into batches and preprocesses them; memory does not grow with their number.

    Args:
        images: The data.
        signature: The model's inputs. A batch size that they fix is used in place of *size*, and the
            last batch is padded to it with its last image.
        spec: Preprocessing.
        size: Images a batch, where the model leaves it open.
        start: First image.
        stop: Image to stop before; None for all.
        prefetch: Batches made ahead while the consumer works on one; 0 makes none ahead.

    Returns:
        An iterator; closing it early ends the background thread.

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
    check_fit(images, signature, spec)

    def make(first: int) -> Batch:
        return _batch(images, signature, spec, first, min(first + size, stop), fixed)

    return _ahead(make, range(start, stop, size), prefetch)


def _ahead(make: Callable[[int], Batch], firsts: Iterable[int], prefetch: int) -> Iterator[Batch]:
    """Yields ``make(first)`` in order, *prefetch* results ahead; an error is raised where it is due."""
    # One worker: sources need not be thread-safe. Leaving the block joins it, whatever the consumer does.
    with ThreadPoolExecutor(1, thread_name_prefix="trtcheck-prefetch") as pool:
        pending: deque[Future[Batch]] = deque()
        try:
            for first in firsts:
                pending.append(pool.submit(make, first))
                if len(pending) > prefetch:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _batch(
    images: Images, signature: Signature, spec: InputSpec, start: int, stop: int, padded: int | None
) -> Batch:
    """Images *start* to *stop*, padded to *padded* rows unless that is None."""
    feeds = read_feeds(images, signature, spec, start, stop)
    count = stop - start
    if padded is not None and padded > count:
        feeds = {
            name: np.concatenate([feed, np.repeat(feed[-1:], padded - count, axis=0)])
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
    arrays = images.read(start, stop)
    count = stop - start
    for name, array in arrays.items():
        if len(array) != count:
            raise DataError(
                f"array '{name}' was read with the wrong number of images",
                where=images.name,
                expected=f"{count}, for images {start} to {stop}",
                found=len(array),
            )
    return preprocess(arrays, signature, spec, where=images.name, start=start)
