"""Decoding of image files in threads, ahead of whoever reads the images in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from trtcheck.data.arrays import IMAGES
from trtcheck.environment import usable_cores

AHEAD_EACH = 4
"""Images that each thread decodes beyond those that were asked for, at most."""
AHEAD_BYTES = 64 << 20
"""What such images may take together."""
NAME = "trtcheck-decode"
"""What the names of the threads begin with."""


def decoders(images: int) -> int:
    """Threads that decode *images*: Pillow lets others work meanwhile, so as many as there are cores."""
    return max(1, min(usable_cores(), images))


class DecodedAhead:
    """Images of files, decoded by one pool of threads from the first read to the end of the block.

    Between two reads the threads go on with what follows, so that they wait neither for the slowest image of
    a batch nor for whoever preprocesses. Not to be read by two threads at once.

    Args:
        decode: Makes image *k*, uint8 of *shape*; called by several threads.
        shape: (H, W, C) or (H, W).
        span: The images that will be read.
    """

    def __init__(self, decode: Callable[[int], np.ndarray], shape: tuple[int, ...], span: range) -> None:
        self._decode = decode
        self._shape = shape
        self._stop = span.stop
        self._threads = decoders(len(span))
        self._ahead = min(AHEAD_EACH * self._threads, AHEAD_BYTES // math.prod(shape))
        self._pending: dict[int, Future[np.ndarray]] = {}
        self._submitted = 0

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=NAME)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """The images *start* to *stop* (exclusive) as one array ``images``.

        Raises:
            DataError: The first of them that cannot be decoded, or differs in size.
        """
        self._submit(start, stop)
        self._submit(max(stop, self._submitted), min(stop + self._ahead, self._stop))
        images = np.empty((stop - start, *self._shape), np.uint8)
        for index in range(start, stop):
            images[index - start] = self._pending.pop(index).result()
        return {IMAGES: images}

    def _submit(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            if index not in self._pending:
                self._pending[index] = self._pool.submit(self._decode, index)
        self._submitted = max(self._submitted, stop)
