"""Bare timing loops, which share the session with trtcheck's timers and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import onnxruntime

FIRST_GRAPH = 1000
"""Where the loops' CUDA graphs are numbered from, by batch size: trtcheck counts its own from 1."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a loop measured.

    Attributes:
        samples_ms: Time of every query by the loop's own clock: CUDA events, or the host's.
        wall_ms: Time of every query by the host's clock, from its call until its work was done.
    """

    samples_ms: np.ndarray
    wall_ms: np.ndarray


class Loop(Protocol):
    """One session with its inputs and outputs bound."""

    def sample(self, queries: int) -> Sampled:
        """Runs *queries* queries one after the other."""
        ...


class OnTheCpu:
    """A session on the processor, timed by ``perf_counter`` around each call.

    Args:
        session: ONNX Runtime's session.
        images: Its input.
    """

    def __init__(self, session: Any, images: np.ndarray) -> None:
        self._session = session
        self._io = self._session.io_binding()
        self._io.bind_cpu_input("images", images)
        self._io.bind_output("scores")

    def sample(self, queries: int) -> Sampled:
        """Runs *queries* queries."""
        found = np.empty(queries)
        for query in range(queries):
            start = perf_counter()
            self._session.run_with_iobinding(self._io)
            found[query] = (perf_counter() - start) * 1e3
        return Sampled(found, found)


class OnTheGpu:
    """A session on its stream, timed by an event before its first work and one after its last.

    Two sessions of one file differ by up to 2 % where the host launches kernels more slowly than the GPU runs
    them, so the loop takes the session that trtcheck opened; inputs, outputs, events and calls are its own.

    Args:
        session: ONNX Runtime's session.
        stream: The stream that it works on.
        images: Its input.
        cuda_graph: Whether the work is replayed as a CUDA graph.
    """

    def __init__(self, session: Any, stream: int, images: np.ndarray, *, cuda_graph: bool) -> None:
        from cuda.bindings import driver

        self._driver = driver
        self._got(driver.cuInit(0))
        context = self._got(driver.cuDevicePrimaryCtxRetain(self._got(driver.cuDeviceGet(0))))
        self._got(driver.cuCtxSetCurrent(context))
        self._stream = stream
        # The host sleeps while it waits, as trtcheck's does by default: it then launches kernels as late.
        flags = driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC
        self._events = [self._got(driver.cuEventCreate(flags)) for _ in range(2)]
        self._session = session
        self._values = onnxruntime.OrtValue.ortvalue_from_numpy(images, "cuda", 0)
        scores = self._session.get_outputs()[0]
        shape = [len(images), scores.shape[1]]
        self._scores = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0)
        self._io = self._session.io_binding()
        self._io.bind_ortvalue_input("images", self._values)
        self._io.bind_ortvalue_output("scores", self._scores)
        self._run_options = onnxruntime.RunOptions()
        # ONNX Runtime would wait for the stream before it returns, and the last event come after that.
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        # -1 records none. It is always said: ONNX Runtime 1.32 takes 36 µs a run to find out that it is not.
        self._run_options.add_run_config_entry(
            "gpu_graph_id", str(FIRST_GRAPH + len(images)) if cuda_graph else "-1"
        )

    def sample(self, queries: int) -> Sampled:
        """Runs *queries* queries."""
        driver, (before, after) = self._driver, self._events
        samples, wall = np.empty(queries), np.empty(queries)
        for query in range(queries):
            start = perf_counter()
            driver.cuEventRecord(before, self._stream)
            self._session.run_with_iobinding(self._io, self._run_options)
            driver.cuEventRecord(after, self._stream)
            self._got(driver.cuEventSynchronize(after))
            wall[query] = (perf_counter() - start) * 1e3
            samples[query] = self._got(driver.cuEventElapsedTime(before, after))
        return Sampled(samples, wall)

    def _got(self, answer: tuple[Any, ...]) -> Any:
        status, *values = answer
        if int(status):
            raise RuntimeError(f"CUDA: {status!r}")
        return values[0] if values else None


def loop(loaded: Any, images: np.ndarray, *, gpu: bool, cuda_graph: bool) -> Loop:
    """A loop over the session of the *loaded* engine, warmed up."""
    made: Loop
    if gpu:
        made = OnTheGpu(loaded._session, loaded.stream.handle, images, cuda_graph=cuda_graph)
    else:
        made = OnTheCpu(loaded._session, images)
    made.sample(10)
    return made
