"""What a latency baseline holds: the approved engine's name and the sessions in which it was timed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtcheck.baselines import documents
from trtcheck.baselines.documents import count, text

SCHEMA_VERSION = 1


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
        ratio_seconds: The same of what the rounds took by the host's clock, the inverse of throughput.
        ratio_se: Standard error of *ratio* from the spread of its rounds.
        reference: Digest of what the reference was and how it was timed: ratios to another one are not
            compared.
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
    ratio_seconds: float | None = None
    ratio_se: float | None = None
    reference: str | None = None


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


def dump(baseline: LatencyBaseline) -> str:
    """The text of a baseline file: sorted, one value a line, numbers with seven digits.

    Raises:
        ValueError: A figure is NaN or infinite.
    """
    return documents.dump(
        {
            "schema_version": SCHEMA_VERSION,
            "model": baseline.model,
            "engine": baseline.engine,
            "batch": baseline.batch,
            "environment": baseline.environment,
            "lowered": baseline.lowered,
            "engine_digest": baseline.engine_digest,
            "engine_suffix": baseline.engine_suffix,
            "sessions": [asdict(rounded(session)) for session in baseline.sessions],
        }
    )


def parse(content: str, where: Path) -> LatencyBaseline:
    """The baseline in *content*, read from the file *where*.

    Raises:
        BaselineError: It is damaged, or of a schema that this version does not read.
    """
    return documents.parse(content, where, SCHEMA_VERSION, _read)


def rounded(session: StoredSession) -> StoredSession:
    """The session as a file holds it: its figures with seven digits.

    Raises:
        TypeError: A field is of another type.
        ValueError: A figure cannot be: no time is negative, none is NaN or infinite.
    """
    return _session(asdict(session))


def _read(document: dict[str, Any]) -> LatencyBaseline:
    sessions = tuple(_session(row) for row in document["sessions"])
    if not sessions or len({session.id for session in sessions}) < len(sessions):
        raise ValueError("there is no session, or one of them twice")
    environment = document["environment"]
    if not isinstance(environment, dict):
        raise TypeError("the environment is no table")
    return LatencyBaseline(
        model=text(document["model"]), engine=text(document["engine"]), batch=_positive(document["batch"]),
        environment=environment, lowered=text(document["lowered"]),
        engine_digest=text(document["engine_digest"]), engine_suffix=text(document["engine_suffix"]),
        sessions=sessions,
    )  # fmt: skip


def _session(row: Mapping[str, Any]) -> StoredSession:
    ratios = {name: None if row[name] is None else _log(row[name]) for name in _RATIOS}
    if (error := ratios["ratio_se"]) is not None and error < 0:
        raise ValueError(f"ratio_se is {error:g}, and no spread is negative")
    return StoredSession(
        id=text(row["id"]), started=text(row["started"]), engine_digest=text(row["engine_digest"]),
        rounds=_positive(row["rounds"]), median_ms=_time(row["median_ms"]), p95_ms=_time(row["p95_ms"]),
        throughput=_time(row["throughput"]), **ratios,
        reference=None if row["reference"] is None else text(row["reference"]),
    )  # fmt: skip


_RATIOS = ("ratio", "ratio_p95", "ratio_seconds", "ratio_se")
"""Figures that a session without a reference has not."""

_LARGEST = 1e12
"""Beyond it a figure is a mistake of whoever wrote it, and intervals would no longer be numbers."""


def _positive(value: object) -> int:
    if not (found := count(value)):
        raise ValueError("0 where there is at least one")
    return found


def _time(value: object) -> float:
    if not 1 / _LARGEST <= (found := _finite(value)) <= _LARGEST:
        bound = "above 0" if found <= 0 else f"between {1 / _LARGEST:g} and {_LARGEST:g}"
        raise ValueError(f"{value!r} is not {bound}")
    return found


def _log(value: object) -> float:
    if abs(found := _finite(value)) > math.log(_LARGEST):
        raise ValueError(f"{value!r} is the logarithm of no ratio between times")
    return found


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(f"{value:.7g}")
