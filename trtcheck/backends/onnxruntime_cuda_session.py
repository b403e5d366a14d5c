"""Sessions of ONNX Runtime on an NVIDIA GPU: opened, bound to buffers once a shape, run, closed."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from onnx import TensorProto

from trtcheck import model as models
from trtcheck.backends.base import Closing
from trtcheck.backends.cuda import LESS_MEMORY, Device, Stream
from trtcheck.backends.device_timer import DeviceTimer
from trtcheck.backends.graph_types import ELEMENTS
from trtcheck.backends.onnxruntime import fitted, library, runtime_errors, session_options
from trtcheck.backends.onnxruntime_cuda_bound import Bound, Streams, wanted_on_gpu
from trtcheck.backends.onnxruntime_cuda_sets import BoundSets, Shapes, WorkedAhead, shapes_of
from trtcheck.errors import BackendError, EngineError
from trtcheck.worker import Worker

if TYPE_CHECKING:
    from trtcheck.model import Signature

PROVIDER = "CUDAExecutionProvider"

CUDA_HELP = "https://onnxruntime.ai/docs/install/#cuda-and-cudnn"

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


@final
class OrtCudaSession(Closing):
    """An ONNX file in ONNX Runtime on a GPU; a `trtcheck.backends.base.TimedEngine`.

    Inputs and outputs lie in buffers that are bound once a shape; outputs whose shape the file leaves open
    are made by ONNX Runtime anew for every batch.

    With a CUDA graph ONNX Runtime has the file open once for every set of shapes that is recorded: it plans
    convolutions anew when a batch of other shapes comes, and a graph holds kernels of the old plan. The first
    set is recorded, and those that are timed; all others share one session without a graph.

    Attributes:
        path: The file.
        cuda_graph: Whether the work is replayed as a CUDA graph.
        stream: Where the GPU works.
        worker: The thread to ask for many answers in: ONNX Runtime records a graph for each thread.

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
        self._bound = BoundSets(self._new_bound)
        self._timed: list[tuple[DeviceTimer, Bound]] = []
        self._graphs = 0
        self._recorded: dict[Shapes, Any] = {}
        self._unrecorded: Any = None
        self._threads = threads
        self._tf32 = tf32
        self.worker = Worker("trtcheck-gpu")
        self._device = Device(index)
        try:
            self._streams = Streams.of(self._device)
            self.stream = self._streams.compute
            self.cuda_graph = cuda_graph
            self._session: Any = self._opened()
            self._refuse_other_than_numbers()
        except (BackendError, EngineError):
            self._session = None
            self._device.close()
            raise

    def _open(self, *, cuda_graph: bool) -> Any:
        options = provider_options(
            self._device.gpu.index, self.stream, tf32=self._tf32, cuda_graph=cuda_graph
        )
        return open_on_gpu(str(self.path), self.path, self._threads, options)

    def _opened(self) -> Any:
        try:
            session = self._open(cuda_graph=self.cuda_graph)
            # A graph would keep the values that were read on the CPU while it was recorded.
            if not self.cuda_graph or all(wanted_on_gpu(session).values()):
                return session
        except EngineError as error:
            if not (self.cuda_graph and any(sign in str(error).lower() for sign in _NO_GRAPH)):
                raise
        self.cuda_graph = False
        return self._open(cuda_graph=False)

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
        batch = self._fitted(feeds)
        with self._failing():
            return self._bound.free(batch).run(batch)

    def infer_many(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Answers of many batches, in order and bit for bit those of `infer`.

        While the GPU works on a batch, the next is asked for and copied there, and the last is copied back. A
        batch of shapes that are new, or outputs of unknown shape, are run as by `infer`.

        Args:
            batches: One mapping a batch, as of `infer`; its arrays may change once the next one is asked for.

        Yields:
            As of `infer`, one a batch; the arrays stay as they are.

        Raises:
            EngineError: As of `infer`, in place of the answers of the batch that failed.
        """
        return WorkedAhead(self._fitted, self._bound.free, self._failing).answers(batches)

    def _fitted(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError("the engine is closed", where=self.path)
        return fitted(feeds, self._signature, self.path)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except runtime_errors() as error:
            raise refusal("ONNX Runtime CUDA failed on a batch", self.path, error) from error
        except BackendError as error:
            raise EngineError(str(error), where=self.path) from error

    def timer(
        self, feeds: Mapping[str, np.ndarray], *, transfers: bool = False, spin_wait: bool = False
    ) -> DeviceTimer:
        """What runs the session on one batch again and again; closed with the session.

        Args:
            feeds: One array per input, first axis the batch; copied to the GPU here.
            transfers: Whether the copies of inputs to the GPU and of outputs back are part of the time.
            spin_wait: Whether the host spins while it waits for the GPU.

        Raises:
            EngineError: As of `infer`.
        """
        batch = self._fitted(feeds)
        with self._failing():
            bound = self._new_bound(batch, timed=True)
            query = bound.query(batch, transfers=transfers)
            timer = DeviceTimer(
                self._device, self.stream, lambda: query, transfers=transfers, cuda_graph=bound.replayed,
                spin_wait=spin_wait, path=self.path, failing=self._failing,
            )  # fmt: skip
        self._timed.append((timer, bound))
        return timer

    def _new_bound(self, feeds: Mapping[str, np.ndarray], *, timed: bool = False) -> Bound:
        session, recorded = self._session_for(shapes_of(feeds), timed=timed)
        self._graphs += 1
        graph = self._graphs if recorded else None
        return Bound(session, self._device, self._streams, feeds, self._signature, graph)

    def _session_for(self, shapes: Shapes, *, timed: bool) -> tuple[Any, bool]:
        """The session for batches of *shapes*, and whether it records them."""
        if not self.cuda_graph:
            return self._session, False
        if not self._recorded:
            self._recorded[shapes] = self._session
        if shapes in self._recorded:
            return self._recorded[shapes], True
        if timed:
            self._recorded[shapes] = self._open(cuda_graph=True)
            return self._recorded[shapes], True
        if self._unrecorded is None:
            self._unrecorded = self._open(cuda_graph=False)
        return self._unrecorded, False

    def close(self) -> None:
        """Frees the session and its memory; a second time does nothing."""
        if self._session is None:
            return
        self.worker.close()
        with suppress(BackendError):  # work that failed is told where it failed
            for stream in self._streams:
                stream.synchronize()
        for timer, bound in self._timed:
            timer.close()
            bound.let_go()
        self._bound.let_go()
        self._timed.clear()
        self._recorded.clear()
        self._session = self._unrecorded = None  # before the stream that they work on
        self._device.close()
