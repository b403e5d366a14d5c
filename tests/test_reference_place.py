"""Where the reference runs: beside engines on a GPU there, elsewhere on the CPU, and never unsaid.

No GPU here: a fake driver stands for one, and ONNX Runtime's CPU provider computes in its place. What that
cannot show, TF32 that is really off, is in tests/gpu/gpu_reference.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cuda
import numpy as np
import onnxruntime
import pytest
import suite_models
from fake_cuda import FakeDriver
from graphs import cnn, save
from suites import Suite
from test_evaluation import judged, record

import trtcheck
from trtcheck import backends, engine_check, gpu
from trtcheck.backends import onnxruntime_cuda, onnxruntime_cuda_bound, onnxruntime_cuda_session
from trtcheck.backends.base import Backend, BackendInfo, BuildPlan, BuiltEngine
from trtcheck.backends.cuda_libraries import library_versions
from trtcheck.backends.onnxruntime import open_session, session_options
from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda
from trtcheck.backends.reference_place import Place, place_of
from trtcheck.baselines import approve, store
from trtcheck.calibration import kept
from trtcheck.case import BuildSpec, Case, EngineKind, EngineSpec, Gates, InputSpec, Precision, Verdict
from trtcheck.errors import BackendError, EngineError
from trtcheck.evaluation import Evaluation
from trtcheck.latency import lane
from trtcheck.library import open_workbench
from trtcheck.progress import LoggedProgress
from trtcheck.report.view import facts
from trtcheck.session import Workbench

FP16, FP32 = (EngineSpec(p.value, p) for p in (Precision.FP16, Precision.FP32))
SETTINGS = {"cudnn_conv_algo_search": "HEURISTIC", "cuDNN": "9.10.2"}
H100 = BackendInfo("onnxruntime-cuda", "1.31.1", "NVIDIA H100 80GB HBM3", "", "580.1", SETTINGS)


def works(name: str) -> Any:
    """Opens a fake ONNX Runtime CUDA; nobody asks for another backend."""
    assert name == "onnxruntime-cuda"
    return SimpleNamespace(info=H100)


def broken(name: str) -> Backend:
    raise BackendError(f"{name} cannot be loaded", found="libcudnn.so.9")


@pytest.mark.parametrize(
    ("asked", "beside", "opens", "unusable", "provider", "reason"),
    [
        ("auto", "onnxruntime-cpu", broken, None, "onnxruntime-cpu", "auto: beside onnxruntime-cpu"),
        ("auto", "onnxruntime-cuda", works, None, "onnxruntime-cuda", "auto: beside onnxruntime-cuda"),
        ("auto", "tensorrt", works, None, "onnxruntime-cuda", "auto: beside tensorrt"),
        ("auto", "tensorrt-rtx", works, None, "onnxruntime-cuda", "auto: beside tensorrt-rtx"),
        ("auto", "tensorrt", works, "gone", "onnxruntime-cpu", "beside tensorrt; not onnxruntime-cuda: gone"),
        ("auto", "tensorrt", broken, None, "onnxruntime-cpu", "cannot be loaded found: libcudnn.so.9"),
        ("cpu", "tensorrt", works, None, "onnxruntime-cpu", "asked for by name"),
        ("cuda", "onnxruntime-cpu", works, None, "onnxruntime-cuda", "asked for by name"),
    ],
)
def test_the_reference_runs_where_the_engine_does(
    asked: str, beside: str, opens: Callable[[str], Backend], unusable: str | None, provider: str,
    reason: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("trtcheck.backends.reference_place.unusable", lambda _name: unusable)
    place = place_of(asked, beside, opens)
    assert place.provider == provider
    assert reason in place.reason
    assert place.on_gpu is (provider == "onnxruntime-cuda")
    assert place.version
    assert place.device


def test_cuda_by_name_never_falls_back() -> None:
    with pytest.raises(BackendError, match=r"(?s)--trt-reference=cuda asks for.*libcudnn\.so\.9.*auto takes"):
        place_of("cuda", "onnxruntime-cpu", broken)


def test_answers_of_a_place_depend_on_what_moves_them_and_on_no_processor() -> None:
    on_gpu = place_of("cuda", "tensorrt", works)
    assert on_gpu.identity() == {
        "provider": "onnxruntime-cuda", "version": "1.31.1", "device": "NVIDIA H100 80GB HBM3",
        "settings": {**SETTINGS, "use_tf32": "0"},
    }  # fmt: skip
    cpu = place_of("cpu", "tensorrt", works)
    assert cpu.identity() == replace(cpu, device="another processor", reason="else").identity()
    assert set(cpu.identity()) == {"provider", "version"}


# Without CUDA in ONNX Runtime, as it is here.


def evaluated(case: Case, folder: Path, **how: Any) -> Evaluation:
    return trtcheck.evaluate(case, "fp16", cache=folder / "cache", threads=1, **how)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    images, labels = suite_models.images(60)
    path = suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    spec = InputSpec(scale=1 / 255)
    return Case(
        name="tiny", onnx=path, data=(images, labels), classes=suite_models.CLASSES, input=spec, batch=8
    )


def test_an_evaluation_says_where_its_reference_ran(tmp_path: Path, case: Case) -> None:
    found = evaluated(case, tmp_path, backend="onnxruntime-cpu").record["reference"]
    assert found["provider"] == "onnxruntime-cpu"
    assert found["version"] == onnxruntime.__version__
    assert found["reason"] == "auto: beside onnxruntime-cpu"


def test_cuda_that_is_not_there_is_an_error_of_the_evaluation(tmp_path: Path, case: Case) -> None:
    with pytest.raises(BackendError, match=r"(?s)--trt-reference=cuda.*onnxruntime-gpu is not installed"):
        evaluated(case, tmp_path, backend="onnxruntime-cpu", reference="cuda")


def test_cuda_that_is_not_installed_is_a_usage_error(suite: Suite) -> None:
    suite.toml()
    result = suite.run("--trt-engine=fp16", "--trt-reference=cuda")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--trt-reference=cuda: onnxruntime-gpu is not installed*"])


def test_the_option_reaches_the_report(suite: Suite) -> None:
    suite.toml()
    suite.run("--trt-engine=fp16", "--trt-reference=cpu")
    [engine] = suite.report()["engines"]
    assert engine["reference"]["provider"] == "onnxruntime-cpu"
    assert engine["reference"]["reason"] == "asked for by name"
    told = {each.term: each.text for each in facts.of_engine(engine)}
    assert told["reference"].startswith(f"onnxruntime-cpu {onnxruntime.__version__} on ")
    assert told["reference"].endswith("(asked for by name)")


# On a GPU, by a fake.


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    yield fake_cuda.install(monkeypatch)
    gpu.all_gpus.cache_clear()


@pytest.fixture
def opened(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Names of the models that a fake ONNX Runtime CUDA opened, with their option for TF32."""
    seen: list[tuple[str, str]] = []

    def on_cpu(source: str | bytes, where: Path | None, threads: int, options: dict[str, str]) -> Any:
        if where is not None:
            seen.append((where.name, options["use_tf32"]))
        settings = session_options(threads)
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return open_session(source, where, settings)

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(backends, "_has_cuda_provider", lambda: True)
    for module in (onnxruntime_cuda, onnxruntime_cuda_session):
        monkeypatch.setattr(module, "open_on_gpu", on_cpu)
    monkeypatch.setattr(onnxruntime_cuda_bound, "DEVICE", "cpu")
    return seen


