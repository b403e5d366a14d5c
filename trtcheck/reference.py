"""The reference's answers: the original FP32 model on ONNX Runtime, kept on disk between sessions."""

from __future__ import annotations

import logging
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck import digests
from trtcheck.cache import Cache
from trtcheck.data.npy import Header, as_bytes, read_header, read_rows, write_header
from trtcheck.errors import EngineError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from trtcheck.backends.base import LoadedEngine
    from trtcheck.data.batches import Batch
    from trtcheck.worker import Worker

_log = logging.getLogger("trtcheck")

LARGEST_KEPT = 4 << 30
"""Answers that take more bytes than this are computed anew every time instead of being kept.

Those on all images of the data set count, also where they are cut into shards.
"""


class CachedReference:
    """Answers of an earlier pass over the same data, read from disk where they are asked for.

    The files stay open: their rows can be read although the entry is removed meanwhile.

    Args:
        folder: The cache entry.
        outputs: Names of the outputs in the order of their files.
        start: Index of the first image whose answers are there.
    """

    def __init__(self, folder: Path, outputs: list[str], start: int = 0) -> None:
        self._start = start
        self._files: dict[str, BufferedReader] = {}
        self._headers: dict[str, tuple[Header, int]] = {}
        for k, name in enumerate(outputs):
            file = self._files[name] = (folder / f"{k}.npy").open("rb")
            self._headers[name] = read_header(file), file.tell()

    def answers(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """Outputs for the real images of *batch*; not to be called by two threads at once."""
        first = batch.start - self._start
        return {
            name: read_rows(file, *self._headers[name], first, first + batch.count)
            for name, file in self._files.items()
        }

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()


class LiveReference:
    """Answers computed now, and written down on the way where a folder is given.

    Args:
        session: The loaded reference model.
        span: The images that are asked for.
        images: The number of images of the data set, of which *span* may be a part.
        folder: Where the answers are kept, or None.
    """

    def __init__(self, session: LoadedEngine, span: range, images: int, folder: Path | None) -> None:
        self._session = session
        self._span = span
        self._images = images
        self._folder = folder
        self._files: dict[str, _Kept] = {}
        self._written = 0

    def answers(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """Outputs for the real images of *batch*.

        Raises:
            EngineError: An output does not have one row an image.
        """
        return self._taken(batch, self._session.infer(batch.feeds))

    @property
    def worker(self) -> Worker | None:
        """The thread that the session is asked in, where it has one."""
        return getattr(self._session, "worker", None)

    def answers_many(self, batches: Iterable[Batch]) -> Iterator[Mapping[str, np.ndarray]]:
        """The same of one batch after the other; a session that works ahead takes some before it answers.

        Raises:
            EngineError: As of `answers`.
        """
        many = getattr(self._session, "infer_many", None)
        if many is None:
            yield from map(self.answers, batches)
            return
        asked: deque[Batch] = deque()

        def feeds() -> Iterator[Mapping[str, np.ndarray]]:
            for batch in batches:
                asked.append(batch)
                yield batch.feeds

        for outputs in many(feeds()):
            yield self._taken(asked.popleft(), outputs)

    def _taken(self, batch: Batch, outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The *outputs* for the real images of *batch*, written down where they are kept."""
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
        try:
            if not self._files:
                self._open(outputs)
            if self._folder is None or not all(self._files[name].takes(outputs[name]) for name in outputs):
                self.close()  # too many, or of shapes that depend on the data
                return
            for name, value in outputs.items():
                self._files[name].write(batch.start - self._span.start, value)
        except OSError as error:
            self._give_up(error)
        self._written += batch.count

    def _open(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Opens a file an output, unless the answers cannot be kept.

        Raises:
            OSError: There is no room.
        """
        folder, self._folder = self._folder, None
        row = sum(value[:1].nbytes for value in outputs.values())
        if folder is None or row * self._images > LARGEST_KEPT:
            return
        if any(value.dtype.kind in "OV" for value in outputs.values()):
            return
        for k, (name, value) in enumerate(outputs.items()):
            header = Header((len(self._span), *value.shape[1:]), value.dtype)
            self._files[name] = _Kept(folder / f"{k}.npy", header)
        self._folder = folder

    def _give_up(self, error: OSError) -> None:
        _log.warning("trtcheck: the reference's answers are not kept: %s", error)
        self.close()

    def finished(self) -> list[str] | None:
        """Names of the outputs once all answers are on disk, or None where they are not; closes the files."""
        names = list(self._files)
        whole = self._folder is not None and self._written == len(self._span)
        try:
            for file in self._files.values():
                file.flush()
        except OSError as error:
            self._give_up(error)
            return None
        self.close()
        return names if whole else None

    def close(self) -> None:
        """Closes the files and writes down no more: Windows renames and removes no file that is open."""
        self._folder = None
        for file in self._files.values():
            file.close()
        self._files.clear()


class _Kept:
    """The .npy file of one output, written in place: a map of it would stay resident in this process.

    Args:
        path: The file, made now with all its blocks, so that a disk without room tells at once.
        header: Shape and dtype of the whole.

    Raises:
        OSError: There is no room.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._header = header
        self._file = path.open("wb")
        try:
            write_header(self._file, header)
            self._offset = self._file.tell()
            self._file.flush()
            self._row = int(np.prod(header.shape[1:], dtype=object)) * header.dtype.itemsize
            self._reserve(self._offset + header.shape[0] * self._row)
        except OSError:
            self.close()
            raise

    def _reserve(self, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, size)
        else:
            self._file.truncate(size)

    def takes(self, rows: np.ndarray) -> bool:
        """Whether *rows* are such as the first were."""
        return (rows.shape[1:], rows.dtype) == (self._header.shape[1:], self._header.dtype)

    def write(self, first: int, rows: np.ndarray) -> None:
        """Writes *rows* down as those from *first* on.

        Raises:
            OSError: There is no room any more.
        """
        self._file.seek(self._offset + first * self._row)
        self._file.write(as_bytes(np.ascontiguousarray(rows)))

    def flush(self) -> None:
        """Hands everything to the system.

        Raises:
            OSError: There is no room any more.
        """
        self._file.flush()

    def close(self) -> None:
        """Closes the file, whether or not the rest can be written."""
        with suppress(OSError):
            self._file.close()


def _room_in(cache: Cache) -> Path | None:
    """A folder for answers; None where there is no room for one."""
    try:
        return cache.temporary("reference")
    except OptionError as error:
        _log.warning("trtcheck: the reference's answers are not kept: %s", error)
        return None


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
        with closing(CachedReference(found.folder, found.manifest["outputs"])) as cached:
            yield cached
        return
    asked = range(images) if span is None else span
    if asked != range(images):
        key = digests.of_json([key, asked.start, asked.stop])
        with cache.locked("reference", key):
            found = cache.get("reference", key)
        if found is not None:
            with closing(CachedReference(found.folder, found.manifest["outputs"], asked.start)) as cached:
                yield cached
            return
    loaded = session()
    folder = live = None
    try:
        folder = _room_in(cache)
        live = LiveReference(loaded, asked, images, folder)
        yield live
        outputs = live.finished()
        if outputs is not None and folder is not None:
            try:
                with cache.locked("reference", key):
                    if cache.get("reference", key) is None:
                        cache.commit("reference", key, folder, {"outputs": outputs})
            except OptionError as error:  # a full disk: the comparison itself is whole
                _log.warning("trtcheck: the reference's answers are not kept: %s", error)
    finally:
        loaded.close()
        if live is not None:
            live.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
