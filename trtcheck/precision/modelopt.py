"""NVIDIA's ModelOpt as the maker of INT8 (its ONNX quantizer) and FP16 (its AutoCast), in a child process.

ModelOpt needs PyTorch and pins versions of onnx and onnxruntime, so that it may live in another Python than
trtcheck. Without calibration data it takes random inputs and says nothing: here it always gets the case's.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from trtcheck import child
from trtcheck import model as models
from trtcheck.case import LoweringSpec, Precision
from trtcheck.errors import BackendError, LoweringError
from trtcheck.precision import calibrate, graph, reading
from trtcheck.precision.lower import LOWERING_VERSION
from trtcheck.precision.modelopt_child import INSTALL, INSTEAD, installed
from trtcheck.precision.modelopt_result import Result, Source
from trtcheck.precision.placement import place
from trtcheck.precision.storage import save

MAKER = "modelopt"
METHODS = {"entropy": "entropy", "minmax": "max"}
"""trtcheck's names of calibration methods, and ModelOpt's."""

_CHILD = "trtcheck.precision.modelopt_child"
_OPSETS = {Precision.INT8: 19, Precision.FP16: 0}


def versions(python: str | None = None) -> dict[str, str]:
    """Versions of ModelOpt and of what it computes with; none of it is imported.

    Args:
        python: The Python that has ModelOpt; None for this one.

    Raises:
        LoweringError: ModelOpt, PyTorch or what trtcheck needs is not installed there.
        BackendError: That Python cannot be run.
    """
    found = installed() if python is None else _installed_in(python)
    if missing := [name for name in ("modelopt", "torch") if name not in found]:
        raise LoweringError(
            "ModelOpt is not installed",
            where=python,
            expected="nvidia-modelopt[onnx] with PyTorch",
            found="no " + " and no ".join(missing),
            hint=INSTALL,
        )
    return found


def _installed_in(python: str) -> dict[str, str]:
    try:
        return child.call(_CHILD, {"work": "versions"}, what=f"asking {python} for ModelOpt", python=python)
    except BackendError as error:
        lacks = re.search(r"No module named '(\w+)", str(error))
        if lacks:
            raise LoweringError(
                f"ModelOpt's Python has no {lacks[1]}", where=python, expected="nvidia-modelopt[onnx]",
                hint=f'{python} -m pip install "nvidia-modelopt[onnx]"',
            ) from error  # fmt: skip
        raise BackendError(
            "ModelOpt's Python cannot be used", where=python, expected="a Python, 3.11 or later",
            found=str(error).partition("\n  try:")[0].splitlines()[-1].strip().removeprefix("found:").strip(),
            hint="--trt-modelopt-python=PATH, of an environment with nvidia-modelopt[onnx]",
        ) from error  # fmt: skip


def lower(
    source: Path,
    precision: Precision,
    spec: LoweringSpec,
    *,
    target: Path,
    calibration: Iterable[calibrate.Counted] | None,
    python: str | None = None,
) -> dict[str, Any]:
    """Writes ModelOpt's INT8 or FP16 version of the FP32 model *source* to *target*.

    The same source, spec, data and versions give the same bytes. ModelOpt chooses the nodes; the manifest's
    ``kept`` names those that it left wide.

    Args:
        source: The FP32 ONNX model.
        precision: INT8 or FP16.
        spec: How.
        target: The file to write; weights of more than 1.8 GB go to ``<stem>.weights`` beside it.
        calibration: Feeds by input name, first axis the batch, each with the number of rows that are images
            and no padding; read once. Needed for FP16 too: AutoCast looks for values that FP16 cannot hold.
        python: The Python that has ModelOpt; None for this one.

    Returns:
        The manifest, JSON-ready, in the form of `trtcheck.precision.lower`.

    Raises:
        ModelError: The source cannot be read.
        LoweringError: ModelOpt is not installed, refuses the model or the data, or its answer is no version
            of the source.
        BackendError: ModelOpt's process crashed.
    """
    _check(source, precision, spec)
    if calibration is None:
        raise _missing(source, precision)
    used = versions(python)
    prepared = _prepare(source, precision, spec)
    with tempfile.TemporaryDirectory(prefix="trtcheck-") as name:
        folder = Path(name)
        request = {
            "work": precision.value,
            "source": str(source),
            "folder": str(folder),
            "model": "model.onnx",
            "target": "lowered.onnx",
            "calibration": "calibration.npz",
            "external": save(prepared.model, folder / "model.onnx"),
            "exclude": [pattern_of(node) for node in sorted(prepared.excluded | prepared.following.keys())],
            "method": METHODS.get(spec.method),
            "rest": spec.rest,
            "batch": prepared.rows,
        }
        images = _write_data(prepared, precision, calibration, folder / "calibration.npz")
        reply = child.call(_CHILD, request, what=_WHAT[precision], python=python)
        lowered = models.load(folder / "lowered.onnx")
    result = Result.of(prepared, lowered, precision)
    result.verify()
    notes = _notes(prepared, images, reply["images"]) + result.notes()
    if save(lowered, target):
        notes.append(f"weights are in {target.stem}.weights beside the model")
    return {
        "lowering_version": LOWERING_VERSION,
        "maker": MAKER,
        "modelopt": used["modelopt"],
        "torch": used["torch"],
        "precision": precision.value,
        "method": spec.method if precision is Precision.INT8 else None,
        "percentile": None,
        "rest": spec.rest if precision is Precision.INT8 else None,
        "exclude": list(spec.exclude),
        **result.counts(),
        "clamped": [],
        "notes": notes,
    }


_WHAT = {Precision.INT8: "quantizing with ModelOpt", Precision.FP16: "converting with ModelOpt's AutoCast"}


def pattern_of(name: str) -> str:
    """The regular expression by which ModelOpt finds the node *name* and no other.

    It looks with ``re.match``, which would take ``conv1`` for ``conv10`` too.
    """
    return re.escape(name) + r"\Z"


def _check(source: Path, precision: Precision, spec: LoweringSpec) -> None:
    if precision not in _WHAT:
        raise LoweringError(
            f"ModelOpt does not make {precision.value} here", where=source, expected="int8 or fp16"
        )
    if precision is Precision.INT8 and spec.method not in METHODS:
        raise LoweringError(
            "ModelOpt has no such calibration method",
            where=source,
            expected=" or ".join(f'method = "{name}"' for name in METHODS),
            found=spec.method,
            hint=f'trtcheck\'s own quantizer has "percentile": {INSTEAD[precision]}',
        )
    if precision is Precision.INT8 and spec.rest not in ("fp16", "fp32"):
        raise LoweringError("unknown rest of INT8", where=source, expected="fp16 or fp32", found=spec.rest)


def _missing(source: Path, precision: Precision) -> LoweringError:
    if precision is Precision.INT8:
        return calibrate.missing(source)
    return LoweringError(
        "ModelOpt's AutoCast needs calibration data",
        where=source,
        expected='calibration = "…" in the model\'s table of trtcheck.toml',
        found="no calibration images; it would look for large values with random ones",
        hint=f"name them, or let trtcheck convert: {INSTEAD[precision]}",
    )


def _prepare(source: Path, precision: Precision, spec: LoweringSpec) -> Source:
    model = reading.read(source, _OPSETS[precision])
    if any(node.op_type == "DequantizeLinear" for node in graph.all_nodes(model.graph)):
        raise LoweringError(
            "is quantized already, and ModelOpt would hand it back as it is",
            where=source,
            expected="an FP32 model",
            hint=f'name this one in [models.NAME.lowered]: {precision.value} = "…"',
        )
    excluded = set()
    for pattern, matched in graph.match_nodes(model.graph, spec.exclude).items():
        if not matched:
            raise graph.refuse_unknown(pattern, (node.name for node in model.graph.node), source)
        excluded |= matched
    _name_open_dimensions(model)
    narrows = precision is Precision.FP16 or spec.rest == "fp16"
    return Source(
        source, model, models.signature_of(model, source), excluded,
        following=_following(model, excluded) if narrows and excluded else {},
        fault=graph.fault(model),
    )  # fmt: skip


def _following(model: ModelProto, excluded: set[str]) -> dict[str, str]:
    """What trtcheck's own lowering leaves in FP32 with the *excluded* nodes, with the reasons.

    ModelOpt would narrow the result of an excluded node at once: a sum too large for FP16 ends as infinity
    before the next node scales it down.
    """
    values = graph.infer(model)
    usual, changed = (place(model, values, TensorProto.FLOAT16, names) for names in ((), excluded))
    return {
        node.name: after.reason
        for node, before, after in zip(model.graph.node, usual, changed, strict=True)
        if before.narrow and after.reason is not None and node.name not in excluded
    }


def _name_open_dimensions(model: ModelProto) -> None:
    """Gives every open dimension of an input a name of its own; ModelOpt stumbles over those without."""
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.WhichOneof("value"):
                dim.dim_param = f"{value.name}_axis{axis}"


def _write_data(
    source: Source, precision: Precision, calibration: Iterable[calibrate.Counted], path: Path
) -> int:
    """Writes the images of *calibration* by input name, stacked; returns their number."""
    parts: dict[str, list[np.ndarray]] = {tensor.name: [] for tensor in source.signature.inputs}
    images = 0
    for feeds, count in calibration:
        for name, rows in parts.items():
            if name not in feeds or np.ndim(feeds[name]) == 0 or len(feeds[name]) < count:
                found = np.shape(feeds[name]) if name in feeds else "nothing"
                raise LoweringError(
                    f"ModelOpt cannot be fed input '{name}'", where=source.path,
                    expected=f"an array whose first axis is the batch of {count}", found=found,
                )  # fmt: skip
            rows.append(np.asarray(feeds[name][:count]))
        images += count
    if not images:
        raise _missing(source.path, precision)
    # A model of a fixed batch gets whole batches: the last one is filled with the first images.
    order = np.arange(-(-images // source.rows) * source.rows) % images
    arrays: dict[str, Any] = {name: np.concatenate(rows)[order] for name, rows in parts.items()}
    np.savez(path, **arrays)
    return images


def _notes(source: Source, images: int, seen: int) -> list[str]:
    if seen < images:
        return [f"AutoCast looked for large values in the first {seen} of {images} calibration images"]
    if seen > images:
        again = f"{seen - images} of the {images} calibration images were used twice"
        return [f"ModelOpt takes whole batches of {source.rows}: {again}"]
    return []
