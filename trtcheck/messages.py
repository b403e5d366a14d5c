"""Verdicts in words and numbers: what an item says of accuracy, recall and precision."""

from __future__ import annotations

from collections.abc import Sequence

from trtcheck.case import Check, DropTest, Verdict
from trtcheck.judge.tango import images_to_prove
from trtcheck.judge.verdicts import AccuracyVerdict, ClassesVerdict, ClassVerdict, Enough, PooledVerdict
from trtcheck.names import confidence, fraction, listed, p_value, percent, points

_TOLD = 10
"""Failed classes whose figures stand in the message; the rest are named or counted."""
_EXPLAINED = 3
"""Inconclusive classes whose figures stand in the message."""


def accuracy(what: str, result: AccuracyVerdict) -> str:
    """Accuracy before and after, the evidence, and what could have been missed; *what* names the figure."""
    change = (
        f"{what} {fraction(result.before)} -> {fraction(result.after)} of {_counted(result.images, 'image')}"
    )
    flips = _flips(result, ("newly wrong", "newly right"))
    evidence = f"{flips}, {p_value(result.p)}, limit {points(result.margin)}"
    match result.verdict:
        case Verdict.FAIL:
            return f"{change}: {'; '.join(_accuracy_reasons(result, evidence))}"
        case Verdict.INCONCLUSIVE if result.fell:
            told = f"{change}: fell by {points(result.drop)}, which can be noise ({evidence})"
            return "; ".join(filter(None, [told, _missing(result)]))
        case Verdict.INCONCLUSIVE if not result.before:
            return f"{change}: nothing to lose, never right before ({evidence})"
        case Verdict.INCONCLUSIVE:
            told = f"{change}: too few images to tell ({evidence})"
            return "; ".join(filter(None, [told, _cannot_see(result.detectable, result.enough)]))
        case _:
            return f"{change} ({evidence}); {_accuracy_missed(result)}"


def _accuracy_reasons(result: AccuracyVerdict, evidence: str) -> list[str]:
    reasons = []
    if result.below_floor:
        more = _told_apart(result.after, result.floor)
        reasons.append(f"below the floor of {_share(result.floor)}{more}")
    if result.target is not None and result.below_target:
        least = result.target * result.before
        more = _told_apart(result.after, least)
        reasons.append(f"below {percent(result.target)} of the reference's, which is {fraction(least)}{more}")
    if reasons and not result.fell:
        return reasons
    proven = result.test is DropTest.PROVEN
    fell = _not_proven(result, result.alpha, result.images) if proven else f"fell by {points(result.drop)}"
    return [*reasons, f"{fell} ({evidence})"]


def _flips(row: AccuracyVerdict | ClassVerdict, kind: tuple[str, str]) -> str:
    """The images that changed either way, or by how many more one way where only counts are known."""
    if row.interval is None and row.drop is not None:
        net, (worse, better) = row.b - row.c, kind
        return f"by counts alone {abs(net)} more {worse if net >= 0 else better}"
    return f"{row.b} {kind[0]}, {row.c} {kind[1]}"


def _not_proven(row: AccuracyVerdict | ClassVerdict, alpha: float, images: int | None = None) -> str:
    """That a drop is not proven to be harmless, how large it may be, and whether so few *images* could do."""
    bound = "any drop is possible" if row.interval is None else f"the drop may be {points(row.interval[1])}"
    told = f"not proven to hold: {bound} at {confidence(1 - alpha)} confidence"
    fewest = images_to_prove(row.margin, 1 - alpha)
    if images is None or fewest is None or images >= fewest:
        return told
    return f"{told}, which takes {fewest} images or more"


def _accuracy_missed(result: AccuracyVerdict) -> str:
    if result.test is DropTest.PROVEN and result.interval is not None:
        sure = confidence(1 - result.alpha)
        return f"proven: the drop is at most {points(result.interval[1])}, at {sure} confidence"
    return f"{_under(result.detectable)} could have been missed"


