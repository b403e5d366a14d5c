"""What the reference and engines answer on single inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.case import Case, EngineKind, EngineSpec
from trtcheck.data.arrays import from_memory
from trtcheck.errors import CaseError, OptionError
from trtcheck.metrics.scores import answers, probabilities, top
from trtcheck.prediction.inputs import Asked, asked

if TYPE_CHECKING:
    from trtcheck.resolve import Resolved
    from trtcheck.session import Workbench

REFERENCE = "reference"


@dataclass(frozen=True)
class Prediction:
    """What an engine answers on one input.

    Attributes:
        engine: Its name; `REFERENCE` for the original FP32 model.
        numerics: ``native``, ``emulated`` or ``recorded``.
        answer: The class that it answers; None where its scores do not tell one.
        best: Its most probable classes with their probabilities, the best first.
    """

    engine: str
    numerics: str
    answer: str | None
    best: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Shares:
    """A class that is among the most probable of some engine.

    Attributes:
        name: Its name.
        of: Its probability by engine, in the order of the predictions; None where there is none.
    """

    name: str
    of: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Seen:
    """What was answered on one input.

    Attributes:
        asked: The input.
        predictions: The reference's, then each engine's.
        classes: All classes among the most probable of any of these, the reference's first.
    """

    asked: Asked
    predictions: tuple[Prediction, ...]
    classes: tuple[Shares, ...]


@dataclass(frozen=True, eq=False)
class _Column:
    """All answers of one engine: probabilities (N, C) and labels (N,)."""

    engine: str
    numerics: str
    shares: np.ndarray
    labels: np.ndarray


def predict(
    workbench: Workbench,
    case: Case,
    engines: Sequence[EngineSpec],
    images: Sequence[str | Path | int],
    most: int = 5,
) -> list[Seen]:
    """What the reference and *engines* see in *images*.

    Args:
        workbench: Builds the engines.
        case: The model, with its preprocessing.
        engines: Engines; a recording knows the evaluation images alone.
        images: Inputs, at least one; see `trtcheck.prediction.inputs.asked`.
        most: How many classes of each are told.

    Raises:
        TrtcheckError: The case cannot be opened or gives no class scores, an input not be used, or an engine
            not be built or run, or it is a recording that was not made of an input.
    """
    resolved = workbench.resolve(case)
    if resolved.scores is None:
        raise CaseError(
            f"{case.name} gives no class scores, so there is nothing to predict", where=case.onnx,
            expected='classes = […] in the suite, or output = "…" that names the output with the scores',
        )  # fmt: skip
    inputs = [asked(given, case, resolved) for given in images]
    _require_recorded(engines, inputs)
    names = list(inputs[0].arrays)
    whole = {name: np.concatenate([own.arrays[name] for own in inputs]) for name in names}
    source = from_memory(whole, None, None, "the images that were asked for")
    before = workbench.scores(case, None, source)
    columns = [_Column(REFERENCE, "native", probabilities(before), answers(before))]
    for engine in engines:
        if engine.kind is EngineKind.RECORDING:
            rows = [own.index for own in inputs if own.index is not None]
            after = workbench.recorded_scores(case, engine, rows)
        else:
            after = workbench.scores(case, engine, source)
        numerics = workbench.built(case, engine).numerics.value
        columns.append(_Column(engine.name, numerics, probabilities(after, before), answers(after)))
    return [_seen(own, row, columns, resolved, most) for row, own in enumerate(inputs)]


def _require_recorded(engines: Sequence[EngineSpec], inputs: Sequence[Asked]) -> None:
    recorded = [engine.name for engine in engines if engine.kind is EngineKind.RECORDING]
    new = [own.name for own in inputs if own.index is None]
    if recorded and new:
        raise OptionError(
            f"the answers of '{recorded[0]}' are recorded: it knows the evaluation images alone",
            expected="numbers of evaluation images", found=new[0],
            hint="name engines that run here: --engine=fp16,int8",
        )  # fmt: skip


def _seen(own: Asked, row: int, columns: Sequence[_Column], resolved: Resolved, most: int) -> Seen:
    best = [top(column.shares[row : row + 1], most)[0] for column in columns]
    predictions = tuple(
        Prediction(
            column.engine, column.numerics,
            resolved.classes[column.labels[row]] if column.labels[row] >= 0 else None,
            tuple((resolved.classes[label], share) for label, share in leading),
        )
        for column, leading in zip(columns, best, strict=True)
    )  # fmt: skip
    every = dict.fromkeys(label for leading in best for label, _ in leading)
    classes = tuple(
        Shares(resolved.classes[label], tuple(_finite(column.shares[row, label]) for column in columns))
        for label in every
    )
    return Seen(own, predictions, classes)


def _finite(share: float) -> float | None:
    return float(share) if np.isfinite(share) else None
