"""Which nodes of a lowered model leave the range of its narrow type: the first, and all others.

The first is found in the emulated graph. What follows it there is infinite or NaN on its account, so the
others are measured in a second run, of the same graph without the rounding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.emulation import Emulation, transform
from trtcheck.backends.graph_types import NARROW, Types, name_of, reads, walk

Run = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

_NUMPY = {
    int(TensorProto.FLOAT): np.dtype(np.float32),
    int(TensorProto.FLOAT16): np.dtype(np.float16),
    int(TensorProto.BFLOAT16): np.dtype(ml_dtypes.bfloat16),
}

# Where an infinite constant is a mask or an open bound, put there on purpose.
_TAKES_INFINITY = frozenset({"Add", "Clip", "Concat", "Expand", "Max", "Min", "Pad", "ScatterND", "Where"})
_CONSTANTS = frozenset({"Constant", "ConstantOfShape"})

_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SHAPES = frozenset({"Shape", "Size"})

# Where a lowering lets the narrow type begin again behind a node that is kept wide.
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

_TOLD = 8
"""So many nodes are listed with their values."""

_PASTED = 32
"""So many names are worth pasting; a model that needs more is not made for the type."""


@dataclass(frozen=True)
class Overflow:
    """The first value that is not finite although everything it was made from is, and what else there is.

    Attributes:
        node: Name of the node (of the input, where the data themselves are too large). Where a cast or Q/DQ
            overflows, the node whose result it carries.
        op: Its operator, or ``"Input"``.
        largest: Largest magnitude before rounding; inf for a division by zero or an infinite weight, NaN
            for 0/0.
        limit: Largest finite value of the type.
        type: ``"FP16"``, ``"BF16"`` or ``"FP32"`` (a node that was kept wide fails by itself).
        weight: Name of the weight that is infinite, or None where the node's result is.
        consumers: What reads the result of a cast or of Q/DQ: it is what has to stay wide.
        leaving: In graph order, the nodes (or the input) that leave the range by themselves, with their
            largest magnitudes: their exact results are too large, those that they read are not.
        exclude: What has to stay wide for all values to fit, in graph order: these nodes, and those readers
            of a value that is too large which do not stay with it anyway. Empty where the node alone will do.
    """

    node: str
    op: str
    largest: float
    limit: float
    type: str
    weight: str | None = None
    consumers: tuple[str, ...] = ()
    leaving: tuple[tuple[str, float], ...] = ()
    exclude: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self._sentence()}{self._others()}"

    def _sentence(self) -> str:
        end = f"{self.type} ends at {_short(self.limit)}"
        if self.weight is not None:
            return f"weight '{self.weight}' of {self.node} is infinite, {end}: keep {self.node} in FP32"
        if self.op == "Input":
            keep = ", ".join(self.consumers) or "what reads it"
            return f"input '{self.node}' reaches {_short(self.largest)}, {end}: keep {keep} in FP32"
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

    def _others(self) -> str:
        if not self.exclude:
            return ""
        told = ""
        if len(self.leaving) > 1:
            each = ", ".join(f"{name} ({_short(largest)})" for name, largest in self.leaving[:_TOLD])
            more = f" and {len(self.leaving) - _TOLD} more" if len(self.leaving) > _TOLD else ""
            told = f"; in all {len(self.leaving)} nodes leave the range: {each}{more}"
        if len(self.exclude) > _PASTED:
            return (
                f"{told}; {len(self.exclude)} nodes would have to stay in FP32, too many to paste: "
                "BF16 has the range of FP32"
            )
        # JSON's strings are TOML's.
        names = ", ".join(json.dumps(name, ensure_ascii=False) for name in self.exclude)
        them = "them" if len(self.leaving) > 1 else "it"
        readers = "" if {name for name, _ in self.leaving} >= set(self.exclude) else f" and what reads {them}"
        return f"{told}; exclude = [{names}] keeps {them}{readers} in FP32"


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

    It comes with all others that leave the range of the narrow type on this batch. Nodes inside If, Loop and
    Scan are not looked at one by one; their result is.

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
    if not probed.graph.output:
        return _Search(emulation, types, {}).first(feeds)
    found = _Search(emulation, types, run(probed, feeds)).first(feeds)
    if found is None or found.weight is not None or found.type not in NARROW.values():
        return found
    _hold_exact(probed, emulation.suffix)
    return _Census(emulation, types, run(probed, feeds), found).complete(feeds)


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


def _hold_exact(probed: onnx.ModelProto, suffix: str) -> None:
    """Takes the rounding out of an emulated graph, in place: its pairs of casts go to FP32 and back."""
    for graph in walk(probed.graph):
        for node in graph.node:
            if node.op_type == "Cast" and suffix in node.name:
                node.attribute[0].i = TensorProto.FLOAT


class _Search:
    """Walks the lowered graph once, telling which tensors are finite."""

    def __init__(self, emulation: Emulation, types: Types, answers: Mapping[str, np.ndarray]) -> None:
        self._graph = emulation.source.graph
        self._suffix = emulation.suffix
        self._types = types
        self._answers = answers
        self._links = _Links(self._graph, types)
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
                found = Overflow(name_of(node), node.op_type, largest, limit, label)
                if self._links.carries(node):
                    found = self._links.behind(node, found)
        return found

    def _largest(self, name: str) -> float:
        return _read(self._answers, f"{name}{self._suffix}")


class _Links:
    """What stands on both sides of the casts and Q/DQ that a lowering puts between the nodes of the model.

    Nobody can keep these wide, only what reads them.
    """

    def __init__(self, graph: onnx.GraphProto, types: Types) -> None:
        self._graph = graph
        self._types = types
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._inputs = {value.name for value in graph.input}

    def carries(self, node: onnx.NodeProto) -> bool:
        """Whether *node* only carries floats from one type to another (a cast of integers makes some)."""
        if node.op_type == "Cast":
            return self._types.element(node.input[0]) in _NUMPY
        return node.op_type in _QDQ

    def behind(self, carrier: onnx.NodeProto, found: Overflow) -> Overflow:
        """*found* in the result of *carrier*, told of the node, input or weight whose value it carries."""
        consumers = self._consumers(carrier.output[0])
        found = replace(found, consumers=consumers)
        node = carrier
        while self.carries(node) and node.input[0] in self._makers:
            node = self._makers[node.input[0]]
        if not self.carries(node):
            return replace(found, node=name_of(node), op=node.op_type)
        tensor = node.input[0]
        if tensor not in self._inputs and consumers:
            return replace(found, node=consumers[0], weight=tensor, consumers=())
        # A lowering names its casts after the tensor; with any other name it is the model's own.
        inserted = node.name.startswith(f"{tensor}_")
        return replace(found, node=tensor, op="Input") if inserted else replace(found, node=name_of(node))

    def _consumers(self, name: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for node in self._graph.node:
            if name not in reads(node):
                continue
            further = self._consumers(node.output[0]) if self.carries(node) else ()
            found.update(dict.fromkeys(further or (name_of(node),)))
        return tuple(found)


class _Census:
    """Walks the lowered graph once, telling from exact values which nodes have to stay wide."""

    def __init__(
        self, emulation: Emulation, types: Types, answers: Mapping[str, np.ndarray], first: Overflow
    ) -> None:
        self._graph = emulation.source.graph
        self._suffix = emulation.suffix
        self._types = types
        self._answers = answers
        self._first = first
        self._links = _Links(self._graph, types)
        self._narrow = next(_NUMPY[element] for element, label in NARROW.items() if label == first.type)
        self._constants = {weight.name for weight in self._graph.initializer}
        self._constants.update(
            n for node in self._graph.node if node.op_type in _CONSTANTS for n in node.output
        )
        self._beyond: set[str] = set()
        self._held: set[str] = set()

    def complete(self, feeds: Mapping[str, np.ndarray]) -> Overflow:
        """The first overflow with all the others."""
        first = self._first
        self._beyond = {name for name, array in feeds.items() if self._input_beyond(name, array)}
        leaving = {f"input '{first.node}'": first.largest} if first.op == "Input" else {}
        named = first.consumers or (() if leaving else (first.node,))
        exclude: list[str] = []
        for node in self._graph.node:
            if node.op_type in _SHAPES | _CONSTANTS:
                continue
            name, carries, follows = name_of(node), self._links.carries(node), self._follows(node)
            told = not self._beyond.isdisjoint(reads(node))
            made = self._results_beyond(node)
            if made and not told and not carries:
                leaving[name] = max(made)
            elif name == first.node and first.op != "Input":
                leaving[name] = first.largest
            if not carries and (name in named or ((told or made) and not follows)):
                exclude.append(name)
                follows = True
            if follows:
                self._held.update(node.output)
        if set(exclude) <= set(named):
            return first
        return replace(first, leaving=tuple(leaving.items()), exclude=tuple(exclude))

    def _input_beyond(self, name: str, array: np.ndarray) -> bool:
        """Whether a wide input is too large for the narrow type; a narrow one comes in as infinite."""
        if self._types.element(name) != TensorProto.FLOAT:
            return False
        return self._is_beyond(name, float(np.abs(array.astype(np.float32)).max(initial=0)))

    def _results_beyond(self, node: onnx.NodeProto) -> list[float]:
        """The largest magnitudes of those results of *node* that are too large, which the walk remembers."""
        largest = {name: _read(self._answers, f"{name}{self._suffix}") for name in _floats(node, self._types)}
        made = {name: value for name, value in largest.items() if self._is_beyond(name, value)}
        self._beyond.update(made)
        return list(made.values())

    def _is_beyond(self, name: str, largest: float) -> bool:
        """Whether the value does not fit into the narrow type, also where it is held in FP32 by now.

        What is infinite in FP32 too cannot be helped by staying wide, and says nothing of what follows it.
        """
        element = self._types.element(name)
        dtype = _NUMPY[element] if element in NARROW else self._narrow
        return math.isfinite(largest) and not _fits(largest, dtype)

    def _follows(self, node: onnx.NodeProto) -> bool:
        """Whether *node* only reworks what is kept wide, so that trtcheck leaves it wide with that.

        Said here again, for the two share no code; tests/test_emulation_overflow.py pastes the lists back.
        """
        floats = [n for n in node.input if n not in self._constants and self._types.element(n) in _NUMPY]
        return bool(floats) and self._held >= set(floats) and node.op_type not in _PRODUCTS


def _read(answers: Mapping[str, np.ndarray], stem: str) -> float:
    """The largest magnitude that the probes of a tensor found; NaN where there is one."""
    return math.nan if math.isnan(float(answers[f"{stem}_sum"])) else float(answers[f"{stem}_max"])


def _limit(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def _fits(largest: float, dtype: np.dtype) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(largest).astype(dtype)))


def _finite(weight: TensorProto) -> bool:
    return bool(np.isfinite(numpy_helper.to_array(weight).astype(np.float32)).all())
