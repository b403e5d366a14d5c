"""Data sources for the tests of shards: importable by the workers, and deadly to them where asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import suite_models


class Images:
    """Images of `suite_models`, made anew in every process.

    Args:
        count: How many.
    """

    def __init__(self, count: int = 240) -> None:
        self.name = "made"
        self.class_names: tuple[str, ...] | None = None
        self._images, self.labels = suite_models.images(count)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        return {"images": self._images[start:stop]}

    def digest(self) -> str:
        return "sha256:made"


class Deadly(Images):
    """Kills the worker that evaluates a certain image, in the middle of its shard.

    Args:
        folder: Where every death is noted.
        deaths: How many workers die.
        image: The image.
    """

    def __init__(self, folder: Path, deaths: int = 1, image: int = 100) -> None:
        super().__init__()
        self._folder, self._deaths, self._image = folder, deaths, image
        self._owner = os.getpid()
        self._reads = 0

    @property
    def died(self) -> int:
        """How many workers died."""
        return len(list(self._folder.glob("died-*")))

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        if os.getpid() != self._owner and start <= self._image < stop:
            self._reads += 1  # the first is for the digest
            if self._reads == 2 and self.died < self._deaths:
                (self._folder / f"died-{os.getpid()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().read(start, stop)
