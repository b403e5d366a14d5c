"""How an engine is bound and run, with fakes of TensorRT's bindings and of the GPU: no engine can run here.

Which methods the real bindings have, with how many arguments, ``test_tensorrt_signatures.py`` checks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from trtcheck.backends.trt_context import Context, make_context
from trtcheck.backends.trt_describe import NAMES_ONLY, layers_by_type
from trtcheck.backends.trt_engine import TrtEngine
from trtcheck.backends.trt_runtime import Opened, logger_of
from trtcheck.backends.trt_signature import signature_of
from trtcheck.errors import BackendError, EngineError

PATH = Path("model.engine")
Shape = tuple[int, ...]


class FakeLibrary:
    """TensorRT's module, as far as running takes it."""

    class ILogger:
        def __init__(self) -> None:
            pass

        class Severity:
            ERROR = 1


class FakeBuffer:
    """Memory whose "GPU side" is a second array, found by its address."""

    def __init__(self, device: FakeDevice, shape: Shape, dtype: np.dtype) -> None:
        self.host = np.zeros(shape, dtype)
        self.far = np.zeros(shape, dtype)
        self.address = len(device.memory) + 1
        self.closed = False
        device.memory[self.address] = self

    def upload(self, stream: FakeStream) -> None:
        self.far[...] = self.host

    def download(self, stream: FakeStream) -> None:
        self.host[...] = self.far

    def close(self) -> None:
        self.closed = True


class FakeGraph:
    def __init__(self, work: Callable[[], None]) -> None:
        self.work, self.launched, self.closed = work, 0, False

    def launch(self, stream: FakeStream) -> None:
        self.launched += 1
        self.work()

    def close(self) -> None:
        self.closed = True


class FakeStream:
    handle = 77

    def __init__(self) -> None:
        self.graphs: list[FakeGraph] = []
        self.failing = False

    def synchronize(self) -> None:
        if self.failing:
            raise BackendError("CUDA cannot finish the work of a stream")

    def capture(self, work: Callable[[], None]) -> FakeGraph:
        self.graphs.append(FakeGraph(work))
        return self.graphs[-1]


class FakeDevice:
    def __init__(self, room: int = 100) -> None:
        self.memory: dict[int, FakeBuffer] = {}
        self.queue = FakeStream()
        self.room = room
        self.closed = False

    def stream(self) -> FakeStream:
        return self.queue

    def buffer(self, shape: Shape, dtype: Any) -> FakeBuffer:
        if len(self.memory) >= self.room:
            raise BackendError("out of memory: CUDA cannot allocate")
        return FakeBuffer(self, shape, np.dtype(dtype))

    def close(self) -> None:
        self.closed = True


