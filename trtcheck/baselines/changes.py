"""What is not as it was when a baseline was approved: model, data, how it was lowered, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtcheck.baselines import schema
from trtcheck.digests import short

if TYPE_CHECKING:
    from trtcheck.baselines.schema import Baseline
    from trtcheck.evaluation import Evaluation


@dataclass(frozen=True)
class Change:
    """One thing that changed.

    Attributes:
        what: Its name: ``"model"``, ``"evaluation data"``, ``"calibration method"``, a package, …
        approved: What it was, in words; of files the beginning of their digest.
        now: What it is.
    """

    what: str
    approved: str
    now: str


_DIGESTS = {
    "model": "model", "data": "evaluation data", "labels": "labels", "calibration": "calibration data",
    "lowered": "lowered model",
}  # fmt: skip
_LOWERING = {
    "precision": "precision", "made_by": "lowered by", "method": "calibration method",
    "percentile": "calibration percentile", "rest": "what is not quantized", "exclude": "excluded nodes",
}  # fmt: skip
_PACKAGES = ("pytest-trtcheck", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu")
"""Packages that the answers of every backend depend on."""


def between(baseline: Baseline, evaluation: Evaluation) -> tuple[Change, ...]:
    """What changed from *baseline* to *evaluation*, the weightiest first; unknown is unchanged."""
    record = evaluation.record
    return (
        *of_files(baseline, record), *_of_lowering(baseline, record), *_of_reference(baseline, record),
        *_of_packages(baseline, record),
    )  # fmt: skip


def of_files(baseline: Baseline, record: Mapping[str, Any]) -> tuple[Change, ...]:
    """Changed model, data and calibration; the lowered model only where none of these explains it."""
    now = schema.digests_of(record)
    differ = [name for name in _DIGESTS if baseline.digests.get(name) != now[name]]
    told = differ if differ == ["lowered"] else [name for name in differ if name != "lowered"]
    return tuple(
        Change(_DIGESTS[name], _digest(baseline.digests.get(name)), _digest(now[name])) for name in told
    )


def _digest(value: str | None) -> str:
    return "none" if value is None else short(str(value))


def _of_lowering(baseline: Baseline, record: Mapping[str, Any]) -> Iterator[Change]:
    if not baseline.lowering:
        return
    now = schema.lowering_of(record)
    for name, what in _LOWERING.items():
        then = baseline.lowering.get(name)
        if then != now.get(name):
            yield Change(what, _shown(then), _shown(now.get(name)))


def _of_reference(baseline: Baseline, record: Mapping[str, Any]) -> Iterator[Change]:
    """Where the reference ran: drops are counted against its answers, which differ in their last bits."""
    then, now = dict(baseline.reference), schema.reference_of(record)
    if then != now:
        yield Change("reference", _place(then), _place(now))


def _place(reference: Mapping[str, str]) -> str:
    return f"{reference['provider']} on {reference['device']}" if reference else "onnxruntime-cpu"


def _of_packages(baseline: Baseline, record: Mapping[str, Any]) -> Iterator[Change]:
    found = baseline.environment.get("packages")
    then = found if isinstance(found, Mapping) else {}
    now = schema.environment_of(record)["packages"]
    on_tensorrt = record["environment"]["backend"]["name"].startswith("tensorrt")
    for name in sorted(then.keys() | now.keys()) if then else ():
        # What is merely installed beside a backend moves none of its answers.
        counts = name in _PACKAGES or (on_tensorrt and name.startswith("tensorrt"))
        if counts and then.get(name) != now.get(name):
            yield Change(name, _shown(then.get(name)), _shown(now.get(name)))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
