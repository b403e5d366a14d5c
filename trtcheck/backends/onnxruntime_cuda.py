"""ONNX Runtime on an NVIDIA GPU: every precision computed by the GPU's own arithmetic, Q/DQ as written."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck import model as models
from trtcheck.backends.base import BackendInfo, BuildPlan
from trtcheck.backends.cuda_libraries import library_versions
from trtcheck.backends.graph_types import is_quantized, typed
from trtcheck.backends.onnxruntime import (
    LOG_ERROR,
    OnnxRuntimeCpu,
    element_types,
    library,
    runtime_errors,
    serialized,
)
from trtcheck.backends.onnxruntime_cuda_session import (
    CUDA_HELP,
    PROVIDER,
    OrtCudaSession,
    open_on_gpu,
    provider_options,
    refusal,
)
from trtcheck.backends.products import facts
from trtcheck.case import Numerics, Precision
from trtcheck.errors import BackendError, EngineError
from trtcheck.gpu import find_gpu, require_cuda

if TYPE_CHECKING:
    from trtcheck.progress import Advance

_BUILD = 2
"""Counts changes of how engines are built, so that older ones in the cache are not taken."""

_ALIKE = ("cudnn_conv_algo_search", "arena_extend_strategy")
_OF_AN_ENGINE = ("use_tf32", "enable_cuda_graph")
"""The provider's options that move answers or times: those that all engines have alike, and the others."""

_INT8_NOTE = "INT8 computed in floating point by ONNX Runtime CUDA: accuracy counts, latency does not"
_INSTALL = 'pip install "pytest-trtcheck[gpu]"'


def _required() -> Any:
    """The library, if it was made for CUDA."""
    runtime = library()
    available = runtime.get_available_providers()
    if PROVIDER not in available:
        raise BackendError(
            "onnxruntime-gpu is not installed",
            expected=PROVIDER,
            found=f"onnxruntime {runtime.__version__} with {', '.join(available)}",
            hint=f"pip uninstall onnxruntime, then {_INSTALL}",
        )
    if not hasattr(runtime.InferenceSession, "get_input_memory_infos"):
        raise BackendError(
            "onnxruntime-gpu is too old", expected="1.23 or later", found=runtime.__version__, hint=_INSTALL
        )
    return runtime


def _preload(runtime: Any) -> str:
    """Loads CUDA and cuDNN from the nvidia packages; returns what could not be loaded."""
    if not hasattr(runtime, "preload_dlls"):
        return ""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        runtime.preload_dlls()
    return "; ".join(told.getvalue().split("\n")).strip("; ")


