"""The times of a recording as the result of a latency check: nothing is run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trtcheck.baselines.latency_schema import LatencyRun
from trtcheck.latency.environment import latency_environment
from trtcheck.latency.measurement import ENGINE, Measurement, Timings
from trtcheck.latency.record import LatencyResult
from trtcheck.latency.recorded import recorded_measurement, session_ids
from trtcheck.latency.stored import session_of

if TYPE_CHECKING:
    from trtcheck.backends.base import BackendInfo, BuiltEngine
    from trtcheck.case import Case, EngineSpec, LatencySpec
    from trtcheck.recordings import Recording


def play(
    recording: Recording, case: Case, engine: EngineSpec, spec: LatencySpec, built: BuiltEngine,
    info: BackendInfo, model_digest: str,
) -> LatencyResult:  # fmt: skip
    """What the recording's device measured.

    Args:
        recording: The recording, with times.
        case: The case.
        engine: The engine.
        spec: Whether transfers are part of the time.
        built: The recording as an engine.
        info: Where it was made.
        model_digest: Digest of the FP32 model, which is all that is known of what the device ran.

    Raises:
        EngineError: It has no times that the specification asks for.
    """
    measured = recorded_measurement(recording, spec)
    environment = latency_environment(info, measured.timings[ENGINE].mode, gpu=None, threads=0)
    ids = session_ids(recording)
    rounds = len(measured.timings[ENGINE].seconds) // len(ids)
    runs = tuple(
        LatencyRun(
            model=case.name, engine=engine.name, batch=measured.batch, environment=environment,
            lowered=model_digest, engine_path=None, engine_suffix=built.path.suffix,
            session=session_of(
                _alone(measured, number * rounds, rounds), session, _RECORDED, str(built.lowered["digest"])
            ),
            unhealthy=measured.unhealthy,
        )
        for number, session in enumerate(ids)
    )  # fmt: skip
    return LatencyResult(
        measurement=measured, runs=runs, shown={ENGINE: f"{info.device}, {info.version}"},
        backend=info.name, precision=built.facts.get("precision"), numerics=built.numerics,
    )  # fmt: skip


_RECORDED = "recorded"
"""When a recording was made is not known; the time of its approval would differ each time."""


def _alone(measured: Measurement, first: int, rounds: int) -> Measurement:
    """One run of several, each a process of its own: so many *rounds* from the *first*."""
    timed = measured.timings[ENGINE]
    row = slice(first, first + rounds)
    return replace(measured, timings={ENGINE: Timings(timed.mode, timed.samples_ms[row], timed.seconds[row])})
