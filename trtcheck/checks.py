"""The checks of one evaluation: measurement, limits and baseline in, an `Outcome` out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from trtcheck import judge, messages
from trtcheck.baselines.schema import Baseline
from trtcheck.case import Check, Gates, Outcome, Verdict, worst
from trtcheck.errors import CaseError
from trtcheck.judge import unpaired
from trtcheck.judge.classes import precision_of, recall_of
from trtcheck.judge.family import Rules
from trtcheck.judge.verdicts import AccuracyVerdict, ClassesVerdict, ClassVerdict
from trtcheck.metrics.paired import paired_counts
from trtcheck.outcomes import FindBaseline, approved_counts, outcome_of, with_baseline
from trtcheck.outputs_check import outputs

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation


def require_known_classes(evaluation: Evaluation, gates: Gates) -> None:
    """Refuses gates for classes that the case does not have.

    Raises:
        CaseError: A name or pattern stands for no class.
    """
    unknown = gates.unmatched(evaluation.classes) if evaluation.classes else ()
    if unknown:
        known = evaluation.classes
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise CaseError(
            f"{evaluation.model}: gates name a class that is not there: {', '.join(unknown)}",
            expected=f"one of: {', '.join(known[:20])}{' …' if len(known) > 20 else ''}; or a pattern",
            hint=f"did you mean {close[0]}?" if close else None,
        )


def accuracy(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether accuracy over all labelled images fell, against the reference and the approved baseline."""
    labels = evaluation.judged_labels()
    compare = partial(
        judge.accuracy, drop=gates.accuracy_drop, alpha=gates.alpha, test=gates.test, must_see=gates.must_see
    )
    result = compare(
        labels.truth, labels.reference, labels.candidate, floor=gates.accuracy_floor,
        target=gates.accuracy_target,
    )  # fmt: skip
    if gates.top_k_accuracy_drop is not None and evaluation.top_k >= len(evaluation.classes):
        raise CaseError(
            f"{evaluation.model}: top_k_accuracy_drop tests nothing: every class is among the best "
            f"{evaluation.top_k}", expected=f"top_k below {len(evaluation.classes)}, the number of classes",
            found=evaluation.top_k,
        )  # fmt: skip
    # Where top-k is only reported, what it could have seen is stated for the margin of accuracy.
    top_k_drop = gates.accuracy_drop if gates.top_k_accuracy_drop is None else gates.top_k_accuracy_drop
    top_k = judge.top_k_accuracy(
        labels.reference_top_k[labels.counted], labels.candidate_top_k[labels.counted], drop=top_k_drop,
        alpha=gates.alpha, test=gates.test, must_see=gates.must_see,
    )  # fmt: skip
    verdict, told = result.verdict, [messages.accuracy("accuracy", result)]
    if verdict is Verdict.PASS and _no_better_than_guessing(result, len(evaluation.classes)):
        verdict = Verdict.INCONCLUSIVE
        told.insert(
            0,
            f"the reference itself is no better than guessing among {len(evaluation.classes)} classes: "
            "check labels, the order of classes and the preprocessing (scale, mean, std)",
        )
    own = verdict
    if gates.top_k_accuracy_drop is not None:
        verdict = worst((verdict, top_k.verdict))
        told.append(messages.accuracy(f"top-{evaluation.top_k} accuracy", top_k))
    row = accuracy_row(result)
    del row["verdict"]  # the item has its own, that of top-k and of the baseline included
    measured = {
        **row,
        "own_verdict": own.value,
        "top_k": {
            "k": evaluation.top_k,
            **accuracy_row(top_k),
            "gated": gates.top_k_accuracy_drop is not None,
        },
    }

    def against(baseline: Baseline, answers: np.ndarray | None) -> tuple[Verdict, str, dict[str, Any]]:
        if answers is None:
            counts, now = approved_counts(baseline, evaluation)
            then = unpaired.accuracy(
                counts, now, drop=gates.accuracy_drop, alpha=gates.alpha, test=gates.test,
                must_see=gates.must_see,
            )  # fmt: skip
        else:
            then = compare(labels.truth, answers, labels.candidate)
        return then.verdict, messages.accuracy("accuracy", then), accuracy_row(then)

    outcome = outcome_of(evaluation, Check.ACCURACY, verdict, "; ".join(told), measured)
    return with_baseline(outcome, evaluation, find, against)


