"""Lowers and runs the tiny graphs of the lowering tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from trtcheck.case import LoweringSpec, Precision
from trtcheck.precision import lower

Feeds = Mapping[str, np.ndarray]
NAMES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}


class Lowered(NamedTuple):
    """A lowered model with its manifest."""

    model: ModelProto
    manifest: dict[str, Any]

    def weight(self, name: str) -> np.ndarray:
        return next(numpy_helper.to_array(t) for t in self.model.graph.initializer if t.name == name)

    def node(self, name: str) -> onnx.NodeProto:
        return next(n for n in self.model.graph.node if n.name == name)

    def ops(self) -> list[str]:
        return [n.op_type for n in self.model.graph.node]

    def types(self) -> dict[str, str]:
        """What each node computes in: the type of its first output, by node name."""
        graph = onnx.shape_inference.infer_shapes(self.model, strict_mode=True, data_prop=True).graph
        kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
        return {n.name: NAMES.get(kinds.get(n.output[0]), "other") for n in graph.node}

    def kept(self) -> dict[str, str]:
        return {entry["node"]: entry["reason"] for entry in self.manifest["kept"]}


def counted(batches: Iterable[Feeds]) -> Iterator[tuple[Feeds, int]]:
    """*batches* without padding: every row counts."""
    for feeds in batches:
        yield feeds, max((len(array) for array in feeds.values() if np.ndim(array)), default=1)


def lowered(
    model: ModelProto,
    precision: str,
    folder: Path,
    calibration: Sequence[Feeds] | None = None,
    **spec: Any,
) -> Lowered:
    """Lowers *model* by way of files in *folder*."""
    source, target = folder / "source.onnx", folder / f"{precision}.onnx"
    source.write_bytes(model.SerializeToString())
    manifest = lower(
        source, Precision(precision), LoweringSpec(**spec), target=target,
        calibration=None if calibration is None else counted(calibration),
    )  # fmt: skip
    return Lowered(onnx.load(target), manifest)


def run(model: ModelProto, feeds: Feeds) -> np.ndarray:
    """The first output of *model* as ONNX Runtime's CPU provider computes it, Q/DQ executed as written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(feeds))[0]


def run_rounding(model: ModelProto, feeds: Feeds) -> np.ndarray:
    """The same as ONNX's own reference computes it in numpy: every node's result is of the type it states."""
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, dict(feeds))[0]


def relative_l2(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected))
