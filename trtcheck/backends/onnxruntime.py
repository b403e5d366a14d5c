"""ONNX Runtime on the CPU: FP32 natively, every other precision emulated."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import ml_dtypes
import numpy as np
import onnx

from trtcheck import model as models
from trtcheck.backends.base import BackendInfo, Closing
from trtcheck.backends.emulation import emulate, is_emulated
from trtcheck.backends.graph_types import ELEMENTS, narrow_border, typed
from trtcheck.backends.host_timer import HostTimer
from trtcheck.backends.overflow import first_overflow
from trtcheck.backends.products import facts
from trtcheck.case import Numerics
from trtcheck.environment import processor, usable_cores
from trtcheck.errors import BackendError, EngineError

if TYPE_CHECKING:
    from trtcheck.backends.base import BuildPlan
    from trtcheck.model import Signature, Tensor
    from trtcheck.progress import Advance

PROVIDERS = ("CPUExecutionProvider",)

_BUILD_VERSION = 5
"""Counts changes of how engines are built, so that older ones in the cache are not taken."""

_FLOATS = tuple(np.dtype(t) for t in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16))
LOG_ERROR = 3
_SPINNING = "session.intra_op.allow_spinning"


def library() -> Any:
    """The package onnxruntime.

    Raises:
        BackendError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "onnxruntime is not installed", found=error, hint='pip install "pytest-trtcheck[cpu]"'
        ) from error
    if onnxruntime.__file__ is None:  # what uninstalling one of two distributions leaves
        raise BackendError(
            "onnxruntime is a folder without a package", hint="pip install --force-reinstall onnxruntime"
        )
    return onnxruntime


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a dozen classes without a base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type))
    return (RuntimeError, *(value for value in own if issubclass(value, Exception)))


def session_options(threads: int, *, candidate: bool = True, spin_wait: bool = False) -> Any:
    """Session options whose answers do not depend on the run.

    Args:
        threads: Threads inside an operator; 0 takes every core that this process may use.
        candidate: Whether the session runs an engine (Q/DQ executed as written), not the reference.
        spin_wait: Whether waiting threads spin: quicker, and the cores are taken from the other session, from
            decoding and from other workers.
    """
    options = library().SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_ERROR
    options.use_deterministic_compute = True
    options.graph_optimization_level = library().GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry(_SPINNING, "1" if spin_wait else "0")
    if candidate:
        # Fused into integer kernels, Q/DQ pairs would round differently from what the graph says.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_session(
    source: str | bytes,
    where: str | Path | None,
    options: Any,
    providers: Sequence[str | tuple[str, Mapping[str, Any]]] = PROVIDERS,
) -> Any:
    """An inference session of ONNX Runtime.

    Args:
        source: Path of the model, or the model itself, serialized.
        where: The file that a message names.
        options: Session options, see `session_options`.
        providers: Execution providers, alone or with their options, the preferred ones first.

    Raises:
        BackendError: ONNX Runtime is not installed.
        EngineError: ONNX Runtime does not take the model.
    """
    try:
        return library().InferenceSession(source, options, providers=list(providers))
    except runtime_errors() as error:
        raise EngineError("ONNX Runtime does not take the model", where=where, found=error) from error


def run_session(
    session: Any, names: Sequence[str], feeds: Mapping[str, np.ndarray], where: Path | None
) -> list[Any]:
    """The outputs *names* of *session* for *feeds*.

    Raises:
        EngineError: ONNX Runtime failed.
    """
    with failing_on_a_batch(where):
        return list(session.run(list(names), dict(feeds)))


@contextmanager
def failing_on_a_batch(where: Path | None) -> Iterator[None]:
    """Turns what ONNX Runtime raises while it runs into an `EngineError`."""
    try:
        yield
    except runtime_errors() as error:
        raise EngineError("ONNX Runtime failed on a batch", where=where, found=error) from error


def serialized(model: onnx.ModelProto, where: Path | None) -> bytes:
    """The bytes of *model*, its weights inside.

    Raises:
        EngineError: It is larger than one ONNX file may be.
    """
    from google.protobuf.message import EncodeError

    try:
        data: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise EngineError(
            "the model does not fit into one ONNX file", where=where, expected="less than 2 GB", found=error
        ) from error
    return data


