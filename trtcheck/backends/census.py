"""All nodes of a model that have to stay wide for its values to fit, told by the names of the model's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto

from trtcheck.backends.emulation import Emulation
from trtcheck.backends.finding import Overflow
from trtcheck.backends.graph_types import NARROW, Types, name_of, reads
from trtcheck.backends.probes import CONSTANTS, NUMPY, fits, float_results, largest_probed

_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SHAPES = frozenset({"Shape", "Size"})

# Where a lowering lets the narrow type begin again behind a node that is kept wide.
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class Links:
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
            return self._types.element(node.input[0]) in NUMPY
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


class Census:
    """Walks the lowered graph once, telling from exact values which nodes have to stay wide."""

    def __init__(
        self, emulation: Emulation, types: Types, answers: Mapping[str, np.ndarray], first: Overflow
    ) -> None:
        self._graph = emulation.source.graph
        self._suffix = emulation.suffix
        self._types = types
        self._answers = answers
        self._first = first
        self._links = Links(self._graph, types)
        self._narrow = next(NUMPY[element] for element, label in NARROW.items() if label == first.type)
        self._constants = {weight.name for weight in self._graph.initializer}
        self._constants.update(
            n for node in self._graph.node if node.op_type in CONSTANTS for n in node.output
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
            if node.op_type in _SHAPES | CONSTANTS:
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
        largest = {
            name: largest_probed(self._answers, f"{name}{self._suffix}")
            for name in float_results(node, self._types)
        }
        made = {name: value for name, value in largest.items() if self._is_beyond(name, value)}
        self._beyond.update(made)
        return list(made.values())

    def _is_beyond(self, name: str, largest: float) -> bool:
        """Whether the value does not fit into the narrow type, also where it is held in FP32 by now.

        What is infinite in FP32 too cannot be helped by staying wide, and says nothing of what follows it.
        """
        element = self._types.element(name)
        dtype = NUMPY[element] if element in NARROW else self._narrow
        return math.isfinite(largest) and not fits(largest, dtype)

    def _follows(self, node: onnx.NodeProto) -> bool:
        """Whether *node* only reworks what is kept wide, so that trtcheck leaves it wide with that.

        Said here again, for the two share no code; tests/test_emulation_overflow.py pastes the lists back.
        """
        floats = [n for n in node.input if n not in self._constants and self._types.element(n) in NUMPY]
        return bool(floats) and self._held >= set(floats) and node.op_type not in _PRODUCTS
