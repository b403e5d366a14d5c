"""Times of two identical builds and a slower one on this machine's processor, as trtcheck takes them.

Every process times the builds in ABBA rounds of which twelve make a measurement, and loads them anew every
three rounds; no round is drawn or used twice. The slower build has one layer more, of the same size as the
others.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
from latency_data import OLD, ROUNDS, SAME, SEED, SLOWER, Rounds, Times, log_ratios
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends import timing_reference
from trtcheck.latency.measurement import ENGINE
from trtcheck.latency.sampling import Reload, measure
from trtcheck.latency.timing import Timer

CHANNELS, SIDE = 16, 14
FIRST_DEPTH = 18
"""Layers of the models that show what a layer costs."""
WANTED = 0.05
"""By how much the slower build is to be slower, about."""
BACKEND = "onnxruntime-cpu"


@dataclass(frozen=True)
class Taking:
    """How much is timed.

    Attributes:
        minutes: When to start no further process.
        measurements: Measurements of a process.
        budget: Seconds of a process at most, a third of them for warming up.
        threads: Threads of each build.
    """

    minutes: float
    measurements: int = 8
    budget: float = 60.0
    threads: int = 1


@dataclass(frozen=True)
class Taken:
    """What was timed.

    Attributes:
        times: The times.
        depth: Layers of the identical builds.
        unsettled: Processes whose times had not settled when the warm-up ended.
        dropped: Processes that did not get through all rounds in time, which are left out.
    """

    times: Times
    depth: int
    unsettled: int
    dropped: int


@dataclass(frozen=True)
class Process:
    """What one process timed.

    Attributes:
        rounds: Milliseconds by build (N, S).
        settled: Whether the times had settled when the warm-up ended.
        complete: Whether all rounds were done in time.
    """

    rounds: Rounds
    settled: bool
    complete: bool


def take(taking: Taking) -> Taken:
    """Times the builds in one process after the other, until the time is up."""
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool,
    ):

        def timed(depth: int) -> Process:
            paths = {OLD: Path(folder, f"{depth}.onnx"), SLOWER: Path(folder, f"{depth + 1}.onnx")}
            for more, path in enumerate(paths.values()):
                onnx.save(model(depth + more), path)
            return pool.submit(in_a_process, {**paths, SAME: paths[OLD]}, taking).result()

        depth = fitting_depth(timed(FIRST_DEPTH).rounds)
        found = [timed(depth), timed(depth)]
        while time.monotonic() - started < 60 * taking.minutes:
            found.append(timed(depth))
    processes = [one.rounds for one in found if one.complete]
    separate = {build: [rounds[build][:ROUNDS].ravel() for rounds in processes] for build in (OLD, SLOWER)}
    settled = [one.settled for one in found]
    return Taken(
        Times(processes, separate, resampled=False), depth, settled.count(False), len(found) - len(processes)
    )


def in_a_process(paths: Mapping[str, Path], taking: Taking) -> Process:
    """Times the builds at *paths* in common rounds."""
    feeds = {"input": np.random.default_rng(SEED).random((1, CHANNELS, SIDE, SIDE), dtype=np.float32)}
    rounds = ROUNDS * taking.measurements
    with ExitStack() as stack:

        def load() -> dict[str, Timer]:
            stack.close()
            timers = {}
            for build, path in paths.items():
                loaded, _ = timing_reference(
                    path, BACKEND, threads=taking.threads, cuda_graph=False, spin_wait=False
                )
                stack.enter_context(closing(loaded))
                # `measure` asks for an engine among the contestants; to it, one is as good as another.
                name = ENGINE if build == OLD else build
                timers[name] = loaded.timer(feeds, transfers=False, spin_wait=False)
            return timers

        began = time.perf_counter()
        timers = load()
        reload = Reload(load, time.perf_counter() - began)
        sampled = measure(
            timers, rounds=rounds, budget_s=taking.budget, undecided=lambda _timings, _share: False,
            looks=((rounds, 1.0),), between=lambda: None, advance=lambda _rounds: None, reload=reload,
        )  # fmt: skip
    samples = {name: timed.samples_ms for name, timed in sampled.timings.items()}
    rounds_ms = {OLD: samples.pop(ENGINE), **samples}
    return Process(rounds_ms, sampled.warm_up.plateau, sampled.complete)


def fitting_depth(rounds: Rounds) -> int:
    """Layers of which one more takes about 5 % more time, from the times of 18 and of 19."""
    gain = float(np.expm1(np.median(log_ratios(rounds[SLOWER], rounds[OLD]))))
    # All that is no layer, such as the call itself, costs as much as some more layers.
    others = 1 / max(gain, 0.01) - FIRST_DEPTH
    return max(1, round(1 / WANTED - others))


def model(depth: int) -> onnx.ModelProto:
    """A chain of *depth* convolutions of 3 x 3 with ReLU."""
    rng = np.random.default_rng(SEED)
    nodes, weights = [], []
    for layer in range(depth):
        kernel = rng.normal(size=(CHANNELS, CHANNELS, 3, 3)).astype(np.float32) / (3 * CHANNELS**0.5)
        weights.append(numpy_helper.from_array(kernel, f"weights_{layer}"))
        source = f"relu_{layer - 1}" if layer else "input"
        nodes.append(helper.make_node("Conv", [source, f"weights_{layer}"], [f"conv_{layer}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"conv_{layer}"], [f"relu_{layer}"]))
    shape = [1, CHANNELS, SIDE, SIDE]
    graph = helper.make_graph(
        nodes, "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"relu_{depth - 1}", TensorProto.FLOAT, shape)],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
