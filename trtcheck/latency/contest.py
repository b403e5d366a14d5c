"""One engine at one batch size, timed in the same rounds as whatever it is compared with."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trtcheck import approved_engines, digests
from trtcheck.backends.base import Closing
from trtcheck.baselines.latency_schema import LatencyBaseline, LatencyRun
from trtcheck.case import LatencySpec
from trtcheck.errors import CaseError, EngineError, TrtcheckError
from trtcheck.judge import looks
from trtcheck.latency import health
from trtcheck.latency.environment import gpu_facts, latency_environment
from trtcheck.latency.gpu_lock import timing_lock
from trtcheck.latency.measurement import APPROVED, ENGINE, REFERENCE, Measurement, Timings
from trtcheck.latency.record import LatencyResult
from trtcheck.latency.sampling import RELOAD, Reload, measure, run_for
from trtcheck.latency.stored import comparable, reference_digest, session_of
from trtcheck.latency.timing import Clock

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.backends.base import BackendInfo, BuiltEngine, TimedEngine
    from trtcheck.case import Case, EngineSpec
    from trtcheck.gpu import Gpu
    from trtcheck.latency.timing import Timer
    from trtcheck.progress import Advance
    from trtcheck.resolve import Resolved

_log = logging.getLogger("trtcheck")

MOST_ROUNDS = 8
"""A measurement may take as many times its rounds, where the verdict is open and the budget allows."""

ENERGY_SECONDS = 2.0
"""How long an engine runs alone for its energy: the counter of a GPU moves about ten times a second."""

FindBaseline = Callable[[Mapping[str, Any], str], LatencyBaseline | None]
"""The approved baseline by environment and lowered model, where there is one that may be compared."""

Undecided = Callable[[Mapping[str, Timings], LatencyBaseline | None, float], bool]
"""Whether more rounds could settle the verdict, by the times so far and the share of alpha of this look."""


@dataclass(frozen=True)
class Wanted:
    """What a measurement is for.

    Attributes:
        batch: Images of a query.
        budget: Seconds that it may take.
        rival: The engine that must be slower; None for none.
        find: Looks the approved baseline up.
        undecided: Whether to go on measuring.
    """

    batch: int
    budget: float
    rival: EngineSpec | None
    find: FindBaseline
    undecided: Undecided


class Loads(Protocol):
    """What a contest asks of the workbench."""

    @property
    def cache_root(self) -> Path:
        """The cache folder, in which approved engines are kept."""
        ...

    @property
    def session(self) -> str:
        """Tells pytest sessions apart."""
        ...

    @property
    def threads(self) -> int:
        """Threads for inference."""
        ...

    def built(self, case: Case, engine: EngineSpec) -> BuiltEngine:
        """The engine that runs."""
        ...

    def resolve(self, case: Case) -> Resolved:
        """The opened case."""
        ...

    def load_timed(
        self, case: Case, engine: EngineSpec, built: BuiltEngine, spec: LatencySpec
    ) -> TimedEngine:
        """Loads an engine to be timed."""
        ...

    def load_reference(self, case: Case, engine: EngineSpec, spec: LatencySpec) -> tuple[TimedEngine, str]:
        """Loads the FP32 model on the device of *engine*; what it is, in words, comes with it."""
        ...

    def info_of(self, engine: EngineSpec, built: BuiltEngine) -> BackendInfo:
        """What runs the engine."""
        ...

    def gpu_of(self, engine: EngineSpec) -> Gpu | None:
        """The GPU that runs the engine."""
        ...


def hold(
    loads: Loads, case: Case, engine: EngineSpec, spec: LatencySpec, wanted: Wanted, advance: Advance
) -> LatencyResult:
    """Times *engine* beside the approved engine, the reference and its rival, as far as there are any.

    Args:
        loads: Builds and loads.
        case: The case.
        engine: The engine.
        spec: How it is timed.
        wanted: What for.
        advance: Called with the number of rounds done since the last call.

    Raises:
        TrtcheckError: The case cannot be opened, or the engine not built, loaded or run.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    built, resolved = loads.built(case, engine), loads.resolve(case)
    info, gpu = loads.info_of(engine, built), loads.gpu_of(engine)
    batch, rival = feeds(case, resolved, wanted.batch), wanted.rival
    # Before the lock: whoever builds computes on the device, and would wait for this very measurement.
    rival_built = None if rival is None else loads.built(case, rival)
    alone = timing_lock(None if gpu is None else gpu.uuid, _log.info)
    with alone as unlocked, _Field(batch, spec) as field:
        try:
            timer = field.enter(ENGINE, lambda: loads.load_timed(case, engine, built, spec))
        except EngineError as error:
            if wanted.batch == case.batch:
                raise
            raise _at_batch(case, engine, wanted.batch, error) from error
        facts = None if gpu is None else gpu_facts(gpu.uuid)
        environment = latency_environment(info, timer.mode, gpu=facts, threads=loads.threads)
        lowered = made_from(case, built)
        baseline = wanted.find(environment, lowered)
        if baseline is not None:
            kept = approved_engines.find(loads.cache_root, baseline.engine_digest, baseline.engine_suffix)
            field.invite(APPROVED, lambda: _approved(loads, case, engine, built, spec, baseline, kept))
        shown = {ENGINE: f"{info.name} {info.version} {engine.name}"}
        field.invite(REFERENCE, lambda: _reference(loads, case, engine, spec, shown))
        if rival is not None and rival_built is not None:
            field.enter(rival.name, lambda: loads.load_timed(case, rival, rival_built, spec))
        beside = digests.of_json([resolved.model_digest, shown.get(REFERENCE)])
        held_against = baseline
        if baseline is not None and REFERENCE in field.timers:
            mode = field.timers[REFERENCE].mode
            held_against = comparable(baseline, reference_digest(beside, mode), {loads.session})
        measured = _timed(field, gpu, loads.threads, spec, wanted, held_against, advance)
        measured = replace(measured, unlocked=unlocked)
    own = digests.of_files([built.path])
    run = LatencyRun(
        model=case.name, engine=engine.name, batch=wanted.batch, environment=environment, lowered=lowered,
        engine_path=str(built.path), engine_suffix=built.path.suffix,
        session=session_of(measured, loads.session, started, own, beside), unhealthy=measured.unhealthy,
    )  # fmt: skip
    return LatencyResult(
        measurement=measured, runs=(run,), shown=shown, backend=info.name,
        precision=engine.precision.value if engine.precision else None, numerics=built.numerics,
    )  # fmt: skip


