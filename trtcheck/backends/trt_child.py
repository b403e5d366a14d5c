"""The child process in which TensorRT's library is loaded: asks its version, builds and describes engines.

A native library that crashes here ends this process, not the tests'.
"""

from __future__ import annotations

from typing import Any

from trtcheck.backends.trt_flavour import FLAVOURS, Flavour
from trtcheck.child import Reply, Tell, serve


def answer(request: dict[str, Any], tell: Tell) -> Reply:
    """The reply to ``probe``, ``build`` or ``describe`` (``command``) of a ``flavour``.

    Raises:
        BackendError: The library cannot be used.
        EngineError: It does not take the model, or cannot read the engine.
    """
    flavour = FLAVOURS[request["flavour"]]
    if request["command"] == "build":
        from trtcheck.backends.trt_build import build

        return build(flavour, request, tell)
    if request["command"] == "describe":
        from trtcheck.backends.trt_describe import describe

        return describe(flavour, request)
    return _probe(flavour)


def _probe(flavour: Flavour) -> Reply:
    from trtcheck.backends.trt_runtime import library_of

    library = library_of(flavour)
    return {
        "version": str(library.__version__),
        "builds": hasattr(library, "Builder"),
    }


if __name__ == "__main__":
    serve(answer)
