"""From a case and an engine's name to a built engine: lowered once, built once, kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck import digests, model
from trtcheck.backends.base import Backend, BuildPlan, BuiltEngine
from trtcheck.cache import MANIFEST, Cache, Entry, stem
from trtcheck.case import Case, EngineSpec, LoweringSpec, Precision
from trtcheck.errors import EngineError, LoweringError
from trtcheck.latency.gpu_lock import using
from trtcheck.latency.lane import computing

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.data import Images
    from trtcheck.progress import Advance

_LOWERED = "model.onnx"
REPAIRED = "the cached engine was damaged and was built anew"
MADE_AGAIN = "the cached lowered model was damaged and was made anew"


@dataclass(frozen=True)
class CalibrationFeeds:
    """Calibration inputs, preprocessed like the evaluation's, batch by batch; can be iterated again.

    Attributes:
        images: The calibration data.
        case: The case with its model and preprocessing.
        advance: Called with the number of images after every batch.
    """

    images: Images
    case: Case
    advance: Callable[[int], None]

    def __iter__(self) -> Iterator[tuple[Mapping[str, np.ndarray], int]]:
        """Yields a batch's arrays by input name, and how many of their rows are images and no padding."""
        from trtcheck.data.batches import batches

        signature = model.read_signature(self.case.onnx)
        for batch in batches(self.images, signature, self.case.input, self.case.batch):
            yield batch.feeds, batch.count
            self.advance(batch.count)


@dataclass(frozen=True)
class Lowered:
    """A model at the precision that was asked for, as an ONNX file.

    Attributes:
        path: The file.
        manifest: How it was made, JSON-ready: digests of source and calibration, method, nodes changed.
    """

    path: Path
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Workshop:
    """Where models are lowered and engines built.

    Attributes:
        cache: Where both are kept.
        session: Folder in which this session's processes note what they made: "from the cache" means from
            an earlier session, whichever of two models of one file comes first.
        rebuild: Whether what an earlier session made is made anew.
        threads: Threads for the calibration; 0 takes every core that this process may use.
        modelopt_python: The Python that has NVIDIA's ModelOpt; None for this one.
        digest: Gives the digest of an ONNX file: whoever asks for many engines remembers it.
    """

    cache: Cache
    session: Path
    rebuild: bool = False
    threads: int = 0
    modelopt_python: str | None = None
    digest: Callable[[Path], str] = model.digest

    def made(self, kind: str, key: str, make: Callable[[Path], dict[str, Any]]) -> tuple[Entry, bool]:
        """The cache's entry, and whether it is an earlier session's."""
        made_now = self.session / f"made-{kind}-{digests.short(key)}"

        def make_and_note(folder: Path) -> dict[str, Any]:
            manifest = make(folder)
            made_now.touch()  # under the entry's lock, so that nobody sees the one without the other
            return manifest

        entry = self.cache.get_or_make(
            kind, key, make_and_note, stale=lambda: self.rebuild and not made_now.exists()
        )
        return entry, not made_now.exists()


def lower(
    case: Case,
    engine: EngineSpec,
    workshop: Workshop,
    calibration: Images | None,
    advance: Advance = lambda _count: None,
    calibration_digest: Callable[[Images], str] | None = None,
) -> Lowered:
    """The model of *case* as *engine* wants it: made elsewhere, from the cache, or made now.

    Args:
        case: The case.
        engine: What is asked for.
        workshop: Where lowered models are made and kept.
        calibration: Calibration data, needed for INT8.
        advance: Called with the number of calibration images that were read since the last call.
        calibration_digest: Gives the digest of the calibration data; None reads it.

    Raises:
        LoweringError: The precision cannot be made from this model or without calibration data.
        BackendError: ONNX Runtime, which calibration runs on, is not installed.
        OptionError: The cache folder cannot be used.
        ModelError: A file is missing or damaged.
    """
    given = engine.path or (case.lowered.get(engine.precision) if engine.precision else None)
    if given is not None:
        spec = case.lowering.get(engine.precision, LoweringSpec()) if engine.precision else LoweringSpec()
        return Lowered(
            given,
            {
                "made_by": "elsewhere",
                "file": given.name,
                "exclude": list(spec.exclude),
                "digest": workshop.digest(given),
            },
        )
    if engine.precision is None:
        raise EngineError(f"engine '{engine.name}' names neither a precision nor a file")
    return _lower_here(case, engine.precision, workshop, calibration, advance, calibration_digest)


