"""Arrays in memory that earlier ones have left: a pass does not ask the system for new pages all the time."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, final

import numpy as np

Empty = Callable[[tuple[int, ...], np.dtype[Any]], np.ndarray]
"""Makes an array of a shape and a type, of any content: `numpy.empty`, or `Recycled.empty`."""

SMALLEST = 1 << 20
"""Bytes of the smallest array that is worth it."""


class _Memory:
    """Bytes that arrays can be laid over.

    Numpy tells of a view the array that it is a view of; an array over these is one at which this ends, so
    that it stays as long as any view of it, or any view of those.
    """

    def __init__(self, nbytes: int) -> None:
        self._bytes = np.empty(nbytes, np.uint8)
        self.__array_interface__ = self._bytes.__array_interface__


@final
class Recycled:
    """Makes arrays, of large ones out of the memory of those that nobody refers to any more.

    Large arrays are else given back to the system as soon as they are done with, and every page of the next
    has to be found and cleared anew, by one thread at a time. What was made is kept until this object goes.
    May be used by several threads.
    """

    def __init__(self) -> None:
        self._left: defaultdict[int, deque[_Memory]] = defaultdict(deque)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array of any content; its memory is taken again once it and all views of it are gone."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < SMALLEST or dtype.hasobject:
            return np.empty(shape, dtype)
        left = self._left[nbytes]
        try:
            memory = left.pop()  # deques need no lock
        except IndexError:
            memory = _Memory(nbytes)
        array = np.asarray(memory)
        weakref.finalize(array, left.append, memory).atexit = False
        return array.view(dtype).reshape(shape)
