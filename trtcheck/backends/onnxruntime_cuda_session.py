"""Sessions of ONNX Runtime on an NVIDIA GPU: opened, bound to buffers once a shape, run, closed."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from onnx import TensorProto, helper

from trtcheck import model as models
from trtcheck.backends.base import Closing
from trtcheck.backends.cuda import LESS_MEMORY, Binding, Buffer, Device, Stream
from trtcheck.backends.graph_types import ELEMENTS
from trtcheck.backends.onnxruntime import fitted, library, runtime_errors, session_options
from trtcheck.errors import BackendError, EngineError

if TYPE_CHECKING:
    from trtcheck.model import Signature

PROVIDER = "CUDAExecutionProvider"

DEVICE = "cuda"
"""What ONNX Runtime calls the GPU where inputs and outputs are bound."""

CUDA_HELP = "https://onnxruntime.ai/docs/install/#cuda-and-cudnn"

_SHAPES_KEPT = 4
"""Sets of shapes whose buffers are kept: a full and a last batch, and as many of another size."""

_NO_GRAPH = ("cuda graph", "graph capture")
_NO_KERNEL = re.compile(r"(?:an implementation|Provider type) for \S+ node with name '([^']+)'")
_KEEP_WIDE = 'keep that node in FP32: exclude = ["{}"] in the table of the precision'
_NO_MEMORY = ("failed to allocate memory", "out of memory", "alloc_failed", "available memory of")


def provider_options(
    index: int, stream: Stream | None = None, *, tf32: bool = False, cuda_graph: bool = False
) -> dict[str, str]:
    """Options of ONNX Runtime's CUDA provider, with which answers do not depend on the run.

    Args:
        index: Number of the GPU.
        stream: Where its work goes; None for a stream of ONNX Runtime's own.
        tf32: Whether products of FP32 tensors may read their inputs as TF32.
        cuda_graph: Whether runs are recorded and replayed.
    """
    options = {
        "device_id": str(index),
        "use_tf32": "1" if tf32 else "0",
        # The exhaustive search takes what is fastest at the moment, so that answers would depend on the run.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if cuda_graph else "0",
    }
    return options if stream is None else options | {"user_compute_stream": str(stream.handle)}


def open_on_gpu(source: str | bytes, where: Path | None, threads: int, options: Mapping[str, str]) -> Any:
    """An inference session on the GPU; ONNX Runtime puts the nodes that it has no kernel for on the CPU.

    Args:
        source: Path of the model, or the model itself, serialized.
        where: The file that a message names.
        threads: Threads inside an operator that runs on the CPU.
        options: See `provider_options`.

    Raises:
        BackendError: The provider's libraries cannot be loaded.
        EngineError: ONNX Runtime does not take the model.
    """
    settings = session_options(threads)
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = [(PROVIDER, dict(options)), "CPUExecutionProvider"]
    try:
        session = library().InferenceSession(source, settings, providers=providers, enable_fallback=0)
    except runtime_errors() as error:
        raise refusal("ONNX Runtime CUDA does not take the model", where, error) from error
    if PROVIDER not in session.get_providers():
        raise BackendError(
            "ONNX Runtime's CUDA provider cannot be loaded",
            expected=PROVIDER,
            found=_unloadable(),
            hint=CUDA_HELP,
        )
    return session


def refusal(what: str, where: Path | None, error: Exception) -> EngineError:
    """What ONNX Runtime's *error* becomes; a lack of memory is called so."""
    if any(sign in str(error).lower() for sign in _NO_MEMORY):
        return EngineError(f"{what}: the GPU is out of memory", where=where, found=error, hint=LESS_MEMORY)
    kernel = _NO_KERNEL.search(str(error))
    return EngineError(what, where=where, found=error, hint=_KEEP_WIDE.format(kernel[1]) if kernel else None)


def _unloadable() -> str:
    """What the system says of the provider's library, which ONNX Runtime itself only logs.

    Asked only once ONNX Runtime has failed to load it: loaded from here first, it would not work afterwards.
    """
    for file in sorted((Path(library().__file__).parent / "capi").glob("*onnxruntime_providers_cuda.*")):
        try:
            ctypes.CDLL(str(file))
        except OSError as error:
            return str(error)
    return "ONNX Runtime fell back to the CPU; its log tells why"


