"""Builds one engine through Polygraphy's loaders; run in a child process."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trtcheck import model as models
from trtcheck.backends import trt_network
from trtcheck.backends.trt_flavour import TENSORRT, Flavour, parsed
from trtcheck.backends.trt_runtime import is_out_of_memory, library_of, load_plugins
from trtcheck.errors import EngineError
from trtcheck.names import listed

_ALWAYS_STRONGLY_TYPED = 11
_TELL_EVERY = 0.1
_NO_DRIVER_NOISE = "catchCudaError"
_SHOWN = 12
_NAMED = 3
_LONGEST = 400
_EXCLUDE = (
    'where FP32 builds, exclude = ["NODE"] keeps what is refused in FP32 (docs/tensorrt_ops.md tells what is '
    "refused at which precision); else export the model without that operator"
)


def build(flavour: Flavour, request: Mapping[str, Any], tell: Callable[[int], None]) -> dict[str, Any]:
    """Builds the engine that *request* describes; see `trtcheck.backends.tensorrt.TensorRt.build`.

    Args:
        flavour: The library.
        request: ``lowered``, ``target``, ``shapes`` (``min``, ``opt`` and ``max`` by input), ``tf32``,
            ``workspace_bytes``, ``optimization_level``, ``version_compatible``, ``hardware_compatible``,
            ``plugins`` and ``timing_cache`` (a path).
        tell: Called with the number of steps done.

    Raises:
        BackendError: The library cannot be loaded.
        EngineError: It does not take the model, or the file cannot be written.
    """
    library = library_of(flavour)
    log = _captured_log()
    lowered = Path(request["lowered"])
    onnx_model = models.load(lowered, weights=False)
    load_plugins(request["plugins"])
    started = time.monotonic()
    builder, network, parser = _parsed(flavour, library, lowered, log)
    content = trt_network.facts(network, onnx_model, tf32=request["tf32"])
    shared = request["timing_cache"]
    try:
        with _timing_cache(Path(shared) if shared else None) as own:
            config = _config(library, request, _monitor(library, tell), own)
            serialized = _serialized(builder, network, config, own)
    except _failures() as error:
        raise _refused(flavour, lowered, log or [str(error)]) from error
    del parser  # it holds the model's weights until the engine is built
    target = Path(request["target"])
    try:
        target.write_bytes(serialized)
    except OSError as error:
        raise EngineError(
            "the engine cannot be written", where=target, found=error,
            hint="name a folder with enough room: pytest --trt-cache=DIR",
        ) from error  # fmt: skip
    return {**content, "engine_bytes": len(serialized), "seconds": round(time.monotonic() - started, 3)}


def _failures() -> tuple[type[Exception], ...]:
    from polygraphy.exception import PolygraphyException

    return (PolygraphyException, RuntimeError, MemoryError)


def _captured_log() -> list[str]:
    """The errors that TensorRT logs from here on, by way of Polygraphy; standard error gets everything."""
    from polygraphy.logger import G_LOGGER

    errors: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.ERROR:  # Polygraphy's own exceptions are critical
                errors.append(record.getMessage().removeprefix("[E]").strip())

    G_LOGGER.module_severity = G_LOGGER.WARNING
    G_LOGGER.use_python_logging_system = True
    told = logging.getLogger("Polygraphy")
    told.propagate = False
    told.addHandler(Collect())
    told.addHandler(logging.StreamHandler(sys.stderr))
    return errors


def _parsed(flavour: Flavour, library: Any, lowered: Path, log: list[str]) -> tuple[Any, Any, Any]:
    """Builder, strongly typed network and parser of the model at *lowered*."""
    from polygraphy.backend.trt import create_network, get_trt_logger

    optional = flavour is TENSORRT and parsed(library.__version__)[0] < _ALWAYS_STRONGLY_TYPED
    try:
        builder, network = create_network(strongly_typed=True if optional else None)
    except _failures() as error:
        raise _refused(flavour, lowered, log or [str(error)]) from error
    # Polygraphy's own parsing loader drops the parser with its errors: which node it was would be lost.
    library.init_libnvinfer_plugins(get_trt_logger(), "")
    parser = library.OnnxParser(network, get_trt_logger())
    if not parser.parse_from_file(str(lowered)) or parser.num_errors:
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise EngineError(
            f"{flavour.label}'s parser does not take the model", where=lowered,
            found=_told(errors) or _joined(log), hint=_EXCLUDE,
        )  # fmt: skip
    log.clear()
    return builder, network, parser


def _told(errors: Iterable[Any]) -> str:
    """What the parser says, one line for all nodes of an operator that it says the same of."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        nodes.setdefault((error.node_operator(), _reason(error)), []).append(error.node_name())
    told = [
        f"node {listed(names, _NAMED)} ({operator}): {reason}" if operator else reason
        for (operator, reason), names in nodes.items()
    ]
    more = [f"and {len(told) - _SHOWN} more reasons"] if len(told) > _SHOWN else []
    return "\n    ".join([*told[:_SHOWN], *more])


