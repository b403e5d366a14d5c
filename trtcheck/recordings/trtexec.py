"""The JSON files of trtexec, written by samples/common/sampleReporting.cpp of TensorRT 7.2 to 11.1."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtcheck.errors import EngineError
from trtcheck.recordings.files import read_text
from trtcheck.recordings.recording import TimedRun, Times

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\b(?:nan(?:\((?:ind|snan)\))?|inf(?:inity)?)(?![\w.])', re.I | re.S)
"""A string, which stays as it is, or a number that C++ prints in a way that JSON does not know."""
_DIMENSIONS = re.compile(r"\d{1,12}(?:x\d{1,12}){0,7}|\(\d{1,12}(?:, \d{1,12}){0,7}\)")
_OUTPUT_KEYS = ("name", "dimensions", "values")
_NUMBERS = frozenset((int, float))
"""The types of numbers in JSON; bool is none, although Python counts it among the integers."""
_TRANSFERS = (("h2dMs", "d2hMs"), ("inMs", "outMs"))
"""Names of the transfers' times, of trtexec 8 and later and of trtexec 7."""
_STARTS = ("startH2dMs", "startInMs")
"""Names of a query's start, likewise; without transfers it is that of the computation."""
_SHORTEST_MS, _LONGEST_MS = 1e-6, 1e9
"""No query takes less than a nanosecond, nor more than eleven days: figures beyond are damage, and what is
reckoned from them would leave the range of numbers."""


