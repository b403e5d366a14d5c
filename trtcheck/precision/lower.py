"""Makes the FP32, TF32, FP16, BF16 or INT8 version of an ONNX model, with a manifest of what was done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto

from trtcheck.case import LoweringSpec, Precision
from trtcheck.errors import LoweringError
from trtcheck.precision import batchnorm, calibrate, graph, narrow, quantize, reading
from trtcheck.precision.placement import QUANTIZED_OPS, has_float_work
from trtcheck.precision.storage import save

LOWERING_VERSION = 3

_NARROW = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
# Conv, Gemm-fed pooling and others take bfloat16 from opset 22 on; Q/DQ take FP16 scales from 19 on.
_OPSETS = {Precision.BF16: 22}
_OPSET_OF_FP16_SCALES = 19


@dataclass
class _Work:
    """A prepared FP32 model on its way down, and what became of its nodes."""

    source: Path
    model: ModelProto
    excluded: set[str]
    folded: int
    floats: list[str]
    nodes: list[str]
    checked: bool = True
    narrowed: set[str] = field(default_factory=set)
    quantized: set[str] = field(default_factory=set)
    kept: dict[str, str] = field(default_factory=dict)
    inner: list[dict[str, str]] = field(default_factory=list)
    clamped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def lower(
    source: Path,
    precision: Precision,
    spec: LoweringSpec,
    *,
    target: Path,
    calibration: Iterable[calibrate.Counted] | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Writes the version of the FP32 model *source* in *precision* to *target*.

    TF32 is the graph of FP32: whoever runs it is to switch TF32 on. The same source, spec and calibration
    data give the same bytes. Weights of more than 1.8 GB go to ``<stem>.weights`` beside *target*, whose name
    the model holds: rename the folder, not the file.

    Args:
        source: The FP32 ONNX model.
        precision: What is made of it.
        spec: How.
        target: The file to write.
        calibration: INT8 only: feeds by input name, first axis the batch, each with the number of rows that
            are images and no padding; read once.
        threads: Threads for the calibration; 0 takes every core that this process may use.

    Returns:
        The manifest, JSON-ready. ``nodes`` counts the nodes of the FP32 model after BatchNormalization was
        folded: all of them, those that compute in FP16 or BF16, those with INT8 inputs, and those whose float
        work is left in FP32. ``kept`` says why nodes stayed wide or were not quantized.

    Raises:
        ModelError: The source cannot be read.
        LoweringError: The precision cannot be made from it.
        BackendError: ONNX Runtime, which calibration runs on, is not installed.
    """
    _check(spec, precision, source)
    int8 = precision is Precision.INT8
    if int8 and calibration is None:
        raise calibrate.missing(source)
    opset = _OPSET_OF_FP16_SCALES if int8 and spec.rest == "fp16" else _OPSETS.get(precision, 0)
    work = _prepare(source, spec, opset)
    if int8 and calibration is not None:
        _quantize(work, spec, calibration, threads)
    if int8 and spec.rest == "fp16":
        _narrow(work, TensorProto.FLOAT16)
    elif precision in _NARROW:
        _narrow(work, _NARROW[precision])
    if int8 or precision in _NARROW:
        work.inner = _inner_products(work.model)
    graph.drop_unused(work.model.graph)
    work.notes += _remarks(work)
    _write(work, target)
    return _manifest(work, precision, spec)


def _check(spec: LoweringSpec, precision: Precision, source: Path) -> None:
    if precision is Precision.TF32 and spec.exclude:
        raise LoweringError(
            "exclude cannot be honoured under TF32",
            where=source,
            expected="no exclude: TensorRT has one switch for TF32, for the whole network",
            found=", ".join(spec.exclude),
            hint="leave it out, or test fp32",
        )
    if spec.method not in calibrate.METHODS:
        raise LoweringError(
            "unknown calibration method",
            where=source,
            expected=" or ".join(calibrate.METHODS),
            found=spec.method,
        )
    if spec.rest not in ("fp16", "fp32"):
        raise LoweringError("unknown rest of INT8", where=source, expected="fp16 or fp32", found=spec.rest)
    if not 0 < spec.percentile <= 100:
        raise LoweringError(
            "percentile is no share", where=source, expected="above 0, at most 100", found=spec.percentile
        )


