"""A pytest plugin that tells where the time of a run goes; `warm.py` loads it.

Each part's time is its own: what it calls of other parts is theirs. Written as JSON to the file that
``WARM_PROBE`` names: seconds by part, and how often what is costly was done.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Stopwatch:
    """Time by part, of the part that is at work."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._stack: list[str] = []
        self._since = time.perf_counter()

    def _book(self) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Books the time within to *name*."""
        self._book()
        self._stack.append(name)
        try:
            yield
        finally:
            self._book()
            self._stack.pop()

    def times(self, owner: Any, function: str, name: str | Callable[..., str]) -> None:
        """Books every call of *function* of *owner* to *name*, or to what that makes of its arguments."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            part = name if isinstance(name, str) else name(*args)
            self.counts[f"{part}: calls"] += 1
            with self.part(part):
                return original(*args, **kwargs)

        setattr(owner, function, timed)

    def counts_calls(self, owner: Any, function: str, count: Callable[..., dict[str, int]]) -> None:
        """Adds what *count* makes of the arguments of every call of *function* of *owner*."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.counts.update(count(*args))
            return original(*args, **kwargs)

        setattr(owner, function, counted)


WATCH = Stopwatch()
_BEGAN = float(os.environ["WARM_BEGAN"])
"""When the process was started, seconds since the epoch."""


def _watch_all() -> None:
    """Wraps what a run does; imports it first."""
    import onnxruntime

    import trtcheck.calibration.examine
    import trtcheck.checks
    import trtcheck.report.folder  # noqa: F401
    from trtcheck import digests, session
    from trtcheck.data import arrays
    from trtcheck.items import CheckItem
    from trtcheck.recorder import Recorder

    bench = session.Workbench
    WATCH.times(digests, "of_files", "digests of files")
    WATCH.times(digests, "of_array", "digests of data")
    WATCH.times(session, "resolve", "opening models and data")
    WATCH.times(bench, "built", "engines from the cache")
    WATCH.times(bench, "load", "loading engines")
    WATCH.times(bench, "_compared", lambda _bench, _case, engine: f"evaluation of {engine.name}")
    WATCH.times(bench, "_in_batches", "batch invariance")
    WATCH.times(bench, "_of_calibration_data", "calibration: data")
    WATCH.times(bench, "_saturation", "calibration: ranges")
    WATCH.times(bench, "latency", "latency")
    WATCH.times(CheckItem, "runtest", "verdicts")
    WATCH.times(Recorder, "_finish", "report")
    WATCH.counts_calls(digests, "of_files", lambda paths: {"bytes of files digested": _size(paths)})
    WATCH.counts_calls(digests, "of_array", lambda array: {"bytes of data digested": array.nbytes})
    WATCH.counts_calls(arrays, "_npz_array", lambda *_args: {"arrays unpacked": 1})
    WATCH.counts_calls(onnxruntime.InferenceSession, "__init__", lambda *_args: {"sessions opened": 1})
    WATCH.counts_calls(
        arrays.ArrayImages, "read", lambda _images, start, stop, *_empty: {"images read": stop - start}
    )


def _size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Times start and collection, then imports what a run imports and watches it."""
    WATCH.seconds["start of pytest"] = time.time() - _BEGAN
    with WATCH.part("collection"):
        found = yield
    with WATCH.part("imports"):
        _watch_all()
    return found


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Writes what was found."""
    seconds = {**WATCH.seconds, "whole": time.time() - _BEGAN}
    text = json.dumps({"seconds": seconds, "counts": dict(WATCH.counts)})
    Path(os.environ["WARM_PROBE"]).write_text(text, encoding="utf-8")
