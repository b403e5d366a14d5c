"""The command ``pytest-trtcheck``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from trtcheck.errors import TrtcheckError

PROGRAM = "pytest-trtcheck"
USAGE_ERROR = 2
"""Exit status for what cannot be used, as argparse's own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Its arguments; None takes those of this process.

    Returns:
        The exit status: the subcommand's own, or 2 with a message on standard error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["export-inputs"]:
            # It has a parser of its own, which writes its own --help.
            from trtcheck.recordings import export

            status: int = export.main(arguments[1:])
            return status
        return _doctor(arguments)
    except TrtcheckError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return USAGE_ERROR


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
    commands.add_parser(
        "export-inputs",
        add_help=False,
        help="write the inputs for a device on which pytest cannot run",
    )
    return command.run(parser.parse_args(arguments))


def _version() -> str:
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "(not installed as a distribution)"