def _no_better_than_guessing(result: AccuracyVerdict, classes: int) -> bool:
    """Whether the reference's accuracy is explained by drawing classes at random (exact binomial test)."""
    if classes < 2:
        return False  # there is nothing to guess
    right = round(result.before * result.images)
    return bool(special.bdtrc(right - 1, result.images, 1 / classes) > result.alpha)


def recall(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether any class lost recall, against the reference and the approved baseline."""
    return _classes(evaluation, gates, find, Check.RECALL)


def precision(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether any class lost precision, against the reference and the approved baseline."""
    return _classes(evaluation, gates, find, Check.PRECISION)


def rules_of(gates: Gates, check: Check, classes: tuple[str, ...]) -> Rules:
    """What the *classes* are held against in the check of recall or precision."""
    own = gates.of_classes(classes)
    recalled = check is Check.RECALL
    drops = (limits.recall_drop if recalled else limits.precision_drop for limits in own)
    keys = set(gates.key_among(classes))
    return Rules(
        classes=classes, margins=tuple(drop for drop in drops if drop is not None),
        floors=tuple(limits.recall_floor if recalled else limits.precision_floor for limits in own),
        keys=tuple(name in keys for name in classes), alpha=gates.alpha, test=gates.test,
        pooled_drop=gates.pooled_drop, must_see=gates.must_see,
    )  # fmt: skip


def _classes(evaluation: Evaluation, gates: Gates, find: FindBaseline | None, check: Check) -> Outcome:
    labels = evaluation.judged_labels()
    recalled = check is Check.RECALL
    rules = rules_of(gates, check, evaluation.classes)

    def paired(reference: np.ndarray, rules: Rules) -> ClassesVerdict:
        if not recalled:
            return precision_of(labels.truth, reference, labels.candidate, rules)
        return recall_of(paired_counts(labels.truth, reference, labels.candidate, len(rules.classes)), rules)

    def against(baseline: Baseline, answers: np.ndarray | None) -> tuple[Verdict, str, dict[str, Any]]:
        drops = rules.without_floors()  # a floor is no comparison: it was held against already
        if answers is None:
            function = unpaired.recall if recalled else unpaired.precision
            then: ClassesVerdict = function(*approved_counts(baseline, evaluation), drops)
        else:
            then = paired(answers, drops)
        return then.verdict, messages.classes(check, then), classes_record(then)

    result = paired(labels.reference, rules)
    message = messages.classes(check, result)
    outcome = outcome_of(evaluation, check, result.verdict, message, classes_record(result))
    return with_baseline(outcome, evaluation, find, against)


def classes_record(result: ClassesVerdict) -> dict[str, Any]:
    """The verdict on classes, JSON-ready; the family's own verdict is left to the item."""
    pooled = result.pooled
    return {
        "classes": [class_row(row) for row in result.classes],
        "pooled": {**asdict(pooled), "drop": pooled.drop, "verdict": pooled.verdict.value},
        "alpha": result.alpha,
        "test": result.test.value,
    }


def class_row(row: ClassVerdict) -> dict[str, Any]:
    """One class's verdict, JSON-ready."""
    return {**_told(row), "drop": row.drop, "verdict": row.verdict.value}


def accuracy_row(result: AccuracyVerdict) -> dict[str, Any]:
    """The verdict on accuracy, JSON-ready."""
    return {**_told(result), "verdict": result.verdict.value, "test": result.test.value}


def _told(row: ClassVerdict | AccuracyVerdict) -> dict[str, Any]:
    """The figures of a record; which limits they miss follows from them."""
    return {name: value for name, value in asdict(row).items() if name not in _COMPARED}


_COMPARED = ("fell", "below_floor", "below_target")


CHECKS: Mapping[Check, Callable[[Evaluation, Gates, FindBaseline | None], Outcome]] = {
    Check.OUTPUTS: outputs,
    Check.ACCURACY: accuracy,
    Check.RECALL: recall,
    Check.PRECISION: precision,
}
"""The checks that judge an evaluation, by name; the others judge the engine or the data."""
