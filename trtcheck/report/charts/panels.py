"""Pictures of times that are far apart: a panel each for those that are near one another, one above another.

An engine and its reference may be three times apart, and the spread of either half a percent: on one axis
both would be flat lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtcheck.report.charts.scales import Linear

NEAR = 1.08
"""Times that are no further apart than this, as a ratio, share a panel."""


@dataclass(frozen=True)
class Panel:
    """One panel: the series in it, its upper and lower end in pixels, and where times stand."""

    names: tuple[str, ...]
    top: float
    bottom: float
    up: Linear


def stacked(ranges: Mapping[str, tuple[float, float]], top: float, height: float, gap: float) -> list[Panel]:
    """Panels that hold all series, the slowest above.

    Args:
        ranges: The least and the largest figure of each series.
        top: Upper end of the first panel in pixels.
        height: Of a panel.
        gap: Between two of them.
    """
    found = []
    for number, names in enumerate(reversed(_near(ranges))):
        start = top + number * (height + gap)
        values = [value for name in names for value in ranges[name]]
        kept = tuple(name for name in ranges if name in names)
        up = Linear.around(values, start + height, start, wanted=4, least=max(values) * 1e-3)
        found.append(Panel(kept, start, start + height, up))
    return found


def _near(ranges: Mapping[str, tuple[float, float]]) -> list[list[str]]:
    """Series that are near one another together, the fastest first."""
    groups: list[list[str]] = []
    end = 0.0
    for name in sorted(ranges, key=lambda name: ranges[name]):
        low, high = ranges[name]
        if groups and low <= end * NEAR:
            groups[-1].append(name)
        else:
            groups.append([name])
        end = max(end, high)
    return groups
