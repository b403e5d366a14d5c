"""What a latency baseline holds: the approved engine's name and the sessions in which it was timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FEWEST_SESSIONS = 5
"""Stored sessions that a comparison without the approved engine needs."""


@dataclass(frozen=True)
class StoredSession:
    """One approved measurement.

    Attributes:
        id: Tells sessions apart: that of the pytest session, or the digest of a recording's times.
        started: When it was made, ISO 8601.
        engine_digest: Digest of the engine's file (a recording's: of its outputs' file).
        rounds: Rounds that were measured.
        median_ms: Median of all queries.
        p95_ms: 95th percentile of all queries.
        throughput: Images per second.
        ratio: log(median / the reference's median), Hodges-Lehmann over rounds; None without a reference.
        ratio_p95: The same of the 95th percentiles.
        ratio_se: Standard error of *ratio* from the spread of its rounds.
    """

    id: str
    started: str
    engine_digest: str
    rounds: int
    median_ms: float
    p95_ms: float
    throughput: float
    ratio: float | None = None
    ratio_p95: float | None = None
    ratio_se: float | None = None


@dataclass(frozen=True)
class LatencyBaseline:
    """What was approved for one model, engine, batch size and latency environment.

    Attributes:
        model: Name of the case.
        engine: Name of the engine.
        batch: Images of a query.
        environment: The latency environment, see `trtcheck.latency.environment`.
        lowered: Digest of the lowered model that the sessions are about; another one starts them anew.
        engine_digest: Digest of the file of the engine that was approved last.
        engine_suffix: Suffix of that file.
        sessions: The newest last.
    """

    model: str
    engine: str
    batch: int
    environment: Mapping[str, Any]
    lowered: str
    engine_digest: str
    engine_suffix: str
    sessions: tuple[StoredSession, ...]


@dataclass(frozen=True)
class LatencyRun:
    """What a session measured of one engine at one batch size, as far as baselines are concerned.

    Attributes:
        model: Name of the case.
        engine: Name of the engine.
        batch: Images of a query.
        environment: The latency environment.
        lowered: Digest of the lowered model; a recording's is that of the FP32 model.
        engine_path: The engine's file; None for a recording.
        engine_suffix: Its suffix, for example ``".engine"``.
        session: The figures.
        unhealthy: What speaks against them; nothing is approved then.
    """

    model: str
    engine: str
    batch: int
    environment: Mapping[str, Any]
    lowered: str
    engine_path: str | None
    engine_suffix: str
    session: StoredSession
    unhealthy: tuple[str, ...] = ()
