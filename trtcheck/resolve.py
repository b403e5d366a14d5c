"""A case with its files opened and its parts checked against each other, and what tells two cases apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck import digests
from trtcheck.case import Case
from trtcheck.errors import CaseError, DataError

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.data import Images
    from trtcheck.model import Signature


@dataclass(frozen=True)
class Resolved:
    """A case with its files opened and its parts checked against each other.

    Attributes:
        images: The evaluation data.
        digest: Digest of its inputs, read once.
        model_digest: Digest of the reference model, read once.
        signature: Inputs and outputs of the reference model.
        classes: Class names; empty where no class scores are judged.
        scores: Name of the output with the class scores, or None.
        truth: Labels (N,), -1 for none.
    """

    images: Images
    digest: str
    model_digest: str
    signature: Signature
    classes: tuple[str, ...]
    scores: str | None
    truth: np.ndarray


class ModelDigests:
    """Digests of ONNX files, each read once as long as it and its weights have size and time of change."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[list[tuple[int, int]], str]] = {}

    def of(self, path: Path) -> str:
        """The digest of the model at *path*, see `trtcheck.model.digest`.

        Raises:
            ModelError: The file is missing or damaged, or lacks its external weights.
        """
        from trtcheck.model import digest, files

        if not path.is_file():
            return digest(path)  # which tells what is wrong
        stamp = [(found.st_size, found.st_mtime_ns) for found in (file.stat() for file in files(path))]
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, digest(path))
        return known[1]


def resolve(
    case: Case, *, of_data: Callable[[Images], str] | None = None,
    of_model: Callable[[Path], str] | None = None,
) -> Resolved:  # fmt: skip
    """Opens the data and the model of *case* and checks that they fit.

    Args:
        case: The case.
        of_data: Gives the digest of the evaluation data; None reads it.
        of_model: Gives the digest of the reference model; None reads it.

    Raises:
        DataError: The data cannot be used.
        ModelError: The model cannot be read.
        CaseError: Classes, gates and model do not fit.
    """
    import numpy as np

    from trtcheck.class_scores import scores_output
    from trtcheck.data.sources import open_images
    from trtcheck.metrics.confusion import NO_LABEL
    from trtcheck.model import digest, read_signature

    signature = read_signature(case.onnx)
    images = open_images(case.data, classes=case.classes, spec=case.input)
    if images.labels is None and case.needs_labels:
        raise DataError(
            "there are no labels", where=images.name, expected="an integer array 'labels' (N,)",
            hint='add labels (-1 for "none"), or set checks = ["build", "outputs"]',
        )  # fmt: skip
    truth = np.full(len(images), NO_LABEL, np.int64) if images.labels is None else images.labels
    # Folder names are classes only where answers are judged: outputs can be compared of any model.
    given = case.classes or (images.class_names if case.needs_labels else None)
    scores: str | None = None
    classes: tuple[str, ...] = ()
    if case.needs_labels or given is not None or case.output is not None:
        scores = scores_output(signature, case, None if given is None else len(given))
        classes = given or _numbered(case, signature, scores)
    top = int(truth.max(initial=NO_LABEL))
    if classes and top >= len(classes):
        where = int(np.flatnonzero(truth == top)[0])
        raise DataError(
            f"labels[{where}] is out of range", where=images.name,
            expected=f"-1 to {len(classes) - 1} for {len(classes)} classes", found=top,
        )  # fmt: skip
    return Resolved(
        images, images.digest() if of_data is None else of_data(images), (of_model or digest)(case.onnx),
        signature, classes, scores, truth,
    )  # fmt: skip


def _numbered(case: Case, signature: Signature, scores: str) -> tuple[str, ...]:
    """Classes named by their numbers, as many as the model has scores."""
    shape = next(tensor.shape for tensor in signature.outputs if tensor.name == scores)
    width = shape[1] if shape is not None and len(shape) > 1 else None
    if width is None:
        raise CaseError(
            f"{case.name}: the model does not say how many classes it has", where=case.onnx,
            expected="classes = [\"…\", …] in the suite", found=f"output '{scores}' of open width",
        )  # fmt: skip
    return tuple(str(number) for number in range(width))


def case_key(case: Case, identity: Callable[[Case, Any], Any]) -> str:
    """A digest that tells cases apart within a session; gates and what is timed do not count.

    Nothing that is kept by it depends on them: a measurement of latency is kept by what was asked for, too.

    Args:
        case: The case.
        identity: What stands for one of its sources.
    """
    plain = ("name", "onnx", "classes", "batch", "output", "top_k", "checks")
    text = {name: str(getattr(case, name)) for name in plain}
    lowering = {str(name): asdict(spec) for name, spec in case.lowering.items()}
    lowered = {str(name): str(path) for name, path in case.lowered.items()}
    sources = [identity(case, case.data), identity(case, case.calibration)]
    build = {**asdict(case.build), "plugins": list(map(str, case.build.plugins))}
    return digests.of_json([text, sources, asdict(case.input), lowering, lowered, build])


def identity(case: Case, source: Any) -> Any:
    """What stands for *source*: its paths, or the digest of what is in memory."""
    from trtcheck.data.sources import open_images

    if source is None or isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Mapping):
        return {str(name): str(path) for name, path in source.items()}
    opened = open_images(source, spec=case.input)
    return [opened.digest(), None if opened.labels is None else digests.of_array(opened.labels)]
