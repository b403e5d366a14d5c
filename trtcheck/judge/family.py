"""One family of tests: every class, and all of them together, share one false-alarm rate.

Of alpha, half goes to a pooled test over all classes, which finds a small harm spread over many; a quarter to
the key classes and a quarter to the others, or half to all where there is but one of these groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from trtcheck.case import DropTest, Verdict
from trtcheck.judge.multiplicity import tarone_holm
from trtcheck.judge.paired import mcnemar_p, net_loss_needed, reaches, smallest_p
from trtcheck.judge.power import minimum_detectable_drop
from trtcheck.judge.verdicts import AccuracyVerdict, ClassVerdict, PooledVerdict
from trtcheck.names import matching

POOLED_SHARE = 0.5
"""Share of alpha that the pooled test gets."""
T = TypeVar("T")

ALPHA = 0.01
MUST_SEE = 0.6

POOLED_DROP = 0.002
"""The pooled margin at the default margin of a class: a fifth of it."""


@dataclass(frozen=True)
class Rules:
    """What the classes are held against.

    Attributes:
        classes: Class names in the order of their numbers.
        margins: Accepted drop of each class, as a fraction.
        floors: Smallest accepted value of each class; None where there is none.
        keys: Whether each class is a key class.
        alpha: False-alarm rate of the family.
        test: What makes a drop a failure.
        pooled_drop: Smallest drop over all classes together that fails, as a fraction of the images; None for
            a fifth of what the classes' margins accept together.
        must_see: A class whose minimum detectable drop is larger is blind.
    """

    classes: tuple[str, ...]
    margins: tuple[float, ...]
    floors: tuple[float | None, ...]
    keys: tuple[bool, ...]
    alpha: float = ALPHA
    test: DropTest = DropTest.PAIRED
    pooled_drop: float | None = None
    must_see: float = MUST_SEE

    @classmethod
    def of(
        cls, classes: Sequence[str] | int, *, drop: float, floor: float | None,
        class_drops: Mapping[str, float] | None, class_floors: Mapping[str, float] | None,
        key_classes: Sequence[str], alpha: float, test: DropTest | str, pooled_drop: float | None,
        must_see: float,
    ) -> Rules:  # fmt: skip
        """The rules from one margin and floor for all classes, and those of single ones by name.

        Raises:
            ValueError: A name stands for no class, or a number is not within its range.
        """
        names = _names(classes)
        key_classes = (key_classes,) if isinstance(key_classes, str) else key_classes
        drops, floors = class_drops or {}, class_floors or {}
        unknown = [entry for entry in (*drops, *floors, *key_classes) if not matching(entry, names)]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of the classes {', '.join(names[:20])}")
        general = {"floor": floor, "pooled_drop": pooled_drop, "drop": drop, "must_see": must_see}
        for limits in (general, drops, floors):
            check_shares(limits)
        check_alpha(alpha)
        keys = {name for entry in key_classes for name in matching(entry, names)}
        return cls(
            classes=names, margins=tuple(float(own) for own in _own(drops, names, drop)),
            floors=_own(floors, names, floor),
            keys=tuple(name in keys for name in names), alpha=alpha, test=rule_of(test),
            pooled_drop=pooled_drop, must_see=must_see,
        )  # fmt: skip

    def pooled_margin(self, support: np.ndarray) -> float:
        """The smallest drop over all classes together that fails, given the images of each class (C,)."""
        if self.pooled_drop is not None:
            return self.pooled_drop
        accepted = float(np.array(self.margins) @ support) / max(1, int(support.sum()))
        return round(accepted / 5, 12)

    def without_floors(self) -> Rules:
        """The same for a comparison alone."""
        return replace(self, floors=(None,) * len(self.classes))


def _names(classes: Sequence[str] | int) -> tuple[str, ...]:
    """The class names; a number stands for classes named by their numbers."""
    each = range(int(classes)) if isinstance(classes, (int, np.integer)) else classes
    names = tuple(str(name) for name in each)
    if not names or isinstance(classes, str) or len(set(names)) < len(names):
        raise ValueError(f"classes must be different names, or how many there are, got {classes!r}")
    return names


def _own(limits: Mapping[str, T], names: Sequence[str], general: T) -> tuple[T, ...]:
    """The limit of each class: by name, else by the first pattern that fits it, else the *general* one."""
    own: dict[str, T] = {name: limit for name, limit in limits.items() if name in names}
    for entry, limit in limits.items():
        for name in matching(entry, names):
            own.setdefault(name, limit)
    return tuple(own.get(name, general) for name in names)


def rule_of(test: DropTest | str) -> DropTest:
    """The rule that *test* names.

    Raises:
        ValueError: It names none.
    """
    if test not in list(DropTest):
        raise ValueError(f"test is {test!r}, expected {', '.join(repr(rule.value) for rule in DropTest)}")
    return DropTest(test)


def check_alpha(alpha: float) -> None:
    """Raises ValueError where *alpha* is no level of a test."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, expected a number above 0 and below 1")


