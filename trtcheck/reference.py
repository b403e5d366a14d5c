"""The reference's answers: the original FP32 model on ONNX Runtime, kept on disk between sessions."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck import digests
from trtcheck.cache import Cache
from trtcheck.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trtcheck.backends.base import LoadedEngine
    from trtcheck.data.batches import Batch

_log = logging.getLogger("trtcheck")

LARGEST_KEPT = 4 << 30
"""Answers that take more bytes than this are computed anew every time instead of being kept."""


class CachedReference:
    """Answers of an earlier pass over the same data, memory-mapped.

    Args:
        folder: The cache entry.
        outputs: Names of the outputs in the order of their files.
        start: Index of the first image whose answers are there.
    """

    def __init__(self, folder: Path, outputs: list[str], start: int = 0) -> None:
        self._start = start
        self._arrays = {
            name: np.load(folder / f"{k}.npy", mmap_mode="r", allow_pickle=False)
            for k, name in enumerate(outputs)
        }

    def answers(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """Outputs for the real images of *batch*."""
        first = batch.start - self._start
        rows = slice(first, first + batch.count)
        return {name: np.asarray(array[rows]) for name, array in self._arrays.items()}


class LiveReference:
    """Answers computed now, and written down on the way where a folder is given.

    Args:
        session: The loaded reference model.
        span: The images that are asked for.
        folder: Where the answers are kept, or None.
    """

    def __init__(self, session: LoadedEngine, span: range, folder: Path | None) -> None:
        self._session = session
        self._start = span.start
        self._images = len(span)
        self._folder = folder
        self._arrays: dict[str, np.memmap] = {}
        self._written = 0

    def answers(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """Outputs for the real images of *batch*.

        Raises:
            EngineError: An output does not have one row an image.
        """
        outputs = self._session.infer(batch.feeds)
        size = len(next(iter(batch.feeds.values())))
        for name, value in outputs.items():
            if value.ndim == 0 or len(value) != size:
                raise EngineError(
                    f"output '{name}' of the reference has no row for each image",
                    expected=f"first axis {size}, the batch", found=f"shape {value.shape}",
                    hint="export the model with a batch axis in front of every output",
                )  # fmt: skip
        real = {name: value[: batch.count] for name, value in outputs.items()}
        if self._folder is not None:
            self._keep(batch, real)
        return real

    def _keep(self, batch: Batch, outputs: Mapping[str, np.ndarray]) -> None:
        if not self._arrays and not self._open(outputs):
            self._folder = None
            return
        for name, value in outputs.items():
            array = self._arrays[name]
            if array.shape[1:] != value.shape[1:] or array.dtype != value.dtype:
                self.close()  # shapes that depend on the data are not kept
                return
            first = batch.start - self._start
            array[first : first + batch.count] = value
        self._written += batch.count

    def _open(self, outputs: Mapping[str, np.ndarray]) -> bool:
        """Opens a file an output; False where the answers cannot be kept."""
        folder = self._folder
        row = sum(value[:1].nbytes for value in outputs.values())
        if folder is None or row * self._images > LARGEST_KEPT:
            return False
        if any(value.dtype.kind in "OV" for value in outputs.values()):
            return False
        try:
            for k, (name, value) in enumerate(outputs.items()):
                path = folder / f"{k}.npy"
                self._arrays[name] = np.lib.format.open_memmap(
                    path, mode="w+", dtype=value.dtype, shape=(self._images, *value.shape[1:])
                )
                _reserve(path)
        except OSError as error:
            _log.warning("trtcheck: the reference's answers are not kept: %s", error)
            self._arrays.clear()
            return False
        return True

    def finished(self) -> list[str] | None:
        """Names of the outputs once all answers are on disk, or None where they are not; closes the files."""
        names = list(self._arrays)
        whole = self._folder is not None and self._written == self._images
        if whole:
            for array in self._arrays.values():
                array.flush()
        self.close()
        return names if whole else None

    def close(self) -> None:
        """Closes the files and writes down no more: Windows renames and removes no file that is mapped."""
        self._folder = None
        self._arrays.clear()


def _reserve(path: Path) -> None:
    """Takes the file's blocks now: writing to a map of a file on a full disk would kill the process.

    Raises:
        OSError: There is no room.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def open_reference(
    cache: Cache, key: str, images: int, session: Callable[[], LoadedEngine], span: range | None = None
) -> Iterator[CachedReference | LiveReference]:
    """The reference's answers, from the cache where they are there, else computed and then kept.

    Two processes that find the cache empty both compute: waiting would take as long.

    Args:
        cache: Where answers are kept between sessions.
        key: Digest of model, data, preprocessing and runtime.
        images: Number of images N.
        session: Loads the reference model; called only where it is needed.
        span: The images that will be asked for; None for all. A part is kept as an entry of its own, unless
            the answers on all images are there.

    Raises:
        ModelError: The reference model cannot be loaded.
        OptionError: The cache folder cannot be used.
    """
    with cache.locked("reference", key):  # a damaged entry is removed: not while another makes it anew
        found = cache.get("reference", key)
    if found is not None:
        yield CachedReference(found.folder, found.manifest["outputs"])
        return
    asked = range(images) if span is None else span
    if asked != range(images):
        key = digests.of_json([key, asked.start, asked.stop])
        with cache.locked("reference", key):
            found = cache.get("reference", key)
        if found is not None:
            yield CachedReference(found.folder, found.manifest["outputs"], asked.start)
            return
    loaded = session()
    folder = live = None
    try:
        folder = cache.temporary("reference")
        live = LiveReference(loaded, asked, folder)
        yield live
        outputs = live.finished()
        if outputs is not None:
            with cache.locked("reference", key):
                if cache.get("reference", key) is None:
                    cache.commit("reference", key, folder, {"outputs": outputs})
    finally:
        loaded.close()
        if live is not None:
            live.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
