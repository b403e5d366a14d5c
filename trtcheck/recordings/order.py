"""The order of a recording's files, by the one number in which their names differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from trtcheck.errors import EngineError


def in_order(files: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """The *files* of *folder*, in the order of their numbers.

    Raises:
        EngineError: Their names differ in anything but one number, or a number is missing or given twice.
    """
    found = sorted(files, key=lambda file: (_numbers(file), file.name))
    for before, after in pairwise(found):
        if _words(before) != _words(after):
            raise _unclear(before, after, folder)
    # Where two numbers change (0_119, 240_359), nothing says which of them counts.
    places = _changing(found)
    if len(found) > 1 and len(places) != 1:
        raise _unclear(found[0], found[-1], folder)
    for before, after in pairwise(found):
        step = _numbers(after)[places[0]] - _numbers(before)[places[0]]
        if step == 0:
            raise _unclear(before, after, folder)
        if step > 1:
            raise EngineError(
                f"a batch is missing after {before.name}", where=folder, expected="numbers without a gap",
                found=f"{after.name} comes next",
            )  # fmt: skip
    return tuple(found)


def first_number(files: Sequence[Path]) -> int | None:
    """The number of the first of *files*, which are in order; None where it cannot be told."""
    numbers = _numbers(files[0])
    places = _changing(files) if len(files) > 1 else range(len(numbers))
    return numbers[places[0]] if len(places) == 1 else None


def _unclear(before: Path, after: Path, folder: Path) -> EngineError:
    return EngineError(
        "the order of the files is not clear", where=folder,
        expected="names that differ in one number alone: 0000.json, 0001.json, …",
        found=f"{before.name} and {after.name}",
        hint='name files of times in the sidecar: times = "…"; keep no others beside the outputs',
    )  # fmt: skip


def _words(file: Path) -> list[str]:
    return re.split(r"[0-9]+", file.stem)


def _numbers(file: Path) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"[0-9]+", file.stem))


def _changing(files: Sequence[Path]) -> list[int]:
    """The places at which the numbers in the names of *files* differ."""
    columns = zip(*map(_numbers, files), strict=True)
    return [place for place, column in enumerate(columns) if len(set(column)) > 1]
