"""The child process in which TensorRT's library is loaded: asks its version, builds and describes engines.

A native library that crashes here ends this process, not the tests'.
"""

from __future__ import annotations

import re
from importlib import metadata
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
        "cuda": _cuda(flavour),
        "builds": hasattr(library, "Builder"),
    }


def _cuda(flavour: Flavour) -> str | None:
    """The CUDA that the installed package was made with, by its name; None where it does not tell."""
    for name in metadata.packages_distributions().get(flavour.module, ()):
        found = re.search(r"[-_]cu(\d+)$", name)
        if found:
            return f"{found.group(1)}.0"
    return None


if __name__ == "__main__":
    serve(answer)
