"""Where baselines are, whether one may be compared with a run, and how it is replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck.baselines import schema
from trtcheck.cache import write_atomically
from trtcheck.case import Numerics
from trtcheck.digests import short
from trtcheck.environment import accuracy_environment
from trtcheck.errors import BaselineError
from trtcheck.names import slug

if TYPE_CHECKING:
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
    environment = accuracy_environment(record["environment"]["backend"]["name"], Numerics(record["numerics"]))
    return root / slug(evaluation.model) / slug(evaluation.engine) / f"{environment}.json"


def find(root: Path, evaluation: Evaluation) -> Approved:
    """The approved baseline of *evaluation*, checked to be comparable with it.

    Raises:
        BaselineError: The file cannot be read, or the evaluation data or classes changed since.
    """
    path = path_of(root, evaluation)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Approved(path, None, (_missing(path, evaluation.engine),))
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError("the baseline cannot be read", where=path, found=error) from error
    baseline = schema.parse(text, path)
    return Approved(path, baseline, _compare(baseline, evaluation, path))


def _missing(path: Path, engine: str) -> str:
    others = sorted(other.stem for other in path.parent.glob("*.json"))
    beside = f" (there is one for {', '.join(others)})" if others else ""
    place = "/".join(path.parts[-3:])
    return f"no baseline yet: {place}{beside}; approve this one: {update_command(engine)}"


def update_command(engine: str) -> str:
    """The command that approves results of *engine*."""
    return schema.UPDATE.replace("…", engine)


def _compare(baseline: Baseline, evaluation: Evaluation, path: Path) -> tuple[str, ...]:
    """Notes on what changed since the approval.

    Raises:
        BaselineError: What changed makes a comparison impossible.
    """
    now = schema.digests_of(evaluation.record)
    for name, what in (("data", "evaluation data"), ("labels", "labels")):
        then = baseline.digests.get(name)
        if then != now[name]:
            raise BaselineError(
                f"the {what} changed since the baseline was approved, so results cannot be compared",
                where=path, expected=short(str(then)), found=short(str(now[name])),
                hint=f"restore the data, or approve the new results: {update_command(evaluation.engine)}",
            )  # fmt: skip
    if baseline.images != evaluation.images:
        raise BaselineError(
            "the baseline counts other images than it was made from", where=path,
            expected=f"{evaluation.images} images", found=baseline.images,
            hint=f"make it anew: {update_command(evaluation.engine)}",
        )  # fmt: skip
    if set(baseline.classes) != set(evaluation.classes):
        changed = sorted(set(baseline.classes) ^ set(evaluation.classes))
        raise BaselineError(
            "the classes changed since the baseline was approved", where=path,
            expected=", ".join(sorted(baseline.classes)), found=f"different: {', '.join(changed)}",
            hint=f"restore the class names, or approve the new results: {update_command(evaluation.engine)}",
        )  # fmt: skip
    return tuple(
        f"the {what} changed since the baseline was approved ({short(str(then))} -> {short(str(now[name]))})"
        for name, what in (("model", "model"), ("calibration", "calibration data"))
        if (then := baseline.digests.get(name)) != now[name]
    )


def write(root: Path, evaluation: Evaluation) -> tuple[Path, bool]:
    """Approves *evaluation*: writes its baseline atomically.

    Returns:
        The file's path, and whether its content changed.

    Raises:
        BaselineError: The folder cannot be written.
    """
    path = path_of(root, evaluation)
    text = schema.dump(schema.of_evaluation(evaluation))
    try:
        if path.is_file() and path.read_bytes() == text.encode():
            return path, False
        write_atomically(path, text)
    except OSError as error:
        raise BaselineError("the baseline cannot be written", where=path, found=error) from error
    return path, True
