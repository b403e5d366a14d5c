"""Rewrites an FP32 graph to a narrow float type, strongly typed: every tensor says what it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from trtcheck.precision.constants import round_tensor
from trtcheck.precision.graph import Names, captured, infer, subgraphs
from trtcheck.precision.placement import FLOAT, Place, place

_SUFFIXES: dict[int, str] = {FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}


@dataclass
class Narrowed:
    """What narrowing did.

    Attributes:
        nodes: Names of the nodes that compute in the narrow type.
        kept: Names of nodes with float work that stayed wide, and why.
        clamped: Names of the constants that were changed by more than rounding.
    """

    nodes: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    clamped: list[str] = field(default_factory=list)


def narrow_model(model: ModelProto, narrow: int, excluded: Collection[str]) -> Narrowed:
    """Narrows *model* in place.

    Inputs and outputs of the graph keep names and types; tensors that are not FP32 stay what they are. Casts
    stand where narrow and wide nodes meet, one for each tensor and type.

    Args:
        model: A prepared FP32 model, with or without Q/DQ pairs.
        narrow: FLOAT16 or BFLOAT16.
        excluded: Names of nodes that stay in FP32.
    """
    values = infer(model)
    places = place(model, values, narrow, excluded)
    rewrite = _Rewrite(model.graph, values.types, narrow, places)
    done = Narrowed(clamped=rewrite.clamped)
    for node, spot in zip(model.graph.node, places, strict=True):
        if spot.narrow:
            done.nodes.append(node.name)
        elif spot.reason is not None:
            done.kept[node.name] = spot.reason
    rewrite.run()
    return done


class _Rewrite:
    """One pass over a graph in its own order; ``variants`` knows each tensor's name in each type."""

    def __init__(
        self, graph: GraphProto, types: dict[str, int], narrow: int, places: Sequence[Place]
    ) -> None:
        self.graph = graph
        self.narrow = narrow
        self.places = places
        self.names = Names(graph)
        self.floats = {name for name, kind in types.items() if kind == FLOAT}
        self.outputs = {value.name for value in graph.output}
        self.variants: dict[str, dict[int, str]] = {}
        self.nodes: list[NodeProto] = []
        self.clamped: list[str] = []

    def run(self) -> None:
        self._constants()
        for value in self.graph.input:
            self.variants[value.name] = {FLOAT: value.name}
        for node, spot in zip(self.graph.node, self.places, strict=True):
            self._rewire(node, spot)
            self._emit(node, spot)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._retype_values()

    def _constants(self) -> None:
        """Gives every FP32 constant the types that its readers want."""
        wanted: dict[str, set[int]] = defaultdict(set)
        for name in self.outputs:
            wanted[name].add(FLOAT)
        for node, spot in zip(self.graph.node, self.places, strict=True):
            for name, takes_narrow in zip(node.input, spot.inputs, strict=True):
                if takes_narrow is not None:
                    wanted[name].add(self.narrow if takes_narrow else FLOAT)
            for name in captured(node):
                wanted[name].add(FLOAT)
        tensors = []
        for tensor in self.graph.initializer:
            name = tensor.name
            kinds = wanted[name] or {FLOAT}
            if tensor.data_type != FLOAT or self.narrow not in kinds:
                tensors.append(tensor)
                self.variants[name] = {FLOAT: name}
                continue
            own = name if FLOAT not in kinds else self.names.tensor(f"{name}_{_SUFFIXES[self.narrow]}")
            rounded, changed = round_tensor(tensor, self.narrow, own)
            self.variants[name] = {self.narrow: own} | ({FLOAT: name} if FLOAT in kinds else {})
            tensors += [tensor, rounded] if FLOAT in kinds else [rounded]
            if changed:
                self.clamped.append(name)
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensors)

    def _rewire(self, node: NodeProto, spot: Place) -> None:
        """Points the inputs of *node* to tensors of the types it takes."""
        for index, takes_narrow in enumerate(spot.inputs):
            name = node.input[index]
            if name in self.floats:
                node.input[index] = self._variant(name, takes_narrow)
        inner = {name: self._variant(name, False) for name in sorted(captured(node) & self.floats)}
        for graph in subgraphs(node):
            _rename(graph, {old: new for old, new in inner.items() if old != new})

    def _variant(self, name: str, takes_narrow: bool | None) -> str:
        known = self.variants[name]
        if takes_narrow is None:
            return next(iter(known.values()))
        kind = self.narrow if takes_narrow else FLOAT
        if kind not in known:
            known[kind] = self.names.tensor(f"{name}_{_SUFFIXES[kind]}")
            self._cast(next(iter(known.values())), known[kind], kind)
        return known[kind]

    def _cast(self, source: str, target: str, kind: int) -> None:
        name = self.names.node(f"{target}_cast")
        self.nodes.append(helper.make_node("Cast", [source], [target], name=name, to=kind))

    def _emit(self, node: NodeProto, spot: Place) -> None:
        """Appends *node*, followed by casts back to FP32 where a narrow result is an output of the graph."""
        self.nodes.append(node)
        for index, is_narrow in enumerate(spot.outputs):
            name = node.output[index]
            if not name:
                continue
            if not is_narrow:
                self.variants[name] = {FLOAT: name}
            elif name not in self.outputs:
                self.variants[name] = {self.narrow: name}
            else:
                inner = self.names.tensor(f"{name}_{_SUFFIXES[self.narrow]}")
                node.output[index] = inner
                self.variants[name] = {self.narrow: inner, FLOAT: name}
                self._cast(inner, name, FLOAT)
        if spot.narrow:
            self._set_type(node)

    def _set_type(self, node: NodeProto) -> None:
        """Narrows the attribute that states the type of the node's result."""
        if node.op_type == "Cast":
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("to", self.narrow))
        elif node.op_type == "ConstantOfShape":
            stated = [a.t for a in node.attribute if a.name == "value"]
            value = stated[0] if stated else helper.make_tensor("value", FLOAT, [1], [0.0])
            rounded, changed = round_tensor(value, self.narrow, "value")
            if changed:
                self.clamped.append(node.name)
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", rounded))

    def _retype_values(self) -> None:
        """Keeps declared shapes, with the types that tensors have now."""
        for value in self.graph.value_info:
            kinds = self.variants.get(value.name, {})
            if value.type.tensor_type.elem_type == FLOAT and kinds.get(self.narrow) == value.name:
                value.type.tensor_type.elem_type = self.narrow


def _rename(graph: GraphProto, new: dict[str, str]) -> None:
    """Renames what *graph*, the body of an If, Loop or Scan, reads of the graph around it."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in new:
                node.input[index] = new[name]
        for inner in subgraphs(node):
            _rename(inner, new)
