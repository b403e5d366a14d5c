"""Images held in arrays: .npz archives and numpy arrays in memory, .npy files read as needed."""

from __future__ import annotations

import lzma
import struct
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from trtcheck import digests
from trtcheck.data.labels import check_labels
from trtcheck.data.npy import Header, Rows, open_rows, read_header
from trtcheck.data.recycled import Empty
from trtcheck.errors import DataError

LABELS = "labels"
IMAGES = "images"

# What zipfile and numpy raise for files that are truncated, damaged, encrypted or too large to hold.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)

Arrays = Mapping[str, np.ndarray | Rows]


class ArrayImages:
    """Images in arrays (N, ...) that share their first axis.

    Args:
        name: What messages call it.
        count: The number of images N.
        labels: int64 array (N,), or None.
        load: Returns the arrays by name; called once, at the first read.
    """

    def __init__(
        self,
        name: str,
        count: int,
        labels: np.ndarray | None,
        load: Callable[[], Arrays],
    ) -> None:
        self.name = name
        self.labels = labels
        self.class_names: tuple[str, ...] | None = None
        self._count = count
        self._load = load
        self._loaded: Arrays | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def _arrays(self) -> Arrays:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def read(self, start: int, stop: int, empty: Empty = np.empty) -> Mapping[str, np.ndarray]:
        """Copies of the images *start* to *stop* (exclusive) by array name, in arrays that *empty* makes."""
        # Read or copied here, in the thread that prefetches, also of a memory map.
        return {
            name: array.read(start, stop, empty) if isinstance(array, Rows) else np.array(array[start:stop])
            for name, array in self._arrays().items()
        }

    def digest(self) -> str:
        """Digest of names, dtypes, shapes and contents, however they are stored."""
        return digests.of_json({name: digests.of_array(array) for name, array in self._arrays().items()})


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _check_header(name: str, header: Header, where: str) -> None:
    """Raises DataError unless an array is readable without pickle and has an axis of images."""
    shape, dtype, _ = header
    if dtype.hasobject:
        raise DataError(
            f"array '{name}' would need pickle, which is never loaded",
            where=where,
            expected="an array of numbers or strings",
            found=f"dtype {dtype}",
            hint="store it with a numeric dtype, or strings with .astype(str)",
        )
    if not shape:
        raise DataError(
            f"array '{name}' has no axis of images", where=where, expected="(N, ...)", found="a single number"
        )


def _count(headers: Mapping[str, Header], where: str) -> int:
    """Checks the *headers* of everything but labels; returns the number of images that they agree on."""
    if not headers:
        raise DataError(
            "holds no images",
            where=where,
            expected=f"an array '{IMAGES}', or arrays named as the model's inputs",
            found=f"no array other than '{LABELS}'",
        )
    for name, header in headers.items():
        _check_header(name, header, where)
    counts = {name: shape[0] for name, (shape, *_) in headers.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            "the arrays differ in their number of images",
            where=where,
            expected="one length of the first axis",
            found=", ".join(f"{name}: {count}" for name, count in counts.items()),
        )
    if any(0 in shape for shape, *_ in headers.values()):
        raise DataError(
            "the data set is empty",
            where=where,
            expected="at least one image",
            found=", ".join(f"{name} {shape}" for name, (shape, *_) in headers.items()),
        )
    return next(iter(counts.values()))


def from_memory(
    arrays: Mapping[str, np.ndarray], labels: np.ndarray | None, classes: Sequence[str] | None, name: str
) -> ArrayImages:
    """Images and labels held in memory.

    Args:
        arrays: Arrays (N, ...) of numbers or strings by name.
        labels: Labels (N,), or None.
        classes: Class names that bound the labels, or None.
        name: What messages call it.

    Raises:
        DataError: The arrays are empty, differ in length, hold objects, or the labels do not fit.
    """
    count = _count({key: Header(array.shape, array.dtype) for key, array in arrays.items()}, name)
    if labels is not None:
        labels = check_labels(labels, count, classes=classes, where=name)
    return ArrayImages(name, count, labels, lambda: arrays)


def _npz_headers(path: Path, where: str) -> dict[str, Header]:
    headers = {}
    member = None
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as stream:
                        headers[member.removesuffix(".npy")] = read_header(stream)
    except _UNREADABLE as error:
        array = f"array '{member.removesuffix('.npy')}' " if member else ""
        raise DataError(
            f"{array}cannot be read",
            where=where,
            expected="an archive written by numpy.savez or numpy.savez_compressed",
            found=_reason(error),
        ) from error
    return headers


def _npz_array(path: Path, name: str, where: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: np.ndarray = archive[name]
    except (*_UNREADABLE, KeyError) as error:
        raise DataError(
            f"array '{name}' cannot be read", where=where, expected="an intact array", found=_reason(error)
        ) from error
    return array


def from_npz(path: Path, classes: Sequence[str] | None, where: str) -> ArrayImages:
    """Every array of the archive at *path* but ``labels``; read once, at first use, and kept.

    Args:
        path: An archive written by ``numpy.savez`` or ``numpy.savez_compressed``.
        classes: Class names that bound the labels, or None.
        where: What messages name as the place.

    Raises:
        DataError: The archive is damaged, empty, would need pickle, or its arrays or labels do not fit.
    """
    headers = _npz_headers(path, where)
    label_header = headers.pop(LABELS, None)
    count = _count(headers, where)
    labels = None
    if label_header is not None:
        _check_header(LABELS, label_header, where)
        labels = check_labels(_npz_array(path, LABELS, where), count, classes=classes, where=where)
    names = tuple(headers)
    return ArrayImages(
        str(path), count, labels, lambda: {name: _npz_array(path, name, where) for name in names}
    )


def _npy(path: Path, name: str, where: str) -> np.ndarray | Rows:
    """The .npy file at *path*, of which nothing but the header was read."""
    try:
        with path.open("rb") as stream:
            _check_header(name, read_header(stream), where)
        return open_rows(path)
    except _UNREADABLE as error:
        raise DataError(
            f"array '{name}' cannot be read",
            where=where,
            expected="a file written by numpy.save",
            found=_reason(error),
        ) from error


def from_npy(files: Mapping[str, Path], classes: Sequence[str] | None, name: str, role: str) -> ArrayImages:
    """The .npy *files* by array name, ``labels`` one of them or absent; images are read when asked for.

    Args:
        files: Path of an .npy file by array name.
        classes: Class names that bound the labels, or None.
        name: What messages call it.
        role: What the data are for, ``"data"`` or ``"calibration"``.

    Raises:
        DataError: A file is missing or damaged, would need pickle, or arrays or labels do not fit.
    """
    where = {key: f"{path} ({role})" for key, path in files.items()}
    for key, path in files.items():
        if not path.is_file():
            raise DataError(
                "no such file", where=where[key], expected=f"an .npy file for array '{key}'", found="nothing"
            )
    arrays = {key: _npy(path, key, where[key]) for key, path in files.items()}
    values = arrays.pop(LABELS, None)
    headers = {key: Header(array.shape, array.dtype) for key, array in arrays.items()}
    count = _count(headers, f"{name} ({role})")
    labels = None
    if values is not None:
        labels = check_labels(
            values[:], count, classes=classes, where=where[LABELS], name=str(files[next(iter(arrays))])
        )
    return ArrayImages(name, count, labels, lambda: arrays)
