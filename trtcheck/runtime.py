"""What one pytest process holds: settings, the session's shared folder and its workbench."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck import devices
from trtcheck.case import EngineKind, Precision
from trtcheck.errors import OptionError, TrtcheckError
from trtcheck.settings import HOW_TO_ASK, Settings, cache_folder, read_settings

if TYPE_CHECKING:
    from trtcheck.case import EngineSpec
    from trtcheck.progress import Progress
    from trtcheck.session import Workbench
    from trtcheck.session_folder import SessionFolder
    from trtcheck.shards.crew import Crew

_log = logging.getLogger("trtcheck")

_NAMES = (
    "engine", "backend", "baselines", "report", "history", "cache", "cache-size", "latency-budget",
    "modelopt-python", "devices", "shards", "executor", "reference",
)  # fmt: skip
_FLAGS = ("update-baselines", "build-only", "strict", "rebuild")


class Runtime:
    """The state of one pytest process; kept by `trtcheck.state`.

    Args:
        settings: What the user asked for.
        config: pytest's configuration.
        shared: Folder that the controller made for this session's results; None on the controller.
    """

    def __init__(self, settings: Settings, config: pytest.Config, shared: Path | None) -> None:
        self.settings = settings
        self.is_worker = shared is not None
        self._config = config
        self._given = shared
        self._started = time.time()
        self.suite_of: dict[str, Path] = {}
        self._beside: dict[Path, tuple[EngineSpec, ...]] = {}
        self._visible = ExitStack()
        if not self.is_worker and not self._workers():
            self._visible.enter_context(devices.visible_to_this(settings.gpus, os.environ))

    @classmethod
    def of_config(cls, config: pytest.Config) -> Runtime:
        """Reads options and ini keys.

        Raises:
            pytest.UsageError: An option cannot be used.
        """
        keys = {name: name.replace("-", "_") for name in (*_NAMES, *_FLAGS)}
        options = {key: config.getoption(f"--trt-{name}") for name, key in keys.items()}
        ini = {keys[name]: config.getini(f"trt_{keys[name]}") for name in _NAMES}
        from trtcheck.shards import asked

        try:
            settings = read_settings(
                options, ini, invoked_in=config.invocation_params.dir, root=config.rootpath
            )
            if settings.engines is not None:
                _refuse_namesake()
                _require_runtime()
            if settings.engines is not None or options["backend"] or settings.build_only:
                _require_library(settings)
            worker: Mapping[str, Any] = getattr(config, "workerinput", {})
            shared = worker.get("trtcheck_shared")
            own = worker.get("trtcheck_gpus")
            gpus = devices.find(settings.devices, os.environ) if own is None else devices.of_worker(own)
            settings = replace(settings, gpus=gpus)
            workers = shared is not None or getattr(config.option, "dist", "no") != "no"
            asked.require_one_way(settings.shards, settings.executor, workers)
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None
        return cls(settings, config, None if shared is None else Path(shared))

    @cached_property
    def shared(self) -> Path:
        """Folder of this session's results, made when first asked for."""
        return self._given or self._folder.path

    @cached_property
    def _folder(self) -> SessionFolder:
        from trtcheck.session_folder import SessionFolder

        return SessionFolder()

    @cached_property
    def workbench(self) -> Workbench:
        """Builds and evaluates for this process.

        Raises:
            TrtcheckError: The backend or the cache folder cannot be used.
        """
        from trtcheck.session import Workbench

        return Workbench(
            cache=cache_folder(self.settings), shared=self.shared, backend=self.settings.backend,
            threads=self._threads(), progress=self._progress(), rebuild=self.settings.rebuild,
            modelopt_python=self.settings.modelopt_python, reference=self.settings.reference,
            crew=(lambda: self.crew) if self.settings.shards or self.settings.executor else None,
        )  # fmt: skip

    @cached_property
    def crew(self) -> Crew:
        """Who evaluates images in shards, met when first asked for.

        Raises:
            OptionError: The executor's workers cannot be used.
        """
        from trtcheck.shards import crew

        if self.settings.executor is not None:
            return crew.of_scheduler(self.settings.executor, self.settings.shards)
        return crew.of_children(self.settings.shards or 1, devices.chosen(self.settings), self._threads())

    def meet_crew(self) -> None:
        """Refuses to start where an executor was asked for that cannot be used.

        Raises:
            pytest.UsageError: It cannot; it tells why.
        """
        wanted = self.settings.engines is not None or self._config.getoption("--trt-executor")
        if self.settings.executor is None or self.is_worker or not wanted or self._config.option.collectonly:
            return
        try:
            self.crew  # noqa: B018  kept for the evaluations
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None

    def _threads(self) -> int:
        """This process's share of the processors it may use."""
        from trtcheck.environment import usable_cores

        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) if self.is_worker else 1
        return max(1, usable_cores() // workers)

    def _workers(self) -> int:
        """How many workers pytest-xdist starts for this process; 0 where it works itself."""
        option = self._config.option
        if getattr(option, "dist", "no") == "no":
            return 0
        counts = (spec.partition("*")[0] for spec in option.tx)
        return sum(int(count) if count.isdigit() else 1 for count in counts)

    def spread_by(self) -> tuple[str, ...] | None:
        """Names of the engines that items are spread by over workers; None where no engines are tested."""
        engines = self.settings.engines
        if engines is not None:
            return tuple(engine.name for engine in engines)
        return None if self.settings.devices is None else tuple(precision.value for precision in Precision)

    def _progress(self) -> Progress:
        from trtcheck.progress import LoggedProgress, TerminalProgress

        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if self.is_worker or reporter is None or capture is None or not reporter.isatty:
            return LoggedProgress()
        return TerminalProgress(capture.global_and_fixture_disabled, reporter.ensure_newline)

    def header(self) -> str | None:
        """The lines that say what runs the engines and why, where any were asked for."""
        engines, gpus = self.settings.engines, self.settings.gpus
        on_gpus = [devices.header(gpus, self._workers())] if gpus and not self.settings.shards else []
        if engines is None:
            return "\n".join(on_gpus) or None
        from trtcheck.backends import builder_beside, choose, unusable
        from trtcheck.environment import processor, runtime_version

        choice = choose(self.settings.backend)
        lines = [f"trtcheck: {choice.name} ({choice.reason})"]
        reason = unusable(choice.name)
        if reason is not None:
            lines.append(f"trtcheck: {choice.name} runs no engine here: {reason}")
        if choice.name == "onnxruntime-cpu":
            lanes: dict[str, list[str]] = {}
            for engine in engines:
                lanes.setdefault(_lane(engine), []).append(engine.name)
            how = "; ".join(f"{', '.join(names)} {lane}" for lane, names in lanes.items())
            lines = [f"trtcheck: onnxruntime-cpu {runtime_version()} on {processor()}; {how}"]
            if self.settings.backend != choice.name:
                lines.append(f"trtcheck: {choice.reason}")
        beside = builder_beside(self.settings.backend)
        if beside is not None:
            lines.append(f"trtcheck: {beside} builds every engine too; it runs none here")
        if self.settings.shards or "crew" in self.__dict__:
            lines.append(f"trtcheck: {self.crew.words}")
        return "\n".join(lines + on_gpus)

    def ran_elsewhere(self, backend: Mapping[str, Any] | None) -> str | None:
        """What to tell where another *backend* ran than the header says, or there was no header."""
        from trtcheck.backends import FASTEST_FIRST, choose

        if backend is None or backend["name"] not in FASTEST_FIRST:
            return None
        shown = self.settings.engines is not None  # without engines there was no header
        if shown and backend["name"] == choose(self.settings.backend).name:
            return None
        return f"engines ran on {backend['name']} ({backend['reason']})"

    def engine_params(self, folder: Path) -> list[Any]:
        """Parameters of ``trt_precision`` for a test in *folder*: engines by name, or one that is skipped."""
        engines = self.settings.engines
        if engines is None:
            if folder not in self._beside:
                self._beside[folder] = _engines_beside(folder / "trtcheck.toml")
            engines = self._beside[folder]
        if not engines:
            return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=HOW_TO_ASK))]
        return [pytest.param(engine, id=engine.name) for engine in engines]

    def close(self) -> None:
        """Removes the session's results, if this process made their folder, and trims the cache."""
        if "workbench" in self.__dict__:
            self.workbench.close()
        if "crew" in self.__dict__:
            self.crew.close()
        self._visible.close()
        if self.is_worker or "shared" not in self.__dict__:
            return
        # Under pytest-xdist there is a folder in any case: the cache is of no concern to other tests.
        worked = self._folder.used
        self._folder.close()
        if worked and self.settings.cache_bytes is not None:
            self._trim(self.settings.cache_bytes)

    def _trim(self, limit: int) -> None:
        from trtcheck.cache import Cache

        try:
            removed = Cache(cache_folder(self.settings)).trim(limit, unused_since=self._started)
        except (TrtcheckError, OSError) as error:  # a hook outside the run phase never raises
            _log.warning("trtcheck: the cache could not be trimmed: %s", error)
            return
        if removed:
            _log.info("trtcheck: %d cache entries that were not used lately were removed", removed)


