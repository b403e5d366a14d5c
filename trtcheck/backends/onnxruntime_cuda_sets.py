"""Which buffers a batch of a session on a GPU goes through, and batches that are worked on ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import final

import numpy as np

from trtcheck.backends.onnxruntime_cuda_bound import Bound
from trtcheck.errors import BackendError, EngineError

_SHAPES_KEPT = 4
"""Shapes whose buffers are kept: a full and a last batch, and as many of another size."""

Shapes = tuple[tuple[int, ...], ...]
Batch = dict[str, np.ndarray]
"""A batch whose arrays are known to fit the session, or its answers."""


def shapes_of(batch: Mapping[str, np.ndarray]) -> Shapes:
    """Those of its arrays, in their order."""
    return tuple(array.shape for array in batch.values())


@final
class BoundSets:
    """Sets of buffers by the shapes of a batch: one, and another while the first is in flight.

    Args:
        make: Makes a set for a batch like this.
    """

    def __init__(self, make: Callable[[Mapping[str, np.ndarray]], Bound]) -> None:
        self._make = make
        self._sets: dict[Shapes, list[Bound]] = {}

    def free(self, batch: Batch) -> Bound:
        """A set for *batch* that no batch in flight uses; shapes longest unused make room."""
        shapes = shapes_of(batch)
        known = self._sets.pop(shapes, None)
        if known is None:
            self._make_room()
            known = []
        self._sets[shapes] = known
        for bound in known:
            if not bound.busy:
                return bound
        known.append(self._make(batch))
        return known[-1]

    def _make_room(self) -> None:
        unused = [shapes for shapes, sets in self._sets.items() if not any(bound.busy for bound in sets)]
        for shapes in unused[: max(0, len(self._sets) - _SHAPES_KEPT + 1)]:
            for bound in self._sets.pop(shapes):
                bound.close()

    def let_go(self) -> None:
        """Lets go of the session; the buffers are the device's to free."""
        for sets in self._sets.values():
            for bound in sets:
                bound.let_go()
        self._sets.clear()


@final
class WorkedAhead:
    """Answers of many batches, in order: while the GPU works on one, the next is brought to it.

    At most one batch is in flight when the next is asked for. What cannot be started and waited for later
    (see `Bound.overlaps`) is run by itself, once the answers of the batch before are given.

    Args:
        fitted: Checks a batch.
        free: Finds buffers for it.
        failing: Turns what the runtime raises into an `EngineError`.
    """

    def __init__(
        self,
        fitted: Callable[[Mapping[str, np.ndarray]], Batch],
        free: Callable[[Batch], Bound],
        failing: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._fitted = fitted
        self._free = free
        self._failing = failing
        self._ahead: deque[Bound] = deque()

    def answers(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Batch]:
        """Answers of *batches*. What fails is raised in the place of its answers."""
        try:
            try:
                for feeds in batches:
                    yield from self._advance(self._fitted(feeds))
            except Exception:
                yield from self._given(waiting=0)
                raise
            yield from self._given(waiting=0)
        finally:
            self._abandon()

    def _advance(self, batch: Batch) -> Iterator[Batch]:
        with self._failing():
            bound = self._free(batch)
            started = bound.overlaps
            if started:
                bound.start(batch)
                self._ahead.append(bound)
        if started:
            yield from self._given(waiting=1)
        else:
            bound.busy = True  # whoever is given the answers may use the session before he asks for the next
            try:
                yield from self._given(waiting=0)
            finally:
                bound.busy = False
            with self._failing():
                answers = bound.run(batch)
            yield answers

    def _given(self, *, waiting: int) -> Iterator[Batch]:
        """The answers of all started batches but the last *waiting*."""
        while len(self._ahead) > waiting:
            bound = self._ahead.popleft()
            try:
                with self._failing():
                    answers = bound.answers()
            except EngineError:
                self._abandon()  # the answers after it are not given in its place
                raise
            yield answers

    def _abandon(self) -> None:
        """Waits for what was started and is not asked for any more."""
        while self._ahead:
            with suppress(BackendError):  # told where it was asked for, or nowhere
                self._ahead.popleft().answers()
