"""How long queries take on a GPU, with fakes: a driver whose memory is the host's, and what computes there.

What this cannot show, that the times are right, is in tests/gpu/gpu_latency_timers.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_cuda
import numpy as np
import onnx
import onnxruntime
import pytest
from fake_cuda import FakeDriver
from graphs import FLOAT, branches, cnn, graph, save
from onnx import TensorProto, helper

from trtcheck import backends, gpu
from trtcheck.backends import device_of, onnxruntime_cuda, onnxruntime_cuda_bound, onnxruntime_cuda_session
from trtcheck.backends.base import BuildPlan
from trtcheck.backends.cuda import Device
from trtcheck.backends.onnxruntime import open_session, session_options
from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda
from trtcheck.backends.onnxruntime_cuda_session import OrtCudaSession
from trtcheck.backends.trt_context import Context
from trtcheck.backends.trt_engine import TrtEngine
from trtcheck.backends.trt_runtime import Opened
from trtcheck.case import BuildSpec, Precision
from trtcheck.errors import EngineError
from trtcheck.latency.timing import Clock, TimingMode

X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)
SPIN, SLEEP = 0, 1
"""CU_EVENT_DEFAULT and CU_EVENT_BLOCKING_SYNC."""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    yield fake_cuda.install(monkeypatch)
    gpu.all_gpus.cache_clear()


def one_query(*work: str) -> list[str]:
    """What a query does: *work* between the first event made and the second, and the wait for that."""
    return ["event 1", *work, "event 2", "wait 2"]


# ONNX Runtime: its CPU provider computes, on the fake driver's memory.

Runs = list[tuple[str, bool]]


@pytest.fixture
def runs(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Of every run, the number of its graph and whether ONNX Runtime waits at its end."""
    seen: Runs = []
    real = onnxruntime.InferenceSession.run_with_iobinding

    def told(self: Any, bound: Any, options: Any) -> None:
        try:
            waits = options.get_run_config_entry("disable_synchronize_execution_providers") != "1"
        except RuntimeError:
            waits = True
        seen.append((options.get_run_config_entry("gpu_graph_id"), waits))
        driver.done.append("work")
        real(self, bound, options)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", told)
    return seen


@pytest.fixture
def backend(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeCuda:
    def on_cpu(source: str | bytes, where: Path | None, threads: int, options: dict[str, str]) -> Any:
        return open_session(source, where, session_options(threads))

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(backends, "_has_cuda_provider", lambda: True)
    for module in (onnxruntime_cuda, onnxruntime_cuda_session):
        monkeypatch.setattr(module, "open_on_gpu", on_cpu)
    monkeypatch.setattr(onnxruntime_cuda_bound, "DEVICE", "cpu")
    return OnnxRuntimeCuda(threads=1)


Open = Callable[..., OrtCudaSession]


@pytest.fixture
def opened(backend: OnnxRuntimeCuda, driver: FakeDriver, tmp_path: Path) -> Iterator[Open]:
    sessions = []

    def made(model: onnx.ModelProto, *, cuda_graph: bool = False) -> OrtCudaSession:
        path = save(model, tmp_path / "engine.onnx")
        sessions.append(backend.load(path, BuildPlan(path, None, {}, BuildSpec(cuda_graph=cuda_graph))))
        return sessions[-1]

    yield made
    for session in sessions:
        session.close()
    assert driver.held == {}


def test_a_fake_query_is_the_work_between_two_events(opened: Open, driver: FakeDriver, runs: Runs) -> None:
    timer = opened(cnn()).timer({"x": X}, transfers=False, spin_wait=False)
    driver.done.clear()
    block = timer.block(3)
    assert driver.done == 3 * one_query("work")
    assert block.samples_ms.tolist() == [1.5, 1.5, 1.5]
    assert block.samples_ms.dtype == np.float64
    assert block.seconds > 0
    assert timer.mode == TimingMode(Clock.DEVICE, transfers=False, cuda_graph=False, spin_wait=False)


def test_transfers_of_a_fake_query_lie_between_its_events(
    opened: Open, driver: FakeDriver, runs: Runs
) -> None:
    timer = opened(cnn()).timer({"x": X}, transfers=True, spin_wait=False)
    driver.done.clear()
    timer.block(2)
    assert driver.done == 2 * one_query("upload", "work", "download")
    assert timer.mode.transfers


@pytest.mark.parametrize(("spin_wait", "flags"), [(True, SPIN), (False, SLEEP)])
def test_the_host_spins_or_sleeps_until_the_last_fake_event(
    opened: Open, driver: FakeDriver, spin_wait: bool, flags: int
) -> None:
    timer = opened(cnn()).timer({"x": X}, transfers=False, spin_wait=spin_wait)
    assert driver.event_flags[-1] == flags
    assert timer.mode.spin_wait is spin_wait


def test_a_fake_session_is_warm_and_does_not_wait_by_itself_while_it_is_timed(
    opened: Open, runs: Runs
) -> None:
    timer = opened(cnn()).timer({"x": X})
    warm = len(runs)
    assert warm >= 2
    timer.block(2)
    assert [waits for _, waits in runs[:warm]] == [True] * warm
    assert runs[warm:] == [("-1", False)] * 2


def test_a_fake_graph_is_recorded_before_the_first_timed_query(opened: Open, runs: Runs) -> None:
    """The first run makes the outputs and must not be recorded, two more record it and replay it once."""
    engine = opened(cnn(), cuda_graph=True)
    one, other = engine.timer({"x": X}), engine.timer({"x": X[:3]})
    assert [number for number, _ in runs] == ["-1", "1", "1", "-1", "2", "2"]
    runs.clear()
    for timer in (one, other, one):
        timer.block(1)
    assert [number for number, _ in runs] == ["1", "2", "1"]
    assert one.mode.cuda_graph


def test_timing_on_the_fake_driver_changes_no_answer(opened: Open) -> None:
    engine = opened(cnn(), cuda_graph=True)
    before = engine.infer({"x": X})["y"]
    timer = engine.timer({"x": -X}, transfers=True)
    timer.block(2)
    for size in (8, 1, 2, 3, 4, 5, 6):  # more than are kept bound
        np.testing.assert_allclose(engine.infer({"x": X[:size]})["y"], before[:size], rtol=1e-6)
    timer.block(2)
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], before)