def element_types(model: onnx.ModelProto, names: Collection[str]) -> dict[str, int]:
    """The element types that ONNX Runtime gives *names*; empty if it does not take the model."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    present = {value.name for value in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    options = session_options(1)
    options.graph_optimization_level = library().GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = open_session(serialized(probe, None), None, options)
    except EngineError:
        # The caller names the node that it could not type; a model that cannot be typed cannot be run either.
        return {}
    return {out.name: ELEMENTS[out.type] for out in session.get_outputs() if out.type in ELEMENTS}


def run_once(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], threads: int = 0
) -> dict[str, np.ndarray]:
    """All outputs of *model* for one batch.

    Raises:
        EngineError: ONNX Runtime does not take the model or the batch.
    """
    signature = models.signature_of(model, Path("model"))
    session = open_session(serialized(model, None), None, session_options(threads))
    names = [output.name for output in signature.outputs]
    return dict(zip(names, run_session(session, names, fitted(feeds, signature, None), None), strict=True))


def fitted(
    feeds: Mapping[str, np.ndarray], signature: Signature, where: Path | None
) -> dict[str, np.ndarray]:
    """*feeds* in the order and the types of *signature*'s inputs; floats of another width are cast.

    Args:
        feeds: One batch, by input name.
        signature: The engine's.
        where: The file that a message names.

    Raises:
        EngineError: Names, types or shapes do not fit.
    """
    wanted = [tensor.name for tensor in signature.inputs]
    if set(wanted) != set(feeds):
        raise EngineError(
            "the batch does not have the engine's inputs",
            where=where, expected=", ".join(wanted), found=", ".join(feeds) or "nothing",
        )  # fmt: skip
    return {tensor.name: _fitted_array(feeds[tensor.name], tensor, where) for tensor in signature.inputs}


def _fitted_array(array: np.ndarray, tensor: Tensor, where: Path | None) -> np.ndarray:
    shape = tensor.shape
    ranks = shape is None or (
        len(shape) == array.ndim
        and all(size in (None, have) for size, have in zip(shape, array.shape, strict=True))
    )
    widths = array.dtype in _FLOATS and tensor.dtype in _FLOATS
    if not ranks or not (widths or array.dtype == tensor.dtype):
        dims = ", ".join(str(size) for size in array.shape)
        raise EngineError(
            f"input '{tensor.name}' does not fit the engine",
            where=where, expected=tensor, found=f"{tensor.name}: {array.dtype}[{dims}]",
        )  # fmt: skip
    with np.errstate(over="ignore"):  # a pixel beyond FP16 becomes infinite, as on hardware
        return array.astype(tensor.dtype, copy=False)


@final
class OrtSession(Closing):
    """An ONNX file in ONNX Runtime; a `trtcheck.backends.base.TimedEngine`.

    Args:
        path: The file.
        options: Session options, from `session_options`.

    Raises:
        EngineError: ONNX Runtime does not take the file, or an output is no tensor.
    """

    def __init__(self, path: Path, options: Any) -> None:
        self.path = path
        self._session: Any = open_session(str(path), path, options)
        for value in (*self._session.get_inputs(), *self._session.get_outputs()):
            if not value.type.startswith("tensor("):
                raise EngineError(
                    f"'{value.name}' is no tensor", where=path, expected="tensors only", found=value.type,
                    hint="export the model without ZipMap (skl2onnx: options={'zipmap': False})",
                )  # fmt: skip
        self._signature = models.read_signature(path)
        self._spin_wait: bool = options.get_session_config_entry(_SPINNING) == "1"
        self._timers: list[HostTimer] = []

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of its inputs and outputs."""
        return self._signature

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch.

        Args:
            feeds: One array per input, first axis the batch. Floats of another width are cast to the input's.

        Returns:
            One array per output, by name.

        Raises:
            EngineError: Names, types or shapes do not fit, ONNX Runtime failed, or the session is closed.
        """
        batch = self._fitted(feeds)
        names = [output.name for output in self._signature.outputs]
        return dict(zip(names, run_session(self._session, names, batch, self.path), strict=True))

    def _fitted(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError("the engine is closed", where=self.path)
        return fitted(feeds, self._signature, self.path)

    def timer(
        self, feeds: Mapping[str, np.ndarray], *, transfers: bool = False, spin_wait: bool = False
    ) -> HostTimer:
        """What runs the session on one batch again and again; closed with the session.

        Inputs are read where they lie. Outputs get their memory in a first run and keep it, as in an
        application that binds them.

        Args:
            feeds: One array per input, first axis the batch, not to be written to while it is timed.
            transfers: Without effect: there is no GPU to copy to.
            spin_wait: Without effect: the threads wait as the session's options say, and so says the mode.

        Raises:
            EngineError: Names, types or shapes do not fit, ONNX Runtime failed, or the session is closed.
        """
        del transfers, spin_wait
        batch = self._fitted(feeds)
        failing = partial(failing_on_a_batch, self.path)
        with failing():
            bound = self._session.io_binding()
            for name, array in batch.items():
                bound.bind_cpu_input(name, np.asarray(array, order="C"))
            for output in self._signature.outputs:
                bound.bind_output(output.name)
            # Without run options: ONNX Runtime 1.32 takes 36 µs to find nothing in them.
            run = partial(self._session.run_with_iobinding, bound)
            run()
        made = HostTimer(run, path=self.path, spin_wait=self._spin_wait, failing=failing)
        self._timers.append(made)
        return made

    def close(self) -> None:
        """Frees the session."""
        for timer in self._timers:
            timer.close()
        self._timers.clear()
        self._session = None


def reference_session(onnx: Path, threads: int, *, spin_wait: bool = False) -> OrtSession:
    """The original FP32 model as it is, on the CPU (which has no TF32).

    Raises:
        BackendError: ONNX Runtime is not installed.
        EngineError: ONNX Runtime does not take the model.
    """
    return OrtSession(onnx, session_options(threads, candidate=False, spin_wait=spin_wait))


@final
class OnnxRuntimeCpu:
    """ONNX Runtime's CPU provider; a `trtcheck.backends.base.Backend`.

    Args:
        threads: Threads inside an operator; 0 takes every core that this process may use.
        reason: Why this backend was taken.

    Raises:
        BackendError: ONNX Runtime is not installed.
    """

    def __init__(self, *, threads: int, reason: str = "asked for by name") -> None:
        self._threads = threads or usable_cores()
        self._info = BackendInfo(
            name="onnxruntime-cpu",
            version=str(library().__version__),
            device=f"{processor()}, {os.cpu_count()} cores",
            reason=reason,
        )

    @property
    def info(self) -> BackendInfo:
        """What this backend is and where it runs."""
        return self._info

    @property
    def suffix(self) -> str:
        """Suffix of the engines' files: they are ONNX models."""
        return ".onnx"

    @property
    def cannot_run(self) -> str | None:
        """None: where ONNX Runtime is installed, its CPU provider runs."""
        return None

    def identity(self, plan: BuildPlan) -> dict[str, Any]:
        """What an engine of *plan* depends on besides the lowered model; the same on every machine."""
        return {"version": self._info.version, "build_version": _BUILD_VERSION, "tf32": plan.tf32}

    def numerics(self, plan: BuildPlan) -> Numerics:
        """Native where the lowered model computes in FP32 throughout, else emulated."""
        emulated = is_emulated(models.load(plan.lowered, weights=False), tf32=plan.tf32)
        return Numerics.EMULATED if emulated else Numerics.NATIVE

    def build(self, plan: BuildPlan, target: Path, advance: Advance = lambda _count: None) -> dict[str, Any]:  # noqa: ARG002
        """Writes the graph that ONNX Runtime is to run into *target*, with its weights inside.

        Args:
            plan: What is built; of its settings only ``tf32`` says anything to a CPU.
            target: The engine's file; written only if ONNX Runtime takes it.
            advance: Not called, for there is nothing to wait for.

        Returns:
            ``nodes``, ``types``, ``products`` and ``computes`` of the lowered model (see
            `trtcheck.backends.products.facts`), ``engine_bytes`` and ``notes``.

        Raises:
            EngineError: ONNX Runtime does not take the model, or it cannot be emulated.
        """
        where = plan.lowered
        model = models.load(where)
        try:
            emulated = is_emulated(model, tf32=plan.tf32)
            engine = emulate(model, element_types, tf32=plan.tf32) if emulated else model
            content = facts(typed(model, element_types, check=emulated), tf32=plan.tf32)
        except EngineError as error:
            raise EngineError(str(error), where=where) from error
        data = serialized(engine, where)
        open_session(data, where, session_options(self._threads))
        target.write_bytes(data)
        border = narrow_border(model)
        notes = [f"BF16 inputs and outputs pass the border as FP32: {', '.join(border)}"] if border else []
        return {**content, "engine_bytes": len(data), "notes": notes}

    def load(self, engine: Path, plan: BuildPlan | None = None) -> OrtSession:
        """Loads an engine.

        Args:
            engine: The file; whatever is emulated is part of it.
            plan: Says whether waiting threads spin; without it they sleep.

        Raises:
            EngineError: The file cannot be loaded here.
        """
        spin_wait = plan is not None and plan.spin_wait
        return OrtSession(engine, session_options(self._threads, spin_wait=spin_wait))

    def find_overflow(self, lowered: Path, feeds: Mapping[str, np.ndarray]) -> str | None:
        """Names the first node whose result is not finite on *feeds* although its inputs are, or None.

        Where more nodes leave the range, all are named, and what to exclude.
        """
        found = first_overflow(
            models.load(lowered),
            feeds,
            run=lambda model, batch: run_once(model, batch, self._threads),
            ask=element_types,
        )
        return None if found is None else str(found)
