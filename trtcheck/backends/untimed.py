"""Which engines have no time worth taking: those that do not compute as the precision does on hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtcheck.case import Numerics

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine

_EMULATED = (
    "emulated by {backend}: its time says nothing about the precision on a GPU; "
    "on the processor only fp32 is native and is timed"
)
_FLOATING = (
    "INT8 computed in floating point by onnxruntime-cuda: its time says nothing about INT8; "
    "engines of TensorRT and recordings of a device are timed"
)


def why_untimed(built: BuiltEngine) -> str | None:
    """Why an engine is not timed, in a sentence; None where its time can be taken."""
    if built.numerics is Numerics.EMULATED:
        return _EMULATED.format(backend=built.backend)
    if built.backend == "onnxruntime-cuda" and built.facts.get("types", {}).get("quantized", 0) > 0:
        return _FLOATING
    return None
