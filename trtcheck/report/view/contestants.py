"""What was timed in the same rounds, by the names that people know."""

from __future__ import annotations

from trtcheck.latency.measurement import APPROVED, ENGINE
from trtcheck.report.view.formats import shown_engine
from trtcheck.report.view.records import Record


def title(item: Record, name: str) -> str:
    """The contestant *name* of a latency item: the engine as people write it, what its reference was."""
    if name == ENGINE:
        return shown_engine(item["engine"])
    if name == APPROVED:
        return "the approved engine"
    return (item["contestants"].get(name) or {}).get("shown") or shown_engine(name)
