"""What a model is asked about: image files, arrays, and positions in its evaluation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.case import Case, InputSpec
from trtcheck.data.arrays import IMAGES
from trtcheck.data.folder import FolderImages, decode
from trtcheck.data.preprocess import preprocess
from trtcheck.data.sources import open_images
from trtcheck.errors import DataError

if TYPE_CHECKING:
    from trtcheck.resolve import Resolved

_ARRAYS = (".npy", ".npz")

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Asked:
    """An input that a model is asked about.

    Attributes:
        name: How it is called: a path, or its position in the evaluation data.
        arrays: Its arrays (1, ...) by name, as the case's data have them.
        index: Its position in the evaluation data; None where it is none of these.
        file: Its file; None where it has none.
        truth: Its label's name; None where it has none.
        notes: What was done to it so that it fits, in sentences.
    """

    name: str
    arrays: Arrays
    index: int | None = None
    file: str | None = None
    truth: str | None = None
    notes: tuple[str, ...] = ()


def asked(given: str | Path | int, case: Case, resolved: Resolved) -> Asked:
    """The input that *given* names, fit for the model.

    Args:
        given: Path of an image file, or of an .npy or .npz file with one input; or a position in the
            evaluation data, also as text where no file is called so.
        case: The case; it says how inputs are preprocessed.
        resolved: The same, opened.

    Raises:
        DataError: There is no such file or position, it cannot be read, or does not fit the model.
    """
    path = Path(str(given))
    if isinstance(given, int) or (_is_number(str(given)) and not path.is_file()):
        return _of_data(int(str(given)), resolved)
    if not path.is_file():
        raise DataError(
            "is no file", where=path, found="a folder" if path.is_dir() else "nothing",
            expected=f"an image, an .npy or .npz file, or a number from 0 to {len(resolved.images) - 1}",
        )  # fmt: skip
    usual = resolved.images.read(0, 1)
    of_file = _of_arrays if path.suffix.lower() in _ARRAYS else _of_image
    found = of_file(path, usual, case, resolved)
    # Here, where the file can be named, and not when all are asked together.
    preprocess(found.arrays, resolved.signature, case.input, where=str(path), start=0)
    _require_shapes(path, found.arrays, usual)
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _of_data(index: int, resolved: Resolved) -> Asked:
    count = len(resolved.images)
    if not 0 <= index < count:
        raise DataError(
            f"there is no image {index}", where=resolved.images.name, expected=f"0 to {count - 1}",
            found=index,
        )  # fmt: skip
    file_of = getattr(resolved.images, "file", None)
    return Asked(
        name=f"image {index}",
        arrays=resolved.images.read(index, index + 1),
        index=index,
        file=None if file_of is None else str(file_of(index)),
        truth=_class(int(resolved.truth[index]), resolved),
    )


def _class(label: int, resolved: Resolved) -> str | None:
    return resolved.classes[label] if 0 <= label < len(resolved.classes) else None


def _of_arrays(path: Path, usual: Arrays, case: Case, resolved: Resolved) -> Asked:
    """One input in an .npy or .npz file, with an axis of images or without."""
    # Arrays hold images as the model takes them: what resizes and colours image files does not concern them.
    plain = replace(case.input, resize=None, crop=None, color="RGB")
    images = open_images(path, classes=resolved.classes, spec=plain, role="image")
    arrays = {name: np.asarray(array) for name, array in images.read(0, len(images)).items()}
    if len(arrays) == len(usual) == 1:
        arrays = dict(zip(usual, arrays.values(), strict=True))
    if arrays.keys() != usual.keys():
        raise DataError(
            "has not the arrays of the evaluation data", where=path, expected=", ".join(usual),
            found=", ".join(arrays),
        )  # fmt: skip
    label = -1 if images.labels is None else int(images.labels[0])
    if len(images) != 1:
        if any(array.shape != usual[name].shape[1:] for name, array in arrays.items()):
            raise DataError("holds several inputs", where=path, expected="one", found=len(images))
        arrays, label = {name: array[None] for name, array in arrays.items()}, -1
    return Asked(str(path), arrays, file=str(path), truth=_class(label, resolved))


def _require_shapes(path: Path, arrays: Arrays, usual: Arrays) -> None:
    for name, array in arrays.items():
        if array.shape[1:] != usual[name].shape[1:]:
            raise DataError(
                f"array '{name}' has another shape than the evaluation data", where=path,
                expected=(1, *usual[name].shape[1:]), found=array.shape,
            )  # fmt: skip


def _of_image(path: Path, usual: Arrays, case: Case, resolved: Resolved) -> Asked:
    """An image file, decoded as those of an image folder are, and made as large as the evaluation data."""
    if isinstance(resolved.images, FolderImages):
        height, width = usual[IMAGES].shape[1:3]
        pixels, notes = _decoded(path, case.input, (height, width))
        return Asked(str(path), {IMAGES: pixels[None]}, file=str(path), notes=notes)
    name, (height, width), channels, first = _image_array(path, usual, case)
    pixels, notes = _decoded(path, InputSpec(color="L" if channels in (None, 1) else "RGB"), (height, width))
    if channels == 1:
        pixels = pixels[..., None]
    array = np.moveaxis(pixels, 2, 0) if first else pixels
    return Asked(str(path), {name: array[None]}, file=str(path), notes=notes)


def _image_array(path: Path, usual: Arrays, case: Case) -> tuple[str, tuple[int, int], int | None, bool]:
    """Name, height and width of the array of images, its channels if any, and whether these come first."""
    name, array = next(iter(usual.items()))
    shape = array.shape[1:]
    # Of anything but bytes nobody knows what was done to the pixels on the way.
    if len(usual) > 1 or len(shape) not in (2, 3) or array.dtype != np.uint8:
        raise DataError(
            "an image file cannot be made into what this model is fed", where=path,
            expected="evaluation data that are images of bytes (uint8)",
            found="; ".join(f"{key}: {each.dtype} {each.shape[1:]}" for key, each in usual.items()),
            hint="give an .npy file with one input as the evaluation data have them, or the number of one",
        )  # fmt: skip
    if len(shape) == 2:
        return name, (shape[0], shape[1]), None, False
    layout = case.input.layout
    first = layout == "NCHW" or (layout is None and shape[2] not in (1, 3, 4))
    channels, height, width = shape if first else (shape[2], shape[0], shape[1])
    if channels not in (1, 3):
        raise DataError(
            "an image file has not the channels of the evaluation data", where=path, expected="1 or 3",
            found=channels, hint="give an .npy file with one input, or the number of an evaluation image",
        )  # fmt: skip
    return name, (height, width), channels, first


def _decoded(path: Path, spec: InputSpec, size: tuple[int, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels of a file, of *size* (height, width), and what is to be said of that."""
    pixels = decode(path, spec)
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels, ()
    note = (
        f"resized from {width} x {height} to {size[1]} x {size[0]} pixels (width x height), the size of the "
        "evaluation data"
    )
    return decode(path, replace(spec, resize=size, crop=None)), (note,)
