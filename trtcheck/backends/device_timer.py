"""Times queries by CUDA events on the stream that an engine works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from trtcheck.backends.base import Closing
from trtcheck.errors import BackendError, EngineError
from trtcheck.latency.timing import Block, Clock, TimingMode

if TYPE_CHECKING:
    from trtcheck.backends.cuda import Buffer, Call, Device, Stream


class Query(NamedTuple):
    """What one query puts on the stream, in this order.

    Attributes:
        uploads: Copies of inputs to the GPU, where they are timed.
        run: Puts the engine's work on the stream, without waiting for it; raises where it fails.
        downloads: Copies of outputs to the host, where they are timed.
    """

    uploads: Sequence[Call]
    run: Callable[[], object]
    downloads: Sequence[Call]

    @classmethod
    def of(
        cls, stream: Stream, inputs: Iterable[Buffer], run: Callable[[], object], outputs: Iterable[Buffer]
    ) -> Query:
        """A query that copies these buffers; one of no bytes needs no copy."""
        return cls(
            [buffer.uploading(stream) for buffer in inputs if buffer.nbytes],
            run,
            [buffer.downloading(stream) for buffer in outputs if buffer.nbytes],
        )


@final
class DeviceTimer(Closing):
    """From an event before a query's first work to one behind its last; a `trtcheck.latency.timing.Timer`.

    Both events lie on the stream, which is empty when a query begins: what the host takes to put the work
    there is part of the time, as it is for the user, and so is what the engine runs on the processor. What it
    takes to notice the end is not.

    Args:
        device: The GPU.
        stream: Where the engine works.
        ready: Makes the engine ready to be timed, uploads and warms up what that takes, and tells its work;
            called before every block.
        transfers: Whether that work copies inputs and outputs.
        cuda_graph: Whether it is replayed as a CUDA graph.
        spin_wait: Whether the host spins while it waits for the end of a query; else it sleeps
            (``CU_EVENT_BLOCKING_SYNC``), as in trtexec without ``--useSpinWait``.
        path: The engine's file, for messages.
        failing: Turns what the runtime raises into an `EngineError`.

    Raises:
        BackendError: CUDA makes no event.
    """

    def __init__(
        self, device: Device, stream: Stream, ready: Callable[[], Query], *, transfers: bool,
        cuda_graph: bool, spin_wait: bool, path: Path, failing: Callable[[], AbstractContextManager[object]],
    ) -> None:  # fmt: skip
        self._device = device
        self._ready: Callable[[], Query] | None = ready
        self._path = path
        self._failing = failing
        self._mode = TimingMode(Clock.DEVICE, transfers, cuda_graph, spin_wait)
        start, end = device.event(), device.event(blocking=not spin_wait)
        self._start, self._end = start.recording(stream), end.recording(stream)
        self._wait, self._elapsed = end.waiting(), end.ms_since(start)

    @property
    def mode(self) -> TimingMode:
        """How it takes the time."""
        return self._mode

    def block(self, queries: int) -> Block:
        """Runs *queries* queries, waiting for each before the next is handed over.

        Raises:
            EngineError: The runtime or CUDA failed, or the engine is closed.
        """
        if self._ready is None:
            raise EngineError("the engine is closed", where=self._path)
        try:
            with self._failing():
                self._device.activate()
                query = self._ready()
                began = perf_counter()
                times = self._timed(query, queries)
                seconds = perf_counter() - began
        except BackendError as error:
            raise EngineError(str(error), where=self._path) from error
        return Block(np.array(times, np.float64), seconds)

    def _timed(self, query: Query, queries: int) -> list[float]:
        """Milliseconds of every query. What fails (a status other than zero) is told once the GPU is done."""
        start, end, wait, elapsed = self._start, self._end, self._wait, self._elapsed
        uploads, run, downloads = query
        times = [0.0] * queries
        for index in range(queries):
            failed = start()[0]
            for copy in uploads:
                failed = failed or copy()[0]
            run()
            for copy in downloads:
                failed = failed or copy()[0]
            failed = end()[0] or wait()[0] or failed
            status, times[index] = elapsed()
            if failed or status:
                self._device.checked("time a query", (failed or status,))
        return times

    def close(self) -> None:
        """Lets go of the engine; a second time does nothing. Its events are the device's to release."""
        self._ready = None