def _lower_here(
    case: Case, precision: Precision, workshop: Workshop, calibration: Images | None, advance: Advance,
    calibration_digest: Callable[[Images], str] | None,
) -> Lowered:  # fmt: skip
    spec = case.lowering.get(precision, LoweringSpec())
    int8 = precision is Precision.INT8
    if int8 and (calibration is None or len(calibration) == 0):
        raise LoweringError(
            f"{case.name}: INT8 needs calibration data", expected='calibration = "…" in the suite',
            found="none", hint='or name a file that is quantized already: [models.NAME.lowered] int8 = "…"',
        )  # fmt: skip
    calibrated = calibration is not None and (int8 or spec.maker != "trtcheck")
    digest = calibration_digest or (lambda images: images.digest())
    source = {
        "source_digest": workshop.digest(case.onnx),
        "calibration_digest": digest(calibration) if calibrated and calibration is not None else None,
        "calibration_images": len(calibration) if calibrated and calibration is not None else None,
    }
    key = digests.of_json(
        {
            **source,
            "precision": precision.value,
            "spec": asdict(spec),
            "input": asdict(case.input) if calibrated else None,
            "batch": case.batch if calibrated else None,
            **_tools(spec, int8, workshop),
        }
    )

    def make(folder: Path) -> dict[str, Any]:
        feeds = (
            CalibrationFeeds(calibration, case, advance) if calibrated and calibration is not None else None
        )
        with using(None):  # calibration takes every core
            made_by, manifest = _lowered_by(spec, case.onnx, precision, folder / _LOWERED, feeds, workshop)
        return {"made_by": made_by, **source, **manifest}

    entry, _cached = workshop.made("lowered", key, make)
    manifest = {name: value for name, value in entry.manifest.items() if name != "files"}
    if entry.repaired:
        manifest["notes"] = [*manifest.get("notes", ()), MADE_AGAIN]
    return Lowered(entry.folder / _LOWERED, {**manifest, "digest": _digest_of(entry)})


def _digest_of(entry: Entry) -> str:
    """The digest of a lowered model; where it is one file, the cache has just read that."""
    kept: Mapping[str, str] = entry.manifest["files"]
    return kept[_LOWERED] if kept.keys() == {_LOWERED, MANIFEST} else model.digest(entry.folder / _LOWERED)


def _tools(spec: LoweringSpec, int8: bool, workshop: Workshop) -> dict[str, Any]:
    """Versions of what lowers, for the key."""
    import onnx

    from trtcheck.environment import versions
    from trtcheck.precision import LOWERING_VERSION

    if spec.maker == "modelopt":
        from trtcheck.precision import modelopt

        return {
            "lowering_version": LOWERING_VERSION,
            "modelopt": modelopt.versions(workshop.modelopt_python),
        }
    runtimes = [v for name, v in versions().items() if name.startswith("onnxruntime")]
    return {
        "lowering_version": LOWERING_VERSION,
        "onnx": onnx.__version__,
        "onnxruntime": runtimes if int8 else None,
    }


def _lowered_by(
    spec: LoweringSpec, source: Path, precision: Precision, target: Path, feeds: CalibrationFeeds | None,
    workshop: Workshop,
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """Writes *target*; returns who did, and the manifest."""
    if spec.maker == "modelopt":
        from trtcheck.precision import modelopt

        return "modelopt", modelopt.lower(
            source, precision, spec, target=target, calibration=feeds, python=workshop.modelopt_python
        )
    from trtcheck.precision import lower as lower_model

    return "trtcheck", lower_model(
        source, precision, spec, target=target, calibration=feeds, threads=workshop.threads
    )


def build(
    lowered: Lowered,
    plan: BuildPlan,
    backend: Backend,
    workshop: Workshop,
    advance: Advance = lambda _count: None,
) -> BuiltEngine:
    """An engine of the *lowered* model on *backend*, from the cache or built now.

    Args:
        lowered: The model at its precision.
        plan: What the backend builds: its ``lowered`` is that model's file.
        backend: What runs it.
        workshop: Where engines are built and kept.
        advance: Called with the number of build steps done since the last call.

    Raises:
        EngineError: The backend does not take the model.
        BackendError: The backend cannot build on this machine.
    """
    numerics = backend.numerics(plan)
    digest = lowered.manifest["digest"]
    key = digests.of_json({"lowered": digest, "backend": backend.info.name, **backend.identity(plan)})
    name = f"{stem(key)}{backend.suffix}"

    def make(folder: Path) -> dict[str, Any]:
        with computing(backend):
            return {"facts": dict(backend.build(plan, folder / name, advance))}

    entry, cached = workshop.made("engines", key, make)
    facts = dict(entry.manifest["facts"])
    notes = tuple(facts.pop("notes", ()))
    return BuiltEngine(
        path=entry.folder / name,
        lowered_path=lowered.path,
        backend=backend.info.name,
        numerics=numerics,
        cached=cached,
        lowered=lowered.manifest,
        facts=facts,
        notes=(*notes, REPAIRED) if entry.repaired else notes,
    )
