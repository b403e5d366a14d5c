"""A thread that whatever has to be done in one and the same thread is handed to."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import final

_PATIENCE_S = 5.0
"""Work may wait for somebody who has given up; the thread ends with the process then."""


@final
class Worker:
    """A thread that does one piece of work after the other, from the first until it is closed.

    Args:
        name: What the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._todo: SimpleQueue[tuple[Callable[[], None], Event] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._started = False

    def submit(self, work: Callable[[], None]) -> Event:
        """Hands over *work*, which must not raise; what is returned is set once it is done."""
        if not self._started:
            self._started = True
            self._thread.start()
        done = Event()
        self._todo.put((work, done))
        return done

    def close(self) -> None:
        """Ends the thread after all that was handed over; waits a while for that."""
        if self._started:
            self._todo.put(None)
            self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while (one := self._todo.get()) is not None:
            work, done = one
            try:
                work()
            finally:
                done.set()
