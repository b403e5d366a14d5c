"""TensorRT and TensorRT for RTX: engines built through Polygraphy in a child process, and run in this one."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from trtcheck import backends, child, digests
from trtcheck.backends.base import BackendInfo
from trtcheck.backends.trt_flavour import FLAVOURS, flavour_of, require_readable
from trtcheck.backends.trt_runtime import require_plugin
from trtcheck.case import Numerics
from trtcheck.errors import BackendError, EngineError
from trtcheck.gpu import find_gpu, require_cuda, why_no_gpu

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.backends.base import BuildPlan
    from trtcheck.backends.trt_engine import TrtEngine
    from trtcheck.case import BuildSpec
    from trtcheck.gpu import Gpu
    from trtcheck.model import Signature
    from trtcheck.progress import Advance

__all__ = ["EngineFacts", "TensorRt", "flavour_of", "unsupported_by_rtx", "why_not_run"]

BUILD_VERSION = 1
"""Counts changes of how engines are built, so that older ones in the cache are not taken."""

_CHILD = "trtcheck.backends.trt_child"
_MIB = 2**20

_RTX_RUNS_ON = ((8, 0), (8, 6), (8, 9))
_RTX_FROM = (12, 0)


@final
@dataclass(frozen=True)
class EngineFacts:
    """What an engine that was built elsewhere is.

    Attributes:
        signature: Its inputs and outputs.
        record: Figures, JSON-ready.
        notes: What a reader should know, in sentences.
    """

    signature: Signature
    record: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def unsupported_by_rtx(index: int = 0) -> str | None:
    """Why TensorRT for RTX does not run on the GPU of that number, or None where it does.

    Raises:
        BackendError: There is no such GPU, or no driver.
    """
    gpu = find_gpu(index)
    capability = gpu.compute_capability
    if capability in _RTX_RUNS_ON or capability >= _RTX_FROM:
        return None
    major, minor = capability
    return (
        f"TensorRT for RTX does not run on {gpu.name} (compute capability {major}.{minor}; "
        "it runs on 8.0, 8.6, 8.9, and 12.0 or later)"
    )


def why_not_run(name: str) -> str | None:
    """Why engines of the flavour called *name* cannot run on this machine, or None where they can.

    The library is not loaded.
    """
    flavour = FLAVOURS[name]
    reason = why_no_gpu()
    if reason is None and flavour.is_rtx:
        reason = unsupported_by_rtx()
    if reason is None and (cuda := flavour.cuda) is not None:
        try:
            require_cuda(find_gpu(), cuda, flavour.label)
        except BackendError as error:
            reason = " ".join(str(error).split())
    return reason


@final
class TensorRt:
    """TensorRT or TensorRT for RTX; a `trtcheck.backends.base.Backend`.

    Args:
        flavour: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        cache: The cache folder, for timing and runtime caches.
        reason: Why this backend was taken.

    Raises:
        BackendError: The library is missing, broken, or of a version that trtcheck does not drive.
    """

    def __init__(self, flavour: str, *, cache: Path, reason: str = "asked for by name") -> None:
        self._flavour = FLAVOURS[flavour]
        absent = backends.missing(flavour)
        if absent is not None:
            raise absent
        self._cache = cache
        found = self._ask("probe", what=f"loading {self._flavour.label}")
        self._builds: bool = found["builds"]
        no_gpu = why_no_gpu()
        gpu = find_gpu() if no_gpu is None else None
        self._info = BackendInfo(
            name=flavour, version=found["version"], reason=reason,
            device=f"no GPU: {no_gpu}" if gpu is None else gpu.name,
            driver=None if gpu is None else gpu.driver,
        )  # fmt: skip

    @property
    def info(self) -> BackendInfo:
        """What this backend is and where it runs."""
        return self._info

    @property
    def suffix(self) -> str:
        """Suffix of the engines' files."""
        return ".engine"

    @cached_property
    def cannot_run(self) -> str | None:
        """Why engines cannot run on this machine, in a sentence; None where they can."""
        return why_not_run(self._flavour.name)

    def identity(self, plan: BuildPlan) -> Mapping[str, Any]:
        """What an engine of *plan* depends on besides the lowered model; JSON-ready.

        Raises:
            EngineError: A plugin library is missing.
        """
        for plugin in plan.spec.plugins:
            require_plugin(plugin)
        spec = plan.spec
        return {
            "flavour": self._flavour.name,
            "version": self._info.version,
            "build_version": BUILD_VERSION,
            "polygraphy": metadata.version("polygraphy"),  # whose defaults are the builder's settings
            "shapes": _profile(plan),
            **_flags(plan),
            "plugins": [digests.of_files([plugin]) for plugin in spec.plugins],
            "gpu": _identity_of(find_gpu()) if why_no_gpu() is None else None,
            "system": [platform.system(), platform.machine()],
        }

    def numerics(self, plan: BuildPlan) -> Numerics:
        """Native: TensorRT computes in the types that the graph states."""
        del plan
        return Numerics.NATIVE

    def build(self, plan: BuildPlan, target: Path, advance: Advance) -> Mapping[str, Any]:
        """Builds an engine of *plan* into the file *target*, in a child process.

        Args:
            plan: What is built.
            target: The file to write.
            advance: Called with the number of the builder's steps since the last call.

        Returns:
            As `trtcheck.backends.base.Backend.build`, and: ``layers`` (by TensorRT's type of layer, before
            fusion), ``depthwise`` (depthwise convolutions of INT8), ``tensorrt`` (``flavour``, ``version``),
            ``profile``, ``flags``, ``seconds``, ``inspector`` (layers of the engine by the type of their
            results, None where it cannot be loaded) and ``inspector_note`` (why None).

        Raises:
            EngineError: TensorRT does not take the model; the parser's own reason and the node are told.
            BackendError: This machine cannot build.
        """
        self._require_builder()
        notes = self._require_settings(plan)
        spec = plan.spec
        shapes = _profile(plan)
        facts = self._ask(
            "build", what=f"building the engine with {self._flavour.label}", advance=advance,
            lowered=str(plan.lowered), target=str(target), shapes=shapes, tf32=plan.tf32,
            workspace_bytes=None if spec.workspace_mb is None else round(spec.workspace_mb * _MIB),
            optimization_level=spec.optimization_level, version_compatible=spec.version_compatible,
            hardware_compatible=spec.hardware_compatible and not self._flavour.is_rtx,
            plugins=[str(plugin) for plugin in spec.plugins], timing_cache=self._timing_cache(),
        )  # fmt: skip
        return {
            **facts,
            **self._inspected(target, plan),
            "tensorrt": {"flavour": self._flavour.name, "version": self._info.version},
            "profile": shapes,
            "flags": _flags(plan),
            "notes": [*facts["notes"], *notes],
        }

    def inspect(self, engine: Path, spec: BuildSpec) -> EngineFacts:
        """What the engine at *engine*, built elsewhere, is; its first load is in a child process.

        Args:
            engine: The file.
            spec: Its plugins.

        Raises:
            EngineError: The file cannot be read here; what is needed and what was found is told.
            BackendError: This machine cannot run engines.
        """
        from trtcheck.backends.trt_signature import signature_of

        described = self._described(engine, plugins=spec.plugins, host_code=True, prebuilt=True)
        record = {
            "nodes": described["nodes"],
            "types": described["inspector"] or {},
            "engine_bytes": engine.stat().st_size,
            "memory_bytes": described["memory_bytes"],
            "profile": described["profiles"][0] if described["profiles"] else {},
            "inspector": described["inspector"],
            "inspector_note": described["inspector_note"],
            "tensorrt": {"flavour": self._flavour.name, "version": self._info.version},
        }
        notes = []
        if described["inspector_note"]:
            notes.append(f"its layers are not known: {described['inspector_note']}")
        if len(described["profiles"]) > 1:
            notes.append(
                f"it has {len(described['profiles'])} optimization profiles; the first one is tested"
            )
        return EngineFacts(signature_of(described, engine), record, tuple(notes))

    def load(self, engine: Path, plan: BuildPlan) -> TrtEngine:
        """Loads an engine, first in a child process: what crashes there does not end the tests.

        Args:
            engine: The file.
            plan: What it was built from.

        Raises:
            EngineError: The file cannot be loaded here.
            BackendError: This machine cannot run engines.
        """
        return self._load(engine, plan.spec, host_code=plan.spec.version_compatible)

    def load_prebuilt(self, engine: Path, spec: BuildSpec) -> TrtEngine:
        """The same for an engine that was built elsewhere and may bring a runtime of its own.

        Args:
            engine: The file.
            spec: Its plugins, and whether it is replayed as a CUDA graph.

        Raises:
            EngineError: The file cannot be loaded here.
            BackendError: This machine cannot run engines.
        """
        return self._load(engine, spec, host_code=True)

    def _load(self, engine: Path, spec: BuildSpec, *, host_code: bool) -> TrtEngine:
        from trtcheck.backends.trt_engine import open_engine

        described = self._described(engine, plugins=spec.plugins, host_code=host_code)
        kept = digests.short(digests.of_json([digests.of_files([engine]), self._machine()]))
        return open_engine(
            self._flavour, engine, described, plugins=spec.plugins, host_code=host_code,
            cuda_graph=spec.cuda_graph,
            runtime_cache=self._cache / "runtime" / f"{kept}.cache",
        )  # fmt: skip

    def find_overflow(self, lowered: Path, feeds: Mapping[str, np.ndarray]) -> str | None:
        """Nothing: what overflowed inside an engine cannot be seen from outside."""
        del lowered, feeds
        return None

    def _ask(
        self, command: str, *, what: str, advance: Advance = lambda _count: None, **request: Any
    ) -> dict[str, Any]:
        return child.call(
            _CHILD, {"command": command, "flavour": self._flavour.name, **request}, what=what,
            advance=advance, environment=self._flavour.environment,
        )  # fmt: skip

    def _machine(self) -> dict[str, Any]:
        """What a timing or a compiled kernel belongs to."""
        gpu = find_gpu()
        return {"library": self._flavour.name, "version": self._info.version, "gpu": _identity_of(gpu)}

    def _timing_cache(self) -> str | None:
        """The timing cache of this machine; None for RTX, which times nothing while it builds."""
        if self._flavour.is_rtx:
            return None
        return str(self._cache / "timing" / f"{digests.short(digests.of_json(self._machine()))}.cache")

    def _require_builder(self) -> None:
        label = self._flavour.label
        if not self._builds:
            raise BackendError(
                f"this installation of {label} has no builder", found=f"{label} {self._info.version}",
                hint=self._flavour.install,
            )  # fmt: skip
        if not self._flavour.is_rtx and self.cannot_run is not None:
            raise BackendError(
                f"{label} builds only where its engines run", found=self.cannot_run,
                hint="pytest --trt-backend=tensorrt-rtx --trt-build-only, which builds without a GPU",
            )  # fmt: skip

    def _require_settings(self, plan: BuildPlan) -> list[str]:
        """Refuses settings that this flavour cannot follow; notes on those that change nothing."""
        spec, label = plan.spec, self._flavour.label
        if not self._flavour.is_rtx:
            return []
        if spec.version_compatible:
            raise EngineError(
                f"{label} builds no version-compatible engines", where=plan.lowered,
                expected="version_compatible = false in [models.x.tensorrt]",
                found="version_compatible = true",
                hint="pytest --trt-backend=tensorrt, or leave the key out",
            )  # fmt: skip
        notes = []
        if spec.hardware_compatible:
            notes.append(
                f"hardware_compatible changes nothing: engines of {label} run on every GPU it supports"
            )
        if spec.optimization_level is not None:
            notes.append(
                f"optimization_level changes nothing: {label} picks its kernels where an engine runs"
            )
        return notes

    def _inspected(self, engine: Path, plan: BuildPlan) -> dict[str, Any]:
        """Device memory and layers of an engine that was just built, where it can be loaded."""
        if self.cannot_run is not None:
            return {"inspector": None, "inspector_note": f"not loaded: {self.cannot_run}"}
        described = self._described(
            engine, plugins=plan.spec.plugins, host_code=plan.spec.version_compatible
        )  # fmt: skip
        return {key: described[key] for key in ("memory_bytes", "inspector", "inspector_note")}

    def _described(
        self, engine: Path, *, plugins: tuple[Path, ...], host_code: bool, prebuilt: bool = False
    ) -> dict[str, Any]:
        label = self._flavour.label
        require_readable(engine, self._flavour, self._info.version)
        if self.cannot_run is not None:
            raise BackendError(
                f"{label} cannot run engines here", where=engine if prebuilt else None, found=self.cannot_run,
                hint="judge recorded outputs of the device: docs/embedded.md"
                if prebuilt
                else "pytest --trt-build-only, or --trt-backend=auto, which goes on with another",
            )  # fmt: skip
        for plugin in plugins:
            require_plugin(plugin)
        return self._ask(
            "describe", what=f"loading {engine.name} with {label}", engine=str(engine), host_code=host_code,
            plugins=[str(plugin) for plugin in plugins],
        )  # fmt: skip


def _profile(plan: BuildPlan) -> dict[str, dict[str, list[int]]]:
    return {
        name: {key: list(sizes) for key, sizes in asdict(shape).items()}
        for name, shape in plan.shapes.items()
    }


def _flags(plan: BuildPlan) -> dict[str, Any]:
    """The settings that reach the builder, besides shapes and plugins."""
    spec = plan.spec
    return {
        "tf32": plan.tf32, "version_compatible": spec.version_compatible,
        "hardware_compatible": spec.hardware_compatible, "optimization_level": spec.optimization_level,
        "workspace_mb": spec.workspace_mb,
    }  # fmt: skip


def _identity_of(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name, "compute_capability": list(gpu.compute_capability), "driver": gpu.driver,
        "cuda": gpu.cuda,
    }  # fmt: skip
