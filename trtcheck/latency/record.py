"""A latency measurement with all that judging it needs, and its way between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from trtcheck.baselines.latency_schema import LatencyRun, StoredSession
from trtcheck.case import Numerics
from trtcheck.latency.measurement import Health, Measurement, Timings, WarmUp
from trtcheck.latency.timing import Clock, TimingMode

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class LatencyResult:
    """What a session measured of one engine at one batch size.

    Attributes:
        measurement: Times and the state of the machine.
        runs: What it leaves for baselines, environment included: one, or one a run of a recording.
        shown: What each contestant is, in words, by name.
        backend: Name of the backend that ran the engine.
        precision: The engine's precision; None for a file's.
        numerics: How its answers come about.
    """

    measurement: Measurement
    runs: tuple[LatencyRun, ...]
    shown: Mapping[str, str]
    backend: str
    precision: str | None
    numerics: Numerics

    @property
    def run(self) -> LatencyRun:
        """The first run, of whose model, engine and environment the others are, too."""
        return self.runs[0]


def to_parts(result: LatencyResult) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A JSON-ready record and arrays; see `from_parts`."""
    measured = result.measurement
    arrays: dict[str, np.ndarray] = {}
    timings = []
    for number, (name, timed) in enumerate(measured.timings.items()):
        arrays[f"samples{number}"], arrays[f"seconds{number}"] = timed.samples_ms, timed.seconds
        timings.append({"name": name, "mode": asdict(timed.mode)})
    record = {
        "batch": measured.batch,
        "timings": timings,
        "warm_up": asdict(measured.warm_up),
        "looks": [list(look) for look in measured.looks],
        "health": asdict(measured.health),
        "joules_per_query": measured.joules_per_query,
        "absent": dict(measured.absent),
        "complete": measured.complete,
        "unlocked": measured.unlocked,
        "runs": [run_record(run) for run in result.runs],
        "shown": dict(result.shown),
        "backend": result.backend,
        "precision": result.precision,
        "numerics": result.numerics.value,
    }
    return record, arrays


def from_parts(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> LatencyResult:
    """What `to_parts` took apart."""
    timings = {
        own["name"]: Timings(_mode(own["mode"]), arrays[f"samples{number}"], arrays[f"seconds{number}"])
        for number, own in enumerate(record["timings"])
    }
    health = record["health"]
    measurement = Measurement(
        batch=record["batch"],
        timings=timings,
        warm_up=WarmUp(**record["warm_up"]),
        looks=tuple((rounds, share) for rounds, share in record["looks"]),
        health=Health(
            tuple(health["reasons"]), tuple(health["hints"]), health["figures"], tuple(health["unknown"])
        ),
        joules_per_query=record["joules_per_query"],
        absent=record["absent"],
        complete=record["complete"],
        unlocked=record["unlocked"],
    )
    return LatencyResult(
        measurement=measurement, runs=tuple(map(run_of, record["runs"])), shown=record["shown"],
        backend=record["backend"], precision=record["precision"], numerics=Numerics(record["numerics"]),
    )  # fmt: skip


def _mode(record: Mapping[str, Any]) -> TimingMode:
    mode = TimingMode(**record)
    return replace(mode, clock=Clock(mode.clock))


def run_record(run: LatencyRun) -> dict[str, Any]:
    """The run, JSON-ready."""
    return {**asdict(run), "unhealthy": list(run.unhealthy)}


def run_of(record: Mapping[str, Any]) -> LatencyRun:
    """What `run_record` made a record of."""
    session = StoredSession(**record["session"])
    return LatencyRun(**{**record, "session": session, "unhealthy": tuple(record["unhealthy"])})
