"""ONNX Runtime's CUDA provider on a real GPU: run with ``pytest tests/gpu/gpu_*.py``.

With ``-o junit_family=xunit1 --junitxml=gpu.xml`` the figures are kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import BF16, FLOAT, FP16, branches, cnn, graph, overflowing_matmul, quantized, save, weight
from onnx import TensorProto, helper

from trtcheck.backends import open_backend
from trtcheck.backends.base import BuildPlan
from trtcheck.backends.onnxruntime import OnnxRuntimeCpu, reference_session
from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda
from trtcheck.backends.onnxruntime_cuda_session import OrtCudaSession
from trtcheck.case import BuildSpec, LoweringSpec, Numerics, Precision
from trtcheck.errors import EngineError
from trtcheck.gpu import find_gpu
from trtcheck.precision import lower

Record = Callable[[str, object], None]
INT64 = int(TensorProto.INT64)
DEMO = Path(__file__).parents[2] / "examples" / "fashion_mnist"
X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def backend() -> OnnxRuntimeCuda:
    return OnnxRuntimeCuda(threads=4)


@pytest.fixture
def opened(backend: OnnxRuntimeCuda, tmp_path: Path) -> Iterator[Opened]:
    made = Opened(backend, tmp_path)
    yield made
    made.close()


class Opened:
    """Builds and loads models; `facts` are the last build's."""

    def __init__(self, backend: OnnxRuntimeCuda, folder: Path) -> None:
        self.backend, self.folder, self.sessions, self.facts = backend, folder, [], {}

    def __call__(
        self, model: onnx.ModelProto | Path, precision: Precision | None = Precision.FP32, **spec: bool
    ) -> OrtCudaSession:
        path = model if isinstance(model, Path) else save(model, self.folder / "lowered.onnx")
        plan, target = BuildPlan(path, precision, {}, BuildSpec(**spec)), self.folder / "engine.onnx"
        self.facts = self.backend.build(plan, target, lambda _count: None)
        self.sessions.append(self.backend.load(target, plan))
        return self.sessions[-1]

    def close(self) -> None:
        for session in self.sessions:
            session.close()


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    wide = np.asarray(expected, np.float64)
    return float(np.linalg.norm(np.asarray(found, np.float64) - wide) / np.linalg.norm(wide))


