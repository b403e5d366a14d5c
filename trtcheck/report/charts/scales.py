"""Where a figure stands in a picture, and which figures an axis names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class Scale(Protocol):
    """From figures to pixels."""

    @property
    def start(self) -> float:
        """The pixel of the low end."""
        ...

    @property
    def end(self) -> float:
        """The pixel of the high end."""
        ...

    def __call__(self, value: float, /) -> float:
        """The pixel at which *value* stands."""
        ...

    def ticks(self) -> tuple[float, ...]:
        """The figures that an axis names."""
        ...


@dataclass(frozen=True)
class Linear:
    """Equal distances for equal differences.

    Attributes:
        low: Figure at *start*.
        high: Figure at *end*.
        start: Pixel of *low*.
        end: Pixel of *high*.
        wanted: About how many ticks.
    """

    low: float
    high: float
    start: float
    end: float
    wanted: int = 5

    def __call__(self, value: float) -> float:
        """The pixel at which *value* stands; beyond the ends it stands at the end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self) -> tuple[float, ...]:
        """Round figures between the ends."""
        step = _step((self.high - self.low) / max(self.wanted, 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(round(k * step, 12) for k in range(first, last + 1))

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, end: float, *, wanted: int = 5, least: float = 1e-9,
        zero: bool = False,
    ) -> Linear:  # fmt: skip
        """A scale that holds all *values* with round ends.

        Args:
            values: Finite figures; where there are none, the scale goes from 0 to 1.
            start: Pixel of the low end.
            end: Pixel of the high end.
            wanted: About how many ticks.
            least: The ends are at least this far apart.
            zero: Whether it holds 0, too.
        """
        found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(found), max(found)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low < least:
            middle = (low + high) / 2
            low, high = middle - least / 2, middle + least / 2
        if high == low:  # a figure so large that *least* is nothing beside it
            low, high = low - abs(low) / 2 - least, high + abs(high) / 2 + least
        step = _step((high - low) / max(wanted, 1))
        return cls(
            math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end, wanted
        )


def _step(rough: float) -> float:
    """The round figure (1, 2 or 5 times a power of ten) next above *rough*."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


@dataclass(frozen=True)
class Log:
    """Equal distances for equal ratios, with powers of *base* as ticks.

    Attributes:
        low: Figure at *start*, above 0.
        high: Figure at *end*.
        start: Pixel of *low*.
        end: Pixel of *high*.
        base: 2 for batch sizes, 10 for the rest.
    """

    low: float
    high: float
    start: float
    end: float
    base: float = 10.0

    def __call__(self, value: float) -> float:
        """The pixel at which *value* stands; beyond the ends it stands at the end."""
        if value <= self.low:
            return self.start
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + min(share, 1.0) * (self.end - self.start)

    def ticks(self) -> tuple[float, ...]:
        """Powers of the base between the ends; many of them thinned out, few filled up with 2 and 5."""
        first = math.ceil(math.log(self.low, self.base) - 1e-9)
        last = math.floor(math.log(self.high, self.base) + 1e-9)
        stride = max(1, math.ceil((last - first + 1) / 9))
        found = tuple(self.base**k for k in range(first, last + 1, stride))
        if len(found) > 2 or self.base != 10:
            return found
        powers = range(first - 1, last + 1)
        finer = (step * 10.0**k for k in powers for step in (1, 2, 5))
        return tuple(value for value in finer if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9))

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, *, base: float = 10.0) -> Log:
        """A scale that holds all positive *values* with a little room on both sides."""
        found = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
        room = (max(found) / min(found)) ** 0.06 if max(found) > min(found) else base**0.5
        return cls(min(found) / room, max(found) * room, start, end, base)


@dataclass(frozen=True)
class Root:
    """Distances by the square root of a figure with its sign: small ones stay apart beside large ones.

    Attributes:
        low: Figure at *start*.
        high: Figure at *end*.
        start: Pixel of *low*.
        end: Pixel of *high*.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel at which *value* stands; beyond the ends it stands at the end."""
        share = (_root(value) - _root(self.low)) / (_root(self.high) - _root(self.low))
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self) -> tuple[float, ...]:
        """0, and 1, 2 and 5 times powers of ten between the ends, the largest first where they are near."""
        power = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        found = [0.0]
        for k in (power, power - 1, power - 2):
            for size in (5 * 10.0**k, 2 * 10.0**k, 10.0**k):
                for value in (size, -size):
                    apart = min(abs(self(value) - self(other)) for other in found)
                    if self.low <= value <= self.high and apart >= _APART:
                        found.append(value)
        return tuple(sorted(found))


_APART = 18.0
"""Pixels between two ticks at least."""


def _root(value: float) -> float:
    return math.copysign(math.sqrt(abs(value)), value)
