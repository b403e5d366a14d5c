"""A TensorRT engine that answers batches: shapes, addresses, execution; the rest is `backends.cuda`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from trtcheck.backends.binding import Binding
from trtcheck.backends.cuda import Device, Graph, Stream
from trtcheck.backends.device_timer import DeviceTimer, Query
from trtcheck.backends.onnxruntime import fitted
from trtcheck.backends.trt_context import make_context
from trtcheck.backends.trt_runtime import deserialize, is_out_of_memory, logged, logger_of
from trtcheck.backends.trt_signature import signature_of
from trtcheck.errors import BackendError, EngineError

if TYPE_CHECKING:
    from trtcheck.backends.trt_context import Context
    from trtcheck.backends.trt_flavour import Flavour
    from trtcheck.backends.trt_runtime import Opened
    from trtcheck.model import Signature, Tensor

Shapes = tuple[tuple[str, tuple[int, ...]], ...]

_WARM_UP = 2
"""Executions before the first that is timed; TensorRT for RTX records its graph in one of them."""

_KEPT = 4
"""Sets of shapes that stay bound: the batch size, the last batch's, and whatever the data bring."""


def open_engine(
    flavour: Flavour,
    path: Path,
    described: Mapping[str, Any],
    *,
    plugins: Sequence[Path],
    host_code: bool,
    cuda_graph: bool,
    runtime_cache: Path,
) -> TrtEngine:
    """Loads an engine that a child process loaded before; the driver was asked.

    Args:
        flavour: Whose engine it is.
        path: The file.
        described: What the child found out about it.
        plugins: Plugin libraries, loaded first.
        host_code: Whether the engine may bring a runtime of its own.
        cuda_graph: Whether batches are replayed as a CUDA graph.
        runtime_cache: Where TensorRT for RTX keeps the kernels that it compiled.

    Raises:
        BackendError: CUDA refuses.
        EngineError: The file cannot be loaded here.
    """
    device = Device()
    try:
        opened = deserialize(flavour, path, plugins, host_code=host_code)
        context = make_context(path, opened, runtime_cache, cuda_graph=cuda_graph)
        return TrtEngine(path, opened, context, described, device, cuda_graph=cuda_graph)
    except BaseException:
        device.close()
        raise


