"""How an engine is read and why it is refused, with a fake of TensorRT's module: none can be loaded here."""

from __future__ import annotations

import sys
from enum import Enum, IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import trtcheck.gpu
from trtcheck.backends import tensorrt
from trtcheck.backends.tensorrt import TensorRt
from trtcheck.backends.trt_child import answer
from trtcheck.backends.trt_describe import NO_INSPECTOR
from trtcheck.case import BuildSpec
from trtcheck.errors import BackendError, EngineError
from trtcheck.gpu import Gpu

GPU = Gpu(0, "some GPU", (8, 9), "GPU-0", 2**34, "580.1", "13.0")


class DataType(Enum):
    FLOAT, HALF, BF16, INT64 = range(4)


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class Diagnostics(IntEnum):
    VERSION_MISMATCH, UNSUPPORTED_CC, MALFORMED_ENGINE = 1, 2, 32


class FakeEngine:
    """One input ``x``, two outputs, two profiles."""

    num_io_tensors, num_layers, num_optimization_profiles, device_memory_size_v2 = 3, 7, 2, 4096
    tensors = (
        ("x", TensorIOMode.INPUT, DataType.HALF, (-1, 3)),
        ("y", TensorIOMode.OUTPUT, DataType.BF16, (-1, 5)),
        ("best", TensorIOMode.OUTPUT, DataType.INT64, (-1,)),
    )

    def create_execution_context(self):
        return object()

    def _of(self, name: str) -> tuple[Any, ...]:
        return next(found for found in self.tensors if found[0] == name)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index][0]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._of(name)[1]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._of(name)[2]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._of(name)[3]

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(1, 3), (4 + index, 3), (8, 3)]


class FakeRuntime:
    engine_header_size = 4
    engine: FakeEngine | None = FakeEngine()
    bits = 0
    says: tuple[str, ...] = ()

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, data: bytes) -> FakeEngine | None:
        for line in self.says:
            self.logger.log(1, line)
        return self.engine

    def get_engine_validity(self, header: bytes) -> tuple[str, int]:
        assert len(header) == self.engine_header_size
        return "INVALID", self.bits


@pytest.fixture
def runtime(monkeypatch) -> type[FakeRuntime]:
    """The runtime of a fake module ``tensorrt`` 11.4, in this process, on a machine with a fake GPU."""

    class Runtime(FakeRuntime):
        pass

    class ILogger:
        class Severity:
            ERROR = 1

    made = ModuleType("tensorrt")
    parts = {
        "__version__": "11.4.0", "Runtime": Runtime, "ILogger": ILogger, "DataType": DataType,
        "TensorIOMode": TensorIOMode, "EngineInvalidityDiagnostics": Diagnostics,
    }  # fmt: skip
    made.__dict__.update(parts)
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    monkeypatch.setattr(trtcheck.gpu, "find_gpu", lambda _index=0: GPU)
    return Runtime


def file(folder: Path) -> Path:
    path = folder / "model.engine"
    path.write_bytes(b"ftrt" + bytes(60))
    return path


def described(path: Path, **request: Any) -> dict[str, Any]:
    whole = {"command": "describe", "flavour": "tensorrt", "engine": str(path), "plugins": [],
             "host_code": True, **request}  # fmt: skip
    return answer(whole, lambda _count: None)


def test_inputs_outputs_profiles_and_memory_of_a_fake_engine_are_read(tmp_path, runtime):
    found = described(file(tmp_path))
    assert found["inputs"] == [
        {"name": "x", "dtype": "float16", "shape": [None, 3], "format": "LINEAR", "shape_tensor": False}
    ]
    assert [(t["name"], t["dtype"], t["shape"]) for t in found["outputs"]] == [
        ("y", "bfloat16", [None, 5]), ("best", "int64", [None]),
    ]  # fmt: skip
    assert [profile["x"]["opt"] for profile in found["profiles"]] == [[4, 3], [5, 3]]
    assert (found["memory_bytes"], found["nodes"]) == (4096, 7)
    assert (found["inspector"], found["inspector_note"]) == (None, NO_INSPECTOR)


