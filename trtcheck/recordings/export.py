"""``pytest-trtcheck export-inputs``: what a device without pytest is fed, written as trtcheck feeds it."""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck.errors import DataError, OptionError, SuiteError, TrtcheckError
from trtcheck.recordings import commands
from trtcheck.recordings.recording import inputs_digest
from trtcheck.recordings.sidecar import IN_FOLDER

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.case import Case
    from trtcheck.data.batches import Batch
    from trtcheck.model import Signature

PROGRAM = "pytest-trtcheck export-inputs"
FORMATS = ("bin", "npz", "polygraphy")
INPUTS = "inputs"
"""Folder of the inputs, inside the one that is exported to."""


def main(argv: Sequence[str]) -> int:
    """Runs the subcommand with the arguments *argv*; returns the exit status, 0, 1 or 2 (wrong usage)."""
    try:
        given = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed what is wrong, or the help
        return stop.code if isinstance(stop.code, int) else 2
    try:
        text = export(
            Path(given.suite), given.model, Path(given.out),
            batch=given.batch, pad=given.pad, form=given.format,
        )  # fmt: skip
    except TrtcheckError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 2 if isinstance(error, OptionError | SuiteError) else 1
    sys.stdout.write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Write the preprocessed evaluation images of a model for a device on which pytest cannot "
        "run; what the device answers is tested with pytest --trt-engine=FOLDER.",
    )
    parser.add_argument("suite", metavar="SUITE", help="the trtcheck.toml")
    parser.add_argument("model", metavar="MODEL", help="the name of a model in it")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--batch", type=_batch_size, metavar="N", help="images a batch (default: the suite's, or the model's)"
    )
    parser.add_argument(
        "--pad", action="store_true",
        help="fill the last batch up, for an engine that takes whole batches alone (always done where the "
        "model itself has a fixed batch)",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0],
        help="raw files and a script for trtexec (the default), .npz files, or one JSON file for Polygraphy",
    )  # fmt: skip
    return parser


def _batch_size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more; found {text!r}")
    return int(text)


def export(
    suite: Path, model: str, out: Path, *, batch: int | None = None, pad: bool = False, form: str = "bin"
) -> str:
    """Writes the inputs of one model of a suite, the sidecar of their recording, and how to go on.

    Args:
        suite: The suite file.
        model: Name of the model.
        out: The folder to make.
        batch: Images a batch; None for the model's, or the suite's where the model leaves it open.
        pad: Whether the last batch is filled up although the model leaves the batch open.
        form: One of `FORMATS`.

    Returns:
        What was written and what to do with it, for people.

    Raises:
        TrtcheckError: The suite, its data or its model cannot be used, or the folder not be written.
    """
    from trtcheck.data.batches import batches
    from trtcheck.resolve import resolve
    from trtcheck.suite import find_case

    case = find_case(suite, model)
    _require_new(out)
    resolved = resolve(case)
    images = len(resolved.images)
    signature, size = _batching(resolved.signature, case, images, asked=batch, pad=pad)
    _require_numbers(signature, case)
    every = batches(resolved.images, signature, case.input, size)
    digest = inputs_digest(resolved.digest, case.input)
    try:
        (out / INPUTS).mkdir(parents=True)
        count, script = _WRITERS[form](out, every, resolved.signature)
        sidecar = commands.sidecar(
            images=images, batch=signature.fixed_batch, digest=digest, timed=form == "bin"
        )
        (out / IN_FOLDER).write_text(sidecar, encoding="utf-8")
    except OSError as error:
        raise OptionError("the inputs cannot be written", where=out, found=error) from error
    return f"{images} images in {count} batches written to {out}\n{script}"


def _require_new(out: Path) -> None:
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:  # a name that is too long, a folder that must not be entered
        raise OptionError("--out cannot be used", where=out, found=error) from error
    if taken:
        raise OptionError("--out is there already", where=out, expected="a new or an empty folder")


