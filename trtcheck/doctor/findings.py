"""What the self-test finds: plain data that crosses processes, one verdict a backend and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What became of one precision on one backend."""

    OK = "ok"
    """Built, run, and right."""
    BUILDS = "builds, cannot run"
    """Built; this machine cannot run it, for a reason that the backend states."""
    ABSENT = "not installed"
    REFUSED = "refused"
    """This machine cannot even build, for a reason that the backend states."""
    UNTESTED = "not tested"
    """What the test itself needs is missing."""
    FAILED = "FAILED"
    """The backend claims to work, and did not build, load or run."""
    WRONG = "WRONG"
    """The answers are not those of the net at this precision."""
    CRASHED = "crashed"
    """The backend took its process down."""


BAD = (Status.FAILED, Status.WRONG, Status.CRASHED)
"""What a backend that claims to work must not come to."""


@dataclass(frozen=True)
class Finding:
    """One verdict of the self-test.

    Attributes:
        backend: Name of the backend.
        precision: Name of the precision; None where the backend as a whole is meant.
        status: The verdict.
        reason: Why, in a sentence; empty where it is right.
        numerics: ``"native"`` or ``"emulated"``; None where nothing was run.
        error: Largest error of an answer; None where nothing was run or it is not finite.
        allowed: The largest error that the precision allows.
        library: Version of the backend's library; empty where it was not opened.
        device: What it runs on; likewise.
    """

    backend: str
    precision: str | None
    status: Status
    reason: str = ""
    numerics: str | None = None
    error: float | None = None
    allowed: float | None = None
    library: str = ""
    device: str = ""

    @property
    def bad(self) -> bool:
        """Whether it makes the doctor's exit status non-zero."""
        return self.status in BAD

    @property
    def verdict(self) -> str:
        """The verdict as it is printed, without figures: ``ok (native)``."""
        how = f" ({self.numerics})" if self.status is Status.OK else ""
        return f"{self.status}{how}" + (f": {self.reason}" if self.reason else "")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Finding:
        """The finding that `dataclasses.asdict` made *record* of."""
        return cls(**{**record, "status": Status(record["status"])})


def in_one_line(error: BaseException) -> str:
    """The text of *error*, whose lines become sentences; without the advice to ask the doctor."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith("try: pytest-trtcheck doctor"))
