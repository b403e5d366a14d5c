"""ONNX graphs: their names, types and readers, and the nodes that a pattern means."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from trtcheck.errors import LoweringError

DOMAINS = ("", "ai.onnx")
_WEIGHT_ELEMENTS = 1024


class Names:
    """Hands out tensor and node names that a graph, its subgraphs included, does not use yet."""

    def __init__(self, graph: GraphProto) -> None:
        self._tensors = {t.name for t in graph.initializer} | {v.name for v in graph.input}
        self._nodes: set[str] = set()
        for node in all_nodes(graph):
            self._tensors.update(node.input, node.output)
            self._nodes.add(node.name)

    def tensor(self, wanted: str) -> str:
        """The tensor name *wanted*, with a number behind it where it is taken."""
        return unique(wanted, self._tensors)

    def node(self, wanted: str) -> str:
        """The node name *wanted*, with a number behind it where it is taken."""
        return unique(wanted, self._nodes)


@dataclass
class Values:
    """What shape inference knows of a graph's tensors.

    Attributes:
        types: Element type by tensor name; a tensor without an entry is of unknown type.
        ranks: Number of dimensions by tensor name, where it is known.
    """

    types: dict[str, int] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)


def unique(wanted: str, taken: set[str]) -> str:
    """The name *wanted*, with a number behind it where it is *taken*; taken from then on."""
    name, number = wanted, 1
    while not name or name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that *node* carries as attributes (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of *graph* and of the graphs inside it."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def captured(node: NodeProto) -> set[str]:
    """Names of the surrounding graph's tensors that the graphs inside *node* read."""
    read: set[str] = set()
    for graph in subgraphs(node):
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        inner: set[str] = {v.name for v in graph.output}
        for child in graph.node:
            inner |= set(child.input) | captured(child)
            own |= set(child.output)
        read |= inner - own
    return read - {""}


def consumers(graph: GraphProto) -> Counter[str]:
    """How often each tensor is read, by nodes, by graphs inside nodes and as an output of the graph."""
    counts = Counter(value.name for value in graph.output)
    for node in graph.node:
        counts.update(name for name in node.input if name)
        counts.update(captured(node))
    return counts


def opset_of(model: ModelProto) -> int:
    """Version of the standard operator set that *model* is written in."""
    return max((o.version for o in model.opset_import if o.domain in DOMAINS), default=1)


def attribute(node: NodeProto, name: str, default: int | float) -> int | float:
    """The number in attribute *name* of *node*."""
    for candidate in node.attribute:
        if candidate.name == name:
            value: int | float = helper.get_attribute_value(candidate)
            return value
    return default


def infer(model: ModelProto) -> Values:
    """Types and ranks of the tensors of *model*'s graph (not of the graphs inside it)."""
    light, _ = without_weights(model)
    graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    values = Values()
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            values.types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            values.ranks[value.name] = len(tensor.shape.dim)
    for initializer in model.graph.initializer:
        values.types[initializer.name] = initializer.data_type
        values.ranks[initializer.name] = len(initializer.dims)
    return values


def fault(model: ModelProto) -> str | None:
    """What ONNX's own checker has against *model*, or None."""
    light, _ = without_weights(model)
    try:
        onnx.checker.check_model(light, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return str(error).strip().splitlines()[0]
    return None


def match_nodes(graph: GraphProto, patterns: Sequence[str]) -> dict[str, set[str]]:
    """Names of the nodes of *graph* that each of the fnmatch *patterns* (or exact names) matches."""
    names = [node.name for node in graph.node]
    return {p: {name for name in names if name == p or fnmatchcase(name, p)} for p in patterns}


def refuse_unknown(pattern: str, names: Iterable[str], source: Path) -> LoweringError:
    """The error for an exclusion *pattern* that is none of the node *names*, with those that come close."""
    every = sorted(set(names))
    close = difflib.get_close_matches(pattern, every, n=3, cutoff=0.5)
    return LoweringError(
        f"exclude names no node of the model: '{pattern}'",
        where=source,
        expected="a node's name, or a pattern such as 'Conv_*'",
        found=f"{len(every)} nodes, " + (", ".join(every[:3]) + " …" if len(every) > 3 else ", ".join(every)),
        hint="did you mean " + " or ".join(f"'{name}'" for name in close) + "?" if close else None,
    )


def drop_unused(graph: GraphProto) -> None:
    """Removes initializers that nothing reads."""
    used = consumers(graph)
    kept = [tensor for tensor in graph.initializer if used[tensor.name]]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def without_weights(model: ModelProto) -> tuple[ModelProto, list[TensorProto]]:
    """A copy whose large weights are declared as inputs (protobuf ends at 2 GB), and those weights."""
    light = ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.metadata_props.extend(model.metadata_props)
    light.graph.name = model.graph.name
    for part in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(light.graph, part).extend(getattr(model.graph, part))
    weights = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= _WEIGHT_ELEMENTS:
            weights.append(tensor)
            light.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        else:
            light.graph.initializer.append(tensor)
    return light, weights
