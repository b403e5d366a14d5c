"""Work in a child process: what native libraries do there, a crash included, cannot end the tests.

A child module calls `serve` with a function that takes a JSON-ready request and returns a JSON-ready reply.
Whatever libraries print goes to the child's standard error; its last lines are part of a crash's message.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from trtcheck import errors
from trtcheck.errors import BackendError, TrtcheckError

Reply = dict[str, Any]
Tell = Callable[[int], None]
"""Tells the parent how many steps were done since the last call."""

_START = """
import sys
if sys.platform == "linux":  # ends with the process that asks, however that ends
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
here, module = sys.argv[1:3]
sys.path.insert(0, here)
import trtcheck
sys.path.remove(here)
import runpy
runpy.run_module(module, run_name="__main__")
"""
"""Takes this very trtcheck, wherever it is, and every other library from the child's own Python."""

_MARK = "trtcheck-child: "
"""Stands before every message on the child's standard output."""

_SHOWN = 20
"""Lines of a crashed child's output that its error shows."""


def call(
    module: str,
    request: Mapping[str, Any],
    *,
    what: str,
    advance: Callable[[int], None] = lambda _count: None,
    environment: Mapping[str, str] | None = None,
    python: str | None = None,
) -> Reply:
    """The reply of *module*, run in a child process, to *request*.

    Args:
        module: A module that ends in ``serve(...)`` where it is run as a program.
        request: What is asked, JSON-ready.
        what: The work, for messages: ``"building the engine"``.
        advance: Called with the number of steps done since the last call.
        environment: Variables added to this process's.
        python: The Python to run; None for this one.

    Raises:
        TrtcheckError: What the child raised, or BackendError where it ended without a reply.
    """
    # -P: a file of the user's working directory must not stand in for a library.
    command = [
        python or sys.executable,
        "-P",
        "-c",
        _START,
        str(Path(__file__).resolve().parent.parent),
        module,
    ]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise:
        try:
            process = subprocess.Popen(
                command, env={**os.environ, **(environment or {})}, text=True, encoding="utf-8",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise,
            )  # fmt: skip
        except OSError as error:
            raise BackendError(f"{what}: the process could not be started", found=error) from error
        with process:  # closes its pipes, whichever way this ends
            try:
                reply = _converse(process, request, advance)
                status = process.wait()
            except BaseException:
                process.kill()
                raise
        if reply is None:
            noise.seek(0)
            raise BackendError(
                f"{what} ended without an answer", found=_ended(status, noise.read()),
                hint="pytest-trtcheck doctor tells what is installed and whether it works",
            )  # fmt: skip
    if "error" in reply:
        kind = getattr(errors, reply["error"]["type"], TrtcheckError)
        raise kind(reply["error"]["text"])
    result: Reply = reply["reply"]
    return result


def _converse(
    process: subprocess.Popen[str], request: Mapping[str, Any], advance: Callable[[int], None]
) -> Reply | None:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        return None
    try:
        with stdin:
            json.dump(request, stdin)
    except BrokenPipeError:
        return None  # the child died before it read its request
    for line in stdout:
        _before, mark, text = line.partition(_MARK)
        if not mark:
            continue  # what a library printed before `serve` took its output away
        try:
            said = json.loads(text)
        except ValueError:
            return None  # the child died while it wrote
        if "advance" not in said:
            return dict(said)
        advance(said["advance"])
    return None


def _ended(status: int, noise: str) -> str:
    how = f"exit status {status}"
    if status < 0:
        names = {int(s): s.name for s in signal.Signals}
        how = f"ended by signal {names.get(-status, -status)}"
        if -status == getattr(signal, "SIGKILL", None):
            how += " (the system may have run out of memory)"
    told = "\n    ".join(noise.strip().splitlines()[-_SHOWN:])
    return f"{how}; it said:\n    {told}" if told else how


def serve(answer: Callable[[dict[str, Any], Tell], Reply]) -> None:
    """Answers the one request on standard input; the child's ``main``.

    Args:
        answer: Makes the reply; a `TrtcheckError` that it raises is raised in the parent.
    """
    with _only_channel() as channel:

        def write(said: Mapping[str, Any]) -> None:
            channel.write(f"{_MARK}{json.dumps(said)}\n")
            channel.flush()

        try:
            write({"reply": answer(json.load(sys.stdin), lambda count: write({"advance": count}))})
        except TrtcheckError as error:
            write({"error": {"type": type(error).__name__, "text": str(error)}})


def _only_channel() -> IO[str]:
    """Standard output for replies alone: whatever libraries print goes to standard error from here on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel
