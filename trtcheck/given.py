"""What becomes of values that users give: builtins of the right kind, or nothing where they cannot be used.

Every function takes what was given and returns what is kept of it; None where that is wrong.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trtcheck.errors import CaseError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

E = TypeVar("E", bound=StrEnum)

Reader = tuple[str, Callable[[Any], Any]]
"""What is expected, in words, and what becomes of a value: None where it is wrong."""


def real(value: object) -> float | None:
    """The number *value* (also a scalar of numpy) as a float; None where it is none, or too large."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def share(value: object) -> float | None:
    """The number *value* if it is from 0 to 1."""
    number = real(value)
    return number if number is not None and 0 <= number <= 1 else None


def at_least_zero(value: object) -> float | None:
    """The number *value* if it is finite and 0 or more."""
    number = real(value)
    return number if number is not None and number >= 0 and math.isfinite(number) else None


def rate(value: object) -> float | None:
    """The number *value* if it is from 1e-9 to .5; one minus a much smaller one would be 1."""
    number = real(value)
    return number if number is not None and 1e-9 <= number <= 0.5 else None


SHARE: Reader = ("a number from 0 to 1", share)
AT_LEAST_ZERO: Reader = ("a number, 0 or more", at_least_zero)
RATE: Reader = ("a number from 1e-9 to 0.5", rate)


def shown(value: object) -> str:
    """The *value* with its type, for messages; of a long one the beginning."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no number of thousands of digits
        text = "a whole number of too many digits"
    return f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '…'} ({type(value).__name__})"


_SHOWN = 300


def wrong(name: str, expected: str, found: object) -> CaseError:
    """The error that says that the value called *name* cannot be used."""
    return CaseError(f"{name} has a wrong value", expected=expected, found=shown(found))


def require(spec: DataclassInstance) -> None:
    """Refuses None where it is not what a field of *spec* has by default.

    Raises:
        CaseError: A value is missing.
    """
    for own in fields(spec):
        if getattr(spec, own.name) is None and own.default is not None:
            raise wrong(f"{type(spec).__name__}.{own.name}", "a value, or nothing for the default", None)


def settle(spec: object, names: Iterable[str], expected: str, read: Callable[[Any], object | None]) -> None:
    """Replaces fields of the frozen *spec* that are not None by what *read* makes of them.

    Whatever a caller gives ends up in JSON, so that it becomes a builtin here, or is refused (None).

    Raises:
        CaseError: A value cannot be used.
    """
    for name in names:
        value = getattr(spec, name)
        if value is None:
            continue
        settled = read(value)
        if settled is None:
            raise wrong(f"{type(spec).__name__}.{name}", expected, value)
        object.__setattr__(spec, name, settled)


def whole(value: object) -> int | None:
    """The whole number *value* (also a scalar of numpy)."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


LARGEST = 2**31 - 1
"""No size is larger: native libraries take no more."""


def count(value: object) -> int | None:
    """The whole number *value* if it is 1 or more."""
    number = whole(value)
    return number if number is not None and 1 <= number <= LARGEST else None


def none_or_more(value: object) -> int | None:
    """The whole number *value* if it is 0 or more."""
    number = whole(value)
    return number if number is not None and 0 <= number <= LARGEST else None


NONE_OR_MORE: Reader = ("a whole number, 0 or more", none_or_more)


