"""What reference and engine answer to the same batches: asked in threads of their own, ahead of who compares.

Batches are handed on by the chunk, some hundred images, so that small ones do not cost a thread's turn each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np

from trtcheck.data.batches import Batch
from trtcheck.errors import EngineError
from trtcheck.worker import Worker

if TYPE_CHECKING:
    from trtcheck.backends.base import LoadedEngine

Outputs = Mapping[str, np.ndarray]
"""Arrays by name of output; first axis the image, where there is one row an image."""

Ask = Callable[[Iterator[Batch]], Iterator[Outputs]]
"""What answers batches, one by one in order."""

CHUNK_IMAGES = 512
"""Images that are compared at once, at most: so many that numpy's cost of a call does not count."""
CHUNK_BYTES = 32 << 20
"""Bytes of inputs and outputs of a chunk; a batch of more is a chunk of its own."""


class Reference(Protocol):
    """Where the reference's answers come from: a session, or the cache of an earlier one."""

    def answers(self, batch: Batch) -> Outputs:
        """Outputs for the real images of *batch* (count, ...), by name."""
        ...


@dataclass(frozen=True, eq=False)
class Answered:
    """A batch and what was answered to it, without the rows of padding.

    Attributes:
        start: Index of its first image.
        count: Number of its images.
        reference: Outputs of the reference.
        candidate: Outputs of the engine.
    """

    start: int
    count: int
    reference: Outputs
    candidate: Outputs


def answered(
    batches: Iterator[Batch], reference: Reference, engine: LoadedEngine
) -> Generator[list[Answered]]:
    """Chunks of consecutive batches with the answers of both sides, in order.

    An engine that works ahead by itself (``infer_many``), as those on a GPU do, and the reference are asked
    at the same time; else one after the other, a chunk each, since each uses all of the processor and what it
    finds in the caches. A side that has a thread of its own (``worker``) is asked there, for what it keeps
    with a thread it keeps then from one pass to the next.

    Args:
        batches: Batches in order.
        reference: One side.
        engine: The other.

    Returns:
        An iterator; closing it early ends the threads.

    Raises:
        TrtcheckError: What the batches, the reference or the engine raise, once all chunks before are given.
    """
    old = getattr(reference, "answers_many", lambda taken: map(reference.answers, taken))
    many = getattr(engine, "infer_many", None)
    new: Ask = lambda taken: _ahead(taken, many) if many else _one_by_one(taken, engine)  # noqa: E731
    sides = [(ask, getattr(side, "worker", None)) for ask, side in ((old, reference), (new, engine))]
    if many is None:
        return _chunks(batches, sides, ahead=1, turn=Lock())
    return _chunks(batches, sides, ahead=2, turn=nullcontext())


def real_rows(outputs: Outputs, batch: Batch) -> Outputs:
    """The *outputs* without the rows of padding; those without one row an image stay as they are."""
    size = len(next(iter(batch.feeds.values())))
    if size == batch.count:
        return outputs
    return {
        name: value[: batch.count] if value.ndim and len(value) == size else value
        for name, value in outputs.items()
    }


def _one_by_one(batches: Iterable[Batch], engine: LoadedEngine) -> Iterator[Outputs]:
    for batch in batches:
        yield real_rows(engine.infer(batch.feeds), batch)


def _ahead(batches: Iterable[Batch], many: Callable[..., Iterator[Outputs]]) -> Iterator[Outputs]:
    """What an engine answers that takes batches before it has answered earlier ones."""
    taken: deque[Batch] = deque()

    def feeds() -> Iterator[Outputs]:
        for batch in batches:
            taken.append(batch)
            yield batch.feeds

    for outputs in many(feeds()):
        yield real_rows(outputs, taken.popleft())


def _chunks(
    batches: Iterator[Batch],
    sides: list[tuple[Ask, Worker | None]],
    ahead: int,
    turn: AbstractContextManager[Any],
) -> Generator[list[Answered]]:
    """Feeds a lane for each of *sides*, *ahead* chunks before the one whose answers are waited for."""
    lanes: list[_Lane] = []
    grouped = _Grouped(batches)
    waiting: deque[list[Batch]] = deque()
    try:
        for ask, worker in sides:
            lanes.append(_Lane(ask, turn, worker))
        for chunk in grouped:
            waiting.append(chunk)
            for lane in lanes:
                lane.put(chunk)
            if len(waiting) > ahead:
                yield grouped.learn(_collected(waiting.popleft(), lanes))
        for lane in lanes:
            lane.put(None)
        while waiting:
            yield _collected(waiting.popleft(), lanes)
        if grouped.error is not None:
            raise grouped.error
    finally:
        for lane in lanes:
            lane.end()
        close = getattr(batches, "close", None)
        if close is not None:
            close()  # ends whoever makes batches ahead


