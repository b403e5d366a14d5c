"""Streams, events, pinned memory and graphs of CUDA, for every backend that runs on a GPU.

The driver's functions are used: they work with any version of the driver, and share the GPU's primary context
with ONNX Runtime and TensorRT, which use the runtime's. Whatever fails, and whatever is used after it was
closed, is a `BackendError` that says what was attempted, with CUDA's own name for the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable
from functools import partial
from typing import Any, final

import numpy as np

from trtcheck.backends.base import Closing
from trtcheck.errors import BackendError
from trtcheck.gpu import Gpu, bindings, checked, describe, find_gpu

Layout = tuple[tuple[int, ...], np.dtype]
"""Shape and type of an array."""

Call = Callable[[], tuple[Any, ...]]
"""A call of the driver, ready to be made again and again; it returns its status first, for the caller to see.

Between two events on a stream every microsecond of the host counts: nothing but the driver is called.
"""

LESS_MEMORY = "a smaller batch, or an end to other programs on this GPU"
"""What helps where the GPU's memory does not do."""

_MIB = 2**20


@final
class Device(Closing):
    """One GPU, its primary context held until it is closed; whatever it made is closed with it.

    Args:
        index: Its number among those that are visible to this process.

    Raises:
        BackendError: There is no such GPU, or CUDA refuses.
    """

    def __init__(self, index: int = 0) -> None:
        self.gpu: Gpu = find_gpu(index)
        self._driver = bindings()
        self._device = checked(f"open GPU {index}", self._driver.cuDeviceGet(index))
        held = self._driver.cuDevicePrimaryCtxRetain(self._device)
        self._context: Any = checked(f"take the context of GPU {index}", held)
        self._open: dict[int, _Resource] = {}
        self._failed = False
        self.activate()

    def activate(self) -> None:
        """Makes the GPU's context that of the calling thread.

        While a thread records a graph in CUDA's global mode, as ONNX Runtime does, CUDA refuses memory and
        waiting to every other thread, and spoils the recording. The thread is taken out of that here.
        """
        if self._context is None:
            raise BackendError("the GPU is closed", where=self.gpu.name)
        checked("make the GPU's context current", self._driver.cuCtxSetCurrent(self._context))
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        checked("work beside a recording", self._driver.cuThreadExchangeStreamCaptureMode(mode))

    def call(self, attempt: str, function: str, *arguments: Any) -> Any:
        """Calls one function of the driver in the GPU's context.

        Args:
            attempt: What is attempted, to follow "cannot".
            function: Name of the driver's function.
            *arguments: Its arguments.
        """
        return self.make(attempt, self.prepared(function, *arguments))

    def make(self, attempt: str, call: Call) -> Any:
        """Makes a prepared call in the GPU's context.

        Args:
            attempt: What is attempted, to follow "cannot".
            call: The call.
        """
        self.activate()
        return self.checked(attempt, call())

    def checked(self, attempt: str, answer: tuple[Any, ...]) -> Any:
        """What a function of the driver returned beside its status.

        Args:
            attempt: What was attempted, to follow "cannot".
            answer: The status, and any number of values.
        """
        try:
            return checked(attempt, answer)
        except BackendError:
            self._failed = True
            raise

    def prepared(self, function: str, *arguments: Any) -> Call:
        """A call of one function of the driver, for when the GPU's context is current.

        Args:
            function: Name of the driver's function.
            *arguments: Its arguments.
        """
        return partial(getattr(self._driver, function), *arguments)

    def stream(self) -> Stream:
        """A new stream that waits for no other."""
        return Stream(self)

    def event(self, *, blocking: bool = False, timed: bool = True) -> Event:
        """A new event.

        Args:
            blocking: Whether the host sleeps while it waits for the event, rather than to spin.
            timed: Whether it takes the time; without, streams are quicker to wait for it.
        """
        return Event(self, blocking=blocking, timed=timed)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """Memory for one array, on the GPU and pinned on the host.

        Args:
            shape: Its shape; a size of zero is allowed.
            dtype: Its type, also one of ml_dtypes.

        Raises:
            BackendError: There is not enough memory; what was asked for and what was free is told.
        """
        return Buffer(self, shape, np.dtype(dtype))

    def memory(self) -> tuple[int, int]:
        """Free and total memory of the GPU, in bytes."""
        free, total = self.call("tell the free memory", "cuMemGetInfo")
        return int(free), int(total)

    def read(self, address: int, shape: tuple[int, ...], dtype: Any, stream: Stream) -> np.ndarray:
        """A copy of an array on the GPU that somebody else holds, once all work on *stream* is done.

        Args:
            address: Where it lies.
            shape: Its shape.
            dtype: Its type.
            stream: Where it is made.
        """
        array: np.ndarray = np.empty(shape, dtype)
        if array.nbytes:
            to = array.ctypes.data
            self.call("copy from the GPU", "cuMemcpyDtoHAsync", to, address, array.nbytes, stream.handle)
        stream.synchronize()
        return array

    def allocate(self, attempt: str, function: str, size: int, *flags: int) -> Any:
        """Calls one of the driver's allocating functions."""
        self.activate()
        status, value = getattr(self._driver, function)(size, *flags)
        if status != self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            return checked(attempt, (status, value))
        free, total = self.memory()
        raise BackendError(
            f"out of memory: CUDA cannot {attempt}", where=self.gpu.name,
            expected=f"{size / _MIB:,.1f} MiB", hint=LESS_MEMORY,
            found=f"{describe(status)}; {free / _MIB:,.1f} of {total / _MIB:,.1f} MiB of the GPU are free",
        )  # fmt: skip

    def adopt(self, resource: _Resource) -> None:
        """Notes what is to be closed with the device."""
        self._open[id(resource)] = resource

    def forget(self, resource: _Resource) -> None:
        """Drops what was closed."""
        self._open.pop(id(resource), None)

    def close(self) -> None:
        """Closes whatever the device made, the youngest first, and gives the context back.

        After a failure that was told, nothing that fails here is: CUDA repeats what broke its context.
        """
        if self._context is None:
            return
        told = contextlib.suppress(BackendError) if self._failed else contextlib.nullcontext()
        with told, contextlib.ExitStack() as stack:  # goes on where one of them fails
            stack.callback(self._release)
            for resource in self._open.values():
                stack.callback(resource.close)

    def _release(self) -> None:
        self._context = None
        checked("give the GPU's context back", self._driver.cuDevicePrimaryCtxRelease(self._device))


