"""Axes: a line, round figures along it with lines across the picture, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trtcheck.report.charts import marks
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.scales import Scale


def below(
    scale: Scale, top: float, bottom: float, words: str, shown: Callable[[float], str],
    ticks: Sequence[float] | None = None,
) -> tuple[Mark, ...]:  # fmt: skip
    """A horizontal axis at the height *bottom*, its grid up to *top*.

    Args:
        scale: Where figures stand, from left to right.
        top: Upper end of the grid in pixels.
        bottom: Height of the axis in pixels; the labels take 34 pixels below it.
        words: What the figures are, with their unit.
        shown: A figure as text.
        ticks: Figures to name; None for the scale's own.
    """
    found: list[Mark] = []
    for value in scale.ticks() if ticks is None else ticks:
        x = scale(value)
        found.append(marks.line(x, top, x, bottom, "grid"))
        found.append(marks.text(x, bottom + 15, shown(value), "tick", "middle"))
    found.append(marks.line(scale.start, bottom, scale.end, bottom, "axis"))
    found.append(marks.text((scale.start + scale.end) / 2, bottom + 31, words, "name", "middle"))
    return tuple(found)


def beside(
    scale: Scale, left: float, right: float, words: str, shown: Callable[[float], str],
    ticks: Sequence[float] | None = None,
) -> tuple[Mark, ...]:  # fmt: skip
    """A vertical axis at *left*, its grid up to *right*; *words* stand above it.

    Args:
        scale: Where figures stand; its end is above its start.
        left: Where the axis stands; the labels take some 50 pixels beside it.
        right: Right end of the grid.
        words: What the figures are, with their unit.
        shown: A figure as text.
        ticks: Figures to name; None for the scale's own.
    """
    found: list[Mark] = []
    for value in scale.ticks() if ticks is None else ticks:
        y = scale(value)
        found.append(marks.line(left, y, right, y, "grid"))
        found.append(marks.text(left - 6, y + 4, shown(value), "tick", "end"))
    found.append(marks.line(left, scale.start, left, scale.end, "axis"))
    found.append(marks.text(4, min(scale.start, scale.end) - 9, words, "name"))
    return tuple(found)
