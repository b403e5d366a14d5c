"""All classes of a model of many, the engines side by side: a page of its own that their pages share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trtcheck.report.view import formats, room
from trtcheck.report.view.links import class_page, page_names
from trtcheck.report.view.records import Record, pair
from trtcheck.report.view.statuses import STATUSES, Status
from trtcheck.report.view.tables import descending

MOST_ENGINES = 6
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
        columns: What stands in the cells of a row, behind the name.
        rows: A class a row: its name, its support, and recall and precision of the reference and each engine.
    """

    page: str
    model: str
    status: Status
    headline: str
    engines: tuple[tuple[str, str], ...]
    further: tuple[tuple[str, str], ...]
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
        # Reports of several jobs may hold one model with other classes: they have no row in common.
        engines = [engine for engine in engines if _names(engine) == _names(engines[0])]
        if engines:
            links = [(formats.shown_engine(engine["engine"]), pages[pair(engine)]) for engine in engines]
            found.append(_page(model, engines, links))
    return tuple(found)


def _names(engine: Record) -> list[str]:
    return [row["name"] for row in engine["classes"]]


def _page(model: Record, engines: Sequence[Record], links: Sequence[tuple[str, str]]) -> ClassesView:
    shown = engines[:MOST_ENGINES]
    names = [name for name, _ in links[:MOST_ENGINES]]
    count = len(shown[0]["classes"])
    chosen = range(count) if count <= MOST else _most_fallen(shown)
    which = "All" if len(chosen) == count else f"The {formats.grouped(len(chosen))} that lost most recall of"
    return ClassesView(
        page=class_page(model["name"]),
        model=model["name"],
        status=STATUSES[model["verdict"]],
        headline=f"{which} {formats.grouped(count)} classes of {model['name']}, in the model's order",
        engines=tuple(links[:MOST_ENGINES]),
        further=tuple(links[MOST_ENGINES:]),
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
    def drop(k: int) -> float:
        rows = (engine["classes"][k] for engine in engines)
        falls = [
            row["before"]["recall"] - row["after"]["recall"]
            for row in rows
            if None not in (row["before"]["recall"], row["after"]["recall"])
        ]
        return descending(max(falls, default=None))

    return sorted(sorted(range(len(engines[0]["classes"])), key=drop)[:MOST])
