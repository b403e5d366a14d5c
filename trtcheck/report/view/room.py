"""How much a page may hold: in a report of many engines every page is lighter, so that it can be kept."""

from __future__ import annotations

from dataclasses import dataclass

SMALL = 30
"""Up to so many engines pages hold all that is worth a look."""


@dataclass(frozen=True)
class Room:
    """What a page holds; report.json has everything.

    Attributes:
        classes: Up to so many classes an engine's page judges and lists them all; of more it has the worst,
            and the model gets a page of its own with all of them.
        worst: Classes of a table whose others are elsewhere; more where more of them fail.
        listed: Classes of an order that does not list them all.
        cards: Images of the gallery.
        flips: Changed answers of the table below the gallery.
        batches: Batch sizes with pictures of their own.
        rounds: Whether the rounds of a measurement are drawn.
        runs: Runs of the history's tables.
        lines: Lines of a picture over runs.
    """

    classes: int
    worst: int
    listed: int
    cards: int
    flips: int
    batches: int
    rounds: bool
    runs: int
    lines: int


_FULL = Room(classes=200, worst=50, listed=50, cards=48, flips=100, batches=6, rounds=True, runs=15, lines=6)
_SPARE = Room(classes=50, worst=30, listed=20, cards=8, flips=25, batches=1, rounds=False, runs=8, lines=4)


def of_report(engines: int) -> Room:
    """What a page of a report of that many *engines* holds."""
    return _FULL if engines <= SMALL else _SPARE
