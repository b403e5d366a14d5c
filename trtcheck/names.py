"""Names of models and engines as parts of paths, and numbers as people read them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from fnmatch import fnmatchcase


def slug(name: str) -> str:
    """*name* as one part of a path: kept where it is harmless, else cleaned and made unique by a digest."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60]
    if clean and clean == name:
        return clean
    return f"{clean or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def fraction(value: float | None) -> str:
    """A share of 1 the way confusion tables print it: ``.870``, ``1.000``, ``undefined``."""
    if value is None or math.isnan(value):
        return "undefined"
    return f"{value:.3f}".removeprefix("0") if value >= 0 else f"-{fraction(-value)}"


def points(value: float | None) -> str:
    """A difference of shares in percentage points: ``1.3 points``; small ones with more digits."""
    if value is None or math.isnan(value):
        return "undefined"
    number = value * 100
    digits = 1 if abs(number) >= 0.1 or number == 0 else 2
    return f"{number:.{digits}f} points"


_READABLE = 1e9
"""Shares beyond it are told with an exponent: decimals end at some length."""


def percent(share: float, *, up: bool = False) -> str:
    """A fraction of 1 in percent with two significant digits: ``9 %``, ``.02 %``.

    Args:
        share: The fraction.
        up: Round up, as a bound that must not promise too much.
    """
    if not abs(share) < _READABLE:
        return f"{share * 100:.2g} %"
    # Twelve digits first: 9.000000000000002 is 9, also where it is rounded up.
    exact = Decimal(f"{share * 100:.12g}")
    if not exact:
        return "0 %"
    place = Decimal(1).scaleb(min(exact.adjusted() - 1, 0))
    number = exact.quantize(place, ROUND_CEILING if up else ROUND_HALF_EVEN)
    text = f"{number:f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %".removeprefix("0")


def confidence(share: float) -> str:
    """A confidence: ``99 %``, ``99.9 %``; what is missing to certainty has three digits, never none."""
    return f"{round((1 - float(f'{1 - share:.3g}')) * 100, 9):.12g} %"


def significant(value: float, digits: int = 4) -> str:
    """A number with that many significant digits, without an exponent where people read none: ``12.35``."""
    if not value or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"


def p_value(p: float) -> str:
    """A p-value, with a floor below which digits mean nothing: ``p = .012``, ``p < 1e-9``."""
    if p < 1e-9:
        return "p < 1e-9"
    return f"p = {p:.1e}" if p < 1e-3 else f"p = {p:.3f}".replace("= 0.", "= .")


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Quoted names in a row, the rest counted: ``'a', 'b' and 3 more``."""
    every = list(names)
    shown = ", ".join(f"'{name}'" for name in every[:limit])
    return shown if len(every) <= limit else f"{shown} and {len(every) - limit} more"


def matching(entry: str, names: Sequence[str]) -> tuple[str, ...]:
    """The *names* that *entry* stands for: the one it is, or those that fit it as a pattern (fnmatch)."""
    return (entry,) if entry in names else tuple(name for name in names if fnmatchcase(name, entry))


_TURNING = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def visible(text: str) -> str:
    """*text* with the signs that turn the direction of writing told by their codes, which reads safely."""
    return text.translate(_TURNING)
