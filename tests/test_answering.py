"""Reference and engine asked in threads, and their answers compared by the chunk: as batch by batch."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from test_evaluation import CASE, FakeEngine, FakeReference, compared, indices

from trtcheck import answering
from trtcheck.data.batches import Batch
from trtcheck.errors import DataError, EngineError
from trtcheck.evaluation import Evaluation
from trtcheck.streaming import stream

IMAGES = 23
ANY = st.one_of(st.floats(-4, 4, width=32), st.sampled_from([np.nan, np.inf, -np.inf]))
ROWS = npst.arrays(np.float32, (2, IMAGES, 3), elements=ANY)


class Ahead(FakeEngine):
    """An engine that takes two batches before it answers the first, as those on a GPU do."""

    def infer_many(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        taken: list[Mapping[str, np.ndarray]] = []
        for feeds in batches:
            taken.append(feeds)
            if len(taken) > 1:
                yield self.infer(taken.pop(0))
        for feeds in taken:
            yield self.infer(feeds)


def streamed(
    old: Mapping[str, np.ndarray], engine: FakeEngine, size: int, images: int, most: int
) -> Evaluation:
    """What `stream` finds with chunks of at most so many *images* and bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "CHUNK_IMAGES", images)
        patch.setattr(answering, "CHUNK_BYTES", most)
        return compared(old, engine, truth=np.arange(IMAGES) % 4 - 1, size=size)


def assert_alike(found: Evaluation, expected: Evaluation) -> None:
    """Counts and answers are equal; sums of floats are so but for their last digits."""
    for name in ("images", "flips", "problems"):
        assert repr(getattr(found, name)) == repr(getattr(expected, name)), name
    for column in fields(expected.labels):
        one, other = (getattr(side.labels, column.name) for side in (found, expected))
        assert one.tolist() == other.tolist(), column.name
    pairs = [(found.scores, expected.scores), *zip(found.outputs, expected.outputs, strict=True)]
    for one, other in pairs:
        for figure in fields(other):
            value, wanted = getattr(one, figure.name), getattr(other, figure.name)
            close = pytest.approx(wanted, nan_ok=True) if isinstance(wanted, float) else wanted
            assert value == close, figure.name


@settings(deadline=None, max_examples=60)
@given(
    ROWS, npst.arrays(np.float32, (2, IMAGES, 2, 2), elements=ANY), st.integers(1, IMAGES + 2),
    st.integers(1, 2 * IMAGES), st.integers(1, 2000), st.sampled_from([FakeEngine, Ahead]),
)  # fmt: skip
def test_chunks_of_any_size_find_what_single_batches_find(scores, more, size, images, most, kind):
    old, new = ({"y": scores[side], "z": more[side]} for side in (0, 1))
    single = streamed(old, FakeEngine(**new), size, images=1, most=1)
    assert_alike(streamed(old, kind(**new), size, images, most), single)


def test_small_batches_are_handed_on_together_and_large_ones_alone(monkeypatch):
    rows = {"y": np.zeros((40, 3), np.float32)}

    def sizes() -> list[int]:
        chunks = answering.answered(indices(40), FakeReference(**rows), FakeEngine(**rows))
        return [sum(one.count for one in chunk) for chunk in chunks]

    monkeypatch.setattr(answering, "CHUNK_IMAGES", 16)
    assert max(sizes()) == 16
    monkeypatch.setattr(answering, "CHUNK_BYTES", 150)  # a batch takes 32 bytes and its answers 96
    assert sizes() == [4] * 10
    assert sum(sizes()) == 40


class Detector(FakeEngine):
    """As many boxes as there happen to be in a batch."""

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        index = feeds["index"]
        return {
            "y": self.outputs["y"][index],
            "boxes": np.ones((len(index), index[0] % 3 + 1, 4), np.float32),
        }

    def answers(self, batch: Batch) -> dict[str, np.ndarray]:
        return {name: value[: batch.count] for name, value in self.infer(batch.feeds).items()}


