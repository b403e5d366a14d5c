"""How figures went over runs: a line a series, broken where values cannot be compared, and what changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.scales import Linear
from trtcheck.report.view.formats import number_of

WIDTH, HEIGHT = 560, 246
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 550, 34, 214
FEW = 12
"""Up to so many runs each has a point; of more the ends of a line have one, and what is unlike the others."""


@dataclass(frozen=True)
class Series:
    """A figure over the runs.

    Attributes:
        name: What it is of.
        values: One a run; None where the run has none.
        hollow: Runs whose value does not count, as the machine was unfit or the engine failed.
        breaks: Runs before which the line is interrupted, as the values on both sides cannot be compared.
    """

    name: str
    values: tuple[float | None, ...]
    hollow: frozenset[int] = frozenset()
    breaks: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Trend:
    """What a picture over runs shows.

    Attributes:
        anchor: Its id.
        title: Its title.
        words: What the figures are, with their unit.
        labels: What each run is called, oldest first.
        dates: The same in a few letters, for the axis.
        series: The figures.
        changes: Runs in which something else changed, with what it was.
        numbers: Id of the table that has the numbers.
    """

    anchor: str
    title: str
    words: str
    labels: tuple[str, ...]
    dates: tuple[str, ...]
    series: tuple[Series, ...]
    changes: tuple[tuple[int, str], ...]
    numbers: str


def draw(trend: Trend, shown: Callable[[float], str]) -> Chart | None:
    """The picture of *trend*, its figures told by *shown*; None where fewer than two runs have any."""
    values = [value for series in trend.series for value in series.values if value is not None]
    if max((sum(v is not None for v in series.values) for series in trend.series), default=0) < 2:
        return None
    up = Linear.around(values, _BOTTOM, _TOP, wanted=4, least=1e-6)
    across = Linear(0, max(len(trend.labels) - 1, 1), _LEFT + 14, _RIGHT - 10)
    found = [*axes.beside(up, _LEFT, _RIGHT, trend.words, shown)]
    for run, what in trend.changes:
        x = across(run) - (across(1) - across(0)) / 2 if run else across(run)
        found.append(marks.line(x, _TOP, x, _BOTTOM, "change", what))
    found += _dates(trend.dates, across)
    for number, series in enumerate(trend.series):
        found += _line(series, number, across, up, trend.labels, shown)
    return Chart(
        anchor=trend.anchor,
        title=trend.title,
        description=_told(trend, shown),
        width=WIDTH,
        height=HEIGHT,
        marks=tuple(found),
        legend=(
            *(Key(marks.point(0, 0, number), series.name) for number, series in enumerate(trend.series)),
            *([Key(marks.line(0, -7, 0, 7, "change"), "something else changed")] if trend.changes else []),
        ),
        numbers=trend.numbers,
    )


def _dates(labels: Sequence[str], across: Linear) -> list[Mark]:
    """The first and the last run by name, and some between."""
    last = len(labels) - 1
    places = sorted({0, last, *((last * k) // 3 for k in (1, 2) if last > 5)})
    found = [marks.line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis")]
    for place in places:
        anchor = "start" if place == 0 else "end" if place == last else "middle"
        found.append(marks.line(across(place), _BOTTOM, across(place), _BOTTOM + 4, "axis"))
        found.append(marks.text(across(place), _BOTTOM + 18, labels[place], "tick", anchor))
    return found


def _line(
    series: Series, number: int, across: Linear, up: Linear, labels: Sequence[str],
    shown: Callable[[float], str],
) -> list[Mark]:  # fmt: skip
    found: list[Mark] = []
    points = [(run, value) for run, value in enumerate(series.values) if value is not None]
    parts: list[list[tuple[int, float]]] = []
    for point in points:
        if not parts or any(parts[-1][-1][0] < broken <= point[0] for broken in series.breaks):
            parts.append([])
        parts[-1].append(point)
    for part in parts:
        if len(part) > 1:
            path = [(across(run), up(value)) for run, value in part]
            found.append(marks.polyline(path, f"trace series-{number % marks.COLORS}"))
    ends = {run for part in parts for run in (part[0][0], part[-1][0])}
    for run, value in points:
        if len(labels) <= FEW or run in ends or run in series.hollow:
            title = f"{series.name}, {labels[run]}: {shown(value)}" if len(labels) <= FEW else ""
            kind = "hollow" if run in series.hollow else ""
            found.append(marks.point(across(run), up(value), number, kind, title, size=3.5))
    return found


def _told(trend: Trend, shown: Callable[[float], str]) -> str:
    parts = []
    for series in trend.series:
        known = [value for value in series.values if value is not None]
        if known:
            parts.append(f"{series.name}: {shown(known[0])} at first, {shown(known[-1])} now")
    count = number_of(len(trend.changes), "run", "runs")
    changes = f" Something else changed in {count}." if trend.changes else ""
    return f"{len(trend.labels)} runs. {'; '.join(parts)}.{changes}"