def references(opened: list[tuple[str, str]]) -> list[str]:
    return [tf32 for name, tf32 in opened if name == "model.onnx"]


def test_beside_a_fake_gpu_s_engine_the_reference_runs_there_without_tf32(
    opened: list[tuple[str, str]], tmp_path: Path, case: Case
) -> None:
    found = evaluated(case, tmp_path, backend="onnxruntime-cuda")
    assert references(opened) == ["0"]
    assert found.record["reference"]["provider"] == "onnxruntime-cuda"
    assert found.record["reference"]["device"] == "Fake GPU 0"
    assert found.record["environment"]["backend"]["settings"]["cudnn_conv_algo_search"] == "HEURISTIC"


def test_answers_of_another_place_are_not_taken_from_the_cache(
    opened: list[tuple[str, str]], tmp_path: Path, case: Case
) -> None:
    evaluated(case, tmp_path, backend="onnxruntime-cuda", reference="cpu")
    assert references(opened) == []
    evaluated(case, tmp_path, backend="onnxruntime-cuda")
    assert len(references(opened)) == 1
    evaluated(case, tmp_path, backend="onnxruntime-cpu", reference="cuda")
    assert len(references(opened)) == 1  # from the cache, whatever runs the engine


@pytest.mark.parametrize(
    ("backend", "reference", "locked"),
    [
        ("onnxruntime-cpu", "auto", [None]),
        ("onnxruntime-cpu", "cuda", [None, "GPU"]),
        ("onnxruntime-cuda", "auto", ["GPU"]),
        ("onnxruntime-cuda", "cpu", ["GPU"]),
    ],
)
def test_every_device_that_computes_is_locked_once(
    backend: str, reference: str, locked: list[str | None], opened: list[tuple[str, str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[str | None] = []
    real = lane.using

    def told(uuid: str | None, wait: Any) -> Any:
        seen.append(uuid and uuid[:3])
        return real(uuid, wait)

    monkeypatch.setattr(lane, "using", told)
    with open_workbench(backend, tmp_path, 1, reference=reference) as bench:
        with bench.computing(FP16, bench.reference_place(FP16)):
            assert seen == locked
        seen.clear()
        with bench.computing(None, bench.reference_place()):
            assert seen == [uuid for uuid in locked if uuid and reference != "cpu"]


def test_a_model_that_a_fake_gpu_does_not_take_says_where_it_may_run(
    opened: list[tuple[str, str]], tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any, **_options: Any) -> Any:
        raise EngineError("the GPU is out of memory")

    with open_workbench("onnxruntime-cuda", tmp_path, 1) as bench:
        place = bench.reference_place()
        monkeypatch.setattr(OnnxRuntimeCuda, "load", full)
        with pytest.raises(EngineError, match=r"(?s)Fake GPU 0.*out of memory.*--trt-reference=cpu"):
            bench.load_reference(case, place)


def test_without_an_engine_and_beside_a_recording_the_session_s_backend_counts(
    opened: list[tuple[str, str]], tmp_path: Path, case: Case
) -> None:
    recorded = EngineSpec("orin", None, tmp_path / "orin.npz")
    assert recorded.kind is EngineKind.RECORDING
    with open_workbench("onnxruntime-cuda", tmp_path, 1) as bench:
        assert bench.reference_place(recorded) == bench.reference_place()
        assert bench.reference_place().on_gpu
        assert bench.reference(case).predicted.shape == (60,)
    assert references(opened) == ["0"]


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_run_the_reference_where_one_pass_does(
    shards: int, opened: list[tuple[str, str]], tmp_path: Path, case: Case
) -> None:
    whole = evaluated(case, tmp_path / "one", backend="onnxruntime-cpu", reference="cuda")
    assert references(opened) == ["0"]
    opened.clear()
    with ThreadPoolExecutor(1) as pool:
        found = evaluated(
            case, tmp_path / "cut", backend="onnxruntime-cpu", reference="cuda", executor=pool, shards=shards
        )
    assert references(opened) == ["0"]  # one worker loads it once
    assert found.record["reference"] == whole.record["reference"]
    assert found.labels is not None
    assert whole.labels is not None
    np.testing.assert_array_equal(found.labels.reference, whole.labels.reference)


def test_a_worker_whose_reference_would_run_with_something_else_is_refused(
    opened: list[tuple[str, str]], tmp_path: Path, case: Case
) -> None:
    """The pool's worker finds the fake driver's GPU; the task asks for another one."""

    class Elsewhere(ThreadPoolExecutor):
        def submit(self, fn: Any, /, task: Any) -> Any:
            needed = {**task.job.needed, "GPU of the reference": "NVIDIA L4"}
            return super().submit(fn, replace(task, job=replace(task.job, needed=needed)))

    with Elsewhere(1) as pool, pytest.raises(BackendError) as caught:
        evaluated(case, tmp_path, backend="onnxruntime-cpu", reference="cuda", executor=pool, shards=2)
    assert "GPU of the reference NVIDIA L4" in str(caught.value)
    assert "GPU of the reference Fake GPU 0" in str(caught.value)


def test_what_calibration_data_show_belongs_to_the_place_that_answered(
    opened: list[tuple[str, str]], tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = replace(case, calibration=suite_models.images(24, seed=3)[0])
    keys: list[Place] = []
    real = kept.of_data

    def told(*args: Any) -> Any:
        keys.extend(each for each in args if isinstance(each, Place))
        return real(*args)

    monkeypatch.setattr(kept, "of_data", told)
    for reference, loaded in (("cuda", 1), ("cpu", 1), ("cuda", 1)):
        bench = Workbench(
            cache=tmp_path / "cache", shared=tmp_path / f"shared{len(keys)}", backend="onnxruntime-cpu",
            threads=1, progress=LoggedProgress(), reference=reference,
        )  # fmt: skip
        with closing(bench):
            found = bench.calibration(calibrated, FP32)
        assert found.coverage is not None
        assert sum(found.coverage.counts.values()) == 24
        assert len(references(opened)) == loaded
    assert [place.name for place in keys] == ["cuda", "cpu", "cuda"]


def test_a_fake_gpu_s_nodes_on_the_cpu_fail_the_build(
    opened: list[tuple[str, str]], tmp_path: Path, case: Case
) -> None:
    """The fake leaves every node to the CPU provider."""
    plan = BuildPlan(save(cnn(), tmp_path / "lowered.onnx"), Precision.FP32, {}, BuildSpec())
    backend = OnnxRuntimeCuda(threads=1)
    found = backend.build(plan, tmp_path / "engine.onnx", lambda _count: None)
    built = BuiltEngine(
        tmp_path / "engine.onnx", plan.lowered, "onnxruntime-cuda", backend.numerics(plan), cached=False,
        lowered={}, facts=found,
    )  # fmt: skip
    total = found["providers"]["CPUExecutionProvider"]
    for limit, verdict in ((total - 1, Verdict.FAIL), (total, Verdict.PASS)):
        outcome = engine_check.build(replace(case, gates=Gates(cpu_nodes=limit)), FP32, built)
        assert outcome.verdict is verdict
    failed = engine_check.build(replace(case, gates=Gates(cpu_nodes=0)), FP32, built)
    assert failed.message.startswith(f"{total} nodes run on the CPU (3 Conv, ")


# What was approved with the reference elsewhere.


def approved(provider: str, device: str) -> Evaluation:
    place = {"provider": provider, "version": "1.31.1", "device": device, "reason": ""}
    return replace(judged([0, 1, 1], [0, 1, 0], [0, 1, 0]), record=record(reference=place))


ON_GPU = ("onnxruntime-cuda", "NVIDIA H100 80GB HBM3")
ON_CPU = ("onnxruntime-cpu", "a processor")


@pytest.mark.parametrize(
    ("then", "now", "change"),
    [
        (ON_CPU, ON_CPU, None),
        (ON_CPU, ("onnxruntime-cpu", "another"), None),
        (ON_GPU, ON_GPU, None),
        (ON_CPU, ON_GPU, ("onnxruntime-cpu", "onnxruntime-cuda on NVIDIA H100 80GB HBM3")),
        (ON_GPU, ON_CPU, ("onnxruntime-cuda on NVIDIA H100 80GB HBM3", "onnxruntime-cpu")),
        (
            ON_GPU, ("onnxruntime-cuda", "NVIDIA L4"),
            ("onnxruntime-cuda on NVIDIA H100 80GB HBM3", "onnxruntime-cuda on NVIDIA L4"),
        ),
    ],
)  # fmt: skip
def test_a_reference_that_ran_elsewhere_at_the_approval_is_told(
    then: tuple[str, str], now: tuple[str, str], change: tuple[str, str] | None, tmp_path: Path
) -> None:
    store.write(tmp_path, approved(*then))
    state = approve.state(tmp_path, approved(*now))
    assert state["status"] == "compared"
    wanted = [] if change is None else [{"what": "reference", "approved": change[0], "now": change[1]}]
    assert state["changes"] == wanted


def test_a_baseline_says_of_a_reference_on_the_processor_nothing_as_files_of_before_do(
    tmp_path: Path,
) -> None:
    path, _ = store.write(tmp_path, approved(*ON_CPU))
    assert "reference" not in json.loads(path.read_text())


# Versions of CUDA's libraries.


class FakeLibrary:
    """Answers as NVIDIA's libraries do."""

    def cudaRuntimeGetVersion(self, number: Any) -> int:  # noqa: N802
        number._obj.value = 13010
        return 0

    def __init__(self) -> None:
        self.cublasLtGetVersion = self._answering(130200)
        self.cudnnGetVersion = self._answering(91002)

    @staticmethod
    def _answering(number: int) -> Any:
        def ask() -> int:
            return number

        return ask


def test_fake_cuda_libraries_tell_their_versions() -> None:
    asked: list[str] = []

    def find(name: str) -> FakeLibrary:
        asked.append(name)
        if name.endswith(".13"):
            raise OSError("not loaded")
        return FakeLibrary()

    assert library_versions(find) == {"CUDA runtime": "13.1", "cuBLAS": "13.2.0", "cuDNN": "9.10.2"}
    assert asked[:2] == ["libcudart.so.13", "libcudart.so.12"]


def test_a_process_without_cuda_loads_none_to_ask() -> None:
    assert library_versions() == {}
