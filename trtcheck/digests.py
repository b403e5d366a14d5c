"""SHA-256 digests of files, arrays and settings: what caches and baselines are keyed by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_CHUNK = 1 << 22


def of_files(paths: Iterable[Path]) -> str:
    """Digest of the contents of *paths*, in the given order, as ``sha256:<hex>``."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def of_array(array: np.ndarray) -> str:
    """Digest of dtype, shape and content of *array*, read in chunks (a memory map stays on disk)."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    rows = max(1, _CHUNK // max(1, array[:1].nbytes)) if array.ndim else 1
    for start in range(0, len(array) if array.ndim else 1, rows):
        part = array[start : start + rows] if array.ndim else array
        digest.update(part.tobytes())
    return f"sha256:{digest.hexdigest()}"


def of_json(value: Any) -> str:
    """Digest of a JSON-ready *value*, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def short(digest: str) -> str:
    """The first 12 hexadecimal digits of a digest, for messages and file names."""
    return digest.removeprefix("sha256:")[:12]