def test_what_a_fake_runtime_logs_when_it_refuses_a_file_is_told_with_both_sides(tmp_path, runtime):
    runtime.engine, runtime.says = None, ("expecting library version 11.4.0 got 10.9.0",)
    with pytest.raises(EngineError, match="TensorRT cannot read the engine here") as caught:
        described(file(tmp_path))
    assert "expected: an engine for TensorRT 11.4.0 and some GPU, driver 580.1" in str(caught.value)
    assert "found:    expecting library version 11.4.0 got 10.9.0" in str(caught.value)


def test_the_diagnostics_of_a_fake_runtime_are_told_in_words(tmp_path, runtime):
    runtime.engine, runtime.bits = None, Diagnostics.UNSUPPORTED_CC | Diagnostics.MALFORMED_ENGINE
    with pytest.raises(EngineError, match="not built for this GPU's compute capability; the file is damaged"):
        described(file(tmp_path))


def test_a_fake_gpu_without_room_for_the_engine_is_told(tmp_path, runtime):
    runtime.engine, runtime.says = None, ("Error Code 2: OutOfMemory (requested 9000 bytes)",)
    with pytest.raises(EngineError, match="out of memory: the engine does not fit on the GPU"):
        described(file(tmp_path))


def test_an_engine_of_a_fake_runtime_is_not_read_without_its_plugins(tmp_path, runtime):
    with pytest.raises(EngineError, match="no such plugin library"):
        described(file(tmp_path), plugins=[str(tmp_path / "missing.so")])


def test_what_a_fake_child_found_becomes_signature_record_and_notes(tmp_path, runtime, monkeypatch):
    """The child's reply stands for that of a process with a GPU."""
    path = file(tmp_path)
    reply = described(path)
    replies = {"probe": {"version": "11.4.0", "builds": True}, "describe": reply}
    monkeypatch.setattr(tensorrt.child, "call", lambda _module, request, **_: replies[request["command"]])
    monkeypatch.setattr(tensorrt.backends, "missing", lambda _name: None)
    monkeypatch.setattr(tensorrt, "find_gpu", lambda _index=0: GPU)
    monkeypatch.setattr(tensorrt, "why_no_gpu", lambda: None)
    backend = TensorRt("tensorrt", cache=tmp_path)
    assert backend.cannot_run is None
    facts = backend.inspect(path, BuildSpec())
    assert [str(tensor) for tensor in facts.signature.inputs] == ["x: float16[?, 3]"]
    assert [str(tensor) for tensor in facts.signature.outputs] == ["y: bfloat16[?, 5]", "best: int64[?]"]
    assert facts.record["memory_bytes"] == 4096
    assert facts.record["engine_bytes"] == path.stat().st_size
    assert facts.record["types"] == {}
    assert facts.notes == (
        f"its layers are not known: {NO_INSPECTOR}",
        "it has 2 optimization profiles; the first one is tested",
    )


def test_a_fake_engine_that_ends_the_process_is_refused_by_the_child(tmp_path, monkeypatch):
    """A whole fake package, so that the child loads it too."""
    package = tmp_path / "packages" / "tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import os\n__version__ = '11.4.0'\n"
        "class DataType: pass\nclass TensorIOMode: pass\nclass Runtime:\n"
        "    def __init__(self, logger): pass\n"
        "    def deserialize_cuda_engine(self, data): os.abort()\n"
        "class ILogger:\n    pass\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setattr(tensorrt, "find_gpu", lambda _index=0: GPU)
    monkeypatch.setattr(tensorrt, "why_no_gpu", lambda: None)
    backend = TensorRt("tensorrt", cache=tmp_path)
    with pytest.raises(BackendError, match=r"loading model\.engine with TensorRT ended without") as caught:
        backend.load_prebuilt(file(tmp_path), BuildSpec())
    assert "SIGABRT" in str(caught.value)
