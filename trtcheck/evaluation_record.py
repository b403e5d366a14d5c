"""An evaluation as plain data and arrays, so that processes can share it without pickle."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from trtcheck.evaluation import Evaluation, Labels
from trtcheck.metrics.drift import OutputDrift
from trtcheck.metrics.flips import Flip, Flips
from trtcheck.metrics.scores import ScoreDrift
from trtcheck.samples import Sample

_PICTURE = "picture"
_ARRAYS = ("truth", "reference", "candidate", "reference_top_k", "candidate_top_k")


def to_parts(evaluation: Evaluation) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The *evaluation* as a JSON-ready record and its arrays by name."""
    record: dict[str, Any] = {
        "model": evaluation.model,
        "engine": evaluation.engine,
        "classes": list(evaluation.classes),
        "images": evaluation.images,
        "start": evaluation.start,
        "top_k": evaluation.top_k,
        "outputs": [asdict(drift) for drift in evaluation.outputs],
        "scores": None if evaluation.scores is None else asdict(evaluation.scores),
        "flips": asdict(evaluation.flips),
        "problems": dict(evaluation.problems),
        "overflow": evaluation.overflow,
        "record": dict(evaluation.record),
        "samples": [{"index": own.index, "file": own.file, "row": own.row} for own in evaluation.samples],
    }
    labels = evaluation.labels
    arrays = {} if labels is None else {name: getattr(labels, name) for name in _ARRAYS}
    pictures = {
        f"{_PICTURE}{number}": np.frombuffer(sample.png, np.uint8)
        for number, sample in enumerate(evaluation.samples)
        if sample.png is not None
    }
    return record, {**arrays, **pictures}


def from_parts(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> Evaluation:
    """The evaluation that `to_parts` took apart."""
    flips = dict(record["flips"])
    flips["worst"] = tuple(map(_flip, flips["worst"]))
    return Evaluation(
        model=record["model"],
        engine=record["engine"],
        classes=tuple(record["classes"]),
        images=record["images"],
        start=record["start"],
        top_k=record["top_k"],
        labels=Labels(**{name: arrays[name] for name in _ARRAYS}) if "truth" in arrays else None,
        outputs=tuple(map(_drift, record["outputs"])),
        scores=None if record["scores"] is None else ScoreDrift(**record["scores"]),
        flips=Flips(**flips),
        problems=record["problems"],
        overflow=record["overflow"],
        record=record["record"],
        samples=tuple(
            Sample(**own, png=_picture(arrays.get(f"{_PICTURE}{number}")))
            for number, own in enumerate(record["samples"])
        ),
    )


def _drift(record: dict[str, Any]) -> OutputDrift:
    return OutputDrift(**{**record, "errors": tuple((e, count) for e, count in record["errors"])})


def _flip(record: dict[str, Any]) -> Flip:
    best = {side: tuple((k, share) for k, share in record[side]) for side in ("top_before", "top_after")}
    return Flip(**{**record, **best})


def _picture(content: np.ndarray | None) -> bytes | None:
    return None if content is None else content.tobytes()
