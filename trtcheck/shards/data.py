"""The data of one shard: its digest, and its rows where data are nowhere but in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.data.ranges import digest_of_range
from trtcheck.shards.files import elsewhere
from trtcheck.shards.task import Cut

if TYPE_CHECKING:
    from trtcheck.case import Case
    from trtcheck.data import Images, Source


def span_digest(images: Images, span: range) -> str:
    """Digest of the inputs *span*, see `trtcheck.data.ranges.digest_of_range`.

    Raises:
        DataError: An image cannot be read.
    """
    return digest_of_range(images, span.start, span.stop)


def is_in_memory(source: Source) -> bool:
    """Whether *source* is arrays, of which a shard takes its rows along."""
    return isinstance(source, np.ndarray) or (
        isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray)
    )


def cut(images: Images, span: range) -> Cut:
    """The rows *span* of *images*."""
    return Cut(images.name, len(images), span.start, images.read(span.start, span.stop))


def travelling(case: Case) -> Case:
    """The *case* as a worker is sent it: paths absolute, without arrays and without calibration data."""
    source: Source = case.data
    if is_in_memory(source):
        source = Path()  # the rows of each shard travel beside it
    elif isinstance(source, str | Path):
        source = _plain(Path(source))
    elif isinstance(source, Mapping):
        source = {name: _plain(Path(path)) for name, path in source.items()}
    return replace(case, data=source, calibration=None, onnx=case.onnx.absolute())


def _plain(path: Path) -> Path:
    """The absolute *path*, without ``..`` where that leads to the same file: mappings go by beginnings."""
    whole = path.absolute()
    short = Path(os.path.normpath(whole))
    return short if short.exists() and whole.exists() and short.samefile(whole) else whole


def told(source: Source) -> str:
    """The *source* of a case in a message."""
    return ", ".join(map(str, source.values())) if isinstance(source, Mapping) else str(source)


def at_home(source: Source) -> Source:
    """The *source* of a case that arrived, where it is on this machine."""
    if isinstance(source, str | Path):
        return elsewhere(Path(source))
    if isinstance(source, Mapping):
        return {name: elsewhere(Path(path)) for name, path in source.items()}
    return source
