"""What a picture is made of: SVG elements as plain data, and how they are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

Attribute = str | float | int


@dataclass(frozen=True)
class Mark:
    """An SVG element.

    Attributes:
        tag: Its name.
        attributes: Presentation attributes by name, in order; ``class`` gives it its colour.
        text: What it says, for ``text`` elements.
        title: What is told where a reader points at it; the table beside the picture has it, too.
        children: Elements inside it.
    """

    tag: str
    attributes: tuple[tuple[str, Attribute], ...]
    text: str = ""
    title: str = ""
    children: tuple[Mark, ...] = ()


def _mark(tag: str, kind: str, title: str, text: str = "", **attributes: Attribute) -> Mark:
    named = tuple((name.replace("_", "-"), value) for name, value in attributes.items())
    return Mark(tag, (("class", kind), *named) if kind else named, text, title)


def line(x1: float, y1: float, x2: float, y2: float, kind: str, title: str = "") -> Mark:
    """A straight line of the style *kind*."""
    return _mark("line", kind, title, x1=x1, y1=y1, x2=x2, y2=y2)


def rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> Mark:
    """A rectangle; a negative size is none."""
    return _mark("rect", kind, title, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0))


def polyline(points: Sequence[tuple[float, float]], kind: str, title: str = "") -> Mark:
    """Straight lines from point to point."""
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return _mark("polyline", kind, title, points=path)


def strokes(lines: Iterable[tuple[float, float, float, float]], kind: str, title: str = "") -> Mark:
    """Many straight lines (x1, y1, x2, y2) of one style as one element, so that many figures weigh little."""
    path = "".join(f"M{_number(x1)} {_number(y1)}L{_number(x2)} {_number(y2)}" for x1, y1, x2, y2 in lines)
    return _mark("path", kind, title, d=path)


def boxes(rects: Iterable[tuple[float, float, float, float]], kind: str, title: str = "") -> Mark:
    """Many rectangles (x, y, width, height) of one style as one element."""
    path = "".join(
        f"M{_number(x)} {_number(y)}h{_number(width)}v{_number(height)}h{_number(-width)}z"
        for x, y, width, height in rects
    )
    return _mark("path", kind, title, d=path)


def interval(left: float, right: float, y: float, kind: str, title: str = "") -> Mark:
    """A horizontal line with a tick at each end."""
    ends = f"M{_number(left)} {_number(y - 4)}v8M{_number(right)} {_number(y - 4)}v8"
    return _mark("path", kind, title, d=f"{ends}M{_number(left)} {_number(y)}H{_number(right)}")


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Mark:
    """Words whose baseline begins (``start``), is centred (``middle``) or ends (``end``) at a point."""
    return _mark("text", kind, "", words, x=x, y=y, text_anchor=anchor)


SHAPES = ("circle", "square", "diamond", "triangle", "cross", "plus", "bar", "down")
"""Shapes of points by the number of their series, so that colour alone tells nothing."""


def point(x: float, y: float, series: int, kind: str = "", title: str = "", size: float = 4.5) -> Mark:
    """A point of a series: its shape and colour by number; *kind* is added to its classes."""
    shape = SHAPES[series % len(SHAPES)]
    style = f"point series-{series % COLORS} {kind}".strip()
    if shape == "circle":
        return _mark("circle", style, title, cx=x, cy=y, r=size)
    return _mark("path", style, title, d=_outline(shape, x, y, size))


def points(places: Iterable[tuple[float, float]], series: int, size: float = 4.5) -> Mark:
    """Many points of a series as one element."""
    shape = SHAPES[series % len(SHAPES)]
    path = "".join(_outline(shape, x, y, size) for x, y in places)
    return _mark("path", f"point series-{series % COLORS}", "", d=path)


def _outline(shape: str, x: float, y: float, size: float) -> str:
    if shape == "circle":
        half = f"a{_number(size)} {_number(size)} 0 0 0"
        return f"M{_number(x - size)} {_number(y)}{half} {_number(2 * size)} 0{half} {_number(-2 * size)} 0Z"
    corners = _CORNERS[shape]
    return "M" + "L".join(f"{_number(x + size * dx)} {_number(y + size * dy)}" for dx, dy in corners) + "Z"


COLORS = 6
_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "triangle": ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    "down": ((0, 1.2), (1.15, -0.9), (-1.15, -0.9)),
    "bar": ((-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)),
    "cross": (
        (-1.2, -0.7), (-0.7, -1.2), (0, -0.5), (0.7, -1.2), (1.2, -0.7), (0.5, 0), (1.2, 0.7), (0.7, 1.2),
        (0, 0.5), (-0.7, 1.2), (-1.2, 0.7), (-0.5, 0),
    ),
    "plus": (
        (-0.35, -1.2), (0.35, -1.2), (0.35, -0.35), (1.2, -0.35), (1.2, 0.35), (0.35, 0.35), (0.35, 1.2),
        (-0.35, 1.2), (-0.35, 0.35), (-1.2, 0.35), (-1.2, -0.35), (-0.35, -0.35),
    ),
}  # fmt: skip


def link(target: str, marks: Iterable[Mark], label: str) -> Mark:
    """*marks* that lead to *target*, a place in the report; *label* says where that is."""
    return Mark("a", (("href", target), ("aria-label", label)), children=tuple(marks))


def written(mark: Mark) -> str:
    """The element as text."""
    attributes = "".join(f" {name}={quoteattr(_value(value))}" for name, value in mark.attributes)
    inside = f"<title>{_plain(mark.title)}</title>" if mark.title else ""
    inside += _plain(mark.text) + "".join(map(written, mark.children))
    return f"<{mark.tag}{attributes}>{inside}</{mark.tag}>" if inside else f"<{mark.tag}{attributes}/>"


def _value(value: Attribute) -> str:
    return _clean(value) if isinstance(value, str) else _number(value)


def _plain(words: str) -> str:
    return escape(_clean(words))


def _clean(words: str) -> str:
    """*words* without control characters, which no document may hold."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) == "Cc" else c for c in words)


def _number(value: float) -> str:
    """A coordinate with a tenth of a pixel."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def fitted(words: str, width: float, size: float = 12.0) -> str:
    """*words* cut to *width* pixels at a font of *size*, with an ellipsis where something is missing."""
    if width_of(words, size) <= width:
        return words
    kept = ""
    for sign in words:
        if width_of(kept + sign + "…", size) > width:
            break
        kept += sign
    return f"{kept.rstrip()}…"


def width_of(words: str, size: float = 12.0) -> float:
    """About how many pixels *words* take: a generous estimate, since no font is known here."""
    return size * sum(
        0.0 if unicodedata.combining(sign) else 1.05 if unicodedata.east_asian_width(sign) in "WF" else 0.58
        for sign in words
    )