def test_outputs_whose_shape_depends_on_the_data_are_compared_batch_by_batch():
    rows = np.eye(3, dtype=np.float32)[np.arange(IMAGES) % 3]
    found = stream(
        CASE, engine_name="fp16", classes=("a", "b", "c"), scores="y", truth=np.full(IMAGES, -1),
        batches=indices(IMAGES), reference=Detector(y=rows), engine=Detector(y=rows), advance=lambda _: None,
    )  # fmt: skip
    boxes, _scores = found.outputs
    expected = sum(4 * (start % 3 + 1) * min(4, IMAGES - start) for start in range(0, IMAGES, 4))
    assert (boxes.elements, boxes.different, found.problems) == (expected, 0, {})


class Broken(FakeReference):
    """Refuses the batch that holds the image *at*."""

    def __init__(self, rows: np.ndarray, at: int, name: str) -> None:
        super().__init__(y=rows)
        self._at, self._name = at, name

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._at in feeds["index"]:
            raise EngineError(f"{self._name} at {self._at}")
        return super().infer(feeds)

    def answers(self, batch: Batch) -> dict[str, np.ndarray]:
        self.infer(batch.feeds)
        return super().answers(batch)


class BrokenAhead(Broken, Ahead):
    """The same, working ahead."""


RUNNING = ("trtcheck-answers", "trtcheck-prefetch")


def left_over() -> list[str]:
    """Names of threads that nobody ended."""
    return [one.name for one in threading.enumerate() if one.name.startswith(RUNNING)]


@pytest.mark.parametrize("kind", [Broken, BrokenAhead])
@pytest.mark.parametrize(
    ("reference_at", "engine_at", "first"),
    [(99, 0, "engine at 0"), (99, 9, "engine at 9"), (99, 22, "engine at 22"), (5, 99, "reference at 5"),
     (14, 9, "engine at 9"), (9, 14, "reference at 9"), (10, 9, "reference at 10"),
     (18, 14, "engine at 14"), (14, 18, "reference at 14")],
)  # fmt: skip
def test_the_first_batch_that_fails_is_told_and_no_thread_is_left(kind, reference_at, engine_at, first):
    rows = np.zeros((IMAGES, 3), np.float32)
    seen: list[int] = []
    with pytest.raises(EngineError, match=first):
        stream(
            CASE, engine_name="fp16", classes=("a", "b", "c"), scores="y", truth=np.full(IMAGES, -1),
            batches=indices(IMAGES), reference=Broken(rows, reference_at, "reference"),
            engine=kind(rows, engine_at, "engine"), advance=seen.append,
        )  # fmt: skip
    assert sum(seen) <= min(reference_at, engine_at)
    assert left_over() == []


def test_an_image_that_cannot_be_read_is_told_after_the_batches_before_it():
    def batches() -> Iterator[Batch]:
        yield from list(indices(IMAGES))[:3]
        raise DataError("image 12 is damaged")

    rows = np.zeros((IMAGES, 3), np.float32)
    seen: list[int] = []
    with pytest.raises(DataError, match="image 12"):
        stream(
            CASE, engine_name="fp16", classes=("a", "b", "c"), scores="y", truth=np.full(IMAGES, -1),
            batches=batches(), reference=FakeReference(y=rows), engine=FakeEngine(y=rows),
            advance=seen.append,
        )  # fmt: skip
    assert sum(seen) == 12


@pytest.mark.parametrize("kind", [FakeEngine, Ahead])
def test_who_stops_leaves_no_thread(kind):
    rows = {"y": np.zeros((IMAGES, 3), np.float32)}
    chunks = answering.answered(indices(IMAGES), FakeReference(**rows), kind(**rows))
    next(chunks)
    assert left_over()
    chunks.close()
    assert left_over() == []


@pytest.mark.parametrize("kind", [FakeEngine, Ahead])
def test_an_interrupted_comparison_leaves_no_thread(kind):
    def interrupt(_count: int) -> None:
        raise KeyboardInterrupt

    rows = {"y": np.zeros((IMAGES, 3), np.float32)}
    with pytest.raises(KeyboardInterrupt):
        compared(rows, kind(**rows), advance=interrupt, case=replace(CASE, top_k=1))
    assert left_over() == []


class Short(Ahead):
    """Answers two batches and no more."""

    def infer_many(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        for _, feeds in zip(range(2), batches, strict=False):
            yield self.infer(feeds)


def test_an_engine_that_stops_answering_is_an_error():
    rows = {"y": np.zeros((IMAGES, 3), np.float32)}
    with pytest.raises(EngineError, match="answered fewer batches"):
        compared(rows, Short(**rows))
    assert left_over() == []
