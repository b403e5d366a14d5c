"""A recording in the place of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np

from trtcheck.errors import EngineError
from trtcheck.model import Signature, Tensor
from trtcheck.recordings.recording import Recording


@final
class RecordedEngine:
    """Answers in the order of the images; a `trtcheck.backends.base.LoadedEngine`.

    Args:
        recording: The recording.
        images: How many of its rows are images; None for as many as it says.
    """

    def __init__(self, recording: Recording, *, images: int | None = None) -> None:
        self.path = recording.path
        self._images = recording.images if images is None else images
        self._outputs: Mapping[str, np.ndarray] | None = recording.outputs
        self._signature = Signature(
            (),
            tuple(Tensor(name, a.dtype, (None, *a.shape[1:])) for name, a in recording.outputs.items()),
        )
        self._next = 0

    @property
    def signature(self) -> Signature:
        """Its outputs, of any batch; inputs are not part of a recording."""
        return self._signature

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answers for the next images.

        Args:
            feeds: One array per input, first axis the batch; what is in them does not count. A batch that
                reaches beyond the last image is padded, as its inputs are: the last answer is repeated.

        Returns:
            One array per output, by name.

        Raises:
            EngineError: All images were asked for already, or the engine is closed.
        """
        if self._outputs is None:
            raise EngineError("the recording is closed", where=self.path)
        size = len(next(iter(feeds.values())))
        start, stop = self._next, min(self._next + size, self._images)
        if start >= stop:
            raise EngineError(
                "the recording has no more answers", where=self.path, expected=f"{self._images} images",
                found=f"a batch of {size} after image {start - 1}",
            )  # fmt: skip
        self._next = stop
        rows = np.minimum(np.arange(start, start + size), stop - 1)
        return {name: array[rows] for name, array in self._outputs.items()}

    def close(self) -> None:
        """Frees the arrays."""
        self._outputs = None
