"""Verdicts in words and numbers: what an item says of accuracy, recall and precision."""

from __future__ import annotations

from collections.abc import Sequence

from trtcheck.case import Check, Verdict
from trtcheck.judge.classes import AccuracyVerdict, ClassesVerdict, ClassVerdict
from trtcheck.names import fraction, listed, p_value, points

_TOLD = 10
"""Failed classes whose figures stand in the message; the rest are named or counted."""


def accuracy(what: str, result: AccuracyVerdict) -> str:
    """Accuracy before and after, the evidence, and what could have been missed; *what* names the figure."""
    change = f"{what} {fraction(result.before)} -> {fraction(result.after)} of {result.images} images"
    evidence = f"{result.b} newly wrong, {result.c} newly right, {p_value(result.p)}"
    limit = f"limit {points(result.margin)}"
    if result.verdict is Verdict.FAIL:
        return f"{change}: fell by {points(result.before - result.after)} ({evidence}, {limit})"
    if result.verdict is Verdict.INCONCLUSIVE:
        return f"{change}: too few images to tell ({evidence}, {limit}); {_seen(result.detectable)}"
    return f"{change} ({evidence}, {limit}); {_seen(result.detectable)}"


def _seen(detectable: float | None) -> str:
    if detectable is None:
        return "no drop could have been seen"
    return f"a drop under {points(detectable)} could have been missed"


def classes(check: Check, result: ClassesVerdict) -> str:
    """The failed classes with their figures; or how far the others held, and which cannot be told."""
    failed = result.named(Verdict.FAIL)
    if failed:
        told = "; ".join(_class_message(check, row) for row in failed[:_TOLD])
        more = failed[_TOLD:]
        told += f"; also of {listed((row.name for row in more), _TOLD)}" if more else ""
        return "; ".join(filter(None, [told, _unsure(result)]))
    empty = result.named(Verdict.SKIPPED)
    passed = result.named(Verdict.PASS)
    parts = []
    if passed:
        worst = passed[0]
        fell = worst.drop is not None and worst.drop > 0
        largest = f"largest drop {points(worst.drop)} ('{worst.name}')" if fell else "no class fell"
        parts.append(f"{check.value} holds in {len(passed)} classes: {largest}")
        parts.append(_missed(check, passed))
    if unsure := _unsure(result):
        parts.append(unsure)
    if empty:
        parts.append(f"no images of {listed(row.name for row in empty)}")
    return "; ".join(parts)


def _unsure(result: ClassesVerdict) -> str:
    """The inconclusive classes, and why they are."""
    unsure = result.named(Verdict.INCONCLUSIVE)
    never = [row for row in unsure if row.before == 0]
    gone = [row for row in unsure if row.before and row.after is None]
    few = [row for row in unsure if row not in never and row not in gone]
    parts = []
    if few:
        fell = [row for row in few if row.drop is not None and row.drop > 0]
        drops = ", ".join(f"'{row.name}' {points(row.drop)} of {row.support}" for row in fell[:3])
        observed = f" (observed drops: {drops} images)" if drops else ""
        parts.append(f"too few images to tell for {listed(row.name for row in few)}{observed}")
    if gone:
        parts.append(f"no answer is {listed(row.name for row in gone)} any more")
    if never:
        parts.append(f"nothing to lose in {listed(row.name for row in never)}, never right before")
    return "; ".join(parts)


def _missed(check: Check, rows: Sequence[ClassVerdict]) -> str:
    """What the pass could have missed in the class that sees least."""
    blindest = max(rows, key=lambda row: row.detectable or 1.0)
    seen = points(blindest.detectable)
    where = "any class" if len({row.detectable for row in rows}) == 1 else f"'{blindest.name}'"
    what = f"a drop under {seen}" if check is Check.RECALL else f"new false positives, under {seen},"
    return f"{what} could have been missed in {where}"


def _class_message(check: Check, row: ClassVerdict) -> str:
    kind = ("newly wrong", "newly right") if check is Check.RECALL else ("new false positives", "gone")
    return (
        f"{check.value} of '{row.name}' fell from {fraction(row.before)} to {fraction(row.after)} "
        f"(support {row.support}: {row.b} {kind[0]}, {row.c} {kind[1]}, {p_value(row.p_adjusted)}, "
        f"limit {points(row.margin)})"
    )
