"""Findings: what the items found, told once where several checks of an engine say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtcheck.report.view.formats import shown_engine
from trtcheck.report.view.links import check_anchor
from trtcheck.report.view.records import CHECKS, Pair, Record, pair
from trtcheck.report.view.statuses import STATUSES, Status

SHOWN_CLAUSES = 12
"""Clauses of a message before the rest is folded (on the index: left to the engine's page)."""

_FIGURES = {
    "build": ("facts", "lowered"),
    "outputs": ("outputs", "outputs"),
    "accuracy": ("images", "accuracy-figures"),
    "recall": ("classes", "recall-classes"),
    "precision": ("classes", "precision-classes"),
}
"""By check: the field without which there are no figures, and their id on the engine's page."""


@dataclass(frozen=True)
class Finding:
    """The verdict and reason of one item, or of several of one engine that have both in common.

    Attributes:
        anchors: The items' ids on the engine's page.
        status: The verdict.
        model: Its model.
        engine: Its engine as people write it, or None.
        checks: The items' checks.
        message: The reason, one clause a line.
        more: What does not belong on a first look, or "".
        hidden: How many clauses *more* holds.
        nodeids: pytest's names of the items.
        notes: What a reader should know.
        page: The engine's page, or None.
        detail: Id of the figures on that page, or None.
    """

    anchors: tuple[str, ...]
    status: Status
    model: str
    engine: str | None
    checks: tuple[str, ...]
    message: str
    more: str
    hidden: int
    nodeids: tuple[str, ...]
    notes: tuple[str, ...]
    page: str | None
    detail: str | None


def findings(items: Sequence[Record], pages: Mapping[Pair, str]) -> tuple[Finding, ...]:
    """What the *items* found, in their order; an engine's checks that say the same are one finding."""
    number: Counter[tuple[Pair, str]] = Counter()
    groups: dict[tuple[Pair, str, str], list[tuple[Record, str]]] = {}
    for item in items:
        number[pair(item), item["check"]] += 1
        anchor = check_anchor(item["check"], number[pair(item), item["check"]])
        groups.setdefault((pair(item), item["verdict"], item["message"]), []).append((item, anchor))
    return tuple(_finding(group, pages) for group in groups.values())


def _finding(group: Sequence[tuple[Record, str]], pages: Mapping[Pair, str]) -> Finding:
    first = group[0][0]
    ordered = sorted(group, key=lambda found: CHECKS.index(found[0]["check"]))
    items = [item for item, _ in ordered]
    every = clauses(first)
    return Finding(
        anchors=tuple(anchor for _, anchor in ordered),
        status=STATUSES[first["verdict"]],
        model=first["model"],
        engine=None if first["engine"] is None else shown_engine(first["engine"]),
        checks=tuple(dict.fromkeys(item["check"] for item in items)),
        message=";\n".join(every[:SHOWN_CLAUSES]),
        more=";\n".join(every[SHOWN_CLAUSES:]),
        hidden=len(every[SHOWN_CLAUSES:]),
        nodeids=tuple(item["nodeid"] for item in items),
        notes=tuple(dict.fromkeys(note for item in items for note in item["notes"])),
        page=pages.get(pair(first)),
        detail=_detail(first),
    )


def clauses(item: Record) -> list[str]:
    """The message of an item in parts that each name one finding."""
    message: str = item["message"]
    return message.split("; ")


def _detail(item: Record) -> str | None:
    """The id of the figures that belong to an item."""
    field, anchor = _FIGURES[item["check"]]
    return anchor if item.get(field) else None
