# ruff: noqa: N802
"""A driver without a GPU, for what this project's CPU machines cannot run: its device memory is the host's.

Streams run at once, or as late as CUDA may (`FakeDriver.late`); a capture records the copies. Whatever uses
it says "fake" in its name.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict, deque
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trtcheck import gpu


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803


class FakeDriver(ModuleType):
    """The functions of ``cuda.bindings.driver`` that trtcheck calls.

    Attributes:
        init: What ``cuInit`` returns.
        version: What ``cuDriverGetVersion`` returns.
        gpus: How many there are.
        free: Free memory in bytes.
        held: What was made and not yet released, by handle.
        fails: Functions that return CUDA_ERROR_INVALID_VALUE.
        done: What was put on streams and waited for, in order: ``"event 3"`` for the third event that was
            made, ``"upload"``, ``"download"``, ``"graph"``, ``"wait 3"``.
        event_flags: The flags of every event that was made.
        late: Whether copies and `put` work are done only when somebody waits for them: what does not wait, on
            the host or on another stream, finds memory as it was before.
        recorders: Modes in which threads stand beside recordings of others, in order.
    """

    CUresult = CUresult
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUevent_flags = SimpleNamespace(CU_EVENT_DEFAULT=0, CU_EVENT_BLOCKING_SYNC=1, CU_EVENT_DISABLE_TIMING=2)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=76
    )

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.init = CUresult.CUDA_SUCCESS
        self.version = 13000
        self.gpus = 1
        self.free = 64 * 2**20
        self.held: dict[int, str] = {}
        self.fails: set[str] = set()
        self.done: list[str] = []
        self.event_flags: list[int] = []
        self.late = False
        self.recorders: list[int] = []
        self._events: dict[int, int] = {}
        self._waiting: defaultdict[int, deque[Callable[[], None]]] = defaultdict(deque)
        self._marks: dict[int, Callable[[], None]] = {}
        self._memory: dict[int, Any] = {}
        self._work: dict[int, list[Callable[[], None]]] = {}
        self._capture: list[Callable[[], None]] | None = None
        self._retained = self._context = 0
        self._next = 1000

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("cu"):
            return found
        refused = CUresult.CUDA_ERROR_INVALID_VALUE, 0
        return lambda *given: refused if name in self.fails else found(*given)

    def _made(self, kind: str, handle: int | None = None) -> tuple[CUresult, int]:
        self._next += 1
        handle = self._next if handle is None else handle
        self.held[handle] = kind
        return CUresult.CUDA_SUCCESS, handle

    def _dropped(self, handle: int) -> tuple[CUresult]:
        known = self.held.pop(int(handle), None)
        self._memory.pop(int(handle), None)
        return (CUresult.CUDA_SUCCESS if known else CUresult.CUDA_ERROR_INVALID_HANDLE,)

    # The GPU.

    def cuInit(self, _flags: int) -> tuple[CUresult]:
        return (self.init,)

    def cuDriverGetVersion(self) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, self.version

    def cuGetErrorName(self, status: CUresult) -> tuple[CUresult, bytes]:
        return CUresult.CUDA_SUCCESS, CUresult(status).name.encode()

    def cuGetErrorString(self, status: CUresult) -> tuple[CUresult, bytes]:
        return CUresult.CUDA_SUCCESS, CUresult(status).name.removeprefix("CUDA_ERROR_").lower().encode()

    def cuDeviceGetCount(self) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, self.gpus

    def cuDeviceGet(self, index: int) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, index

    def cuDeviceGetAttribute(self, kind: int, _device: int) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, {75: 9, 76: 0}[kind]

    def cuDeviceGetName(self, length: int, device: int) -> tuple[CUresult, bytes]:
        return CUresult.CUDA_SUCCESS, f"Fake GPU {device}".encode().ljust(length, b"\0")

    def cuDeviceGetUuid(self, _device: int) -> tuple[CUresult, SimpleNamespace]:
        return CUresult.CUDA_SUCCESS, SimpleNamespace(bytes=bytes(range(16)))

    def cuDeviceTotalMem(self, _device: int) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, 80 * 2**20

    def cuDevicePrimaryCtxRetain(self, _device: int) -> tuple[CUresult, int]:
        # One context a GPU, as CUDA has it: whoever retains it again gets the same.
        self._retained += 1
        if self._retained == 1:
            self._context = self._made("context")[1]
        return CUresult.CUDA_SUCCESS, self._context

    def cuDevicePrimaryCtxRelease(self, _device: int) -> tuple[CUresult]:
        self._retained -= 1
        return (CUresult.CUDA_SUCCESS,) if self._retained > 0 else self._dropped(self._context)

    def cuCtxSetCurrent(self, context: int) -> tuple[CUresult]:
        return (CUresult.CUDA_SUCCESS if context in self.held else CUresult.CUDA_ERROR_INVALID_HANDLE,)

    # Memory.

    def cuMemGetInfo(self) -> tuple[CUresult, int, int]:
        return CUresult.CUDA_SUCCESS, self.free, 80 * 2**20

    def _allocate(self, kind: str, size: int) -> tuple[CUresult, int]:
        if size > self.free:
            return CUresult.CUDA_ERROR_OUT_OF_MEMORY, 0
        memory = ctypes.create_string_buffer(size)
        address = ctypes.addressof(memory)
        self._memory[address] = memory
        return self._made(kind, address)

    def cuMemAlloc(self, size: int) -> tuple[CUresult, int]:
        return self._allocate("memory", size)

    def cuMemHostAlloc(self, size: int, _flags: int) -> tuple[CUresult, int]:
        return self._allocate("pinned", size)

    def cuMemFree(self, address: int) -> tuple[CUresult]:
        return self._dropped(address)

    def cuMemFreeHost(self, address: int) -> tuple[CUresult]:
        return self._dropped(address)

    def cuMemcpyHtoDAsync(self, to: int, source: int, size: int, stream: int) -> tuple[CUresult]:
        return self._copied("upload", to, source, size, stream)

    def cuMemcpyDtoHAsync(self, to: int, source: int, size: int, stream: int) -> tuple[CUresult]:
        return self._copied("download", to, source, size, stream)

    def _copied(self, kind: str, to: int, source: int, size: int, stream: int) -> tuple[CUresult]:
        if stream not in self.held:
            return (CUresult.CUDA_ERROR_INVALID_HANDLE,)

        def copy() -> None:
            self.done.append(kind)
            ctypes.memmove(to, source, size)

        if not self.capturing(copy):
            self.put(stream, copy)
        return (CUresult.CUDA_SUCCESS,)

    def put(self, stream: int, work: Callable[[], None]) -> None:
        """Puts *work* on a stream."""
        self._waiting[stream].append(work)
        if not self.late:
            self._run(stream)

    def _run(self, stream: int, until: Callable[[], bool] = lambda: False) -> None:
        """Does what lies on a stream, or the first part of it."""
        while self._waiting[stream] and not until():
            self._waiting[stream].popleft()()

    def capturing(self, work: Callable[[], None]) -> bool:
        """Whether a graph is being recorded, of which *work* becomes a part."""
        if self._capture is not None:
            self._capture.append(work)
        return self._capture is not None

    # Streams, events, graphs.

    def cuStreamCreate(self, _flags: int) -> tuple[CUresult, int]:
        return self._made("stream")

    def cuStreamDestroy(self, stream: int) -> tuple[CUresult]:
        return self._dropped(stream)

    def cuThreadExchangeStreamCaptureMode(self, mode: int) -> tuple[CUresult, int]:
        self.recorders.append(mode)
        return CUresult.CUDA_SUCCESS, 0

    def cuStreamWaitEvent(self, stream: int, event: int, _flags: int) -> tuple[CUresult]:
        number, reached = self._events[event], self._marks.get(event, lambda: None)

        def hold() -> None:
            self.done.append(f"hold {number}")
            reached()

        self.put(stream, hold)
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamSynchronize(self, stream: int) -> tuple[CUresult]:
        self._run(stream)
        return (CUresult.CUDA_SUCCESS if stream in self.held else CUresult.CUDA_ERROR_INVALID_HANDLE,)

    def cuStreamBeginCapture(self, _stream: int, _mode: int) -> tuple[CUresult]:
        self._capture = []
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamEndCapture(self, _stream: int) -> tuple[CUresult, int]:
        status, graph = self._made("recording")
        self._work[graph], self._capture = self._capture or [], None
        return status, graph

    def cuGraphInstantiate(self, recording: int, _flags: int) -> tuple[CUresult, int]:
        status, graph = self._made("graph")
        self._work[graph] = self._work[recording]
        return status, graph

    def cuGraphDestroy(self, recording: int) -> tuple[CUresult]:
        return self._dropped(recording)

    def cuGraphExecDestroy(self, graph: int) -> tuple[CUresult]:
        return self._dropped(graph)

    def cuGraphLaunch(self, graph: int, _stream: int) -> tuple[CUresult]:
        self.done.append("graph")
        for copy in self._work[graph]:
            copy()
        return (CUresult.CUDA_SUCCESS,)

    def cuEventCreate(self, flags: int) -> tuple[CUresult, int]:
        status, event = self._made("event")
        self.event_flags.append(flags)
        self._events[event] = len(self.event_flags)
        return status, event

    def cuEventDestroy(self, event: int) -> tuple[CUresult]:
        return self._dropped(event)

    def cuEventRecord(self, event: int, stream: int) -> tuple[CUresult]:
        passed: list[int] = []

        def mark() -> None:
            passed.append(event)
            self.done.append(f"event {self._events[event]}")

        self._marks[event] = lambda: self._run(stream, lambda: bool(passed))
        self.put(stream, mark)
        return (CUresult.CUDA_SUCCESS,)

    def cuEventSynchronize(self, event: int) -> tuple[CUresult]:
        self._marks.get(event, lambda: None)()
        self.done.append(f"wait {self._events[event]}")
        return (CUresult.CUDA_SUCCESS if event in self.held else CUresult.CUDA_ERROR_INVALID_HANDLE,)

    def cuEventElapsedTime(self, _start: int, _end: int) -> tuple[CUresult, float]:
        return CUresult.CUDA_SUCCESS, 1.5


def install(monkeypatch: pytest.MonkeyPatch, driver_version: str = "580.159.04") -> FakeDriver:
    """Puts a fake driver where cuda-python's would be."""
    driver = FakeDriver()
    gpu.all_gpus.cache_clear()
    monkeypatch.setattr(gpu, "bindings", lambda: driver)
    monkeypatch.setattr(gpu, "driver_version", lambda: driver_version)
    monkeypatch.setattr("trtcheck.backends.cuda.bindings", lambda: driver)
    return driver
