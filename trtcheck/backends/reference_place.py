"""Where the reference computes: the original FP32 model in ONNX Runtime, on the processor or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck.backends import ON_GPU, unusable
from trtcheck.backends.base import BuildPlan
from trtcheck.case import BuildSpec, Precision
from trtcheck.environment import processor, runtime_version
from trtcheck.errors import BackendError

if TYPE_CHECKING:
    from trtcheck.backends.base import Backend, TimedEngine

CPU, CUDA = "onnxruntime-cpu", "onnxruntime-cuda"


@dataclass(frozen=True)
class Place:
    """Where the reference computes, and with what.

    Attributes:
        provider: ``"onnxruntime-cpu"`` or ``"onnxruntime-cuda"``.
        version: Version of ONNX Runtime.
        device: The processor or GPU.
        reason: Why there.
        settings: What moves answers on a GPU besides: provider options and versions of CUDA's libraries.
    """

    provider: str
    version: str
    device: str
    reason: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes."""
        return self.provider == CUDA

    @property
    def name(self) -> str:
        """What asks for it by name: ``"cuda"`` or ``"cpu"``."""
        return "cuda" if self.on_gpu else "cpu"

    def identity(self) -> dict[str, Any]:
        """What its answers depend on besides model, data and batch size; JSON-ready, part of caches' keys.

        The processor's model is no part of it: runners of one CI service have several, and share a cache.
        """
        found: dict[str, Any] = {"provider": self.provider, "version": self.version}
        return {**found, "device": self.device, "settings": dict(self.settings)} if self.on_gpu else found

    def record(self) -> dict[str, str]:
        """What the report says of it, JSON-ready."""
        return {
            "provider": self.provider, "version": self.version, "device": self.device, "reason": self.reason,
        }  # fmt: skip


def place_of(asked: str, beside: str, open_named: Callable[[str], Backend]) -> Place:
    """Where the reference of an engine computes.

    Args:
        asked: One of `trtcheck.settings.REFERENCES`; ``auto`` takes the GPU beside an engine that does.
        beside: The engine's backend.
        open_named: Opens the backend of a name; called where the GPU is considered.

    Raises:
        BackendError: ``cuda`` was asked for, and ONNX Runtime cannot compute on a GPU here.
    """
    if asked == "cpu":
        return _on_cpu("asked for by name")
    if asked == "cuda":
        return _on_gpu("asked for by name", open_named)
    if beside not in ON_GPU:
        return _on_cpu(f"auto: beside {beside}")
    reason = unusable(CUDA)
    if reason is None:
        try:
            return _on_gpu(f"auto: beside {beside}", open_named)
        except BackendError as error:  # what is installed may still be broken
            reason = " ".join(str(error).split())
    return _on_cpu(f"auto: beside {beside}; not {CUDA}: {reason}")


def _on_cpu(reason: str) -> Place:
    return Place(CPU, runtime_version() or "", processor(), reason)


def _on_gpu(reason: str, open_named: Callable[[str], Backend]) -> Place:
    try:
        info = open_named(CUDA).info
    except BackendError as error:
        if reason.startswith("auto"):
            raise
        raise BackendError(
            "the reference cannot run on a GPU, which --trt-reference=cuda asks for",
            found=" ".join(str(error).split()), hint="--trt-reference=auto takes the CPU where that is so",
        ) from error  # fmt: skip
    return Place(CUDA, info.version, info.device, reason, {**info.settings, "use_tf32": "0"})


def load_fp32(
    backend: Backend, onnx: Path, threads: int, *, cuda_graph: bool = False, spin_wait: bool = False
) -> TimedEngine:
    """The original FP32 model in ONNX Runtime as it is, TF32 off.

    Args:
        backend: ``onnxruntime-cpu`` or ``onnxruntime-cuda``, opened.
        onnx: The original model.
        threads: Threads for inference on the processor; 0 takes every core that this process may use.
        cuda_graph: Whether the GPU's work is replayed as a CUDA graph, where ONNX Runtime can.
        spin_wait: Whether threads of the processor that wait spin.

    Raises:
        EngineError: ONNX Runtime does not take the model.
    """
    if backend.info.name == CPU:
        from trtcheck.backends.onnxruntime import reference_session

        return reference_session(onnx, threads, spin_wait=spin_wait)
    plan = BuildPlan(onnx, Precision.FP32, {}, BuildSpec(cuda_graph=cuda_graph), spin_wait)
    return backend.load(onnx, plan)
