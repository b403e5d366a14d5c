"""Streams, buffers and graphs on a fake driver; tests/gpu has them on a real GPU."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import fake_cuda
import ml_dtypes
import numpy as np
import pytest
from fake_cuda import FakeDriver

from trtcheck import gpu
from trtcheck.backends.binding import Binding
from trtcheck.backends.cuda import Call, Device
from trtcheck.errors import BackendError

LAYOUT = ((2, 3), np.dtype(np.float32))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    yield fake_cuda.install(monkeypatch)
    gpu.all_gpus.cache_clear()


@pytest.fixture
def device(driver: FakeDriver) -> Iterator[Device]:
    with Device() as opened:
        yield opened
    assert driver.held == {}


def test_without_a_gpu_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.all_gpus.cache_clear()
    monkeypatch.setattr(gpu, "bindings", lambda: (_ for _ in ()).throw(BackendError("nothing here")))
    with pytest.raises(BackendError, match="nothing here"):
        Device()


@pytest.mark.parametrize("dtype", ["float16", "int64", "bool", ml_dtypes.bfloat16])
def test_a_fake_buffer_keeps_type_and_values(device: Device, dtype: object) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)  # type: ignore[arg-type]
    stream, buffer = device.stream(), device.buffer((2, 3), dtype)
    buffer.host[...] = values
    buffer.upload(stream)
    buffer.host[...] = 0
    buffer.download(stream)
    stream.synchronize()
    np.testing.assert_array_equal(buffer.host, values)
    assert (buffer.host.dtype, buffer.nbytes) == (values.dtype, values.nbytes)
    np.testing.assert_array_equal(device.read(buffer.address, (2, 3), dtype, stream), values)


def test_an_empty_fake_buffer_has_an_address(device: Device) -> None:
    stream, buffer = device.stream(), device.buffer((4, 0), np.int8)
    buffer.upload(stream)
    buffer.download(stream)
    assert buffer.address != 0
    assert (buffer.nbytes, buffer.host.shape) == (0, (4, 0))
    assert device.read(buffer.address, (4, 0), np.int8, stream).shape == (4, 0)


def test_out_of_fake_memory_says_what_was_asked_and_free(device: Device, driver: FakeDriver) -> None:
    with pytest.raises(BackendError) as refused:
        device.buffer((65 * 2**20,), np.uint8)
    assert str(refused.value).splitlines() == [
        "Fake GPU 0: out of memory: CUDA cannot allocate uint8[68157440] on the GPU",
        "  expected: 65.0 MiB",
        "  found:    CUDA_ERROR_OUT_OF_MEMORY: out_of_memory; 64.0 of 80.0 MiB of the GPU are free",
        "  try:      a smaller batch, or an end to other programs on this GPU",
    ]


def test_fake_memory_that_cannot_be_pinned_leaves_none_on_the_gpu(device: Device, driver: FakeDriver) -> None:
    driver.fails = {"cuMemHostAlloc"}
    with pytest.raises(
        BackendError, match=r"(?s)CUDA cannot pin int8\[4\] in the host's memory.*INVALID_VALUE"
    ):
        device.buffer((4,), np.int8)
    assert sorted(driver.held.values()) == ["context"]


@pytest.mark.parametrize("make", ["stream", "event"])
def test_what_is_closed_twice_is_released_once_by_the_fake_driver(
    device: Device, driver: FakeDriver, make: str
) -> None:
    made = getattr(device, make)()
    assert make in driver.held.values()
    made.close()
    made.close()
    assert make not in driver.held.values()


def test_closed_things_refuse_on_the_fake_driver(device: Device) -> None:
    stream, buffer, event = device.stream(), device.buffer((1,), np.int8), device.event()
    graph = stream.capture(lambda: None)
    for thing in (graph, buffer, event, stream):
        thing.close()
    with pytest.raises(BackendError, match="Fake GPU 0: the stream is closed"):
        stream.synchronize()
    with pytest.raises(BackendError, match="the buffer is closed"):
        _ = buffer.host
    with pytest.raises(BackendError, match="the event is closed"):
        event.waiting()
    with pytest.raises(BackendError, match="the graph is closed"):
        graph.launch(stream)


def test_a_device_closes_all_although_the_fake_driver_fails(driver: FakeDriver) -> None:
    device = Device()
    device.buffer((4,), np.int8)
    device.stream()
    driver.fails = {"cuMemFree"}
    with pytest.raises(BackendError, match="CUDA cannot release memory"):
        device.close()
    assert sorted(driver.held.values()) == ["memory"]
    device.close()
    with pytest.raises(BackendError, match="the GPU is closed"):
        device.memory()


def test_a_fake_device_that_failed_closes_without_telling_it_again(driver: FakeDriver) -> None:
    """A broken context fails whatever is asked of it: the first failure is the one to read."""
    device = Device()
    device.buffer((4,), np.int8)
    stream = device.stream()
    driver.fails = {"cuStreamSynchronize", "cuMemFree"}
    with pytest.raises(BackendError, match="finish the work of a stream"):
        stream.synchronize()
    device.close()
    assert sorted(driver.held.values()) == ["memory"]


def test_events_of_the_fake_driver_tell_the_time_between(device: Device) -> None:
    stream, start, end = device.stream(), device.event(), device.event()
    for call in (start.recording(stream), end.recording(stream), end.waiting()):
        device.checked("take the time", call())
    assert device.checked("take the time", end.ms_since(start)()) == 1.5


def test_a_stream_of_the_late_fake_driver_waits_for_another(device: Device, driver: FakeDriver) -> None:
    driver.late = True
    inward, outward, arrived = device.stream(), device.stream(), device.event(timed=False)
    source, target = device.buffer((3,), np.int32), device.buffer((3,), np.int32)
    source.host[...], target.host[...] = 8, 0

    def brought(*calls: Call) -> list[int]:
        source.upload(inward)
        for call in calls:
            device.checked("wait", call())
        driver.cuMemcpyDtoHAsync(target.host.ctypes.data, source.address, 12, outward.queue)
        outward.synchronize()
        return list(target.host)

    assert driver.event_flags == [driver.CUevent_flags.CU_EVENT_DISABLE_TIMING]
    assert brought() != [8, 8, 8]
    assert brought(arrived.recording(inward), arrived.holding(outward)) == [8, 8, 8]


def test_threads_work_beside_recordings_of_others_on_the_fake_driver(driver: FakeDriver) -> None:
    """Otherwise CUDA refuses them memory and waiting while ONNX Runtime records in another thread."""
    with Device() as device, ThreadPoolExecutor(1) as pool:
        driver.recorders.clear()
        pool.submit(device.memory).result()
        assert driver.recorders == [driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL]


def test_a_fake_graph_repeats_what_was_recorded(device: Device, driver: FakeDriver) -> None:
    stream, buffer = device.stream(), device.buffer((3,), np.int32)
    graph = stream.capture(lambda: buffer.upload(stream))
    assert "recording" not in driver.held.values()
    buffer.host[...] = 8
    graph.launch(stream)
    assert device.read(buffer.address, (3,), np.int32, stream).tolist() == [8, 8, 8]


def test_a_failed_recording_is_ended_on_the_fake_driver(device: Device, driver: FakeDriver) -> None:
    def fails() -> None:
        raise LookupError("of the work")

    with pytest.raises(LookupError, match="of the work"):
        device.stream().capture(fails)
    assert sorted(driver.held.values()) == ["context", "stream"]


def test_a_binding_feeds_and_fetches_on_the_fake_driver(device: Device, driver: FakeDriver) -> None:
    stream, values = device.stream(), np.arange(6, dtype=np.float32).reshape(2, 3)
    with Binding(device, {"x": LAYOUT}, {"y": LAYOUT}) as binding:
        binding.feed({"x": values}, stream)
        device.call(
            "copy",
            "cuMemcpyHtoDAsync",
            binding.outputs["y"].address,
            binding.inputs["x"].address,
            24,
            stream.handle,
        )
        first = binding.fetch(stream)["y"]
        binding.outputs["y"].host[...] = -1
        np.testing.assert_array_equal(first, values)  # a copy
    assert sorted(driver.held.values()) == ["context", "stream"]


def test_a_binding_without_fake_memory_keeps_none(device: Device, driver: FakeDriver) -> None:
    with pytest.raises(BackendError, match="out of memory"):
        Binding(device, {"x": LAYOUT}, {"y": ((2**30,), np.dtype(np.int8))})
    assert sorted(driver.held.values()) == ["context"]
