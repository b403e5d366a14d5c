"""The times of a recording as a measurement: what a device measured by itself, with trtexec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trtcheck import digests
from trtcheck.errors import EngineError
from trtcheck.latency.measurement import ENGINE, Health, Measurement, Timings, WarmUp
from trtcheck.latency.plateau import HALF, settled
from trtcheck.latency.timing import Clock, TimingMode
from trtcheck.recordings.recording import Format

if TYPE_CHECKING:
    from trtcheck.case import LatencySpec
    from trtcheck.recordings.recording import Recording, TimedRun, Times

QUERIES = 10
"""Fewest queries of a round; trtexec itself times no fewer."""

_UNKNOWN = "clocks, temperature and other processes of the device while it was timed: no recording has them"


def recorded_measurement(recording: Recording, spec: LatencySpec) -> Measurement:
    """What the device measured, as a measurement of the engine alone: there is nothing beside it.

    Every run of trtexec is cut into the rounds that *spec* asks for, fewer where they would have fewer than
    10 queries; what is left over at the end of a run does not count. trtexec leaves its warm-up out of the
    file: that it sufficed is held against the rounds, where there are enough to see a trend in them.

    Args:
        recording: The recording, with times.
        spec: Rounds, and whether transfers are part of the time; how queries were run the sidecar says.

    Raises:
        EngineError: There are no times, none with transfers where they are wanted, or one that is 0; or how
            many images a query had is not known.
    """
    times, sidecar = _times(recording, spec), recording.sidecar
    shortest = min(len(run.start_ms) for run in times.runs)
    rounds = max(1, min(spec.rounds, shortest // QUERIES))
    kept = [_rounds(run, spec, rounds, shortest // rounds) for run in times.runs]
    warm = rounds < 2 * HALF or all(settled(np.median(own, axis=1).tolist()) for own, _ in kept)
    samples, seconds = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    if samples.min() <= 0:
        raise EngineError(
            "a query took no time", where=recording.path, expected="milliseconds above 0 for every query",
            found=f"{samples.min():g} ms without transfers",
        )  # fmt: skip
    mode = TimingMode(Clock.DEVICE, spec.transfers, sidecar.cuda_graph, sidecar.spin_wait)
    watts = sidecar.power_w
    return Measurement(
        batch=_batch(recording),
        timings={ENGINE: Timings(mode, samples, seconds)},
        warm_up=WarmUp(warm, float(sum(run.start_ms[0] for run in times.runs)) / 1e3, 0),
        looks=((len(samples), 1.0),),
        health=Health(unknown=(_UNKNOWN,)),
        joules_per_query=None if watts is None else watts * float(seconds.sum()) / samples.size,
    )


def session_ids(recording: Recording) -> tuple[str, ...]:
    """What tells runs of trtexec apart, in whatever recording they are found: the digests of their times.

    Each is a process of its own, and so a session; they share the rounds of `recorded_measurement` evenly.
    """
    runs = () if recording.times is None else recording.times.runs
    return tuple(digests.of_array(np.stack([run.latency_ms, run.compute_ms, run.start_ms])) for run in runs)


def _rounds(run: TimedRun, spec: LatencySpec, rounds: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Times (rounds, queries) in ms, and seconds (rounds,) from each round's start to that of the next."""
    kept = rounds * queries
    latency, start = run.latency_ms[:kept], run.start_ms[:kept]
    edges = np.append(start[::queries], start[-1] + latency[-1])
    whole = latency.reshape(rounds, queries)
    # Starts have six digits: after a long time they may leave nothing between two of them.
    seconds = np.maximum(np.diff(edges), whole.min(axis=1)) / 1e3
    return (whole if spec.transfers else run.compute_ms[:kept].reshape(rounds, queries)), seconds


def _times(recording: Recording, spec: LatencySpec) -> Times:
    where = recording.sidecar.path or recording.path
    if recording.times is None:
        raise EngineError(
            "the recording has no times", where=where, expected="a file of trtexec --exportTimes",
            found=", ".join(f"{file.name} is not there" for file in recording.missing_times) or "none",
            hint='name it in the sidecar: times = "times.json"',
        )  # fmt: skip
    if spec.transfers and not recording.times.transfers:
        raise EngineError(
            "the recording's times hold no transfers", where=where,
            expected="times with transfers, as transfers = true in the table latency asks for",
            found="times of the computation alone",
            hint="trtexec 11 times transfers with --includeDataTransfers, 8 and 10 do unless told not to",
        )  # fmt: skip
    return recording.times


def _batch(recording: Recording) -> int:
    """Images of a query: trtexec answers one in a run, so that a single file of it is a batch."""
    if recording.batch is not None:
        return recording.batch
    if recording.format is Format.TRTEXEC:
        return recording.rows
    raise EngineError(
        "how many images a timed query had is not known", where=recording.sidecar.path or recording.path,
        expected="batch = (images of a query) in the sidecar",
        found=f"{recording.rows} rows in one {recording.format} file",
    )  # fmt: skip