def matmul(size: int = 256) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A product, its input, and the exact answer."""
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal((size, size)).astype(np.float32) for _ in "xw")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    ends = ["N", size]
    made = graph([node], [("x", FLOAT, ends)], [("y", FLOAT, ends)], [weight("w", w)])
    return made, x, x.astype(np.float64) @ w.astype(np.float64)


# Opening.


def test_the_backend_says_what_it_is(backend: OnnxRuntimeCuda) -> None:
    assert backend.info.name == "onnxruntime-cuda"
    assert backend.info.device == find_gpu().name
    assert (backend.suffix, backend.cannot_run) == (".onnx", None)


def test_onnxruntime_takes_the_gpu_where_there_is_one(tmp_path: Path) -> None:
    info = open_backend("onnxruntime", threads=1, cache=tmp_path).info
    assert info.name == "onnxruntime-cuda"


def test_libraries_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    code = (
        "from trtcheck.backends import onnxruntime_cuda as o; o._preload = lambda _: ''\n"
        "try: o.OnnxRuntimeCuda(threads=1)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    for name in ("libcublasLt.so.12", "libcublasLt.so.13", "libcudnn.so.9"):
        (tmp_path / name).touch()
    broken = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=broken)
    assert run.stdout.startswith("BackendError ONNX Runtime CUDA does not work on NVIDIA")
    assert f"{tmp_path}/lib" in run.stdout
    assert "file too short" in run.stdout


# Precisions.


def test_fp32_agrees_with_the_cpu(opened: Opened, tmp_path: Path) -> None:
    engine = opened(cnn())
    reference = reference_session(save(cnn(), tmp_path / "cnn.onnx"), 2).infer({"x": X})["y"]
    assert relative(engine.infer({"x": X})["y"], reference) < 1e-5
    assert opened.facts["types"] == {"FLOAT": 9, "quantized": 0}
    assert set(opened.facts["computes"].values()) == {"fp32"}
    assert opened.facts["providers"].keys() == {"CUDAExecutionProvider"}
    assert opened.facts["notes"] == []


def test_tf32_is_a_switch(opened: Opened, record_property: Record) -> None:
    made, x, exact = matmul()
    off, on = (
        relative(opened(made, precision).infer({"x": x})["y"], exact)
        for precision in (Precision.FP32, Precision.TF32)
    )
    record_property("relative L2", f"TF32 off {off:.2e}, on {on:.2e}")
    assert off < 1e-5 < on < 1e-2
    assert opened.facts["computes"] == {"matmul": "tf32"}


def test_tf32_holds_for_convolutions(opened: Opened, record_property: Record) -> None:
    rng = np.random.default_rng(3)
    w = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    x = rng.standard_normal((4, 64, 20, 20)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    made = graph(
        [node], [("x", FLOAT, ["N", 64, 20, 20])], [("y", FLOAT, ["N", 64, 18, 18])], [weight("w", w)]
    )
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (2, 3))
    exact = np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64), optimize=True)
    off, on = (
        relative(opened(made, precision).infer({"x": x})["y"], exact)
        for precision in (Precision.FP32, Precision.TF32)
    )
    record_property("relative L2", f"TF32 off {off:.2e}, on {on:.2e}")
    assert off < 1e-5 < on < 1e-2


def test_fp16_is_computed_in_fp16(opened: Opened) -> None:
    made = overflowing_matmul()
    del made.graph.node[2]  # ONNX Runtime would make the division part of the product
    made.graph.node[-1].input[0] = "product"
    engine = opened(made, Precision.FP16)
    answer = engine.infer({"x": np.array([[400], [1.0001]], np.float32)})["y"]
    assert np.isinf(answer[0, 0])
    assert answer[1, 0] == 400
    assert opened.backend.numerics(BuildPlan(engine.path, None, {}, BuildSpec())) is Numerics.NATIVE


def test_int8_says_that_its_latency_does_not_count(opened: Opened, tmp_path: Path) -> None:
    engine = opened(quantized(FP16), Precision.INT8)
    assert any("INT8 computed in floating point" in note for note in opened.facts["notes"])
    x = np.random.default_rng(0).uniform(-4, 4, (3, 2, 6, 6)).astype(np.float32)
    cpu, plan = OnnxRuntimeCpu(threads=2), BuildPlan(tmp_path / "lowered.onnx", None, {}, BuildSpec())
    cpu.build(plan, tmp_path / "cpu.onnx", lambda _count: None)
    expected = cpu.load(tmp_path / "cpu.onnx", plan).infer({"x": x})["y"]
    np.testing.assert_allclose(engine.infer({"x": x})["y"], expected, rtol=2e-3)


@pytest.mark.parametrize("element", [FP16, BF16])
def test_narrow_inputs_and_outputs_cross_as_they_are(opened: Opened, element: int) -> None:
    w = np.random.default_rng(0).standard_normal((4, 3))
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    made = graph([node], [("x", element, ["N", 4])], [("y", element, ["N", 3])], [weight("w", w, element)])
    engine = opened(made, None)
    dtype = np.dtype(np.float16 if element == FP16 else ml_dtypes.bfloat16)
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    exact = x.astype(dtype).astype(np.float64) @ w.astype(np.float32).astype(dtype).astype(np.float64)
    for _ in range(2):  # made by ONNX Runtime, then in a buffer of its own
        answer = engine.infer({"x": x})["y"]
        assert answer.dtype == dtype
        np.testing.assert_allclose(answer.astype(np.float64), exact, rtol=0.02, atol=0.02)


# Shapes.


def test_batches_of_any_size(opened: Opened) -> None:
    engine = opened(cnn())
    whole = engine.infer({"x": X})["y"]
    for size in (8, 3, 8, 1, 2, 4, 5, 6, 7, 3, 8):
        np.testing.assert_allclose(engine.infer({"x": X[:size]})["y"], whole[:size], rtol=1e-5, atol=1e-7)
    assert engine.infer({"x": X[:0]})["y"].shape == (0, 5)


def test_answers_are_copies_and_repeat_exactly(opened: Opened) -> None:
    engine = opened(cnn())
    answers = [engine.infer({"x": X})["y"] for _ in range(4)]
    other = engine.infer({"x": -X})["y"]
    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])
    assert relative(other, answers[0]) > 1e-2


def test_integers_and_several_outputs(opened: Opened) -> None:
    nodes = [
        helper.make_node("Add", ["x", "t"], ["sum"], name="add"),
        helper.make_node("TopK", ["sum", "k"], ["values", "indices"], name="topk"),
        helper.make_node("Cast", ["indices"], ["narrowed"], name="cast", to=int(TensorProto.INT32)),
    ]
    made = graph(
        nodes,
        [("x", INT64, ["N", 6]), ("t", INT64, ["N", 1])],
        [
            ("values", INT64, ["N", 2]),
            ("indices", INT64, ["N", 2]),
            ("narrowed", TensorProto.INT32, ["N", 2]),
        ],
        [weight("k", np.array([2]))],
    )
    engine = opened(made, None)
    rng = np.random.default_rng(0)
    for count in (4, 4, 2):
        x = rng.permuted(np.tile(np.arange(6) + 2**40, (count, 1)), axis=1)
        answers = engine.infer({"x": x, "t": np.arange(count)[:, None]})
        assert list(answers) == ["values", "indices", "narrowed"]
        np.testing.assert_array_equal(answers["indices"], np.argsort(-x, axis=1)[:, :2])
        assert (answers["values"] == np.array([2**40 + 5, 2**40 + 4]) + np.arange(count)[:, None]).all()
        assert (answers["values"].dtype, answers["narrowed"].dtype) == (np.int64, np.int32)
        np.testing.assert_array_equal(answers["narrowed"], answers["indices"])


def test_shapes_that_depend_on_the_data(opened: Opened) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="nonzero"),
        helper.make_node("Neg", ["x"], ["y"], name="neg"),
    ]
    ends: list[int | str] = ["N", 4]
    made = graph(nodes, [("x", FLOAT, ends)], [("places", INT64, [2, None]), ("y", FLOAT, ends)])
    engine = opened(made, None, cuda_graph=True)
    rng = np.random.default_rng(0)
    for share in (0.5, 0.9, 0.0, 0.2):
        x = (rng.random((3, 4)) < share).astype(np.float32)
        answers = engine.infer({"x": x})
        np.testing.assert_array_equal(answers["places"], np.stack(np.nonzero(x)))
        np.testing.assert_array_equal(answers["y"], -x)


def test_nodes_on_the_cpu_read_and_write_the_right_values(opened: Opened) -> None:
    """There is no Unique for CUDA: it runs on the CPU, between two nodes on the GPU."""
    nodes = [
        helper.make_node("Neg", ["x"], ["negative"], name="neg"),
        helper.make_node("Unique", ["negative"], ["values", "", "back"], name="unique"),
        helper.make_node("Neg", ["values"], ["y"], name="neg again"),
    ]
    outputs = [("y", FLOAT, [None]), ("back", INT64, ["N"])]
    engine = opened(graph(nodes, [("x", FLOAT, ["N"])], outputs), None)
    assert any("1 Unique" in note for note in opened.facts["notes"])
    for seed in range(20):
        x = np.random.default_rng(seed).integers(0, 50, 1000).astype(np.float32)
        answers = engine.infer({"x": x})
        np.testing.assert_array_equal(answers["y"], np.unique(x)[::-1])
        np.testing.assert_array_equal(answers["y"][answers["back"]], x)


def test_conditions_are_read_after_they_arrived(opened: Opened) -> None:
    engine = opened(branches(FLOAT), None)
    for size in (2, 100_000):
        x = np.linspace(-1, 1, size, dtype=np.float32)
        for condition in (True, False, True):
            c = np.float32(400.25)
            expected = x * c * c if condition else np.maximum(x + c, 0)
            answer = engine.infer({"x": x, "b": np.array(condition)})["y"]
            np.testing.assert_allclose(answer, expected * 0.0009765625, rtol=1e-5)


def test_outputs_that_are_declared_wrongly_still_come(opened: Opened) -> None:
    """Exporters that are told one name for two sizes write files like this."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshape")
    made = graph(
        [node], [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 2])], [weight("shape", np.array([-1, 2]))]
    )
    engine = opened(made, None)
    for size in (3, 3, 5):
        x = np.random.default_rng(size).random((size, 4), np.float32)
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], x.reshape(-1, 2))


