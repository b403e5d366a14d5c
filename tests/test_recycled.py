"""Memory that is taken again, and never too early."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from trtcheck.data.recycled import SMALLEST, Recycled

FLOAT = np.dtype(np.float32)
SHAPE = (8, SMALLEST // 4)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_of_an_array_that_is_gone_is_taken_again() -> None:
    recycled = Recycled()
    array = recycled.empty(SHAPE, FLOAT)
    where = address(array)
    other = recycled.empty(SHAPE, FLOAT)
    assert address(other) != where
    del array
    assert address(recycled.empty(SHAPE, FLOAT)) == where


VIEWS: dict[str, Callable[[np.ndarray], object]] = {
    "itself": lambda array: array,
    "slice": lambda array: array[2:4],
    "slice of a slice": lambda array: array[2:6][1:],
    "reshaped": lambda array: array.reshape(-1)[5:],
    "transposed": lambda array: array.T,
    "as bytes": lambda array: array[1].view(np.uint8),
    "contiguous": lambda array: np.ascontiguousarray(array, np.float32)[3],
    "broadcast": lambda array: np.broadcast_to(array[:1], SHAPE),
    "memory view": lambda array: memoryview(array[3]),
    "from its buffer": lambda array: np.frombuffer(array[3], np.uint8),
    "strided": lambda array: np.lib.stride_tricks.as_strided(array, (2,), (4,)),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memory_that_a_view_lies_in_is_left_alone(view: Callable[[np.ndarray], object]) -> None:
    recycled = Recycled()
    array = recycled.empty(SHAPE, FLOAT)
    where = address(array)
    kept = view(array)
    del array
    gc.collect()
    assert address(recycled.empty(SHAPE, FLOAT)) != where
    del kept
    gc.collect()
    assert where in {address(one) for one in [recycled.empty(SHAPE, FLOAT), recycled.empty(SHAPE, FLOAT)]}


@pytest.mark.parametrize(
    "dtype", [np.float32, np.uint8, np.float16, ml_dtypes.bfloat16, ">f8", "U7", bool, object]
)
@pytest.mark.parametrize("shape", [(3, 5), (3, 0), (700_000,), (2, 1000, 1000)])
def test_an_array_is_as_asked_for(shape: tuple[int, ...], dtype: object) -> None:
    recycled = Recycled()
    for _ in range(2):
        array = recycled.empty(shape, np.dtype(dtype))  # type: ignore[call-overload]
        assert array.shape == shape
        assert array.dtype == np.dtype(dtype)  # type: ignore[call-overload]
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[...] = 1


def test_an_array_outlives_what_made_it() -> None:
    array = Recycled().empty(SHAPE, FLOAT)
    array[...] = 7
    gc.collect()
    assert (array == 7).all()


def test_threads_never_share_memory() -> None:
    recycled = Recycled()
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            array = recycled.empty((SMALLEST,), np.dtype(np.uint8))
            array[...] = number
            part = array[SMALLEST // 2 :]
            del array
            if (part != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