class FakeContext:
    """An engine of two inputs ``x`` and ``y``: their sum, in other types, and the best column."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.calls: list[str] = []
        self.open_output = False
        self.fails = ""

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        self.calls.append(f"shape {name}")
        self.shapes[name] = shape
        return self.fails != "shape"

    def infer_shapes(self) -> list[str]:
        if self.fails == "infer":
            raise RuntimeError("shapes do not match")
        return [] if set(self.shapes) == {"x", "y"} else ["y"]

    def get_tensor_shape(self, name: str) -> Shape:
        rows, columns = self.shapes["x"]
        whole = {"x": (rows, columns), "y": (rows, columns), "best": (rows,)}
        return (-1, columns) if self.open_output and name == "sum" else whole.get(name, (rows, columns))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls.append(f"address {name}")
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == FakeStream.handle
        self.calls.append("execute")
        if self.fails == "execute":
            return False
        near = {name: self.device.memory[address] for name, address in self.addresses.items()}
        assert not any(buffer.closed for buffer in near.values())
        total = near["x"].far + near["y"].far
        near["sum"].far[...] = total
        near["narrow"].far[...] = total
        near["best"].far[...] = total.argmax(axis=1)
        return True


def tensor(
    name: str, dtype: str, *shape: int | None, layout: str = "LINEAR", shape_tensor: bool = False
) -> dict[str, Any]:
    return {
        "name": name, "dtype": dtype, "shape": list(shape), "format": layout, "shape_tensor": shape_tensor,
    }  # fmt: skip


LIMITS = {"min": [1, 3], "opt": [2, 3], "max": [6, 3]}
DESCRIBED = {
    "inputs": [tensor("x", "float32", None, 3), tensor("y", "float32", None, 3)],
    "outputs": [tensor("sum", "float16", None, 3), tensor("narrow", "bfloat16", None, 3),
                tensor("best", "int64", None)],
    "profiles": [{"x": LIMITS, "y": LIMITS}],
}  # fmt: skip


def fake_engine(
    *, room: int = 100, cuda_graph: bool = False, own_graphs: bool = False
) -> tuple[TrtEngine, FakeDevice, FakeContext]:
    device = FakeDevice(room)
    raw = FakeContext(device)
    opened = Opened(FakeLibrary, None, None, [])
    saved = lambda: raw.calls.append("saved")  # noqa: E731
    context = Context(raw, own_graphs, saved)
    engine = TrtEngine(PATH, opened, context, DESCRIBED, device, cuda_graph=cuda_graph)  # type: ignore[arg-type]
    return engine, device, raw


def feeds(rows: int, value: float = 1.0) -> dict[str, np.ndarray]:
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return {"x": x, "y": np.full((rows, 3), value, np.float32)}


def test_a_fake_engine_answers_in_the_types_of_its_outputs():
    engine, _, _ = fake_engine()
    answers = engine.infer(feeds(2, 0.5))
    assert [str(output.dtype) for output in engine.signature.outputs] == ["float16", "bfloat16", "int64"]
    assert answers["sum"].tolist() == [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]]
    assert answers["sum"].dtype == np.float16
    assert answers["narrow"].dtype == ml_dtypes.bfloat16
    assert answers["best"].tolist() == [2, 2]
    assert answers["best"].dtype == np.int64


def test_a_fake_engine_keeps_no_answer_of_the_batch_before():
    engine, _, _ = fake_engine()
    first = engine.infer(feeds(2, 0.0))["sum"].copy()
    kept = engine.infer(feeds(2, 0.0))
    second = engine.infer(feeds(2, 8.0))["sum"]
    assert (kept["sum"] == first).all()
    assert (second == first + 8).all()


def test_shapes_and_addresses_of_a_fake_engine_are_set_once_a_shape():
    engine, device, raw = fake_engine()
    for _ in range(3):
        engine.infer(feeds(2))
    bound = ["shape x", "shape y"] + [f"address {name}" for name in ("x", "y", "sum", "narrow", "best")]
    assert raw.calls == [*bound, "execute", "execute", "execute"]
    assert len(device.memory) == 5
    raw.calls.clear()
    engine.infer(feeds(4))
    engine.infer(feeds(2))
    assert raw.calls == [*bound, "execute", *bound, "execute"]
    assert len(device.memory) == 10  # nothing new for the shape that was known


def test_a_fake_engine_frees_the_buffers_of_shapes_that_were_bound_longest_ago():
    engine, device, _ = fake_engine()
    for rows in (1, 2, 3, 4, 5, 6, 1):
        assert engine.infer(feeds(rows))["best"].shape == (rows,)
    assert sum(not buffer.closed for buffer in device.memory.values()) == 4 * 5


def test_a_fake_engine_casts_floats_and_refuses_other_names_and_shapes():
    engine, _, _ = fake_engine()
    wide = {name: array.astype(np.float64) for name, array in feeds(2).items()}
    assert engine.infer(wide)["sum"].shape == (2, 3)
    with pytest.raises(EngineError, match="does not have the engine's inputs"):
        engine.infer({"x": feeds(2)["x"]})
    with pytest.raises(EngineError, match="'x' does not fit"):
        engine.infer({**feeds(2), "x": np.zeros((2, 4), np.float32)})


def test_a_batch_outside_of_a_fake_engines_profile_is_refused_with_its_limits():
    engine, _, raw = fake_engine()
    with pytest.raises(EngineError, match="outside of the engine's profile: input 'x'") as caught:
        engine.infer(feeds(7))
    assert "expected: [1, 3] to [6, 3]" in str(caught.value)
    assert "found:    [7, 3]" in str(caught.value)
    assert "profile = {min" in str(caught.value)
    assert raw.calls == []
    assert engine.infer(feeds(6))["best"].shape == (6,)


def test_a_cuda_graph_of_a_fake_engine_is_recorded_once_a_shape_after_a_first_run():
    engine, device, raw = fake_engine(cuda_graph=True)
    for value in (1.0, 2.0):
        assert (engine.infer(feeds(2, value))["sum"] == feeds(2)["x"] + value).all()
    (graph,) = device.queue.graphs
    assert graph.launched == 2
    assert raw.calls.count("execute") == 3  # once before the recording, and twice inside of the graph
    for rows in (3, 2):  # recorded anew: a graph holds what the context had for its shapes
        engine.infer(feeds(rows))
    assert [made.launched for made in device.queue.graphs] == [2, 1, 1]
    assert [made.closed for made in device.queue.graphs] == [True, True, False]


def test_a_fake_engine_whose_work_cannot_be_recorded_says_so_every_time():
    engine, device, _ = fake_engine(cuda_graph=True)

    def capture(_work: Callable[[], None]) -> FakeGraph:
        raise BackendError("CUDA cannot record a graph")

    device.queue.capture = capture
    for _ in range(2):
        with pytest.raises(EngineError, match="cannot be replayed as a CUDA graph") as caught:
            engine.infer(feeds(2))
        assert "found:    CUDA cannot record a graph" in str(caught.value)
        assert "cuda_graph = false" in str(caught.value)


def test_a_fake_engine_whose_runtime_makes_graphs_itself_records_none():
    engine, device, raw = fake_engine(cuda_graph=True, own_graphs=True)
    engine.infer(feeds(2))
    assert device.queue.graphs == []
    assert raw.calls.count("execute") == 1


def test_an_output_of_a_fake_engine_whose_shape_depends_on_the_data_is_refused_by_name():
    engine, _, raw = fake_engine()
    raw.open_output = True
    with pytest.raises(EngineError, match="the shape of output 'sum' depends on the data"):
        engine.infer(feeds(2))


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("execute", "TensorRT failed on a batch"),
        ("infer", "shapes do not match"),
        ("shape", r"input 'x' does not take \[2, 3\]"),
    ],
)
def test_what_a_fake_engine_refuses_is_an_engine_error(fails, message):
    engine, _, raw = fake_engine()
    raw.fails = fails
    with pytest.raises(EngineError, match=message):
        engine.infer(feeds(2))


def test_what_the_library_logs_while_a_fake_engine_fails_is_part_of_the_message():
    engine, _, raw = fake_engine()
    logger = logger_of(FakeLibrary)
    logger.log(1, "of an earlier call")

    def execute(_stream: int) -> bool:
        logger.log(2, "a mere warning")
        logger.log(1, "Cuda Runtime (out of memory)")
        return False

    raw.execute_async_v3 = execute
    with pytest.raises(EngineError, match="out of memory: the engine cannot run this batch") as caught:
        engine.infer(feeds(2))
    assert "Cuda Runtime (out of memory)" in str(caught.value)
    assert "warning" not in str(caught.value)
    assert "earlier" not in str(caught.value)


def test_memory_that_a_fake_gpu_does_not_have_is_freed_again_and_told():
    engine, device, _ = fake_engine(room=3)
    with pytest.raises(BackendError, match="out of memory"):
        engine.infer(feeds(2))
    assert all(buffer.closed for buffer in device.memory.values())


def test_a_fake_engine_that_failed_to_bind_a_shape_takes_the_next_one():
    engine, device, raw = fake_engine()
    engine.infer(feeds(2))
    device.room = len(device.memory)
    with pytest.raises(BackendError, match="out of memory"):
        engine.infer(feeds(3))
    raw.calls.clear()
    assert engine.infer(feeds(2))["sum"].shape == (2, 3)
    assert "shape x" in raw.calls  # the context had taken the shape that failed


def test_a_closed_fake_engine_answers_no_more_and_frees_the_gpu_once():
    engine, device, raw = fake_engine()
    engine.infer(feeds(2))
    device.queue.failing = True
    engine.close()
    engine.close()
    assert device.closed
    assert raw.calls.count("saved") == 1
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.infer(feeds(2))


def test_a_fake_engine_that_does_not_take_an_address_is_not_run():
    engine, _, raw = fake_engine()
    raw.set_tensor_address = lambda name, _address: name != "best"
    with pytest.raises(EngineError, match="'best' does not take its address"):
        engine.infer(feeds(2))
    assert "execute" not in raw.calls


def test_shapes_and_what_numpy_has_no_type_or_layout_for_are_refused_by_name():
    with pytest.raises(EngineError, match="input 'n' is a shape"):
        signature_of({"inputs": [tensor("n", "int64", 2, shape_tensor=True)], "outputs": []}, PATH)
    with pytest.raises(EngineError, match="output 's' is a shape"):
        signature_of({"inputs": [], "outputs": [tensor("s", "int64", 2, shape_tensor=True)]}, PATH)
    with pytest.raises(EngineError, match="'y' has a type that numpy does not have"):
        signature_of({"inputs": [], "outputs": [tensor("y", "fp8", None)]}, PATH)
    with pytest.raises(EngineError, match="'x' is not laid out row by row") as caught:
        signature_of({"inputs": [tensor("x", "float16", None, layout="CHW16")], "outputs": []}, PATH)
    assert "CHW16" in str(caught.value)


class FakeRtxEngine:
    """TensorRT for RTX's engine, as far as contexts go."""

    def __init__(self, context: object) -> None:
        self.context, self.config = context, FakeRuntimeConfig()

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return self.config

    def create_execution_context(self, config: object = None) -> object:
        return self.context