def _under(detectable: float | None) -> str:
    return "any drop" if detectable is None else f"a drop under {points(detectable)}"


def _told_apart(value: float | None, least: float | None) -> str:
    """What *value* falls short by, where three digits do not tell it from *least*."""
    if value is None or least is None or fraction(value) != fraction(least):
        return ""
    return f" by {100 * (least - value):.2g} points"


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"1 {one}" if number == 1 else f"{number or 'no'} {many or one + 's'}"


def _missing(row: AccuracyVerdict | ClassVerdict) -> str:
    """Why a fall cannot be told from noise: what so few images can show, or so many flips hide."""
    if row.detectable is None or row.drop is None or row.drop < row.detectable:
        return _cannot_see(row.detectable, row.enough)
    return _enough(row.enough)


def _cannot_see(detectable: float | None, enough: Enough | None) -> str:
    """What so few images cannot show, and how many would."""
    seen = "no drop is sure to be seen"
    if detectable is not None:
        seen = f"drops under {points(detectable)} cannot be seen"
    return ", ".join(filter(None, [seen, _enough(enough)]))


def _enough(enough: Enough | None) -> str:
    return "" if enough is None else f"about {enough.images} images would show {points(enough.drop)}"


def classes(check: Check, result: ClassesVerdict) -> str:
    """The failed classes with their figures; or how far the others held, and which cannot be told."""
    failed = result.named(Verdict.FAIL)
    parts = [_class_message(check, row, result) for row in failed[:_TOLD]]
    if failed[_TOLD:]:
        parts[-1] += f"; also of {listed((row.name for row in failed[_TOLD:]), _TOLD)}"
    if result.pooled.verdict is Verdict.FAIL:
        parts.append(_pooled_message(check, result.pooled))
    if parts:
        parts += _unsure(result)
    elif result.verdict is Verdict.INCONCLUSIVE:  # the reason first
        parts = [*_unsure(result), *_held(check, result)]
    else:
        parts = [*_held(check, result), *_unsure(result)]
    empty = result.named(Verdict.SKIPPED)
    if empty and not failed:
        parts.append(f"no images of {listed(row.name for row in empty)}")
    return "; ".join(parts)


def _class_message(check: Check, row: ClassVerdict, result: ClassesVerdict) -> str:
    kind = ("newly wrong", "newly right") if check is Check.RECALL else ("new false positives", "gone")
    key = "key class " if row.key else ""
    what = f"{check.value} of {key}'{row.name}'"
    flips = f"support {row.support}: {_flips(row, kind)}"
    if row.below_floor:
        more = _told_apart(row.after, row.floor)
        change = f"{what} is {fraction(row.after)}, below the floor of {_share(row.floor)}{more}"
        return f"{change} (before: {fraction(row.before)}, {flips})"
    if result.test is DropTest.PROVEN:
        change = f"{what} {fraction(row.before)} -> {fraction(row.after)}"
        images = row.support if check is Check.RECALL else None
        return f"{change}: {_not_proven(row, result.alpha, images)} ({flips}, limit {points(row.margin)})"
    p = f", {p_value(row.p_adjusted)}" if result.test is DropTest.PAIRED else ""
    return (
        f"{what} fell from {fraction(row.before)} to {fraction(row.after)} "
        f"({flips}{p}, limit {points(row.margin)})"
    )


def _pooled_message(check: Check, pooled: PooledVerdict) -> str:
    kind = (
        ("newly wrong", "newly right")
        if check is Check.RECALL
        else ("newly given to a wrong class", "no more")
    )
    return (
        f"{check.value} of all classes together fell by {points(pooled.drop)} "
        f"({_counted(pooled.images, 'image')}: "
        f"{pooled.b} {kind[0]}, {pooled.c} {kind[1]}, {p_value(pooled.p)}, limit {points(pooled.margin)})"
    )


def _share(value: float | None) -> str:
    """A limit with all the digits that were given."""
    return "none" if value is None else f"{value:g}".removeprefix("0")


