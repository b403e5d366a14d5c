"""What of a measurement is stored: the figures of one session."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtcheck.baselines.latency_schema import StoredSession
from trtcheck.judge.latency_bounds import FEWEST_ROUNDS, hodges_lehmann, trimmed_mean
from trtcheck.latency.measurement import ENGINE, REFERENCE, Measurement, Timings
from trtcheck.latency.percentiles import summary, throughput


def session_of(measured: Measurement, session: str, started: str, engine_digest: str) -> StoredSession:
    """The figures of a session.

    Args:
        measured: What was measured.
        session: Tells sessions apart.
        started: When it began, ISO 8601.
        engine_digest: Digest of the engine's file.
    """
    engine, reference = measured.timings[ENGINE], measured.timings.get(REFERENCE)
    figures = figures_of(engine, measured.batch)
    ratio: dict[str, Any] = {}
    if reference is not None:
        medians, tails = ratios(engine, reference, 50), ratios(engine, reference, 95)
        ratio = {
            "ratio": hodges_lehmann(medians),
            "ratio_p95": hodges_lehmann(tails),
            "ratio_se": trimmed_mean(medians)[1] if len(medians) >= FEWEST_ROUNDS else None,
        }
    return StoredSession(
        id=session, started=started, engine_digest=engine_digest, rounds=len(engine.seconds),
        median_ms=figures["median_ms"], p95_ms=figures["p95_ms"], throughput=figures["throughput"], **ratio,
    )  # fmt: skip


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