class FakeRuntimeConfig:
    def __init__(self) -> None:
        self.cuda_graph_strategy = self.dynamic_shapes_kernel_specialization_strategy = None
        self.read: bytes | None = None
        self.cache: object = None

    def create_runtime_cache(self) -> FakeRuntimeConfig:
        return self

    def deserialize(self, data: bytes) -> bool:
        self.read = data
        return True

    def serialize(self) -> bytes:
        return b"kernels"

    def set_runtime_cache(self, cache: object) -> bool:
        self.cache = cache
        return True


class FakeRtx(FakeLibrary):
    class CudaGraphStrategy:
        WHOLE_GRAPH_CAPTURE, DISABLED = "whole", "off"

    class DynamicShapesKernelSpecializationStrategy:
        EAGER = "eager"


def test_what_a_fake_rtx_compiled_is_kept_for_the_next_process(tmp_path):
    file = tmp_path / "runtime" / "key.cache"
    for read in (None, b"kernels"):
        engine = FakeRtxEngine("context")
        made = make_context(PATH, Opened(FakeRtx, None, engine, []), file, cuda_graph=read is not None)
        assert made.raw == "context"
        assert made.own_graphs
        assert engine.config.read == read
        assert engine.config.cache is engine.config
        assert engine.config.cuda_graph_strategy == ("off" if read is None else "whole")
        assert engine.config.dynamic_shapes_kernel_specialization_strategy == "eager"
        made.save()
    assert file.read_bytes() == b"kernels"
    assert list(file.parent.iterdir()) == [file]
    plain = file.with_name("plain")
    plain.write_bytes(b"")
    assert file.stat().st_mode == plain.stat().st_mode  # a cache may be shared


