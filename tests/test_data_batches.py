"""Batches: they concatenate to the whole, stay bounded, and leave no thread behind."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trtcheck.case import InputSpec
from trtcheck.data.batches import batches
from trtcheck.data.sources import open_images
from trtcheck.errors import DataError
from trtcheck.model import Signature, Tensor

IDENTITY = InputSpec()


def model(*shape: int | None, dtype: str = "float32") -> Signature:
    return Signature((Tensor("x", np.dtype(dtype), shape),), ())


class Counting:
    """Images (N, 1) that hold their own index and record what was read, and may fail or be short."""

    name = "counting"
    labels = None
    class_names = None

    def __init__(self, count: int, fail_at: int | None = None, short: bool = False) -> None:
        self.count, self.fail_at, self.short = count, fail_at, short
        self.reads: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        self.reads.append((start, stop))
        if self.fail_at is not None and start <= self.fail_at < stop:
            raise OSError(f"disk broke at {self.fail_at}")
        stop -= self.short and stop > 1
        return {"images": np.arange(start, stop, dtype=np.float32)[:, None]}

    def digest(self) -> str:
        return "sha256:"


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("trtcheck-")]


def test_large_batches_keep_what_they_hold_while_others_are_made(tmp_path):
    """Their memory is taken again, but not before they are gone."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (150, 224, 224, 3), np.uint8)
    np.save(tmp_path / "images.npy", pictures)
    images = open_images({"images": tmp_path / "images.npy"}, classes=None)
    spec = InputSpec(scale=1 / 255, mean=(0.5,), std=(0.25,))
    expected = ((pictures * np.float32(1 / 255) - np.float32(0.5)) / np.float32(0.25)).transpose(0, 3, 1, 2)
    kept = []
    for batch in batches(images, model(None, 3, 224, 224), spec, 8):
        kept = [*kept[-4:], batch]
        for one in kept:
            np.testing.assert_array_equal(one.feeds["x"], expected[one.start : one.start + one.count])


@settings(deadline=None)
@given(
    count=st.integers(1, 40),
    size=st.integers(1, 12),
    fixed=st.booleans(),
    cut=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    prefetch=st.integers(0, 3),
    together=st.integers(1, 40),
    pad=st.booleans(),
)
def test_batches_concatenate_to_the_whole(count, size, fixed, cut, prefetch, together, pad):
    start, stop = sorted(min(end, count) for end in cut)
    signature = model(size if fixed else None, 1)
    given_size = 99 if fixed else size
    found = list(
        batches(
            Counting(count),
            signature,
            IDENTITY,
            given_size,
            start=start,
            stop=stop,
            prefetch=prefetch,
            together=together,
            pad=pad,
        )
    )
    assert [batch.start for batch in found] == list(range(start, stop, size))
    real = [value for batch in found for value in batch.feeds["x"][: batch.count, 0].tolist()]
    assert real == list(range(start, stop))
    for batch in found:
        assert len(batch.feeds["x"]) == (size if fixed or pad else batch.count)
        assert (batch.feeds["x"][batch.count :] == batch.feeds["x"][batch.count - 1]).all()
    assert ours() == []


def test_all_images_are_the_default():
    assert [batch.count for batch in batches(Counting(10), model(None, 1), IDENTITY, 4)] == [4, 4, 2]


def test_every_image_is_read_once_and_not_far_ahead():
    data = Counting(100)
    stream = batches(data, model(None, 1), IDENTITY, 10, prefetch=2, together=10)
    assert data.reads == [(0, 1)]  # the early check
    for done in range(3):
        next(stream)
        time.sleep(0.02)
        assert len(data.reads) - 1 <= done + 3
    assert sum(batch.count for batch in stream) == 70
    assert data.reads[1:] == [(start, start + 10) for start in range(0, 100, 10)]


def test_prefetch_works_while_the_consumer_does():
    data = Counting(100)
    stream = batches(data, model(None, 1), IDENTITY, 10, prefetch=2, together=10)
    next(stream)
    deadline = time.monotonic() + 5
    while len(data.reads) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert data.reads[1:] == [(0, 10), (10, 20), (20, 30)]
    stream.close()


def test_stopping_early_ends_the_thread():
    stream = batches(Counting(1000), model(None, 1), IDENTITY, 10)
    next(stream)
    assert len(ours()) == 1
    stream.close()
    assert ours() == []


def test_dropping_the_iterator_ends_the_thread():
    stream = batches(Counting(1000), model(None, 1), IDENTITY, 10)
    next(stream)
    del stream
    gc.collect()
    assert ours() == []


def test_an_iterator_that_is_never_started_has_no_thread():
    stream = batches(Counting(1000), model(None, 1), IDENTITY, 10)
    assert ours() == []
    del stream


