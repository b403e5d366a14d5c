"""How fast the engines of a model are beside each other, and which are slower than one of wider precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtcheck.case import WIDTHS, Check
from trtcheck.names import confidence, significant

Record = Mapping[str, Any]

REFERENCE = "reference"
MEDIANS_APART = 0.02
"""Medians of measurements of their own must be this far apart, relatively, before one is called slower."""


@dataclass(frozen=True)
class Faster:
    """How many times as fast an engine is as another.

    Attributes:
        ratio: Above 1 it is faster.
        low: Lower end of the ratio's interval; None where there is none.
        high: Upper end.
        confidence: Of the interval, None where there is none.
        by: What the ratio was taken from, in words.
    """

    ratio: float
    low: float | None
    high: float | None
    confidence: float | None
    by: str

    @property
    def is_slower(self) -> bool:
        """Whether it is slower beyond what noise does."""
        return self.ratio < 1 - MEDIANS_APART if self.high is None else self.high < 1


def times(ratio: float) -> str:
    """A ratio with two decimals, with three where these would hide on which side of 1 it is."""
    text = f"{ratio:.2f}"
    return f"{ratio:.3f}" if text == "1.00" and round(ratio, 3) != 1 else text


def timed(items: Sequence[Record]) -> list[Record]:
    """The latency items that have times, the first of each model, engine and batch size."""
    found: dict[tuple[Any, ...], Record] = {}
    for item in items:
        if item["check"] == Check.LATENCY.value and item.get("latency"):
            found.setdefault((item["model"], item["engine"], item["batch"]), item)
    return list(found.values())


def width(item: Record) -> int | None:
    """How wide the precision of the item's engine is; None for a file of unknown one."""
    known = {precision.value: width for precision, width in WIDTHS.items()}
    return known.get(item.get("precision") or item["engine"])


def wider(item: Record, others: Sequence[Record]) -> list[Record]:
    """Those of *others* that may be compared with *item* and whose precision is wider, the widest first.

    Nothing is compared with times that the state of the machine speaks against.
    """
    own = None if item["health"]["reasons"] else width(item)
    same = ("model", "batch", "environment_digest")
    found = [
        (theirs, other)
        for other in others
        if own is not None
        and (theirs := width(other)) is not None
        and theirs > own
        and not other["health"]["reasons"]
        and all(other[name] == item[name] for name in same)
    ]
    return [other for _, other in sorted(found, key=lambda pair: -pair[0])]


def faster(item: Record, other: Record) -> Faster:
    """How many times as fast *item* is as *other*, by the best evidence that there is."""
    direct = item["speedups"].get(other["engine"])
    if direct is not None:
        return Faster(
            direct["ratio"], direct["low"], direct["high"], direct["confidence"], "timed in the same rounds"
        )
    own, theirs = (each["speedups"].get(REFERENCE) for each in (item, other))
    if own is None or theirs is None:
        ratio = other["latency"]["median_ms"] / item["latency"]["median_ms"]
        return Faster(ratio, None, None, None, "by their medians alone")
    return _by_reference(own, theirs)


def _by_reference(own: Record, theirs: Record) -> Faster:
    """The ratio of two ratios to the reference; their errors are independent and add up in quadrature."""
    ratio, by = own["ratio"] / theirs["ratio"], "both held against the reference"
    ends = (own["low"], own["high"], theirs["low"], theirs["high"])
    if None in ends:
        return Faster(ratio, None, None, None, by)

    def away(speedup: Record, end: str) -> float:
        return math.log(speedup[end] / speedup["ratio"])

    down = math.hypot(away(own, "low"), away(theirs, "high"))
    up = math.hypot(away(own, "high"), away(theirs, "low"))
    sure = min(own["confidence"], theirs["confidence"])
    return Faster(ratio, ratio * math.exp(-down), ratio * math.exp(up), sure, by)


def with_warnings(items: Sequence[Record]) -> list[Record]:
    """The *items*, with a warning where an engine is slower than one of wider precision."""
    said: dict[int, list[str]] = {}
    every = timed(items)
    for item in every:
        compared = ((other, faster(item, other)) for other in wider(item, every))
        said[id(item)] = [
            _sentence(item, other, found) for other, found in compared if _is_slower(item, other, found)
        ]
    return [
        {**item, "warnings": [*item["warnings"], *said[id(item)]]} if said.get(id(item)) else item
        for item in items
    ]


def _is_slower(item: Record, other: Record, found: Faster) -> bool:
    """Whether it is slower for certain; measured at different times, its own median must say so, too.

    Where the reference itself ran at another pace in the two measurements, the ratios alone contradict
    the very times that stand beside them.
    """
    together = other["engine"] in item["speedups"]
    later = item["latency"]["median_ms"] > other["latency"]["median_ms"]
    return found.is_slower and (together or later)


def _sentence(item: Record, other: Record, found: Faster) -> str:
    own, theirs = (significant(each["latency"]["median_ms"], 3) for each in (item, other))
    interval = ""
    if found.low is not None and found.high is not None and found.confidence is not None:
        sure = confidence(found.confidence)
        interval = f", {times(found.low)} to {times(found.high)} at {sure}"
    return (
        f"{item['engine']} is slower than {other['engine']} at batch {item['batch']}: {own} ms against "
        f"{theirs} ms ({times(found.ratio)}x{interval}; {found.by})"
    )
