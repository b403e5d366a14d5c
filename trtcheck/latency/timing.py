"""The seam between what runs an engine and what samples its time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class Clock(StrEnum):
    """What takes the time of a query."""

    DEVICE = "device"
    """CUDA events on the engine's own stream, before its first and after its last work."""
    HOST = "host"
    """The host's monotonic clock, from handing the query over until its result is there."""


@dataclass(frozen=True)
class TimingMode:
    """How an engine was timed, as it really was; part of the latency environment.

    Attributes:
        clock: What took the time.
        transfers: Whether the copies of inputs and outputs between host and GPU are part of it; on the CPU
            there are none, and it is False.
        cuda_graph: Whether the work was replayed as a CUDA graph; None where that is not known (a recording).
        spin_wait: Whether waiting threads spin instead of sleeping; None where that is not known.
    """

    clock: Clock
    transfers: bool
    cuda_graph: bool | None = None
    spin_wait: bool | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """Queries that ran one after the other.

    Attributes:
        samples_ms: Time of every query, float64 (S,), milliseconds.
        seconds: Time of the whole block by the host's clock, what lies between the queries included.
    """

    samples_ms: np.ndarray
    seconds: float


class Timer(Protocol):
    """One loaded engine with one batch of inputs, ready to be run again and again."""

    @property
    def mode(self) -> TimingMode:
        """How it takes the time; settled after the first block at the latest."""
        ...

    def block(self, queries: int) -> Block:
        """Runs *queries* queries (one batch each), waiting for each before the next is handed over.

        Raises:
            EngineError: The runtime failed.
        """
        ...
