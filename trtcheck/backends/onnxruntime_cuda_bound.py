"""Inputs and outputs of a session of ONNX Runtime on a GPU, bound to buffers once a set of shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from onnx import helper

from trtcheck.backends.binding import Binding
from trtcheck.backends.cuda import Buffer, Call, Device, Stream
from trtcheck.backends.device_timer import Query
from trtcheck.backends.onnxruntime import library
from trtcheck.errors import BackendError

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


class Streams(NamedTuple):
    """The queues of a session.

    Attributes:
        compute: Where ONNX Runtime works.
        inward: Where inputs are copied to the GPU while it works on another batch.
        outward: Where outputs are copied to the host meanwhile.
    """

    compute: Stream
    inward: Stream
    outward: Stream

    @classmethod
    def of(cls, device: Device) -> Streams:
        """New ones."""
        return cls(device.stream(), device.stream(), device.stream())


class _Work(NamedTuple):
    """What a batch makes of the GPU, in this order, once its inputs lie in pinned memory.

    Attributes:
        before: Brings the inputs.
        options: Of ONNX Runtime's run.
        after: Brings the outputs.
        wait: Waits until they are there.
    """

    before: Sequence[Call]
    options: Any
    after: Sequence[Call]
    wait: Call


@final
class Bound:
    """The inputs and outputs of a session, bound to buffers for one set of shapes.

    The first run lets ONNX Runtime make all outputs. Those that come out as the file says then get a buffer
    of their own; what depends on the data, or is declared wrongly, stays ONNX Runtime's.

    Attributes:
        busy: Whether it is taken: a batch was started and not yet waited for, or is about to be run.
    """

    def __init__(
        self, session: Any, device: Device, streams: Streams, feeds: Mapping[str, np.ndarray],
        signature: Signature, graph: int | None,
    ) -> None:  # fmt: skip
        self._session = session
        self._device = device
        self._streams = streams
        self._stream = streams.compute
        self.busy = False
        self._together: _Work | None = None
        self._apart: _Work | None = None
        self._ready_in: Thread | None = None
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

    @property
    def overlaps(self) -> bool:
        """Whether a batch can be started and waited for later: nothing is to be made or recorded any more.

        Never where an output has no buffer, or where an input is read on the CPU, while the batch is started.
        Nor in a thread other than the last one that ran it: ONNX Runtime records a graph for each.
        """
        return self._ready_in is current_thread() and len(self._uploaded) == len(self._binding.inputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch."""
        if self._together is None:
            return self._run_unsettled(feeds)
        self._put(self._together, feeds)
        answers = self._taken(self._together)
        self._ready_in = current_thread()
        return answers

    def start(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Hands a batch over to the GPU, where `overlaps`; `answers` waits for it.

        Its copies have streams of their own: they overlap with the work of the batches before and after it,
        which lie in other sets of buffers.
        """
        if self._apart is None:
            self._apart = self._work_apart()
        self._put(self._apart, feeds)
        self.busy = True

    def answers(self) -> dict[str, np.ndarray]:
        """Answers of the batch that was started."""
        self.busy = False
        if self._apart is None:
            raise BackendError("no batch was started")
        return self._taken(self._apart)

    def _put(self, work: _Work, feeds: Mapping[str, np.ndarray]) -> None:
        self._device.activate()
        self._binding.fill(feeds)
        self._make("copy inputs to the GPU", work.before)
        self._session.run_with_iobinding(self._io, work.options)
        self._make("copy outputs from the GPU", work.after)

    def _taken(self, work: _Work) -> dict[str, np.ndarray]:
        self._device.activate()
        self._make("finish the work of a stream", (work.wait,))
        return self._binding.copied()

    def _make(self, attempt: str, calls: Iterable[Call]) -> None:
        for call in calls:
            answer = call()
            if answer[0]:
                self._device.checked(attempt, answer)

    def _work_together(self) -> _Work:
        """The work of a batch on one stream."""
        stream = self._stream
        uploads, downloads = self._copies(stream, stream)
        return _Work(uploads, _run_options(self._graph), downloads, stream.synchronizing())

    def _work_apart(self) -> _Work:
        """The work of a batch on three streams, each of which waits for the one before.

        None has to wait for the batch before in the same buffers: the host has waited for it.
        """
        compute, inward, outward = self._streams
        arrived, computed, fetched = (self._device.event(timed=False) for _ in range(3))
        uploads, downloads = self._copies(inward, outward)
        return _Work(
            [*uploads, arrived.recording(inward), arrived.holding(compute)],
            _run_options(self._graph, wait=False),
            [computed.recording(compute), computed.holding(outward), *downloads, fetched.recording(outward)],
            fetched.waiting(),
        )

    def _copies(self, inward: Stream, outward: Stream) -> tuple[list[Call], list[Call]]:
        return (
            [buffer.uploading(inward) for buffer in self._uploaded if buffer.nbytes],
            [buffer.downloading(outward) for buffer in self._binding.outputs.values() if buffer.nbytes],
        )

    def _run_unsettled(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch where outputs are ONNX Runtime's."""
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
            self._together = self._work_together()
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
