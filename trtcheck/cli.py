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


_WITH_THEIR_OWN = {
    "export-inputs": (
        "trtcheck.recordings.export", "write the inputs for a device on which pytest cannot run"
    ),
    "predict": ("trtcheck.predict", "show what a model sees in an image, before and after"),
    "report": ("trtcheck.report.command", "make a report anew, or one of several jobs"),
}  # fmt: skip
"""Subcommands with a parser of their own: their module, and what they do."""


def _run(arguments: Sequence[str]) -> int:
    module = _WITH_THEIR_OWN.get(arguments[0] if arguments else "", ("", ""))[0]
    if module:
        # It has a parser of its own, which writes its own --help.
        status: int = importlib.import_module(module).main(arguments[1:])
        return status
    return _doctor(arguments)


def _tell(text: str, *, after: str = "") -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{after}{PROGRAM}: {text}\n")


def _discard_output() -> None:
    """Leaves Python nothing to complain about when it ends and writes out what is left."""
    with suppress(OSError, ValueError):  # no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _doctor(arguments: Sequence[str]) -> int:
    from trtcheck.doctor import command

    parser = argparse.ArgumentParser(
        PROGRAM, description="Tools beside the pytest plugin; the tests themselves are run by pytest."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    doctor = commands.add_parser(
        "doctor", help="show what is installed, find conflicts, test every backend",
        description="Shows what is installed, finds conflicts, and tests every backend on a small net "
        "against numpy. The output can be pasted into an issue. Exit status: 0 where nothing is wrong, "
        "1 where something is, 2 for a wrong option.",
    )  # fmt: skip
    command.add_options(doctor)
    for name, (_, text) in _WITH_THEIR_OWN.items():
        commands.add_parser(name, add_help=False, help=text)
    return command.run(parser.parse_args(arguments))


def _version() -> str:
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "(not installed as a distribution)"
