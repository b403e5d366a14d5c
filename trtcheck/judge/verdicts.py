"""What the judges answer: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trtcheck.case import DropTest, Verdict


@dataclass(frozen=True)
class Enough:
    """About how many images it would take to tell.

    Attributes:
        images: Images of the class, a round number.
        drop: The smallest drop that so many would show with power .8, as a fraction.
    """

    images: int
    drop: float


@dataclass(frozen=True)
class ClassVerdict:
    """One class before and after.

    Attributes:
        name: The class.
        support: Its labelled images.
        before: Recall (or precision) of the reference as a fraction; None where undefined.
        after: The same of the engine.
        margin: The drop that is too much; a smaller one is accepted.
        fell: Whether the drop reaches the margin, compared in rational numbers.
        floor: The smallest accepted value; None where there is none.
        key: Whether it is a key class, which shares a part of alpha of its own.
        b: Images on which the reference was right and the engine wrong; for precision, images of other
            classes that only the engine puts into this class.
        c: The reverse.
        p: One-sided exact p-value.
        p_adjusted: The same after Tarone's and Holm's procedure at the family's level; 1 for a class in which
            too few answers changed for any p-value to count.
        interval: Ends of the drop's interval, each a one-sided bound at confidence 1 - alpha; None where the
            drop is undefined or the answers of single images are not known.
        detectable: Smallest drop that would have been found with power .8; None where none would.
        blind: Whether that is more than must be seen, so that a pass means nothing.
        enough: What it would take to tell; None unless the verdict is inconclusive for want of images.
        verdict: Pass, fail, inconclusive, or skipped for a class that has no images.
    """

    name: str
    support: int
    before: float | None
    after: float | None
    margin: float
    fell: bool
    floor: float | None
    key: bool
    b: int
    c: int
    p: float
    p_adjusted: float
    interval: tuple[float, float] | None
    detectable: float | None
    blind: bool
    enough: Enough | None
    verdict: Verdict

    @property
    def drop(self) -> float | None:
        """Before minus after, as a fraction; None where either is undefined."""
        return None if self.before is None or self.after is None else self.before - self.after

    @property
    def below_floor(self) -> bool:
        """Whether the class has images and does not reach its floor; what is undefined does not."""
        return self.floor is not None and self.support > 0 and not (self.after or 0.0) >= self.floor


@dataclass(frozen=True)
class PooledVerdict:
    """All classes together, which shows a small harm spread over many.

    Attributes:
        verdict: Pass or fail; skipped where the rule is a plain threshold.
        images: Labelled images.
        b: Images that got worse: newly wrong; for precision, newly given to a wrong class.
        c: Images that got better.
        margin: The smallest drop that fails, as a fraction of the images.
        p: One-sided exact p-value.
        alpha: The level that p is held against.
        detectable: Smallest drop that would have been found with power .8; None where none would.
    """

    verdict: Verdict
    images: int
    b: int
    c: int
    margin: float
    p: float
    alpha: float
    detectable: float | None

    @property
    def drop(self) -> float:
        """Net loss as a fraction of the images."""
        return (self.b - self.c) / self.images if self.images else 0.0


@dataclass(frozen=True)
class ClassesVerdict:
    """The verdict on all classes and each of them, in the order of the classes.

    Attributes:
        verdict: Fail if a class or the pooled test fails; inconclusive if a key class is, or if every class
            is blind; else pass.
        classes: The classes' own verdicts.
        pooled: The verdict on all of them together.
        alpha: False-alarm rate over all classes together, the pooled test included.
        test: What makes a drop a failure.
    """

    verdict: Verdict
    classes: tuple[ClassVerdict, ...]
    pooled: PooledVerdict
    alpha: float
    test: DropTest

    def named(self, verdict: Verdict) -> tuple[ClassVerdict, ...]:
        """The classes with that verdict, largest drop first."""
        chosen = (row for row in self.classes if row.verdict is verdict)
        return tuple(sorted(chosen, key=lambda row: -(row.drop or 0.0)))


@dataclass(frozen=True)
class RecallVerdict(ClassesVerdict):
    """The verdict on every class's recall."""


@dataclass(frozen=True)
class PrecisionVerdict(ClassesVerdict):
    """The verdict on every class's precision."""


