"""Holding a recording against the data and the model that it is said to be of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.errors import EngineError
from trtcheck.names import listed
from trtcheck.recordings.order import first_number
from trtcheck.recordings.reading import INDEX
from trtcheck.recordings.recording import Format, Recording
from trtcheck.recordings.sidecar import basic_string

if TYPE_CHECKING:
    from trtcheck.model import Tensor

_HOW = "pytest-trtcheck export-inputs writes inputs with a recording.toml that says what they are"


def check(
    recording: Recording, *, images: int, inputs_digest: str, outputs: Sequence[Tensor]
) -> tuple[str, ...]:
    """Refuses a recording that cannot be of these inputs and outputs.

    Args:
        recording: The recording.
        images: Number of images of the evaluation data.
        inputs_digest: Digest of what the model is fed, see `trtcheck.recordings.inputs_digest`.
        outputs: The reference's outputs.

    Returns:
        What a reader should know, in sentences.

    Raises:
        EngineError: Outputs are missing or misshapen, or count, order or digest of the inputs do not fit.
    """
    said = recording.sidecar.inputs_digest
    if said is not None and said != inputs_digest:
        raise EngineError(
            "the recording was made of other inputs", where=recording.sidecar.path,
            expected=f"inputs_digest {inputs_digest}: the evaluation data and their preprocessing",
            found=f"inputs_digest {said}",
            hint="export the inputs again (pytest-trtcheck export-inputs) and record their outputs",
        )  # fmt: skip
    for tensor in outputs:
        _require_output(recording, tensor, outputs)
    _require_count(recording, images)
    _require_order(recording, images)
    return _notes(recording, images)


def _require_output(recording: Recording, tensor: Tensor, outputs: Sequence[Tensor]) -> None:
    array = recording.outputs.get(tensor.name)
    if array is None:
        names = {other.name for other in outputs}
        extra = [name for name in recording.outputs if name not in names]
        hint = None
        if extra:
            renaming = f"{basic_string(extra[0])} = {basic_string(tensor.name)}"
            hint = f"say in the sidecar: outputs = {{{renaming}}}"
        raise EngineError(
            f"output '{tensor.name}' is not recorded", where=recording.path,
            expected="; ".join(map(str, outputs)), found=listed(recording.outputs), hint=hint,
        )  # fmt: skip
    shape = tensor.shape
    if shape is None:
        return
    behind = array.shape[1:]
    if len(shape) == array.ndim + 1 and _fits(shape, array.shape):
        problem = f"output '{tensor.name}' has no axis of images"
    elif len(shape) != array.ndim or not _fits(shape[1:], behind):
        problem = f"output '{tensor.name}' has another shape than the model's"
    else:
        return
    dims = ", ".join(map(str, array.shape))
    raise EngineError(
        problem, where=recording.path, expected=str(tensor), found=f"{tensor.name}: {array.dtype}[{dims}]"
    )


def _fits(shape: Sequence[int | None], found: Sequence[int]) -> bool:
    """Whether the last dimensions of *shape* allow *found*."""
    last = shape[len(shape) - len(found) :]
    return all(size in (None, have) for size, have in zip(last, found, strict=True))


def _require_count(recording: Recording, images: int) -> None:
    said = recording.sidecar.images
    if said is not None and said != images:
        raise EngineError(
            "the recording is of another number of images", where=recording.sidecar.path,
            expected=f"images = {images}, as the evaluation data have", found=f"images = {said}",
        )  # fmt: skip
    rows, batch = recording.rows, recording.batch
    padding = rows - images
    if padding == 0 or (said is not None and batch is not None and 0 < padding < batch):
        return
    hint, expected, found = None, f"{images} rows, as the evaluation data have images", f"{rows} rows"
    if padding > 0:
        hint = f"if the last batch was padded, say so in the sidecar: images = {images}, batch = (its rows)"
    if recording.path.is_dir():
        count, first = len(recording.files), first_number(recording.files)
        found += f" of {count} file{'s' if count > 1 else ''}"
        found += "" if first is None else f", numbered from {first}"
        if batch is not None:
            expected += f": {-(-images // batch)} files of up to {batch} rows"
        if padding < 0 and first:
            hint = "is the first batch missing? export-inputs numbers batches from 0"
    raise EngineError(
        "the recording does not have one row an image", where=recording.path, expected=expected, found=found,
        hint=hint,
    )  # fmt: skip


def _require_order(recording: Recording, images: int) -> None:
    if recording.index is None:
        return
    wrong = np.flatnonzero(recording.index[:images] != np.arange(images))
    if wrong.size:
        row = int(wrong[0])
        raise EngineError(
            "the rows are not in the order of the images", where=recording.path,
            expected=f"{INDEX} from 0 to {images - 1} in order",
            found=f"row {row} is of image {recording.index[row]}",
        )  # fmt: skip


def _notes(recording: Recording, images: int) -> tuple[str, ...]:
    sidecar = recording.sidecar
    notes = []
    unverified = "that it was made of these inputs in this order could not be verified"
    if sidecar.path is None:
        notes.append(f"the recording has no sidecar: {unverified} ({_HOW})")
    elif sidecar.inputs_digest is None:
        notes.append(f"the recording's sidecar has no inputs_digest: {unverified} ({_HOW})")
    if sidecar.path is not None and sidecar.device is None:
        notes.append("the recording's sidecar does not name the device that it was made on")
    for file in recording.missing_times:
        which = "no" if recording.times is None else "only the other files'"
        notes.append(f"{file.name} is not there: {which} times are shown")
    padding = recording.rows - images
    if padding:
        notes.append(f"the last {padding} of {recording.rows} recorded rows are padding and were cut off")
    if recording.format is Format.TRTEXEC and any(a.dtype.kind == "f" for a in recording.outputs.values()):
        notes.append(
            "trtexec writes six significant digits: relative errors below 1e-6 are its rounding, and scores "
            "that are closer to each other than that count as equal"
        )
    return tuple(notes)
