"""Findings: what the items found, told once where several checks of an engine say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trtcheck.report import reasons
from trtcheck.report.view.formats import shown_engine
from trtcheck.report.view.links import check_anchor
from trtcheck.report.view.records import CHECKS, PER_CLASS, Pair, Record, pair
from trtcheck.report.view.statuses import STATUSES, WARNING, Status

SHOWN_CLAUSES = 12
"""Clauses of a message before the rest is folded (on the index: left to the engine's page)."""

_FIGURES = {
    "build": (("facts",), "lowered"),
    "calibration": (("overlap", "saturation"), "calibration"),
    "outputs": (("outputs",), "outputs"),
    "batch_invariance": (("outputs",), "batch-invariance"),
    "accuracy": (("images",), "accuracy-figures"),
    "recall": (("classes",), "recall-classes"),
    "precision": (("classes",), "precision-classes"),
    "latency": (("latency",), "latency-figures"),
}
"""By check: the fields without all of which there are no figures, and their id on the engine's page."""


@dataclass(frozen=True)
class Finding:
    """The verdict and reason of one item, or of several of one engine that have both in common.

    Attributes:
        anchors: The items' ids on the engine's page.
        status: The verdict.
        strict: Whether the items fail although they are only inconclusive.
        model: Its model.
        engine: Its engine as people write it, or None.
        checks: The items' checks.
        message: The reason, one clause a line.
        more: What does not belong on a first look, or "".
        hidden: How many clauses *more* holds.
        nodeids: pytest's names of the items.
        warnings: What a reader must know although nothing failed.
        notes: What a reader should know.
        page: The engine's page, or None.
        detail: Id of the figures on that page, or None.
    """

    anchors: tuple[str, ...]
    status: Status
    strict: bool
    model: str
    engine: str | None
    checks: tuple[str, ...]
    message: str
    more: str
    hidden: int
    nodeids: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    page: str | None
    detail: str | None


def findings(
    items: Sequence[Record], pages: Mapping[Pair, str], verdicts: Collection[str] = STATUSES.keys(),
    overflows: Mapping[Pair, str] | None = None,
) -> tuple[Finding, ...]:  # fmt: skip
    """What the *items* found, in their order; an engine's checks that say the same are one finding.

    Args:
        items: All there are of their engines, worst first, as on the engines' pages.
        pages: The engines' pages.
        verdicts: The verdicts that are told.
        overflows: What is told of nodes that overflow, by engine: in a message it comes before what it does.
    """
    groups: dict[tuple[Pair, str, bool, str], list[tuple[Record, str]]] = {}
    for item, anchor in _anchored(items):
        same = (pair(item), item["verdict"], is_strict(item), item["message"])
        if item["verdict"] in verdicts:
            groups.setdefault(same, []).append((item, anchor))
    known = overflows or {}
    return tuple(_finding(group, pages, known.get(pair(group[0][0]))) for group in groups.values())


def _anchored(items: Iterable[Record]) -> Iterator[tuple[Record, str]]:
    """Each of *items* with the id of its finding on the page of its engine."""
    number: Counter[tuple[Pair, str]] = Counter()
    for item in items:
        number[pair(item), item["check"]] += 1
        yield item, check_anchor(item["check"], number[pair(item), item["check"]])


def _finding(group: Sequence[tuple[Record, str]], pages: Mapping[Pair, str], overflow: str | None) -> Finding:
    first = group[0][0]
    ordered = sorted(group, key=lambda found: CHECKS.index(found[0]["check"]))
    items = [item for item, _ in ordered]
    every = reasons.worst_first(first["message"], overflow)
    return Finding(
        anchors=tuple(anchor for _, anchor in ordered),
        status=STATUSES[first["verdict"]],
        strict=is_strict(first),
        model=first["model"],
        engine=None if first["engine"] is None else shown_engine(first["engine"]),
        checks=tuple(dict.fromkeys(item["check"] for item in items)),
        message=";\n".join(every[:SHOWN_CLAUSES]),
        more=";\n".join(every[SHOWN_CLAUSES:]),
        hidden=len(every[SHOWN_CLAUSES:]),
        nodeids=tuple(item["nodeid"] for item in items),
        warnings=tuple(dict.fromkeys(text for item in items for text in item["warnings"])),
        notes=tuple(dict.fromkeys(note for item in items for note in item["notes"])),
        page=pages.get(pair(first)),
        detail=_detail(first),
    )


def is_strict(item: Record) -> bool:
    """Whether the item is inconclusive and fails for that."""
    return item["verdict"] == "inconclusive" and bool(item["fails"])


@dataclass(frozen=True)
class Warned:
    """A warning of one model, with the engines that gave it.

    Attributes:
        model: The model.
        engines: Each engine as people write it, with the place of its finding or None.
        checks: The checks that gave it.
        message: The warning.
        status: Its word and mark.
    """

    model: str
    engines: tuple[tuple[str, str | None], ...]
    checks: tuple[str, ...]
    message: str
    status: Status = WARNING


def warnings(items: Sequence[Record], pages: Mapping[Pair, str]) -> tuple[Warned, ...]:
    """What the *items* warn of, in their order; what is said of several engines of a model is one."""
    groups: dict[tuple[str, str], list[tuple[Record, str]]] = {}
    for item, anchor in _anchored(items):
        for text in item["warnings"]:
            groups.setdefault((item["model"], text), []).append((item, anchor))
    return tuple(_warned(model, text, group, pages) for (model, text), group in groups.items())


def _warned(model: str, text: str, group: Sequence[tuple[Record, str]], pages: Mapping[Pair, str]) -> Warned:
    engines: dict[str, str | None] = {}
    for item, anchor in group:
        page = pages.get(pair(item))
        engines.setdefault(shown_engine(item["engine"] or ""), None if page is None else f"{page}#{anchor}")
    return Warned(
        model=model,
        engines=tuple(engines.items()),
        checks=tuple(dict.fromkeys(item["check"] for item, _ in group)),
        message=text,
    )


def clauses(item: Record) -> list[str]:
    """The message of an item in parts that each name one finding."""
    return reasons.findings(item["message"])


def _detail(item: Record) -> str | None:
    """The id of the figures that belong to an item."""
    fields, anchor = _FIGURES[item["check"]]
    if not any(item.get(field) for field in fields):
        return None
    pooled = item["check"] in PER_CLASS and item["pooled"]["verdict"] != "skipped"
    return f"{item['check']}-pooled" if pooled else anchor