def items_of(value: object) -> tuple[Any, ...] | None:
    """The entries of a list or array; a text or a mapping is none."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return None
    try:
        return tuple(value)
    except TypeError:  # an array without dimensions
        return None


def reals(value: object) -> tuple[float, ...] | None:
    """The numbers of *value*, also where it is a single one."""
    entries = (value,) if isinstance(value, Real) else items_of(value)
    numbers = None if entries is None else [number for number in map(real, entries) if number is not None]
    return None if entries is None or numbers is None or len(numbers) < len(entries) else tuple(numbers)


def pixels(value: object) -> int | tuple[int, int] | None:
    """A size: one number, or (height, width)."""
    entries = items_of(value)
    if entries is None:
        return whole(value)
    numbers = [number for number in map(whole, entries) if number is not None]
    return (numbers[0], numbers[1]) if len(numbers) == len(entries) == 2 else None


def texts(value: object) -> tuple[str, ...] | None:
    """The strings of *value*."""
    entries = items_of(value)
    if entries is None or not all(isinstance(entry, str) for entry in entries):
        return None
    return tuple(map(str, entries))


TEXTS: Reader = ("a list of strings", texts)


def member(kind: type[E], value: object) -> E | None:
    """The member of *kind* that *value* names."""
    return next((known for known in kind if known == value), None) if isinstance(value, str) else None


def one_of(kind: type[StrEnum]) -> Reader:
    """What reads a member of *kind* by its name."""
    return " or ".join(f'"{known}"' for known in kind), partial(member, kind)


def members(kind: type[E], value: object) -> tuple[E, ...] | None:
    """The members of *kind* that the entries of *value* name."""
    entries = items_of(value)
    found = [known for entry in entries or () if (known := member(kind, entry)) is not None]
    return tuple(found) if entries is not None and len(found) == len(entries) else None


def counts(value: object) -> tuple[int, ...] | None:
    """The whole numbers of *value*, each 1 or more."""
    numbers = [count(entry) for entry in items_of(value) or ()]
    return tuple(number for number in numbers if number) if numbers and all(numbers) else None


def ascends(low: tuple[int, ...], middle: tuple[int, ...], high: tuple[int, ...]) -> bool:
    """Whether three shapes of one rank grow, or stay, in every dimension."""
    same = len(low) == len(middle) == len(high)
    return same and all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


def batches(value: object) -> tuple[int, ...] | None:
    """Three batch sizes that grow, or stay."""
    sizes = counts(value)
    return sizes if sizes is not None and len(sizes) == 3 and list(sizes) == sorted(sizes) else None


def positive(value: object) -> float | None:
    """The number *value* if it is above 0, and no larger than any size."""
    number = at_least_zero(value)
    return number if number and number <= LARGEST else None


def level(value: object) -> int | None:
    """The whole number *value* if it is from 0 to 5."""
    number = whole(value)
    return number if number is not None and 0 <= number <= 5 else None


def paths(value: object) -> tuple[Path, ...] | None:
    """The paths of *value*."""
    entries = items_of(value)
    found = [path for path in map(a_path, entries or ()) if path is not None]
    return tuple(found) if entries is not None and len(found) == len(entries) else None


def a_path(value: Any) -> Path | None:
    """The path *value*."""
    try:
        return Path(value)
    except TypeError:
        return None


def flag(value: object) -> bool | None:
    """The truth value *value*."""
    return value if isinstance(value, bool) else None


def sizes(value: object) -> tuple[int, ...] | None:
    """Different batch sizes, ascending; one number is one of them."""
    found = counts((value,) if whole(value) is not None else value)
    fits = found is not None and len(set(found)) == len(found) and max(found) <= _MOST_IMAGES
    return tuple(sorted(found)) if found is not None and fits else None


def one_size(value: object) -> int | None:
    """The batch size *value*."""
    number = count(value)
    return number if number is not None and number <= _MOST_IMAGES else None


_MOST_IMAGES = 2**20
"""More images than any query has: a batch, unlike a data set, is held in memory as a whole."""


def rounds(value: object) -> int | None:
    """The whole number *value* if that many rounds can be judged, and be waited for."""
    number = count(value)
    return number if number is not None and _FEWEST_ROUNDS <= number <= _MOST_ROUNDS else None


_FEWEST_ROUNDS, _MOST_ROUNDS = 8, 1000


def below_one(value: object) -> float | None:
    """The number *value* if it is from 0 to below 1."""
    number = share(value)
    return number if number is not None and number < 1 else None


def slowdown(value: object) -> float | None:
    """The number *value* if it is from 0 to 10: a slowdown of 1 is twice the time."""
    number = at_least_zero(value)
    return number if number is not None and number <= 10 else None


def by_batch(value: object) -> dict[int, float] | float | None:
    """A number above 0, or one by batch size, which a suite file writes as a string."""
    if not isinstance(value, Mapping):
        return positive(value)
    found = {_size(batch): positive(limit) for batch, limit in value.items()}
    settled = {batch: limit for batch, limit in found.items() if batch is not None and limit is not None}
    return settled if settled and len(settled) == len(value) else None


def _size(value: object) -> int | None:
    plain = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 11
    return count(int(value)) if isinstance(value, str) and plain else count(value)


def text(value: object) -> str | None:
    """The string *value* if it is not empty."""
    return str(value) if isinstance(value, str) and value else None


FLAG: Reader = ("True or False", flag)
SIZES: Reader = (f"different batch sizes, each a whole number from 1 to {_MOST_IMAGES}", sizes)
SIZE: Reader = (f"a whole number from 1 to {_MOST_IMAGES}", one_size)
ROUNDS: Reader = (f"a whole number from {_FEWEST_ROUNDS} to {_MOST_ROUNDS}", rounds)
SLOWDOWN: Reader = ("a number from 0 to 10", slowdown)
BELOW_ONE: Reader = ("a number from 0 to below 1", below_one)
POSITIVE: Reader = ("a number above 0", positive)
BY_BATCH: Reader = ("a number above 0, or one by batch size: {1 = 2.5, 64 = 40}", by_batch)
TEXT: Reader = ("a string", text)
