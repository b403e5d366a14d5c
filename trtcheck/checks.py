"""The checks of one engine: measurement, limits and baseline in, an `Outcome` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from trtcheck import judge, messages
from trtcheck.baselines.schema import Baseline, finite
from trtcheck.case import Check, Gates, Numerics, Outcome, Precision, Verdict, worst
from trtcheck.engine_check import numerics_note
from trtcheck.errors import BaselineError, CaseError
from trtcheck.judge import unpaired
from trtcheck.judge.classes import AccuracyVerdict, ClassesVerdict, ClassVerdict
from trtcheck.metrics.confusion import Confusion
from trtcheck.names import fraction

if TYPE_CHECKING:
    from trtcheck.baselines.store import Approved
    from trtcheck.evaluation import Evaluation

UNPAIRED = (
    "the baseline's counts stand without fitting answers of single images: compared by counts alone "
    "(Fisher's exact test), which asks for more evidence"
)

FindBaseline = Callable[[], "Approved"]
"""Looks the approved baseline up; raises BaselineError where it must not be compared."""


def outputs(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether every output is there, finite and, where gates say so, close to the reference's.

    The approved output errors stand beside these ones; they diagnose and do not gate.
    """
    failures = list(evaluation.problems)
    for drift in evaluation.outputs:
        counts = ((drift.nan, "NaN"), (drift.inf, "infinite"))
        bad = " and ".join(f"{count} {what}" for count, what in counts if count)
        if bad:
            failures.append(
                f"output '{drift.name}' has {bad} of {drift.elements} values, "
                f"first in image {drift.first_bad}"
            )
        elif drift.elements and not drift.finite:
            failures.append(f"output '{drift.name}' of the reference has no finite value to compare with")
    failures += _beyond_limits(evaluation, gates)
    if not any(drift.elements for drift in evaluation.outputs) and not evaluation.problems:
        failures.append("no output was compared")
    agreement = agreement_row(evaluation)
    if failures:
        message = "; ".join(failures)
    else:
        worst = max(evaluation.outputs, key=lambda drift: drift.max_abs)
        message = (
            f"largest error {worst.max_abs:.3g} (output '{worst.name}', relative L2 {worst.relative_l2:.2g}, "
            f"cosine {worst.cosine:.6f})"
        )
        if agreement is None and all(getattr(gates, name) is None for name in _LIMITS):
            message += "; finite and of the right shape, no limit is set"
        if agreement is not None:
            message += f"; same answer on {fraction(agreement['top1'])} of {evaluation.images} images"
    outcome = _outcome(
        evaluation, Check.OUTPUTS, Verdict.FAIL if failures else Verdict.PASS, message,
        {
            "outputs": [drift_row(drift) for drift in evaluation.outputs],
            "agreement": agreement,
            "problems": list(evaluation.problems),
            "limits": {name: getattr(gates, name) for name in _LIMITS},
        },
    )  # fmt: skip
    approved = _approved(outcome, find)
    if isinstance(approved, Outcome):
        return approved
    errors = None if approved.baseline is None else {"outputs": dict(approved.baseline.outputs)}
    beside = {} if errors is None else {"baseline": errors}
    return replace(outcome, notes=(*outcome.notes, *approved.notes), measured={**outcome.measured, **beside})


_LIMITS = ("max_abs", "max_rel", "relative_l2", "cosine", "kl", "top1_agreement")


def _beyond_limits(evaluation: Evaluation, gates: Gates) -> list[str]:
    found = []
    for drift in evaluation.outputs:
        for name in ("max_abs", "max_rel", "relative_l2"):
            limit, value = getattr(gates, name), getattr(drift, name)
            if limit is not None and not value <= limit:
                found.append(f"{name} of output '{drift.name}' is {value:.4g}, limit {limit:g}")
        if gates.cosine is not None and not drift.cosine >= gates.cosine:
            found.append(f"cosine of output '{drift.name}' is {drift.cosine:.6f}, limit {gates.cosine:g}")
    scores = evaluation.scores
    for name, limit in (("kl", gates.kl), ("top1_agreement", gates.top1_agreement)):
        if limit is not None and scores is None:
            found.append(f"{name} cannot be judged: there are no class scores")
    if scores is not None and gates.kl is not None and not scores.kl_mean <= gates.kl:
        found.append(f"mean KL divergence is {scores.kl_mean:.4g} nats, limit {gates.kl:g}")
    wanted = gates.top1_agreement
    if scores is not None and wanted is not None and not scores.top1_agreement >= wanted:
        found.append(f"same answer on {fraction(scores.top1_agreement)} of the images, limit {wanted:g}")
    return found


