"""From an evaluation and a judge's answer to an `Outcome`, the approved baseline included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trtcheck.baselines.schema import Baseline
from trtcheck.case import Check, Numerics, Outcome, Precision, Verdict, worst
from trtcheck.engine_check import numerics_note
from trtcheck.errors import BaselineError
from trtcheck.metrics.confusion import Confusion

if TYPE_CHECKING:
    from trtcheck.baselines.store import Approved
    from trtcheck.evaluation import Evaluation

UNPAIRED = (
    "the baseline's counts stand without fitting answers of single images: compared by counts alone "
    "(Fisher's exact test), which asks for more evidence"
)

FindBaseline = Callable[[], "Approved"]
"""Looks the approved baseline up; raises BaselineError where it must not be compared."""


def reference_notes(evaluation: Evaluation) -> tuple[str, ...]:
    """What is suspicious about the reference's own answers: classes that it never gets right."""
    names = evaluation.classes
    confusion = evaluation.confusion()[0]
    never = np.flatnonzero((confusion.support > 0) & (confusion.tp == 0)).tolist()
    if not never:
        return ()
    told = []
    for k in never[:_SUSPECTS]:
        row = confusion.row(k)
        instead = int(row.argmax())
        answer = f"'{names[instead]}'" if instead < len(names) else "nothing"
        told.append(f"'{names[k]}' ({row[instead]} of {confusion.support[k]} answered {answer})")
    more = f" and {len(never) - _SUSPECTS} more classes" if len(never) > _SUSPECTS else ""
    return (
        f"the reference itself is never right on {', '.join(told)}{more}: "
        "check labels, the order of classes and the preprocessing (scale, mean, std)",
    )


_SUSPECTS = 3


def with_baseline(
    outcome: Outcome,
    evaluation: Evaluation,
    find: FindBaseline | None,
    against: Callable[[Baseline, np.ndarray | None], tuple[Verdict, str, dict[str, Any]]],
) -> Outcome:
    """The *outcome* after the engine was compared with what was approved, where there is anything.

    *against* judges with the approved answers (N,), or with the counts alone where they are None.
    """
    found = approved(outcome, find)
    if isinstance(found, Outcome):
        return found
    notes = (*outcome.notes, *found.notes)
    baseline = found.baseline
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
        else f"{reference}; {_without_repeats(message, reference)}"
    )
    return replace(
        outcome, notes=notes, verdict=worst((outcome.verdict, verdict)), message=both,
        measured={
            **outcome.measured,
            "baseline": {**measured, "verdict": verdict.value, "paired": answers is not None},
        },
    )  # fmt: skip


def _without_repeats(message: str, reference: str) -> str:
    """The clauses of *message* that *reference* did not tell: both see the same images equally well."""
    head, *rest = message.split("; ")
    told = reference.split("; ")
    return "; ".join([head, *(clause for clause in rest if clause not in told)])


def approved(outcome: Outcome, find: FindBaseline | None) -> Approved | Outcome:
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
    then, (counts, _now) = Confusion.of(labels.truth, answers, count), approved_counts(baseline, evaluation)
    same = all(np.array_equal(getattr(then, name), counts[name]) for name in ("tp", "fp", "fn"))
    return answers if same else None


def approved_counts(baseline: Baseline, evaluation: Evaluation) -> tuple[dict[str, list[int]], Confusion]:
    """Counts of the approved engine in the order of the classes, and the confusion of this one."""
    counts = {
        column: [baseline.classes[name][column] for name in evaluation.classes]
        for column in ("tp", "fp", "fn", "tn")
    }
    return counts, evaluation.confusion()[1]


def outcome_of(
    evaluation: Evaluation, check: Check, verdict: Verdict, message: str, measured: Mapping[str, Any]
) -> Outcome:
    """The outcome of a check that judges *evaluation*, with what a reader should know of both."""
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