def _on_gpu(session: Any) -> dict[str, bool]:
    """By input, whether its readers want it on the GPU; conditions and shapes are read on the CPU."""
    wanted = zip(session.get_inputs(), session.get_input_memory_infos(), strict=True)
    return {value.name: info.name.lower() == DEVICE for value, info in wanted}


@final
class OrtCudaSession(Closing):
    """An ONNX file in ONNX Runtime on a GPU; a `trtcheck.backends.base.LoadedEngine`.

    Inputs and outputs lie in buffers that are bound once a shape; outputs whose shape the file leaves open
    are made by ONNX Runtime anew for every batch.

    Args:
        path: The file.
        threads: Threads inside an operator that runs on the CPU.
        index: Number of the GPU.
        tf32: Whether products of FP32 tensors may read their inputs as TF32.
        cuda_graph: Whether the work is replayed as a CUDA graph, where ONNX Runtime can.

    Raises:
        BackendError: The GPU or a library is not there.
        EngineError: ONNX Runtime does not take the file, or an input or output is no tensor of numbers.
    """

    def __init__(self, path: Path, *, threads: int, index: int, tf32: bool, cuda_graph: bool) -> None:
        self.path = path
        self._signature = models.read_signature(path)
        self._bound: dict[tuple[tuple[int, ...], ...], _Bound] = {}
        self._graphs = 0
        self._device = Device(index)
        try:
            self.stream = self._device.stream()
            self.cuda_graph = cuda_graph
            options = provider_options(index, self.stream, tf32=tf32, cuda_graph=cuda_graph)
            self._session: Any = self._opened(threads, options)
            self._refuse_other_than_numbers()
        except (BackendError, EngineError):
            self._session = None
            self._device.close()
            raise

    def _opened(self, threads: int, options: dict[str, str]) -> Any:
        try:
            session = open_on_gpu(str(self.path), self.path, threads, options)
            # A graph would keep the values that were read on the CPU while it was recorded.
            if not self.cuda_graph or all(_on_gpu(session).values()):
                return session
        except EngineError as error:
            if not (self.cuda_graph and any(sign in str(error).lower() for sign in _NO_GRAPH)):
                raise
        self.cuda_graph = False
        return open_on_gpu(str(self.path), self.path, threads, options | {"enable_cuda_graph": "0"})

    def _refuse_other_than_numbers(self) -> None:
        for value in (*self._session.get_inputs(), *self._session.get_outputs()):
            if ELEMENTS.get(value.type, TensorProto.STRING) == TensorProto.STRING:
                raise EngineError(
                    f"'{value.name}' is no tensor of numbers", where=self.path, expected=", ".join(ELEMENTS),
                    found=value.type,
                )  # fmt: skip

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of its inputs and outputs."""
        return self._signature

    @property
    def providers(self) -> dict[str, int]:
        """Nodes of the optimized graph by provider; empty where ONNX Runtime does not tell."""
        return {name: nodes.total() for name, nodes in self._placement().items()}

    @property
    def on_cpu(self) -> dict[str, int]:
        """Operators of the nodes that run on the CPU, with their number."""
        return dict(self._placement().get("CPUExecutionProvider", {}))

    def _placement(self) -> dict[str, Counter[str]]:
        ask = getattr(self._session, "get_provider_graph_assignment_info", None)
        found: dict[str, Counter[str]] = {}
        for part in ask() if ask is not None else ():
            found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
        return found

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch.

        Args:
            feeds: One array per input, first axis the batch. Floats of another width are cast to the input's.

        Returns:
            One array per output, by name.

        Raises:
            EngineError: Names, types or shapes do not fit, the GPU is out of memory, ONNX Runtime failed, or
                the session is closed.
        """
        if self._session is None:
            raise EngineError("the engine is closed", where=self.path)
        batch = fitted(feeds, self._signature, self.path)
        try:
            return self._bound_to(batch).run(batch)
        except runtime_errors() as error:
            raise refusal("ONNX Runtime CUDA failed on a batch", self.path, error) from error
        except BackendError as error:
            raise EngineError(str(error), where=self.path) from error

    def _bound_to(self, feeds: Mapping[str, np.ndarray]) -> _Bound:
        """The buffers for the shapes of *feeds*; those longest unused make room."""
        shapes = tuple(feeds[tensor.name].shape for tensor in self._signature.inputs)
        bound = self._bound.pop(shapes, None)
        if bound is None:
            while len(self._bound) >= _SHAPES_KEPT:
                self._bound.pop(next(iter(self._bound))).close()
            self._graphs += 1
            graph = self._graphs if self.cuda_graph else None
            bound = _Bound(self._session, self._device, self.stream, feeds, self._signature, graph)
        self._bound[shapes] = bound
        return bound

    def close(self) -> None:
        """Frees the session and its memory; a second time does nothing."""
        if self._session is None:
            return
        with suppress(BackendError):  # work that failed is told where it failed
            self.stream.synchronize()
        for bound in self._bound.values():
            bound.let_go()
        self._bound.clear()
        self._session = None  # before the stream that it works on
        self._device.close()


