"""``pytest-trtcheck doctor``: its options, and where its output goes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trtcheck.errors import OptionError

PROGRAM = "pytest-trtcheck doctor"
_STDOUT = "-"


def main(argv: Sequence[str]) -> int:
    """Runs the subcommand with the arguments *argv*; returns the exit status, 0 or 1.

    Raises:
        OptionError: The JSON file cannot be written.
        SystemExit: The arguments are wrong, or help was asked for.
    """
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Shows what is installed, finds conflicts, and tests every backend on a small net "
        "against numpy. The output can be pasted into an issue. Exit status: 0 where nothing is wrong, "
        "1 where something is, 2 for a wrong option.",
    )
    add_options(parser)
    return run(parser.parse_args(argv))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the doctor's options to *parser*."""
    from trtcheck.doctor.trial import BACKENDS

    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=BACKENDS, metavar="NAME",
        help=f"test these backends only: {', '.join(BACKENDS)}",
    )  # fmt: skip
    parser.add_argument(
        "--no-self-test", action="store_true", help="show what is here; build and run nothing"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write everything as JSON too; - writes it to standard output instead"
    )
    parser.add_argument("--cache", metavar="DIR", help="the cache folder to look at (default: the user's)")


def run(options: argparse.Namespace) -> int:
    """Examines this machine and prints what was found.

    Args:
        options: What `add_options` made of the command line.

    Returns:
        0 where nothing is wrong, 1 where something is.

    Raises:
        OptionError: The JSON file cannot be written.
    """
    from trtcheck.doctor.diagnosis import diagnose
    from trtcheck.doctor.text import render

    names = () if options.no_self_test else tuple(dict.fromkeys(options.backend))
    found = diagnose(names, cache=options.cache, said=_say)
    document = found.document()
    whole = json.dumps(document, indent=1) + "\n"
    if options.json == _STDOUT:
        sys.stdout.write(whole)
    else:
        sys.stdout.write(render(document))
        if options.json is not None:
            _write(Path(options.json), whole)
    return 1 if found.problems else 0


def _say(backend: str) -> None:
    """Shows a person who waits what is being done."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"testing {backend} …\n")
        sys.stderr.flush()


def _write(path: Path, text: str) -> None:
    from trtcheck.cache import write_atomically

    try:
        write_atomically(path, text)
    except OSError as error:
        raise OptionError("the JSON file cannot be written", where=path, found=error) from error