def test_floats_of_another_width_are_cast(opened: Opened) -> None:
    engine = opened(cnn())
    assert relative(engine.infer({"x": X.astype(np.float64)})["y"], engine.infer({"x": X})["y"]) < 1e-6


# CUDA graphs.


def test_a_cuda_graph_replays_with_new_data(opened: Opened) -> None:
    plain, replayed = opened(cnn()), opened(cnn(), cuda_graph=True)
    assert replayed.cuda_graph
    rng = np.random.default_rng(0)
    for size in (8, 8, 8, 3, 3, 3, 8, 8):
        x = rng.standard_normal((size, 1, 12, 12)).astype(np.float32)
        np.testing.assert_allclose(
            replayed.infer({"x": x})["y"], plain.infer({"x": x})["y"], rtol=1e-5, atol=1e-7
        )


def test_more_shapes_than_are_kept_still_replay(opened: Opened) -> None:
    plain, replayed = opened(cnn()), opened(cnn(), cuda_graph=True)
    for size in [*range(1, 9), *range(1, 9)]:
        for _ in range(3):
            np.testing.assert_allclose(
                replayed.infer({"x": X[:size]})["y"], plain.infer({"x": X[:size]})["y"], rtol=1e-5, atol=1e-7
            )


def test_what_cannot_be_a_graph_runs_without_and_says_so(opened: Opened) -> None:
    engine = opened(branches(FLOAT), None, cuda_graph=True)
    assert not engine.cuda_graph
    assert any("cannot replay this model as a CUDA graph" in note for note in opened.facts["notes"])
    x = np.array([1, -2], np.float32)
    answer = engine.infer({"x": x, "b": np.array(True)})["y"]
    np.testing.assert_allclose(answer, x * 400.25**2 * 0.0009765625, rtol=1e-5)