class _Resource(Closing):
    """Something of the driver's that is released once, however often it is closed."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._closed = False
        device.adopt(self)

    def _free(self) -> None:
        raise NotImplementedError

    def _usable(self) -> Device:
        if self._closed:
            raise BackendError(f"the {type(self).__name__.lower()} is closed", where=self.device.gpu.name)
        return self.device

    def close(self) -> None:
        """Releases it; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        self.device.forget(self)
        self._free()


@final
class Stream(_Resource):
    """A queue of work on the GPU; made by `Device.stream`."""

    def __init__(self, device: Device) -> None:
        flags = int(bindings().CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._stream = device.call("make a stream", "cuStreamCreate", flags)
        super().__init__(device)

    @property
    def handle(self) -> int:
        """Its address, as ONNX Runtime and TensorRT take it."""
        self._usable()
        return int(self._stream)

    @property
    def queue(self) -> Any:
        """The driver's own object, which a `Call` takes quickest."""
        self._usable()
        return self._stream

    def synchronize(self) -> None:
        """Waits until all its work is done."""
        self._usable().make("finish the work of a stream", self.synchronizing())

    def synchronizing(self) -> Call:
        """What waits until all its work is done."""
        return self._usable().prepared("cuStreamSynchronize", self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Records what *work* puts on the stream, without running it.

        Args:
            work: Puts the work on this stream; it must neither wait for it nor allocate memory.

        Raises:
            BackendError: CUDA cannot record the work.
        """
        device = self._usable()
        mode = bindings().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        device.call("begin to record a graph", "cuStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            # Unended, the capture would spoil the stream; the work's own error counts.
            status, graph = bindings().cuStreamEndCapture(self._stream)
            if int(status) == 0:
                bindings().cuGraphDestroy(graph)
            raise
        return Graph(device, device.call("record a graph", "cuStreamEndCapture", self._stream))

    def _free(self) -> None:
        self.device.call("release a stream", "cuStreamDestroy", self._stream)


@final
class Event(_Resource):
    """A mark on a stream; made by `Device.event`."""

    def __init__(self, device: Device, *, blocking: bool, timed: bool) -> None:
        kinds = bindings().CUevent_flags
        flags = int(kinds.CU_EVENT_BLOCKING_SYNC if blocking else kinds.CU_EVENT_DEFAULT)
        if not timed:
            flags |= int(kinds.CU_EVENT_DISABLE_TIMING)
        self._event = device.call("make an event", "cuEventCreate", flags)
        super().__init__(device)

    def recording(self, stream: Stream) -> Call:
        """What puts the mark behind the work that is on *stream*."""
        return self._usable().prepared("cuEventRecord", self._event, stream.queue)

    def waiting(self) -> Call:
        """What waits until the work before the mark is done."""
        return self._usable().prepared("cuEventSynchronize", self._event)

    def holding(self, stream: Stream) -> Call:
        """What keeps later work of *stream* from starting before the work before the mark is done."""
        return self._usable().prepared("cuStreamWaitEvent", stream.queue, self._event, 0)

    def ms_since(self, earlier: Event) -> Call:
        """What tells the milliseconds from *earlier* to this mark, once both are recorded and reached."""
        earlier._usable()
        return self._usable().prepared("cuEventElapsedTime", earlier._event, self._event)

    def _free(self) -> None:
        self.device.call("release an event", "cuEventDestroy", self._event)


@final
class Graph(_Resource):
    """Recorded work that can be run again and again; made by `Stream.capture`."""

    def __init__(self, device: Device, recorded: Any) -> None:
        try:
            self._graph = device.call("make a graph ready", "cuGraphInstantiate", recorded, 0)
        finally:
            device.call("release a recording", "cuGraphDestroy", recorded)
        super().__init__(device)

    def launch(self, stream: Stream) -> None:
        """Puts the whole work on *stream*."""
        self._usable().make("launch a graph", self.launching(stream))

    def launching(self, stream: Stream) -> Call:
        """What puts the whole work on *stream*."""
        return self._usable().prepared("cuGraphLaunch", self._graph, stream.queue)

    def _free(self) -> None:
        self.device.call("release a graph", "cuGraphExecDestroy", self._graph)


@final
class Buffer(_Resource):
    """Memory for one array, on the GPU and pinned on the host; made by `Device.buffer`.

    Attributes:
        shape: Shape of the array.
        dtype: Its type.
        nbytes: Its size in bytes.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.dtype = dtype
        self.nbytes = math.prod(self.shape) * dtype.itemsize
        dims = ", ".join(map(str, self.shape))
        # An empty array has an address too: TensorRT and ONNX Runtime ask for one.
        size = max(self.nbytes, 1)
        self._address = int(device.allocate(f"allocate {dtype}[{dims}] on the GPU", "cuMemAlloc", size))
        try:
            pin = f"pin {dtype}[{dims}] in the host's memory"
            self._pinned = int(device.allocate(pin, "cuMemHostAlloc", size, 0))
        except BackendError:
            device.call("release memory", "cuMemFree", self._address)
            raise
        memory = memoryview((ctypes.c_ubyte * size).from_address(self._pinned))
        self._host: np.ndarray = np.ndarray(self.shape, dtype, buffer=memory)
        super().__init__(device)

    @property
    def host(self) -> np.ndarray:
        """The pinned array; it is the buffer's own memory, gone once the buffer is closed."""
        self._usable()
        return self._host

    @property
    def address(self) -> int:
        """Where the array lies on the GPU; never 0."""
        self._usable()
        return self._address

    def upload(self, stream: Stream) -> None:
        """Puts the copy from the host to the GPU on *stream*."""
        self._copy("copy to the GPU", self.uploading(stream))

    def download(self, stream: Stream) -> None:
        """Puts the copy from the GPU to the host on *stream*, which is then to be waited for."""
        self._copy("copy from the GPU", self.downloading(stream))

    def uploading(self, stream: Stream) -> Call:
        """What puts the copy from the host to the GPU on *stream*; the array is not empty."""
        arguments = self._address, self._pinned, self.nbytes, stream.queue
        return self._usable().prepared("cuMemcpyHtoDAsync", *arguments)

    def downloading(self, stream: Stream) -> Call:
        """What puts the copy from the GPU to the host on *stream*; the array is not empty."""
        arguments = self._pinned, self._address, self.nbytes, stream.queue
        return self._usable().prepared("cuMemcpyDtoHAsync", *arguments)

    def _copy(self, attempt: str, call: Call) -> None:
        if self.nbytes:
            self._usable().make(attempt, call)

    def _free(self) -> None:
        try:
            self.device.call("release memory", "cuMemFree", self._address)
        finally:
            self.device.call("release pinned memory", "cuMemFreeHost", self._pinned)
