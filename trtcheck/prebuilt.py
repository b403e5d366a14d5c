"""Engines and recordings that were made elsewhere: read, and held against their case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck import digests
from trtcheck.backends.base import BackendInfo, BuiltEngine
from trtcheck.case import EngineSpec, Numerics
from trtcheck.errors import EngineError

if TYPE_CHECKING:
    from trtcheck.backends.tensorrt import TensorRt
    from trtcheck.case import Case
    from trtcheck.model import Signature, Tensor
    from trtcheck.recordings import Recording
    from trtcheck.resolve import Resolved

RECORDED = "recorded"
"""What stands for a backend where answers come from a file."""


def read_engine(engine: EngineSpec, case: Case, reference: Signature, backend: TensorRt) -> BuiltEngine:
    """The serialized TensorRT engine that *engine* names, as it ships.

    Args:
        engine: The engine's file.
        case: The case; its ``build`` names the plugins.
        reference: Inputs and outputs of the reference model.
        backend: What runs it.

    Raises:
        EngineError: The file cannot be read here, or is the engine of another model.
        BackendError: This machine cannot run engines.
    """
    path = engine.file
    facts = backend.inspect(path, case.build)
    _require_fit(path, reference, facts.signature)
    return BuiltEngine(
        path=path, lowered_path=path, backend=backend.info.name, numerics=Numerics.NATIVE, cached=False,
        lowered={"made_by": "elsewhere", "file": path.name, "digest": digests.of_files([path])},
        facts=facts.record, notes=facts.notes,
    )  # fmt: skip


def _require_fit(path: Path, reference: Signature, engine: Signature) -> None:
    """Refuses an engine whose inputs or outputs are not those of the reference.

    Raises:
        EngineError: They are not.
    """
    for what, wanted, found in (
        ("inputs", reference.inputs, engine.inputs), ("outputs", reference.outputs, engine.outputs),
    ):  # fmt: skip
        there = {tensor.name: tensor for tensor in found}
        same = {tensor.name for tensor in wanted} == set(there)
        if not same or not all(_fits(tensor, there[tensor.name]) for tensor in wanted):
            raise EngineError(
                f"the engine's {what} are not those of the model", where=path,
                expected="; ".join(map(str, wanted)), found="; ".join(map(str, found)),
                hint="is it the engine of another model, or of another export of this one?",
            )  # fmt: skip


def _fits(wanted: Tensor, found: Tensor) -> bool:
    """Whether one tensor can stand for the other: floats of another width are cast."""
    floats = all(tensor.dtype.kind == "f" or tensor.dtype.name == "bfloat16" for tensor in (wanted, found))
    if wanted.dtype != found.dtype and not floats:
        return False
    if wanted.shape is None or found.shape is None:
        return True
    return len(wanted.shape) == len(found.shape) and all(
        None in pair or pair[0] == pair[1] for pair in zip(wanted.shape, found.shape, strict=True)
    )


def check_recording(recording: Recording, case: Case, resolved: Resolved) -> BuiltEngine:
    """A recording as an engine, held against the data that it is said to be of.

    Raises:
        EngineError: Count, order or digest of its inputs, or its outputs do not fit.
    """
    from trtcheck import recordings

    path, outputs = recording.path, resolved.signature.outputs
    digest = recordings.inputs_digest(resolved.digest, case.input)
    notes = recordings.check(recording, images=len(resolved.images), inputs_digest=digest, outputs=outputs)
    return BuiltEngine(
        path=path, lowered_path=path, backend=RECORDED, numerics=Numerics.RECORDED, cached=False,
        lowered={"made_by": "elsewhere", "file": path.name, "digest": digests.of_files(recording.files)},
        facts=recordings.facts(recording), notes=tuple(notes),
    )  # fmt: skip


def recorded_on(built: BuiltEngine) -> BackendInfo:
    """Where a recording was made, as far as it says so."""
    facts = built.facts
    return BackendInfo(
        name=RECORDED, version=str(facts.get("runtime") or "unknown"),
        device=str(facts.get("device") or "unknown device"), reason="a recording was given",
    )  # fmt: skip
