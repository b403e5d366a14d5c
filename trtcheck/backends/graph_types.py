"""Which type every tensor of an ONNX graph has, and whether any of them is narrower than FP32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import onnx
import onnx.shape_inference
from onnx import TensorProto, defs, helper, inliner

from trtcheck.errors import EngineError

NARROW = {int(TensorProto.FLOAT16): "FP16", int(TensorProto.BFLOAT16): "BF16"}
"""The element types that are emulated, with the names that people use for them."""

TYPE_ATTRIBUTES = frozenset(
    {"to", "dtype", "output_dtype", "output_datatype", "precision", "stash_type", "softmax_precision"}
)
"""Integer attributes that hold an element type, over all operators of ONNX."""

ELEMENTS = {
    f"tensor({name})": int(element)
    for name, element in {
        "float": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
        "bfloat16": TensorProto.BFLOAT16,
        "double": TensorProto.DOUBLE,
        "bool": TensorProto.BOOL,
        "string": TensorProto.STRING,
        **{
            f"{sign}int{bits}": TensorProto.DataType.Value(f"{sign}int{bits}".upper())
            for sign in ("", "u")
            for bits in (8, 16, 32, 64)
        },
    }.items()
}
"""Element types by the names that ONNX schemas and ONNX Runtime give them."""

Ask = Callable[[onnx.ModelProto, Collection[str]], Mapping[str, int]]
"""Tells the element types of a model's tensors by name, those that it knows."""

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that *node* carries (branches of If, bodies of Loop and Scan)."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def walk(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """*graph* and every graph inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from walk(inner)


def unused_suffix(model: onnx.ModelProto, stem: str) -> str:
    """A suffix that begins with *stem* and that no name of *model* contains."""
    names = [
        name
        for graph in walk(model.graph)
        for part in (graph.node, graph.input, graph.initializer, graph.output)
        for item in part
        for name in (item.name, *getattr(item, "output", ()))
    ]
    while any(stem in name for name in names):
        stem += "_"
    return stem


def name_of(node: onnx.NodeProto) -> str:
    """What to call *node* in a message: its name, or its operator and first output where it has none."""
    return node.name or f"{node.op_type} (output '{next(iter(node.output), '')}')"


