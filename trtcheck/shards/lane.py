"""A case and its engine opened in a worker, kept from one shard to the next."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from trtcheck.backends.base import BuildPlan, BuiltEngine
from trtcheck.case import Case, EngineKind, EngineSpec
from trtcheck.comparison import Subject
from trtcheck.data.sources import open_images
from trtcheck.errors import DataError
from trtcheck.metrics.confusion import NO_LABEL
from trtcheck.model import read_signature
from trtcheck.progress import LoggedProgress
from trtcheck.resolve import Resolved
from trtcheck.session import Workbench
from trtcheck.shards import data
from trtcheck.shards.files import PATHS
from trtcheck.shards.task import Job, Task

if TYPE_CHECKING:
    from trtcheck.backends.base import LoadedEngine
    from trtcheck.backends.reference_place import Place
    from trtcheck.data import Images
    from trtcheck.model import Signature


@final
class Lent:
    """An engine that outlives those who borrow it: they may close it, and its owner does.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: LoadedEngine) -> None:
        self._engine = engine
        self.signature: Signature = engine.signature
        self.infer = engine.infer
        if hasattr(engine, "infer_many"):  # only where there is one: who asks may do without
            self.infer_many = engine.infer_many

    def close(self) -> None:
        """Does nothing."""

    def end(self) -> None:
        """Closes the engine."""
        self._engine.close()


@final
class ShardBench(Workbench):
    """Loads what was built elsewhere, and keeps it loaded.

    Args:
        cache: The cache folder of this machine.
        backend: What runs the engine.
        threads: Threads for inference.
        reference: Where the reference runs, ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, cache: Path, backend: str, threads: int, reference: str) -> None:
        # No results are shared: a shard is evaluated by one process.
        super().__init__(
            cache=cache, shared=cache / "none", backend=backend, threads=threads, progress=LoggedProgress(),
            reference=reference,
        )  # fmt: skip
        self.close()  # a kept engine is in memory: what it was loaded from may be trimmed between shards
        self._lent: Lent | None = None
        self._reference_lent: Lent | None = None

    def load(self, case: Case, engine: EngineSpec, built: BuiltEngine, resolved: Resolved) -> LoadedEngine:
        """The engine, loaded by the first who asks."""
        if self._lent is None:
            self._lent = Lent(super().load(case, engine, built, resolved))
        return self._lent

    def load_reference(self, case: Case, place: Place) -> LoadedEngine:
        """The reference, loaded by the first who asks; a bench has one model."""
        if self._reference_lent is None:
            self._reference_lent = Lent(super().load_reference(case, place))
        return self._reference_lent

    def plan(self, case: Case, engine: EngineSpec, lowered: Path, backend: str) -> BuildPlan:  # noqa: ARG002
        """What the engine was built from, as far as loading it depends on that."""
        return BuildPlan(lowered, engine.precision, {}, case.build)

    def end(self) -> None:
        """Closes engine and reference."""
        for lent in (self._lent, self._reference_lent):
            if lent is not None:
                lent.end()
        self._lent = self._reference_lent = None


@dataclass(frozen=True)
class Lane:
    """What a worker has opened for one evaluation.

    Attributes:
        job: The evaluation.
        bench: What loads and runs its engine here.
        case: The case, with paths of this machine.
        engine: The engine.
        built: The same, at its path on this machine.
        signature: Inputs and outputs of the reference model.
        images: The data; None where every shard brings its rows.
    """

    job: Job
    bench: ShardBench
    case: Case
    engine: EngineSpec
    built: BuiltEngine
    signature: Signature
    images: Images | None

    @classmethod
    def open(cls, job: Job, bench: ShardBench, model: Path, engine: Path) -> Lane:
        """Opens the data, and reads what the reference takes.

        Args:
            job: The evaluation.
            bench: What loads and runs its engine here.
            model: Where the reference model is here.
            engine: Where the built engine is here.

        Raises:
            DataError: The data cannot be opened.
            ModelError: The model cannot be read.
        """
        case = replace(job.case, onnx=model, data=data.at_home(job.case.data))
        prebuilt = job.engine.kind is EngineKind.ENGINE
        try:
            images = None if job.rows else open_images(case.data, classes=case.classes, spec=case.input)
        except DataError as error:
            raise DataError(
                f"the data of {case.name} cannot be opened on a worker",
                expected=f"what stands at {data.told(job.case.data)} where the evaluation was asked for",
                found=" ".join(str(error).splitlines()[0].split()),
                hint=f"mount or copy them there, or name the place on the worker: {PATHS}=/data=/mnt/data",
            ) from error
        return cls(
            job, bench, case, replace(job.engine, path=engine) if prebuilt else job.engine,
            replace(job.built, path=engine, lowered_path=engine), read_signature(model), images,
        )  # fmt: skip

    def images_of(self, task: Task) -> Images:
        """The data that *task* reads: opened here, or its own rows.

        Raises:
            DataError: It came without them.
        """
        images = self.images if task.rows is None else task.rows
        if images is None:
            raise DataError(f"{task} came without its images")
        return images

    def subject(self, task: Task) -> Subject:
        """What is compared in *task*; labels are those that came with it."""
        truth = np.full(self.job.images, NO_LABEL, np.int32)
        truth[task.span.start : task.span.stop] = task.labels
        resolved = Resolved(
            images=self.images_of(task), digest=self.job.data_digest, model_digest=self.job.model_digest,
            signature=self.signature, classes=("",) * self.job.classes, scores=self.job.scores, truth=truth,
        )  # fmt: skip
        return Subject(self.case, self.engine, self.built, resolved)


class Lanes:
    """The lanes of one process that no shard uses at the moment; all of one evaluation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Lane] = []

    def take(self, job: Job) -> Lane | None:
        """A lane of *job*, now the caller's alone; those of other evaluations are closed."""
        with self._lock:
            fitting = [lane for lane in self._idle if lane.job.session == job.session]
            others = [lane for lane in self._idle if lane.job.session != job.session]
            self._idle = fitting[1:]
        for lane in others:
            lane.bench.end()
        return fitting[0] if fitting else None

    def give(self, lane: Lane) -> None:
        """Keeps *lane* for the next shard."""
        with self._lock:
            self._idle.append(lane)

    def end(self, session: str) -> None:
        """Closes the lanes of an evaluation that has ended."""
        with self._lock:
            ended = [lane for lane in self._idle if lane.job.session == session]
            self._idle = [lane for lane in self._idle if lane.job.session != session]
        for lane in ended:
            lane.bench.end()


@functools.cache
def lanes() -> Lanes:
    """This process's lanes: executors give their workers no other place to keep anything between tasks."""
    return Lanes()