def parse(text: str, where: Path) -> Any:
    """The JSON *text*; ``nan``, ``-nan``, ``inf`` and ``-inf``, as C++ prints them, are read too.

    Raises:
        EngineError: It is no JSON.
    """
    try:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return json.loads(_TOKEN.sub(_spelled_for_json, text))
    except json.JSONDecodeError as error:
        raise EngineError(
            "is no valid JSON", where=where, expected="a file that its program wrote to the end", found=error
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:  # also an integer of thousands of digits
        raise EngineError("cannot be read as JSON", where=where, found=error) from error


def _spelled_for_json(found: re.Match[str]) -> str:
    token = found[0]
    if token.startswith('"'):
        return token
    if "nan" in token.lower():
        return "NaN"  # the sign of a NaN means nothing, and JSON readers know no -NaN
    return "-Infinity" if token.startswith("-") else "Infinity"


def outputs(text: str, where: Path) -> dict[str, np.ndarray]:
    """The outputs of one batch from the JSON that ``trtexec --exportOutput`` wrote.

    Args:
        text: The file's text: a list of ``{"name", "dimensions": "32x10", "values": [...]}``.
        where: The file, for messages.

    Returns:
        Arrays (rows, ...) by name: int64 where trtexec printed whole numbers alone, else float32.

    Raises:
        EngineError: It is no such file.
    """
    if "reported by the output allocator" in text:
        raise EngineError(
            "an output's shape depends on the data, which trtexec writes as no JSON", where=where,
            expected="outputs whose shape follows from the input's",
            hint="record such a model with Polygraphy, or into an .npz",
        )  # fmt: skip
    entries = parse(text, where)
    if not isinstance(entries, list) or not entries:
        raise _not_outputs(where, "a list without entries" if entries == [] else _kind(entries))
    found: dict[str, np.ndarray] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or any(key not in entry for key in _OUTPUT_KEYS):
            keys = ", ".join(map(str, entry)) if isinstance(entry, dict) else _kind(entry)
            raise _not_outputs(where, f"entry {number}: {keys or 'nothing'}")
        name = entry["name"]
        if not isinstance(name, str) or name in found:
            what = "is named twice" if isinstance(name, str) else "is no name"
            raise EngineError(f"output {name!r} {what}", where=where, expected="one entry an output")
        found[name] = _array(entry, name, where)
    return found


def _not_outputs(where: Path, found: str) -> EngineError:
    times = "computeMs" in found
    return EngineError(
        "are trtexec's times, not its outputs" if times else "are no outputs of trtexec", where=where,
        expected="a list of {name, dimensions, values}, as trtexec --exportOutput writes", found=found,
        hint='name the file as times = "…" in the recording\'s .toml' if times else None,
    )  # fmt: skip


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
    return kinds.get(type(value), repr(value)[:80])


def _array(entry: dict[str, Any], name: str, where: Path) -> np.ndarray:
    dimensions, values = entry["dimensions"], entry["values"]
    if not isinstance(dimensions, str) or not _DIMENSIONS.fullmatch(dimensions):
        raise EngineError(
            f"output '{name}' has no axis of images", where=where, expected='dimensions such as "32x10"',
            found=f"dimensions {dimensions!r}"[:200],
        )  # fmt: skip
    shape = tuple(int(size) for size in re.findall(r"\d+", dimensions))
    array = _numbers(values)
    if array is None:
        raise EngineError(
            f"output '{name}' has values that are no numbers", where=where, expected="a list of numbers",
            found=_odd(values),
        )  # fmt: skip
    if math.prod(shape) != array.size:
        raise EngineError(
            f"output '{name}' has too few or too many values", where=where,
            expected=f"{math.prod(shape)} values for {dimensions}", found=f"{array.size} values",
        )  # fmt: skip
    return array.reshape(shape)


def _numbers(values: object) -> np.ndarray | None:
    """A list of numbers as int64 or float32 (n,); None if it is something else."""
    if not isinstance(values, list) or not _NUMBERS.issuperset(map(type, values)):
        return None
    try:
        array = np.asarray(values)
    except OverflowError:
        return None
    if array.size and array.dtype.kind not in "iuf":  # an integer beyond everything
        return None
    if array.size and array.dtype.kind == "i":
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _odd(values: object) -> str:
    """What is wrong with *values* that are no list of numbers: the first that is none, and its place."""
    if not isinstance(values, list):
        return _kind(values)
    number, value = next(
        (number, value)
        for number, value in enumerate(values)
        if type(value) not in _NUMBERS or (isinstance(value, int) and abs(value) >= 2**63)
    )
    return f"value {number}: {_kind(value)}"


def times(paths: Sequence[Path]) -> Times:
    """What ``trtexec --exportTimes`` wrote into the files at *paths*, each a run of its own.

    Raises:
        EngineError: A file is no such file, holds no sample, or timed transfers where another did not.
    """
    runs = tuple(map(_run, paths))
    for path, run in zip(paths, runs, strict=True):
        if run.transfers != runs[0].transfers:
            words = ("times without transfers", "times with transfers")
            raise EngineError(
                "the files of times were not made alike", where=path,
                expected=f"{words[runs[0].transfers]}, as {paths[0].name}", found=words[run.transfers],
                hint="trtexec 11 times transfers with --includeDataTransfers, 8 and 10 do unless told not to",
            )  # fmt: skip
    return Times(runs)


def _run(path: Path) -> TimedRun:
    latency, compute, transfer, start = np.array(_samples(path), np.float64).T
    if np.isnan(start).any():  # not said: one query right after the other
        start = np.cumsum(latency) - latency
    back = np.flatnonzero(np.diff(start) < 0)
    if back.size:  # trtexec sorts by start; without that order there is no throughput
        raise EngineError(
            f"entry {back[0] + 1} began before the one above it", where=path,
            expected="queries in the order of their starts, as trtexec --exportTimes writes them",
            found=f"{start[back[0] + 1]:g} ms after {start[back[0]]:g} ms",
        )  # fmt: skip
    # The median, since trtexec 11 may copy the inputs of its very first query alone.
    return TimedRun(latency, compute, start, bool(np.median(transfer) > 0))


def _samples(path: Path) -> list[tuple[float, float, float, float]]:
    """Latency, computation, transfers and start of every query, in milliseconds."""
    entries = parse(read_text(path), path)
    wanted = "a list of {…, computeMs, …, latencyMs}, as trtexec --exportTimes writes"
    if not isinstance(entries, list) or not entries:
        found = "a list without entries" if entries == [] else _kind(entries)
        raise EngineError("holds no times", where=path, expected=wanted, found=found)
    return [_sample(entry, number, path, wanted) for number, entry in enumerate(entries)]


def _sample(entry: Any, number: int, path: Path, wanted: str) -> tuple[float, float, float, float]:
    if not isinstance(entry, dict) or "latencyMs" not in entry or "computeMs" not in entry:
        keys = ", ".join(map(str, entry)) if isinstance(entry, dict) else _kind(entry)
        raise EngineError(
            "holds no times", where=path, expected=wanted, found=f"entry {number}: {keys}"[:200]
        )
    moves = [entry.get(key, 0.0) for pair in _TRANSFERS for key in pair]
    starts = [entry[key] for key in _STARTS if key in entry]
    read = [_milliseconds(value) for value in (entry["latencyMs"], entry["computeMs"], *moves, *starts)]
    known = [value for value in read if value is not None]
    if len(known) < len(read) or known[0] < _SHORTEST_MS or 0 < known[1] < _SHORTEST_MS:
        raise EngineError(
            f"entry {number} is no time", where=path,
            expected=f"finite milliseconds up to {_LONGEST_MS:g}, a latency of {_SHORTEST_MS:g} or more",
            found=str({key: entry[key] for key in ("latencyMs", "computeMs")})[:200],
        )  # fmt: skip
    latency, compute, *others = known
    return latency, compute, sum(others[: len(moves)]), others[-1] if starts else math.nan


def _milliseconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if 0 <= number <= _LONGEST_MS else None
