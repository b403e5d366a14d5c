"""SHA-256 digests of files, arrays and settings: what caches and baselines are keyed by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.data.npy import Rows

_CHUNK = 1 << 22


def of_files(paths: Iterable[Path]) -> str:
    """Digest of the contents of *paths*, in the given order, as ``sha256:<hex>``."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def of_array(array: np.ndarray | Rows) -> str:
    """Digest of dtype, shape and content of *array*, read in chunks of 4 MiB or of a row that is larger."""
    import numpy as np

    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    if isinstance(array, np.ndarray):
        array = np.atleast_1d(array)
    rows = rows_at_once(array[:1].nbytes)
    for start in range(0, len(array), rows):
        digest.update(array[start : start + rows].tobytes())
    return f"sha256:{digest.hexdigest()}"


def rows_at_once(row: int) -> int:
    """How many rows of *row* bytes are read at once for their digest; it does not depend on that."""
    return max(1, _CHUNK // max(1, row))


def of_json(value: Any) -> str:
    """Digest of a JSON-ready *value*, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def short(digest: str) -> str:
    """The first 12 hexadecimal digits of a digest, for messages and file names."""
    return digest.removeprefix("sha256:")[:12]
