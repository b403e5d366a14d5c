"""Pictures of the report that are files: PNG in its folder ``pictures/``, named by what they show."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck.digests import short
from trtcheck.report.view.links import numbered, slug
from trtcheck.samples import MARK

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation

FOLDER = "pictures"
MOST_THUMBNAILS = 800
MOST_BYTES = 5 << 20
"""What the thumbnails of one report may weigh together."""


def name(model: str, *parts: str) -> str:
    """Path of a picture below the report: only ``a-z``, ``0-9`` and ``-``, unique for different *parts*.

    Args:
        model: Name of the model.
        *parts: What else tells it apart: the engine, what is shown, the index of an image.
    """
    return f"{FOLDER}/{'--'.join(map(slug, (model, *parts)))}.png"


def is_own(content: bytes) -> bool:
    """Whether *content* is a picture that trtcheck wrote."""
    return content.startswith(b"\x89PNG\r\n\x1a\n") and f"Software\0{MARK}".encode() in content[:256]


def referenced(document: Mapping[str, Any]) -> set[str]:
    """The pictures that the pages of *document* show, as paths below the report."""
    found: set[str] = set()
    for engine in document["engines"]:
        found |= set((engine.get("confusion_pictures") or {}).values())
        worst = (engine.get("flips") or {}).get("worst") or ()
        found |= {row["picture"] for row in worst if row.get("picture")}
    return found


def of_image(evaluation: Evaluation, index: int) -> str:
    """Path of the thumbnail of an evaluation image; the engines of a model share it."""
    return name(evaluation.model, short(evaluation.record["data"]["digest"]), str(index))


def thumbnails(evaluations: Sequence[Evaluation]) -> dict[str, bytes]:
    """The thumbnails of changed answers by their path: each engine's worst, in turn, as far as they fit."""
    queues = []
    for evaluation in evaluations:
        drawn = {sample.index: sample.png for sample in evaluation.samples if sample.png is not None}
        queues.append(
            [
                (of_image(evaluation, f.index), drawn[f.index])
                for f in evaluation.flips.worst
                if f.index in drawn
            ]
        )
    found: dict[str, bytes] = {}
    weight = 0
    for turn in itertools.zip_longest(*queues):
        for path, content in filter(None, turn):
            if path in found or weight + len(content) > MOST_BYTES or len(found) == MOST_THUMBNAILS:
                continue
            found[path] = content
            weight += len(content)
    return found


def only(document: Mapping[str, Any], there: Collection[str]) -> Mapping[str, Any]:
    """*document* without mention of pictures that are not *there*."""
    return document if referenced(document) <= set(there) else moved(document, {path: path for path in there})


def moved(document: Mapping[str, Any], paths: Mapping[str, str]) -> Mapping[str, Any]:
    """*document* with the new paths of its pictures; those that are not among the old *paths* are gone."""
    return {**document, "engines": [_moved(engine, paths) for engine in document["engines"]]}


def _moved(engine: Mapping[str, Any], paths: Mapping[str, str]) -> Mapping[str, Any]:
    drawn = engine.get("confusion_pictures")
    if drawn:
        whole = set(drawn.values()) <= paths.keys()
        new = {side: paths[path] for side, path in drawn.items()} if whole else None
        engine = {**engine, "confusion_pictures": new}
    flips = engine.get("flips")
    if not flips:
        return engine
    worst = [{**row, "picture": paths.get(row.get("picture") or "")} for row in flips["worst"]]
    return {**engine, "flips": {**flips, "worst": worst}}


_SAFE = re.compile(rf"{FOLDER}/[a-z0-9-]+\.png")


def read(folder: Path, path: str) -> bytes | None:
    """The picture at *path* below a report's *folder*; None where there is none of ours."""
    if not _SAFE.fullmatch(path):
        return None  # a report.json may come from anywhere: it names no files outside of its folder
    try:
        content = (folder / path).read_bytes()
    except OSError:
        return None
    return content if is_own(content) else None


def free_name(path: str, content: bytes, taken: Mapping[str, bytes]) -> str:
    """*path*, or one like it where another picture is called so already."""
    stem = path.removesuffix(".png")
    names = (f"{numbered(stem, number)}.png" for number in itertools.count(1))
    return next(name for name in names if taken.get(name, content) == content)