def test_int8_with_a_cuda_graph(opened: Opened, record_property: Record) -> None:
    engine = opened(quantized(FP16), Precision.INT8, cuda_graph=True)
    record_property("captured", engine.cuda_graph)
    x = np.random.default_rng(0).uniform(-4, 4, (3, 2, 6, 6)).astype(np.float32)
    first = engine.infer({"x": x})["y"]
    for _ in range(3):
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], first)


# Refusals.


def test_a_closed_engine_refuses(opened: Opened) -> None:
    engine = opened(cnn())
    engine.infer({"x": X})
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.infer({"x": X})


def test_inputs_that_do_not_fit_are_refused(opened: Opened) -> None:
    engine = opened(cnn())
    with pytest.raises(EngineError, match=r"(?s)does not fit.*x: float32\[\?, 1, 12, 12\].*\[8, 1, 12, 11\]"):
        engine.infer({"x": X[..., :-1]})
    with pytest.raises(EngineError, match=r"(?s)does not have the engine's inputs.*nothing"):
        engine.infer({})


def test_what_onnxruntime_refuses_is_told_with_its_reason(opened: Opened) -> None:
    made = graph([helper.make_node("NoSuchOp", ["x"], ["y"])], [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])])
    with pytest.raises(EngineError, match=r"(?s)does not take the model.*NoSuchOp"):
        opened(made)
    assert not (opened.folder / "engine.onnx").exists()


def test_an_operator_without_a_kernel_is_named_with_what_helps(opened: Opened) -> None:
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"], name="pool")
    made = graph([node], [("x", BF16, ["N", 4, 8, 8])], [("y", BF16, ["N", 4, 1, 1])], opset=22)
    with pytest.raises(
        EngineError, match=r'(?s)GlobalAveragePool.*keep that node in FP32: exclude = \["pool"\]'
    ):
        opened(made, Precision.BF16)


def test_text_is_refused(opened: Opened) -> None:
    made = graph(
        [helper.make_node("Identity", ["x"], ["y"], name="same")],
        [("x", TensorProto.STRING, ["N"])], [("y", TensorProto.STRING, ["N"])],
    )  # fmt: skip
    with pytest.raises(EngineError, match=r"(?s)'x' is no tensor of numbers.*tensor\(string\)"):
        opened(made, None)


def test_out_of_memory_is_called_so_and_leaves_the_engine_usable(opened: Opened) -> None:
    """One value is spread over N x 2^30 floats: 256 of them ask for 1 TiB."""
    nodes = [
        helper.make_node("Expand", ["x", "wide"], ["many"], name="expand"),
        helper.make_node("ReduceMax", ["many"], ["y"], name="max", axes=[1], keepdims=1),
    ]
    made = graph(
        nodes, [("x", FLOAT, ["N", 1])], [("y", FLOAT, ["N", 1])], [weight("wide", np.array([1, 2**30]))]
    )
    engine = opened(made, None)
    with pytest.raises(EngineError, match=r"(?s)failed on a batch: the GPU is out of memory.*smaller batch"):
        engine.infer({"x": np.ones((256, 1), np.float32)})
    assert engine.infer({"x": np.full((1, 1), 3, np.float32)})["y"].tolist() == [[3.0]]