def _reason(error: Any) -> str:
    lines = [line for line in error.desc().splitlines() if _NO_DRIVER_NOISE not in line]
    said = " ".join(" ".join(lines).split())[:_LONGEST]
    # Of an operator that it has none for, the parser says "false".
    return f"{error.code().name}: {said}" if said != "false" else f"{error.code().name}"


def _refused(flavour: Flavour, lowered: Path, lines: Iterable[str]) -> EngineError:
    told = list(lines)
    if is_out_of_memory(told) or "MemoryError" in told:
        return EngineError(
            f"out of memory: {flavour.label} cannot build the engine", where=lowered, found=_joined(told),
            hint="a smaller max in profile = {…}, or end other programs on this machine",
        )  # fmt: skip
    workspace = any("workspace" in line.lower() for line in told)
    return EngineError(
        f"{flavour.label} cannot build the engine", where=lowered, found=_joined(told),
        hint="a larger workspace_mb in [models.x.tensorrt]" if workspace else _EXCLUDE,
    )  # fmt: skip


def _joined(lines: Iterable[str]) -> str:
    kept = [line for line in lines if _NO_DRIVER_NOISE not in line]
    return "\n    ".join(line[:_LONGEST] for line in kept[-_SHOWN:]) or "it does not say why"


def _config(library: Any, request: Mapping[str, Any], monitor: Any, timing_cache: Path | None) -> Any:
    """The builder's configuration, as Polygraphy makes it when it builds."""
    from polygraphy.backend.trt import CreateConfig, Profile

    profile = Profile()
    for name, shape in request["shapes"].items():
        profile.add(name, min=shape["min"], opt=shape["opt"], max=shape["max"])
    limits = {}
    if request["workspace_bytes"] is not None:
        limits[library.MemoryPoolType.WORKSPACE] = request["workspace_bytes"]
    level = library.HardwareCompatibilityLevel.AMPERE_PLUS if request["hardware_compatible"] else None
    return CreateConfig(
        tf32=request["tf32"],
        profiles=[profile] if request["shapes"] else [],
        memory_pool_limits=limits or None,
        builder_optimization_level=request["optimization_level"],
        version_compatible=request["version_compatible"] or None,
        hardware_compatibility_level=level,
        progress_monitor=monitor,
        load_timing_cache=str(timing_cache) if timing_cache and timing_cache.is_file() else None,
    )


def _serialized(builder: Any, network: Any, config: Any, timing_cache: Path | None) -> bytes:
    from polygraphy.backend.trt import engine_bytes_from_network

    saved = str(timing_cache) if timing_cache else None
    return bytes(engine_bytes_from_network((builder, network), config=config, save_timing_cache=saved))


def _monitor(library: Any, tell: Callable[[int], None]) -> Any:
    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        """Counts the builder's steps, which come from several threads, and passes them on now and then."""

        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._waiting = 0
            self._told = time.monotonic()

        def phase_start(self, _phase: str, _parent: str | None, _steps: int) -> None:
            """Nothing to tell: phases nest, and their number is not known beforehand."""

        def step_complete(self, _phase: str, _step: int) -> bool:
            with self._lock:
                self._waiting += 1
                if time.monotonic() - self._told >= _TELL_EVERY:
                    self._tell()
            return True

        def phase_finish(self, _phase: str) -> None:
            with self._lock:
                self._tell()

        def _tell(self) -> None:
            if self._waiting:
                tell(self._waiting)
            self._waiting, self._told = 0, time.monotonic()

    return Monitor()


@contextmanager
def _timing_cache(shared: Path | None) -> Iterator[Path | None]:
    """A copy of the *shared* timing cache that takes its place when the engine was built; None without one.

    The lock is held meanwhile: builds that time kernels on one GPU at once would spoil each other's timings.
    """
    if shared is None:
        yield None
        return
    from filelock import FileLock

    shared.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(shared.with_suffix(".lock")),
        tempfile.TemporaryDirectory(prefix=".making-", dir=shared.parent) as folder,
    ):
        own = Path(folder) / shared.name
        if shared.is_file():
            shutil.copyfile(shared, own)
        yield own
        if own.is_file():
            own.replace(shared)
