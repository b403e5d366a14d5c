"""Evaluation and calibration data: sources, preprocessing and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.data.sources import open_images

__all__ = ["Images", "Source", "open_images"]


@runtime_checkable
class Images(Protocol):
    """Labelled inputs that can be read by range; anything that has these members is taken.

    Attributes:
        name: What messages call it, usually its path.
        labels: int64 array (N,), -1 for "no label"; None where the source has no labels.
        class_names: Class names that the source itself knows (folder names), or None.
    """

    name: str
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        """The number of images N."""
        ...

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """Arrays of the images *start* to *stop* (exclusive) by name, first axis the image."""
        ...

    def digest(self) -> str:
        """Digest of the inputs (not of the labels)."""
        ...


Source = str | Path | Mapping[str, str | Path] | tuple["np.ndarray", "np.ndarray"] | Sequence[Any] | Images


def __getattr__(name: str) -> Any:
    # Lazy, so that importing the protocol costs no numpy.
    if name == "open_images":
        from trtcheck.data.sources import open_images

        return open_images
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
