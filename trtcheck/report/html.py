"""The report as a folder of HTML pages, made by jinja2 from the views of `trtcheck.report.view`.

The pages hold no script, no inline style and no data: URL, so that they read the same under the content
policy of a CI server as from a disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from trtcheck.cache import write_atomically
from trtcheck.errors import ReportError
from trtcheck.names import visible
from trtcheck.report import pictures, view

MARK = "pytest-trtcheck"
"""Stands in the first bytes of every file written here; a file without it is somebody else's."""
_MARKED = re.compile(
    rf'\A<!doctype html>\s*<html [^>]*>\s*<head>.{{0,200}}?<meta name="generator" content="{MARK}">',
    re.DOTALL,
)
_STYLE_MARKED = re.compile(rf"\A/\* {MARK} ")
_PAGE = re.compile(r"[a-z0-9-]+\.html")
_HEAD = 1024
_STYLE = ("base", "findings", "facts", "tables", "matrices", "charts", "gallery", "times", "page")


def write(document: Mapping[str, Any], folder: Path, drawn: Mapping[str, bytes] | None = None) -> list[Path]:
    """Writes the pages of *document* into *folder* and removes pages and pictures that are gone.

    Args:
        document: The report as docs/report-schema.md describes it.
        folder: Made if it is not there.
        drawn: Pictures by their path below the report; None keeps those that are there.

    Returns:
        The files written: the index first, then the pages of the engines, then the style sheet.

    Raises:
        ReportError: The folder cannot be written, or holds a file of the same name that trtcheck did
            not write.
    """
    there = _pictures_in(folder) if drawn is None else drawn.keys()
    shown = pictures.only(document, there)
    texts = render(shown)
    files: dict[str, str | bytes] = {**texts, **(drawn or {})}
    try:
        _refuse_foreign(folder, files)
        # The index comes last, so that its links never lead nowhere.
        for name in reversed(files):
            write_atomically(folder / name, files[name])
        _remove_stale(folder, texts)
        # Behind a link lies somebody else's folder.
        if not (folder / pictures.FOLDER).is_symlink():
            for name in _pictures_in(folder) - pictures.referenced(shown):
                (folder / name).unlink()
    except OSError as error:
        raise ReportError("the report cannot be written", where=folder, found=error) from error
    return [folder / name for name in texts]


def render(document: Mapping[str, Any]) -> dict[str, str]:
    """The text of every file of the report by its name, the index first."""
    environment = _templates()
    pages = {"index.html": environment.get_template("index.html.jinja2").render(view=view.index(document))}
    template = environment.get_template("engine.html.jinja2")
    for engine in view.engines(document):
        pages[engine.page] = template.render(view=engine)
    template = environment.get_template("classes.html.jinja2")
    for model in view.class_pages(document):
        pages[model.page] = template.render(view=model)
    # A path of pytest may hold bytes that are no UTF-8, as lone surrogates.
    texts = {name: visible(page).encode("utf-8", "backslashreplace").decode() for name, page in pages.items()}
    return {**texts, "style.css": _style()}


@cache
def _templates() -> jinja2.Environment:
    """The templates, each compiled once in a process."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("trtcheck.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _style() -> str:
    """The style sheet, put together from its parts; print and narrow screens come last."""
    folder = resources.files("trtcheck.report").joinpath("templates", "style")
    return "\n".join(folder.joinpath(f"{part}.css").read_text(encoding="utf-8") for part in _STYLE)


def _pictures_in(folder: Path) -> set[str]:
    """The pictures in *folder* that trtcheck wrote, by their path below it."""
    return {
        f"{pictures.FOLDER}/{path.name}" for path in (folder / pictures.FOLDER).glob("*.png") if _is_own(path)
    }


def _refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        path = folder / name
        if path.exists() and not _is_own(path):
            raise ReportError(
                "this file was not written by trtcheck and would be lost", where=path,
                hint="name another folder: pytest --trt-report=DIR",
            )  # fmt: skip


def _remove_stale(folder: Path, names: Mapping[str, str]) -> None:
    for path in sorted(folder.glob("*.html")):
        if path.name not in names and _PAGE.fullmatch(path.name) and _is_own(path):
            path.unlink()


def _is_own(path: Path) -> bool:
    """Whether trtcheck wrote the file: it is a plain one and begins with our mark."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if path.suffix == ".png":
        return pictures.is_own(head)
    start = head.decode("utf-8", "replace")
    return (_STYLE_MARKED if path.suffix == ".css" else _MARKED).match(start) is not None
