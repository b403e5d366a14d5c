"""The changed answers as a gallery: what the images look like, what they are and what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trtcheck.report.view import formats
from trtcheck.report.view.records import Record
from trtcheck.report.view.room import Room
from trtcheck.report.view.statuses import Status
from trtcheck.report.view.tables import Column, Row, Table, folding

SHOWN_FLIPS = 50
"""Changed answers of a table before the rest is folded."""
_LEAST = 0.001  # of the probabilities that can be told with three digits

BROKEN = Status("broken", "✗", 0)
FIXED = Status("fixed", "✓", 1)
OTHER = Status("wrong both times", "≠", 2)
UNLABELLED = Status("changed", "≠", 3)


@dataclass(frozen=True)
class Answer:
    """What was answered, how sure, and the most probable classes with their probabilities."""

    name: str
    confidence: str | None
    best: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Card:
    """One image whose answer changed.

    Attributes:
        anchor: Its id on the page.
        place: What it is and its position in the data.
        file: Its file, or None.
        picture: Path of its thumbnail below the report, or None.
        row: What it holds, where it is no image, or None.
        told: The image in words, for those who do not see it.
        kind: Whether the change broke it, fixed it, or neither.
        before: The reference's answer.
        after: The engine's answer.
    """

    anchor: str
    place: str
    file: str | None
    picture: str | None
    row: str | None
    told: str
    kind: Status
    before: Answer
    after: Answer

    @property
    def best(self) -> tuple[tuple[tuple[str, str], tuple[str, str]], ...]:
        """The most probable classes before and after, side by side; "" where one side has no more."""
        rows = max(len(self.before.best), len(self.after.best))
        sides = [[*side.best, *[("", "")] * (rows - len(side.best))] for side in (self.before, self.after)]
        return tuple(zip(*sides, strict=True))


@dataclass(frozen=True)
class Group:
    """The changed answers of one true class."""

    name: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Gallery:
    """The changed answers of an engine.

    Attributes:
        sentence: How many are shown of how many.
        groups: By true class, the class with most broken answers first.
        rest: Those without a card, or None.
    """

    sentence: str
    groups: tuple[Group, ...]
    rest: Table | None


def of_engine(engine: Record, room: Room) -> Gallery | None:
    """The gallery of *engine*, as far as the page has *room*; None where no answer is known."""
    flips = engine["flips"]
    if flips is None:
        return None
    worst = list(flips["worst"])
    chosen = [flip for flip in worst if flip.get("picture") or flip.get("row")][: room.cards]
    indices = {flip["index"] for flip in chosen}
    groups: dict[str | None, list[Record]] = {}
    for flip in chosen:
        groups.setdefault(flip["truth"], []).append(flip)
    ordered = sorted(groups.items(), key=lambda group: _order(*group))
    rest = [flip for flip in worst if flip["index"] not in indices][: room.flips]
    return Gallery(
        sentence=_sentence(flips["total"], len(chosen)),
        groups=tuple(
            Group("no label" if truth is None else truth, tuple(map(_card, own))) for truth, own in ordered
        ),
        rest=_table(rest, flips["total"], beside=bool(chosen)),
    )


def _order(truth: str | None, flips: Sequence[Record]) -> tuple[bool, int, float]:
    """Classes with most broken answers first, those without a label last."""
    broken = sum(_kind(flip) is BROKEN for flip in flips)
    return truth is None, -broken, -max(flip["lost"] or 0.0 for flip in flips)


def _sentence(total: int, shown: int) -> str:
    if not total:
        return "No answer changed."
    if not shown:
        return ""
    which = "All" if shown == total else f"The worst {shown} of {formats.grouped(total)}"
    return (
        f"{which}, by true class: those that lost most of the reference's confidence first. Before is the "
        "reference, after is this engine."
    )


def _card(flip: Record) -> Card:
    index = flip["index"]
    what = "image" if flip.get("picture") else "input"
    truth = f"an unlabelled {what}" if flip["truth"] is None else f"a '{flip['truth']}'"
    return Card(
        anchor=f"image-{index}",
        place=f"{what} {formats.grouped(index)}",
        file=flip.get("file"),
        picture=flip.get("picture"),
        row=flip.get("row"),
        told=f"{what} {index}, {truth}",
        kind=_kind(flip),
        before=_answer(flip, "before"),
        after=_answer(flip, "after"),
    )


def _answer(flip: Record, side: str) -> Answer:
    best = ((name, _probability(share) or "") for name, share in flip.get(f"top_{side}") or ())
    return Answer(formats.answer(flip[side]), _probability(flip[f"confidence_{side}"]), tuple(best))


def _probability(value: float | None) -> str | None:
    """A probability; one that rounds to nothing is told as a bound, so that it is no zero."""
    return "< .001" if value is not None and 0 < value < _LEAST / 2 else formats.share(value)


def _kind(flip: Record) -> Status:
    truth = flip["truth"]
    if truth is None:
        return UNLABELLED
    if flip["before"] == truth:
        return BROKEN
    return FIXED if flip["after"] == truth else OTHER


def _table(flips: Sequence[Record], total: int, *, beside: bool) -> Table | None:
    """The changed answers that have no card."""
    if not flips:
        return None
    columns = (
        Column("truth", text=True),
        Column("before", text=True),
        Column("confidence before"),
        Column("after", text=True),
        Column("confidence after"),
        Column("lost", hint="by how much the probability of the answer before fell, in points"),
        Column("kind", text=True),
    )
    rows = tuple(
        Row(
            str(flip["index"]),
            (
                "no label" if flip["truth"] is None else flip["truth"],
                formats.answer(flip["before"]),
                formats.share(flip["confidence_before"]),
                formats.answer(flip["after"]),
                formats.share(flip["confidence_after"]),
                formats.points(flip["lost"]),
                f"{_kind(flip).shape} {_kind(flip).word}",
            ),
        )
        for flip in flips
    )
    if beside:
        caption = f"{formats.number_of(len(flips), 'further changed answer', 'further changed answers')}"
        found = Table("flipped", caption, "image", columns, rows, unit="changed answers")
        return folding(found, 0)
    which = "all" if len(flips) == total else f"the worst {len(flips)} of {formats.grouped(total)}"
    caption = f"Images whose answer changed, most confidence lost first: {which}"
    return folding(Table("flipped", caption, "image", columns, rows, unit="changed answers"), SHOWN_FLIPS)
