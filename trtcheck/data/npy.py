"""Rows of .npy files, read when they are asked for: what was read stays in nobody's memory."""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from trtcheck.data.recycled import Empty
from trtcheck.errors import DataError

_PLAIN = "biufcmMSU"
"""Kinds of dtypes whose bytes are their values; records are left to numpy."""


class Header(NamedTuple):
    """What an .npy file says of its array.

    Attributes:
        shape: Its shape.
        dtype: Its dtype.
        fortran: Whether its last axis is stored as the first.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False


def read_header(stream: IO[bytes]) -> Header:
    """What an .npy *stream* states; it is left where the content begins.

    Raises:
        ValueError: It is no .npy, or of a format that cannot be used.
    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f".npy format {version} (arrays of records) cannot be used")
    return Header(shape, dtype, fortran)


def write_header(stream: IO[bytes], header: Header) -> None:
    """Begins an .npy *stream* of an array in C order; its content follows.

    Raises:
        OSError: It cannot be written.
    """
    descr = np.lib.format.dtype_to_descr(header.dtype)
    told = {"descr": descr, "fortran_order": False, "shape": header.shape}
    np.lib.format.write_array_header_1_0(stream, told)


def read_rows(
    stream: BufferedReader, header: Header, offset: int, start: int, stop: int, empty: Empty = np.empty
) -> np.ndarray:
    """The rows *start* to *stop* (exclusive) of an array in C order whose content begins at byte *offset*.

    Raises:
        EOFError: The stream ends before them.
        OSError: It cannot be read.
    """
    rows = empty((stop - start, *header.shape[1:]), header.dtype)
    content = as_bytes(rows)
    row = content.nbytes // max(1, len(rows))
    stream.seek(offset + start * row)
    found = stream.readinto(content)
    if found != content.nbytes:
        raise EOFError(f"{content.nbytes - found} bytes of the rows {start} to {stop - 1} are missing")
    return rows


def as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous *array*, shared with it; not every dtype lends them itself."""
    return array.reshape(-1).view(np.uint8).data


class Rows:
    """The array of an .npy file in C order, of which slices along the first axis can be read.

    A memory map would do the same, but every page of it that was read stays resident in this process.

    Args:
        path: The file, opened anew by every read.
        header: What it says.
        offset: Where its content begins, in bytes.
        stamp: What tells the file from a later one of its name, see `stamp_of`.
    """

    def __init__(self, path: Path, header: Header, offset: int, stamp: Stamp) -> None:
        self._stamp = stamp
        self.shape = header.shape
        self.dtype = header.dtype
        self.ndim = len(header.shape)
        self._path = path
        self._header = header
        self._offset = offset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The *rows* (without a step) as an array of its own.

        Raises:
            DataError: The file is gone, or another than it was: what was found out about it, its digest first
                of all, does not hold any more.
        """
        start, stop, _ = rows.indices(len(self))
        return self.read(start, stop, np.empty)

    def read(self, start: int, stop: int, empty: Empty) -> np.ndarray:
        """The rows *start* to *stop* (exclusive) in an array that *empty* makes.

        Raises:
            DataError: As of a slice.
        """
        try:
            with self._path.open("rb") as stream:
                if stamp_of(stream) != self._stamp:
                    raise OSError("the file was written to, or replaced")
                return read_rows(stream, self._header, self._offset, start, max(start, stop), empty)
        except (OSError, EOFError) as error:
            raise DataError(
                "cannot be read any more", where=self._path,
                expected=f"{self.dtype} {self.shape}, as when it was opened", found=error,
                hint="leave the data alone while they are in use",
            ) from error  # fmt: skip


Stamp = tuple[int, int, int]


def stamp_of(stream: BufferedReader) -> Stamp:
    """Size, time of change in ns and number of the file behind *stream*."""
    found = os.fstat(stream.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ino


def open_rows(path: Path) -> Rows | np.ndarray:
    """The array of the .npy file at *path*: `Rows`, or memory-mapped where these cannot be had.

    Raises:
        OSError, ValueError, EOFError: It is damaged, too short, or would need pickle.
    """
    with path.open("rb") as stream:
        header = read_header(stream)
        offset = stream.tell()
        stamp = stamp_of(stream)
    shape, dtype, fortran = header
    if 0 in shape:
        return np.empty(shape, dtype)  # cannot be mapped
    one_axis = len(shape) == 1  # such arrays may be stated to be of either order
    if dtype.kind not in _PLAIN or not dtype.itemsize or not shape or (fortran and not one_axis):
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    needed = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if stamp[0] < needed:
        raise ValueError(f"{stamp[0]} bytes; {dtype} {shape} takes {needed}")
    return Rows(path, header, offset, stamp)
