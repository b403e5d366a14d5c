"""What of a measurement is stored: the figures of one session."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from trtcheck import digests
from trtcheck.baselines.latency_schema import LatencyBaseline, StoredSession
from trtcheck.judge.latency_bounds import FEWEST_ROUNDS, hodges_lehmann, trimmed_mean
from trtcheck.latency.measurement import ENGINE, REFERENCE, Measurement, Timings
from trtcheck.latency.percentiles import summary, throughput
from trtcheck.latency.timing import TimingMode


def session_of(
    measured: Measurement, session: str, started: str, engine_digest: str, reference: str | None = None
) -> StoredSession:
    """The figures of a session.

    Args:
        measured: What was measured.
        session: Tells sessions apart.
        started: When it began, ISO 8601.
        engine_digest: Digest of the engine's file.
        reference: Digest of what the reference was, where it took part.
    """
    engine, other = measured.timings[ENGINE], measured.timings.get(REFERENCE)
    figures = figures_of(engine, measured.batch)
    ratio: dict[str, Any] = {}
    if other is not None:
        medians = ratios(engine, other, 50)
        ratio = {
            "ratio": hodges_lehmann(medians),
            "ratio_p95": hodges_lehmann(ratios(engine, other, 95)),
            "ratio_seconds": hodges_lehmann(ratios_of_seconds(engine, other)),
            "reference": reference_digest(reference, other.mode),
            "ratio_se": trimmed_mean(medians)[1] if len(medians) >= FEWEST_ROUNDS else None,
        }
    return StoredSession(
        id=session, started=started, engine_digest=engine_digest, rounds=len(engine.seconds),
        median_ms=figures["median_ms"], p95_ms=figures["p95_ms"], throughput=figures["throughput"], **ratio,
    )  # fmt: skip


def reference_digest(reference: str | None, mode: TimingMode) -> str:
    """Digest of a reference and of how it is timed: ratios are compared beside the same one alone."""
    return digests.of_json([reference, asdict(mode)])


def comparable(baseline: LatencyBaseline, reference: str | None, own: Collection[str]) -> LatencyBaseline:
    """What of *baseline* a run may be compared with.

    A model that grew makes its reference slower, too: ratios to another reference would hide that.

    Args:
        baseline: What was approved.
        reference: What the run's reference is (`reference_digest`); None where it had none.
        own: The run's own sessions, which may be among the approved ones (a recording's).
    """
    others = (session for session in baseline.sessions if session.id not in own)
    sessions = (session if session.reference == reference else _by_itself(session) for session in others)
    return replace(baseline, sessions=tuple(sessions))


def _by_itself(session: StoredSession) -> StoredSession:
    return replace(session, ratio=None, ratio_p95=None, ratio_seconds=None, ratio_se=None)


def figures_of(timed: Timings, batch: int) -> dict[str, Any]:
    """Summary of all queries of a contestant, and its throughput in images per second; JSON-ready."""
    queries = timed.samples_ms.size
    return {
        **summary(timed.samples_ms.ravel()),
        "rounds": len(timed.seconds),
        "throughput": throughput(batch, queries, float(timed.seconds.sum())),
    }


def ratios(engine: Timings, other: Timings, percentile: int) -> np.ndarray:
    """log(engine / other) of each round's *percentile*, float64 (rounds,)."""
    own, others = (np.percentile(timed.samples_ms, percentile, axis=1) for timed in (engine, other))
    found: np.ndarray = np.log(own / others)
    return found


def ratios_of_seconds(engine: Timings, other: Timings) -> np.ndarray:
    """log(engine / other) of what each round's queries took by the host's clock, float64 (rounds,)."""
    found: np.ndarray = np.log(engine.seconds / other.seconds)
    return found
