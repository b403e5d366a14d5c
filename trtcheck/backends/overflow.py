"""Which nodes of a lowered model leave the range of its narrow type: the first, and all others.

The first is found in the emulated graph. What follows it there is infinite or NaN on its account, so the
others are measured in a second run, of the same graph without the rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from trtcheck.backends.census import Census, Links
from trtcheck.backends.emulation import Emulation, transform
from trtcheck.backends.finding import Overflow
from trtcheck.backends.graph_types import NARROW, Ask, Types, name_of, reads, walk
from trtcheck.backends.probes import (
    CONSTANTS,
    NUMPY,
    fits,
    float_results,
    largest_finite,
    largest_probed,
    with_probes,
)

Run = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

# Where an infinite constant is a mask or an open bound, put there on purpose.
_TAKES_INFINITY = frozenset({"Add", "Clip", "Concat", "Expand", "Max", "Min", "Pad", "ScatterND", "Where"})


def first_overflow(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], run: Run, ask: Ask | None = None
) -> Overflow | None:
    """The first node, in the order of the graph, whose result is not finite although its inputs are.

    It comes with all others that leave the range of the narrow type on this batch. Nodes inside If, Loop and
    Scan are not looked at one by one; their result is.

    Args:
        model: A lowered model with its weights loaded.
        feeds: One batch, by input name.
        run: Runs a graph on feeds and returns its outputs.
        ask: As of `trtcheck.backends.graph_types.typed`.

    Raises:
        EngineError: As `trtcheck.backends.emulation.emulate`, or the batch cannot be run.
    """
    emulation = transform(model, ask)
    types = Types(emulation.source.graph)
    probed = with_probes(emulation, types)
    if not probed.graph.output:
        return _Search(emulation, types, {}).first(feeds)
    found = _Search(emulation, types, run(probed, feeds)).first(feeds)
    if found is None or found.weight is not None or found.type not in NARROW.values():
        return found
    _hold_exact(probed, emulation.suffix)
    return Census(emulation, types, run(probed, feeds), found).complete(feeds)


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
        self._links = Links(self._graph, types)
        self._infinite: set[str] = set()
        self._weights = {w.name for w in self._graph.initializer if w.data_type in NUMPY and not _finite(w)}

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
        dtype = NUMPY.get(self._types.element(name))
        if dtype is None or array.size == 0:
            return None
        values = array.astype(np.float32)
        if not np.isfinite(values).all():
            self._infinite.add(name)
            return None
        largest = float(np.abs(values).max())
        if fits(largest, dtype):
            return None
        limit, label = largest_finite(dtype), NARROW[self._types.element(name)]
        return Overflow(name, "Input", largest, limit, label)

    def _weight(self, node: onnx.NodeProto) -> Overflow | None:
        for name in node.input:
            element = self._types.element(name)
            if name in self._weights and element in NARROW and node.op_type not in _TAKES_INFINITY:
                limit = largest_finite(NUMPY[element])
                return Overflow(name_of(node), node.op_type, math.inf, limit, NARROW[element], weight=name)
        return None

    def _result(self, node: onnx.NodeProto) -> Overflow | None:
        blameless = not any(name in self._infinite for name in reads(node))
        found: Overflow | None = None
        for name in float_results(node, self._types):
            largest = self._largest(name)
            element = self._types.element(name)
            if fits(largest, NUMPY[element]):
                continue
            self._infinite.add(name)
            if node.op_type in CONSTANTS:
                self._weights.add(name)
            elif blameless and found is None:
                limit, label = largest_finite(NUMPY[element]), NARROW.get(element, "FP32")
                found = Overflow(name_of(node), node.op_type, largest, limit, label)
                if self._links.carries(node):
                    found = self._links.behind(node, found)
        return found

    def _largest(self, name: str) -> float:
        return largest_probed(self._answers, f"{name}{self._suffix}")


def _finite(weight: TensorProto) -> bool:
    return bool(np.isfinite(numpy_helper.to_array(weight).astype(np.float32)).all())