@dataclass(frozen=True)
class AccuracyVerdict:
    """Accuracy before and after.

    Attributes:
        verdict: Pass, fail or inconclusive.
        images: Labelled images.
        before: Accuracy of the reference as a fraction.
        after: Accuracy of the engine.
        margin: The drop that is too much; a smaller one is accepted.
        fell: Whether the drop reaches the margin, compared in rational numbers.
        below_floor: Whether accuracy does not reach its floor.
        below_target: Whether it does not reach its share of the reference's.
        b: Images that only the reference answered right.
        c: Images that only the engine answered right.
        p: One-sided exact p-value.
        interval: Ends of the drop's interval, each a one-sided bound at confidence 1 - alpha; None where the
            answers of single images are not known.
        detectable: Smallest drop that would have been found with power .8; None where none would.
        enough: What it would take to tell; None unless the verdict is inconclusive for want of images.
        floor: The smallest accepted accuracy; None where there is none.
        target: The smallest accepted share of the reference's accuracy; None where there is none.
        alpha: False-alarm rate of the test.
        test: What makes a drop a failure.
    """

    verdict: Verdict
    images: int
    before: float
    after: float
    margin: float
    fell: bool
    below_floor: bool
    below_target: bool
    b: int
    c: int
    p: float
    interval: tuple[float, float] | None
    detectable: float | None
    enough: Enough | None
    floor: float | None
    target: float | None
    alpha: float
    test: DropTest

    @property
    def drop(self) -> float:
        """Before minus after, as a fraction."""
        return self.before - self.after


class LatencyRule(StrEnum):
    """How a time was compared with what was approved; the strongest that there is comes first."""

    INTERLEAVED = "interleaved"
    """With the approved engine, timed in the same rounds."""
    RATIO = "ratio"
    """As ratio to the reference on the same device, with that of stored sessions."""
    ABSOLUTE = "absolute"
    """With the times of stored sessions."""
    NONE = "none"
    """With nothing: there is too little that it could be compared with."""


@dataclass(frozen=True)
class LatencyVerdict:
    """One figure (median, 95th percentile, throughput) before and after.

    All changes are relative: .05 is 5 % slower (for throughput 1/throughput is meant, so that more is worse).

    Attributes:
        rule: How it was compared.
        effect: Slowdown: Hodges-Lehmann estimate over rounds, or this session against the stored ones' mean;
            None where nothing was compared.
        low: One-sided lower confidence bound of the slowdown at 1 - alpha.
        high: One-sided upper bound, likewise.
        detectable: Smallest slowdown that would have failed with power .8; None where nothing was compared.
        tolerance: The slowdown that is accepted.
        alpha: Chance of a failure where the slowdown is just the tolerance, at most.
        rounds: Rounds of this session that counted.
        sessions: Stored sessions that counted.
        session_sd: Standard deviation between sessions (of a log ratio) that the bounds allow for.
        verdict: Pass, fail or inconclusive.
        reason: Why it is inconclusive, in words; empty otherwise.
    """

    rule: LatencyRule
    effect: float | None
    low: float | None
    high: float | None
    detectable: float | None
    tolerance: float
    alpha: float
    rounds: int
    sessions: int
    session_sd: float
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Speedup:
    """How many times as fast an engine is as what it is held against.

    Attributes:
        ratio: Above 1 the engine is faster; Hodges-Lehmann estimate over rounds.
        low: Lower end of the two-sided interval; None where there are too few rounds for one.
        high: Upper end, likewise.
        confidence: Of the interval.
    """

    ratio: float
    low: float | None
    high: float | None
    confidence: float


@dataclass(frozen=True)
class LimitVerdict:
    """One figure against a limit of its own.

    Attributes:
        measured: The figure; Hodges-Lehmann estimate over rounds, on the log scale.
        low: One-sided lower confidence bound at 1 - alpha; None where there are too few rounds for one.
        high: One-sided upper bound, likewise.
        limit: The limit.
        alpha: Chance of a failure where the figure is just the limit, at most.
        verdict: Fail if shown to be beyond the limit, pass if shown to keep it, else inconclusive.
    """

    measured: float
    low: float | None
    high: float | None
    limit: float
    alpha: float
    verdict: Verdict
