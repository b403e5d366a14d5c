"""Opens evaluation and calibration data, whatever they are held in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trtcheck.case import InputSpec
from trtcheck.data import Images, Source
from trtcheck.data.arrays import IMAGES, from_memory, from_npy, from_npz
from trtcheck.data.folder import FolderImages
from trtcheck.data.labels import check_labels
from trtcheck.data.pairs import PairImages
from trtcheck.errors import DataError

_DEFAULTS = InputSpec()


def open_images(
    source: Source, *, classes: Sequence[str] | None = None, spec: InputSpec = _DEFAULTS, role: str = "data"
) -> Images:
    """Opens a data source; images are read when they are asked for, labels now.

    Args:
        source: Path of an ``.npz`` archive (its arrays but ``labels`` are the inputs), of an ``.npy`` file
            (images without labels) or of an image folder; a mapping of array name to ``.npy`` path; an
            array of images or a tuple of arrays (images, labels), (N, ...) and (N,); an `Images`, returned
            as it is; or any sequence of (image, label) pairs.
        classes: Class names in the order of the model's scores: they bound the labels and name the folders.
        spec: Preprocessing; its resize, crop and color are used here, for image folders only.
        role: What the data are for: the key that messages name.

    Raises:
        DataError: The data are missing, damaged, empty, would need pickle or do not fit together.
    """
    if isinstance(source, Images):
        _check_foreign(source, classes, spec)
        return source
    if isinstance(source, str | Path):
        return _open_path(Path(source), classes, spec, role)
    _refuse_image_keys(spec, role)
    if isinstance(source, Mapping):
        files = {name: Path(path) for name, path in source.items()}
        name = ", ".join(str(path) for key, path in files.items() if key != "labels") or role
        return from_npy(files, classes, name, role)
    if isinstance(source, np.ndarray):
        return from_memory({IMAGES: source}, None, classes, role)
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray):
        return from_memory({IMAGES: source[0]}, np.asarray(source[1]), classes, role)
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return PairImages(source, classes, role)
    raise DataError(
        "cannot be used as a data source",
        where=role,
        expected="a path, a mapping of array name to .npy path, (images, labels), or a sequence of pairs",
        found=type(source).__name__,
    )


def _open_path(path: Path, classes: Sequence[str] | None, spec: InputSpec, role: str) -> Images:
    where = f"{path} ({role})"
    if path.is_dir():
        return FolderImages(path, classes, spec, where)
    if not path.is_file():
        raise DataError("no such file or folder", where=where, hint=f'check the path in {role} = "…"')
    _refuse_image_keys(spec, where)
    match path.suffix.lower():
        case ".npz":
            return from_npz(path, classes, where)
        case ".npy":
            return from_npy({IMAGES: path}, classes, str(path), role)
    raise DataError(
        "is no known kind of data",
        where=where,
        expected="an .npz archive, an .npy file or an image folder",
        found=f"a file ending in '{path.suffix}'",
    )


def _refuse_image_keys(spec: InputSpec, where: str) -> None:
    """Raises DataError where keys for image folders are given but the data are arrays."""
    for key in ("resize", "crop", "color"):
        value = getattr(spec, key)
        if value != getattr(_DEFAULTS, key):
            raise DataError(
                f"{key} applies to image folders only",
                where=where,
                expected=f"data without {key}, or an image folder",
                found=f"{key} = {value}",
                hint=f"remove {key} and store the images as the model takes them",
            )


def _check_foreign(images: Images, classes: Sequence[str] | None, spec: InputSpec) -> None:
    if not isinstance(images, FolderImages):
        _refuse_image_keys(spec, images.name)
    if len(images) == 0:
        raise DataError("the data set is empty", where=images.name, expected="at least one image", found=0)
    if images.labels is not None:
        check_labels(np.asarray(images.labels), len(images), classes=classes, where=images.name)