class _Bound:
    """The inputs and outputs of a session, bound to buffers for one set of shapes.

    The first run lets ONNX Runtime make all outputs. Those that come out as the file says then get a buffer
    of their own; what depends on the data, or is declared wrongly, stays ONNX Runtime's.
    """

    def __init__(
        self, session: Any, device: Device, stream: Stream, feeds: Mapping[str, np.ndarray],
        signature: Signature, graph: int | None,
    ) -> None:  # fmt: skip
        self._session = session
        self._device = device
        self._stream = stream
        self._outputs = {tensor.name: tensor.dtype for tensor in signature.outputs}
        self._place = (DEVICE, device.gpu.index)
        self._graph = graph
        self._options = self._run_options(None if graph is None else -1)
        self._binding = Binding(device, {name: (a.shape, a.dtype) for name, a in feeds.items()}, {})
        self._settled = False
        self._io: Any = session.io_binding()
        on_gpu = _on_gpu(session)
        for name, buffer in self._binding.inputs.items():
            if on_gpu[name]:
                self._bind(self._io.bind_input, name, self._place, buffer, buffer.address)
            else:  # copied from the GPU by ONNX Runtime itself, it came too late for its reader
                self._bind(self._io.bind_input, name, ("cpu", 0), buffer, buffer.host.ctypes.data)

    def _run_options(self, graph: int | None) -> Any:
        """Options of a run; -1 as *graph* keeps ONNX Runtime from recording it."""
        options = library().RunOptions()
        if graph is not None:
            options.add_run_config_entry("gpu_graph_id", str(graph))
        return options

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch."""
        self._binding.feed(feeds, self._stream)
        for name in self._outputs:
            if name not in self._binding.outputs:  # what the last run made is else taken for a buffer
                self._io.bind_output(name, *self._place)
        self._session.run_with_iobinding(self._io, self._options)
        answers = self._binding.fetch(self._stream)
        values = self._io.get_outputs() if len(answers) < len(self._outputs) else ()
        for (name, dtype), value in zip(self._outputs.items(), values, strict=False):
            if name not in answers:
                shape = tuple(value.shape())
                answers[name] = self._device.read(value.data_ptr(), shape, dtype, self._stream)
        if not self._settled:
            self._settle(answers)
        return {name: answers[name] for name in self._outputs}

    def _settle(self, answers: Mapping[str, np.ndarray]) -> None:
        """Gives a buffer to every output that came out as declared."""
        sizes = {
            symbol: size
            for value in self._session.get_inputs()
            for symbol, size in zip(value.shape, self._binding.inputs[value.name].shape, strict=False)
            if isinstance(symbol, str)
        }
        for value in self._session.get_outputs():
            shape = answers[value.name].shape
            if [sizes.get(size, size) for size in value.shape] == list(shape):
                buffer = self._binding.add_output(value.name, (shape, self._outputs[value.name]))
                self._bind(self._io.bind_output, value.name, self._place, buffer, buffer.address)
        # Recorded addresses must stay: a graph is for runs whose every output has its own buffer.
        if self._graph is not None and len(self._binding.outputs) == len(self._outputs):
            self._options = self._run_options(self._graph)
        self._settled = True

    def _bind(self, bind: Any, name: str, place: tuple[str, int], buffer: Buffer, address: int) -> None:
        element = int(helper.np_dtype_to_tensor_dtype(buffer.dtype))
        bind(name, *place, element, list(buffer.shape), address)

    def let_go(self) -> None:
        """Lets go of the session; the buffers are the device's to free."""
        self._io = self._session = None

    def close(self) -> None:
        """Frees the buffers."""
        self.let_go()
        self._binding.close()