def _at_batch(case: Case, engine: EngineSpec, batch: int, error: EngineError) -> EngineError:
    """What an engine says to a batch size that no other check runs at."""
    return EngineError(
        f"{case.name}[{engine.name}] cannot be timed at batch {batch}", where=case.onnx,
        expected=f"a model that takes {batch} images, as it takes {case.batch}",
        found="; ".join(" ".join(line.split()) for line in str(error).splitlines()),
        hint=f"take {batch} out of batches in [models.{case.name}.latency]",
    )  # fmt: skip


def made_from(case: Case, built: BuiltEngine) -> str:
    """Digest of the lowered model and of how it is built: another make is another engine."""
    return digests.of_json([built.lowered["digest"], {k: str(v) for k, v in asdict(case.build).items()}])


def feeds(case: Case, resolved: Resolved, batch: int) -> dict[str, np.ndarray]:
    """The first images of the evaluation data as one batch; where they are fewer, they come again.

    Raises:
        CaseError: The model's batch size is fixed, and another one, or there is no memory for so many images.
        DataError: An image cannot be used.
    """
    import numpy as np

    from trtcheck.data.batches import read_feeds

    require_batch(case, resolved, batch)
    count = min(batch, len(resolved.images))
    try:
        once = read_feeds(resolved.images, resolved.signature, case.input, 0, count)
        rows = np.arange(batch) % count
        return {name: np.ascontiguousarray(array[rows]) for name, array in once.items()}
    except MemoryError as error:
        raise CaseError(
            f"{case.name} cannot be timed at batch {batch}: there is no memory for so many images",
            expected="a batch whose inputs fit into memory", found=error,
            hint=f"smaller batches in [models.{case.name}.latency]",
        ) from error  # fmt: skip


def require_batch(case: Case, resolved: Resolved, batch: int) -> None:
    """Refuses a batch size that the model does not take.

    Raises:
        CaseError: The model's is fixed, and another one.
    """
    fixed = resolved.signature.fixed_batch
    if fixed not in (None, batch):
        raise CaseError(
            f"{case.name} cannot be timed at batch {batch}: its batch size is fixed", where=case.onnx,
            expected=f"batch {fixed}", found=f"batch {batch}",
            hint=f"batches = [{fixed}] in [models.{case.name}.latency]",
        )  # fmt: skip


