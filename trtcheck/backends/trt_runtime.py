"""TensorRT's bindings, loaded and asked for an engine: with what it logs, and why it refuses a file.

Used in the child processes and, for running, in the tests' own.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from trtcheck.backends.trt_flavour import Flavour
from trtcheck.errors import BackendError, EngineError

_NEEDED = ("Runtime", "ILogger", "DataType", "TensorIOMode")

_DIAGNOSTICS = {
    "VERSION_MISMATCH": "it was built by another version",
    "UNSUPPORTED_CC": "it was not built for this GPU's compute capability",
    "OLD_CUDA_DRIVER": "the driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "the file is damaged",
    "CUDA_ERROR": "CUDA failed when asked",
}
"""TensorRT for RTX's diagnostics (``EngineInvalidityDiagnostics``) in words."""


class Opened(NamedTuple):
    """An engine on the GPU, with what must live as long as it."""

    library: Any
    runtime: Any
    engine: Any
    log: list[str]


def library_of(flavour: Flavour) -> Any:
    """The Python module of *flavour*.

    Raises:
        BackendError: It cannot be imported, is of another kind, or of a version that trtcheck does not drive.
    """
    try:
        library = importlib.import_module(flavour.module)
    except (Exception, SystemExit) as error:  # whatever a broken or foreign package comes to
        raise BackendError(
            f"{flavour.label} is installed, but cannot be loaded", found=f"{type(error).__name__}: {error}",
            hint=flavour.install.replace("install", "install --force-reinstall", 1),
        ) from error  # fmt: skip
    missing = [name for name in _NEEDED if not hasattr(library, name)]
    if missing:
        raise BackendError(
            f"the package '{flavour.module}' is not {flavour.label}",
            where=getattr(library, "__file__", None), expected=", ".join(_NEEDED),
            found=f"a module without {', '.join(missing)}", hint=flavour.install,
        )  # fmt: skip
    flavour.require_version(str(getattr(library, "__version__", "")))
    return library


@functools.cache
def logger_of(library: Any) -> Any:
    """The process's logger: TensorRT keeps the first it is given, whatever it is given later."""

    class Log(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= library.ILogger.Severity.ERROR:
                self.errors.append(message)

    return Log()


@contextmanager
def logged(library: Any) -> Iterator[list[str]]:
    """The errors that TensorRT logs inside the context."""
    logger = logger_of(library)
    logger.errors.clear()
    yield logger.errors


def load_plugins(paths: Iterable[Path | str]) -> None:
    """Loads plugin libraries, whose plugins register themselves.

    Raises:
        EngineError: One is missing or cannot be loaded.
    """
    for path in paths:
        require_plugin(path)
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            raise EngineError("the plugin library cannot be loaded", where=path, found=error) from error


def require_plugin(path: Path | str) -> None:
    """Refuses a plugin library that is not there.

    Raises:
        EngineError: It is not.
    """
    if not Path(path).is_file():
        raise EngineError("no such plugin library", where=path, hint='check plugins = ["…"] in the suite')


def deserialize(flavour: Flavour, path: Path, plugins: Iterable[Path | str], *, host_code: bool) -> Opened:
    """The engine at *path* on the GPU. **Ask the driver first**: without one this ends the process.

    Args:
        flavour: Whose engine it is.
        path: The file.
        plugins: Plugin libraries, loaded first.
        host_code: Whether the engine may bring a runtime of its own: a version-compatible one does.

    Raises:
        BackendError: The library cannot be loaded.
        EngineError: It cannot be read here; what speaks against it is told.
    """
    library = library_of(flavour)
    load_plugins(plugins)
    with logged(library) as log:
        if hasattr(library, "init_libnvinfer_plugins"):  # lean runtimes have none
            library.init_libnvinfer_plugins(logger_of(library), "")
        runtime = library.Runtime(logger_of(library))
        if host_code and hasattr(runtime, "engine_host_code_allowed"):
            runtime.engine_host_code_allowed = True
        data = path.read_bytes()
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise _refused(flavour, library, runtime, path, data, log)
        return Opened(library, runtime, engine, log)


def _refused(
    flavour: Flavour, library: Any, runtime: Any, path: Path, data: bytes, log: list[str]
) -> EngineError:
    from trtcheck.gpu import find_gpu

    told = [*_diagnosed(library, runtime, data), *log]
    if is_out_of_memory(told):
        return EngineError(
            "out of memory: the engine does not fit on the GPU", where=path, found="; ".join(told),
            hint="end other programs on this GPU",
        )  # fmt: skip
    return EngineError(
        f"{flavour.label} cannot read the engine here", where=path,
        expected=f"an engine for {flavour.label} {library.__version__} and {find_gpu()}",
        found="; ".join(told) or "it does not say why", hint="build it anew on this machine",
    )  # fmt: skip


def _diagnosed(library: Any, runtime: Any, data: bytes) -> list[str]:
    """What TensorRT for RTX says of the engine's header; nothing where the bindings cannot be asked."""
    if not hasattr(runtime, "get_engine_validity"):
        return []
    _, bits = runtime.get_engine_validity(data[: runtime.engine_header_size])
    kinds = library.EngineInvalidityDiagnostics.__members__
    return [
        _DIAGNOSTICS.get(name, name.lower()) for name, kind in kinds.items() if int(bits) & int(kind)
    ]  # fmt: skip


def is_out_of_memory(lines: Iterable[str]) -> bool:
    """Whether TensorRT's messages tell of memory that was not to be had."""
    marks = ("outofmemory", "out of memory", "cudaerrormemoryallocation", "insufficient memory", "bad_alloc")
    return any(mark in line.lower() for line in lines for mark in marks)
