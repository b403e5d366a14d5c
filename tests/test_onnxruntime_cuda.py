"""ONNX Runtime's CUDA backend where there is no GPU: what it refuses, and its bookkeeping on a fake driver.

tests/gpu has it on a real GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cuda
import numpy as np
import onnx
import onnxruntime
import pytest
import suite_models
from fake_cuda import FakeDriver
from graphs import FLOAT, FP16, branches, cnn, graph, quantized, save, weight
from onnx import TensorProto, helper

import trtcheck
import trtcheck.backends
from trtcheck import gpu
from trtcheck.backends import onnxruntime_cuda, onnxruntime_cuda_bound, onnxruntime_cuda_session
from trtcheck.backends.base import BuildPlan
from trtcheck.backends.onnxruntime import open_session, session_options
from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda
from trtcheck.backends.onnxruntime_cuda_session import OrtCudaSession, provider_options, refusal
from trtcheck.case import BuildSpec, Case, Numerics, Precision
from trtcheck.errors import BackendError, EngineError

X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)
CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


# For real, without a GPU.


def test_onnxruntime_without_cuda_is_refused() -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(
            BackendError,
            match=r"(?s)gpu is not installed.*found: +onnxruntime .*CPUExecutionProvider.*trtcheck\[gpu\]",
        ):
            OnnxRuntimeCuda(threads=1)


def test_provider_options_say_what_is_computed_how() -> None:
    plain = provider_options(1)
    assert plain["use_tf32"] == plain["enable_cuda_graph"] == "0"
    assert plain["device_id"] == "1"
    assert "user_compute_stream" not in plain
    assert provider_options(0, tf32=True)["use_tf32"] == "1"
    assert provider_options(0, cuda_graph=True)["enable_cuda_graph"] == "1"


@pytest.mark.parametrize(
    ("told", "memory"),
    [
        ("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 1073741824", True),
        ("CUDA failure 2: out of memory ; GPU=0", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("Available memory of 8 is smaller than requested bytes of 1099511627776", True),
        ("Non-zero status code returned while running Reshape node", False),
    ],
)
def test_a_lack_of_memory_is_called_so(told: str, memory: bool) -> None:
    error = refusal("it failed", Path("engine.onnx"), RuntimeError(told))
    assert str(error).startswith(
        "engine.onnx: it failed: the GPU is out of memory" if memory else "engine.onnx: it failed\n"
    )
    assert told in str(error)
    assert ("a smaller batch" in str(error)) is memory


@pytest.mark.parametrize(
    "told",
    [
        "NOT_IMPLEMENTED : Could not find an implementation for MaxPool(22) node with name '/pool/MaxPool'",
        "Exception: Provider type for MaxPool node with name '/pool/MaxPool' is not set.",
    ],
)
def test_a_node_without_a_kernel_is_to_be_excluded(told: str) -> None:
    error = refusal("it failed", None, RuntimeError(told))
    assert 'keep that node in FP32: exclude = ["/pool/MaxPool"]' in str(error)


# With CUDA in ONNX Runtime, by a fake.


@pytest.fixture
def fake_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libfoo.so.9: gone"))  # noqa: T201
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, fake_providers: None) -> Iterator[FakeDriver]:
    yield fake_cuda.install(monkeypatch)
    gpu.all_gpus.cache_clear()


def test_fake_providers_without_a_driver_are_refused(
    fake_providers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise BackendError("there is no NVIDIA driver on this machine")

    gpu.all_gpus.cache_clear()
    monkeypatch.setattr(gpu, "bindings", absent)
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        OnnxRuntimeCuda(threads=1)


def test_a_fake_driver_older_than_onnxruntime_is_refused(driver: FakeDriver) -> None:
    driver.version = 12090
    with pytest.raises(
        BackendError, match=r"(?s)too old for onnxruntime-gpu.*CUDA 13\.0 \(driver 580\.65 or newer\)"
    ):
        OnnxRuntimeCuda(threads=1)


def test_a_fake_onnxruntime_without_memory_infos_is_too_old(
    fake_providers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(onnxruntime.InferenceSession.__mro__[1], "get_input_memory_infos")
    with pytest.raises(BackendError, match="onnxruntime-gpu is too old"):
        OnnxRuntimeCuda(threads=1)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_libraries_missing_beside_a_fake_gpu_are_told(
    driver: FakeDriver, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime here has no CUDA provider, takes the CPU silently, and is found out."""
    with pytest.raises(
        BackendError, match=r"(?s)does not work on Fake GPU 0.*found: +Failed to load libfoo\.so\.9"
    ):
        OnnxRuntimeCuda(threads=1)
    assert capsys.readouterr().out == ""