class Types:
    """The types of the tensors that one graph sees: its own, and those of the graphs around it."""

    def __init__(self, graph: onnx.GraphProto, outer: Types | None = None) -> None:
        self._outer = outer
        self._known: dict[str, onnx.TypeProto] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.WhichOneof("value"):
                # A copy: the emulation widens the graph's own entries while it still asks for these.
                self._known[value.name] = onnx.TypeProto.FromString(value.type.SerializeToString())
        for weight in graph.initializer:
            self._known[weight.name] = helper.make_tensor_type_proto(weight.data_type, list(weight.dims))
        for sparse in graph.sparse_initializer:
            kind = helper.make_tensor_type_proto(sparse.values.data_type, list(sparse.dims))
            self._known[sparse.values.name] = kind

    def get(self, name: str) -> onnx.TypeProto | None:
        """The type of tensor *name*, or None where it is unknown."""
        if name in self._known or self._outer is None:
            return self._known.get(name)
        return self._outer.get(name)

    def element(self, name: str) -> int:
        """The element type of tensor *name*; UNDEFINED where it is unknown or no plain tensor."""
        kind = self.get(name)
        if kind is None or not kind.HasField("tensor_type"):
            return int(TensorProto.UNDEFINED)
        return int(kind.tensor_type.elem_type)

    def known(self, name: str) -> bool:
        """Whether the type of tensor *name* is known; sequences, optionals and maps count as known."""
        kind = self.get(name)
        return kind is not None and not (kind.HasField("tensor_type") and not kind.tensor_type.elem_type)


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of *model* without local functions: their nodes stand where they were called."""
    if model.functions:
        flat: onnx.ModelProto = inliner.inline_local_functions(model)
        return flat
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that *node* reads, those of its subgraphs included."""
    yield from node.input
    for graph in subgraphs(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from reads(inner)


def _sort(graph: onnx.GraphProto) -> None:
    """Puts every node behind those that it reads from, else in the order of the file.

    ONNX asks for it; ONNX Runtime does not insist, and its own FP16 converter appends casts at the end.
    """
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order: dict[int, None] = {}
    for root in range(len(graph.node)):
        stack = [root]
        opened: set[int] = set()
        while stack:
            index = stack[-1]
            missing = [makers[n] for n in reads(graph.node[index]) if n in makers and makers[n] not in order]
            if index in order or not missing or index in opened:
                order.setdefault(stack.pop())
                continue
            opened.add(index)
            stack.extend(reversed(missing))
    nodes = [graph.node[index] for index in order]
    if list(order) != list(range(len(nodes))):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def typed(model: onnx.ModelProto, ask: Ask | None = None, *, check: bool = True) -> onnx.ModelProto:
    """A copy of *model*, sorted, functions inlined, that says the type of every tensor.

    Types come from ONNX shape inference. What a file itself says of its inner tensors is used only where
    inference knows nothing (a custom operator), for converters leave stale entries behind; what is unknown
    then is asked of the runtime, which knows its own contributed operators.

    Args:
        model: The model; it is not changed.
        ask: Asks the runtime; None where there is none to ask.
        check: Whether to refuse unknown types and nodes that mix float types.

    Raises:
        EngineError: The graph is wrongly typed, or the type of a tensor that is used stays unknown.
    """
    copy = inlined(model)
    for graph in walk(copy.graph):
        _sort(graph)
    declared = {value.name: value for value in copy.graph.value_info if value.type.WhichOneof("value")}
    copy.graph.ClearField("value_info")
    copy = _inferred(copy)
    if unknown := _unknown(copy):
        copy.graph.value_info.extend(declared[name] for name in unknown if name in declared)
        copy = _inferred(copy)
    if ask is not None and (unknown := _unknown(copy)):
        told = ask(copy, {name for node in copy.graph.node for name in node.output if name})
        copy.graph.value_info.extend(
            helper.make_tensor_value_info(name, told[name], None) for name in unknown if name in told
        )
        copy = _inferred(copy)
    if check:
        _check(copy.graph, None, copy)
    return copy


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise EngineError("the types of the lowered model contradict each other", found=error) from error


def _unknown(model: onnx.ModelProto) -> list[str]:
    """The tensors of the main graph whose type is unknown."""
    types = Types(model.graph)
    return [name for node in model.graph.node for name in node.output if name and not types.known(name)]


def _check(graph: onnx.GraphProto, outer: Types | None, model: onnx.ModelProto) -> None:
    types = Types(graph, outer)
    used = {value.name for value in graph.output}
    used.update(name for part in walk(graph) for node in part.node for name in node.input)
    opsets = {opset.domain.removeprefix("ai.onnx"): opset.version for opset in model.opset_import}
    for node in graph.node:
        unknown = [name for name in node.output if name in used and name and not types.known(name)]
        if unknown:
            raise EngineError(
                f"the type of tensor '{unknown[0]}' is unknown, so it cannot be rounded as hardware does",
                where=name_of(node),
                expected="an operator that ONNX or ONNX Runtime knows, or the type in the file's value_info",
                found=f"operator {node.domain or 'ai.onnx'}::{node.op_type}",
            )
        _check_mix(node, types, opsets)
        for inner in subgraphs(node):
            _check(inner, types, model)


def _check_mix(node: onnx.NodeProto, types: Types, opsets: dict[str, int]) -> None:
    """Refuses a node that mixes float types where its operator asks for one.

    Held in FP32 such a node would run, and the emulation would approve a file that no TensorRT parses.
    """
    domain = node.domain.removeprefix("ai.onnx")
    version = opsets.get(domain, 1)
    if not defs.has(node.op_type, version, domain):
        return
    schema = defs.get_schema(node.op_type, version, domain)
    bound: dict[str, tuple[int, str]] = {}
    for actual, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, name in enumerate(actual):
            element = types.element(name) if name and formals else TensorProto.UNDEFINED
            formal = formals[min(index, len(formals) - 1)] if formals else None
            if formal is None or not formal.is_homogeneous or element not in _FLOATS:
                continue
            expected = ELEMENTS.get(formal.type_str)
            if expected is None and not formal.type_str.startswith(("tensor(", "seq(", "optional(")):
                expected, _ = bound.setdefault(formal.type_str, (element, name))
            if expected is not None and expected != element:
                other = bound.get(formal.type_str)
                raise EngineError(
                    f"the lowered model is wrongly typed: {node.op_type} mixes float types",
                    where=name_of(node),
                    expected=f"{_label(expected)}" + (f", as '{other[1]}'" if other else ""),
                    found=f"{_label(element)} in '{name}'",
                )


def _label(element: int) -> str:
    return str(TensorProto.DataType.Name(element))


def is_narrow(model: onnx.ModelProto) -> bool:
    """Whether any tensor of *model* is FP16 or BF16; weights need not be loaded.

    A narrow type can only enter through an input, a weight or an attribute.
    """
    return any(_introduces_narrow(graph) for graph in walk(inlined(model).graph))


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether *model* has QuantizeLinear or DequantizeLinear nodes."""
    marks = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    return any(node.op_type in marks for graph in walk(inlined(model).graph) for node in graph.node)


def _introduces_narrow(graph: onnx.GraphProto) -> bool:
    types = Types(graph)
    names = [*(v.name for v in (*graph.input, *graph.output)), *(w.name for w in graph.initializer)]
    names += [sparse.values.name for sparse in graph.sparse_initializer]
    return any(types.element(name) in NARROW for name in names) or any(
        (attribute.type == attribute.INT and attribute.name in TYPE_ATTRIBUTES and attribute.i in NARROW)
        or any(tensor.data_type in NARROW for tensor in (attribute.t, *attribute.tensors))
        for node in graph.node
        for attribute in node.attribute
    )


def narrow_border(model: onnx.ModelProto) -> list[str]:
    """The BF16 inputs and outputs of *model*."""
    types = Types(model.graph)
    names = dict.fromkeys(value.name for value in (*model.graph.input, *model.graph.output))
    weights = {weight.name for weight in model.graph.initializer}
    return [n for n in names if types.element(n) == TensorProto.BFLOAT16 and n not in weights]