@final
class TrtEngine:
    """A serialized engine in TensorRT or TensorRT for RTX; a `trtcheck.backends.base.TimedEngine`.

    Args:
        path: The engine's file, for messages.
        opened: The engine on the GPU.
        context: Its execution context.
        described: What a child process found out about it.
        device: The GPU, closed with the engine.
        cuda_graph: Whether batches are recorded and replayed as a CUDA graph.

    Raises:
        BackendError: CUDA refuses.
        EngineError: An input or output cannot be fed or read.
    """

    def __init__(
        self,
        path: Path,
        opened: Opened,
        context: Context,
        described: Mapping[str, Any],
        device: Device,
        *,
        cuda_graph: bool,
    ) -> None:
        self.path = path
        self._opened: Opened | None = opened
        self._library = opened.library
        self._context = context.raw
        self._save = context.save
        self._signature = signature_of(described, path)
        self._profiles: list[Mapping[str, Mapping[str, list[int]]]] = described["profiles"]
        self._device = device
        self._stream: Stream = device.stream()
        self._graphs = cuda_graph and not context.own_graphs
        self._own_graphs = cuda_graph and context.own_graphs
        self._graph: Graph | None = None
        self._bound: dict[Shapes, Binding] = {}
        self._active: Binding | None = None
        self._timers: list[DeviceTimer] = []

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of its inputs and outputs."""
        return self._signature

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch.

        Args:
            feeds: One array per input, first axis the batch. Floats of another width are cast to the input's.

        Returns:
            One array per output, by name.

        Raises:
            EngineError: Names, types or shapes do not fit, TensorRT failed, or the engine is closed.
            BackendError: CUDA failed.
        """
        batch, shapes = self._fitted(feeds)
        with self._failing() as log:
            binding = self._bind(shapes, log)
            binding.feed(batch, self._stream)
            if self._graph is not None:
                self._graph.launch(self._stream)
            else:
                self._execute(log)
            return binding.fetch(self._stream)

    def _fitted(self, feeds: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Shapes]:
        if self._opened is None:
            raise EngineError("the engine is closed", where=self.path)
        batch = fitted(feeds, self._signature, self.path)
        return batch, tuple((name, array.shape) for name, array in batch.items())

    @contextmanager
    def _failing(self) -> Iterator[list[str]]:
        """What TensorRT logs inside; what it raises becomes an `EngineError` with it."""
        with logged(self._library) as log:
            try:
                yield log
            except RuntimeError as error:  # what pybind11 makes of C++ exceptions
                raise self._failed([*log, str(error)]) from error

    def timer(
        self, feeds: Mapping[str, np.ndarray], *, transfers: bool = False, spin_wait: bool = False
    ) -> DeviceTimer:
        """What runs the engine on one batch again and again; closed with the engine.

        Args:
            feeds: One array per input, first axis the batch.
            transfers: Whether the copies of inputs to the GPU and of outputs back are part of the time.
            spin_wait: Whether the host spins while it waits for the GPU.

        Raises:
            EngineError: As of `infer`.
            BackendError: CUDA failed.
        """
        batch, shapes = self._fitted(feeds)
        with self._failing() as log:
            self._unbind()
            self._set_shapes(shapes, log)
            binding = self._new_binding()
            ready = partial(self._ready, binding, shapes, batch, transfers=transfers)
            ready()
            timer = DeviceTimer(
                self._device, self._stream, ready, transfers=transfers,
                cuda_graph=self._replayed(), spin_wait=spin_wait, path=self.path, failing=self._failing,
            )  # fmt: skip
        self._timers.append(timer)
        return timer

    def _ready(
        self, binding: Binding, shapes: Shapes, batch: Mapping[str, np.ndarray], *, transfers: bool
    ) -> Query:
        """The work on *batch*, which lies in *binding*; whatever the context ran meanwhile, it is warm."""
        if binding is not self._active:
            log = logger_of(self._library).errors
            self._unbind()
            self._set_shapes(shapes, log)
            self._activate(binding, log)
            binding.feed(batch, self._stream)
            run = self._running()
            for _ in range(_WARM_UP):
                run()
            self._stream.synchronize()
        copied = (binding.inputs.values(), binding.outputs.values()) if transfers else ((), ())
        return Query.of(self._stream, copied[0], self._running(), copied[1])

    def _replayed(self) -> bool:
        """Whether the work is replayed as a CUDA graph, as far as the runtime tells."""
        if self._own_graphs:
            return bool(self._context.is_stream_capturable(self._stream.handle))
        return self._graph is not None

    def _running(self) -> Callable[[], None]:
        """What puts the engine's work on the stream, with nothing left to look up."""
        if self._graph is None:
            execute, handle = self._context.execute_async_v3, self._stream.handle

            def run() -> None:
                if not execute(handle):
                    raise self._failed(logger_of(self._library).errors)

            return run
        launch = self._graph.launching(self._stream)

        def replay() -> None:
            status = launch()[0]
            if status:
                self._device.checked("launch a graph", (status,))

        return replay

    def _bind(self, shapes: Shapes, log: list[str]) -> Binding:
        """The buffers for *shapes*, whose addresses and shapes the context has when this returns."""
        binding = self._bound.get(shapes)
        if binding is None or binding is not self._active:
            self._unbind()
            self._set_shapes(shapes, log)
            if binding is None:
                while len(self._bound) >= _KEPT:
                    self._bound.pop(next(iter(self._bound))).close()
                binding = self._bound[shapes] = self._new_binding()
            self._activate(binding, log)
        return binding

    def _new_binding(self) -> Binding:
        """Buffers for the shapes that the context has."""
        inputs, outputs = self._layout(self._signature.inputs), self._layout(self._signature.outputs)
        return Binding(self._device, inputs, outputs)

    def _activate(self, binding: Binding, log: list[str]) -> None:
        """Gives the context its addresses, and records the work where it is to be replayed."""
        self._set_addresses(binding, log)
        if self._graphs:
            self._graph = self._record(binding, log)
        self._active = binding

    def _unbind(self) -> None:
        """Releases the recorded work, which is right only while the context keeps the shapes it had."""
        self._active = None
        if self._graph is not None:
            self._graph.close()
        self._graph = None

    def _set_shapes(self, shapes: Shapes, log: list[str]) -> None:
        self._require_profile(dict(shapes))
        for name, shape in shapes:
            if not self._context.set_input_shape(name, shape):
                raise self._failed([*log, f"input '{name}' does not take {list(shape)}"])
        unknown = self._context.infer_shapes()
        if unknown:
            raise self._failed([*log, f"these shapes are not known: {', '.join(unknown)}"])

    def _require_profile(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses shapes outside of the engine's profile."""
        if not self._profiles:
            return
        for name, limits in self._profiles[0].items():
            inside = len(shapes[name]) == len(limits["min"]) and all(
                low <= size <= high
                for low, size, high in zip(limits["min"], shapes[name], limits["max"], strict=True)
            )
            if not inside:
                raise EngineError(
                    f"the batch is outside of the engine's profile: input '{name}'", where=self.path,
                    expected=f"{limits['min']} to {limits['max']}", found=list(shapes[name]),
                    hint="profile = {min = …, opt = …, max = …} in the suite, or an engine for this batch",
                )  # fmt: skip

    def _layout(self, tensors: Sequence[Tensor]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shapes and types of *tensors* for the shapes that the context has."""
        found = {}
        for tensor in tensors:
            shape = tuple(int(size) for size in self._context.get_tensor_shape(tensor.name))
            if any(size < 0 for size in shape):
                raise EngineError(
                    f"the shape of output '{tensor.name}' depends on the data; such engines cannot be tested",
                    where=self.path, expected="a shape that follows from the inputs' shapes",
                    found=tensor, hint="cut the model before NonZero or non-maximum suppression",
                )  # fmt: skip
            found[tensor.name] = (shape, tensor.dtype)
        return found

    def _set_addresses(self, binding: Binding, log: list[str]) -> None:
        for name, buffer in (*binding.inputs.items(), *binding.outputs.items()):
            if not self._context.set_tensor_address(name, buffer.address):
                raise self._failed([*log, f"'{name}' does not take its address"])

    def _record(self, binding: Binding, log: list[str]) -> Graph:
        # The first execution allocates and compiles, which must not be recorded.
        for buffer in binding.inputs.values():
            buffer.host[...] = 0
            buffer.upload(self._stream)
        self._execute(log)
        self._stream.synchronize()
        try:
            return self._stream.capture(lambda: self._execute(log))
        except (BackendError, EngineError) as error:
            raise EngineError(
                "the engine's work cannot be replayed as a CUDA graph", where=self.path,
                found=" ".join(str(error).split()),
                hint="cuda_graph = false in [models.NAME.tensorrt] or [models.NAME.latency]",
            ) from error  # fmt: skip

    def _execute(self, log: list[str]) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise self._failed(log)

    def _failed(self, log: Sequence[str]) -> EngineError:
        told = "\n    ".join(log) or "it does not say why"
        if is_out_of_memory(log):
            return EngineError(
                "out of memory: the engine cannot run this batch", where=self.path, found=told,
                hint="a smaller batch, or end other programs on this GPU",
            )  # fmt: skip
        return EngineError("TensorRT failed on a batch", where=self.path, found=told)

    def close(self) -> None:
        """Frees device memory, then context and engine; the engine answers no more."""
        if self._opened is None:
            return
        with suppress(BackendError):  # work that failed is told where it failed
            self._stream.synchronize()
        with suppress(OSError):  # a cache that cannot be written costs the next start time, no more
            self._save()
        for timer in self._timers:
            timer.close()
        self._timers.clear()
        # Their destructors free device memory, which needs the GPU's context: before the device is closed.
        self._context = None
        self._save = lambda: None
        self._opened = None
        self._device.close()