def _batching(
    signature: Signature, case: Case, images: int, *, asked: int | None, pad: bool
) -> tuple[Signature, int]:
    """The signature that batches are made for, and their size."""
    fixed = signature.fixed_batch
    if fixed is not None:
        if asked not in (None, fixed):
            raise OptionError(
                "--batch is not the model's", where=case.onnx, found=asked,
                expected=f"{fixed}, which the model prescribes",
            )  # fmt: skip
        return signature, fixed
    low, high = _limits(signature, case) or (1, sys.maxsize)
    if asked is not None and not low <= asked <= high:
        raise OptionError(
            "--batch is not within the profile", found=asked,
            expected=f"{low} to {high}, as profile says in [models.{case.name}]",
        )  # fmt: skip
    size = asked or min(max(case.batch, low), high)
    rest = images % size
    if not pad and (rest == 0 or rest >= low):
        return signature, size
    return signature.with_batch(size), size


def _limits(signature: Signature, case: Case) -> tuple[int, int] | None:
    """The smallest and the largest batch of the profile that the suite states; None where it states none."""
    from trtcheck.profiles import batch_limits

    profile = {}
    for tensor in signature.inputs:
        stated = case.build.shapes.get(tensor.name)
        if stated is not None:
            profile[tensor.name] = {"min": stated.min, "max": stated.max}
        elif case.build.batch is not None:
            profile[tensor.name] = {"min": case.build.batch[:1], "max": case.build.batch[2:]}
    return batch_limits(profile)


def _require_numbers(signature: Signature, case: Case) -> None:
    for tensor in signature.inputs:
        if tensor.dtype.kind in "OUS":
            raise DataError(
                f"input '{tensor.name}' takes text, which no engine does", where=case.onnx,
                expected="inputs of numbers", found=tensor,
            )  # fmt: skip


def _write_bin(out: Path, every: Iterator[Batch], signature: Signature) -> tuple[int, str]:
    """One raw file an input and batch, as numpy.tofile and trtexec --loadInputs have it, and the script."""
    names = commands.file_names([tensor.name for tensor in signature.inputs])
    runs = []
    for number, batch in enumerate(every):
        files = {}
        for name, feed in batch.feeds.items():
            file = f"{INPUTS}/{number:04d}{names[name]}.bin"
            (out / file).write_bytes(_little_endian(feed).tobytes())
            files[name] = file
        runs.append(commands.Run(files, {name: feed.shape for name, feed in batch.feeds.items()}))
    dynamic = {t.name for t in signature.inputs if t.shape is None or None in t.shape}
    (out / commands.SCRIPT).write_text(commands.script(runs, dynamic), encoding="utf-8")
    return len(runs), f"on the device, in that folder: sh {commands.SCRIPT} MODEL.engine\n"


def _little_endian(feed: np.ndarray) -> np.ndarray:
    return feed if feed.dtype.kind == "V" else feed.astype(feed.dtype.newbyteorder("<"), copy=False)


def _write_npz(out: Path, every: Iterator[Batch], _signature: Signature) -> tuple[int, str]:
    """One .npz a batch: input name to array."""
    import numpy as np

    count = 0
    for batch in every:
        # Not numpy.savez, whose own arguments an input may be named like.
        with zipfile.ZipFile(out / INPUTS / f"{count:04d}.npz", "w") as archive:
            for name, feed in batch.feeds.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, feed, allow_pickle=False)
        count += 1
    return (
        count,
        f"write the outputs of every batch to an .npz of the same name, beside a copy of {IN_FOLDER}\n",
    )


def _write_polygraphy(out: Path, every: Iterator[Batch], _signature: Signature) -> tuple[int, str]:
    """One JSON file with a list of feeds, as ``polygraphy run --load-inputs`` takes it."""
    from polygraphy.json import save_json
    from polygraphy.logger import G_LOGGER

    feeds = [batch.feeds for batch in every]
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        save_json(feeds, str(out / INPUTS / "inputs.json"))
    return len(feeds), commands.polygraphy(f"{INPUTS}/inputs.json")


_WRITERS: Mapping[str, Callable[[Path, Iterator[Batch], Signature], tuple[int, str]]] = {
    "bin": _write_bin,
    "npz": _write_npz,
    "polygraphy": _write_polygraphy,
}