def test_a_silent_fall_back_to_the_cpu_is_found_out(fake_providers: None) -> None:
    data = cnn().SerializeToString()
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(
            BackendError,
            match=r"(?s)CUDA provider cannot be loaded.*expected: CUDAExecutionProvider.*cuda-and-cudnn",
        ),
    ):
        onnxruntime_cuda_session.open_on_gpu(data, None, 1, provider_options(0))


# Bound to the memory of a fake driver, which is the host's; ONNX Runtime's CPU provider computes.


class OnStream:
    """A session whose work lies on a stream of the fake driver; options say whether that is waited for."""

    def __init__(self, session: Any, driver: FakeDriver, stream: str | None) -> None:
        self.session, self.driver, self.stream = session, driver, stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run_with_iobinding(self, io: Any, options: onnxruntime.RunOptions) -> None:
        def work() -> None:
            self.driver.done.append("run")
            self.session.run_with_iobinding(io, options)

        assert self.stream is not None
        self.driver.put(int(self.stream), work)
        try:
            waits = options.get_run_config_entry("disable_synchronize_execution_providers") != "1"
        except RuntimeError:  # not said
            waits = True
        if waits:
            self.driver.cuStreamSynchronize(int(self.stream))


@pytest.fixture
def backend(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeCuda:
    def on_cpu(source: str | bytes, where: Path | None, threads: int, options: dict[str, str]) -> Any:
        settings = session_options(threads)
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return OnStream(open_session(source, where, settings), driver, options.get("user_compute_stream"))

    for module in (onnxruntime_cuda, onnxruntime_cuda_session):
        monkeypatch.setattr(module, "open_on_gpu", on_cpu)
    monkeypatch.setattr(onnxruntime_cuda_bound, "DEVICE", "cpu")
    return OnnxRuntimeCuda(threads=1)


Open = Callable[..., OrtCudaSession]


@pytest.fixture
def opened(backend: OnnxRuntimeCuda, driver: FakeDriver, tmp_path: Path) -> Iterator[Open]:
    sessions = []

    def made(model: onnx.ModelProto, precision: Precision | None = None, **spec: bool) -> OrtCudaSession:
        plan = BuildPlan(save(model, tmp_path / "lowered.onnx"), precision, {}, BuildSpec(**spec))
        backend.build(plan, tmp_path / "engine.onnx", lambda _count: None)
        sessions.append(backend.load(tmp_path / "engine.onnx", plan))
        return sessions[-1]

    yield made
    for session in sessions:
        session.close()
    assert driver.held == {}


def test_a_fake_backend_says_what_it_is(backend: OnnxRuntimeCuda, tmp_path: Path) -> None:
    assert (backend.info.name, backend.info.device) == ("onnxruntime-cuda", "Fake GPU 0")
    assert (backend.suffix, backend.cannot_run) == (".onnx", None)
    plan = BuildPlan(tmp_path, Precision.TF32, {}, BuildSpec())
    assert backend.numerics(plan) is Numerics.NATIVE
    assert backend.identity(plan)["tf32"] is True
    assert backend.identity(plan)["gpu"] == "Fake GPU 0"
    assert backend.identity(plan)["settings"]["cudnn_conv_algo_search"] == "HEURISTIC"


def test_a_fake_build_writes_the_model_as_it_is(backend: OnnxRuntimeCuda, tmp_path: Path) -> None:
    plan = BuildPlan(save(cnn(), tmp_path / "lowered.onnx"), Precision.TF32, {}, BuildSpec())
    steps: list[int] = []
    facts = backend.build(plan, tmp_path / "engine.onnx", steps.append)
    assert onnx.load(tmp_path / "engine.onnx") == cnn()
    assert facts["engine_bytes"] == (tmp_path / "engine.onnx").stat().st_size
    assert facts["computes"] == dict.fromkeys(("conv", "dw", "pw", "gemm"), "tf32")
    assert facts["providers"].keys() == {"CPUExecutionProvider"}
    assert facts["on_cpu"]["Conv"] == 3
    assert sum(facts["on_cpu"].values()) == facts["providers"]["CPUExecutionProvider"]
    assert facts["provider_options"] == {
        "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "1",
        "enable_cuda_graph": "0",
    }  # fmt: skip
    assert facts["notes"][0].startswith("on the CPU, ")
    assert "3 Conv" in facts["notes"][0]
    assert steps == [1]


def test_a_fake_int8_build_says_that_its_latency_does_not_count(
    backend: OnnxRuntimeCuda, tmp_path: Path
) -> None:
    plan = BuildPlan(save(quantized(FP16), tmp_path / "lowered.onnx"), Precision.INT8, {}, BuildSpec())
    facts = backend.build(plan, tmp_path / "engine.onnx", lambda _count: None)
    assert facts["notes"][0] == (
        "INT8 computed in floating point by ONNX Runtime CUDA: accuracy counts, latency does not"
    )


def test_a_refused_model_leaves_no_engine_behind_a_fake(backend: OnnxRuntimeCuda, tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOp", ["x"], ["y"])
    made = save(graph([node], [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])]), tmp_path / "lowered.onnx")
    with pytest.raises(EngineError, match=r"(?s)does not take the model.*NoSuchOp"):
        backend.build(BuildPlan(made, None, {}, BuildSpec()), tmp_path / "engine.onnx", lambda _count: None)
    assert not (tmp_path / "engine.onnx").exists()