def _collected(chunk: list[Batch], lanes: list[_Lane]) -> list[Answered]:
    """The answers of all *lanes* to *chunk*.

    Raises:
        TrtcheckError: What was raised at the earliest batch; of several lanes, the first one's.
    """
    taken = [lane.get() for lane in lanes]
    failed = [(len(answers), error) for answers, error in taken if error is not None]
    if failed:
        raise min(failed, key=lambda one: one[0])[1]
    columns = (answers for answers, _ in taken)
    return [
        Answered(batch.start, batch.count, old, new) for batch, old, new in zip(chunk, *columns, strict=True)
    ]


@final
class _Grouped:
    """Batches in chunks; single ones until it is known how large their outputs are.

    Attributes:
        error: What the batches raised in the end, which is due after the answers to those before.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._answer_bytes = 0
        """Largest size of the answers to one batch; 0 where none was seen yet."""
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[list[Batch]]:
        chunk: list[Batch] = []
        images = taken = 0
        try:
            for batch in self._batches:
                chunk.append(batch)
                images += batch.count
                taken += self._answer_bytes + sum(feed.nbytes for feed in batch.feeds.values())
                share = taken / len(chunk)
                full = images + batch.count > CHUNK_IMAGES or taken + share > CHUNK_BYTES
                if full or not self._answer_bytes:
                    yield chunk
                    chunk, images, taken = [], 0, 0
        except Exception as error:  # noqa: BLE001  raised when it is due
            self.error = error
        if chunk:
            yield chunk

    def learn(self, chunk: list[Answered]) -> list[Answered]:
        """Notes how much room the answers of a *chunk* take; returns it."""
        for one in chunk:
            values = (*one.reference.values(), *one.candidate.values())
            self._answer_bytes = max(self._answer_bytes, 1, sum(value.nbytes for value in values))
        return chunk


@final
class _Lane:
    """One side, which answers in a thread of its own.

    Args:
        ask: Makes answers to batches, one each, in order; it may take some ahead.
        turn: Held while a chunk is answered: a lock, where the lanes are not to work at the same time.
        worker: Where it answers; None for a new thread.
    """

    def __init__(self, ask: Ask, turn: AbstractContextManager[Any], worker: Worker | None) -> None:
        self._turn = turn
        self._todo: SimpleQueue[list[Batch] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[list[Outputs], BaseException | None]] = SimpleQueue()
        self._sizes: deque[int] = deque()
        self._given_up = False
        self._worker, self._own = (Worker("trtcheck-answers"), True) if worker is None else (worker, False)
        self._ended = self._worker.submit(lambda: self._work(ask))

    def put(self, chunk: list[Batch] | None) -> None:
        """Hands over the next chunk; None after the last."""
        self._todo.put(chunk)

    def get(self) -> tuple[list[Outputs], BaseException | None]:
        """The answers to the next chunk, or those before an error, and the error."""
        return self._done.get()

    def end(self) -> None:
        """Ends the thread after the batch that it is at."""
        self._given_up = True
        self._todo.put(None)
        self._ended.wait()
        if self._own:
            self._worker.close()

    def _taken(self) -> Generator[Batch]:
        while (chunk := self._todo.get()) is not None:
            self._sizes.append(len(chunk))
            with self._turn:
                for batch in chunk:
                    if self._given_up:
                        return
                    yield batch

    def _work(self, ask: Ask) -> None:
        answers: list[Outputs] = []
        try:
            with closing(self._taken()) as taken:  # an error leaves it in the middle of a turn
                for answer in ask(taken):
                    answers.append(answer)
                    if len(answers) == self._sizes[0]:
                        self._done.put((answers, None))
                        answers = []
                        self._sizes.popleft()
            # Read only where answers are missing; whoever waits for them would do so for ever.
            self._done.put((answers, EngineError("the engine answered fewer batches than it was given")))
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits for the answers
            self._done.put((answers, error))
