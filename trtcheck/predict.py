"""``pytest-trtcheck predict``: what a model sees in an image, before and after, with its probabilities."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck.case import Case, EngineKind, EngineSpec, InputSpec
from trtcheck.errors import CaseError, DataError, OptionError

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.resolve import Resolved
    from trtcheck.session import Workbench

PROGRAM = "pytest-trtcheck predict"
PRECISIONS = ("fp32", "fp16", "int8")
"""What is asked where neither the command nor the suite names an engine."""
REFERENCE = "reference"
_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Asked:
    """An input that a model is asked about.

    Attributes:
        name: How it was named: a file, or its position in the evaluation data.
        arrays: Its arrays (1, ...) by name, as the case's data have them.
        truth: Its label's name; None where there is none.
        notes: What was done to it so that it fits, in sentences.
    """

    name: str
    arrays: dict[str, np.ndarray]
    truth: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What an engine answers.

    Attributes:
        engine: Its name; `REFERENCE` for the original FP32 model.
        numerics: How the answer came about.
        best: The most probable classes with their probabilities; empty where it has no answer.
    """

    engine: str
    numerics: str
    best: tuple[tuple[str, float], ...]


def predict(
    workbench: Workbench, case: Case, engines: Sequence[EngineSpec], images: Sequence[str], most: int
) -> list[tuple[Asked, list[Prediction]]]:
    """What the reference and *engines* see in *images*.

    Args:
        workbench: Builds the engines.
        case: The model, with its preprocessing.
        engines: Engines; recordings know no other images than those that were recorded.
        images: Paths of image files or arrays, or positions in the evaluation data.
        most: How many classes.

    Raises:
        TrtcheckError: The case cannot be opened or gives no class scores, an image not be read, or an engine
            not be built or run.
    """
    import numpy as np

    from trtcheck.data.arrays import from_memory
    from trtcheck.metrics.scores import probabilities, top

    recorded = [engine.name for engine in engines if engine.kind is EngineKind.RECORDING]
    if recorded:
        raise OptionError(
            f"{', '.join(recorded)} was recorded and can be asked nothing new",
            hint="name engines that run here: --engine=fp16,int8",
        )
    resolved = workbench.resolve(case)
    if resolved.scores is None:
        raise CaseError(
            f"{case.name} gives no class scores, so there is nothing to predict", where=case.onnx,
            expected="classes, or an output of class scores",
        )  # fmt: skip
    asked = [_asked(name, case, resolved) for name in images]
    names = list(asked[0].arrays)
    if any(list(own.arrays) != names for own in asked):
        raise DataError(
            "the inputs do not have the same arrays", where=asked[0].name, expected=", ".join(names)
        )
    whole = {name: np.concatenate([own.arrays[name] for own in asked]) for name in names}
    source = from_memory(whole, None, None, "the images that were asked for")
    before = workbench.scores(case, None, source)
    best_before = top(probabilities(before), most)
    found = [[Prediction(REFERENCE, "native", _named(best, resolved))] for best in best_before]
    for engine in engines:
        after = workbench.scores(case, engine, source)
        numerics = workbench.built(case, engine).numerics.value
        for own, best in zip(found, top(probabilities(after, before), most), strict=True):
            own.append(Prediction(engine.name, numerics, _named(best, resolved)))
    return list(zip(asked, found, strict=True))


def _named(best: Sequence[tuple[int, float]], resolved: Resolved) -> tuple[tuple[str, float], ...]:
    return tuple((resolved.classes[label], share) for label, share in best)


def _asked(name: str, case: Case, resolved: Resolved) -> Asked:
    import numpy as np

    path = Path(name)
    if not path.exists() and name.isascii() and name.isdecimal():
        return _of_data(int(name), resolved)
    if not path.is_file():
        raise DataError(
            "no such file", where=path,
            expected=f"an image file, an .npy or .npz file, or a number from 0 to {len(resolved.images) - 1}",
            found="nothing",
        )  # fmt: skip
    if path.suffix.lower() not in _ARRAYS:
        return _of_image(path, case, resolved)
    from trtcheck.data.sources import open_images

    plain = replace(case.input, resize=None, crop=None, color="RGB")
    images = open_images(path, spec=plain, role="image")
    if len(images) != 1:
        raise DataError("holds several inputs", where=path, expected="one, (1, ...)", found=len(images))
    return Asked(name, {key: np.asarray(array) for key, array in images.read(0, 1).items()})


def _of_data(index: int, resolved: Resolved) -> Asked:
    import numpy as np

    if index >= len(resolved.images):
        raise DataError(
            f"there is no image {index}", where=resolved.images.name,
            expected=f"0 to {len(resolved.images) - 1}", found=index,
        )  # fmt: skip
    label = int(resolved.truth[index])
    file_of = getattr(resolved.images, "file", None)
    beside = "" if file_of is None else f" ({file_of(index)})"
    arrays = {key: np.asarray(array) for key, array in resolved.images.read(index, index + 1).items()}
    return Asked(f"image {index}{beside}", arrays, resolved.classes[label] if label >= 0 else None)


