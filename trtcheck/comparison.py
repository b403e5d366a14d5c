"""One pass of the evaluation data through the reference and an engine, in this process."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck import digests
from trtcheck.backends import ON_GPU
from trtcheck.case import Case, Check, EngineSpec, Numerics
from trtcheck.errors import EngineError
from trtcheck.profiles import batch_limits

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.evaluation import Evaluation
    from trtcheck.model import Signature
    from trtcheck.resolve import Resolved
    from trtcheck.session import Workbench

COLLAPSE = 0.99
"""Below this agreement with the reference the emulated graph is searched for an overflow."""


@dataclass(frozen=True)
class Subject:
    """What is compared: a case with its parts opened, and its engine built.

    Attributes:
        case: The case.
        engine: The engine.
        built: The same, built.
        resolved: The case, opened.
    """

    case: Case
    engine: EngineSpec
    built: BuiltEngine
    resolved: Resolved

    @classmethod
    def of(cls, bench: Workbench, case: Case, engine: EngineSpec) -> Subject:
        """What *bench* makes of them.

        Raises:
            TrtcheckError: The case cannot be opened, or the engine not built.
        """
        return cls(case, engine, bench.built(case, engine), bench.resolve(case))


def compare(bench: Workbench, case: Case, engine: EngineSpec) -> Evaluation:
    """Compares *engine* with the reference on all images.

    Raises:
        TrtcheckError: The case cannot be opened, or the engine not built or run.
    """
    subject = Subject.of(bench, case, engine)
    return described(bench, subject, compare_span(bench, subject))


def compare_span(bench: Workbench, subject: Subject, span: range | None = None) -> Evaluation:
    """Compares an engine with the reference on the images *span*, or on all.

    Without what `described` adds: parts of one evaluation are joined first.

    Args:
        bench: Loads the engine and opens the reference.
        subject: What is compared.
        span: The images; it starts at a multiple of the batch size, so that every batch is that of one pass.

    Raises:
        EngineError: The engine cannot be loaded or run.
    """
    from trtcheck.data.batches import batches
    from trtcheck.streaming import stream

    case, resolved = subject.case, subject.resolved
    span = range(len(resolved.images)) if span is None else span
    place = bench.reference_place(subject.engine)
    with (
        bench.computing(subject.engine, place),
        closing(bench.load(case, subject.engine, subject.built, resolved)) as loaded,
    ):
        signature, size = batching(case, resolved.signature, loaded.signature, subject.built)
        label = f"evaluating {case.name}[{subject.engine.name}]"
        with (
            bench.progress.task(label, len(span)) as advance,
            bench.open_reference(case, resolved, size, place, span) as reference,
        ):
            return stream(
                case, engine_name=subject.engine.name, classes=resolved.classes, scores=resolved.scores,
                truth=resolved.truth[span.start : span.stop], reference=reference, engine=loaded,
                advance=advance, start=span.start,
                batches=batches(
                    resolved.images, signature, case.input, size, start=span.start, stop=span.stop,
                    # For a smaller batch kernels on a GPU are chosen, or compiled, anew: it takes seconds.
                    pad=subject.built.backend in ON_GPU,
                ),
            )  # fmt: skip


def described(bench: Workbench, subject: Subject, evaluation: Evaluation) -> Evaluation:
    """The *evaluation* with what needs a look at its whole: overflow, samples, and the facts for the report.

    Raises:
        TrtcheckError: The engine's lowered model cannot be run.
    """
    from trtcheck import samples

    case, images = subject.case, subject.resolved.images
    return replace(
        evaluation, overflow=_overflow(bench, subject, evaluation),
        samples=samples.of(images, case.input, (flip.index for flip in evaluation.flips.worst)),
        record=_record(bench, subject),
    )  # fmt: skip


def batching(
    case: Case, reference: Signature, engine: Signature, built: BuiltEngine
) -> tuple[Signature, int]:
    """The reference's signature with the batch size that the engine prescribes, if it does, and the size.

    Raises:
        EngineError: Both prescribe one, and they differ.
    """
    wanted, fixed = engine.fixed_batch, reference.fixed_batch
    limits = batch_limits(built.facts.get("profile") or {})
    if wanted is None and fixed is None and limits is not None:
        size = max(limits[0], min(case.batch, limits[1]))
        # An engine that takes no single image gets its last batch padded, as one of a fixed batch does.
        wanted = size if limits[0] > 1 else None
        if wanted is None:
            return reference, size
    if wanted is None or wanted == fixed:
        return reference, fixed or case.batch
    if fixed is not None:
        raise EngineError(
            "the engine has another batch size than the reference model", where=built.path,
            expected=f"batch {fixed}", found=f"batch {wanted}",
        )  # fmt: skip
    return reference.with_batch(wanted), wanted


def _overflow(bench: Workbench, subject: Subject, evaluation: Evaluation) -> str | None:
    """The node that leaves the narrow type's range, looked for where answers collapsed."""
    from trtcheck.data.batches import batches

    case, built, resolved = subject.case, subject.built, subject.resolved
    agreement = evaluation.scores.top1_agreement if evaluation.scores is not None else 1.0
    if built.numerics is not Numerics.EMULATED or not (evaluation.nonfinite or agreement < COLLAPSE):
        return None
    # An emulated engine is a file that prescribes a batch size as its lowered model does.
    with closing(bench.load(case, subject.engine, built, resolved)) as loaded:
        signature, size = batching(case, resolved.signature, loaded.signature, built)
    bad = [drift.first_bad for drift in evaluation.outputs if drift.first_bad is not None]
    start = min(bad) if bad else evaluation.flips.worst[0].index if evaluation.flips.worst else 0
    stop = min(start + size, len(resolved.images))
    batch = next(iter(batches(resolved.images, signature, case.input, size, start=start, stop=stop)))
    return bench.backend_of(subject.engine).find_overflow(built.lowered_path, batch.feeds)


def _record(bench: Workbench, subject: Subject) -> dict[str, Any]:
    from trtcheck.environment import fingerprint

    case, engine, built, resolved = subject.case, subject.engine, subject.built, subject.resolved
    return {
        "precision": engine.precision.value if engine.precision else None,
        "kind": engine.kind.value,
        "numerics": built.numerics.value,
        "cached": built.cached,
        "lowered": dict(built.lowered),
        "facts": dict(built.facts),
        "notes": list(built.notes),
        "environment": fingerprint(bench.info_of(engine, built)),
        "reference": bench.reference_place(engine).record(),
        "model": {
            "path": str(case.onnx),
            "digest": resolved.model_digest,
            "inputs": [str(tensor) for tensor in resolved.signature.inputs],
            "outputs": [str(tensor) for tensor in resolved.signature.outputs],
        },
        "data": {
            "name": resolved.images.name,
            "digest": resolved.digest,
            "labels_digest": digests.of_array(resolved.truth),
        },
        "calibration": _calibration_record(case, built),
        "checks": [
            check.value for check in case.checks if check is not Check.LATENCY or case.latency is not None
        ],
    }


def _calibration_record(case: Case, built: BuiltEngine) -> dict[str, Any] | None:
    if not built.lowered.get("calibration_digest"):
        return None
    name = str(case.calibration) if isinstance(case.calibration, str | Path) else "given as arrays"
    return {
        "name": name,
        "digest": built.lowered["calibration_digest"],
        "images": built.lowered["calibration_images"],
    }
