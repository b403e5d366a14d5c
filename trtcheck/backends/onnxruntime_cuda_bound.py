"""Inputs and outputs of a session of ONNX Runtime on a GPU, bound to buffers once a set of shapes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, final

import numpy as np
from onnx import helper

from trtcheck.backends.binding import Binding
from trtcheck.backends.cuda import Buffer, Device, Stream
from trtcheck.backends.device_timer import Query
from trtcheck.backends.onnxruntime import library

if TYPE_CHECKING:
    from trtcheck.model import Signature

DEVICE = "cuda"
"""What ONNX Runtime calls the GPU where inputs and outputs are bound."""

_NO_GRAPH = -1
"""The number of a graph that keeps ONNX Runtime from recording one."""

_WARM_UP = 3
"""Runs before the first that is timed: the first makes the outputs, the second records a graph."""


def wanted_on_gpu(session: Any) -> dict[str, bool]:
    """By input, whether its readers want it on the GPU; conditions and shapes are read on the CPU."""
    wanted = zip(session.get_inputs(), session.get_input_memory_infos(), strict=True)
    return {value.name: info.name.lower() == DEVICE for value, info in wanted}


@final
class Bound:
    """The inputs and outputs of a session, bound to buffers for one set of shapes.

    The first run lets ONNX Runtime make all outputs. Those that come out as the file says then get a buffer
    of their own; what depends on the data, or is declared wrongly, stays ONNX Runtime's.
    """

    def __init__(
        self, session: Any, device: Device, stream: Stream, feeds: Mapping[str, np.ndarray],
        signature: Signature, graph: int | None,
    ) -> None:  # fmt: skip
        self._session = session
        self._device = device
        self._stream = stream
        self._outputs = {tensor.name: tensor.dtype for tensor in signature.outputs}
        self._place = (DEVICE, device.gpu.index)
        self._wanted = _NO_GRAPH if graph is None else graph
        self._graph = _NO_GRAPH
        self._options = _run_options(_NO_GRAPH)
        self._binding = Binding(device, {name: (a.shape, a.dtype) for name, a in feeds.items()}, {})
        self._uploaded: list[Buffer] = []
        self._settled = False
        self._io: Any = session.io_binding()
        on_gpu = wanted_on_gpu(session)
        for name, buffer in self._binding.inputs.items():
            if on_gpu[name]:
                self._uploaded.append(buffer)
                self._bind(self._io.bind_input, name, self._place, buffer, buffer.address)
            else:  # copied from the GPU by ONNX Runtime itself, it came too late for its reader
                self._bind(self._io.bind_input, name, ("cpu", 0), buffer, buffer.host.ctypes.data)

    @property
    def replayed(self) -> bool:
        """Whether runs are recorded and replayed as a CUDA graph; settled by the first."""
        return self._graph != _NO_GRAPH

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch."""
        self._binding.feed(feeds, self._stream)
        for name in self._outputs:
            if name not in self._binding.outputs:  # what the last run made is else taken for a buffer
                self._io.bind_output(name, *self._place)
        self._session.run_with_iobinding(self._io, self._options)
        answers = self._binding.fetch(self._stream)
        values = self._io.get_outputs() if len(answers) < len(self._outputs) else ()
        for (name, dtype), value in zip(self._outputs.items(), values, strict=False):
            if name not in answers:
                shape = tuple(value.shape())
                answers[name] = self._device.read(value.data_ptr(), shape, dtype, self._stream)
        if not self._settled:
            self._settle(answers)
        return {name: answers[name] for name in self._outputs}

    def query(self, feeds: Mapping[str, np.ndarray], *, transfers: bool) -> Query:
        """The work of a batch that runs again and again; nothing of it has to be made or recorded any more.

        Args:
            feeds: The batch; it stays in the buffers.
            transfers: Whether the copies of inputs and outputs are part of the work.
        """
        for _ in range(_WARM_UP):
            self.run(feeds)
        if transfers:
            for name in self._outputs:
                if name not in self._binding.outputs:  # copied by ONNX Runtime, which alone knows its size
                    self._io.bind_output(name, "cpu", 0)
        # The event behind the work must not come a round trip of the host later.
        options = _run_options(self._graph, wait=False)
        run = partial(self._session.run_with_iobinding, self._io, options)
        copied = (self._uploaded, self._binding.outputs.values()) if transfers else ((), ())
        return Query.of(self._stream, copied[0], run, copied[1])

    def _settle(self, answers: Mapping[str, np.ndarray]) -> None:
        """Gives a buffer to every output that came out as declared."""
        sizes = {
            symbol: size
            for value in self._session.get_inputs()
            for symbol, size in zip(value.shape, self._binding.inputs[value.name].shape, strict=False)
            if isinstance(symbol, str)
        }
        for value in self._session.get_outputs():
            shape = answers[value.name].shape
            if [sizes.get(size, size) for size in value.shape] == list(shape):
                buffer = self._binding.add_output(value.name, (shape, self._outputs[value.name]))
                self._bind(self._io.bind_output, value.name, self._place, buffer, buffer.address)
        # Recorded addresses must stay: a graph is for runs whose every output has its own buffer.
        if len(self._binding.outputs) == len(self._outputs):
            self._graph = self._wanted
            self._options = _run_options(self._graph)
        self._settled = True

    def _bind(self, bind: Any, name: str, place: tuple[str, int], buffer: Buffer, address: int) -> None:
        element = int(helper.np_dtype_to_tensor_dtype(buffer.dtype))
        bind(name, *place, element, list(buffer.shape), address)

    def let_go(self) -> None:
        """Lets go of the session; the buffers are the device's to free."""
        self._io = self._session = None

    def close(self) -> None:
        """Frees the buffers."""
        self.let_go()
        self._binding.close()


def _run_options(graph: int, *, wait: bool = True) -> Any:
    """Options of a run.

    Args:
        graph: The number under which it is recorded; always said, for ONNX Runtime 1.32 takes 36 µs to find
            out that it is not.
        wait: Whether ONNX Runtime waits for the GPU at its end.
    """
    options = library().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    if not wait:
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options
