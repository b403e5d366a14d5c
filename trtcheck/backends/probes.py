"""What the probes of an emulated graph tell of its tensors, and what fits into a type."""

from __future__ import annotations

import math
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.emulation import Emulation
from trtcheck.backends.graph_types import Types

NUMPY = {
    int(TensorProto.FLOAT): np.dtype(np.float32),
    int(TensorProto.FLOAT16): np.dtype(np.float16),
    int(TensorProto.BFLOAT16): np.dtype(ml_dtypes.bfloat16),
}
"""The float types whose range is looked after, as numpy's."""

CONSTANTS = frozenset({"Constant", "ConstantOfShape"})
"""Operators that make a constant."""


def float_results(node: onnx.NodeProto, types: Types) -> list[str]:
    """The results of *node* whose range is looked after."""
    return [name for name in node.output if name and types.element(name) in NUMPY]


def with_probes(emulation: Emulation, types: Types) -> onnx.ModelProto:
    """The emulated graph with two scalars per float tensor as its outputs: largest magnitude and sum of them.

    The sum is there for NaN, which a maximum may pass over; nothing as large as an activation is kept.
    """
    model = onnx.ModelProto()
    model.CopyFrom(emulation.model)
    graph = model.graph
    flat, zero = f"flat{emulation.suffix}", f"zero{emulation.suffix}"
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), flat))
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), zero))
    del graph.output[:]
    for node in emulation.source.graph.node:
        for tensor in float_results(node, types):
            value = emulation.exact.get(tensor, tensor)
            stem = f"{tensor}{emulation.suffix}"
            graph.node.extend(
                [
                    helper.make_node("Abs", [value], [f"{stem}_abs"]),
                    helper.make_node("Reshape", [f"{stem}_abs", flat], [f"{stem}_flat"]),
                    # An empty tensor has no largest element; zero is smaller than any magnitude.
                    helper.make_node("Concat", [f"{stem}_flat", zero], [f"{stem}_all"], axis=0),
                    helper.make_node("ReduceMax", [f"{stem}_all"], [f"{stem}_max"], keepdims=0),
                    helper.make_node("ReduceSum", [f"{stem}_all"], [f"{stem}_sum"], keepdims=0),
                ]
            )
            for what in ("max", "sum"):
                graph.output.append(helper.make_tensor_value_info(f"{stem}_{what}", TensorProto.FLOAT, []))
    return model


def largest_probed(answers: Mapping[str, np.ndarray], stem: str) -> float:
    """The largest magnitude that the probes of a tensor found; NaN where there is one."""
    return math.nan if math.isnan(float(answers[f"{stem}_sum"])) else float(answers[f"{stem}_max"])


def largest_finite(dtype: np.dtype) -> float:
    """The largest finite value of *dtype*."""
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def fits(largest: float, dtype: np.dtype) -> bool:
    """Whether a magnitude is finite once rounded to *dtype*; NaN is not."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(largest).astype(dtype)))