def test_a_fake_gpu_without_tf32_is_refused(
    backend: OnnxRuntimeCuda, driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        driver, "cuDeviceGetAttribute", lambda kind, _device: (fake_cuda.CUresult.CUDA_SUCCESS, kind - 68)
    )
    gpu.all_gpus.cache_clear()
    old = OnnxRuntimeCuda(threads=1)
    plan = BuildPlan(save(cnn(), tmp_path / "lowered.onnx"), Precision.TF32, {}, BuildSpec())
    with pytest.raises(EngineError, match=r"(?s)has no TF32.*8\.0 or later.*found: +7\.8"):
        old.build(plan, tmp_path / "engine.onnx", lambda _count: None)


def test_batches_of_any_size_on_the_fake_driver(opened: Open) -> None:
    engine = opened(cnn())
    whole = engine.infer({"x": X})["y"]
    for size in (8, 3, 8, 1, 2, 4, 5, 6, 7, 3, 8):
        np.testing.assert_allclose(engine.infer({"x": X[:size]})["y"], whole[:size], rtol=1e-6)
    np.testing.assert_allclose(engine.infer({"x": X.astype(np.float64)})["y"], whole, rtol=1e-6)
    assert engine.infer({"x": X[:0]})["y"].shape == (0, 5)
    again = engine.infer({"x": -X})["y"]
    assert np.abs(again - whole).max() > 0.01


def test_buffers_of_long_unused_shapes_are_freed_on_the_fake_driver(opened: Open, driver: FakeDriver) -> None:
    engine = opened(cnn())
    for size in (1, 2, 3, 4, 5, 6):
        for _ in range(2):
            engine.infer({"x": X[:size]})
    assert (
        list(driver.held.values()).count("memory") == 4 * 2
    )  # an input and an output for each of four shapes