def _of_image(path: Path, case: Case, resolved: Resolved) -> Asked:
    """An image file, decoded as the case's own are, and made as large as these."""
    import numpy as np

    from trtcheck.data.arrays import IMAGES
    from trtcheck.data.folder import FolderImages, decode

    if isinstance(resolved.images, FolderImages):
        return Asked(str(path), {IMAGES: decode(path, case.input)[None]})
    kept = resolved.images.read(0, 1)
    shape, dtype = (kept[next(iter(kept))].shape[1:], kept[next(iter(kept))].dtype)
    if len(kept) > 1 or len(shape) not in (2, 3) or dtype != np.uint8:
        raise DataError(
            "an image file cannot be made into what this model is fed", where=path,
            expected="evaluation data that are images of bytes",
            found="; ".join(f"{key} {array.dtype} {array.shape[1:]}" for key, array in kept.items()),
            hint="give an .npy file, preprocessed as the evaluation data, or the number of one of these",
        )  # fmt: skip
    first = len(shape) == 3 and (
        case.input.layout == "NCHW" or (case.input.layout is None and shape[2] not in (1, 3, 4))
    )
    height, width = shape[1:] if first else shape[:2]
    channels = 1 if len(shape) == 2 else shape[0] if first else shape[2]
    if channels not in (1, 3):
        raise DataError(
            "an image file has no such channels", where=path, expected="1 or 3 channels", found=channels
        )
    color = "L" if channels == 1 else "RGB"
    pixels = decode(path, InputSpec(color=color))
    notes: tuple[str, ...] = ()
    if pixels.shape[:2] != (height, width):
        notes = (
            f"{path.name} was resized from {pixels.shape[1]} x {pixels.shape[0]} to {width} x {height}, the "
            "size of the evaluation data",
        )
        pixels = decode(path, InputSpec(color=color, resize=(height, width)))
    if len(shape) == 3 and channels == 1:
        pixels = pixels[..., None]
    array = np.moveaxis(pixels, 2, 0) if first else pixels
    return Asked(str(path), {next(iter(kept)): array[None]}, notes=notes)


def main(argv: Sequence[str]) -> int:
    """Runs the subcommand with the arguments *argv*; returns 0, or argparse's status for wrong usage.

    Raises:
        TrtcheckError: See `predict`.
    """
    try:
        given = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed what is wrong, or the help
        return stop.code if isinstance(stop.code, int) else 2
    from trtcheck.progress import LoggedProgress
    from trtcheck.session import Workbench
    from trtcheck.settings import cache_folder, parse_backend, read_settings
    from trtcheck.suite import find_case

    here = Path.cwd()
    suite = Path(given.suite)
    suite = suite / "trtcheck.toml" if suite.is_dir() else suite
    case = find_case(suite, given.model)
    engines = _engines(given.engine, case, suite, here)
    settings = read_settings({"cache": given.cache}, {}, invoked_in=here, root=here)
    with tempfile.TemporaryDirectory(prefix="trtcheck-") as shared:
        workbench = Workbench(
            cache=cache_folder(settings), shared=Path(shared), backend=parse_backend(given.backend),
            threads=0, progress=LoggedProgress(),
        )  # fmt: skip
        with closing(workbench):
            found = predict(workbench, case, engines, given.images, given.top)
    sys.stdout.write(as_json(found) if given.json else as_text(found))
    return 0


def _engines(given: str | None, case: Case, suite: Path, here: Path) -> tuple[EngineSpec, ...]:
    from trtcheck.settings import parse_engines
    from trtcheck.suite import default_engines

    if given is not None:
        return parse_engines(given.split(","), base=here, where="--engine")
    named = tuple(e for e in default_engines(case, suite) if e.kind is not EngineKind.RECORDING)
    if named:
        return named
    able = [name for name in PRECISIONS if name != "int8" or case.calibration is not None]
    return parse_engines(able, base=here, where="--engine")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Show the most probable classes of images, of the FP32 model and of each engine.",
    )
    parser.add_argument("suite", metavar="SUITE", help="the trtcheck.toml, or its folder")
    parser.add_argument("model", metavar="MODEL", help="the name of a model in it")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+",
        help="an image file, an .npy or .npz file of one input, or the number of an evaluation image",
    )  # fmt: skip
    parser.add_argument("--engine", metavar="LIST", help="as --trt-engine (default: the suite's)")
    parser.add_argument("--backend", metavar="NAME", default="auto", help="as --trt-backend (default: auto)")
    parser.add_argument("--cache", metavar="DIR", help="as --trt-cache")
    parser.add_argument("--top", metavar="N", type=_count, default=5, help="how many classes (default: 5)")
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def as_text(found: Sequence[tuple[Asked, Sequence[Prediction]]]) -> str:
    """A block a image, its engines below each other, readable in a narrow terminal."""
    blocks = []
    for asked, predictions in found:
        truth = "" if asked.truth is None else f": a '{asked.truth}'"
        lines = [f"{asked.name}{truth}", *(f"  note: {note}" for note in asked.notes)]
        first = predictions[0].best[0][0] if predictions[0].best else None
        for own in predictions:
            same = own.engine == REFERENCE or (own.best and own.best[0][0] == first)
            lines.append(f"  {own.engine} ({own.numerics}){'' if same else '  <- another answer'}")
            width = max((len(name) for name, _ in own.best), default=0)
            lines += [f"    {name:<{min(width, 40)}}  {share:.3f}" for name, share in own.best]
            lines += [] if own.best else ["    no answer: the scores are not finite"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def as_json(found: Sequence[tuple[Asked, Sequence[Prediction]]]) -> str:
    """The same as JSON: a list of images, each with its predictions."""
    rows: list[dict[str, Any]] = [
        {
            "image": asked.name,
            "truth": asked.truth,
            "notes": list(asked.notes),
            "predictions": [
                {"engine": own.engine, "numerics": own.numerics, "best": [list(pair) for pair in own.best]}
                for own in predictions
            ],
        }
        for asked, predictions in found
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
