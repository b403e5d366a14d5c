"""Bare timing loops, which share the settings of the session with trtcheck's timers and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import onnxruntime

from trtcheck.backends.onnxruntime import session_options


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
        path: The engine.
        images: Its input.
        threads: As trtcheck has them.
    """

    def __init__(self, path: Path, images: np.ndarray, threads: int) -> None:
        self._session = onnxruntime.InferenceSession(
            str(path), session_options(threads), providers=["CPUExecutionProvider"]
        )
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
    """A session on a stream of its own, timed by an event before its first work and one after its last.

    Args:
        path: The engine.
        images: Its input.
        threads: As trtcheck has them.
        tf32: Whether products may read their inputs as TF32.
        cuda_graph: Whether the work is replayed as a CUDA graph.
    """

    def __init__(self, path: Path, images: np.ndarray, threads: int, *, tf32: bool, cuda_graph: bool) -> None:
        from cuda.bindings import driver

        from trtcheck.backends.onnxruntime_cuda_session import provider_options

        self._driver = driver
        self._got(driver.cuInit(0))
        context = self._got(driver.cuDevicePrimaryCtxRetain(self._got(driver.cuDeviceGet(0))))
        self._got(driver.cuCtxSetCurrent(context))
        self._stream = self._got(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        # The host sleeps while it waits, as trtcheck's does by default: it then launches kernels as late.
        flags = driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC
        self._events = [self._got(driver.cuEventCreate(flags)) for _ in range(2)]
        options = provider_options(0, tf32=tf32, cuda_graph=cuda_graph)
        options["user_compute_stream"] = str(int(self._stream))
        self._session = onnxruntime.InferenceSession(
            str(path), session_options(threads), providers=[("CUDAExecutionProvider", options)]
        )
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
        self._run_options.add_run_config_entry("gpu_graph_id", "1" if cuda_graph else "-1")

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


@contextmanager
def loop(
    path: Path, images: np.ndarray, threads: int, *, gpu: bool, tf32: bool, cuda_graph: bool
) -> Iterator[Loop]:
    """A loop over the engine at *path*, warmed up."""
    made: Loop
    if gpu:
        made = OnTheGpu(path, images, threads, tf32=tf32, cuda_graph=cuda_graph)
    else:
        made = OnTheCpu(path, images, threads)
    made.sample(10)
    yield made
