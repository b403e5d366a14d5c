"""The execution context of an engine, with what TensorRT for RTX lets its runtime keep and choose."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trtcheck.backends.trt_runtime import is_out_of_memory
from trtcheck.errors import EngineError

if TYPE_CHECKING:
    from trtcheck.backends.trt_runtime import Opened


class Context(NamedTuple):
    """An execution context.

    Attributes:
        raw: The bindings' object.
        own_graphs: Whether the runtime itself replays its work as a CUDA graph.
        save: Keeps what the runtime compiled for the next process.
    """

    raw: Any
    own_graphs: bool
    save: Callable[[], None]


def make_context(path: Path, opened: Opened, runtime_cache: Path, *, cuda_graph: bool) -> Context:
    """An execution context of the engine that was *opened* from *path*.

    Args:
        path: The engine's file, for messages.
        opened: The engine on the GPU.
        runtime_cache: Where TensorRT for RTX keeps the kernels that it compiled.
        cuda_graph: Whether work is to be replayed as a CUDA graph.

    Raises:
        EngineError: There is not enough memory for it, or the engine has none.
    """
    own = hasattr(opened.library, "CudaGraphStrategy")  # TensorRT for RTX alone
    if own:
        config, save = _rtx_config(opened, runtime_cache, cuda_graph=cuda_graph)
        raw = opened.engine.create_execution_context(config)
    else:
        save = _keep_nothing
        raw = opened.engine.create_execution_context()
    if raw is None:
        told = "\n    ".join(opened.log) or "it does not say why"
        what = "out of memory: the" if is_out_of_memory(opened.log) else "the"
        raise EngineError(f"{what} engine cannot be made ready to run", where=path, found=told)
    return Context(raw, own, save)


def _keep_nothing() -> None:
    """TensorRT's engines hold their kernels."""


def _rtx_config(opened: Opened, file: Path, *, cuda_graph: bool) -> tuple[Any, Callable[[], None]]:
    library = opened.library
    config = opened.engine.create_runtime_config()
    strategies = library.CudaGraphStrategy
    config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graph else strategies.DISABLED
    # Compiled in the background (the default), kernels and answers would change from batch to batch.
    kernels = library.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
    cache = config.create_runtime_cache()
    with suppress(OSError):  # there is none yet, or it is another user's
        cache.deserialize(file.read_bytes())  # what does not fit this machine is left out by itself
    config.set_runtime_cache(cache)

    def save() -> None:
        compiled = cache.serialize()
        if compiled is None:  # after a failure there may be nothing to keep
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=file.parent) as folder:
            written = Path(folder) / file.name
            written.write_bytes(bytes(compiled))
            written.replace(file)

    return config, save