def _lane(engine: EngineSpec) -> str:
    """How *engine* is run on the CPU, for the header."""
    if engine.kind is EngineKind.RECORDING:
        return "recorded"
    if engine.kind is EngineKind.ENGINE:
        return "as built for TensorRT"
    if engine.precision is None:
        return "as its types ask"
    return "native" if engine.precision is Precision.FP32 else "emulated"


def _engines_beside(path: Path) -> tuple[EngineSpec, ...]:
    """The engines that all models of the suite file *path* name alike; none where it cannot be used."""
    from trtcheck.suite import default_engines, read_suite

    if not path.is_file():
        return ()
    try:
        named = {default_engines(case, path) for case in read_suite(path)}
    except TrtcheckError:
        return ()  # what is wrong with the file is told where it is collected itself
    return named.pop() if len(named) == 1 else ()


def _refuse_namesake() -> None:
    """Refuses to work beside the distribution `trtcheck`, which installs a package of the same name.

    Raises:
        OptionError: It is installed.
    """
    try:
        metadata.distribution("trtcheck")
    except metadata.PackageNotFoundError:
        return
    raise OptionError(
        "the unrelated distribution 'trtcheck' is installed and shares the package name of pytest-trtcheck",
        hint="pip uninstall -y trtcheck pytest-trtcheck && pip install pytest-trtcheck",
    )


def _require_runtime() -> None:
    """Refuses to start where no ONNX Runtime is installed: it is the reference of every comparison.

    Raises:
        OptionError: It is not installed.
    """
    from trtcheck.backends import missing

    error = missing("onnxruntime-cpu")
    if error is not None:
        raise OptionError(str(error))


def _require_library(settings: Settings) -> None:
    """Refuses to start where the backend that was asked for by name is not installed.

    Raises:
        OptionError: It is not, nor is what the reference was asked to run on, or nothing that builds TensorRT
            engines is although only that was asked for.
    """
    from trtcheck.backends import TENSORRT, missing

    error = missing(settings.backend)
    if error is not None:
        raise OptionError(f"--trt-backend={settings.backend}: {error}")
    absent = missing("onnxruntime-cuda") if settings.reference == "cuda" else None
    if absent is not None:
        raise OptionError(f"--trt-reference=cuda: {absent}")
    if settings.build_only and settings.backend == "auto" and all(missing(name) for name in TENSORRT):
        raise OptionError(
            "--trt-build-only: neither TensorRT nor TensorRT for RTX is installed",
            hint='pip install "pytest-trtcheck[tensorrt-rtx]", which builds without a GPU',
        )
