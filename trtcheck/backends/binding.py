"""The memory of an engine's inputs and outputs: made once for a set of shapes, fed and fetched a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

import numpy as np

from trtcheck.backends.base import Closing
from trtcheck.errors import BackendError

if TYPE_CHECKING:
    from trtcheck.backends.cuda import Buffer, Device, Layout, Stream


@final
class Binding(Closing):
    """The buffers of an engine's inputs and outputs for one set of shapes.

    Attributes:
        inputs: Buffers of the inputs by name.
        outputs: Buffers of the outputs by name.

    Args:
        device: Where they lie.
        inputs: Shape and type of every input.
        outputs: The same of every output whose shape is known beforehand.

    Raises:
        BackendError: There is not enough memory.
    """

    def __init__(self, device: Device, inputs: Mapping[str, Layout], outputs: Mapping[str, Layout]) -> None:
        self._device = device
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}
        try:
            for name, (shape, dtype) in inputs.items():
                self.inputs[name] = device.buffer(shape, dtype)
            for name, layout in outputs.items():
                self.add_output(name, layout)
        except BackendError:
            self.close()
            raise

    def add_output(self, name: str, layout: Layout) -> Buffer:
        """Makes room for one more output."""
        self.outputs[name] = self._device.buffer(*layout)
        return self.outputs[name]

    def feed(self, feeds: Mapping[str, np.ndarray], stream: Stream) -> None:
        """Puts the copies of *feeds* to the GPU on *stream*.

        The work of the batch before must be done, as after `fetch`.

        Args:
            feeds: One array per input, of its shape and type.
            stream: Where the engine will run.
        """
        self.fill(feeds)
        for buffer in self.inputs.values():
            buffer.upload(stream)

    def fetch(self, stream: Stream) -> dict[str, np.ndarray]:
        """Copies of the outputs, once all work on *stream* is done."""
        for buffer in self.outputs.values():
            buffer.download(stream)
        stream.synchronize()
        return self.copied()

    def fill(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Copies *feeds* into the pinned memory of the inputs, whose uploads must be done."""
        for name, buffer in self.inputs.items():
            np.copyto(buffer.host, feeds[name], casting="no")

    def copied(self) -> dict[str, np.ndarray]:
        """Copies of what lies in the pinned memory of the outputs, whose downloads must be done."""
        return {name: buffer.host.copy() for name, buffer in self.outputs.items()}

    def close(self) -> None:
        """Releases the memory."""
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.close()