@pytest.mark.parametrize("transfers", [False, True])
def test_fake_outputs_that_the_runtime_makes_are_timed_without_a_graph(opened: Open, transfers: bool) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Neg", ["x"], ["y"])]
    ends: list[Any] = ["N", 4]
    outputs: list[Any] = [("places", int(TensorProto.INT64), [2, None]), ("y", FLOAT, ends)]
    engine = opened(graph(nodes, [("x", FLOAT, ends)], outputs), cuda_graph=True)
    timer = engine.timer({"x": np.eye(4, dtype=np.float32)}, transfers=transfers)
    assert timer.block(3).samples_ms.shape == (3,)
    assert timer.mode.cuda_graph is False


def test_a_graph_that_a_fake_session_gave_up_is_not_claimed(
    opened: Open, driver: FakeDriver, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its condition is read on the CPU: no graph, and no upload of it."""
    infos = [type("Info", (), {"name": name}) for name in ("Cpu", "Elsewhere")]
    session = onnxruntime.InferenceSession.__mro__[1]
    monkeypatch.setattr(session, "get_input_memory_infos", lambda _session: infos)
    engine = opened(branches(FLOAT), cuda_graph=True)
    feeds = {"x": np.array([1, -2], np.float32), "b": np.array(True)}
    timer = engine.timer(feeds, transfers=True)
    assert timer.mode.cuda_graph is False
    driver.done.clear()
    timer.block(1)
    assert driver.done == one_query("upload", "work", "download")


def test_a_closed_fake_session_is_not_timed(opened: Open) -> None:
    engine = opened(cnn())
    timer = engine.timer({"x": X})
    engine.close()
    with pytest.raises(EngineError, match=r"engine\.onnx: the engine is closed"):
        timer.block(1)
    with pytest.raises(EngineError, match=r"engine\.onnx: the engine is closed"):
        engine.timer({"x": X})


def test_a_batch_that_does_not_fit_a_fake_session_is_refused(opened: Open) -> None:
    with pytest.raises(EngineError, match=r"(?s)does not fit.*\[8, 1, 12, 11\]"):
        opened(cnn()).timer({"x": X[..., :-1]})


def test_too_little_fake_memory_to_time_a_batch_is_an_engine_error(opened: Open, driver: FakeDriver) -> None:
    engine = opened(cnn())
    driver.free = 100
    with pytest.raises(EngineError, match=r"(?s)engine\.onnx.*out of memory"):
        engine.timer({"x": X})


@pytest.mark.parametrize(
    "function", ["cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime", "cuMemcpyDtoHAsync"]
)
def test_what_fails_on_the_fake_driver_while_it_is_timed_is_told(
    opened: Open, driver: FakeDriver, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[bool] = []
    real = getattr(driver, function)

    def failing(*arguments: Any) -> Any:
        return (fake_cuda.CUresult.CUDA_ERROR_INVALID_VALUE, 0) if armed else real(*arguments)

    monkeypatch.setattr(driver, function, failing)
    timer = opened(cnn()).timer({"x": X}, transfers=True)
    timer.block(1)
    armed.append(True)
    with pytest.raises(
        EngineError, match=r"(?s)engine\.onnx: CUDA cannot time a query.*CUDA_ERROR_INVALID_VALUE"
    ):
        timer.block(5)


def test_what_a_fake_session_refuses_while_it_is_timed_is_an_engine_error(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[bool] = []
    real = onnxruntime.InferenceSession.run_with_iobinding

    def refusing(self: Any, bound: Any, options: Any) -> None:
        if armed:
            raise RuntimeError("CUDA failure 700")
        real(self, bound, options)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", refusing)
    timer = opened(cnn()).timer({"x": X})
    armed.append(True)
    with pytest.raises(EngineError, match=r"(?s)engine\.onnx.*failed on a batch.*CUDA failure 700"):
        timer.block(1)


@pytest.mark.parametrize("beside", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_the_reference_beside_a_fake_gpu_is_fp32_without_tf32(
    backend: OnnxRuntimeCuda, driver: FakeDriver, beside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = onnxruntime_cuda_session.open_on_gpu

    def told(source: Any, where: Any, threads: int, options: Any) -> Any:
        seen.append({name: options[name] for name in ("use_tf32", "enable_cuda_graph")})
        return real(source, where, threads, options)

    monkeypatch.setattr(onnxruntime_cuda_session, "open_on_gpu", told)
    path = save(cnn(), tmp_path / "cnn.onnx")
    engine, name = backends.timing_reference(path, beside, threads=1, cuda_graph=True, spin_wait=False)
    assert name == f"onnxruntime-cuda {onnxruntime.__version__} fp32"
    assert seen == [{"use_tf32": "0", "enable_cuda_graph": "1"}]
    assert engine.timer({"x": X}, transfers=False, spin_wait=False).mode.cuda_graph
    engine.close()
    assert driver.held == {}


def test_a_backend_on_a_fake_gpu_says_which(backend: OnnxRuntimeCuda) -> None:
    found = device_of(backend)
    assert found is not None
    assert (found.name, found.uuid[:8]) == ("Fake GPU 0", "GPU-0001")


# TensorRT: an engine that adds one.


class FakeLibrary:
    class ILogger:
        def __init__(self) -> None:
            pass

        class Severity:
            ERROR = 1


class FakeContext:
    """Adds one to ``x``, in the memory of the fake driver."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.fails = False
        self.capturable = True

    def is_stream_capturable(self, stream: int) -> bool:
        return self.capturable and stream in self.driver.held

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self.fails:
            return False
        addresses, count = dict(self.addresses), int(np.prod(self.shape))

        def work() -> None:
            x, y = ((ctypes.c_float * count).from_address(addresses[name]) for name in "xy")
            np.copyto(np.ctypeslib.as_array(y), np.ctypeslib.as_array(x) + 1)

        if self.driver.capturing(work):
            return True
        self.driver.done.append("execute")
        work()
        return True


DESCRIBED: dict[str, Any] = {
    f"{role}s": [
        {"name": name, "dtype": "float32", "shape": [None, 3], "format": "LINEAR", "shape_tensor": False}
    ]
    for role, name in (("input", "x"), ("output", "y"))
} | {"profiles": [{"x": {"min": [1, 3], "opt": [2, 3], "max": [6, 3]}}]}

Engine = Callable[..., tuple[TrtEngine, FakeContext]]


@pytest.fixture
def engine(driver: FakeDriver) -> Iterator[Engine]:
    made: list[TrtEngine] = []

    def loaded(*, cuda_graph: bool = False, own_graphs: bool = False) -> tuple[TrtEngine, FakeContext]:
        raw = FakeContext(driver)
        context = Context(raw, own_graphs, lambda: None)
        opened = Opened(FakeLibrary, None, None, [])
        made.append(TrtEngine(Path("e.engine"), opened, context, DESCRIBED, Device(), cuda_graph=cuda_graph))
        return made[-1], raw

    yield loaded
    for one in made:
        one.close()
    assert driver.held == {}


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": np.arange(count * 3, dtype=np.float32).reshape(count, 3)}


@pytest.mark.parametrize("transfers", [False, True])
def test_a_query_of_a_fake_tensorrt_engine(engine: Engine, driver: FakeDriver, transfers: bool) -> None:
    loaded, _ = engine()
    timer = loaded.timer(rows(2), transfers=transfers, spin_wait=True)
    assert driver.event_flags[-1] == SPIN
    driver.done.clear()
    assert timer.block(2).samples_ms.tolist() == [1.5, 1.5]
    work = ("upload", "execute", "download") if transfers else ("execute",)
    assert driver.done == 2 * one_query(*work)
    assert timer.mode == TimingMode(Clock.DEVICE, transfers, cuda_graph=False, spin_wait=True)


def test_a_graph_of_a_fake_tensorrt_engine_is_replayed(engine: Engine, driver: FakeDriver) -> None:
    loaded, _ = engine(cuda_graph=True)
    timer = loaded.timer(rows(2), transfers=True, spin_wait=False)
    driver.done.clear()
    timer.block(2)
    assert driver.done == 2 * one_query("upload", "graph", "download")
    assert timer.mode.cuda_graph


@pytest.mark.parametrize("capturable", [False, True])
def test_a_fake_runtime_that_makes_graphs_itself_is_asked_whether_it_can(
    engine: Engine, driver: FakeDriver, capturable: bool
) -> None:
    loaded, raw = engine(cuda_graph=True, own_graphs=True)
    raw.capturable = capturable
    timer = loaded.timer(rows(2))
    driver.done.clear()
    timer.block(1)
    assert driver.done == one_query("execute")
    assert timer.mode.cuda_graph is capturable
    assert engine(own_graphs=True)[0].timer(rows(2)).mode.cuda_graph is False


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_fake_tensorrt_engine_is_made_ready_again_where_it_ran_something_else(
    engine: Engine, driver: FakeDriver, cuda_graph: bool
) -> None:
    loaded, raw = engine(cuda_graph=cuda_graph)
    one, other = loaded.timer(rows(2)), loaded.timer(rows(4))
    work = "graph" if cuda_graph else "execute"
    for timer, shape in ((one, (2, 3)), (other, (4, 3)), (one, (2, 3))):
        assert (loaded.infer({"x": np.ones((2, 3), np.float32)})["y"] == 2).all()
        timer.block(1)
        assert raw.shape == shape
        x = (ctypes.c_float * 6).from_address(raw.addresses["x"])
        assert list(x) == [0, 1, 2, 3, 4, 5]  # its own batch, and not that of the inference between
        driver.done.clear()
        timer.block(2)
        assert driver.done == 2 * one_query(work) or one is not timer
    assert (loaded.infer(rows(2))["y"] == rows(2)["x"] + 1).all()


def test_a_fake_tensorrt_engine_that_fails_while_it_is_timed_says_so(engine: Engine) -> None:
    loaded, raw = engine()
    timer = loaded.timer(rows(2))
    raw.fails = True
    with pytest.raises(EngineError, match=r"e\.engine: TensorRT failed on a batch"):
        timer.block(1)


def test_a_graph_that_cannot_be_launched_is_told_by_the_fake_driver(
    engine: Engine, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, _ = engine(cuda_graph=True)
    launches: list[int] = []
    real = driver.cuGraphLaunch

    def third(graph: int, stream: int) -> Any:
        launches.append(graph)
        return real(graph, stream) if len(launches) < 3 else (fake_cuda.CUresult.CUDA_ERROR_INVALID_VALUE,)

    monkeypatch.setattr(driver, "cuGraphLaunch", third)
    timer = loaded.timer(rows(2))
    with pytest.raises(EngineError, match=r"(?s)e\.engine: CUDA cannot launch a graph.*INVALID_VALUE"):
        timer.block(1)


def test_a_closed_fake_tensorrt_engine_is_not_timed(engine: Engine) -> None:
    loaded, _ = engine()
    timer = loaded.timer(rows(2))
    loaded.close()
    with pytest.raises(EngineError, match=r"e\.engine: the engine is closed"):
        timer.block(1)
    with pytest.raises(EngineError, match=r"e\.engine: the engine is closed"):
        loaded.timer(rows(2))


def test_a_batch_outside_of_a_fake_tensorrt_engines_profile_is_not_timed(engine: Engine) -> None:
    with pytest.raises(EngineError, match="outside of the engine's profile"):
        engine()[0].timer(rows(7))


def test_the_mode_of_a_plan_reaches_the_fake_session(backend: OnnxRuntimeCuda, tmp_path: Path) -> None:
    path = save(cnn(), tmp_path / "e.onnx")
    for cuda_graph in (False, True):
        plan = BuildPlan(path, Precision.FP32, {}, BuildSpec(cuda_graph=cuda_graph), spin_wait=True)
        with backend.load(path, plan) as session:
            assert session.timer({"x": X}, transfers=False, spin_wait=True).mode == TimingMode(
                Clock.DEVICE, transfers=False, cuda_graph=cuda_graph, spin_wait=True
            )