def test_a_graph_has_a_session_of_its_own_on_the_fake_driver(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first shapes are recorded; what is smaller, or asked for once, shares a session without a graph."""
    graphs: list[str] = []
    on_cpu = onnxruntime_cuda_session.open_on_gpu

    def counted(source: str, where: Path, threads: int, options: dict[str, str]) -> Any:
        graphs.append(options["enable_cuda_graph"])
        return on_cpu(source, where, threads, options)

    monkeypatch.setattr(onnxruntime_cuda_session, "open_on_gpu", counted)
    engine = opened(cnn(), cuda_graph=True)
    graphs.clear()
    expected = opened(cnn()).infer({"x": X})["y"]
    del graphs[:]
    for size in (8, 8, 3, 8, 1, 3, 8):
        np.testing.assert_allclose(engine.infer({"x": X[:size]})["y"], expected[:size], rtol=1e-6)
    assert graphs == ["0"]
    for size in (8, 3, 3):  # that of 8 is there
        engine.timer({"x": X[:size]})
    assert graphs == ["0", "1"]


@pytest.mark.parametrize("reference", ["cpu", "cuda"])
def test_an_evaluation_pads_its_last_batch_on_the_fake_driver(
    backend: OnnxRuntimeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    """Kernels are chosen for a size of batches: all are of one, and what was padded counts nowhere."""
    sizes: list[int] = []
    fitted = onnxruntime_cuda_session.fitted

    def noted(feeds: Mapping[str, np.ndarray], *rest: Any) -> dict[str, np.ndarray]:
        sizes.append(len(feeds["images"]))
        return fitted(feeds, *rest)

    monkeypatch.setattr(onnxruntime_cuda_session, "fitted", noted)
    monkeypatch.setattr(trtcheck.backends, "_has_cuda_provider", lambda: True)
    case = Case(
        name="tiny", onnx=suite_models.save(suite_models.classifier(), tmp_path / "model.onnx"),
        data=suite_models.images(203), classes=suite_models.CLASSES, batch=16,
    )  # fmt: skip
    found = trtcheck.evaluate(
        case, "fp32", backend="onnxruntime-cuda", cache=tmp_path / "cache", reference=reference
    )
    assert found.record["reference"]["provider"] == f"onnxruntime-{reference}"
    assert set(sizes) == {16}
    assert found.images == 203
    assert [drift.max_abs for drift in found.outputs] == [0.0] * len(found.outputs)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels.candidate, found.labels.reference)
    on_cpu = trtcheck.evaluate(case, "fp32", backend="onnxruntime-cpu", cache=tmp_path / "other")
    assert on_cpu.labels is not None
    np.testing.assert_array_equal(found.labels.candidate, on_cpu.labels.candidate)


def test_shapes_that_depend_on_the_data_on_the_fake_driver(opened: Open) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="nonzero"),
        helper.make_node("Neg", ["x"], ["y"], name="neg"),
    ]
    ends: list[int | str] = ["N", 4]
    outputs = [("places", int(TensorProto.INT64), [2, None]), ("y", FLOAT, ends)]
    engine = opened(graph(nodes, [("x", FLOAT, ends)], outputs))
    rng = np.random.default_rng(0)
    for share in (0.5, 0.9, 0.0, 0.2):
        x = (rng.random((3, 4)) < share).astype(np.float32)
        answers = engine.infer({"x": x})
        assert list(answers) == ["places", "y"]
        np.testing.assert_array_equal(answers["places"], np.stack(np.nonzero(x)))
        np.testing.assert_array_equal(answers["y"], -x)


def test_inputs_that_are_read_on_the_cpu_are_bound_there(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a fake: this session wants its condition on another device than its buffers."""
    infos = [SimpleNamespace(name="Cpu"), SimpleNamespace(name="Elsewhere")]
    session = onnxruntime.InferenceSession.__mro__[1]
    monkeypatch.setattr(session, "get_input_memory_infos", lambda _session: infos)
    engine = opened(branches(FLOAT), cuda_graph=True)
    assert not engine.cuda_graph
    x = np.array([1, -2], np.float32)
    for condition in (True, False, True):
        expected = x * 400.25**2 if condition else np.maximum(x + 400.25, 0)
        answer = engine.infer({"x": x, "b": np.array(condition)})["y"]
        np.testing.assert_allclose(answer, expected * 0.0009765625, rtol=1e-5)


def test_outputs_declared_wrongly_still_come_on_the_fake_driver(opened: Open) -> None:
    """Exporters that are told one name for two sizes write files like this."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshape")
    weights = [weight("shape", np.array([-1, 2]))]
    engine = opened(graph([node], [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 2])], weights))
    for size in (3, 3, 5):
        x = np.random.default_rng(size).random((size, 4), np.float32)
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], x.reshape(-1, 2))


def test_a_closed_engine_refuses_on_the_fake_driver(opened: Open) -> None:
    engine = opened(cnn())
    engine.infer({"x": X})
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.infer({"x": X})


def test_an_engine_that_failed_is_closed_whole_on_the_fake_driver(
    backend: OnnxRuntimeCuda, driver: FakeDriver, tmp_path: Path
) -> None:
    path = save(cnn(), tmp_path / "engine.onnx")
    engine = backend.load(path)
    engine.infer({"x": X})
    driver.fails = {"cuStreamSynchronize", "cuMemFree"}
    with pytest.raises(EngineError, match="finish the work of a stream"):
        engine.infer({"x": X})
    engine.close()
    assert set(driver.held.values()) == {"memory"}


def test_inputs_that_do_not_fit_are_refused_on_the_fake_driver(opened: Open) -> None:
    engine = opened(cnn())
    with pytest.raises(EngineError, match=r"(?s)does not fit.*\[8, 1, 12, 11\]"):
        engine.infer({"x": X[..., :-1]})


def test_too_little_fake_memory_for_a_batch_is_an_engine_error(opened: Open, driver: FakeDriver) -> None:
    engine = opened(cnn())
    driver.free = 100
    with pytest.raises(EngineError, match=r"(?s)engine\.onnx.*out of memory.*8, 1, 12, 12"):
        engine.infer({"x": X})
    driver.free = 2**20
    assert engine.infer({"x": X})["y"].shape == (8, 5)


def test_text_is_refused_on_the_fake_driver(opened: Open) -> None:
    node = helper.make_node("Identity", ["x"], ["y"], name="same")
    text = int(TensorProto.STRING)
    with pytest.raises(EngineError, match=r"(?s)'x' is no tensor of numbers.*tensor\(string\)"):
        opened(graph([node], [("x", text, ["N"])], [("y", text, ["N"])]))


# Many batches, the next brought to the GPU while it works on one. The fake driver does all of it as late as
# CUDA may: what is not waited for has not happened.


@pytest.fixture
def late(driver: FakeDriver) -> FakeDriver:
    driver.late = True
    return driver


def split(x: np.ndarray, size: int) -> list[dict[str, np.ndarray]]:
    return [{"x": x[start : start + size]} for start in range(0, len(x), size)]


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 1, 12, 12)).astype(np.float32)


def assert_same(found: list[dict[str, np.ndarray]], expected: list[dict[str, np.ndarray]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name, answers in other.items():
            np.testing.assert_array_equal(one[name], answers)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 15, 16, 37, 40])
def test_many_batches_on_the_late_fake_driver(opened: Open, late: FakeDriver, count: int) -> None:
    engine = opened(cnn())
    batches = split(images(count), 4)
    expected = [engine.infer(feeds) for feeds in batches]
    for _ in range(2):
        assert_same(list(engine.infer_many(iter(batches))), expected)
    assert list(engine.infer_many([])) == []


def test_a_batch_is_started_before_the_one_before_is_waited_for_on_the_fake_driver(
    opened: Open, driver: FakeDriver
) -> None:
    engine = opened(cnn())
    list(engine.infer_many(split(images(40), 4)))  # both sets of buffers are made
    driver.done.clear()
    list(engine.infer_many(split(images(12), 4)))
    one, other = (int(driver.done[k].split()[1]) for k in (1, 9))

    def started(event: int) -> list[str]:
        return [
            "upload", f"event {event}", f"hold {event}", "run", f"event {event + 1}", f"hold {event + 1}",
            "download", f"event {event + 2}",
        ]  # fmt: skip

    waits = [f"wait {event + 2}" for event in (one, other)]
    assert driver.done == [*started(one), *started(other), waits[0], *started(one), waits[1], waits[0]]
    assert one != other


@pytest.mark.parametrize("lost", ["cuStreamWaitEvent", "cuEventSynchronize"])
def test_the_late_fake_driver_would_find_a_missing_wait(
    opened: Open, late: FakeDriver, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    engine = opened(cnn())
    batches = split(images(40), 4)
    expected = [engine.infer(feeds) for feeds in batches]
    monkeypatch.setattr(late, lost, lambda *_arguments: (fake_cuda.CUresult.CUDA_SUCCESS,))
    with pytest.raises(AssertionError):
        assert_same(list(engine.infer_many(batches)), expected)


def test_arrays_that_are_filled_anew_on_the_late_fake_driver(opened: Open, late: FakeDriver) -> None:
    engine = opened(cnn())
    batches = split(images(40), 4)
    expected = [engine.infer(feeds) for feeds in batches]
    array = np.empty_like(batches[0]["x"])

    def filled() -> Iterator[dict[str, np.ndarray]]:
        for feeds in batches:
            array[...] = feeds["x"]
            yield {"x": array}

    assert_same(list(engine.infer_many(filled())), expected)


def test_only_one_batch_is_in_flight_when_the_next_is_asked_for_on_the_late_fake_driver(
    opened: Open, late: FakeDriver
) -> None:
    engine, asked = opened(cnn()), 0

    def counted() -> Iterator[dict[str, np.ndarray]]:
        nonlocal asked
        for feeds in split(images(60), 4):
            asked += 1
            yield feeds

    ahead = [asked - given for given, _ in enumerate(engine.infer_many(counted()), start=1)]
    assert max(ahead) == 1
    assert ahead[-4:-1] == [1, 1, 1]


@pytest.mark.parametrize("place", [0, 1, 2, 7])
def test_an_error_comes_after_the_answers_before_it_on_the_late_fake_driver(
    opened: Open, late: FakeDriver, place: int
) -> None:
    engine = opened(cnn())
    good = split(images(40), 4)
    expected = [engine.infer(feeds) for feeds in good]
    bad = {"x": np.zeros((4, 1, 12, 11), np.float32)}
    answers = engine.infer_many([*good[:place], bad, *good[place:]])
    assert_same([next(answers) for _ in range(place)], expected[:place])
    with pytest.raises(EngineError, match=r"(?s)does not fit.*12, 11"):
        next(answers)
    assert list(answers) == []
    assert_same(list(engine.infer_many(good)), expected)


def test_a_broken_fake_driver_is_told_in_place_of_the_answers(opened: Open, late: FakeDriver) -> None:
    engine = opened(cnn())
    answers = engine.infer_many(split(images(40), 4))
    for _ in range(6):
        next(answers)
    late.fails = {"cuEventSynchronize"}
    with pytest.raises(EngineError, match="finish the work of a stream"):
        next(answers)
    assert list(answers) == []
    late.fails = set()


def test_who_stops_early_goes_on_with_infer_on_the_late_fake_driver(opened: Open, late: FakeDriver) -> None:
    engine = opened(cnn())
    batches = split(images(40), 4)
    expected = [engine.infer(feeds) for feeds in batches]
    for stop in (1, 3, 6, 9):
        answers = engine.infer_many(batches)
        assert_same([next(answers) for _ in range(stop)], expected[:stop])
        assert_same([engine.infer(feeds) for feeds in batches], expected)  # beside a batch in flight
        rest = engine.infer_many(batches)
        assert_same([next(rest), next(rest)], expected[:2])
        assert_same([next(answers)], expected[stop : stop + 1])
        answers.close()
        assert_same(list(rest), expected[2:])


def test_other_shapes_between_the_answers_take_no_buffers_away_on_the_late_fake_driver(
    opened: Open, late: FakeDriver
) -> None:
    engine = opened(cnn())
    batches = split(images(21), 4)
    expected = [engine.infer(feeds) for feeds in batches]
    found = []
    for answers in engine.infer_many(batches):
        found.append(answers)
        for size in (1, 2, 3, 5, 6, 7):
            assert engine.infer({"x": X[:size]})["y"].shape == (size, 5)
    assert_same(found, expected)


def test_a_closed_engine_answers_no_more_on_the_late_fake_driver(opened: Open, late: FakeDriver) -> None:
    engine = opened(cnn())
    answers = engine.infer_many(split(images(40), 4))
    for _ in range(6):
        next(answers)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        next(answers)


def test_many_batches_take_two_sets_of_fake_memory_a_shape(opened: Open, driver: FakeDriver) -> None:
    engine = opened(cnn())
    for size in (1, 2, 3, 4, 5, 6):
        list(engine.infer_many(split(images(8 * size), size)))
    assert list(driver.held.values()).count("memory") == 4 * 2 * 2


def test_what_cannot_overlap_is_run_in_its_place_on_the_late_fake_driver(
    opened: Open, late: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = [SimpleNamespace(name="Cpu"), SimpleNamespace(name="Elsewhere")]
    session = onnxruntime.InferenceSession.__mro__[1]
    monkeypatch.setattr(session, "get_input_memory_infos", lambda _session: infos)
    engine = opened(branches(FLOAT))
    x = np.array([1, -2], np.float32)
    batches = [{"x": x + k, "b": np.array(k % 2 == 0)} for k in range(6)]
    expected = [engine.infer(feeds) for feeds in batches]
    assert_same(list(engine.infer_many(batches)), expected)