def drift_row(drift: Any) -> dict[str, Any]:
    """The error of one output, JSON-ready; None where a figure is undefined or infinite."""
    counts = {
        name: getattr(drift, name) for name in ("name", "elements", "different", "nan", "inf", "first_bad")
    }
    figures = ("max_abs", "max_rel", "relative_l2", "cosine", "psnr")
    return {**counts, **{name: finite(getattr(drift, name)) for name in figures}}


def agreement_row(evaluation: Evaluation) -> dict[str, Any] | None:
    """How far engine and reference agree, JSON-ready; None without class scores."""
    scores = evaluation.scores
    if scores is None:
        return None
    return {
        "top1": finite(scores.top1_agreement),
        "top_k": finite(scores.top_k_agreement),
        "k": scores.k,
        "kl_mean": finite(scores.kl_mean),
        "kl_max": finite(scores.kl_max),
    }


def require_known_classes(evaluation: Evaluation, gates: Gates) -> None:
    """Refuses gates for classes that the case does not have.

    Raises:
        CaseError: A class is not there.
    """
    unknown = sorted(set(gates.classes) - set(evaluation.classes)) if evaluation.classes else []
    if unknown:
        known = evaluation.classes
        raise CaseError(
            f"{evaluation.model}: gates name a class that is not there: {', '.join(unknown)}",
            expected=f"one of: {', '.join(known[:20])}{' …' if len(known) > 20 else ''}",
        )


