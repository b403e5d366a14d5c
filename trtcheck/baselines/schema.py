"""What a baseline file holds, and how it becomes text and back."""

from __future__ import annotations

import base64
import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtcheck.baselines import documents
from trtcheck.baselines.documents import count, text
from trtcheck.metrics.confusion import Confusion

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation

SCHEMA_VERSION = 1
_COUNTS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True, eq=False)
class Baseline:
    """What was approved for one model, engine and environment.

    Attributes:
        model: Name of the case.
        engine: Name of the engine.
        environment: Where it was made; only backend and numerics must fit.
        digests: Digests of model, data, labels, calibration and lowered model, by name.
        images: Number of images.
        classes: Counts of each class (tp, fp, fn, tn) by name, in the order of the class numbers; empty
            without class scores.
        outputs: Error figures of each output by name.
        predictions: The engine's answers (N,), -1 for none; None where they are not stored.
        lowering: How the engine was made, for the reader; empty in files of before this was kept.
        reference: The provider and GPU that computed the reference; empty where the processor did, as it
            always had before this was kept.
    """

    model: str
    engine: str
    environment: Mapping[str, Any]
    digests: Mapping[str, str | None]
    images: int
    classes: Mapping[str, Mapping[str, int]]
    outputs: Mapping[str, Mapping[str, float | None]]
    predictions: np.ndarray | None
    lowering: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, str] = field(default_factory=dict)


def of_evaluation(evaluation: Evaluation) -> Baseline:
    """The baseline that approves *evaluation*."""
    record = evaluation.record
    classes: dict[str, dict[str, int]] = {}
    if evaluation.labels is not None:
        confusion = Confusion.of(
            evaluation.labels.truth, evaluation.labels.candidate, len(evaluation.classes)
        )
        columns = {name: getattr(confusion, name).tolist() for name in _COUNTS}
        classes = {
            name: {kind: columns[kind][k] for kind in _COUNTS} for k, name in enumerate(evaluation.classes)
        }
    return Baseline(
        model=evaluation.model,
        engine=evaluation.engine,
        environment=environment_of(record),
        digests=digests_of(record),
        images=evaluation.images,
        classes=classes,
        outputs={
            drift.name: {
                name: finite(getattr(drift, name)) for name in ("max_abs", "max_rel", "relative_l2", "cosine")
            }
            for drift in evaluation.outputs
        },
        predictions=None if evaluation.labels is None else evaluation.labels.candidate,
        lowering=lowering_of(record),
        reference=reference_of(record),
    )


def environment_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Where a run was made: backend, numerics, GPU where there is one and, for the reader, the libraries."""
    backend = record["environment"]["backend"]
    on_device = {} if backend["name"] == "onnxruntime-cpu" else {"device": backend["device"]}
    return {
        "backend": backend["name"],
        "numerics": record["numerics"],
        **on_device,
        "packages": record["environment"]["packages"],
    }


def lowering_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The precision that was asked for, and how the model was lowered to it, as far as that is known."""
    lowered = record["lowered"]
    found = {name: lowered.get(name) for name in ("made_by", "method", "percentile", "rest", "exclude")}
    return {name: value for name, value in {"precision": record["precision"], **found}.items() if value}


def reference_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Where the reference computed; empty for the processor, which is another one on every runner of a CI."""
    place = record["reference"]
    on_cpu = place["provider"] == "onnxruntime-cpu"
    return {} if on_cpu else {"provider": place["provider"], "device": place["device"]}


def digests_of(record: Mapping[str, Any]) -> dict[str, str | None]:
    """The digests by which a run is compared with what was approved."""
    return {
        "model": record["model"]["digest"],
        "data": record["data"]["digest"],
        "labels": record["data"]["labels_digest"],
        "calibration": record["lowered"].get("calibration_digest"),
        "lowered": record["lowered"]["digest"],
    }


def finite(value: float) -> float | None:
    """*value* as JSON has numbers: rounded to seven digits, None for NaN and infinity."""
    return float(f"{value:.7g}") if np.isfinite(value) else None


def dump(baseline: Baseline) -> str:
    """The text of a baseline file: sorted, one value a line, the same for the same results."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": baseline.model,
        "engine": baseline.engine,
        "environment": baseline.environment,
        "digests": baseline.digests,
        "images": baseline.images,
        "classes": {
            name: {**counts, "number": k} for k, (name, counts) in enumerate(baseline.classes.items())
        },
        "lowering": baseline.lowering,
        "outputs": baseline.outputs,
        "predictions": None if baseline.predictions is None else _pack(baseline.predictions),
    }
    if baseline.reference:
        document["reference"] = baseline.reference
    return documents.dump(document)


def parse(content: str, where: Path) -> Baseline:
    """The baseline in *content*, read from the file *where*.

    Raises:
        BaselineError: It is damaged, or of a schema that this version does not read.
    """
    return documents.parse(content, where, SCHEMA_VERSION, _read)


def _read(document: dict[str, Any]) -> Baseline:
    numbered = {count(row["number"]): (name, row) for name, row in document["classes"].items()}
    if sorted(numbered) != list(range(len(document["classes"]))):
        raise ValueError("the classes are not numbered from 0")
    classes = {
        name: {kind: count(row[kind]) for kind in _COUNTS} for _, (name, row) in sorted(numbered.items())
    }
    outputs = {str(name): dict(row) for name, row in document["outputs"].items()}
    images = count(document["images"])
    packed = document["predictions"]
    predictions = None if packed is None else _unpack(packed, images)
    return Baseline(
        model=text(document["model"]), engine=text(document["engine"]),
        environment=dict(document["environment"]), digests=dict(document["digests"]), images=images,
        classes=classes, outputs=outputs, predictions=predictions,
        lowering=dict(document.get("lowering", {})),
        reference={key: text(value) for key, value in document.get("reference", {}).items()},
    )  # fmt: skip


def _pack(labels: np.ndarray) -> list[str]:
    """Labels as base64 lines of compressed little-endian int16 (int32 above 32 767 classes), -1 for none."""
    dtype = "<i2" if labels.max(initial=0) < 1 << 15 else "<i4"
    packed = base64.b64encode(zlib.compress(labels.astype(dtype).tobytes(), 9)).decode()
    return [dtype, *textwrap.wrap(packed, 100)]


def _unpack(lines: list[str], images: int) -> np.ndarray:
    dtype, *rest = lines
    if dtype not in ("<i2", "<i4"):
        raise ValueError(f"predictions of type {dtype!r}")
    width = int(dtype[-1])
    raw = zlib.decompressobj().decompress(base64.b64decode("".join(rest), validate=True), images * width + 1)
    if len(raw) != images * width:
        raise ValueError(f"predictions of {len(raw) // width} images instead of {images}")
    return np.frombuffer(raw, dtype).astype(np.int32)