def check_shares(limits: Mapping[str, float | None]) -> None:
    """Raises ValueError where one of the *limits* by name is given and no fraction."""
    for name, value in limits.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, expected a fraction from 0 to 1 (0.01 is one point)")


@dataclass(frozen=True)
class Pooled:
    """All classes together: *images*, of which *b* got worse and *c* better, with the p-value of that.

    A net loss of *margin* (a fraction of the images) fails, where it is significant.
    """

    images: int
    b: int
    c: int
    p: float
    margin: float


@dataclass(frozen=True, eq=False)
class Failures:
    """What the paired rule fails, and from what.

    Attributes:
        classes: Whether each class fails, bool (C,).
        pooled: Whether all of them together do.
        p: One-sided p-value of each class (C,).
        p_adjusted: The same to be held against alpha (C,).
        fell: Whether each class's observed drop reaches its margin, bool (C,).
        together: All classes together.
    """

    classes: np.ndarray
    pooled: bool
    p: np.ndarray
    p_adjusted: np.ndarray
    fell: np.ndarray
    together: Pooled


def failures(
    b: np.ndarray, c: np.ndarray, n: np.ndarray, *, margins: Sequence[float], keys: np.ndarray,
    alpha: float = ALPHA, pooled_drop: float = POOLED_DROP,
) -> Failures:  # fmt: skip
    """The paired rule on the recall of every class, from counts.

    Args:
        b: Images of each class that only the reference answers right, integers (C,).
        c: Images of each class that only the engine answers right (C,).
        n: Images of each class (C,).
        margins: Accepted drop of each class, as a fraction (C,).
        keys: Whether each class is a key class, bool (C,).
        alpha: False-alarm rate of the family.
        pooled_drop: Smallest drop over all classes together that fails, as a fraction of the images.
    """
    worse, better = int(b.sum()), int(c.sum())
    p_together = float(mcnemar_p(np.array(worse), np.array(better)))
    return decide(
        mcnemar_p(b, c), smallest_p(b, c), b - c >= net_loss_needed(margins, n),
        Pooled(int(n.sum()), worse, better, p_together, pooled_drop), tested=n > 0, keys=keys, alpha=alpha,
    )  # fmt: skip


def decide(
    p: np.ndarray, smallest: np.ndarray, fell: np.ndarray, pooled: Pooled, *,
    tested: np.ndarray, keys: np.ndarray, alpha: float,
) -> Failures:  # fmt: skip
    """What fails: what fell by its margin, with a p-value that counts.

    Args:
        p: One-sided p-values (C,).
        smallest: The smallest p-value that each class's test can attain (C,).
        fell: Whether each class's observed drop reaches its margin, bool (C,).
        pooled: All classes together.
        tested: Which classes have images, bool (C,).
        keys: Whether each class is a key class, bool (C,).
        alpha: False-alarm rate of the family.
    """
    adjusted = np.ones(len(p))
    for group, level in groups(tested, keys, alpha):
        # Held against alpha itself, so that a reader needs no table of levels.
        adjusted[group] = np.minimum(tarone_holm(p[group], smallest[group], level) * (alpha / level), 1.0)
    fell_together = reaches(pooled.b - pooled.c, pooled.margin, pooled.images)
    worse = fell_together and pooled.p <= alpha * POOLED_SHARE
    return Failures(fell & (adjusted <= alpha), bool(worse), p, adjusted, fell, pooled)


def groups(tested: np.ndarray, keys: np.ndarray, alpha: float) -> list[tuple[np.ndarray, float]]:
    """The groups of classes that share a level: their masks (C,), and the level."""
    found = [group for group in (tested & keys, tested & ~keys) if group.any()]
    return [(group, alpha * (1 - POOLED_SHARE) / len(found)) for group in found]


