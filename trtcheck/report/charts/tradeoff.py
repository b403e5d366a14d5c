"""How fast engines are against what they lose: the picture that a deployment is decided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trtcheck.names import significant
from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.scales import Log, Root, Scale
from trtcheck.report.speeds import times
from trtcheck.report.view.statuses import Status

WIDTH, HEIGHT = 572, 356
MOST_POINTS = 16
WITHIN, OVER = 0.01, 0.02
"""A loss of a class's recall that is commonly accepted, and one that is commonly not."""
HOPED = (2.0, 4.0)
"""Speed-up over FP32 that fewer bits are hoped to give."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 496, 52, 304


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """One engine.

    Attributes:
        name: As people write it.
        status: Its verdict.
        pace: Speed-up, or time of a query in ms.
        loss: Largest fall of a class's recall, as a fraction of 1.
        key: The largest fall of a key class, where another class falls further.
        told: The engine in words.
    """

    name: str
    status: Status
    pace: Estimate
    loss: Estimate
    key: float | None
    told: str


def of_points(
    points: Sequence[Point], anchor: str, title: str, across: str, *, speedup: bool, told: str, numbers: str
) -> Chart:
    """The picture of all engines of a model at one batch size.

    Args:
        points: The engines; beyond `MOST_POINTS` the rest is only in the table.
        anchor: Id of the picture.
        title: What it shows.
        across: What the horizontal axis is.
        speedup: Whether that is a speed-up; else it is a time in ms.
        told: What the picture tells, in a sentence.
        numbers: Id of the table that has the numbers.
    """
    shown = points[:MOST_POINTS]
    x, up = _paces(shown, speedup), _losses(shown)
    found = [
        *_bands(x, up, speedup),
        *axes.beside(up, _LEFT, _RIGHT, "largest fall of a class's recall, in percentage points", _points),
        *axes.below(x, _TOP, _BOTTOM, across, _times if speedup else "{:g}".format),
    ]
    for series, point in enumerate(shown):
        found += _drawn(point, series, x, up)
    found += _labels(shown, x, up)
    hollow = any(point.key is not None for point in shown)
    return Chart(
        anchor=anchor, title=title, description=told, width=WIDTH, height=HEIGHT, marks=tuple(found),
        legend=(Key(marks.point(0, 0, 0, "hollow"), "worst key class, where another class falls further"),)
        if hollow else (),
        numbers=numbers,
    )  # fmt: skip


def _ends(estimate: Estimate) -> tuple[float, ...]:
    return tuple(end for end in (estimate.value, estimate.low, estimate.high) if end is not None)


def _paces(points: Sequence[Point], speedup: bool) -> Scale:
    ends = [end for point in points for end in _ends(point.pace)]
    if speedup:
        return Log.around([*ends, 1.0, HOPED[1]], _LEFT, _RIGHT, base=2.0)
    return Log.around(ends, _LEFT, _RIGHT)


def _losses(points: Sequence[Point]) -> Root:
    ends = [end for point in points for end in _ends(point.loss)]
    ends += [point.key for point in points if point.key is not None]
    # Some room below 0, so that an engine without loss does not lie on the frame.
    return Root(min(*ends, -0.001) * 1.2, max(*ends, 1.5 * OVER) * 1.15, _BOTTOM, _TOP)


def _bands(x: Scale, up: Root, speedup: bool) -> list[Mark]:
    """Losses that are accepted and that are not, and the speed-up that is hoped for, each with its words."""
    within, over = up(WITHIN), up(OVER)
    found = [
        marks.rect(_LEFT, within, _RIGHT - _LEFT, _BOTTOM - within, "within"),
        marks.rect(_LEFT, _TOP, _RIGHT - _LEFT, over - _TOP, "beyond"),
        marks.text(_RIGHT + 8, (within + _BOTTOM) / 2 + 4, "within 1 %", "label"),
        marks.text(_RIGHT + 8, (over + _TOP) / 2 + 4, "over 2 %", "label"),
    ]
    if speedup:
        left, right = (x(end) for end in HOPED)
        found += [
            marks.line(edge, _TOP - 6, edge, _BOTTOM, "hoped", f"{end:g}x")
            for edge, end in ((left, HOPED[0]), (right, HOPED[1]))
        ]
        found.append(marks.text((left + right) / 2, _TOP - 9, "2x to 4x", "label", "middle"))
    return found


def _drawn(point: Point, series: int, x: Scale, up: Root) -> list[Mark]:
    at_x, at_y = x(point.pace.value), up(point.loss.value)
    found = []
    if point.pace.low is not None and point.pace.high is not None:
        found.append(marks.line(x(point.pace.low), at_y, x(point.pace.high), at_y, "whisker"))
    if point.loss.low is not None and point.loss.high is not None:
        found.append(marks.line(at_x, up(point.loss.low), at_x, up(point.loss.high), "whisker"))
    if point.key is not None:
        told = f"{point.name}: worst key class, {_points(point.key)} points"
        found.append(marks.point(at_x, up(point.key), series, "hollow", told))
    found.append(marks.point(at_x, at_y, series, title=point.told, size=6))
    return found


_LINE = 15.0


def _labels(points: Sequence[Point], x: Scale, up: Root) -> list[Mark]:
    """Name and verdict beside each point; where these would cover one another, lower ones move down."""
    found: list[Mark] = []
    taken: list[tuple[float, float, float]] = []
    for point in sorted(points, key=lambda point: up(point.loss.value)):
        words = f"{marks.fitted(point.name, 130)} {point.status.shape} {point.status.word}"
        width, at_x = marks.width_of(words), x(point.pace.value)
        right = at_x + 12 + width < _RIGHT
        left = at_x + 12 if right else at_x - 12 - width
        y = up(point.loss.value) - 8
        while any(abs(y - at) < _LINE and left < end and begin < left + width for begin, end, at in taken):
            y += _LINE / 3
        taken.append((left, left + width, y))
        kind = f"strong verdict {point.status.word}"
        found.append(marks.text(at_x + (12 if right else -12), y, words, kind, "start" if right else "end"))
    return found


def _points(value: float) -> str:
    number = f"{100 * value:.6g}"
    return number.replace("-", "\N{MINUS SIGN}")


def _times(value: float) -> str:
    return f"{value:g}x"


def shown_pace(pace: Estimate, *, speedup: bool) -> str:
    """A speed-up or a time in words: ``2.31x (2.28 to 2.34)``, ``1.652 ms``."""
    if not speedup:
        return f"{significant(pace.value)} ms"
    if pace.low is None or pace.high is None:
        return f"{times(pace.value)}x"
    return f"{times(pace.value)}x ({times(pace.low)} to {times(pace.high)})"