def _prepare(source: Path, spec: LoweringSpec, opset: int) -> _Work:
    model = reading.read(source, opset)
    names = {node.name for node in model.graph.node}
    before = graph.match_nodes(model.graph, spec.exclude)
    folded = batchnorm.fold(model, graph.infer(model), set().union(*before.values()))
    graph.drop_unused(model.graph)
    excluded = set()
    for pattern, matched in graph.match_nodes(model.graph, spec.exclude).items():
        if not matched and not before[pattern]:
            raise graph.refuse_unknown(pattern, names, source)
        excluded |= matched
    types = graph.infer(model).types
    work = _Work(
        source, model, excluded, folded,
        floats=[node.name for node in model.graph.node if has_float_work(node, types)],
        nodes=[node.name for node in model.graph.node],
    )  # fmt: skip
    if fault := graph.fault(model):
        work.checked = False
        work.notes.append(f"not checked by ONNX's checker, which refuses the FP32 model too: {fault}")
    return work


def _quantize(
    work: _Work, spec: LoweringSpec, calibration: Iterable[calibrate.Counted], threads: int
) -> None:
    if any(node.op_type == "DequantizeLinear" for node in graph.all_nodes(work.model.graph)):
        raise LoweringError(
            "is quantized already",
            where=work.source,
            expected="an FP32 model",
            hint='name the FP32 model in onnx = "…" and this one in [models.x.lowered] int8 = "…"',
        )
    chosen = quantize.plan(work.model, graph.infer(work.model), work.excluded)
    tensors = chosen.tensors(work.model.graph)
    if not tensors:
        raise LoweringError(
            "has nothing that INT8 could compute",
            where=work.source,
            expected="one of " + ", ".join(QUANTIZED_OPS) + " that is not excluded",
            found=_some(chosen.kept) or "none of them",
        )
    largest = calibrate.largest(
        work.model, tensors, calibration,
        method=spec.method, percentile=spec.percentile, source=work.source, threads=threads,
    )  # fmt: skip
    quantize.insert(work.model, chosen, largest, fp16_scales=spec.rest == "fp16")
    work.quantized = set(chosen.activations)
    work.kept.update(chosen.kept)
    if dead := [name for name, value in largest.items() if value == 0]:
        work.notes.append(f"always 0 on the calibration data, given the scale 1: {', '.join(dead)}")


def _narrow(work: _Work, narrow_type: int) -> None:
    done = narrow.narrow_model(work.model, narrow_type, work.excluded)
    if not done.nodes:
        raise LoweringError(
            "has no FP32 node that could be narrowed",
            where=work.source,
            expected="an FP32 model",
            found=_some(done.kept) or "no FP32 tensors",
        )
    work.narrowed = set(done.nodes) - work.quantized
    work.kept |= done.kept
    work.clamped = done.clamped


def _inner_products(model: ModelProto) -> list[dict[str, str]]:
    """Why what multiplies inside an If, Loop or Scan stayed in FP32, as entries of the manifest."""
    return [
        {"node": inner.name, "op": inner.op_type, "reason": f"is inside '{node.name}'"}
        for node in model.graph.node
        for body in graph.subgraphs(node)
        for inner in graph.all_nodes(body)
        if inner.op_type in QUANTIZED_OPS
    ]


def _remarks(work: _Work) -> list[str]:
    """What a reader of a verdict should know of the lowering."""
    remarks = []
    if work.clamped:
        names = ", ".join(work.clamped[:_TOLD]) + (" …" if len(work.clamped) > _TOLD else "")
        remarks.append(
            "constants beyond the narrow type's range were moved to its nearest end, "
            f"where other converters make them 0 or infinite: {names}"
        )
    return remarks


_TOLD = 5


def _some(kept: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in list(kept.items())[:3])


def _write(work: _Work, target: Path) -> None:
    if save(work.model, target):
        work.notes.append(f"weights are in {target.stem}.weights beside the model")
    if work.checked and (fault := graph.fault(work.model)):
        raise LoweringError("the lowered model is not valid ONNX", where=work.source, found=fault)


def _manifest(work: _Work, precision: Precision, spec: LoweringSpec) -> dict[str, Any]:
    int8 = precision is Precision.INT8
    types = {node.name: node.op_type for node in work.model.graph.node}
    return {
        "lowering_version": LOWERING_VERSION,
        "precision": precision.value,
        "method": spec.method if int8 else None,
        "percentile": spec.percentile if int8 and spec.method == "percentile" else None,
        "rest": spec.rest if int8 else None,
        "exclude": list(spec.exclude),
        "opset": graph.opset_of(work.model),
        "nodes": {
            "total": len(work.nodes),
            "narrowed": len(work.narrowed.intersection(work.nodes)),
            "quantized": len(work.quantized),
            "wide": len(set(work.floats) - work.narrowed - work.quantized),
        },
        "kept": [
            *(
                {"node": name, "op": types[name], "reason": work.kept[name]}
                for name in work.nodes
                if name in work.kept
            ),
            *work.inner,
        ],
        "clamped": work.clamped,
        "folded": work.folded,
        "notes": work.notes,
    }