def test_what_a_fake_rtx_cannot_keep_leaves_the_last_cache(tmp_path, monkeypatch):
    file = tmp_path / "key.cache"
    file.write_bytes(b"before")
    monkeypatch.setattr(FakeRuntimeConfig, "serialize", lambda _cache: None)
    made = make_context(PATH, Opened(FakeRtx, None, FakeRtxEngine("context"), []), file, cuda_graph=False)
    made.save()
    assert file.read_bytes() == b"before"


def test_a_cache_that_cannot_be_read_is_done_without_by_a_fake_rtx(tmp_path, monkeypatch):
    file = tmp_path / "key.cache"
    file.write_bytes(b"of another user")

    def denied(_path: Path) -> bytes:
        raise PermissionError("denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    engine = FakeRtxEngine("context")
    made = make_context(PATH, Opened(FakeRtx, None, engine, []), file, cuda_graph=False)
    assert made.raw == "context"
    assert engine.config.read is None


def test_a_fake_tensorrt_keeps_nothing_and_a_context_that_cannot_be_made_is_an_error(tmp_path):
    file = tmp_path / "key.cache"
    made = make_context(PATH, Opened(FakeLibrary, None, FakeRtxEngine("context"), []), file, cuda_graph=True)
    made.save()
    assert (made.own_graphs, file.exists()) == (False, False)
    with pytest.raises(EngineError, match="out of memory: the engine cannot be made ready to run"):
        make_context(
            PATH, Opened(FakeLibrary, None, FakeRtxEngine(None), ["OutOfMemory"]), file, cuda_graph=False
        )


OF_10 = """{"Layers": [
  {"Name": "a", "Outputs": [{"Name": "t", "Format/Datatype": "Row major linear FP32 format"}]},
  {"Name": "b", "Outputs": [{"Name": "t", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]},
  {"Name": "c", "Outputs": [{"Name": "t", "Format/Datatype": "Half NHWC8"}, {"Name": "u", "Format/Datatype": "Float"}]},
  {"Name": "d", "Outputs": []}], "Bindings": ["x"]}"""  # noqa: E501
OF_11 = """{"Layers": [
  {"Name": "a", "Outputs": [{"Name": "t", "Format": "Row major linear", "DataType": "BF16"}]},
  {"Name": "b", "Outputs": [{"Name": "t", "Format": "Row major linear", "DataType": "UInt8"}]}],
  "I/O Tensors": [{"Name": "x"}]}"""


@pytest.mark.parametrize(
    ("text", "layers", "note"),
    [
        (OF_10, {"FLOAT": 1, "FLOAT16": 1, "INT8": 1, "unknown": 1}, None),
        (OF_11, {"BFLOAT16": 1, "UINT8": 1}, None),
        ('{"Layers": ["a", "b"], "Bindings": []}', None, NAMES_ONLY),
        ('{"Layers": []}', None, NAMES_ONLY),
        ("no json", None, "the engine inspector's answer cannot be read"),
        ("[]", None, "the engine inspector's answer cannot be read"),
    ],
)
def test_the_inspectors_answers_as_documented_for_both_versions_are_read(text, layers, note):
    assert layers_by_type(text) == (layers, note)
