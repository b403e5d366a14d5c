"""The records of the document that all views read: which belong together, and which comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trtcheck.case import Check
from trtcheck.report.view.statuses import STATUSES

Record = Mapping[str, Any]
Pair = tuple[str, str | None]
"""A model and an engine; None where a model was not tested at all."""

CHECKS = tuple(check.value for check in Check)
PER_CLASS = (Check.RECALL.value, Check.PRECISION.value)
_LEADING = ("recall", "accuracy", "precision", "latency", "outputs")
"""Which of several failed checks of one built engine tells most."""


def pair(record: Record) -> Pair:
    """Model and engine of an item or an engine."""
    return record["model"], record["engine"]


def own_items(document: Record, engine: Record) -> list[Record]:
    """The items of *engine*."""
    return [item for item in document["items"] if pair(item) == pair(engine)]


def worst_first(items: Iterable[Record]) -> list[Record]:
    """By verdict, then by the largest loss, then by what tells most; a failed build explains the rest."""

    def order(item: Record) -> tuple[Any, ...]:
        check = item["check"]
        return (
            STATUSES[item["verdict"]].rank,
            check != Check.BUILD.value,
            -_loss(item),
            _LEADING.index(check) if check in _LEADING else len(_LEADING),
            item["model"],
            item["engine"] or "",
            item.get("batch") or 0,
            item["nodeid"],
        )

    return sorted(items, key=order)


def _loss(item: Record) -> float:
    """The largest fall that decided the item's verdict, as a fraction."""
    judged = [*item["classes"], item["pooled"]] if item.get("classes") else []
    rows = [row for row in judged if row["verdict"] == item["verdict"]]
    falls = [row["drop"] for row in rows if row.get("drop") is not None]
    overall = fall(item.get("before"), item.get("after"))
    return max(falls if overall is None else [*falls, overall], default=0.0)


def own_verdict(item: Record) -> str:
    """Of an accuracy item the verdict on accuracy alone; the item's counts top-k and the baseline, too."""
    return str(item.get("own_verdict", item["verdict"]))


def fall(before: float | None, after: float | None) -> float | None:
    """*before* less *after*; None where one of them is undefined."""
    return None if before is None or after is None else before - after