def planning_levels(tested: np.ndarray, rules: Rules) -> np.ndarray:
    """The level (C,) at which each class's power is stated: its group's, by the number of classes in it.

    It is fixed before any answer is seen. A class without images is planned as if it had some. A plain
    threshold asks for no significance: 1.
    """
    if rules.test is DropTest.THRESHOLD:
        return np.ones(len(tested))
    keys = np.array(rules.keys, bool)
    levels = rules.alpha * (1 - POOLED_SHARE) / 2 / (1 + np.where(keys, (tested & keys).sum(), 0))
    for group, level in groups(tested, keys, rules.alpha):
        levels[group] = level / group.sum()
    return levels


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of the classes.

    Attributes:
        rows: The classes with their figures; verdicts are to come.
        failures: What the paired rule says.
        pooled_detectable: The smallest drop of all together that would be found with power .8.
    """

    rows: Sequence[ClassVerdict]
    failures: Failures
    pooled_detectable: float | None


def judge(evidence: Evidence, rules: Rules) -> tuple[Verdict, tuple[ClassVerdict, ...], PooledVerdict]:
    """The verdict on a family, on each of its classes and on all of them together."""
    rows = tuple(
        replace(row, p_adjusted=adjusted, verdict=_verdict(row, failed, rules.test))
        for row, adjusted, failed in zip(
            evidence.rows,
            evidence.failures.p_adjusted.tolist(),
            evidence.failures.classes.tolist(),
            strict=True,
        )
    )
    pooled = _pooled(evidence, rules)
    judged = [row for row in rows if row.verdict is not Verdict.SKIPPED]
    if pooled.verdict is Verdict.FAIL or any(row.verdict is Verdict.FAIL for row in judged):
        verdict = Verdict.FAIL
    elif any(row.key and row.verdict is Verdict.INCONCLUSIVE for row in judged) or all(
        row.verdict is Verdict.INCONCLUSIVE and (row.blind or says_nothing(row)) for row in judged
    ):
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.PASS
    return verdict, rows, pooled


def _verdict(row: ClassVerdict, failed: bool, test: DropTest) -> Verdict:
    if row.support == 0:
        return Verdict.INCONCLUSIVE if row.key else Verdict.SKIPPED
    if row.below_floor:
        return Verdict.FAIL
    return by_rule(row, failed, row.blind, test)


def by_rule(row: ClassVerdict | AccuracyVerdict, failed: bool, blind: bool, test: DropTest) -> Verdict:
    """The verdict on figures that meet their floors.

    Args:
        row: The figures.
        failed: What the paired rule says.
        blind: Whether a pass would mean nothing for want of images.
        test: What makes a drop a failure.
    """
    if says_nothing(row):
        return Verdict.INCONCLUSIVE
    match test:
        case DropTest.THRESHOLD:
            return Verdict.FAIL if row.fell else Verdict.PASS
        case DropTest.PROVEN:
            return Verdict.PASS if _harmless(row) else Verdict.FAIL
        case DropTest.PAIRED:
            if failed:
                return Verdict.FAIL
            unsure = row.fell or (blind and not _harmless(row))
            return Verdict.INCONCLUSIVE if unsure else Verdict.PASS


def says_nothing(row: ClassVerdict | AccuracyVerdict) -> bool:
    """Whether a pass would be empty: what was never right cannot get worse, nor what is undefined."""
    return row.drop is None or (row.before == 0 and not row.after)


def _harmless(row: ClassVerdict | AccuracyVerdict) -> bool:
    """Whether the drop is proven to be smaller than the margin: it rose, or there are images enough."""
    return row.interval is not None and row.interval[1] < row.margin


def pooled_detectable(pooled: Pooled, alpha: float) -> float | None:
    """The smallest drop of all images together that the paired test finds with power .8."""
    return minimum_detectable_drop(pooled.images, alpha * POOLED_SHARE, pooled.margin)


def _pooled(evidence: Evidence, rules: Rules) -> PooledVerdict:
    found = evidence.failures.together
    verdict = Verdict.FAIL if evidence.failures.pooled else Verdict.PASS
    return PooledVerdict(
        verdict=Verdict.SKIPPED if rules.test is DropTest.THRESHOLD else verdict,
        images=found.images, b=found.b, c=found.c, margin=found.margin, p=found.p,
        alpha=rules.alpha * POOLED_SHARE, detectable=evidence.pooled_detectable,
    )  # fmt: skip
