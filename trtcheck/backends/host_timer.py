"""Times queries by the host's clock: what runs where it is called, on the processor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import final

import numpy as np

from trtcheck.backends.base import Closing
from trtcheck.errors import EngineError
from trtcheck.latency.timing import Block, Clock, TimingMode

_NS_PER_MS = 1e6


@final
class HostTimer(Closing):
    """A query that is over when its call returns; a `trtcheck.latency.timing.Timer`.

    Args:
        run: Runs one query; inputs and outputs are bound, so that nothing but the engine's work is timed.
        path: The engine's file, for messages.
        spin_wait: Whether the threads that *run* works with spin while they wait.
        failing: Turns what the runtime raises into an `EngineError`.
    """

    def __init__(
        self, run: Callable[[], object], *, path: Path, spin_wait: bool,
        failing: Callable[[], AbstractContextManager[None]],
    ) -> None:  # fmt: skip
        self._run: Callable[[], object] | None = run
        self._path = path
        self._failing = failing
        self._mode = TimingMode(Clock.HOST, transfers=False, cuda_graph=False, spin_wait=spin_wait)

    @property
    def mode(self) -> TimingMode:
        """How it takes the time."""
        return self._mode

    def block(self, queries: int) -> Block:
        """Runs *queries* queries one after the other.

        Raises:
            EngineError: The runtime failed, or the engine is closed.
        """
        run, clock = self._run, perf_counter_ns
        if run is None:
            raise EngineError("the engine is closed", where=self._path)
        times = [0] * queries
        with self._failing():
            began = perf_counter()
            for query in range(queries):
                start = clock()
                run()
                times[query] = clock() - start
            seconds = perf_counter() - began
        return Block(np.array(times, np.float64) / _NS_PER_MS, seconds)

    def close(self) -> None:
        """Lets go of the engine; a second time does nothing."""
        self._run = None
