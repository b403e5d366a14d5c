"""One table of a suite file: every key read once, every mistake one sentence."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trtcheck.errors import OptionError, SuiteError
from trtcheck.given import LARGEST, TEXTS, real, shown
from trtcheck.settings import at_home, kind_of

T = TypeVar("T")


class Table:
    """One table of the file, which remembers what was read, so that the rest can be refused."""

    def __init__(self, path: Path, key: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self.key = key
        self.values = values
        self._known: set[str] = set()

    def at(self, name: str) -> str:
        """The whole key of *name*."""
        return f"{self.key}.{name}" if self.key else name

    def wrong(self, name: str, expected: str, what: str = "has a wrong value") -> SuiteError:
        """The error that says what is wrong with *name*."""
        return SuiteError(
            f"{self.at(name)} {what}", where=self.path, expected=expected, found=shown(self.values.get(name))
        )

    def get(self, name: str, default: T, expected: str, read: Callable[[Any], T | None]) -> T:
        """The value of *name* as *read* has it (None: wrong), or *default* where it is not given."""
        self._known.add(name)
        if name not in self.values:
            return default
        value = read(self.values[name])
        if value is None:
            raise self.wrong(name, expected)
        return value

    def text(self, name: str, default: str | None = None) -> str | None:
        """A string that is not empty."""
        return self.get(name, default, "a string", lambda v: v if isinstance(v, str) and v else None)

    def choice(self, name: str, default: T, choices: tuple[str, ...]) -> str | T:
        """One of the strings *choices*."""
        expected = " or ".join(f'"{choice}"' for choice in choices)
        return self.get(name, default, expected, lambda v: v if v in choices else None)

    def count(self, name: str, default: int) -> int:
        """A whole number, 1 or more."""
        return self.get(name, default, "a whole number, 1 or more", lambda v: v if whole(v) else None)

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of strings."""
        return self.get(name, default, *TEXTS)

    def table(self, name: str) -> Table | None:
        """The table *name*; None where there is none."""
        self._known.add(name)
        return self.required_table(name) if name in self.values else None

    def required_table(self, name: str) -> Table:
        """The table *name*, which must be there."""
        self._known.add(name)
        if not isinstance(self.values[name], dict):
            raise self.wrong(name, f"a table [{self.at(name)}]")
        return Table(self.path, self.at(name), self.values[name])

    def file(self, name: str) -> Path | None:
        """The path under *name*, relative to the suite file; it must exist."""
        text = self.text(name)
        return None if text is None else self.existing(name, text)

    def existing(self, name: str, text: str) -> Path:
        """The path *text*, relative to the suite file, that stands under *name*; it must exist."""
        try:
            path = self.path.parent / at_home(text, self.at(name))
        except OptionError as error:
            raise SuiteError(str(error), where=self.path) from error
        if kind_of(path) is None:
            raise SuiteError(
                f"{self.at(name)} names a file that is not there", where=self.path, expected=path,
                found="no such file or folder", hint="paths are relative to the suite file",
            )  # fmt: skip
        return path

    def finish(self) -> None:
        """Refuses keys that nobody read."""
        unknown = [name for name in self.values if name not in self._known]
        if unknown:
            close = difflib.get_close_matches(unknown[0], self._known, n=1)
            raise SuiteError(
                f"unknown key {self.at(unknown[0])}", where=self.path,
                expected=f"one of: {', '.join(sorted(self._known))}", found=unknown[0],
                hint=f"did you mean {close[0]}?" if close else None,
            )  # fmt: skip


def number(value: object) -> bool:
    """Whether *value* is a finite number."""
    found = real(value)
    return found is not None and math.isfinite(found)


def whole(value: object, least: int = 1) -> bool:
    """Whether *value* is a whole number, *least* or more."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST
