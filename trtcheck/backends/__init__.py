"""Backends: what builds and runs engines. Opening one is what loads its runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtcheck.errors import BackendError

if TYPE_CHECKING:
    from trtcheck.backends.base import Backend

KNOWN = ("auto", "onnxruntime", "onnxruntime-cpu")
"""Names that ``--trt-backend`` takes."""

PLANNED = ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx")
"""Names that a later version will take."""


def open_backend(name: str, *, threads: int) -> Backend:
    """The backend called *name*.

    Args:
        name: One of `KNOWN`.
        threads: Threads for inference on the processor; 0 takes every core that this process may use.

    Raises:
        BackendError: There is no such backend in this version, or its runtime is not installed.
    """
    if name in PLANNED:
        raise BackendError(
            f"backend '{name}' is not part of this version", expected=", ".join(KNOWN), found=name,
            hint="pytest --trt-backend=onnxruntime-cpu",
        )  # fmt: skip
    if name not in KNOWN:
        raise BackendError(f"there is no backend '{name}'", expected=", ".join(KNOWN), found=name)
    from trtcheck.backends.onnxruntime import OnnxRuntimeCpu

    reasons = {
        "auto": "auto: the only backend of this version that needs no GPU",
        "onnxruntime": "asked for by name; this version runs it on the CPU",
    }
    return OnnxRuntimeCpu(threads=threads, reason=reasons.get(name, "asked for by name"))
