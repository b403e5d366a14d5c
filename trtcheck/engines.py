"""From a case and an engine's name to a built engine: lowered once, built once, kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck import digests, model
from trtcheck.backends.base import Backend, BuiltEngine
from trtcheck.cache import Cache
from trtcheck.case import Case, EngineSpec, LoweringSpec, Precision
from trtcheck.errors import EngineError, LoweringError

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.data import Images

_LOWERED = "model.onnx"
_ENGINE = "engine.onnx"


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


def lower(
    case: Case,
    engine: EngineSpec,
    cache: Cache,
    calibration: Images | None,
    advance: Callable[[int], None] = lambda _count: None,
    *,
    threads: int = 0,
) -> Lowered:
    """The model of *case* as *engine* wants it: made elsewhere, from the cache, or made now.

    Args:
        case: The case.
        engine: What is asked for.
        cache: Where lowered models are kept.
        calibration: Calibration data, needed for INT8.
        advance: Called with the number of calibration images that were read since the last call.
        threads: Threads for the calibration; 0 takes every core that this process may use.

    Raises:
        LoweringError: The precision cannot be made from this model or without calibration data.
        BackendError: ONNX Runtime, which calibration runs on, is not installed.
        OptionError: The cache folder cannot be used.
        ModelError: A file is missing or damaged.
    """
    given = engine.path or (case.lowered.get(engine.precision) if engine.precision else None)
    if given is not None:
        return Lowered(given, {"made_by": "elsewhere", "file": given.name, "digest": model.digest(given)})
    if engine.precision is None:
        raise EngineError(f"engine '{engine.name}' names neither a precision nor a file")
    return _lower_here(case, engine.precision, cache, calibration, advance, threads)


def _lower_here(
    case: Case,
    precision: Precision,
    cache: Cache,
    calibration: Images | None,
    advance: Callable[[int], None],
    threads: int,
) -> Lowered:
    import onnx

    from trtcheck.environment import versions
    from trtcheck.precision import LOWERING_VERSION
    from trtcheck.precision import lower as lower_model

    spec = case.lowering.get(precision, LoweringSpec())
    quantized = precision is Precision.INT8
    if quantized and (calibration is None or len(calibration) == 0):
        raise LoweringError(
            f"{case.name}: INT8 needs calibration data", expected='calibration = "…" in the suite',
            found="none", hint='or name a file that is quantized already: [models.NAME.lowered] int8 = "…"',
        )  # fmt: skip
    source = {
        "source_digest": model.digest(case.onnx),
        "calibration_digest": calibration.digest() if quantized and calibration is not None else None,
        "calibration_images": len(calibration) if quantized and calibration is not None else None,
    }
    used = versions()
    key = digests.of_json(
        {
            **source,
            "precision": precision.value,
            "spec": asdict(spec),
            "input": asdict(case.input) if quantized else None,
            "batch": case.batch if quantized else None,
            "lowering_version": LOWERING_VERSION,
            "onnx": onnx.__version__,
            "onnxruntime": [v for name, v in used.items() if name.startswith("onnxruntime")]
            if quantized
            else None,
        }
    )

    def make(folder: Path) -> dict[str, Any]:
        feeds = (
            CalibrationFeeds(calibration, case, advance) if quantized and calibration is not None else None
        )
        manifest = lower_model(
            case.onnx, precision, spec, target=folder / _LOWERED, calibration=feeds, threads=threads
        )
        return {"made_by": "trtcheck", **source, **manifest}

    entry = cache.get_or_make("lowered", key, make)
    manifest = {name: value for name, value in entry.manifest.items() if name != "files"}
    return Lowered(entry.folder / _LOWERED, {**manifest, "digest": model.digest(entry.folder / _LOWERED)})


def build(lowered: Lowered, backend: Backend, cache: Cache, session: Path) -> BuiltEngine:
    """An engine of the *lowered* model on *backend*, from the cache or built now.

    Args:
        lowered: The model at its precision.
        backend: What runs it.
        cache: Where engines are kept.
        session: Folder in which this session's processes note what they built: "from the cache" means from
            an earlier session, whichever of two models of one file comes first.

    Raises:
        EngineError: The backend does not take the model.
    """
    numerics = backend.numerics(lowered.path)
    key = digests.of_json(
        {
            "lowered": lowered.manifest["digest"],
            "backend": backend.info.name,
            "version": backend.info.version,
            "build_version": backend.build_version,
        }
    )
    built_now = session / f"built-{digests.short(key)}"

    def make(folder: Path) -> dict[str, Any]:
        facts = dict(backend.build(lowered.path, folder / _ENGINE))
        built_now.touch()  # under the entry's lock, so that nobody sees the one without the other
        return {"facts": facts}

    entry = cache.get_or_make("engines", key, make)
    facts = dict(entry.manifest["facts"])
    notes = facts.pop("notes", ())
    return BuiltEngine(
        path=entry.folder / _ENGINE,
        lowered_path=lowered.path,
        numerics=numerics,
        cached=not built_now.exists(),
        lowered=lowered.manifest,
        facts=facts,
        notes=tuple(notes),
    )
