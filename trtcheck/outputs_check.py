"""The check ``outputs``: whether every output is there, finite and as close as the gates ask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtcheck.baselines.schema import finite
from trtcheck.case import Check, DropTest, Gates, Outcome, Verdict
from trtcheck.judge.rates import clopper_pearson
from trtcheck.names import confidence, fraction, percent
from trtcheck.outcomes import FindBaseline, approved, outcome_of

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation


def outputs(evaluation: Evaluation, gates: Gates, find: FindBaseline | None = None) -> Outcome:
    """Whether every output is there, finite and, where gates say so, close to the reference's.

    The approved output errors stand beside these ones; they diagnose and do not gate.
    """
    failures = list(evaluation.problems.values())
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
    churn = churn_row(evaluation, gates)
    verdict, told = _judged_churn(churn, gates)
    if verdict is Verdict.FAIL:
        failures.append(told)
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
        message = "; ".join(filter(None, [message, told]))
    outcome = outcome_of(
        evaluation, Check.OUTPUTS, Verdict.FAIL if failures else verdict, message,
        {
            "outputs": [drift_row(drift) for drift in evaluation.outputs],
            "agreement": agreement,
            "churn": churn and {**churn, "verdict": None if churn["limit"] is None else verdict.value},
            "problems": list(evaluation.problems.values()),
            "limits": {name: getattr(gates, name) for name in _LIMITS},
        },
    )  # fmt: skip
    found = approved(outcome, find)
    if isinstance(found, Outcome):
        return found
    errors = None if found.baseline is None else {"outputs": dict(found.baseline.outputs)}
    beside = {} if errors is None else {"baseline": errors}
    return replace(outcome, notes=(*outcome.notes, *found.notes), measured={**outcome.measured, **beside})


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
    for name in ("kl", "top1_agreement", "churn"):
        limit = getattr(gates, name)
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
    errors = {"exact": drift.exact, "bins": [list(pair) for pair in drift.errors]}
    return {**counts, **{name: finite(getattr(drift, name)) for name in figures}, "errors": errors}


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


def churn_row(evaluation: Evaluation, gates: Gates) -> dict[str, Any] | None:
    """The share of changed answers with its exact bounds, JSON-ready; None without class scores."""
    flips = evaluation.flips
    if evaluation.scores is None or not flips.images:
        return None
    sure = 1 - gates.alpha
    low, high = clopper_pearson(flips.total, flips.images, sure)
    return {
        "rate": flips.churn,
        "low": low,
        "high": high,
        "confidence": sure,
        "limit": gates.churn,
        "alpha": gates.alpha,
        "test": gates.test.value,
    }


def _judged_churn(churn: dict[str, Any] | None, gates: Gates) -> tuple[Verdict, str]:
    """Whether more answers changed than is accepted, by the same rules as a drop; and what is to be said."""
    limit = gates.churn
    if churn is None or limit is None:
        return Verdict.PASS, ""
    bound = f"at {confidence(churn['confidence'])} confidence"
    told = (
        f"{percent(churn['rate'])} of the answers changed (limit {percent(limit)}, {bound} between "
        f"{percent(churn['low'])} and {percent(churn['high'])} of such images would)"
    )
    above = churn["rate"] > limit
    match gates.test:
        case DropTest.THRESHOLD:
            fails = above
        case DropTest.PROVEN:
            fails = churn["high"] > limit
        case DropTest.PAIRED:
            fails = churn["low"] > limit
    if fails:
        return Verdict.FAIL, told
    return (Verdict.INCONCLUSIVE, f"too few images to tell: {told}") if above else (Verdict.PASS, told)
