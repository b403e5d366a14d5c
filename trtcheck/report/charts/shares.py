"""Shares of several things as bars, largest first, beside what is accepted."""

from __future__ import annotations

from collections.abc import Sequence

from trtcheck.names import percent
from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart
from trtcheck.report.charts.scales import Linear

WIDTH = 620
MOST_ROWS = 12
_LEFT, _RIGHT, _TOP, _STEP = 200, 540, 26, 22


def bars(
    shares: Sequence[tuple[str, float]], limit: float, *, anchor: str, title: str, words: str, told: str,
    numbers: str,
) -> Chart:  # fmt: skip
    """The picture of the first of *shares*.

    Args:
        shares: Name and share of each, as a fraction of 1, largest first.
        limit: Largest accepted share; it is a line.
        anchor: Id of the picture.
        title: What it shows.
        words: What the shares are, for the axis.
        told: What the picture tells, in a sentence.
        numbers: Id of the table that has the numbers.
    """
    shown = shares[:MOST_ROWS]
    scale = Linear.around([*(share for _, share in shown), limit], _LEFT, _RIGHT, zero=True, wanted=4)
    bottom = _TOP + _STEP * len(shown)
    found = [*axes.below(scale, _TOP - 4, bottom, words, percent)]
    for number, (name, share) in enumerate(shown):
        y = _TOP + _STEP * number + _STEP / 2
        found.append(marks.text(_LEFT - 10, y + 4, marks.fitted(name, _LEFT - 14), "", "end"))
        found.append(marks.rect(_LEFT, y - 7, scale(share) - _LEFT, 14, "bar", f"{name}: {percent(share)}"))
        found.append(marks.text(_RIGHT + 12, y + 4, percent(share), "strong" if share > limit else ""))
    x = scale(limit)
    found.append(marks.line(x, _TOP - 4, x, bottom, "limit", f"limit {percent(limit)}"))
    found.append(marks.text(x, _TOP - 9, f"limit {percent(limit)}", "", "middle"))
    return Chart(
        anchor=anchor, title=title, description=told, width=WIDTH, height=bottom + 40, marks=tuple(found),
        numbers=numbers,
    )  # fmt: skip
