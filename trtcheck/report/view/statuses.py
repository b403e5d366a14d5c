"""Verdicts as the pages show them: word, shape and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """A verdict as word and shape; *rank* orders worst first."""

    word: str
    shape: str
    rank: int


STATUSES: Mapping[str, Status] = {
    word: Status(word, shape, rank)
    for rank, (word, shape) in enumerate(
        (("error", "!"), ("fail", "✗"), ("inconclusive", "?"), ("pass", "✓"), ("skipped", "\N{EN DASH}"))
    )
}

WARNING = Status("warning", "▲", len(STATUSES))
"""What a reader must know although nothing failed; no verdict."""