@final
class OnnxRuntimeCuda:
    """ONNX Runtime's CUDA provider; a `trtcheck.backends.base.Backend`.

    Args:
        threads: Threads inside an operator on the CPU; 0 takes every core that this process may use.
        reason: Why this backend was taken.

    Raises:
        BackendError: onnxruntime-gpu, the driver, a GPU or a library of CUDA is missing; it tells which.
    """

    def __init__(self, *, threads: int, reason: str = "asked for by name") -> None:
        runtime = _required()
        self._threads = threads
        self._gpu = find_gpu()
        version = str(runtime.__version__)
        require_cuda(self._gpu, getattr(runtime, "cuda_version", "") or "0", f"onnxruntime-gpu {version}")
        runtime.set_default_logger_severity(LOG_ERROR)  # or it warns of a missing plugin with every session
        missed = _preload(runtime)
        try:
            _try_out(self._gpu.index)
        except (BackendError, EngineError) as error:
            raise BackendError(
                f"ONNX Runtime CUDA does not work on {self._gpu}",
                found=missed or " ".join(str(error).split()),
                hint=CUDA_HELP,
            ) from error
        self._info = BackendInfo(
            "onnxruntime-cuda", version, self._gpu.name, reason, self._gpu.driver,
            {**{name: provider_options(0)[name] for name in _ALIKE}, **library_versions()},
        )  # fmt: skip

    @property
    def info(self) -> BackendInfo:
        """What this backend is and where it runs."""
        return self._info

    @property
    def suffix(self) -> str:
        """Engines are ONNX files."""
        return ".onnx"

    @property
    def cannot_run(self) -> str | None:
        """Nothing speaks against it, or the constructor would have refused."""
        return None

    def identity(self, plan: BuildPlan) -> Mapping[str, Any]:
        """What an engine depends on besides the lowered model."""
        return {
            "build": _BUILD,
            "onnxruntime": self._info.version,
            "gpu": self._gpu.name,
            "tf32": plan.tf32,
            "cuda_graph": plan.spec.cuda_graph,
            "settings": dict(self._info.settings),
        }

    def numerics(self, plan: BuildPlan) -> Numerics:  # noqa: ARG002 (of the protocol)
        """The GPU computes what was asked for, whatever *plan* it is."""
        return Numerics.NATIVE

    def build(self, plan: BuildPlan, target: Path, advance: Advance) -> Mapping[str, Any]:
        """Writes the lowered graph as it is into *target*, with its weights inside.

        Args:
            plan: What is built.
            target: The engine's file; left there only if ONNX Runtime takes it.
            advance: Called with the number of steps done.

        Returns:
            As of `trtcheck.backends.base.Backend`, and ``providers``: how many nodes of the optimized graph
            run on the GPU (``CUDAExecutionProvider``) and how many on the CPU, where ONNX Runtime tells;
            ``on_cpu``: the latter by operator; ``provider_options``: those that move answers or times.

        Raises:
            EngineError: ONNX Runtime does not take the model, or this GPU has no TF32.
        """
        capability = self._gpu.compute_capability
        if plan.precision is Precision.TF32 and capability < (8, 0):
            raise EngineError(
                f"{self._gpu.name} has no TF32", where=plan.lowered,
                expected="compute capability 8.0 or later", found=".".join(map(str, capability)),
            )  # fmt: skip
        model = models.load(plan.lowered)
        try:
            content = facts(typed(model, element_types, check=False), tf32=plan.tf32)
        except EngineError as error:
            raise EngineError(str(error), where=plan.lowered) from error
        target.write_bytes(serialized(model, plan.lowered))
        try:
            with self.load(target, plan) as session:
                providers, on_cpu, captures = session.providers, session.on_cpu, session.cuda_graph
        except (BackendError, EngineError):
            target.unlink()
            raise
        notes = [_INT8_NOTE] if is_quantized(model) else []
        if on_cpu:
            listed = ", ".join(f"{count} {name}" for name, count in sorted(on_cpu.items()))
            notes.append(f"on the CPU, for ONNX Runtime CUDA has no kernel or prefers it so: {listed}")
        if plan.spec.cuda_graph and not captures:
            notes.append("ONNX Runtime CUDA cannot replay this model as a CUDA graph; it runs without")
        advance(1)
        options = provider_options(0, tf32=plan.tf32, cuda_graph=captures)
        return {
            **content, "providers": providers, "on_cpu": on_cpu,
            "provider_options": {name: options[name] for name in (*_ALIKE, *_OF_AN_ENGINE)},
            "engine_bytes": target.stat().st_size, "notes": notes,
        }  # fmt: skip

    def load(self, engine: Path, plan: BuildPlan | None = None) -> OrtCudaSession:
        """Loads a built engine.

        Raises:
            EngineError: The file cannot be loaded here.
        """
        return OrtCudaSession(
            engine,
            threads=self._threads,
            index=self._gpu.index,
            tf32=plan is not None and plan.tf32,
            cuda_graph=plan is not None and plan.spec.cuda_graph,
        )

    def find_overflow(self, lowered: Path, feeds: Mapping[str, np.ndarray]) -> str | None:
        """Names the nodes whose output leaves the narrow type's range on *feeds*, or None.

        The emulation on the CPU finds them: there every tensor can be looked at.
        """
        return OnnxRuntimeCpu(threads=self._threads).find_overflow(lowered, feeds)


def _try_out(index: int) -> None:
    """Runs one convolution: what is missing is found out before the first model."""
    session = open_on_gpu(_tiny().SerializeToString(), None, 1, provider_options(index))
    try:
        session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})
    except runtime_errors() as error:
        raise refusal("ONNX Runtime CUDA failed on a convolution", None, error) from error


def _tiny() -> onnx.ModelProto:
    """One convolution."""
    sizes = [1, 1, 4, 4]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in "xy")
    weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "try-out", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
