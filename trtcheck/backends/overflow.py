"""Which node of a lowered model is the first to leave the range of its narrow type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.emulation import Emulation, transform
from trtcheck.backends.graph_types import NARROW, Types, name_of, reads

Run = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

_NUMPY = {
    int(TensorProto.FLOAT): np.dtype(np.float32),
    int(TensorProto.FLOAT16): np.dtype(np.float16),
    int(TensorProto.BFLOAT16): np.dtype(ml_dtypes.bfloat16),
}

# Where an infinite constant is a mask or an open bound, put there on purpose.
_TAKES_INFINITY = frozenset({"Add", "Clip", "Concat", "Expand", "Max", "Min", "Pad", "ScatterND", "Where"})
_CONSTANTS = frozenset({"Constant", "ConstantOfShape"})

# What a lowering puts between the nodes of the model: nobody can keep these wide, only what reads them.
_CARRIERS = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Overflow:
    """The first value that is not finite although everything it was made from is.

    Attributes:
        node: Name of the node (of the input, where the data themselves are too large).
        op: Its operator, or ``"Input"``.
        largest: Largest magnitude before rounding; inf for a division by zero or an infinite weight, NaN
            for 0/0.
        limit: Largest finite value of the type.
        type: ``"FP16"``, ``"BF16"`` or ``"FP32"`` (a node that was kept wide fails by itself).
        weight: Name of the weight that is infinite, or None where the node's result is.
        consumers: What reads the result of a cast or of Q/DQ: it is what has to stay wide.
    """

    node: str
    op: str
    largest: float
    limit: float
    type: str
    weight: str | None = None
    consumers: tuple[str, ...] = ()

    def __str__(self) -> str:
        end = f"{self.type} ends at {_short(self.limit)}"
        if self.weight is not None:
            return f"weight '{self.weight}' of {self.node} is infinite, {end}: keep {self.node} in FP32"
        if self.op == "Input":
            return f"input '{self.node}' reaches {_short(self.largest)}, {end}: keep what reads it in FP32"
        if self.type == "FP32":
            return (
                f"{self.node} gives {_short(self.largest)} in FP32, on finite inputs: look at what feeds it"
            )
        if math.isnan(self.largest):
            return f"{self.node} gives NaN in {self.type}: keep it in FP32, and what feeds it"
        keep = ", ".join(self.consumers) or "it"
        if math.isinf(self.largest):
            return f"{self.node} gives inf, {end}: keep {keep} in FP32"
        return f"{self.node} reaches {_short(self.largest)}, {end}: keep {keep} in FP32"


def _short(value: float) -> str:
    """Two digits, as ``1.9e5``; whole numbers below 100 000 in full; NaN and inf by name."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf"
    if value == int(value) and value < 1e5:
        return str(int(value))
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def first_overflow(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], run: Run | None = None
) -> Overflow | None:
    """The first node, in the order of the graph, whose result is not finite although its inputs are.

    Nodes inside If, Loop and Scan are not looked at one by one; their result is.

    Args:
        model: A lowered model with its weights loaded.
        feeds: One batch, by input name.
        run: Runs a graph on feeds and returns its outputs; None takes ONNX Runtime's CPU provider.

    Raises:
        EngineError: As `trtcheck.backends.emulation.emulate`, or the batch cannot be run.
    """
    if run is None:
        from trtcheck.backends.onnxruntime import run_once

        run = run_once
    emulation = transform(model)
    types = Types(emulation.source.graph)
    probed = _with_probes(emulation, types)
    answers = run(probed, feeds) if probed.graph.output else {}
    return _Search(emulation, types, answers).first(feeds)


def _floats(node: onnx.NodeProto, types: Types) -> list[str]:
    return [name for name in node.output if name and types.element(name) in _NUMPY]


def _with_probes(emulation: Emulation, types: Types) -> onnx.ModelProto:
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
        for tensor in _floats(node, types):
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


class _Search:
    """Walks the lowered graph once, telling which tensors are finite."""

    def __init__(self, emulation: Emulation, types: Types, answers: Mapping[str, np.ndarray]) -> None:
        self._graph = emulation.source.graph
        self._suffix = emulation.suffix
        self._types = types
        self._answers = answers
        self._infinite: set[str] = set()
        self._weights = {w.name for w in self._graph.initializer if w.data_type in _NUMPY and not _finite(w)}

    def first(self, feeds: Mapping[str, np.ndarray]) -> Overflow | None:
        self._infinite |= self._weights
        for name, array in feeds.items():
            found = self._input(name, array)
            if found is not None:
                return found
        for node in self._graph.node:
            found = self._weight(node) or self._result(node)
            if found is not None:
                return found
        return None

    def _input(self, name: str, array: np.ndarray) -> Overflow | None:
        dtype = _NUMPY.get(self._types.element(name))
        if dtype is None or array.size == 0:
            return None
        values = array.astype(np.float32)
        if not np.isfinite(values).all():
            self._infinite.add(name)
            return None
        largest = float(np.abs(values).max())
        if _fits(largest, dtype):
            return None
        return Overflow(name, "Input", largest, _limit(dtype), NARROW[self._types.element(name)])

    def _weight(self, node: onnx.NodeProto) -> Overflow | None:
        for name in node.input:
            element = self._types.element(name)
            if name in self._weights and element in NARROW and node.op_type not in _TAKES_INFINITY:
                limit = _limit(_NUMPY[element])
                return Overflow(name_of(node), node.op_type, math.inf, limit, NARROW[element], weight=name)
        return None

    def _result(self, node: onnx.NodeProto) -> Overflow | None:
        blameless = not any(name in self._infinite for name in reads(node))
        found: Overflow | None = None
        for name in _floats(node, self._types):
            largest = self._largest(name)
            element = self._types.element(name)
            if _fits(largest, _NUMPY[element]):
                continue
            self._infinite.add(name)
            if node.op_type in _CONSTANTS:
                self._weights.add(name)
            elif blameless and found is None:
                limit, label = _limit(_NUMPY[element]), NARROW.get(element, "FP32")
                consumers = self._consumers(name) if node.op_type in _CARRIERS else ()
                found = Overflow(name_of(node), node.op_type, largest, limit, label, consumers=consumers)
        return found

    def _largest(self, name: str) -> float:
        stem = f"{name}{self._suffix}"
        if math.isnan(float(self._answers[f"{stem}_sum"])):
            return math.nan
        return float(self._answers[f"{stem}_max"])

    def _consumers(self, name: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for node in self._graph.node:
            if name not in reads(node):
                continue
            further = self._consumers(node.output[0]) if node.op_type in _CARRIERS else ()
            found.update(dict.fromkeys(further or (name_of(node),)))
        return tuple(found)


def _limit(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def _fits(largest: float, dtype: np.dtype) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(largest).astype(dtype)))


def _finite(weight: TensorProto) -> bool:
    return bool(np.isfinite(numpy_helper.to_array(weight).astype(np.float32)).all())
