"""The images whose answer changed, as the report's document has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck.report import pictures

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation
    from trtcheck.metrics.flips import Flip, Top
    from trtcheck.samples import Sample


def of(evaluation: Evaluation, root: Path, drawn: Collection[str]) -> dict[str, Any]:
    """Their numbers and the worst of them.

    Args:
        evaluation: What was found out about an engine.
        root: Files below it are named relative to it.
        drawn: Paths of the pictures that stand beside the document.
    """
    flips, samples = evaluation.flips, {sample.index: sample for sample in evaluation.samples}

    def row(flip: Flip) -> dict[str, Any]:
        path = pictures.of_image(evaluation, flip.index)
        return {
            **_answers(flip, evaluation.classes),
            **_shown(samples.get(flip.index), root),
            "picture": path if path in drawn else None,
        }

    return {
        "total": flips.total,
        "broken": flips.broken,
        "fixed": flips.fixed,
        "churn": flips.churn,
        "worst": [row(flip) for flip in flips.worst],
    }


def _answers(flip: Flip, names: Sequence[str]) -> dict[str, Any]:
    def name(label: int) -> str | None:
        return names[label] if label >= 0 else None

    def top(best: Top) -> list[list[Any]]:
        return [[names[label], share] for label, share in best]

    return {
        "index": flip.index,
        "truth": name(flip.truth),
        "before": name(flip.before),
        "after": name(flip.after),
        "confidence_before": flip.confidence_before,
        "confidence_after": flip.confidence_after,
        "lost": flip.lost,
        "top_before": top(flip.top_before),
        "top_after": top(flip.top_after),
    }


def _shown(sample: Sample | None, root: Path) -> dict[str, Any]:
    if sample is None:
        return {"file": None, "row": None}
    file = sample.file
    if file is not None and Path(file).is_relative_to(root):
        file = Path(file).relative_to(root).as_posix()
    return {"file": _readable(file), "row": _readable(sample.row)}


def _readable(text: str | None) -> str | None:
    """*text* without lone surrogates, which names that are no UTF-8 have, and which cannot be written."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()
