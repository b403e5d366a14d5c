"""Models and engines on machines that may not have them: known by digest, found, or sent along."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from trtcheck import digests, model
from trtcheck.cache import Cache
from trtcheck.errors import EngineError, OptionError
from trtcheck.shards.task import Bundle, Sent

PATHS = "TRTCHECK_PATHS"
"""Variable of a worker's environment: folders that are elsewhere there, as ``/data=/mnt/data``, joined as
those of PATH are."""

_KIND = "shipped"


def bundle_of(path: Path) -> Bundle:
    """The file at *path* with all that belongs to it.

    Raises:
        ModelError: An ONNX file is missing or damaged, or lacks its external weights.
    """
    paths = model.files(path) if path.suffix.lower() == ".onnx" else [path]
    # Weights may lie in a sub-folder; onnx takes none from outside of the model's.
    files = {file.relative_to(path.parent).as_posix(): digests.of_files([file]) for file in paths}
    return Bundle(digests.of_json(files), path.absolute(), files)


def contents(bundle: Bundle) -> Mapping[str, bytes]:
    """The files of *bundle* by name, to be sent along."""
    return {name: (bundle.path.parent / name).read_bytes() for name in bundle.files}


def find(bundle: Bundle, cache: Cache, sent: Sent) -> Path | None:
    """Where *bundle* is on this machine: at its own path, in the cache, or among what was *sent*.

    Raises:
        EngineError: What was sent is not what it should be.
        OptionError: The cache folder cannot be written.
    """
    here = elsewhere(bundle.path)
    if _are_there(bundle, here.parent):
        return here
    with cache.locked(_KIND, bundle.key):
        found = cache.get(_KIND, bundle.key)
        if found is not None and not _are_there(bundle, found.folder):  # weights in folders of their own
            shutil.rmtree(found.folder)
            found = None
    content = sent.get(bundle.key)
    if found is None and content is not None:
        found = cache.get_or_make(_KIND, bundle.key, lambda folder: _write(bundle, content, folder))
    return None if found is None else found.folder / bundle.path.name


def _write(bundle: Bundle, content: Mapping[str, bytes], folder: Path) -> dict[str, Mapping[str, str]]:
    """Writes what was sent into *folder*."""
    for name in bundle.files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[name])
    if not _are_there(bundle, folder):
        raise EngineError(
            "arrived damaged", where=bundle.path.name, expected=f"digest {digests.short(bundle.key)}"
        )
    return {"sent": bundle.files}


def _are_there(bundle: Bundle, folder: Path) -> bool:
    paths = {folder / name: digest for name, digest in bundle.files.items()}
    try:
        return all(path.is_file() and digests.of_files([path]) == digest for path, digest in paths.items())
    except OSError:  # a folder that may not be searched is none
        return False


def elsewhere(path: Path) -> Path:
    """Where *path* is on this machine, as the variable `PATHS` has it.

    Raises:
        OptionError: The variable cannot be read.
    """
    for entry in filter(None, os.environ.get(PATHS, "").split(os.pathsep)):
        there, equals, here = entry.partition("=")
        if not (there and equals and here):
            raise OptionError(
                f"{PATHS} cannot be read", expected=f"pairs like /data=/mnt/data, joined by '{os.pathsep}'",
                found=entry,
            )  # fmt: skip
        if path.is_relative_to(there):
            return Path(here) / path.relative_to(there)
    return path
