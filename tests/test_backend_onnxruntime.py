"""The ONNX Runtime CPU backend: building, loading, running, and what it says when something does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import (
    BF16,
    FLOAT,
    FP16,
    cnn,
    graph,
    norm_by_hand,
    overflowing_matmul,
    plan_of,
    quantized,
    save,
    weight,
)
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from trtcheck import backends
from trtcheck.backends import KNOWN, open_backend
from trtcheck.backends.graph_types import typed
from trtcheck.backends.onnxruntime import OnnxRuntimeCpu, OrtSession, reference_session, session_options
from trtcheck.backends.products import computes
from trtcheck.case import Numerics, Precision
from trtcheck.errors import BackendError, EngineError

X = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)


@pytest.fixture
def backend() -> OnnxRuntimeCpu:
    return OnnxRuntimeCpu(threads=2)


@pytest.fixture
def cnn_path(tmp_path: Path) -> Path:
    return save(cnn(), tmp_path / "cnn.onnx")


# Opening.


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-cpu"])
def test_the_backend_says_what_it_is_and_why(name: str, tmp_path: Path) -> None:
    opened = open_backend(name, threads=1, cache=tmp_path)
    info = opened.info
    assert name in KNOWN
    assert info.name == "onnxruntime-cpu"
    assert name in info.reason or info.reason == "asked for by name"
    assert info.version[0].isdigit()
    assert info.device.endswith("cores")
    assert (opened.suffix, opened.cannot_run) == (".onnx", None)


def test_tf32_is_part_of_the_identity(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    plans = [
        plan_of(path, Precision.FP32),
        plan_of(path, Precision.FP32, tf32=True),
        plan_of(path, Precision.TF32),
        plan_of(path, Precision.FP16),
        plan_of(path, Precision.FP16, tf32=True),
    ]
    assert [backend.identity(plan)["tf32"] for plan in plans] == [False, False, True, False, True]


def test_the_package_of_backends_loads_nothing_heavy() -> None:
    code = "import sys, trtcheck.backends; print(sorted({'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_missing_onnxruntime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r'(?s)not installed.*pip install "pytest-trtcheck\[cpu\]"'):
        OnnxRuntimeCpu(threads=1)


# Building.


def test_fp32_is_native_and_its_engine_is_the_model(
    backend: OnnxRuntimeCpu, cnn_path: Path, tmp_path: Path
) -> None:
    assert backend.numerics(plan_of(cnn_path)) is Numerics.NATIVE
    target = tmp_path / "engine.onnx"
    facts = backend.build(plan_of(cnn_path), target)
    assert onnx.load(target) == onnx.load(cnn_path)
    assert facts["nodes"] == 9
    assert facts["types"] == {"FLOAT": 9, "quantized": 0}
    assert facts["engine_bytes"] == target.stat().st_size
    with backend.load(target) as engine, reference_session(cnn_path, 2) as reference:
        np.testing.assert_array_equal(engine.infer({"x": X})["y"], reference.infer({"x": X})["y"])


def test_an_engine_holds_its_weights(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save_model(cnn(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    expected = reference_session(path, 1).infer({"x": X})["y"]
    backend.build(plan_of(path), tmp_path / "engine.onnx")
    (folder / "w.bin").unlink()
    np.testing.assert_array_equal(backend.load(tmp_path / "engine.onnx").infer({"x": X})["y"], expected)


def test_fp16_is_emulated(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    lowered = save(convert_float_to_float16(cnn(), keep_io_types=True), tmp_path / "fp16.onnx")
    assert backend.numerics(plan_of(lowered)) is Numerics.EMULATED
    facts = backend.build(plan_of(lowered), tmp_path / "engine.onnx")
    assert facts["nodes"] == 11
    assert facts["types"] == {"FLOAT": 1, "FLOAT16": 10, "quantized": 0}
    assert facts["notes"] == []
    assert json.loads(json.dumps(facts)) == facts
    engine = backend.load(tmp_path / "engine.onnx")
    assert [str(t) for t in (*engine.signature.inputs, *engine.signature.outputs)] == [
        "x: float32[?, 1, 12, 12]",
        "y: float32[?, 5]",
    ]
    found = engine.infer({"x": X})["y"]
    wide = reference_session(save(cnn(), tmp_path / "cnn.onnx"), 2).infer({"x": X})["y"]
    assert 1e-6 < np.abs(found - wide).max() < 1e-2


def test_quantized_products_are_counted(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    lowered = save(quantized(FP16), tmp_path / "int8.onnx")
    assert backend.numerics(plan_of(lowered)) is Numerics.EMULATED
    facts = backend.build(plan_of(lowered), tmp_path / "engine.onnx")
    assert facts["types"] == {"FLOAT": 1, "FLOAT16": 5, "INT8": 1, "quantized": 1}


def test_every_product_says_what_it_computes_in(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    """Two nodes share a name and one has none: each is told apart by its output."""
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], name="enter", to=FP16),
        helper.make_node("MatMul", ["n", "w"], ["a"], name="product"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="product"),
        helper.make_node("Cast", ["b"], ["wide"], name="widen", to=FLOAT),
        helper.make_node("MatMul", ["wide", "v"], ["y"]),
        helper.make_node("MatMul", ["i", "i"], ["j"], name="integers"),
    ]
    model = graph(
        nodes,
        [("x", FLOAT, [2, 2]), ("i", TensorProto.INT32, [2, 2])],
        [("y", FLOAT, [2, 2]), ("j", TensorProto.INT32, [2, 2])],
        [weight("w", np.eye(2), FP16), weight("v", np.eye(2), FLOAT)],
    )
    assert computes(typed(model)) == {
        "product": "fp16",
        "product (output 'b')": "fp16",
        "MatMul (output 'y')": "fp32",
    }
    lowered = save(quantized(FP16), tmp_path / "int8.onnx")
    assert backend.build(plan_of(lowered), tmp_path / "engine.onnx")["computes"] == {"conv": "int8"}


def test_bf16_passes_the_border_as_fp32_and_says_so(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Mul", ["x", "x"], ["y"], name="mul")], [("x", BF16, ["N"])], [("y", BF16, ["N"])]
    )
    lowered = save(model, tmp_path / "bf16.onnx")
    facts = backend.build(plan_of(lowered), tmp_path / "engine.onnx")
    assert facts["notes"] == ["BF16 inputs and outputs pass the border as FP32: x, y"]
    found = backend.load(tmp_path / "engine.onnx").infer({"x": np.array([1.5, 1.0078125], np.float32)})["y"]
    assert found.tolist() == [2.25, 1.015625]  # 1.0078125 ** 2 = 1.01568603515625 in FP32


@pytest.mark.parametrize("element", [FLOAT, FP16], ids=["native", "emulated"])
def test_a_model_that_onnx_runtime_refuses(backend: OnnxRuntimeCpu, tmp_path: Path, element: int) -> None:
    model = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        [("x", element, ["N", 3])],
        [("y", element, None)],
        [weight("w", np.ones((4, 2)), element)],
    )
    path = save(model, tmp_path / "bad.onnx")
    with pytest.raises(EngineError, match=r"(?s)bad\.onnx: ONNX Runtime does not take the model.*product"):
        backend.build(plan_of(path), tmp_path / "engine.onnx")
    assert not (tmp_path / "engine.onnx").exists()


def test_a_graph_that_cannot_be_emulated_names_file_and_node(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    model = overflowing_matmul()
    model.graph.initializer[0].CopyFrom(weight("w", [[400]], FLOAT))
    path = save(model, tmp_path / "mixed.onnx")
    with pytest.raises(EngineError, match=r"mixed\.onnx: matmul: the lowered model is wrongly typed"):
        backend.build(plan_of(path), tmp_path / "engine.onnx")


def test_the_overflow_is_told_in_a_sentence(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    path = save(norm_by_hand(), tmp_path / "norm.onnx")
    feeds = {"x": np.full((2, 19), 100, np.float32)}
    assert backend.find_overflow(path, feeds) == (
        "ReduceSum_12 reaches 1.9e5, FP16 ends at 65504: keep it in FP32"
    )
    assert backend.find_overflow(path, {"x": np.ones((2, 19), np.float32)}) is None


# Running.


def test_floats_of_another_width_are_cast(tmp_path: Path) -> None:
    session = OrtSession(save(norm_by_hand(), tmp_path / "m.onnx"), session_options(1))
    half = session.infer({"x": np.ones((1, 19), np.float16)})["y"]
    assert half.dtype == np.float16
    np.testing.assert_array_equal(session.infer({"x": np.ones((1, 19), np.float64)})["y"], half)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"(?s)inputs.*expected: x.*found: +nothing"),
        ({"x": X, "z": X}, r"(?s)inputs.*expected: x.*found: +x, z"),
        ({"image": X}, r"(?s)inputs.*expected: x.*found: +image"),
        (
            {"x": X.astype(np.int32)},
            r"(?s)expected: x: float32\[\?, 1, 12, 12\].*found: +x: int32\[8, 1, 12, 12\]",
        ),
        ({"x": X[0]}, r"(?s)expected: x: float32\[\?, 1, 12, 12\].*found: +x: float32\[1, 12, 12\]"),
        ({"x": X[:, :, :5]}, r"(?s)expected: x: float32\[\?, 1, 12, 12\].*found: +x: float32\[8, 1, 5, 12\]"),
    ],
    ids=["missing", "extra", "renamed", "dtype", "rank", "size"],
)
def test_a_batch_that_does_not_fit(cnn_path: Path, feeds: dict[str, np.ndarray], message: str) -> None:
    with reference_session(cnn_path, 1) as session, pytest.raises(EngineError, match=message):
        session.infer(feeds)


def test_a_batch_that_fails_inside_names_the_node(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"], name="halve")],
        [("x", FLOAT, ["N"])], [("y", FLOAT, [2, "M"])], [weight("s", np.array([2, -1]))],
    )  # fmt: skip
    session = reference_session(save(model, tmp_path / "m.onnx"), 1)
    with pytest.raises(EngineError, match=r"(?s)failed on a batch.*halve"):
        session.infer({"x": np.ones(3, np.float32)})


def test_a_closed_engine_answers_no_more(cnn_path: Path) -> None:
    with reference_session(cnn_path, 1) as session:
        session.infer({"x": X})
    with pytest.raises(EngineError, match="closed"):
        session.infer({"x": X})


def test_sequences_are_refused(tmp_path: Path) -> None:
    model = graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], [("x", FLOAT, [1])], [])
    model.graph.output.append(helper.make_tensor_sequence_value_info("y", FLOAT, None))
    with pytest.raises(EngineError, match=r"'y' is no tensor"):
        reference_session(save(model, tmp_path / "m.onnx"), 1)


def test_a_file_that_is_no_engine(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    path = tmp_path / "engine.onnx"
    path.write_bytes(b"no engine")
    with pytest.raises(EngineError, match=r"engine\.onnx: ONNX Runtime does not take the model"):
        backend.load(path)


def test_integer_and_scalar_inputs_pass_as_they_are(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Add", ["i", "j"], ["y"])],
        [("i", TensorProto.INT32, ["N"]), ("j", TensorProto.INT32, [])],
        [("y", TensorProto.INT32, ["N"])],
    )
    session = reference_session(save(model, tmp_path / "m.onnx"), 1)
    found = session.infer({"i": np.arange(3, dtype=np.int32), "j": np.array(5, np.int32)})["y"]
    assert found.tolist() == [5, 6, 7]


@pytest.mark.parametrize("fp16", [False, True], ids=["native", "emulated"])
def test_answers_depend_on_neither_threads_nor_batch(tmp_path: Path, fp16: bool) -> None:
    model = cnn(channels=32, size=28)
    path = save(convert_float_to_float16(model, keep_io_types=True) if fp16 else model, tmp_path / "m.onnx")
    OnnxRuntimeCpu(threads=1).build(plan_of(path), tmp_path / "engine.onnx")
    x = np.random.default_rng(1).standard_normal((24, 1, 28, 28)).astype(np.float32)
    one = OrtSession(tmp_path / "engine.onnx", session_options(1))
    expected = one.infer({"x": x})["y"]
    two = OrtSession(tmp_path / "engine.onnx", session_options(2)).infer({"x": x})["y"]
    np.testing.assert_array_equal(two, expected)
    for size in (1, 5):
        parts = [one.infer({"x": x[i : i + size]})["y"] for i in range(0, len(x), size)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


# Layers.


def test_contributed_operators_are_built_and_looked_into(backend: OnnxRuntimeCpu, tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("QuickGelu", ["x"], ["g"], name="gelu", domain="com.microsoft"),
            helper.make_node("Mul", ["g", "g"], ["y"], name="square"),
        ],
        [("x", FP16, ["N"])], [("y", FP16, ["N"])], domains={"com.microsoft": 1},
    )  # fmt: skip
    lowered = save(model, tmp_path / "fp16.onnx")
    assert backend.build(plan_of(lowered), tmp_path / "engine.onnx")["nodes"] == 2
    found = backend.find_overflow(lowered, {"x": np.array([1, 256], np.float16)})
    assert found == "square reaches 65536, FP16 ends at 65504: keep it in FP32"


@pytest.mark.parametrize(
    "module", ["graph_types", "products", "tf32", "emulation", "probes", "finding", "census", "overflow"]
)
def test_what_emulates_knows_no_runtime(module: str) -> None:
    code = f"import sys, trtcheck.backends.{module}; print([m for m in sys.modules if 'onnxruntime' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    source = (Path(backends.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    lines = [line.strip() for line in source.splitlines()]
    assert not [line for line in lines if line.startswith(("import ", "from ")) and "onnxruntime" in line]