def _held(check: Check, result: ClassesVerdict) -> list[str]:
    """How far the classes that pass held, and what that could have missed."""
    passed = result.named(Verdict.PASS)
    if not passed:
        return []
    worst = passed[0]
    fell = worst.drop is not None and worst.drop > 0
    others = len(passed) < len(result.classes)
    largest = f"largest drop{' among them' if others else ''} {points(worst.drop)} ('{worst.name}')"
    held = f"{check.value} holds in {_counted(len(passed), 'class', 'classes')}"
    held += f" of {len(result.classes)}" if others else ""
    held += f": {largest if fell else 'none of them fell' if others else 'no class fell'}"
    return [held, *_missed(passed, result)]


def _missed(rows: Sequence[ClassVerdict], result: ClassesVerdict) -> list[str]:
    """What the pass could have missed: in the class that sees least, in key classes, and overall."""
    if result.test is DropTest.PROVEN:
        widest = max(rows, key=lambda row: row.interval[1] if row.interval else 0.0)
        bound = points(widest.interval[1] if widest.interval else None)
        sure = confidence(1 - result.alpha)
        return [f"proven for each of them: at most {bound} ('{widest.name}'), at {sure} confidence"]
    # What is blind and passes is proven not to have dropped: its power says nothing.
    rows = [row for row in rows if not row.blind] or rows
    blindest = max(rows, key=lambda row: 2.0 if row.detectable is None else row.detectable)
    same = len({row.detectable for row in rows}) == 1
    where = "any class" if same else f"'{blindest.name}'"
    pooled = result.pooled.detectable if result.pooled.verdict is Verdict.PASS else None
    overall = "" if pooled is None else f"{points(pooled)} in all together"
    if blindest.blind and result.test is DropTest.PAIRED:
        bound = points(max((row.interval[1] for row in rows if row.interval), default=None))
        missed = f"a drop under {overall} could have been missed" if overall else ""
        return list(filter(None, [f"the drop is at most {bound} in {where}", missed]))
    told = [f"{_under(blindest.detectable)} could have been missed in {where}"]
    keys = [row for row in rows if row.key and row is not blindest and not same]
    told += [f"under {points(row.detectable)} in key class '{row.name}'" for row in keys[:_EXPLAINED]]
    told += [f"under {overall}"] if overall else []
    return [", ".join(told)]


def _unsure(result: ClassesVerdict) -> list[str]:
    """The inconclusive classes, key classes first: why they are, and what is missing."""
    unsure = sorted(result.named(Verdict.INCONCLUSIVE), key=lambda row: not row.key)
    never = [row for row in unsure if row.support and row.before == 0]
    undefined = [row for row in unsure if row.support and row.drop is None]
    few = [row for row in unsure if row not in never and row not in undefined]
    parts = [_want_of_images(row) for row in few[:_EXPLAINED]]
    if few[_EXPLAINED:]:
        parts.append(f"too few images to tell for {listed(row.name for row in few[_EXPLAINED:])} either")
    gone = [row.name for row in undefined if row.before is not None]
    new = [row.name for row in undefined if row.before is None]
    if gone:
        parts.append(f"no answer is {listed(gone)} any more")
    if new:
        parts.append(f"no answer of the reference is {listed(new)}, so that nothing can be compared")
    if never:
        names = listed(row.name for row in never)
        parts.append(f"nothing to lose in {names}, never right before")
    return parts


def _want_of_images(row: ClassVerdict) -> str:
    """Why one class cannot be told, and about how many images would do."""
    what = f"{'key class ' if row.key else ''}'{row.name}'"
    number = _counted(row.support, "image")
    if row.fell:
        told = f"{what} fell by {points(row.drop)} of {number}, which can be noise"
        return ": ".join(filter(None, [told, _missing(row)]))
    of = f"{number} of {'key ' if row.key else ''}class '{row.name}'"
    return f"{of}: {_cannot_see(row.detectable, row.enough)}"
