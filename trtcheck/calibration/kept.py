"""What was found out about calibration data and ranges, kept in the cache between sessions.

It follows from files alone: the reference model, both data sets, the lowered model and the version of ONNX
Runtime that runs them. What an engine answers is no part of it, and is never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtcheck import digests
from trtcheck.calibration.coverage import Coverage
from trtcheck.calibration.overlap import Match, Overlap
from trtcheck.calibration.saturation import Saturation, SaturationRow
from trtcheck.environment import preprocessing, runtime_version

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.backends.reference_place import Place
    from trtcheck.cache import Cache
    from trtcheck.case import Case
    from trtcheck.data import Images
    from trtcheck.resolve import Resolved

KIND = "calibration"
"""Folder of these entries in the cache."""
VERSION = 1
"""Raised when what is found in the same files changes."""

OfData = tuple[Overlap, Coverage | None]
_MATCHES = "{}.npy"
_LISTS = ("exact", "resized")


def of_data(
    cache: Cache, case: Case, resolved: Resolved, calibration: Images, digest: str, place: Place,
    find: Callable[[], OfData],
) -> OfData:  # fmt: skip
    """What calibration and evaluation data have in common, and the classes seen: kept, or found now.

    Args:
        cache: Where it is kept.
        case: The case.
        resolved: Its evaluation data and reference model.
        calibration: The calibration data.
        digest: Their digest.
        place: Where the reference runs, whose answers tell the classes where labels do not.
        find: Reads both data sets and finds out.

    Raises:
        TrtcheckError: What *find* raises, or the cache cannot be used.
    """
    labels = calibration.labels
    key = _key(
        case, resolved, calibration=digest, truth=digests.of_array(resolved.truth), scores=resolved.scores,
        classes=list(resolved.classes), calibration_classes=list(calibration.class_names or ()),
        labels=None if labels is None else digests.of_array(np.asarray(labels)), reference=place.identity(),
    )  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        overlap, coverage = find()
        for name in _LISTS:
            pairs = [(match.calibration, match.evaluation) for match in getattr(overlap, name)]
            np.save(folder / _MATCHES.format(name), np.array(pairs, np.int64).reshape(-1, 2))
        return {
            "overlap": asdict(replace(overlap, exact=(), resized=())),
            # A list, since the order of classes counts and keys are sorted when they are written.
            "coverage": coverage and {**asdict(coverage), "counts": list(coverage.counts.items())},
        }

    entry = cache.get_or_make(KIND, key, make)
    matches = {
        name: tuple(Match(*map(int, pair)) for pair in np.load(entry.folder / _MATCHES.format(name)))
        for name in _LISTS
    }
    found, seen = entry.manifest["overlap"], entry.manifest["coverage"]
    coverage = seen and Coverage(
        seen["by_labels"], dict(seen["counts"]), seen["unclassed"],
        tuple(seen["by_chance"]),
    )  # fmt: skip
    return Overlap(**{**found, **matches}), coverage


def of_ranges(
    cache: Cache, case: Case, resolved: Resolved, built: BuiltEngine, find: Callable[[], Saturation]
) -> Saturation:
    """How evaluation fills the ranges of a lowered model: kept, or found now; arguments as of `of_data`.

    Args:
        cache: Where it is kept.
        case: The case.
        resolved: Its evaluation data.
        built: The engine of the lowered model.
        find: Runs the model and finds out.

    Raises:
        TrtcheckError: What *find* raises, or the cache cannot be used.
    """
    key = _key(case, resolved, lowered=built.lowered["digest"], profile=built.facts.get("profile"))

    def make(_folder: Path) -> dict[str, Any]:
        return {"saturation": asdict(find())}

    found = cache.get_or_make(KIND, key, make).manifest["saturation"]
    return Saturation(
        rows=tuple(SaturationRow(**row) for row in found["rows"]), images=found["images"],
        unknown=found["unknown"],
    )  # fmt: skip


def _key(case: Case, resolved: Resolved, **more: Any) -> str:
    """Digest of everything that the findings follow from, *more* included."""
    return digests.of_json(
        {
            "version": VERSION,
            "preprocessing": preprocessing(),
            "runtime": f"onnxruntime {runtime_version()} cpu",
            "model": resolved.model_digest,
            "data": resolved.digest,
            "input": asdict(case.input),
            "batch": case.batch,
            **more,
        }
    )
