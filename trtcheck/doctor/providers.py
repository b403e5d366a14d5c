"""Asks ONNX Runtime for its providers; run as a child process, which a broken library may take down."""

from __future__ import annotations

from typing import Any

from trtcheck.child import Tell, serve
from trtcheck.doctor.packages import hollow
from trtcheck.errors import BackendError


def answer(_request: dict[str, Any], _tell: Tell) -> dict[str, Any]:
    """The execution ``providers`` that the installed ONNX Runtime was built with, in its order of preference.

    Raises:
        BackendError: It cannot be imported, or is an empty folder.
    """
    leftover = hollow("onnxruntime")
    if leftover is not None:
        raise BackendError(leftover)
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError("onnxruntime cannot be imported", found=error) from error
    return {"providers": list(onnxruntime.get_available_providers())}


if __name__ == "__main__":
    serve(answer)
