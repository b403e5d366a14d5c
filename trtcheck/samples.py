"""What a person is shown of an input: a thumbnail of an image, or the first values of anything else."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from trtcheck.case import InputSpec
    from trtcheck.data import Images

_log = logging.getLogger("trtcheck")

SHOWN = 48
"""Inputs that are shown of one engine."""
SIDE = 112
"""Longer side of a thumbnail, in pixels."""
COLORS = 64
"""Colours of a thumbnail: no more, so that it weighs a few kilobytes."""
MARK = "pytest-trtcheck"
"""The software that made a picture, as its file tells it."""
_SMALLEST = 8
"""Arrays with a side of fewer values are no images."""
_ROW = 200
"""Characters that are told of an input that is no image."""


@dataclass(frozen=True)
class Sample:
    """One evaluation input as a person may look at it.

    Attributes:
        index: Its position in the data.
        file: Its file, where the data have files.
        png: Its thumbnail as a PNG file; None where it is no image.
        row: Its first values, where it is no image.
    """

    index: int
    file: str | None
    png: bytes | None = None
    row: str | None = None


def of(images: Images, spec: InputSpec, indices: Iterable[int]) -> tuple[Sample, ...]:
    """What is shown of the inputs *indices*, in ascending order; those that cannot be read are left out.

    Args:
        images: The data.
        spec: Says how the data are laid out and in which order an image folder has its colours.
        indices: Positions in the data, the most important first; `SHOWN` of them are taken.
    """
    chosen = sorted(list(dict.fromkeys(indices))[:SHOWN])
    found, failures = [], []
    for index in chosen:
        try:
            found.append(_sample(images, spec, index))
        except Exception as error:  # noqa: BLE001  a picture is no verdict, and sources may be anybody's
            failures.append(f"image {index} of {images.name} cannot be shown: {error}")
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        _log.warning("trtcheck: %s%s", failures[0], more)
    return tuple(found)


def _sample(images: Images, spec: InputSpec, index: int) -> Sample:
    arrays = {name: np.asarray(array)[0] for name, array in images.read(index, index + 1).items()}
    file_of = getattr(images, "file", None)
    file = None if file_of is None else str(file_of(index))
    pixels = [found for array in arrays.values() if (found := as_pixels(array, spec)) is not None]
    if len(pixels) == 1:
        return Sample(index, file, png=png(thumbnail(pixels[0])))
    return Sample(index, file, row=as_text(arrays))


def as_pixels(array: np.ndarray, spec: InputSpec) -> np.ndarray | None:
    """*array* as an image, uint8 (H, W) or (H, W, 3); None where it is none.

    Args:
        array: One input: (H, W), (H, W, C) or (C, H, W) of numbers. Of other numbers of channels than 1, 3
            and 4 the first channel is taken. Floats from 0 to 1, and numbers from 0 to 255, are taken as they
            are; anything else is stretched over its own range.
        spec: Its layout decides where it is given; ``color="BGR"`` turns the channels round.
    """
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        return None
    image = array if array.ndim == 2 else _channels_last(array, spec.layout)
    if min(image.shape[:2]) < _SMALLEST:
        return None
    values = _bytes(image)
    if values.ndim == 2:
        return values
    if values.shape[2] == 4:
        alpha = values[..., 3:].astype(np.uint16)
        values = ((values[..., :3] * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)
    if values.shape[2] != 3:
        return values[..., 0]
    return values[..., ::-1] if spec.color == "BGR" else values


def _channels_last(array: np.ndarray, layout: str | None) -> np.ndarray:
    first = array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4)
    if layout == "NCHW" or (layout is None and (first or array.shape[0] < min(array.shape[1:]))):
        return np.moveaxis(array, 0, 2)
    return array


def _bytes(image: np.ndarray) -> np.ndarray:
    """*image* as uint8, by its own range where that is no usual one; NaN is black."""
    if image.dtype == np.uint8:
        return image
    values = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=np.nan, neginf=np.nan)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=high)
    if low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        # Halves, since the range of the largest floats is beyond them.
        values = (values / 2 - low / 2) / (high / 2 - low / 2 or 1.0) * 255
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def thumbnail(pixels: np.ndarray) -> Image.Image:
    """A small picture of *pixels*, uint8 (H, W) or (H, W, 3); tiny ones are enlarged by a whole factor."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    longer = max(image.size)
    if longer * 2 <= SIDE:
        factor = SIDE // longer
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if longer > SIDE:
        size = [max(1, round(side * SIDE / longer)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return image if image.mode == "L" else image.quantize(COLORS)


def png(image: Image.Image) -> bytes:
    """*image* as a PNG file with our mark, so that it is never taken for somebody else's."""
    info = PngInfo()
    info.add_text("Software", MARK)
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True, pnginfo=info)
    return written.getvalue()


def as_text(arrays: Mapping[str, np.ndarray]) -> str:
    """The first values of every input: ``x (16): 0.25, 3, …``; of texts the beginning."""
    share = max(40, _ROW // max(1, len(arrays)))
    told = "; ".join(_values(name, array, share) for name, array in arrays.items())
    return told if len(told) <= _ROW else f"{told[: _ROW - 1]}…"


def _values(name: str, array: np.ndarray, room: int) -> str:
    shape = "x".join(map(str, array.shape))
    told = f"{name} ({shape}): " if shape else f"{name}: "
    values = array.ravel()
    for number, value in enumerate(values[:32].tolist()):
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        if len(told) + len(shown) > room and number:
            return f"{told}…"
        told += f"{shown}, " if number + 1 < len(values) else shown
    return f"{told}…" if len(values) > 32 else told
