"""An evaluation as plain data and arrays, so that processes can share it without pickle."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trtcheck.evaluation import Evaluation, Labels
from trtcheck.metrics.drift import OutputDrift
from trtcheck.metrics.flips import Flip, Flips
from trtcheck.metrics.scores import ScoreDrift

if TYPE_CHECKING:
    import numpy as np

_ARRAYS = ("truth", "reference", "candidate", "reference_top_k", "candidate_top_k")


def to_parts(evaluation: Evaluation) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The *evaluation* as a JSON-ready record and its arrays by name."""
    record = {
        "model": evaluation.model,
        "engine": evaluation.engine,
        "classes": list(evaluation.classes),
        "images": evaluation.images,
        "top_k": evaluation.top_k,
        "outputs": [asdict(drift) for drift in evaluation.outputs],
        "scores": None if evaluation.scores is None else asdict(evaluation.scores),
        "flips": asdict(evaluation.flips),
        "problems": list(evaluation.problems),
        "overflow": evaluation.overflow,
        "record": dict(evaluation.record),
    }
    labels = evaluation.labels
    return record, {} if labels is None else {name: getattr(labels, name) for name in _ARRAYS}


def from_parts(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> Evaluation:
    """The evaluation that `to_parts` took apart."""
    flips = dict(record["flips"])
    flips["worst"] = tuple(Flip(**flip) for flip in flips["worst"])
    return Evaluation(
        model=record["model"],
        engine=record["engine"],
        classes=tuple(record["classes"]),
        images=record["images"],
        top_k=record["top_k"],
        labels=Labels(**{name: arrays[name] for name in _ARRAYS}) if arrays else None,
        outputs=tuple(OutputDrift(**drift) for drift in record["outputs"]),
        scores=None if record["scores"] is None else ScoreDrift(**record["scores"]),
        flips=Flips(**flips),
        problems=tuple(record["problems"]),
        overflow=record["overflow"],
        record=record["record"],
    )
