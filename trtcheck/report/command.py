"""``pytest-trtcheck report``: makes a report anew from its ``report.json``, or one of several."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtcheck.errors import OptionError, ReportError
from trtcheck.report import folder as folders
from trtcheck.report import pictures
from trtcheck.report.document import SCHEMA_VERSION
from trtcheck.report.merge import Part, merged
from trtcheck.report.view import headline

PROGRAM = "pytest-trtcheck report"

# What reading a damaged document can meet; every one of these says no more than that it is damaged.
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


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
    for line in render(sources, out):
        sys.stdout.write(f"{line}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Make the pages of a report anew from its report.json, or one report of several: the "
        "jobs of a matrix of GPUs and precisions. The exit status does not depend on what the report says.",
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
    if len(set(places)) < len(places):
        twice = next(path for path in sources if places.count(path.resolve()) > 1)
        raise OptionError(f"{twice} is named twice", hint="name every report once")
    if len(sources) > 1 and (out is None or out.resolve() in places):
        raise OptionError(
            "a report of several needs a folder of its own", expected="--out=DIR",
            found="none" if out is None else f"--out={out}, which is one of them",
            hint=f"{PROGRAM} {' '.join(map(str, sources))} --out=merged",
        )  # fmt: skip
    parts = [Part(source.name or str(source.resolve().name), read(source)) for source in sources]
    if len(parts) == 1 and (out is None or out.resolve() == places[0]):
        _write(parts[0].document, sources[0], None)
        return [_told(parts[0].document), f"report: {sources[0] / 'index.html'}"]
    target = out if out is not None else sources[0]
    drawn, documents, missing = _pictures(sources, parts)
    document = merged(documents) if len(documents) > 1 else documents[0].document
    _write(document, target, drawn)
    lost = [f"{missing} pictures are named in the reports and not there"] if missing else []
    return [*lost, _told(document), f"report: {target / 'index.html'}"]


def _told(document: Mapping[str, Any]) -> str:
    return headline(document)


def _write(document: Mapping[str, Any], target: Path, drawn: Mapping[str, bytes] | None) -> None:
    try:
        folders.write(document, target, drawn)
    except _DAMAGED as error:
        raise ReportError(
            "the report cannot be made anew", where=target, expected="what pytest wrote into report.json",
            found=f"{type(error).__name__}: {error}", hint="run pytest again",
        ) from error  # fmt: skip


def read(folder: Path) -> dict[str, Any]:
    """What the ``report.json`` in *folder* holds.

    Raises:
        ReportError: It is missing, damaged, somebody else's or of a newer version.
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


def _pictures(sources: Sequence[Path], parts: Sequence[Part]) -> tuple[dict[str, bytes], list[Part], int]:
    """The pictures of all reports by their path, the reports with these paths, and how many are missing."""
    drawn: dict[str, bytes] = {}
    found, missing = [], 0
    for source, part in zip(sources, parts, strict=True):
        paths: dict[str, str] = {}
        try:
            named = sorted(pictures.referenced(part.document))
        except _DAMAGED as error:
            raise ReportError(
                "the report is damaged", where=source / folders.DOCUMENT,
                expected="what pytest wrote", found=f"{type(error).__name__}: {error}",
            ) from error  # fmt: skip
        for path in named:
            content = pictures.read(source, path)
            if content is None:
                missing += 1
                continue
            paths[path] = pictures.free_name(path, content, drawn)
            drawn[paths[path]] = content
        found.append(Part(part.source, pictures.moved(part.document, paths)))
    return drawn, found, missing
