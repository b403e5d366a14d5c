"""Pictures of the report that are files: PNG in its folder ``pictures/``, named by what they show."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from trtcheck.digests import short
from trtcheck.report.view.links import slug
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
    for turn in zip_longest(*queues):
        for path, content in filter(None, turn):
            if path in found or weight + len(content) > MOST_BYTES or len(found) == MOST_THUMBNAILS:
                continue
            found[path] = content
            weight += len(content)
    return found


def only(document: Mapping[str, Any], there: Collection[str]) -> Mapping[str, Any]:
    """*document* without mention of pictures that are not *there*."""
    if referenced(document) <= set(there):
        return document
    return {**document, "engines": [_only(engine, there) for engine in document["engines"]]}


def _only(engine: Mapping[str, Any], there: Collection[str]) -> Mapping[str, Any]:
    drawn = engine.get("confusion_pictures")
    if drawn and not set(drawn.values()) <= set(there):
        engine = {**engine, "confusion_pictures": None}
    flips = engine.get("flips")
    if not flips:
        return engine
    worst = [
        {**row, "picture": row.get("picture") if row.get("picture") in there else None}
        for row in flips["worst"]
    ]
    return {**engine, "flips": {**flips, "worst": worst}}
