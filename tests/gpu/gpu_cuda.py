"""The driver's functions on a real GPU: run with ``pytest tests/gpu/gpu_*.py``."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from trtcheck.backends.binding import Binding
from trtcheck.backends.cuda import Device
from trtcheck.errors import BackendError
from trtcheck.gpu import all_gpus, find_gpu, require_cuda, why_no_gpu

DTYPES = ["float16", "float32", "float64", ml_dtypes.bfloat16, "int8", "uint8", "int32", "int64", "bool"]
MIB = 2**20


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as opened:
        yield opened


def nvidia_smi(*fields: str) -> list[str]:
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().split(", ")


# The GPU.


def test_the_gpu_is_told_as_nvidia_smi_tells_it() -> None:
    gpu = find_gpu()
    name, uuid, driver, capability = nvidia_smi("name", "uuid", "driver_version", "compute_cap")
    assert (gpu.name, gpu.uuid, gpu.driver) == (name, uuid, driver)
    assert gpu.compute_capability == tuple(map(int, capability.split(".")))
    assert gpu.memory_bytes > 2**30
    assert re.fullmatch(r"\d+\.\d", gpu.cuda)
    assert str(gpu) == f"{name}, driver {driver}, CUDA {gpu.cuda}"
    assert why_no_gpu() is None
    assert all_gpus() is all_gpus()


def test_a_gpu_too_many_is_refused() -> None:
    with pytest.raises(BackendError, match=r"(?s)there is no GPU 99.*expected: 0 to \d+.*NVIDIA"):
        find_gpu(99)


def test_a_hidden_gpu_is_called_so() -> None:
    code = (
        "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''; "
        "from trtcheck.gpu import why_no_gpu; print(why_no_gpu())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "no GPU is visible: CUDA_VISIBLE_DEVICES is ''"


def test_a_library_of_a_later_cuda_is_refused() -> None:
    gpu = find_gpu()
    require_cuda(gpu, gpu.cuda, "this")
    with pytest.raises(
        BackendError, match=r"(?s)driver is too old for this.*expected: CUDA 99\.0.*driver \d"
    ):
        require_cuda(gpu, "99.0", "this")


# Buffers.


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_survives_the_way_to_the_gpu_and_back(device: Device, dtype: object) -> None:
    values = (np.random.default_rng(0).standard_normal((3, 5)) * 50).astype(dtype)  # type: ignore[arg-type]
    stream, buffer = device.stream(), device.buffer((3, 5), dtype)
    buffer.host[...] = values
    buffer.upload(stream)
    stream.synchronize()
    buffer.host[...] = 0
    buffer.download(stream)
    stream.synchronize()
    np.testing.assert_array_equal(buffer.host, values)
    assert buffer.host.dtype == np.dtype(dtype)  # type: ignore[arg-type]
    np.testing.assert_array_equal(device.read(buffer.address, (3, 5), dtype, stream), values)


@pytest.mark.parametrize("shape", [(0,), (4, 0, 2), ()])
def test_empty_arrays_and_scalars_have_an_address(device: Device, shape: tuple[int, ...]) -> None:
    stream, buffer = device.stream(), device.buffer(shape, np.float32)
    buffer.host[...] = 7
    buffer.upload(stream)
    buffer.download(stream)
    stream.synchronize()
    assert buffer.address != 0
    assert buffer.host.shape == shape
    np.testing.assert_array_equal(buffer.host, np.full(shape, 7, np.float32))
    assert device.read(buffer.address, shape, np.float32, stream).shape == shape


def test_copies_of_a_stream_keep_their_order(device: Device) -> None:
    """200 uploads and downloads without waiting: the last value counts."""
    stream, one = device.stream(), device.buffer((MIB,), np.float32)
    expected = np.arange(MIB, dtype=np.float32)
    one.host[...] = expected
    for _ in range(200):
        one.upload(stream)
        one.download(stream)
    stream.synchronize()
    np.testing.assert_array_equal(one.host, expected)


def test_out_of_memory_says_how_much_was_asked_and_free(device: Device) -> None:
    with pytest.raises(BackendError) as refused:
        device.buffer((2**48,), np.uint8)
    text = str(refused.value)
    assert "out of memory: CUDA cannot allocate uint8[281474976710656] on the GPU" in text
    assert "expected: 268,435,456.0 MiB" in text
    free, total = device.memory()
    found = re.search(r"CUDA_ERROR_OUT_OF_MEMORY: out of memory; ([\d,.]+) of ([\d,.]+) MiB", text)
    assert found is not None
    assert float(found[2].replace(",", "")) == pytest.approx(total / MIB, abs=0.1)
    assert float(found[1].replace(",", "")) == pytest.approx(free / MIB, rel=0.05)


def test_memory_comes_back_when_a_buffer_is_closed(device: Device) -> None:
    before, _ = device.memory()
    buffer = device.buffer((512 * MIB,), np.uint8)
    assert before - device.memory()[0] >= 512 * MIB
    buffer.close()
    buffer.close()
    assert abs(before - device.memory()[0]) < 64 * MIB
    with pytest.raises(BackendError, match="the buffer is closed"):
        buffer.upload(device.stream())


def test_a_binding_feeds_and_fetches(device: Device) -> None:
    layout = ((4, 3), np.dtype(np.float32))
    stream, values = device.stream(), np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    with Binding(device, {"x": layout}, {"y": layout}) as binding:
        binding.feed({"x": values}, stream)
        size = binding.inputs["x"].nbytes
        addresses = binding.outputs["y"].address, binding.inputs["x"].address
        device.call("copy", "cuMemcpyDtoDAsync", *addresses, size, stream.handle)
        answers = binding.fetch(stream)
    np.testing.assert_array_equal(answers["y"], values)
    with pytest.raises(TypeError, match="Cannot cast"), Binding(device, {"x": layout}, {}) as binding:
        binding.feed({"x": values.astype(np.float64)}, stream)


# Events and graphs.


def test_events_take_the_time(device: Device) -> None:
    stream, start, end = device.stream(), device.event(), device.event()
    buffer = device.buffer((256 * MIB,), np.uint8)
    for call in (start.recording(stream), buffer.uploading(stream), end.recording(stream), end.waiting()):
        device.checked("take the time", call())
    assert 0 < device.checked("take the time", end.ms_since(start)()) < 10_000
    with pytest.raises(BackendError, match="CUDA cannot take the time between two events"):
        device.checked("take the time between two events", device.event().ms_since(start)())


def test_a_graph_replays_the_work(device: Device) -> None:
    stream, source, target = device.stream(), device.buffer((8,), np.int32), device.buffer((8,), np.int32)

    def work() -> None:
        source.upload(stream)
        device.call("copy", "cuMemcpyDtoDAsync", target.address, source.address, 32, stream.handle)
        target.download(stream)

    target.host[...] = -1
    graph = stream.capture(work)
    stream.synchronize()
    assert target.host.tolist() == [-1] * 8  # recorded, not run
    for value in (3, 5):
        source.host[...] = value
        graph.launch(stream)
        stream.synchronize()
        assert target.host.tolist() == [value] * 8
    graph.close()
    graph.close()
    with pytest.raises(BackendError, match="the graph is closed"):
        graph.launch(stream)


def test_a_failed_recording_leaves_the_stream_usable(device: Device) -> None:
    stream, buffer = device.stream(), device.buffer((8,), np.int32)

    def fails() -> None:
        buffer.upload(stream)
        raise LookupError("of the work")

    with pytest.raises(LookupError, match="of the work"):
        stream.capture(fails)
    with pytest.raises(BackendError, match="CAPTURE"):
        stream.capture(stream.synchronize)
    buffer.host[...] = 4
    buffer.upload(stream)
    stream.synchronize()
    assert device.read(buffer.address, (8,), np.int32, stream).tolist() == [4] * 8


# Closing, threads.


def test_a_device_closes_what_it_made() -> None:
    with Device() as device:
        made = [device.stream(), device.event(), device.buffer((4,), np.float32)]
        graph = made[0].capture(lambda: made[2].upload(made[0]))
    for thing in (*made, graph, device):
        thing.close()
    with pytest.raises(BackendError, match="the stream is closed"):
        made[0].synchronize()
    with pytest.raises(BackendError, match="the GPU is closed"):
        device.stream()


def test_another_thread_may_use_the_device(device: Device) -> None:
    stream, buffer, seen = device.stream(), device.buffer((4,), np.float32), []

    def work() -> None:
        buffer.host[...] = 2
        buffer.upload(stream)
        seen.append(device.read(buffer.address, (4,), np.float32, stream).tolist())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[2.0] * 4]


def test_two_devices_share_the_context() -> None:
    with Device() as first, Device() as second:
        buffer = first.buffer((4,), np.int64)
        buffer.host[...] = 9
        stream = second.stream()
        buffer.upload(stream)
        assert second.read(buffer.address, (4,), np.int64, stream).tolist() == [9] * 4
        first.close()
        assert second.memory()[1] > 0