def test_a_closed_engine_gives_its_memory_back(opened: Opened) -> None:
    from trtcheck.backends.cuda import Device

    made, x, _exact = matmul(4096)
    with Device() as device:
        opened(made).close()
        free, _ = device.memory()
        engine = opened(made)
        engine.infer({"x": x})
        used = free - device.memory()[0]
        engine.close()
        assert used > 190 * 2**20  # weights, input and output of 64 MiB each
        assert free - device.memory()[0] < 64 * 2**20


def test_overflow_is_found_by_the_emulation(backend: OnnxRuntimeCuda, tmp_path: Path) -> None:
    lowered = save(overflowing_matmul(), tmp_path / "lowered.onnx")
    found = backend.find_overflow(lowered, {"x": np.array([[400]], np.float32)})
    assert found is not None
    assert "matmul" in found


# The demo: what the CPU emulates against what the GPU computes.


@pytest.fixture(scope="module")
def pixels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluation images and labels, and calibration images."""

    def prepared(file: str) -> np.ndarray:
        images = np.load(DEMO / file)["images"][:, None]
        return ((images.astype(np.float32) * np.float32(1 / 255) - 0.286) / 0.353).astype(np.float32)

    return prepared("eval.npz"), np.load(DEMO / "eval.npz")["labels"], prepared("calibration.npz")


# BF16 keeps 8 bits, so that more of the answers tie. INT8 with an FP16 rest agrees less than with an FP32
# rest: ONNX Runtime CUDA presumably quantizes in FP16 what the emulation quantizes in FP32 (not looked into).
@pytest.mark.parametrize(
    ("precision", "spec", "agreeing"),
    [
        (Precision.FP32, LoweringSpec(), 0.9999),
        (Precision.TF32, LoweringSpec(), 0.999),
        (Precision.FP16, LoweringSpec(), 0.999),
        (Precision.BF16, LoweringSpec(exclude=("*GlobalAveragePool",)), 0.998),  # CUDA has no kernel for it
        (Precision.INT8, LoweringSpec(method="percentile", percentile=99.999), 0.995),
        (Precision.INT8, LoweringSpec(method="percentile", percentile=99.999, rest="fp32"), 0.999),
    ],
)
def test_the_emulation_tells_the_truth_of_the_demo(
    opened: Opened, pixels: tuple[np.ndarray, np.ndarray, np.ndarray], precision: Precision,
    spec: LoweringSpec, agreeing: float, tmp_path: Path, record_property: Record,
) -> None:  # fmt: skip
    images, labels, calibration = pixels
    lowered = tmp_path / "demo.onnx"
    batches = [({"image": calibration[i : i + 100]}, 100) for i in range(0, 1000, 100)]
    int8 = precision is Precision.INT8
    lower(
        DEMO / "model.onnx", precision, spec, target=lowered, calibration=batches if int8 else None, threads=8
    )
    plan = BuildPlan(lowered, precision, {}, BuildSpec())
    cpu = OnnxRuntimeCpu(threads=8)
    cpu.build(plan, tmp_path / "cpu.onnx", lambda _count: None)
    engines = cpu.load(tmp_path / "cpu.onnx", plan), opened(lowered, precision)
    emulated, native = (
        np.concatenate([e.infer({"image": images[i : i + 500]})["logits"] for i in range(0, 10_000, 500)])
        for e in engines
    )
    emulated, native = emulated.astype(np.float64), native.astype(np.float64)
    agreement = float((emulated.argmax(1) == native.argmax(1)).mean())
    accuracies = [float((scores.argmax(1) == labels).mean()) for scores in (emulated, native)]
    for name, figure in {
        "agreement": agreement,
        "relative L2": f"{relative(native, emulated):.1e}",
        "accuracy emulated, native": accuracies,
        **{name: opened.facts[name] for name in ("providers", "types", "notes")},
    }.items():
        record_property(name, str(figure))
    assert agreement >= agreeing
    assert abs(accuracies[0] - accuracies[1]) <= 0.001
