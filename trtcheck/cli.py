"""The command ``pytest-trtcheck``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata

from trtcheck.errors import OptionError, TrtcheckError

PROGRAM = "pytest-trtcheck"
USAGE_ERROR = 2
"""Exit status for what cannot be used, as argparse's own."""
INTERRUPTED = 130
"""Exit status where a person ended it, as the shell's own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Its arguments; None takes those of this process.

    Returns:
        The exit status: the subcommand's own, 2 with a message on standard error, or 130 where it was
        interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if sys.stdout is None:
            raise OptionError("there is nowhere to write to", expected="an open standard output")
        try:
            return _run(arguments)
        finally:
            # Here, and not while Python ends, an output that takes no more can be told in words.
            sys.stdout.flush()
    except TrtcheckError as error:
        _tell(str(error))
        return USAGE_ERROR
    except OSError as error:
        _discard_output()
        _tell(f"it cannot go on\n  found:    {error}")
        return USAGE_ERROR
    except KeyboardInterrupt:
        _tell("interrupted", after="\n")  # behind the ^C of the terminal
        return INTERRUPTED


_COMMANDS = {
    "doctor": (
        "trtcheck.doctor.command", "show what is installed, find conflicts, test every backend"
    ),
    "export-inputs": (
        "trtcheck.recordings.export", "write the inputs for a device on which pytest cannot run"
    ),
    "predict": ("trtcheck.prediction.command", "show what a model sees in an image, before and after"),
    "report": ("trtcheck.report.command", "make a report anew, or one of several jobs"),
}  # fmt: skip
"""The subcommands: their module, whose ``main`` has a parser of its own, and what they do."""


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in _COMMANDS:
        module, _ = _COMMANDS[arguments[0]]
        status: int = importlib.import_module(module).main(arguments[1:])
        return status
    parser = argparse.ArgumentParser(
        PROGRAM, description="Tools beside the pytest plugin; the tests themselves are run by pytest."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (_, text) in _COMMANDS.items():
        commands.add_parser(name, add_help=False, help=text)
    parser.parse_args(arguments)  # tells what is wrong, or what was asked for, and ends here
    return USAGE_ERROR


def _tell(text: str, *, after: str = "") -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{after}{PROGRAM}: {text}\n")


def _discard_output() -> None:
    """Leaves Python nothing to complain about when it ends and writes out what is left."""
    with suppress(OSError, ValueError):  # no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "(not installed as a distribution)"
