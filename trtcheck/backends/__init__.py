"""Backends: what builds and runs engines. Opening one is what loads its runtime."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck.environment import is_installed
from trtcheck.errors import BackendError

if TYPE_CHECKING:
    from trtcheck.backends.base import Backend, TimedEngine
    from trtcheck.gpu import Gpu

TENSORRT = ("tensorrt", "tensorrt-rtx")
"""Backends that build and run TensorRT engines."""

FASTEST_FIRST = (*TENSORRT, "onnxruntime-cuda", "onnxruntime-cpu")
"""The backends in the order in which ``auto`` tries them."""

KNOWN = ("auto", *TENSORRT, "onnxruntime", "onnxruntime-cuda", "onnxruntime-cpu")
"""Names that ``--trt-backend`` takes."""

_LIBRARIES = {
    "tensorrt": ("TensorRT", "tensorrt", "tensorrt"),
    "tensorrt-rtx": ("TensorRT for RTX", "tensorrt_rtx", "tensorrt-rtx"),
    "onnxruntime-cuda": ("onnxruntime-gpu", "onnxruntime", "gpu"),
    "onnxruntime-cpu": ("onnxruntime", "onnxruntime", "cpu"),
}
"""By backend: the library's name, its module, and the extra that installs it."""

ON_GPU = (*TENSORRT, "onnxruntime-cuda")
"""The backends whose engines run on a GPU."""


@dataclass(frozen=True)
class Choice:
    """The backend that a name stands for on this machine.

    Attributes:
        name: The backend: one of `FASTEST_FIRST`.
        reason: Why it was taken, and why others were not.
    """

    name: str
    reason: str


def missing(name: str) -> BackendError | None:
    """The error that says how to install the library of backend *name*, if it is not installed.

    Nothing is imported: a library that is there and broken is found out when it is opened.
    """
    if name not in _LIBRARIES:
        return None
    library, module, extra = _LIBRARIES[name]
    there = is_installed(module)
    if name == "onnxruntime-cuda" and there:
        there = _has_cuda_provider()
    if there:
        return None
    command = f'pip install "pytest-trtcheck[{extra}]"'
    if name == "onnxruntime-cuda" and is_installed(module):  # both hold the same module
        command = f"pip uninstall -y onnxruntime && {command}"
    return BackendError(f"{library} is not installed", hint=command)


def _has_cuda_provider() -> bool:
    """Whether the installed ONNX Runtime, of whichever distribution, brings its CUDA provider."""
    spec = find_spec("onnxruntime")
    folders = spec.submodule_search_locations if spec is not None else None
    return any(list(Path(folder).glob("capi/*onnxruntime_providers_cuda*")) for folder in folders or ())


def choose(name: str) -> Choice:
    """The backend that *name* stands for here, by what is installed and what the driver says.

    Args:
        name: One of `KNOWN`; a backend asked for by name is never replaced by another.

    Raises:
        BackendError: There is no such backend.
    """
    if name not in KNOWN:
        raise BackendError(f"there is no backend '{name}'", expected=", ".join(KNOWN), found=name)
    if name in FASTEST_FIRST:
        return Choice(name, "asked for by name")
    candidates = FASTEST_FIRST if name == "auto" else ("onnxruntime-cuda", "onnxruntime-cpu")
    skipped: list[str] = []
    for candidate in candidates[:-1]:
        reason = unusable(candidate)
        if reason is None:
            return Choice(candidate, "; ".join([f"{name}: the first that works here", *skipped]))
        skipped.append(f"not {candidate}: {reason}")
    return Choice(candidates[-1], "; ".join([f"{name}: what works here without a GPU", *skipped]))


def unusable(name: str) -> str | None:
    """Why backend *name* cannot run engines here, in a few words; None where nothing speaks against it.

    Args:
        name: One of `FASTEST_FIRST`.
    """
    absent = missing(name)
    if absent is not None:
        return str(absent).splitlines()[0]
    if name not in ON_GPU:
        return None
    if name in TENSORRT:
        from trtcheck.backends.tensorrt import why_not_run

        return why_not_run(name)
    from trtcheck.gpu import why_no_gpu

    return why_no_gpu()


def open_backend(name: str, *, threads: int, cache: Path) -> Backend:
    """The backend that *name* stands for here.

    Args:
        name: One of `KNOWN`.
        threads: Threads for inference on the processor; 0 takes every core that this process may use.
        cache: The cache folder, for what a backend keeps between builds.

    Raises:
        BackendError: There is no such backend, or its library is missing or broken.
    """
    choice = choose(name)
    while True:
        try:
            return _open(choice, threads=threads, cache=cache)
        except BackendError as error:
            # What is installed may still be broken: only `auto` and `onnxruntime` go on to the next.
            rest = FASTEST_FIRST[FASTEST_FIRST.index(choice.name) + 1 :]
            if name == choice.name or not rest:
                raise
            told = f"{choice.reason}; not {choice.name}: {' '.join(str(error).split())}"
            following = next(n for n in rest if unusable(n) is None or n == rest[-1])
            choice = Choice(following, told)


def _open(choice: Choice, *, threads: int, cache: Path) -> Backend:
    absent = missing(choice.name)
    if absent is not None:
        raise absent
    if choice.name in TENSORRT:
        from trtcheck.backends.tensorrt import TensorRt

        return TensorRt(choice.name, cache=cache, reason=choice.reason)
    if choice.name == "onnxruntime-cuda":
        from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda

        return OnnxRuntimeCuda(threads=threads, reason=choice.reason)
    from trtcheck.backends.onnxruntime import OnnxRuntimeCpu

    return OnnxRuntimeCpu(threads=threads, reason=choice.reason)


def device_of(backend: Backend) -> Gpu | None:
    """The GPU that *backend* computes on; None where the processor does.

    Raises:
        BackendError: It needs a GPU, and there is none.
    """
    if backend.info.name not in ON_GPU:
        return None
    from trtcheck.gpu import find_gpu

    return find_gpu()


def timing_reference(
    onnx: Path, beside: str, *, threads: int, cuda_graph: bool, spin_wait: bool
) -> tuple[TimedEngine, str]:
    """The original FP32 model in ONNX Runtime on the device that a backend computes on, TF32 off.

    Args:
        onnx: The original model.
        beside: The backend, one of `FASTEST_FIRST`.
        threads: Threads for inference on the processor; 0 takes every core that this process may use.
        cuda_graph: Whether its work is replayed as a CUDA graph, where ONNX Runtime can.
        spin_wait: Whether threads of the processor that wait spin.

    Returns:
        The loaded model, and what it is in words.

    Raises:
        BackendError: ONNX Runtime cannot compute on that device.
        EngineError: ONNX Runtime does not take the model.
    """
    from trtcheck.backends.reference_place import load_fp32

    name = "onnxruntime-cuda" if beside in ON_GPU else "onnxruntime-cpu"
    backend = _open(Choice(name, f"the reference beside {beside}"), threads=threads, cache=Path())
    loaded = load_fp32(backend, onnx, threads, cuda_graph=cuda_graph, spin_wait=spin_wait)
    return loaded, f"{name} {backend.info.version} fp32"


def builder_beside(name: str) -> str | None:
    """The backend whose engines are built beside those that run, or None.

    ``auto`` on a machine that cannot run TensorRT still proves that TensorRT's parser and builder take the
    model: TensorRT for RTX builds without a GPU.

    Args:
        name: As for ``--trt-backend``.
    """
    if name != "auto" or choose(name).name in TENSORRT or missing("tensorrt-rtx") is not None:
        return None
    return "tensorrt-rtx"
