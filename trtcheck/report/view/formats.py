"""Figures and names as people read them; a figure that is None stays None."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trtcheck import digests, names
from trtcheck.case import Precision
from trtcheck.report.view.records import Record

SHOWN_NODES = 8
"""Nodes of a graph that are told by name before the rest is counted."""

_MINUS = "\N{MINUS SIGN}"
_PRECISIONS = frozenset(precision.value for precision in Precision)


def grouped(value: int) -> str:
    """A count; from five digits on in groups of three."""
    return str(value) if abs(value) < 10_000 else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def count(value: int | None) -> str | None:
    """A count that may be undefined."""
    return None if value is None else grouped(value)


def number_of(value: int, one: str, many: str) -> str:
    """A count and what is counted: ``1 class``, ``2 classes``."""
    return f"{grouped(value)} {one if value == 1 else many}"


def signed(value: int) -> str:
    """A change of a count."""
    return f"+{grouped(value)}" if value > 0 else grouped(value).replace("-", _MINUS)


def share(value: float | None) -> str | None:
    """A fraction of 1: ``.870``."""
    return None if value is None else names.fraction(value)


def points(value: float | None) -> str | None:
    """A difference of fractions in percentage points, without the unit."""
    return None if value is None else names.points(value).removesuffix(" points").replace("-", _MINUS)


def change(value: float | None) -> str | None:
    """A relative change in percent with its sign: ``+5.3 %``."""
    return None if value is None else f"{_MINUS if value < 0 else '+'}{names.percent(abs(value))}"


def interval(ends: Sequence[float] | None) -> str | None:
    """The ends of an interval of differences in percentage points, without the unit."""
    return None if ends is None else f"{points(ends[0])} to {points(ends[1])}"


def p_value(p: float | None) -> str | None:
    """A p-value without its ``p =``: ``.012``, ``< 1e-9``."""
    return None if p is None else names.p_value(p).removeprefix("p = ").removeprefix("p ")


def figure(value: float | None, form: str = ".3g") -> str | None:
    """Any other figure, by default with three digits."""
    return None if value is None else format(value, form)


def with_unit(text: str | None, unit: str) -> str | None:
    """A formatted figure and its unit."""
    return None if text is None else f"{text} {unit}"


def digest(value: str | None) -> str | None:
    """The first digits of a digest."""
    return None if value is None else digests.short(value)


def shown_engine(engine: str) -> str:
    """The engine as people write it: precisions in capitals (also before a job's name), files as they are."""
    name, at, job = engine.partition(" @ ")
    return f"{name.upper()}{at}{job}" if name in _PRECISIONS else engine


def answer(name: str | None) -> str:
    """The class that was answered, if any."""
    return "no answer" if name is None else name


def nodes(found: Iterable[str]) -> str:
    """Nodes of a graph by name, many of them counted."""
    return names.listed(found, SHOWN_NODES)


def backend_name(backend: Record) -> str:
    """Name and version of a backend, as far as they are known."""
    return " ".join(str(backend[key]) for key in ("name", "version") if backend.get(key))
