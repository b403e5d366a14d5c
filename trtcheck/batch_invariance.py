"""The check ``batch_invariance``: whether an image's answer depends on the images beside it in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trtcheck.baselines.schema import finite
from trtcheck.case import Check, EngineKind, Outcome, Precision, Verdict
from trtcheck.engine_check import numerics_note
from trtcheck.judge.rates import clopper_pearson
from trtcheck.metrics.between_batches import AnswerDifference, OutputDifference
from trtcheck.names import percent

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.case import Case, EngineSpec

TOLERANCES: Mapping[Precision, float] = {
    Precision.FP32: 1e-3,
    Precision.TF32: 1e-2,
    Precision.FP16: 1e-2,
    Precision.BF16: 5e-2,
    Precision.INT8: 5e-2,
}
"""Default limits: three or more times what harmless engines showed, where another batch means other kernels.

Measured between batches of 1 and up to 256 on an H100 and on CPUs (docs/statistics.md): FP32 3e-4,
TF32 2.7e-3, FP16 9e-4, BF16 7e-3, INT8 1.5e-2: one rounding that falls otherwise is a quantizer's whole step.
"""

_OF_TYPES = {
    "FLOAT": Precision.FP32, "FLOAT16": Precision.FP16, "BFLOAT16": Precision.BF16,
    "quantized": Precision.INT8,
}  # fmt: skip
_OF_ENGINE_TYPES = {
    **_OF_TYPES, "FLOAT": Precision.TF32, "INT8": Precision.INT8, "UINT8": Precision.INT8,
    "FLOAT8E4M3FN": Precision.INT8, "INT4": Precision.INT8,
}  # fmt: skip
"""Of a serialized engine, whose layers are known by type alone; its FP32 ones may compute in TF32."""
_CONFIDENCE = 0.99
_TOLD = 3


@dataclass(frozen=True)
class BatchInvariance:
    """What images differ by between batches; plain data.

    Attributes:
        images: Images that were tried.
        total: Images in the data set.
        sizes: The batch sizes, ascending. An image is alone in a batch of the smallest, which it fills.
        tolerance: The limit, a relative L2 difference.
        outputs: Of every output that could be compared, what it differs by.
        uncompared: Why the others could not, in sentences.
        answers: Whose answer differs; None without class scores.
        reason: Why nothing was tried, in a sentence; None where something was.
        repeated: What the same batch differs by when the engine is asked twice; None where nothing differs
            by too much.
        reference: What the original model differs by in ONNX Runtime; None where it was not asked.
        reference_error: Why it could not be asked.
    """

    images: int
    total: int
    sizes: tuple[int, ...]
    tolerance: float
    outputs: tuple[OutputDifference, ...] = ()
    uncompared: tuple[str, ...] = ()
    answers: AnswerDifference | None = None
    reason: str | None = None
    repeated: tuple[OutputDifference, ...] | None = None
    reference: tuple[OutputDifference, ...] | None = None
    reference_error: str | None = None

    @property
    def beyond(self) -> tuple[OutputDifference, ...]:
        """The outputs that differ by too much; exact ones never do by themselves."""
        return tuple(row for row in self.outputs if row.nonfinite or (row.beyond and not row.exact))


def tolerance_of(case: Case, engine: EngineSpec, built: BuiltEngine) -> float:
    """The limit: the case's own, or the widest of the precisions that the engine was asked for and holds.

    An engine of unknown types gets the widest of all.
    """
    if case.gates.batch_tolerance is not None:
        return case.gates.batch_tolerance
    kinds = _OF_ENGINE_TYPES if engine.kind is EngineKind.ENGINE else _OF_TYPES
    types: Mapping[str, int] = built.facts.get("types") or {}
    found = {kinds[name] for name, count in types.items() if count and name in kinds}
    if engine.precision is not None:
        found.add(engine.precision)
    elif case.build.tf32 and Precision.FP32 in found:
        found.add(Precision.TF32)
    return max(TOLERANCES[kind] for kind in found or set(Precision))


def outcome(case: Case, engine: EngineSpec, built: BuiltEngine, result: BatchInvariance) -> Outcome:
    """Whether answers stay within the limit whatever stands beside an image.

    Args:
        case: The case.
        engine: The engine's entry.
        built: The engine on disk.
        result: What `trtcheck.session.Workbench.batch_invariance` found out.
    """
    verdict, message = _judged(result)
    return Outcome(
        model=case.name, engine=engine.name, check=Check.BATCH_INVARIANCE, verdict=verdict, message=message,
        numerics=built.numerics, measured=_record(result),
        notes=(
            *numerics_note(built.numerics, built.backend, engine.precision, built.lowered.get("made_by")),
            *(result.uncompared if result.outputs else ()),
            *_near_ties(case, result),
        ),
        warnings=tuple(_differs_exactly(row, result) for row in result.outputs if row.exact and row.beyond),
    )  # fmt: skip


def _judged(result: BatchInvariance) -> tuple[Verdict, str]:
    if result.reason is not None:
        return Verdict.SKIPPED, result.reason
    tried = f"{result.images} of {result.total} images in batches of {_listed(result.sizes)}"
    if not result.outputs:
        return Verdict.INCONCLUSIVE, "; ".join((f"nothing could be compared: {tried}", *result.uncompared))
    if result.beyond:
        told = [text for row in result.beyond[:_TOLD] for text in _told(row, result)]
        if len(result.beyond) > _TOLD:
            told.append(f"{len(result.beyond) - _TOLD} more outputs differ")
        return Verdict.FAIL, "; ".join((*told, *_blame(result), f"tried: {tried}"))
    numbers = [row for row in result.outputs if not row.exact]
    if numbers:
        worst = max(numbers, key=lambda row: row.difference)
        return Verdict.PASS, (
            f"{tried}: largest difference {worst.difference:.2g} of an output's norm (output '{worst.name}', "
            f"limit {result.tolerance:g}); {_missed(result)}"
        )
    if any(row.beyond for row in result.outputs):
        return Verdict.INCONCLUSIVE, (
            f"{tried}: outputs without fractions differ, which may be near ties: there are no scores to tell"
        )
    return Verdict.PASS, f"{tried}: every output is the same; {_missed(result)}"


def _listed(sizes: Sequence[int]) -> str:
    *most, last = map(str, sizes)
    return f"{', '.join(most)} and {last}" if most else last


def _missed(result: BatchInvariance) -> str:
    """What so few images cannot exclude."""
    high = clopper_pearson(0, result.images, _CONFIDENCE)[1]
    return (
        f"up to {percent(high, up=True)} of such images may differ by more unseen, "
        f"at {percent(_CONFIDENCE)} confidence"
    )


def _told(row: OutputDifference, result: BatchInvariance) -> list[str]:
    """What is wrong with an output that differs by too much."""
    found = []
    if row.nonfinite:
        found.append(
            f"output '{row.name}' of image {row.nonfinite_image} is NaN or infinite at other places in a "
            f"batch of {row.nonfinite_batch} than {_alone(result)}: {row.nonfinite} of {result.images} images"
        )
    if row.beyond:
        found.append(
            f"output '{row.name}' of image {row.image} differs by {row.difference:.2g} of its norm between "
            f"{_alone(result).removeprefix('in ')} and a batch of {row.batch} (limit {result.tolerance:g}): "
            f"{row.beyond} of {result.images} images differ by more than the limit"
        )
    return found


def _alone(result: BatchInvariance) -> str:
    smallest = result.sizes[0]
    return "in a batch of 1" if smallest == 1 else f"in a batch of {smallest} times itself"


def _blame(result: BatchInvariance) -> list[str]:
    """Whose fault it is: of an engine that answers by chance, of the original model, or of this engine."""
    names = {row.name for row in result.beyond}
    chance = _worst(row for row in result.repeated or () if row.beyond or row.nonfinite)
    told = []
    if chance is not None:
        told.append(
            f"the engine is not deterministic: the same batch asked for twice differs by "
            f"{chance.difference:.2g} in output '{chance.name}'"
        )
    if result.reference is None:
        return [*told, f"the original model could not be asked: {result.reference_error}"]
    same = _worst(row for row in result.reference if row.name in names)
    if same is None:
        return [*told, "the original model has no such output that could be compared"]
    original = "the original FP32 model in ONNX Runtime does"
    limit = min(result.tolerance, TOLERANCES[Precision.FP32])
    if same.difference <= limit and not same.nonfinite:
        why = "" if told else ": it is the engine or its lowering"
        return [*told, f"{original} not (difference {same.difference:.2g}){why}"]
    why = "" if told else ": the model itself mixes images"
    return [*told, f"{original} the same (difference {same.difference:.2g}){why}"]


def _worst(rows: Iterable[OutputDifference]) -> OutputDifference | None:
    """The row with NaN at other places, if there is one, or the largest difference."""
    return max(rows, key=lambda row: (row.nonfinite > 0, row.difference), default=None)


def _differs_exactly(row: OutputDifference, result: BatchInvariance) -> str:
    return (
        f"output '{row.name}' of image {row.image}, compared exactly, differs in a batch of {row.batch}: "
        f"{row.beyond} of {result.images} images, at most {percent(row.difference)} of an image's values; "
        "near ties do that, and so does a fault"
    )


def _near_ties(case: Case, result: BatchInvariance) -> tuple[str, ...]:
    """A note on answers that change with the batch."""
    changed = result.answers
    if changed is None or not changed.differing or changed.alone is None or changed.there is None:
        return ()

    def name(answer: int) -> str:
        return "nothing" if answer < 0 else f"'{case.classes[answer]}'" if case.classes else f"class {answer}"

    why = "" if result.beyond else ", a near tie within the limit"
    return (
        f"the answer changes with the batch on {changed.differing} of {result.images} images: image "
        f"{changed.image} is answered {name(changed.alone)} alone and {name(changed.there)} in a batch of "
        f"{changed.batch}{why}",
    )


def _record(result: BatchInvariance) -> dict[str, Any]:
    """The figures, JSON-ready; None where one is undefined or infinite."""

    def rows(found: Sequence[OutputDifference] | None) -> list[dict[str, Any]] | None:
        if found is None:
            return None
        return [{**asdict(row), "difference": finite(row.difference)} for row in found]

    tried = {name: rows(getattr(result, name)) for name in ("outputs", "repeated", "reference")}
    plain = {"sizes": list(result.sizes), "uncompared": list(result.uncompared)}
    return {**asdict(result), **plain, **tried, "confidence": _CONFIDENCE}


def from_record(record: Mapping[str, Any]) -> BatchInvariance:
    """What `dataclasses.asdict` made a JSON-ready record of."""

    def rows(name: str) -> tuple[OutputDifference, ...] | None:
        return None if record[name] is None else tuple(OutputDifference(**row) for row in record[name])

    answers = record["answers"]
    return BatchInvariance(
        **{
            **record, "sizes": tuple(record["sizes"]), "uncompared": tuple(record["uncompared"]),
            "outputs": rows("outputs") or (), "repeated": rows("repeated"), "reference": rows("reference"),
            "answers": None if answers is None else AnswerDifference(**answers),
        }
    )  # fmt: skip
