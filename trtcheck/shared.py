"""Results that the processes of one session share as plain files; the first to ask makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck import errors
from trtcheck.cache import write_atomically
from trtcheck.errors import TrtcheckError

if TYPE_CHECKING:
    import numpy as np

Parts = tuple[dict[str, Any], dict[str, "np.ndarray"]]
"""A JSON-ready record, and arrays by name."""


class SharedResults:
    """Results of one session as plain files, made by whichever process comes first.

    Args:
        folder: The session's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_or_make(self, key: str, make: Callable[[], Parts]) -> Parts:
        """The result of *key*: JSON-ready record and arrays.

        An error of `make` is a result too: every asker gets the same one, and nobody tries again.

        Raises:
            TrtcheckError: What `make` raised, now or in another process.
        """
        from filelock import FileLock

        record_path = self.folder / f"{key}.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{key}.lock"):
            if not record_path.is_file():
                self._make(key, record_path, make)
        return self.read(key)

    def read(self, key: str) -> Parts:
        """A result that is there; raises the error that took its place."""
        import numpy as np

        whole = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        if "error" in whole:
            kind = getattr(errors, whole["error"]["type"], TrtcheckError)
            raise kind(whole["error"]["text"])
        arrays: dict[str, np.ndarray] = {}
        if whole["arrays"]:
            with np.load(self.folder / f"{key}.npz", allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        return whole["record"], arrays

    def _make(
        self,
        key: str,
        path: Path,
        make: Callable[[], Parts],
    ) -> None:
        import numpy as np

        try:
            record, arrays = make()
        except TrtcheckError as error:
            whole: dict[str, Any] = {"error": {"type": type(error).__name__, "text": str(error)}}
        else:
            if arrays:
                np.savez(self.folder / f"{key}.npz", **arrays)  # type: ignore[arg-type]
            whole = {"record": record, "arrays": bool(arrays)}
        write_atomically(path, json.dumps(whole))
