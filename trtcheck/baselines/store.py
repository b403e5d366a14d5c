"""Where baselines are, whether one may be compared with a run, and how it is replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.baselines import changes, documents, schema
from trtcheck.baselines.documents import UPDATE
from trtcheck.case import Numerics
from trtcheck.digests import short
from trtcheck.environment import accuracy_environment
from trtcheck.errors import BaselineError
from trtcheck.names import slug

if TYPE_CHECKING:
    from trtcheck.baselines.changes import Change
    from trtcheck.baselines.schema import Baseline
    from trtcheck.evaluation import Evaluation


@dataclass(frozen=True)
class Approved:
    """What the baseline folder has for an evaluation.

    Attributes:
        path: The file's place.
        baseline: What was approved, or None where there is nothing yet.
        notes: What a reader should know: that it is missing, or that the model changed.
    """

    path: Path
    baseline: Baseline | None
    notes: tuple[str, ...]


def path_of(root: Path, evaluation: Evaluation) -> Path:
    """``<root>/<model>/<engine>/<environment>.json``."""
    record = evaluation.record
    environment = accuracy_environment(record["environment"]["backend"], Numerics(record["numerics"]))
    return root / slug(evaluation.model) / slug(evaluation.engine) / f"{environment}.json"


def find(root: Path, evaluation: Evaluation) -> Approved:
    """The approved baseline of *evaluation*, checked to be comparable with it.

    Raises:
        BaselineError: The file cannot be read, or the evaluation data or classes changed since.
    """
    path = path_of(root, evaluation)
    text = documents.read_text(path)
    if text is None:
        return Approved(path, None, (_missing(path),))
    baseline = schema.parse(text, path)
    return Approved(path, baseline, _compare(baseline, evaluation, path))


def changed(root: Path, evaluation: Evaluation) -> tuple[Change, ...]:
    """What is not as it was when *evaluation*'s baseline was approved, also where that forbids to compare.

    Nothing is known to have changed where there is no baseline, or none that can be read.
    """
    path = path_of(root, evaluation)
    try:
        text = documents.read_text(path)
        return () if text is None else changes.between(schema.parse(text, path), evaluation)
    except BaselineError:
        return ()


def _missing(path: Path) -> str:
    others = sorted(
        other.stem
        for other in path.parent.glob("*.json")
        if not other.name.startswith(documents.LATENCY_PREFIX)
    )
    beside = f" (there is one for {', '.join(others)})" if others else ""
    place = "/".join(path.parts[-4:])
    return f"no baseline yet: {place}{beside}; what makes it: {UPDATE}"


def _compare(baseline: Baseline, evaluation: Evaluation, path: Path) -> tuple[str, ...]:
    """Notes on what changed since the approval.

    Raises:
        BaselineError: What changed makes a comparison impossible.
    """
    of, own = f"{baseline.model}[{baseline.engine}]", f"{evaluation.model}[{evaluation.engine}]"
    if of != own:
        raise BaselineError(
            "the baseline was approved for another model or engine", where=path, expected=own, found=of,
            hint=f"restore the file, or make it anew: {UPDATE}",
        )  # fmt: skip
    place = schema.environment_of(evaluation.record)
    for name in [name for name in place if name != "packages"]:
        then = baseline.environment.get(name)
        if then != place[name]:
            raise BaselineError(
                "the baseline was made elsewhere", where=path, expected=f"{name} {place[name]}",
                found=then, hint=f"approve results of this place: {UPDATE}",
            )  # fmt: skip
    now = schema.digests_of(evaluation.record)
    for name, what in (("data", "evaluation data"), ("labels", "labels")):
        then = baseline.digests.get(name)
        if then != now[name]:
            raise BaselineError(
                f"the {what} changed since the baseline was approved, so results cannot be compared",
                where=path, expected=short(str(then)), found=short(str(now[name])),
                hint=f"restore the data, or approve the new results: {UPDATE}",
            )  # fmt: skip
    if baseline.images != evaluation.images:
        raise BaselineError(
            "the baseline counts other images than it was made from", where=path,
            expected=f"{evaluation.images} images", found=baseline.images,
            hint=f"make it anew: {UPDATE}",
        )  # fmt: skip
    then_named, now_named = list(baseline.classes), list(evaluation.classes)
    if then_named != now_named:
        changed = sorted(set(then_named) ^ set(now_named))
        raise BaselineError(
            "the classes changed since the baseline was approved", where=path,
            expected=", ".join(then_named[:20]) + (" …" if len(then_named) > 20 else ""),
            found=f"different: {', '.join(changed)}" if changed else "the same names in another order",
            hint=f"restore the class names, or approve the new results: {UPDATE}",
        )  # fmt: skip
    _check_counts(baseline, evaluation, path)
    return tuple(
        f"the {change.what} changed since the baseline was approved ({change.approved} -> {change.now})"
        for change in changes.of_files(baseline, evaluation.record)
    )


def _check_counts(baseline: Baseline, evaluation: Evaluation, path: Path) -> None:
    """Raises BaselineError where a class counts more images than there are."""
    labels = evaluation.labels
    if labels is None:
        return
    support = np.bincount(labels.truth[labels.counted], minlength=len(evaluation.classes)).tolist()
    total = sum(support)
    for name, n in zip(evaluation.classes, support, strict=True):
        counts = baseline.classes[name]
        if counts["tp"] > n or counts["fp"] > total - n:
            raise BaselineError(
                f"the baseline counts more images of '{name}' than there are", where=path,
                expected=f"tp up to {n}, fp up to {total - n}",
                found=f"tp {counts['tp']}, fp {counts['fp']}",
                hint=f"restore the file, or make it anew: {UPDATE}",
            )  # fmt: skip


def write(root: Path, evaluation: Evaluation) -> tuple[Path, bool]:
    """Approves *evaluation*: writes its baseline atomically.

    Returns:
        The file's path, and whether its content changed.

    Raises:
        BaselineError: The folder cannot be written.
    """
    path = path_of(root, evaluation)
    text = schema.dump(schema.of_evaluation(evaluation))
    if _holds(path, text):
        return path, False
    documents.write_text(path, text)
    return path, True


def _holds(path: Path, text: str) -> bool:
    """Whether the file at *path* says what *text* says, whichever zlib packed its answers."""
    try:
        there = documents.read_text(path)
        return there is not None and schema.dump(schema.parse(there, path)) == text
    except BaselineError:
        return False
