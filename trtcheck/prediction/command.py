"""``pytest-trtcheck predict``: the person's check that the model still sees a cat."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck.case import Case, EngineKind, EngineSpec, Precision

if TYPE_CHECKING:
    from trtcheck.progress import Progress

PROGRAM = "pytest-trtcheck predict"
PRECISIONS = ("fp32", "fp16", "int8")
"""What is asked where neither the command nor the suite names an engine."""


def main(argv: Sequence[str]) -> int:
    """Runs the subcommand with the arguments *argv*; returns 0, or argparse's status for wrong usage.

    Raises:
        TrtcheckError: See `trtcheck.prediction.answers.predict`.
    """
    try:
        given = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed what is wrong, or the help
        return stop.code if isinstance(stop.code, int) else 2
    from trtcheck.library import open_workbench
    from trtcheck.prediction.answers import predict
    from trtcheck.prediction.columns import as_json, as_text
    from trtcheck.suite import find_case

    here = Path.cwd()
    suite = Path(given.suite)
    suite = suite / "trtcheck.toml" if suite.is_dir() else suite
    case = find_case(suite, given.model)
    engines, notes = _engines(given, case, suite, here)
    with open_workbench(given.backend, given.cache, progress=_progress(quiet=given.json)) as workbench:
        found = predict(workbench, case, engines, given.images, given.top)
    if given.json:
        text = as_json(case, found, notes)
    else:
        width = shutil.get_terminal_size((0, 0)).columns
        text = "".join(f"note: {note}\n" for note in notes) + as_text(found, width=width, base=here)
    # A class may be called in signs that the place written to does not know.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    return 0


def _progress(*, quiet: bool) -> Progress:
    from trtcheck.progress import LoggedProgress, TerminalProgress

    if quiet or not sys.stdout.isatty():
        return LoggedProgress()
    return TerminalProgress(nullcontext, lambda: None)


def _engines(
    given: argparse.Namespace, case: Case, suite: Path, here: Path
) -> tuple[tuple[EngineSpec, ...], list[str]]:
    """The engines that are asked, and which others were left out, in sentences."""
    from trtcheck.settings import parse_engines
    from trtcheck.suite import default_engines

    if given.engine is not None:
        return parse_engines(given.engine.split(","), base=here, where="--engine"), []
    named = default_engines(case, suite)
    if named:
        if all(text.isdecimal() for text in given.images):
            return named, []
        left = [engine for engine in named if engine.kind is EngineKind.RECORDING]
        notes = [
            f"'{engine.name}' is left out: a recording knows the evaluation images alone" for engine in left
        ]
        return tuple(engine for engine in named if engine not in left), notes
    able = [name for name in PRECISIONS if name != "int8" or _has_int8(case)]
    notes = [] if "int8" in able else ["int8 is left out: the model has no calibration data"]
    return parse_engines(able, base=here, where="--engine"), notes


def _has_int8(case: Case) -> bool:
    return case.calibration is not None or Precision.INT8 in case.lowered


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Show the most probable classes of images, of the original FP32 model and of each "
        "engine, side by side. Exit status: 0, whatever they answer; 2 where something cannot be used.",
    )
    parser.add_argument("suite", metavar="SUITE", help="the trtcheck.toml, or its folder")
    parser.add_argument("model", metavar="MODEL", help="the name of a model in it")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+",
        help="an image file, an .npy or .npz file with one input, or the number of an evaluation image",
    )  # fmt: skip
    parser.add_argument(
        "--engine", metavar="LIST",
        help="as --trt-engine (default: the suite's engines, else fp32,fp16,int8)",
    )  # fmt: skip
    parser.add_argument("--backend", metavar="NAME", default="auto", help="as --trt-backend (default: auto)")
    parser.add_argument("--cache", metavar="DIR", help="as --trt-cache (default: the user's)")
    parser.add_argument("--top", metavar="N", type=_count, default=5, help="how many classes (default: 5)")
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more; found {text!r}")
    return int(text)
