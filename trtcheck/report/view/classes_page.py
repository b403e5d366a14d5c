"""All classes of a model of many, the engines side by side: a page of its own that their pages share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtcheck.report.view import formats, room
from trtcheck.report.view.links import class_page, page_names
from trtcheck.report.view.records import Pair, Record, fall, pair
from trtcheck.report.view.statuses import STATUSES, Status
from trtcheck.report.view.tables import descending

MOST_ENGINES = 6
"""Engines side by side."""
MOST = 5000
"""Classes of a page; where they are more, those that lost most recall in any engine."""


@dataclass(frozen=True)
class ClassesView:
    """The page of all classes of a model.

    Attributes:
        page: Its file name.
        model: The model.
        status: The model's verdict.
        headline: What the page is.
        engines: Engines with their pages, as many as stand side by side.
        further: Engines that do not, with their pages.
        notes: What is not on the page, in sentences.
        columns: What stands in the cells of a row, behind the name.
        rows: A class a row: its name, its support, and recall and precision of the reference and each engine.
    """

    page: str
    model: str
    status: Status
    headline: str
    engines: tuple[tuple[str, str], ...]
    further: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def class_pages(document: Record) -> tuple[ClassesView, ...]:
    """The pages of the models of *document* whose classes are too many for their engines' own pages."""
    pages = page_names(document)
    whole = room.of_report(len(pages)).classes
    found = []
    for model in document["models"]:
        engines = [
            engine
            for engine in document["engines"]
            if engine["model"] == model["name"] and len(engine["classes"]) > whole
        ]
        if engines:
            found.append(_page(model, engines, pages))
    return tuple(found)


def _names(engine: Record) -> list[str]:
    return [row["name"] for row in engine["classes"]]


def _page(model: Record, engines: Sequence[Record], pages: Mapping[Pair, str]) -> ClassesView:
    # Reports of several jobs may hold one model with other classes: they have no row in common.
    shown = [engine for engine in engines if _names(engine) == _names(engines[0])][:MOST_ENGINES]
    further = [engine for engine in engines if all(engine is not other for other in shown)]
    links, others = (
        tuple((formats.shown_engine(engine["engine"]), pages[pair(engine)]) for engine in found)
        for found in (shown, further)
    )
    names = [name for name, _ in links]
    count = len(shown[0]["classes"])
    chosen = range(count) if count <= MOST else _most_fallen(shown)
    notes = []
    if len(chosen) < count:
        notes.append("report.json has all classes.")
    if further:
        others_told = formats.number_of(len(further), "more engine", "more engines")
        notes.append(f"report.json has the figures of {others_told}.")
    which = "All" if len(chosen) == count else f"The {formats.grouped(len(chosen))} that lost most recall of"
    return ClassesView(
        page=class_page(model["name"]),
        model=model["name"],
        status=STATUSES[model["verdict"]],
        headline=f"{which} {formats.grouped(count)} classes of {model['name']}, in the model's order",
        engines=links,
        further=others,
        notes=tuple(notes),
        columns=("support", *(f"{figure}: {name}" for figure in _FIGURES for name in ("reference", *names))),
        rows=tuple(_row(shown, k) for k in chosen),
    )


_FIGURES = ("recall", "precision")


def _row(engines: Sequence[Record], k: int) -> tuple[str, ...]:
    first = engines[0]["classes"][k]
    figures = (
        value
        for figure in _FIGURES
        for value in (first["before"][figure], *(engine["classes"][k]["after"][figure] for engine in engines))
    )
    shown = (formats.share(value) or "\N{EN DASH}" for value in figures)
    return (first["name"], formats.grouped(first["support"]), *shown)


def _most_fallen(engines: Sequence[Record]) -> list[int]:
    """The classes that lost most recall in any engine; of equal ones those with the lowest recall now."""

    def order(k: int) -> tuple[float, float]:
        rows = [engine["classes"][k] for engine in engines]
        falls = [fall(row["before"]["recall"], row["after"]["recall"]) for row in rows]
        now = [row["after"]["recall"] for row in rows]
        return (
            descending(max((drop for drop in falls if drop is not None), default=None)),
            min((value for value in now if value is not None), default=math.inf),
        )

    return sorted(sorted(range(len(engines[0]["classes"])), key=order)[:MOST])
