"""``pytest-trtcheck report``: makes a report anew from its ``report.json``, or one of several."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jinja2

from trtcheck.errors import OptionError, ReportError
from trtcheck.names import listed
from trtcheck.report import folder as folders
from trtcheck.report import pictures
from trtcheck.report.document import SCHEMA_VERSION
from trtcheck.report.merge import Part, merged
from trtcheck.report.view import headline

PROGRAM = "pytest-trtcheck report"

# What reading a damaged document can meet; every one of these says no more than that it is damaged.
_DAMAGED = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError,
    jinja2.TemplateError,
)  # fmt: skip

Made = TypeVar("Made")


def main(argv: Sequence[str]) -> int:
    """Runs the subcommand with the arguments *argv*; returns 0, or argparse's status for wrong usage.

    Raises:
        OptionError: The folders cannot be used together.
        ReportError: A report cannot be read, or none be written.
    """
    try:
        given = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed what is wrong, or the help
        return stop.code if isinstance(stop.code, int) else 2
    sources = [_folder(Path(path)) for path in given.dirs]
    out = None if given.out is None else Path(given.out)
    text = "".join(f"{line}\n" for line in render(sources, out))
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Make the pages of a report anew from its report.json, or one report of several: the "
        "jobs of a matrix of GPUs and precisions. The exit status is 0 once it is written, whatever its "
        "verdict; 2 where something cannot be used.",
    )
    parser.add_argument("dirs", metavar="DIR", nargs="+", help="a report's folder, or its report.json")
    parser.add_argument("--out", metavar="DIR", help="where to (default: with one DIR, the same folder)")
    return parser


def _folder(path: Path) -> Path:
    return path.parent if path.name == folders.DOCUMENT else path


def render(sources: Sequence[Path], out: Path | None) -> list[str]:
    """Writes the report of *sources* into *out*, and says what was done, a line each.

    Args:
        sources: Folders of reports.
        out: Where to; None for the one source itself.

    Raises:
        OptionError: Folders are given twice, or where to is missing or one of several sources.
        ReportError: A report cannot be read, or none be written.
    """
    places = [source.resolve() for source in sources]
    _require_apart(sources, places, out)
    names = _names(places)
    parts = [Part(name, read(source)) for name, source in zip(names, sources, strict=True)]
    drawn, parts, missing = _pictures(sources, parts)
    target = out or sources[0]
    if len(parts) > 1:
        document: Mapping[str, Any] = _made(lambda: merged(parts), listed(map(str, sources)))
    else:
        document = parts[0].document
    _made(lambda: folders.write(document, target, drawn), str(target))
    return [
        *_of_pictures(missing),
        *_of_jobs(document),
        headline(document),
        f"report: {target / 'index.html'}",
    ]


def _require_apart(sources: Sequence[Path], places: Sequence[Path], out: Path | None) -> None:
    twice = [source for source, place in zip(sources, places, strict=True) if places.count(place) > 1]
    if twice:
        raise OptionError(
            "a report is named twice", found=", ".join(map(str, twice)), expected="every report once"
        )
    if len(sources) > 1 and (out is None or out.resolve() in places):
        raise OptionError(
            "a report of several needs a folder of its own", expected="--out=DIR",
            found="none" if out is None else f"--out={out}, which is one of them",
            hint=f"{PROGRAM} {' '.join(map(str, sources))} --out=merged",
        )  # fmt: skip


def _names(places: Sequence[Path]) -> list[str]:
    """What the folders are called beside each other: by what is not the same in their paths."""
    if len(places) == 1:
        return [places[0].name]
    common = os.path.commonpath(places)
    return [place.name if str(place) == common else place.relative_to(common).as_posix() for place in places]


def _of_jobs(document: Mapping[str, Any]) -> list[str]:
    jobs = document.get("jobs") or ()
    told = [f"job {job['name']}: {job['verdict']}" for job in jobs]
    return [*told, *(f"warning: {text}" for text in document.get("differences") or ())]


def _of_pictures(missing: Sequence[Path]) -> list[str]:
    if not missing:
        return []
    pictures = "1 picture is" if len(missing) == 1 else f"{len(missing)} pictures are"
    return [f"warning: {pictures} left out, being not there or not ours, first {missing[0]}"]


def _made(make: Callable[[], Made], where: str) -> Made:
    """What *make* makes of documents that may be damaged in any way."""
    try:
        return make()
    except _DAMAGED as error:
        raise ReportError(
            "the report cannot be made anew", where=where, expected="what pytest wrote into report.json",
            found=f"{type(error).__name__}: {error}", hint="run pytest again",
        ) from error  # fmt: skip


def read(folder: Path) -> dict[str, Any]:
    """What the ``report.json`` in *folder* holds.

    Raises:
        ReportError: It is missing, damaged, somebody else's or of another version.
    """
    path = folder / folders.DOCUMENT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ReportError(
            "there is no report", where=path, expected="a folder that pytest wrote a report into",
            found="no such file",
        ) from error  # fmt: skip
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError("the report cannot be read", where=path, expected="JSON", found=error) from error
    if not folders.is_document(found):
        raise ReportError(
            "this is no report of trtcheck", where=path, expected="schema_version and items",
            found=", ".join(found) if isinstance(found, dict) else type(found).__name__,
        )  # fmt: skip
    if found["schema_version"] != SCHEMA_VERSION:
        raise ReportError(
            "the report was written by another version of trtcheck", where=path,
            expected=f"schema_version {SCHEMA_VERSION}", found=found["schema_version"],
            hint="pip install --upgrade pytest-trtcheck",
        )  # fmt: skip
    return dict(found)


def _pictures(
    sources: Sequence[Path], parts: Sequence[Part]
) -> tuple[dict[str, bytes], list[Part], list[Path]]:
    """The pictures of all reports by their path, the reports with these paths, and what is missing."""
    drawn: dict[str, bytes] = {}
    found, missing = [], []
    for source, part in zip(sources, parts, strict=True):
        paths: dict[str, str] = {}
        for path in sorted(_made(partial(pictures.referenced, part.document), str(source))):
            content = pictures.read(source, path)
            if content is None:
                missing.append(source / path)
                continue
            paths[path] = pictures.free_name(path, content, drawn)
            drawn[paths[path]] = content
        found.append(Part(part.source, pictures.moved(part.document, paths)))
    return drawn, found, missing
