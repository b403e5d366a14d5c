"""What a latency measurement found: plain data, and how it crosses processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.latency.timing import TimingMode

ENGINE, APPROVED, REFERENCE = "engine", "approved", "reference"
"""Names of the contestants of a measurement; another precision has its engine's name."""


@dataclass(frozen=True, eq=False)
class Timings:
    """One contestant's times.

    Attributes:
        mode: How it was timed.
        samples_ms: Time of every query, float64 (rounds, samples), milliseconds, in the order of measuring; a
            round's two blocks one after the other.
        seconds: Time of the queries of each round by the host's clock, float64 (rounds,).
    """

    mode: TimingMode
    samples_ms: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True)
class WarmUp:
    """How the engines were warmed up.

    Attributes:
        plateau: Whether the times settled.
        seconds: How long it took.
        queries: Queries of the engine itself.
    """

    plateau: bool
    seconds: float
    queries: int


@dataclass(frozen=True)
class Health:
    """The state of the machine before, during and after a measurement.

    Attributes:
        reasons: What speaks against the figures, in sentences; empty where nothing does.
        hints: What a user might set or stop; trtcheck itself changes nothing.
        figures: What was read, JSON-ready (see docs/report-schema.md).
        unknown: What could not be read here, in words.
    """

    reasons: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Measurement:
    """One engine at one batch size, timed beside its rivals in the same rounds.

    Attributes:
        batch: Images of a query.
        timings: Times by contestant: always ``"engine"``; ``"approved"``, ``"reference"`` and rivals where
            they took part. All have the same number of rounds.
        warm_up: How they were warmed up.
        looks: After how many rounds the verdict was asked for, each with its share of alpha spent, in order;
            one look after all rounds is ``((12, 1.0),)``.
        health: The state of the machine.
        joules_per_query: Energy of the engine alone running back to back, from the GPU's own counter; None
            where there is none.
        absent: Why a rival that was wanted took no part, by its name.
        complete: Whether all rounds that were asked for fitted into the budget.
        unlocked: Why other processes were not kept from the device meanwhile, in a sentence; None where they
            were.
    """

    batch: int
    timings: Mapping[str, Timings]
    warm_up: WarmUp
    looks: tuple[tuple[int, float], ...]
    health: Health = Health()
    joules_per_query: float | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    unlocked: str | None = None

    @property
    def unhealthy(self) -> tuple[str, ...]:
        """What speaks against the figures, in sentences."""
        from trtcheck.judge.latency_bounds import FEWEST_ROUNDS

        found = list(self.health.reasons)
        if not self.warm_up.plateau:
            found.append(f"the times did not settle within {self.warm_up.seconds:.1f} s of warm-up")
        rounds = len(self.timings[ENGINE].seconds)
        if not self.complete and rounds < FEWEST_ROUNDS:
            found.append(
                f"only {rounds} rounds fitted into the budget, {FEWEST_ROUNDS} are needed: "
                "a larger --trt-latency-budget"
            )
        return tuple(found)
