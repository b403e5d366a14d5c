"""Long work shown on one line where the terminal allows it, and logged where it does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

_log = logging.getLogger("trtcheck")

SHOW_AFTER = 1.0
"""Seconds of work before a line appears; shorter work leaves the terminal alone."""
REDRAW_EVERY = 0.2
LOG_EVERY = 10.0

Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows how far a piece of work has come."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """A context whose value is called with the number of units done since the last call."""
        ...


class LoggedProgress:
    """Writes a line to the log every ten seconds."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """See `Progress.task`."""
        done, started = 0, time.monotonic()
        said = started

        def advance(count: int) -> None:
            nonlocal done, said
            done += count
            now = time.monotonic()
            if now - said >= LOG_EVERY:
                said = now
                _log.info("%s: %d%s", label, done, f" of {total}" if total else "")

        yield advance
        _log.info("%s: done in %.1f s", label, time.monotonic() - started)


class TerminalProgress:
    """Draws a bar with rich, on a line of its own that vanishes when the work is done.

    Args:
        uncaptured: A context in which the terminal can be written to.
        fresh_line: Ends the line that is being written; called before the first bar.
    """

    def __init__(
        self, uncaptured: Callable[[], AbstractContextManager[Any]], fresh_line: Callable[[], None]
    ) -> None:
        self._uncaptured = uncaptured
        self._fresh_line = fresh_line

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """See `Progress.task`."""
        bar: Any = None
        done, drawn = 0, time.monotonic() + SHOW_AFTER - REDRAW_EVERY

        def advance(count: int) -> None:
            nonlocal bar, done, drawn
            done += count
            now = time.monotonic()
            if now - drawn < REDRAW_EVERY:
                return
            drawn = now
            with self._uncaptured():
                if bar is None:
                    self._fresh_line()
                    bar = _bar()
                    bar.add_task(label, total=total)
                    bar.start()
                bar.update(bar.task_ids[0], completed=done)
                bar.refresh()

        try:
            yield advance
        finally:
            if bar is not None:
                with self._uncaptured():
                    bar.stop()


def _bar() -> Any:
    """A rich progress bar that draws only when told to, in no thread of its own."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),  # a name such as tiny[fp16] is no markup
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(), transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
