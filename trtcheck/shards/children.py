"""Child processes of this machine as an executor: each has its own GPU, and one that dies is replaced."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, final

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")

_ENDS = 5.0
"""Seconds that a child has to end by itself."""


@final
class Children(Executor):
    """One child process a place; a task goes to a child that is free.

    A child is started for its first task. One that dies in a task breaks that task alone
    (`concurrent.futures.BrokenExecutor`), and the next task of its place gets a new child.

    Args:
        places: Variables that each child's environment has besides this process's, such as its GPU.
    """

    def __init__(self, places: Sequence[Mapping[str, str]]) -> None:
        self._free: queue.SimpleQueue[_Place] = queue.SimpleQueue()
        self._places = [_Place(place) for place in places]
        for place in self._places:
            self._free.put(place)
        self._threads = ThreadPoolExecutor(len(places), thread_name_prefix="trtcheck-shard")

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Runs ``fn(*args, **kwargs)`` in a child; what it raises arrives as `RuntimeError`."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def _run(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        place = self._free.get()  # there are as many threads as places
        try:
            return place.call(fn, args, kwargs)
        finally:
            self._free.put(place)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the children; with *cancel_futures* also those that work."""
        if cancel_futures:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for place in self._places:
                place.kill()
        self._threads.shutdown(wait=wait)
        for place in self._places:
            place.end()


class _Place:
    """A child process, started anew where it died."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)
        self._lock = threading.Lock()
        self._child: tuple[Any, Connection] | None = None
        self._closed = False

    def call(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        process, pipe = self._started()
        try:
            pipe.send((fn, args, kwargs))
            done, value = pipe.recv()
        except (EOFError, OSError) as error:
            process.join(_ENDS)
            told = f"process {process.pid} {_ended(process.exitcode)}"
            self.end()
            raise BrokenExecutor(told) from error
        if not done:
            raise RuntimeError(value)
        result: T = value
        return result

    def _started(self) -> tuple[Any, Connection]:
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot start a process after shutdown")
            if self._child is None:
                # Spawned: neither CUDA nor the threads of ONNX Runtime survive a fork.
                context = multiprocessing.get_context("spawn")
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, self._variables), daemon=True)
                process.start()
                theirs.close()  # or its end would never be noticed
                self._child = process, ours
            return self._child

    def kill(self) -> None:
        """Ends the child whatever it does; no other is started."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child[0].kill()

    def end(self) -> None:
        """Ends the child, which does nothing."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            process, pipe = child
            pipe.close()
            process.join(_ENDS)
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()


def _ended(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _serve(pipe: Connection, variables: Mapping[str, str]) -> None:
    """Runs what comes through *pipe* until its other end is closed; the child's ``main``."""
    # Before anything that loads CUDA is imported, as the first task does.
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides
    while True:
        try:
            fn, args, kwargs = pipe.recv()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001  what cannot be unpickled here
            pipe.send((False, f"{type(error).__name__}: {error}"))
            continue
        try:
            answer = (True, fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  it goes to whoever asked
            answer = (False, f"{type(error).__name__}: {error}")
        pipe.send(answer)