def test_the_consumers_own_error_ends_the_thread():
    def consume() -> None:
        for _ in batches(Counting(1000), model(None, 1), IDENTITY, 10):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        consume()
    gc.collect()
    assert ours() == []


def test_small_batches_are_read_together():
    data = Counting(100)
    assert sum(batch.count for batch in batches(data, model(None, 1), IDENTITY, 10, together=45)) == 100
    assert data.reads == [(0, 1), (0, 40), (40, 80), (80, 100)]


@pytest.mark.parametrize("together", [10, 256])
def test_an_error_while_reading_arrives_as_it_is_when_its_batch_is_due(together):
    stream = batches(Counting(100, fail_at=25), model(None, 1), IDENTITY, 10, together=together)
    assert [next(stream).start, next(stream).start] == [0, 10]
    with pytest.raises(OSError, match="disk broke at 25"):
        next(stream)
    assert ours() == []


def test_nan_is_named_by_its_index_in_the_data_set():
    array = np.zeros((50, 3), np.float32)
    array[37, 1] = np.nan
    stream = batches(open_images(array), model(None, 3), IDENTITY, 8)
    with pytest.raises(DataError, match=r"images\[37\] holds NaN"):
        list(stream)


def test_data_that_do_not_fit_are_refused_before_the_first_batch():
    with pytest.raises(DataError, match="does not fit the model's input 'x'"):
        batches(Counting(5), model(None, 2), IDENTITY, 2)


def test_a_source_that_returns_too_few_images_is_refused():
    with pytest.raises(DataError, match="wrong number of images") as info:
        list(batches(Counting(5, short=True), model(None, 1), IDENTITY, 4))
    assert "expected: 4, for images 0 to 4" in str(info.value)
    assert "found:    3" in str(info.value)


def test_an_empty_source_is_refused():
    with pytest.raises(DataError, match="the data set is empty"):
        batches(Counting(0), model(None, 1), IDENTITY, 4)


@pytest.mark.parametrize(
    "wrong", [{"start": -1}, {"stop": 6}, {"start": 4, "stop": 3}, {"size": 0}, {"prefetch": -1}]
)
def test_impossible_ranges_and_sizes(wrong):
    with pytest.raises(ValueError):
        batches(Counting(5), model(None, 1), IDENTITY, **{"size": 2, **wrong})


def test_padding_repeats_the_last_image_of_every_input():
    signature = Signature(tuple(Tensor(name, np.dtype("f4"), (4, 1)) for name in "ab"), ())

    class Two(Counting):
        def read(self, start, stop):
            values = super().read(start, stop)["images"]
            return {"a": values, "b": -values}

    last = list(batches(Two(5), signature, IDENTITY, 32))[-1]
    assert last.count == 1
    assert last.feeds["a"].ravel().tolist() == [4, 4, 4, 4]
    assert last.feeds["b"].ravel().tolist() == [-4, -4, -4, -4]


def test_memory_holds_a_few_batches_whatever_the_number_of_images(tmp_path):
    count, prefetch = 1600, 2
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (count, 64, 64, 3)).flush()
    data = open_images(tmp_path / "x.npy")
    tracemalloc.start()
    stream = batches(data, model(None, 3, 64, 64), IDENTITY, 16, prefetch=prefetch, together=16)
    assert sum(batch.count for batch in stream) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one = 16 * 64 * 64 * 3 * (1 + 4)  # bytes of a batch as uint8 and as float32
    assert peak < (prefetch + 3) * one  # all batches would be 100


def test_image_folder_end_to_end(tmp_path):
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    for index, array in enumerate(arrays):
        folder = tmp_path / ("cat" if index < 3 else "dog")
        folder.mkdir(exist_ok=True)
        Image.fromarray(array).save(folder / f"{index}.png")
    spec = InputSpec(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), resize=8, crop=6)
    data = open_images(tmp_path, classes=["cat", "dog"], spec=spec)
    found = list(batches(data, model(4, 3, 6, 6), spec, 1))
    whole = np.concatenate([batch.feeds["x"][: batch.count] for batch in found])
    naive = (arrays[:, 1:7, 1:7] / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(whole, naive.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert ours() == []


def test_a_bad_image_in_the_middle_is_named_and_no_thread_stays(tmp_path):
    for index in range(6):
        Image.new("L", (4, 4)).save(tmp_path / f"{index}.png")
    (tmp_path / "4.png").write_bytes(b"no image")
    data = open_images(tmp_path, spec=InputSpec(color="L"))
    with pytest.raises(DataError, match=r"4\.png: cannot be read as an image"):
        list(batches(data, model(None, 1, 4, 4), InputSpec(color="L"), 3))
    assert ours() == []
