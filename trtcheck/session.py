"""One test session's work: engines built once, evaluations made once, whatever asks for them.

The workers of a session share results through a folder that the controller makes and removes; nothing
that an engine answered outlives the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck import digests
from trtcheck.backends import ON_GPU, TENSORRT, builder_beside, choose, open_backend
from trtcheck.backends.base import Backend, BackendInfo, BuildPlan, BuiltEngine
from trtcheck.cache import Cache
from trtcheck.case import (
    BuildSpec,
    Case,
    EngineKind,
    EngineSpec,
    InputSpec,
    LatencySpec,
    Numerics,
    Precision,
    ShapeRange,
)
from trtcheck.comparison import batching, compare
from trtcheck.engine_check import gates_record
from trtcheck.errors import CaseError, EngineError, TrtcheckError
from trtcheck.profiles import ranges
from trtcheck.resolve import ModelDigests, Resolved, case_key, identity, resolve
from trtcheck.shared import SharedResults

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.backends.base import LoadedEngine
    from trtcheck.backends.reference_place import Place
    from trtcheck.backends.tensorrt import TensorRt
    from trtcheck.baselines.latency_schema import LatencyRun
    from trtcheck.batch_invariance import BatchInvariance
    from trtcheck.calibration.findings import CalibrationFindings
    from trtcheck.calibration.saturation import Saturation
    from trtcheck.data import Images
    from trtcheck.engines import Lowered, Workshop
    from trtcheck.evaluation import Evaluation, ReferenceResult
    from trtcheck.latency.contest import Wanted
    from trtcheck.latency.record import LatencyResult
    from trtcheck.model import Tensor
    from trtcheck.progress import Progress
    from trtcheck.recordings import Recording
    from trtcheck.reference import CachedReference, LiveReference
    from trtcheck.shards.crew import Crew

_REMEMBERED = 4
"""Evaluations kept in memory; the items of one engine follow each other."""


class Workbench:
    """Builds and evaluates for one process; results are shared with the session's other workers.

    Args:
        cache: Cache folder (reference answers, lowered models, engines).
        shared: Folder of this session's results.
        backend: Name as for ``--trt-backend``.
        threads: Threads for inference.
        progress: Where long work is shown.
        rebuild: Whether engines and lowered models of earlier sessions are made anew.
        modelopt_python: The Python that has NVIDIA's ModelOpt; None for this one.
        crew: Gives who evaluates images in shards, asked for when there are any; None for this process alone.
        reference: Where the reference runs, as for ``--trt-reference``.
    """

    def __init__(
        self, *, cache: Path, shared: Path, backend: str, threads: int, progress: Progress,
        rebuild: bool = False, modelopt_python: str | None = None,
        crew: Callable[[], Crew] | None = None, reference: str = "auto",
    ) -> None:  # fmt: skip
        self.cache = Cache(cache)
        self.shared_folder = shared
        """Folder of this session's results; no other session has one of that name."""
        self.close = self.cache.begin_session()
        """Ends the session: what it used may be trimmed from here on."""
        self._results = SharedResults(shared)
        self._backend_name = backend
        self.threads = threads
        self.progress = progress
        self._rebuild = rebuild
        self._modelopt_python = modelopt_python
        self._crew = crew
        self._reference = reference
        self._places: dict[str, Place] = {}
        self._backends: dict[str, Backend] = {}
        self._resolved: dict[str, Resolved] = {}
        self._model_digests = ModelDigests()
        self._identities: dict[int, tuple[Any, Any]] = {}
        self._evaluations: dict[str, Evaluation] = {}
        self._last_recording: tuple[Path, tuple[Tensor, ...], Recording] | None = None
        self._last_calibration: tuple[str, CalibrationFindings] | None = None

    def _open(self, name: str) -> Backend:
        """The backend called *name*, opened when first needed."""
        if name not in self._backends:
            self._backends[name] = open_backend(name, threads=self.threads, cache=self.cache.root)
        return self._backends[name]

    def backend_of(self, engine: EngineSpec) -> Backend:
        """The backend that runs *engine*: what was asked for, or what its file was built for."""
        return (
            self.tensorrt_for(engine) if engine.kind is EngineKind.ENGINE else self._open(self._backend_name)
        )

    def tensorrt_for(self, engine: EngineSpec) -> TensorRt:
        """The flavour of TensorRT that the file of *engine* was built for.

        Raises:
            EngineError: The file is no engine, or another backend was asked for.
        """
        from trtcheck.backends.tensorrt import TensorRt, flavour_of

        flavour = flavour_of(engine.file)
        if self._backend_name not in ("auto", flavour):
            raise EngineError(
                f"the engine is one for {flavour}", where=engine.path,
                expected=f"--trt-backend=auto or {flavour}", found=f"--trt-backend={self._backend_name}",
            )  # fmt: skip
        backend = self._open(flavour)
        if not isinstance(backend, TensorRt):
            raise EngineError(f"{backend.info.name} reads no engines", where=engine.path)
        return backend

    def _workshop(self) -> Workshop:
        from trtcheck.engines import Workshop

        return Workshop(
            self.cache, self._results.folder, rebuild=self._rebuild, threads=self.threads,
            modelopt_python=self._modelopt_python, digest=self._model_digests.of,
        )  # fmt: skip

    def resolve(self, case: Case) -> Resolved:
        """The opened case, opened once a process; see `resolve`."""
        key = self._claimed(case)
        if key not in self._resolved:
            self._resolved.clear()  # one model's data at a time is enough memory
            self._resolved[key] = resolve(
                case, of_data=self._digest_once("data", case), of_model=self._model_digests.of
            )
        return self._resolved[key]

    def _digest_once(self, role: str, case: Case) -> Callable[[Images], str]:
        """What gives the digest of the data of *case* in that *role*: one process of a session reads them."""
        key = f"digest-{role}-{digests.short(self._claimed(case))}"

        def digest(images: Images) -> str:
            record, _ = self._results.get_or_make(key, lambda: ({"digest": images.digest()}, {}))
            return str(record["digest"])

        return digest

    def _claimed(self, case: Case) -> str:
        """The key of *case*, which has its name to itself: baselines and reports are kept by it.

        Raises:
            CaseError: Another case of this session has the same name.
        """
        key = case_key(case, self._remembered_identity)
        name = digests.short(digests.of_json(case.name))
        claim, _ = self._results.get_or_make(f"name-{name}", lambda: ({"case": key}, {}))
        if claim["case"] != key:
            raise CaseError(
                f"two different cases are called '{case.name}'",
                expected="a name of its own for every case, since baselines and reports are kept by it",
                hint='name them apart, for example Case(name=f"{model}-{variant}", …)',
            )
        return key

    def _remembered_identity(self, case: Case, source: Any) -> Any:
        """The identity of a source, read once as long as the source lives."""
        known = self._identities.get(id(source))
        if known is None or known[0] is not source:
            known = self._identities[id(source)] = (source, identity(case, source))
        return known[1]

    def _key(self, case: Case, engine: EngineSpec) -> str:
        return digests.short(digests.of_json([self._claimed(case), engine.name, str(engine.path)]))

    def built(self, case: Case, engine: EngineSpec) -> BuiltEngine:
        """The engine that runs, built once a session or read where it was built elsewhere.

        Raises:
            TrtcheckError: It cannot be lowered, built or read.
        """
        return self._built("build", case, engine, lambda: self._build(case, engine))

    def open_beside(self) -> None:
        """Opens the backend whose engines are built besides those that run, where there is one.

        Raises:
            BackendError: Its library is broken.
        """
        name = builder_beside(self._backend_name)
        if name is not None:
            self._open(name)

    def beside(self, case: Case, engine: EngineSpec) -> BuiltEngine | None:
        """The TensorRT engine that is built besides the one that runs, if one is: see `builder_beside`.

        Raises:
            TrtcheckError: TensorRT does not take the model.
        """
        name = builder_beside(self._backend_name)
        if name is None or engine.kind not in (EngineKind.PRECISION, EngineKind.LOWERED):
            return None
        # TensorRT for RTX builds no version-compatible engines; what it proves does not depend on that.
        spec = replace(case.build, version_compatible=False)

        def build() -> BuiltEngine:
            return self._build_on(self._open(name), case, engine, spec)

        return self._built("beside", case, engine, build)

    def _built(
        self, kind: str, case: Case, engine: EngineSpec, build: Callable[[], BuiltEngine]
    ) -> BuiltEngine:
        """What *build* makes, once a session."""

        def make() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            built = build()
            paths = {"path": str(built.path), "lowered_path": str(built.lowered_path)}
            return {**asdict(built), **paths}, {}

        record, _ = self._results.get_or_make(f"{kind}-{self._key(case, engine)}", make)
        return BuiltEngine(
            **{
                **record,
                "path": Path(record["path"]),
                "lowered_path": Path(record["lowered_path"]),
                "numerics": Numerics(record["numerics"]),
                "notes": tuple(record["notes"]),
            }
        )

    def _build(self, case: Case, engine: EngineSpec) -> BuiltEngine:
        from trtcheck import prebuilt

        if engine.kind is EngineKind.RECORDING:
            resolved = self.resolve(case)
            return prebuilt.check_recording(self.recording(engine.file, resolved), case, resolved)
        if engine.kind is EngineKind.ENGINE:
            backend = self.tensorrt_for(engine)
            return prebuilt.read_engine(engine, case, self.resolve(case).signature, backend)
        return self._build_on(self._open(self._backend_name), case, engine, case.build)

    def _build_on(self, backend: Backend, case: Case, engine: EngineSpec, spec: BuildSpec) -> BuiltEngine:
        from trtcheck.engines import build

        lowered = self._lower(case, engine)
        plan = replace(self.plan(case, engine, lowered.path, backend.info.name), spec=spec)
        with self.progress.task(f"building {case.name}[{engine.name}] for {backend.info.name}") as advance:
            return build(lowered, plan, backend, self._workshop(), advance)

    def _lower(self, case: Case, engine: EngineSpec) -> Lowered:
        from trtcheck.data.sources import open_images
        from trtcheck.engines import lower

        calibration = None
        if case.calibration is not None and _needs_calibration(case, engine):
            calibration = open_images(case.calibration, spec=_calibration_input(case), role="calibration")
        total = None if calibration is None else len(calibration)
        with self.progress.task(f"lowering {case.name}[{engine.name}]", total) as advance:
            return lower(
                case, engine, self._workshop(), calibration, advance, self._digest_once("calibration", case)
            )

    def plan(self, case: Case, engine: EngineSpec, lowered: Path, backend: str) -> BuildPlan:
        """What *backend* builds from the *lowered* model."""
        shapes: Mapping[str, ShapeRange] = {}
        if backend in TENSORRT:
            shapes = ranges(case, lowered, lambda: self._fed_shapes(case))
        return BuildPlan(lowered, engine.precision, shapes, case.build)

    def _fed_shapes(self, case: Case) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs (the batch axis included) that the evaluation data give."""
        from trtcheck.data.batches import batches

        resolved = self.resolve(case)
        stop = min(1, len(resolved.images))
        batch = next(batches(resolved.images, resolved.signature, case.input, 1, stop=stop, prefetch=0))
        return {name: feed.shape for name, feed in batch.feeds.items()}

    def evaluation(self, case: Case, engine: EngineSpec) -> Evaluation:
        """The comparison of the engine with the reference, made once a session.

        Raises:
            TrtcheckError: The case cannot be opened, or the engine not built or run.
        """
        from trtcheck.evaluation_record import from_parts, to_parts

        key = self._key(case, engine)
        if key not in self._evaluations:
            record, arrays = self._results.get_or_make(
                f"evaluation-{key}", lambda: to_parts(self._compared(case, engine))
            )
            while len(self._evaluations) >= _REMEMBERED:
                del self._evaluations[next(iter(self._evaluations))]
            self._evaluations[key] = from_parts(record, arrays)
        return self._evaluations[key]

    def _compared(self, case: Case, engine: EngineSpec) -> Evaluation:
        if self._crew is None:
            return compare(self, case, engine)
        from trtcheck.shards.sharded import evaluate

        return evaluate(self, case, engine, self._crew())

    def batch_invariance(self, case: Case, engine: EngineSpec) -> BatchInvariance:
        """What some images' answers differ by between batches, found out once a session.

        Raises:
            TrtcheckError: The case cannot be opened, or the engine not built or run, or it is a recording.
        """
        from trtcheck.batch_invariance import from_record

        key = f"{self._key(case, engine)}-{digests.short(digests.of_json(case.gates.batch_tolerance))}"
        record, _ = self._results.get_or_make(
            f"batches-{key}", lambda: (asdict(self._in_batches(case, engine)), {})
        )
        return from_record(record)

    def _in_batches(self, case: Case, engine: EngineSpec) -> BatchInvariance:
        from trtcheck.backends.onnxruntime import reference_session
        from trtcheck.batch_trials import try_batches

        if engine.kind is EngineKind.RECORDING:
            raise CaseError(
                f"the answers of '{engine.name}' are recorded: they cannot be asked for in other batches",
                where=engine.path,
            )
        built = self.built(case, engine)
        resolved = self.resolve(case)
        with self.computing(engine), closing(self.load(case, engine, built, resolved)) as loaded:
            signature, _size = batching(case, resolved.signature, loaded.signature, built)
            with self.progress.task(f"batches of {case.name}[{engine.name}]") as advance:
                return try_batches(
                    case, engine, built, resolved, signature, loaded, advance=advance,
                    # On the processor: what is blamed is the model, where batches do not choose the kernels.
                    reference=lambda: reference_session(case.onnx, self.threads),
                )  # fmt: skip

    def reference(self, case: Case) -> ReferenceResult:
        """What the reference answers on the case, without any engine.

        Raises:
            TrtcheckError: The case cannot be opened, or gives no class scores.
        """
        from trtcheck.data.batches import batches
        from trtcheck.streaming import stream_reference

        resolved = self.resolve(case)
        size = resolved.signature.fixed_batch or case.batch
        place = self.reference_place()
        with (
            self.computing(None, place),
            self.progress.task(f"evaluating the reference of {case.name}", len(resolved.images)) as advance,
            self.open_reference(case, resolved, size, place) as reference,
        ):
            return stream_reference(
                case, classes=resolved.classes, scores=resolved.scores, truth=resolved.truth,
                reference=reference, advance=advance,
                batches=batches(resolved.images, resolved.signature, case.input, size),
            )  # fmt: skip

    def scores(self, case: Case, engine: EngineSpec | None, images: Images) -> np.ndarray:
        """The class scores (N, C) of an engine, or of the reference (None), on *images* of any kind.

        Raises:
            TrtcheckError: The case cannot be opened or gives no class scores, the images do not fit the
                model, or the engine cannot be built or run.
        """
        import numpy as np

        from trtcheck.class_scores import as_scores
        from trtcheck.data.batches import batches

        resolved = self.resolve(case)
        if resolved.scores is None:
            raise CaseError(f"{case.name} gives no class scores")
        signature, size = resolved.signature, resolved.signature.fixed_batch or case.batch
        if engine is None:
            loaded = self.load_reference(case, self.reference_place())
        else:
            built = self.built(case, engine)
            loaded = self.load(case, engine, built, resolved)
            signature, size = batching(case, signature, loaded.signature, built)
        name, classes = resolved.scores, len(resolved.classes)
        with closing(loaded):
            found = [
                as_scores(_output(loaded.infer(batch.feeds), name, case), classes, case, name)[: batch.count]
                for batch in batches(images, signature, case.input, size)
            ]
        return np.concatenate(found)

    def recorded_scores(self, case: Case, engine: EngineSpec, indices: Sequence[int]) -> np.ndarray:
        """The class scores (N, C) that a recording holds for the evaluation images *indices*.

        Raises:
            TrtcheckError: The case cannot be opened or gives no class scores, or the recording is not one of
                its evaluation images.
        """
        from trtcheck.class_scores import as_scores

        resolved = self.resolve(case)
        if resolved.scores is None:
            raise CaseError(f"{case.name} gives no class scores")
        recording = self.recording(self.built(case, engine).path, resolved)
        name = resolved.scores
        rows = _output(recording.outputs, name, case)[list(indices)]
        return as_scores(rows, len(resolved.classes), case, name)

    def calibration(self, case: Case, engine: EngineSpec) -> CalibrationFindings:
        """What calibration and evaluation data have in common, and how evaluation fills the engine's ranges.

        Raises:
            TrtcheckError: The case cannot be opened, the engine not built, or its lowered model not run.
        """
        built = self.built(case, engine)
        resolved = self.resolve(case)
        saturation = self._saturation(case, engine, built, resolved)
        key = self._claimed(case)
        if self._last_calibration is None or self._last_calibration[0] != key:
            self._last_calibration = (key, self._of_calibration_data(case, resolved))
        elsewhere = built.lowered.get("made_by") in (None, "elsewhere")
        return replace(self._last_calibration[1], made_elsewhere=elsewhere, saturation=saturation)

    def _of_calibration_data(self, case: Case, resolved: Resolved) -> CalibrationFindings:
        """What the calibration data show, whatever engine they made."""
        from trtcheck.calibration import examine, kept
        from trtcheck.calibration.findings import CalibrationFindings
        from trtcheck.data.sources import open_images

        if case.calibration is None:
            return CalibrationFindings()
        images = open_images(case.calibration, spec=_calibration_input(case), role="calibration")

        digest = self._digest_once("calibration", case)(images)

        place = self.reference_place()  # that of the session: what the data show is no matter of one engine

        @contextmanager
        def reference() -> Iterator[CachedReference | LiveReference]:
            beside = replace(resolved, images=images, digest=digest)
            size = resolved.signature.fixed_batch or case.batch
            with self.computing(None, place), self.open_reference(case, beside, size, place) as opened:
                yield opened

        def find() -> kept.OfData:
            with self.progress.task(f"reading the calibration data of {case.name}", len(images)) as advance:
                side, coverage = examine.survey(case, resolved, images, reference, advance)
            label = f"looking for evaluation images of {case.name} among them"
            with self.progress.task(label, len(resolved.images)) as advance:
                return examine.overlap_of(case, resolved, side, images, advance), coverage

        overlap, coverage = kept.of_data(self.cache, case, resolved, images, digest, place, find)
        return CalibrationFindings(
            overlap=overlap, coverage=coverage,
            exact_pairs=examine.pairs_of(overlap.exact, resolved.images, images),
            resized_pairs=examine.pairs_of(overlap.resized, resolved.images, images),
        )  # fmt: skip

    def _saturation(
        self, case: Case, engine: EngineSpec, built: BuiltEngine, resolved: Resolved
    ) -> Saturation | None:
        """How the evaluation data fill the ranges of the lowered model; None where there is no such model."""
        from trtcheck.calibration import kept
        from trtcheck.calibration.saturation import Probes, sample
        from trtcheck.data.batches import batches

        if engine.kind not in (EngineKind.PRECISION, EngineKind.LOWERED):
            return None

        def find() -> Saturation:
            probes = Probes(built.lowered_path, self.threads)
            signature, size = batching(case, resolved.signature, probes.signature, built)
            images = sample(resolved.images, signature.fixed_batch)
            with self.progress.task(f"looking into {case.name}[{engine.name}]", len(images)) as advance:
                return probes.run(batches(images, signature, case.input, size), advance)

        return kept.of_ranges(self.cache, case, resolved, built, find)

    def latency(self, case: Case, engine: EngineSpec, wanted: Wanted) -> LatencyResult:
        """How long the engine takes, beside what it is compared with; measured once a session.

        Raises:
            TrtcheckError: The case cannot be opened, or the engine not built or run.
        """
        from trtcheck.latency import contest, record
        from trtcheck.latency.lane import Lane

        spec = case.latency or LatencySpec()
        rival = None if wanted.rival is None else wanted.rival.name
        asked = [asdict(spec), wanted.batch, rival, wanted.budget, gates_record(case.gates)]
        key = f"latency-{self._key(case, engine)}-{digests.short(digests.of_json(asked))}"

        def measure() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            if engine.kind is EngineKind.RECORDING:
                return record.to_parts(self._recorded_latency(case, engine, spec))
            label = f"timing {case.name}[{engine.name}] at batch {wanted.batch}"
            with self.progress.task(label) as advance:
                return record.to_parts(contest.hold(Lane(self), case, engine, spec, wanted, advance))

        return record.from_parts(*self._results.get_or_make(key, measure))

    def _recorded_latency(self, case: Case, engine: EngineSpec, spec: LatencySpec) -> LatencyResult:
        """The times that came with a recording."""
        from trtcheck.latency.playback import play

        built, resolved = self.built(case, engine), self.resolve(case)
        return play(
            self.recording(built.path, resolved), case, engine, spec, built, self.info_of(engine, built),
            resolved.model_digest,
        )  # fmt: skip

    def recording(self, path: Path, resolved: Resolved) -> Recording:
        """The recording at *path*, read once although it is checked first and asked for answers later."""
        from trtcheck.recordings import read_recording

        outputs = resolved.signature.outputs
        if self._last_recording is None or self._last_recording[:2] != (path, outputs):
            self._last_recording = (path, outputs, read_recording(path, outputs))
        return self._last_recording[2]

    @contextmanager
    def computing(self, engine: EngineSpec | None, reference: Place | None = None) -> Iterator[None]:
        """Waits for timings on the devices that compute, and keeps others from beginning there.

        Inside of it nothing may wait for what another process computes: see `latency.gpu_lock.using`.

        Args:
            engine: What computes; None for no engine. A recording does not.
            reference: Where the reference computes, if it does; the processor counts with an engine only.
        """
        from trtcheck.latency.lane import computing

        computes = None if engine is None or engine.kind is EngineKind.RECORDING else self.backend_of(engine)
        with ExitStack() as stack:
            if computes is not None:
                stack.enter_context(computing(computes))
            on_gpu = computes is not None and computes.info.name in ON_GPU
            if reference is not None and reference.on_gpu and not on_gpu:
                # No device is locked twice, and the GPU last: nobody times on both.
                stack.enter_context(computing(self._open(reference.provider)))
            yield

    def load(self, case: Case, engine: EngineSpec, built: BuiltEngine, resolved: Resolved) -> LoadedEngine:
        """Loads a built engine; whoever asks closes it."""
        if engine.kind is EngineKind.RECORDING:
            from trtcheck.recordings import RecordedEngine

            return RecordedEngine(self.recording(built.path, resolved), images=len(resolved.images))
        if engine.kind is EngineKind.ENGINE:
            return self.tensorrt_for(engine).load_prebuilt(built.path, case.build)
        backend = self.backend_of(engine)
        return backend.load(built.path, self.plan(case, engine, built.lowered_path, backend.info.name))

    def info_of(self, engine: EngineSpec, built: BuiltEngine) -> BackendInfo:
        """What ran *engine*, for the fingerprint."""
        if engine.kind is EngineKind.RECORDING:
            from trtcheck import prebuilt

            return prebuilt.recorded_on(built)
        return self.backend_of(engine).info

    def reference_place(self, engine: EngineSpec | None = None) -> Place:
        """Where the reference computes beside *engine*.

        Without one, and beside a recording, which runs nowhere, the session's backend counts.

        Raises:
            BackendError: A GPU was asked for by name, and ONNX Runtime cannot compute on it.
        """
        from trtcheck.backends.reference_place import place_of

        if engine is None or engine.kind is EngineKind.RECORDING:
            beside = choose(self._backend_name).name
        else:
            beside = self.backend_of(engine).info.name
        if beside not in self._places:
            self._places[beside] = place_of(self._reference, beside, self._open)
        return self._places[beside]

    def load_reference(self, case: Case, place: Place) -> LoadedEngine:
        """Loads the original model at its *place*; whoever asks closes it.

        Raises:
            EngineError: ONNX Runtime does not take it.
        """
        from trtcheck.backends.reference_place import load_fp32

        try:
            return load_fp32(self._open(place.provider), case.onnx, self.threads)
        except EngineError as error:
            if not place.on_gpu:
                raise
            raise EngineError(
                f"the reference cannot run on {place.device}", where=case.onnx,
                found=" ".join(str(error).split()), hint="--trt-reference=cpu runs it on the processor",
            ) from error  # fmt: skip

    def open_reference(
        self, case: Case, resolved: Resolved, size: int, place: Place, span: range | None = None
    ) -> AbstractContextManager[CachedReference | LiveReference]:
        """The reference's answers in batches of *size*, from the cache or computed on the way.

        Args:
            case: The case.
            resolved: The same, opened.
            size: Images a batch.
            place: Where it computes, see `reference_place`.
            span: The images that will be asked for; None for all.
        """
        from trtcheck.environment import preprocessing
        from trtcheck.reference import open_reference

        key = digests.of_json(
            {
                "model": resolved.model_digest,
                "data": resolved.digest,
                "input": asdict(case.input),
                "batch": size,
                "preprocessing": preprocessing(),
                "place": place.identity(),
            }
        )
        return open_reference(
            self.cache, key, len(resolved.images), lambda: self.load_reference(case, place), span
        )


def _output(outputs: Mapping[str, np.ndarray], name: str, case: Case) -> np.ndarray:
    """The output *name* of an engine.

    Raises:
        EngineError: It has no such output.
    """
    if name not in outputs:
        raise EngineError(
            f"{case.name}: the engine has no output '{name}', which holds the class scores",
            expected=name, found=", ".join(sorted(outputs)) or "no output",
        )  # fmt: skip
    return outputs[name]


def _calibration_input(case: Case) -> InputSpec:
    """The preprocessing of the calibration data: arrays beside an image folder are resized already."""
    source = case.calibration
    if isinstance(source, str | Path) and Path(source).is_dir():
        return case.input
    return replace(case.input, resize=None, crop=None, color="RGB")


def _needs_calibration(case: Case, engine: EngineSpec) -> bool:
    spec = case.lowering.get(engine.precision) if engine.precision is not None else None
    return engine.precision is Precision.INT8 or (spec is not None and spec.maker == "modelopt")


def read_evaluations(shared: Path) -> list[Evaluation]:
    """The evaluations of a session that succeeded, by model and engine.

    Args:
        shared: The session's folder.
    """
    from trtcheck.evaluation_record import from_parts

    results = SharedResults(shared)
    found = []
    for path in shared.glob("evaluation-*.json"):
        try:
            found.append(from_parts(*results.read(path.stem)))
        except TrtcheckError:
            continue  # its items have reported the error
    return sorted(found, key=lambda evaluation: (evaluation.model, evaluation.engine))


def read_latency_runs(shared: Path) -> list[LatencyRun]:
    """What a session measured, as far as baselines are concerned, by model, engine and batch size.

    Args:
        shared: The session's folder.
    """
    from trtcheck.latency.record import from_parts

    results = SharedResults(shared)
    found: list[LatencyRun] = []
    for path in shared.glob("latency-*.json"):
        try:
            found += from_parts(*results.read(path.stem)).runs
        except TrtcheckError:
            continue  # its items have reported the error
    return sorted(found, key=lambda run: (run.model, run.engine, run.batch, run.session.started))