def accuracy(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether accuracy over all labelled images fell, against the reference and the approved baseline."""
    labels = evaluation.judged_labels()
    result = judge.accuracy(
        labels.truth, labels.reference, labels.candidate, drop=gates.accuracy_drop, alpha=gates.alpha
    )
    if gates.top_k_accuracy_drop is not None and evaluation.top_k >= len(evaluation.classes):
        raise CaseError(
            f"{evaluation.model}: top_k_accuracy_drop tests nothing: every class is among the best "
            f"{evaluation.top_k}", expected=f"top_k below {len(evaluation.classes)}, the number of classes",
            found=evaluation.top_k,
        )  # fmt: skip
    # Where top-k is only reported, what it could have seen is stated for the margin of accuracy.
    top_k_drop = gates.accuracy_drop if gates.top_k_accuracy_drop is None else gates.top_k_accuracy_drop
    top_k = judge.top_k_accuracy(
        labels.reference_top_k[labels.counted], labels.candidate_top_k[labels.counted],
        drop=top_k_drop, alpha=gates.alpha,
    )  # fmt: skip
    verdict, told = result.verdict, [messages.accuracy("accuracy", result)]
    if verdict is Verdict.PASS and _no_better_than_guessing(result, len(evaluation.classes), gates.alpha):
        verdict = Verdict.INCONCLUSIVE
        told.append(
            f"the reference itself is no better than guessing among {len(evaluation.classes)} classes: "
            "check labels, the order of classes and the preprocessing (scale, mean, std)"
        )
    if gates.top_k_accuracy_drop is not None:
        verdict = worst((verdict, top_k.verdict))
        told.append(messages.accuracy(f"top-{evaluation.top_k} accuracy", top_k))
    row = _accuracy_row(result)
    del row["verdict"]  # the item has its own, that of top-k and of the baseline included
    measured = {
        **row,
        "top_k": {
            "k": evaluation.top_k,
            **_accuracy_row(top_k),
            "gated": gates.top_k_accuracy_drop is not None,
        },
    }

    def against(baseline: Baseline, answers: np.ndarray | None) -> tuple[Verdict, str, dict[str, Any]]:
        if answers is None:
            counts, now = _counts(baseline, evaluation)
            then = unpaired.accuracy(counts, now, drop=gates.accuracy_drop, alpha=gates.alpha)
        else:
            then = judge.accuracy(
                labels.truth, answers, labels.candidate, drop=gates.accuracy_drop, alpha=gates.alpha
            )
        return then.verdict, messages.accuracy("accuracy", then), _accuracy_row(then)

    outcome = _outcome(evaluation, Check.ACCURACY, verdict, "; ".join(told), measured)
    return _with_baseline(outcome, evaluation, find, against)


def reference_notes(evaluation: Evaluation) -> tuple[str, ...]:
    """What is suspicious about the reference's own answers: classes that it never gets right."""
    names = evaluation.classes
    matrix = evaluation.confusion()[0].matrix
    never = [k for k in range(len(names)) if matrix[k].sum() and not matrix[k, k]]
    if not never:
        return ()
    told = []
    for k in never[:_SUSPECTS]:
        instead = int(matrix[k].argmax())
        answer = f"'{names[instead]}'" if instead < len(names) else "nothing"
        told.append(f"'{names[k]}' ({matrix[k, instead]} of {matrix[k].sum()} answered {answer})")
    more = f" and {len(never) - _SUSPECTS} more classes" if len(never) > _SUSPECTS else ""
    return (
        f"the reference itself is never right on {', '.join(told)}{more}: "
        "check labels, the order of classes and the preprocessing (scale, mean, std)",
    )


_SUSPECTS = 3


def _no_better_than_guessing(result: AccuracyVerdict, classes: int, alpha: float) -> bool:
    """Whether the reference's accuracy is explained by drawing classes at random (exact binomial test)."""
    right = round(result.before * result.images)
    return bool(stats.binomtest(right, result.images, 1 / classes, "greater").pvalue > alpha)


def recall(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether any class lost recall, against the reference and the approved baseline."""
    return _classes(evaluation, gates, find, Check.RECALL)


def precision(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether any class lost precision, against the reference and the approved baseline."""
    return _classes(evaluation, gates, find, Check.PRECISION)


def _classes(evaluation: Evaluation, gates: Gates, find: FindBaseline | None, check: Check) -> Outcome:
    labels = evaluation.judged_labels()
    recalled = check is Check.RECALL
    drop = gates.recall_drop if recalled else gates.precision_drop
    class_drops = {name: gates.margin(check, name) for name in gates.classes}

    def paired(reference: np.ndarray) -> ClassesVerdict:
        function = judge.recall if recalled else judge.precision
        return function(
            labels.truth, reference, labels.candidate, classes=evaluation.classes, drop=drop,
            alpha=gates.alpha, class_drops=class_drops,
        )  # fmt: skip

    def against(baseline: Baseline, answers: np.ndarray | None) -> tuple[Verdict, str, dict[str, Any]]:
        if answers is None:
            counts, now = _counts(baseline, evaluation)
            function = unpaired.recall if recalled else unpaired.precision
            margins = [class_drops.get(name, drop) for name in evaluation.classes]
            then = function(counts, now, classes=evaluation.classes, margins=margins, alpha=gates.alpha)
        else:
            then = paired(answers)
        return then.verdict, messages.classes(check, then), {"classes": [class_row(r) for r in then.classes]}

    result = paired(labels.reference)
    outcome = _outcome(
        evaluation, check, result.verdict, messages.classes(check, result),
        {"classes": [class_row(row) for row in result.classes], "alpha": result.alpha},
    )  # fmt: skip
    return _with_baseline(outcome, evaluation, find, against)


def _with_baseline(
    outcome: Outcome,
    evaluation: Evaluation,
    find: FindBaseline | None,
    against: Callable[[Baseline, np.ndarray | None], tuple[Verdict, str, dict[str, Any]]],
) -> Outcome:
    """The *outcome* after the engine was compared with what was approved, where there is anything.

    *against* judges with the approved answers (N,), or with the counts alone where they are None.
    """
    approved = _approved(outcome, find)
    if isinstance(approved, Outcome):
        return approved
    notes = (*outcome.notes, *approved.notes)
    baseline = approved.baseline
    if baseline is None or not baseline.classes:
        return replace(outcome, notes=notes)
    answers = _paired_answers(baseline, evaluation)
    if answers is None:
        notes = (*notes, UNPAIRED)
    verdict, message, measured = against(baseline, answers)
    message = f"against the approved baseline: {message}"
    if verdict is Verdict.FAIL and outcome.verdict is not Verdict.FAIL:
        message = _with_overflow(message, evaluation)
    reference = outcome.message
    both = (
        f"{message}; against the reference: {reference}"
        if verdict is Verdict.FAIL
        else f"{reference}; {message}"
    )
    return replace(
        outcome, notes=notes, verdict=worst((outcome.verdict, verdict)), message=both,
        measured={**outcome.measured, "baseline": {**measured, "verdict": verdict.value}},
    )  # fmt: skip


def _approved(outcome: Outcome, find: FindBaseline | None) -> Approved | Outcome:
    """What was approved; or the finished outcome, where nothing is looked up or it must not be compared."""
    if find is None:
        return outcome
    try:
        return find()
    except BaselineError as error:
        # The verdict against the reference stays readable; nothing that was measured is lost.
        meanwhile = f"meanwhile, against the reference: {outcome.verdict.value}: {outcome.message}"
        return replace(outcome, verdict=Verdict.ERROR, message=f"{error}\n  {meanwhile}")


def _paired_answers(baseline: Baseline, evaluation: Evaluation) -> np.ndarray | None:
    """The approved engine's answers (N,), or None where they are not stored or contradict its counts."""
    labels, answers = evaluation.judged_labels(), baseline.predictions
    count = len(evaluation.classes)
    if answers is None or int(answers.max(initial=-1)) >= count or int(answers.min(initial=0)) < -1:
        return None
    then, (counts, _now) = Confusion.of(labels.truth, answers, count), _counts(baseline, evaluation)
    same = all(np.array_equal(getattr(then, name), counts[name]) for name in ("tp", "fp", "fn"))
    return answers if same else None


def _counts(baseline: Baseline, evaluation: Evaluation) -> tuple[dict[str, list[int]], Confusion]:
    """Counts of the approved engine in the order of the classes, and the confusion of this one."""
    counts = {
        column: [baseline.classes[name][column] for name in evaluation.classes]
        for column in ("tp", "fp", "fn", "tn")
    }
    return counts, evaluation.confusion()[1]


def _outcome(
    evaluation: Evaluation, check: Check, verdict: Verdict, message: str, measured: Mapping[str, Any]
) -> Outcome:
    numerics = Numerics(evaluation.record["numerics"])
    named = evaluation.record["precision"]
    if verdict is Verdict.FAIL:
        message = _with_overflow(message, evaluation)
    suspicions = () if check is Check.OUTPUTS else reference_notes(evaluation)
    return Outcome(
        model=evaluation.model, engine=evaluation.engine, check=check, verdict=verdict, message=message,
        numerics=numerics, measured=measured,
        notes=(
            *numerics_note(
                numerics, evaluation.record["environment"]["backend"]["name"],
                Precision(named) if named else None, evaluation.record["lowered"].get("made_by"),
            ),
            *suspicions,
        ),
    )  # fmt: skip


def _with_overflow(message: str, evaluation: Evaluation) -> str:
    return message if evaluation.overflow is None else f"{message}; {evaluation.overflow}"


def class_row(row: ClassVerdict) -> dict[str, Any]:
    """One class's verdict, JSON-ready."""
    return {**asdict(row), "drop": row.drop, "verdict": row.verdict.value}


def _accuracy_row(result: AccuracyVerdict) -> dict[str, Any]:
    return {**asdict(result), "verdict": result.verdict.value}


CHECKS: Mapping[Check, Callable[[Evaluation, Gates, FindBaseline | None], Outcome]] = {
    Check.OUTPUTS: outputs,
    Check.ACCURACY: accuracy,
    Check.RECALL: recall,
    Check.PRECISION: precision,
}
"""The checks that judge an evaluation, by name; `build` judges the engine alone."""