class _Field(Closing):
    """The contestants: each loaded, fed and run once.

    Args:
        batch: What they are fed.
        spec: How they are timed.
    """

    def __init__(self, batch: Mapping[str, np.ndarray], spec: LatencySpec) -> None:
        self._batch = batch
        self._spec = spec
        self._loads: dict[str, Callable[[], TimedEngine]] = {}
        self._open: dict[str, TimedEngine] = {}
        self._seconds = 0.0
        self.timers: dict[str, Timer] = {}
        self.absent: dict[str, str] = {}

    def enter(self, name: str, load: Callable[[], TimedEngine]) -> Timer:
        """Lets a contestant in; its mode is settled afterwards."""
        began = time.perf_counter()
        timer = self._enter(name, load)
        self._loads[name] = load
        self._seconds += time.perf_counter() - began
        return timer

    def _enter(self, name: str, load: Callable[[], TimedEngine]) -> Timer:
        loaded = self._open[name] = load()
        timer = loaded.timer(self._batch, transfers=self._spec.transfers, spin_wait=self._spec.spin_wait)
        timer.block(1)
        self.timers[name] = timer
        return timer

    def invite(self, name: str, load: Callable[[], TimedEngine]) -> None:
        """Lets a contestant in that the measurement can do without; why it stays away is kept."""
        try:
            self.enter(name, load)
        except TrtcheckError as error:
            self._close(name)
            self.absent[name] = "; ".join(" ".join(line.split()) for line in str(error).splitlines())

    def reload(self, budget: float) -> Reload | None:
        """How all of them are loaded anew, where what differs between loadings is worth it.

        On a processor memory lies differently with every loading, which moves times by .3 % for as long as
        an engine stays loaded. On a GPU it moves them less than a third as much, and loading takes seconds.
        """
        on_processor = all(timer.mode.clock is Clock.HOST for timer in self.timers.values())
        # Engines that take long to load would leave no time to be timed in.
        affordable = self._seconds * self._spec.rounds / RELOAD <= budget / 4
        return Reload(self._anew, self._seconds) if on_processor and affordable else None

    def _anew(self) -> Mapping[str, Timer]:
        for name, load in self._loads.items():
            self._close(name)
            self._enter(name, load)
        return self.timers

    def _close(self, name: str) -> None:
        loaded = self._open.pop(name, None)
        if loaded is not None:
            loaded.close()

    def close(self) -> None:
        """Closes all of them."""
        for name in tuple(self._open):
            self._close(name)


def _approved(
    loads: Loads, case: Case, engine: EngineSpec, built: BuiltEngine, spec: LatencySpec,
    baseline: LatencyBaseline, kept: Path | None,
) -> TimedEngine:  # fmt: skip
    if kept is None:
        raise EngineError(
            f"the approved engine {digests.short(baseline.engine_digest)} is not kept on this machine",
            hint="approve once more here (--trt-update-baselines), and keep the cache folder between runs "
            "(--trt-cache=DIR)",
        )
    return loads.load_timed(case, engine, replace(built, path=kept), spec)


def _reference(
    loads: Loads, case: Case, engine: EngineSpec, spec: LatencySpec, shown: dict[str, str]
) -> TimedEngine:
    loaded, words = loads.load_reference(case, engine, spec)
    shown[REFERENCE] = words
    return loaded


def _timed(
    field: _Field, gpu: Gpu | None, threads: int, spec: LatencySpec, wanted: Wanted,
    baseline: LatencyBaseline | None, advance: Advance,
) -> Measurement:  # fmt: skip
    """The rounds, the state of the machine around them, and the energy of the engine alone."""
    uuid = None if gpu is None else gpu.uuid
    with health.watch(uuid, threads=threads) as watch:
        sampled = measure(
            field.timers, rounds=spec.rounds, budget_s=wanted.budget,
            looks=looks(spec.rounds, spec.rounds * MOST_ROUNDS),
            undecided=lambda timings, share: wanted.undecided(timings, baseline, share),
            between=watch.sample, advance=advance, reload=field.reload(wanted.budget),
        )  # fmt: skip
        joules = _joules_per_query(field.timers[ENGINE], watch)
        state = watch.end()
    return Measurement(
        batch=wanted.batch, timings=sampled.timings, warm_up=sampled.warm_up, looks=sampled.looks,
        health=state, joules_per_query=joules, absent=field.absent, complete=sampled.complete,
    )  # fmt: skip


def _joules_per_query(timer: Timer, watch: health.Watch) -> float | None:
    before = watch.energy_joules()
    if before is None:
        return None
    queries = run_for(timer, ENERGY_SECONDS)
    after = watch.energy_joules()
    return (after - before) / queries if after is not None and after > before else None
