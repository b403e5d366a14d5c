"""The workbench's engines, loaded to be timed."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from trtcheck import digests
from trtcheck.backends import device_of, timing_reference
from trtcheck.case import EngineKind
from trtcheck.errors import BackendError
from trtcheck.latency.gpu_lock import using

if TYPE_CHECKING:
    from pathlib import Path

    from trtcheck.backends.base import Backend, BackendInfo, BuiltEngine, TimedEngine
    from trtcheck.case import BuildSpec, Case, EngineSpec, LatencySpec
    from trtcheck.gpu import Gpu
    from trtcheck.resolve import Resolved
    from trtcheck.session import Workbench

_log = logging.getLogger("trtcheck")


def computing(backend: Backend) -> AbstractContextManager[None]:
    """Computes on the device of *backend*, beside others, but not while anybody times there: see `using`."""
    try:
        gpu = device_of(backend)
    except BackendError:  # there is none to compute on: whoever tries is told
        return nullcontext()
    return using(None if gpu is None else gpu.uuid, _log.info)


class Lane:
    """What a contest asks of the workbench; see `trtcheck.latency.contest.Loads`.

    Args:
        workbench: Builds the engines.
    """

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    @property
    def cache_root(self) -> Path:
        """The cache folder, in which approved engines are kept."""
        return self._workbench.cache.root

    @property
    def session(self) -> str:
        """Tells pytest sessions apart: the folder of its results has a name of its own."""
        return digests.short(digests.of_json(str(self._workbench.shared_folder)))

    @property
    def threads(self) -> int:
        """Threads for inference."""
        return self._workbench.threads

    def built(self, case: Case, engine: EngineSpec) -> BuiltEngine:
        """The engine that runs, built once a session."""
        return self._workbench.built(case, engine)

    def resolve(self, case: Case) -> Resolved:
        """The opened case."""
        return self._workbench.resolve(case)

    def load_timed(
        self, case: Case, engine: EngineSpec, built: BuiltEngine, spec: LatencySpec
    ) -> TimedEngine:
        """Loads an engine to be timed, with the CUDA graph and the waiting that are asked for."""
        build = _build(case, spec)
        if engine.kind is EngineKind.ENGINE:
            return self._workbench.tensorrt_for(engine).load_prebuilt(built.path, build)
        backend = self._workbench.backend_of(engine)
        plan = self._workbench.plan(case, engine, built.lowered_path, backend.info.name)
        return backend.load(built.path, replace(plan, spec=build, spin_wait=spec.spin_wait))

    def load_reference(self, case: Case, engine: EngineSpec, spec: LatencySpec) -> tuple[TimedEngine, str]:
        """Loads the FP32 model in ONNX Runtime on the device of *engine*; what it is comes with it."""
        return timing_reference(
            case.onnx, self._workbench.backend_of(engine).info.name, threads=self.threads,
            cuda_graph=_build(case, spec).cuda_graph, spin_wait=spec.spin_wait,
        )  # fmt: skip

    def info_of(self, engine: EngineSpec, built: BuiltEngine) -> BackendInfo:
        """What runs the engine."""
        return self._workbench.info_of(engine, built)

    def gpu_of(self, engine: EngineSpec) -> Gpu | None:
        """The GPU that runs the engine; None where the processor does."""
        return device_of(self._workbench.backend_of(engine))


def _build(case: Case, spec: LatencySpec) -> BuildSpec:
    graph = case.build.cuda_graph if spec.cuda_graph is None else spec.cuda_graph
    return replace(case.build, cuda_graph=graph)
