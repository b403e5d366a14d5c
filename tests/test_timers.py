"""How long queries take on the processor: real sessions of ONNX Runtime, no time asserted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import FLOAT, FP16, cnn, graph, plan_of, quantized, save
from onnx import TensorProto, helper

from trtcheck import backends
from trtcheck.backends import device_of, host_timer, timing_reference
from trtcheck.backends.base import BuildPlan, BuiltEngine
from trtcheck.backends.onnxruntime import OnnxRuntimeCpu, OrtSession, session_options
from trtcheck.backends.untimed import why_untimed
from trtcheck.case import BuildSpec, Numerics
from trtcheck.errors import BackendError, EngineError
from trtcheck.latency.timing import Clock, TimingMode

X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[OrtSession]:
    with OrtSession(save(cnn(), tmp_path / "cnn.onnx"), session_options(1)) as opened:
        yield opened


def test_a_block_has_a_time_for_every_query(session: OrtSession) -> None:
    timer = session.timer({"x": X}, transfers=False, spin_wait=False)
    for queries in (1, 25, 3):
        block = timer.block(queries)
        assert block.samples_ms.shape == (queries,)
        assert block.samples_ms.dtype == np.float64
        assert (block.samples_ms > 0).all()
        assert block.seconds * 1e3 >= block.samples_ms.sum()  # what lies between the queries is in it


def test_every_query_runs_the_whole_model(session: OrtSession, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    real = onnxruntime.InferenceSession.run_with_iobinding

    def counted(self: Any, bound: Any, options: Any = None) -> None:
        real(self, bound, options)
        runs.append(bound.copy_outputs_to_cpu()[0])

    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", counted)
    timer = session.timer({"x": X}, transfers=False, spin_wait=False)
    before = len(runs)
    timer.block(7)
    assert len(runs) - before == 7
    np.testing.assert_array_equal(runs[-1], session.infer({"x": X})["y"])


def test_timing_changes_no_answer(session: OrtSession) -> None:
    before = session.infer({"x": X})["y"]
    one, other = (session.timer({"x": x}, transfers=False, spin_wait=False) for x in (X, X[:3]))
    for _ in range(2):
        one.block(3)
        other.block(2)
    np.testing.assert_array_equal(session.infer({"x": X})["y"], before)


def test_the_mode_says_what_happens_whatever_was_asked_for(session: OrtSession) -> None:
    timer = session.timer({"x": X}, transfers=True, spin_wait=True)
    assert timer.mode == TimingMode(Clock.HOST, transfers=False, cuda_graph=False, spin_wait=False)


@pytest.mark.parametrize("spin_wait", [False, True])
def test_spinning_reaches_the_session_and_the_mode(
    spin_wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = onnxruntime.InferenceSession.__init__

    def opened(self: Any, source: Any, options: Any, *rest: Any, **more: Any) -> None:
        seen.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
        real(self, source, options, *rest, **more)

    monkeypatch.setattr(onnxruntime.InferenceSession, "__init__", opened)
    path = save(cnn(), tmp_path / "cnn.onnx")
    plan = BuildPlan(path, None, {}, BuildSpec(), spin_wait=spin_wait)
    backend = OnnxRuntimeCpu(threads=2)
    loaded = backend.load(path, plan)
    reference, _ = timing_reference(path, "onnxruntime-cpu", threads=2, cuda_graph=False, spin_wait=spin_wait)
    assert seen == [str(int(spin_wait))] * 2
    for engine in (loaded, reference):
        assert engine.timer({"x": X}, transfers=False, spin_wait=False).mode.spin_wait is spin_wait
    assert backend.identity(plan) == backend.identity(plan_of(path))  # no engine is built anew for it


def test_no_session_spins_that_is_not_timed(tmp_path: Path) -> None:
    path = save(cnn(), tmp_path / "cnn.onnx")
    for plan in (None, plan_of(path)):
        engine = OnnxRuntimeCpu(threads=2).load(path, plan)
        assert engine.timer({"x": X}).mode.spin_wait is False


def test_a_batch_that_does_not_fit_is_refused(session: OrtSession) -> None:
    with pytest.raises(EngineError, match=r"(?s)cnn\.onnx.*does not fit.*\[8, 1, 12, 11\]"):
        session.timer({"x": X[..., :-1]})
    with pytest.raises(EngineError, match="does not have the engine's inputs"):
        session.timer({"z": X})


def test_what_the_runtime_refuses_is_an_engine_error(tmp_path: Path) -> None:
    """The sizes fit the inputs one by one, and not each other."""
    node = helper.make_node("Add", ["x", "z"], ["y"], name="add")
    made = graph([node], [("x", FLOAT, ["N"]), ("z", FLOAT, ["M"])], [("y", FLOAT, ["N"])])
    with (
        OrtSession(save(made, tmp_path / "add.onnx"), session_options(1)) as engine,
        pytest.raises(EngineError, match=r"(?s)add\.onnx.*ONNX Runtime failed on a batch"),
    ):
        engine.timer({"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)})


def test_a_closed_session_is_not_timed(session: OrtSession) -> None:
    timer = session.timer({"x": X})
    session.close()
    with pytest.raises(EngineError, match=r"cnn\.onnx: the engine is closed"):
        timer.block(1)
    with pytest.raises(EngineError, match=r"cnn\.onnx: the engine is closed"):
        session.timer({"x": X})


def test_inputs_of_any_layout_and_width_are_timed(session: OrtSession) -> None:
    wide = np.asfortranarray(X.astype(np.float64))
    assert session.timer({"x": wide}).block(2).samples_ms.shape == (2,)


def test_scalars_and_shapes_that_depend_on_the_data_are_timed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["y"], name="scaled"),
        helper.make_node("NonZero", ["y"], ["places"], name="nonzero"),
    ]
    inputs: list[Any] = [("x", FLOAT, ["N", 4]), ("scale", FLOAT, [])]
    outputs: list[Any] = [("places", int(TensorProto.INT64), [2, None])]
    made = graph(nodes, inputs, outputs)
    feeds = {"x": np.eye(4, dtype=np.float32), "scale": np.array(2, np.float32)}
    with OrtSession(save(made, tmp_path / "places.onnx"), session_options(1)) as engine:
        assert engine.timer(feeds).block(5).samples_ms.shape == (5,)


# What is not timed, and beside what.


def built(backend: str, numerics: Numerics, quantized_nodes: int = 0) -> BuiltEngine:
    facts = {"types": {"FLOAT": 5, "quantized": quantized_nodes}}
    return BuiltEngine(Path("e"), Path("l"), backend, numerics, False, {}, facts)


def test_emulated_engines_are_not_timed() -> None:
    reason = why_untimed(built("onnxruntime-cpu", Numerics.EMULATED))
    assert reason is not None
    assert "emulated" in reason
    assert "fp32" in reason


def test_int8_computed_in_floating_point_is_not_timed() -> None:
    reason = why_untimed(built("onnxruntime-cuda", Numerics.NATIVE, 3))
    assert reason is not None
    assert "floating point" in reason


@pytest.mark.parametrize(
    ("backend", "quantized_nodes"),
    [("onnxruntime-cpu", 0), ("onnxruntime-cuda", 0), ("tensorrt", 3), ("tensorrt-rtx", 3)],
)
def test_what_computes_natively_is_timed(backend: str, quantized_nodes: int) -> None:
    assert why_untimed(built(backend, Numerics.NATIVE, quantized_nodes)) is None


def test_an_engine_built_elsewhere_is_timed_though_nothing_is_known_of_its_nodes() -> None:
    elsewhere = BuiltEngine(Path("e"), Path("e"), "tensorrt", Numerics.NATIVE, False, {})
    assert why_untimed(elsewhere) is None


@pytest.mark.parametrize(
    ("model", "untimed"), [(cnn(), False), (quantized(FP16), True), (quantized(FLOAT), True)]
)
def test_of_real_builds_on_the_processor_only_fp32_is_timed(
    model: onnx.ModelProto, untimed: bool, tmp_path: Path
) -> None:
    plan = plan_of(save(model, tmp_path / "lowered.onnx"))
    backend = OnnxRuntimeCpu(threads=1)
    facts = backend.build(plan, tmp_path / "engine.onnx")
    made = BuiltEngine(
        tmp_path / "engine.onnx", plan.lowered, "onnxruntime-cpu", backend.numerics(plan), False, {}, facts
    )
    assert (why_untimed(made) is not None) is untimed


def test_the_reference_on_the_processor_is_the_original_model(tmp_path: Path) -> None:
    path = save(cnn(), tmp_path / "cnn.onnx")
    loaded, name = timing_reference(path, "onnxruntime-cpu", threads=1, cuda_graph=True, spin_wait=False)
    assert name == f"onnxruntime-cpu {onnxruntime.__version__} fp32"
    expected = OrtSession(path, session_options(1)).infer({"x": X})["y"]
    np.testing.assert_allclose(loaded.infer({"x": X})["y"], expected, rtol=1e-6)
    assert loaded.timer({"x": X}, transfers=False, spin_wait=False).block(2).samples_ms.shape == (2,)


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_without_onnxruntime_for_cuda_there_is_no_reference_on_a_gpu(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_has_cuda_provider", lambda: False)
    path = save(cnn(), tmp_path / "cnn.onnx")
    with pytest.raises(BackendError, match=r"(?s)onnxruntime-gpu is not installed.*pytest-trtcheck\[gpu\]"):
        timing_reference(path, backend, threads=1, cuda_graph=False, spin_wait=False)


def test_the_processor_is_no_gpu() -> None:
    assert device_of(OnnxRuntimeCpu(threads=1)) is None


def test_a_query_takes_from_before_its_call_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the queries move, by 1, 2 and 3 ms."""
    now = [0]
    spent: list[int] = []

    def run() -> None:
        spent.append(len(spent) + 1)
        now[0] += spent[-1] * 10**6

    monkeypatch.setattr(host_timer, "perf_counter_ns", lambda: now[0])
    timer = host_timer.HostTimer(run, path=Path("e.onnx"), spin_wait=True, failing=nullcontext)
    assert timer.block(3).samples_ms.tolist() == [1.0, 2.0, 3.0]
    assert timer.mode.spin_wait is True
