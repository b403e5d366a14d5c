"""Asks ONNX Runtime for its providers; run as a child process, which a broken library may take down."""

from __future__ import annotations

from typing import Any

from trtcheck.child import Tell, serve
from trtcheck.errors import BackendError


def answer(_request: dict[str, Any], _tell: Tell) -> dict[str, Any]:
    """The execution ``providers`` that the installed ONNX Runtime was built with, in its order of preference.

    Raises:
        BackendError: It cannot be imported.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError("onnxruntime cannot be imported", found=error) from error
    return {"providers": list(onnxruntime.get_available_providers())}


if __name__ == "__main__":
    serve(answer)
