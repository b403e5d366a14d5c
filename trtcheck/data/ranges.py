"""Digest of a range of the images: what a shard is told apart by, and checked where it is evaluated."""

from __future__ import annotations

import hashlib

import numpy as np

from trtcheck import digests
from trtcheck.data import Images
from trtcheck.data.folder import FolderImages


def digest_of_range(images: Images, start: int, stop: int) -> str:
    """Digest of the inputs *start* to *stop* (exclusive), the same wherever and however they are held.

    Of an image folder: relative names, file contents, resize, crop and colour; nothing is decoded. Of
    anything else: names, dtypes, shapes and contents of what is read, a few MB at a time.

    Raises:
        DataError: An image cannot be read.
    """
    if isinstance(images, FolderImages):
        return images.digest_of(start, stop)
    found: dict[str, _Content] = {}
    size = 1
    while start < stop:
        arrays = {name: np.asarray(array) for name, array in images.read(start, start + size).items()}
        for name, array in arrays.items():
            found.setdefault(name, _Content()).add(array)
        start += size
        row = sum(array[:1].nbytes for array in arrays.values())
        size = min(digests.rows_at_once(row), stop - start)
    return digests.of_json({name: content.digest() for name, content in found.items()})


class _Content:
    """Dtype, number, shape and content of the rows of one array, which come in pieces."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._rows = 0
        self._told: tuple[str, tuple[int, ...]] | None = None

    def add(self, rows: np.ndarray) -> None:
        """The next *rows*."""
        told = rows.dtype.str, rows.shape[1:]
        if told != self._told:  # once, but for sources whose images differ
            self._sha.update(f"{self._rows} {told}".encode())
            self._told = told
        self._sha.update(rows.tobytes())
        self._rows += len(rows)

    def digest(self) -> str:
        """The digest of all rows."""
        return f"sha256:{self._sha.hexdigest()} {self._rows}"
