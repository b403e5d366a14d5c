"""FP16, BF16 and TF32 on a processor without them: any lowered graph, rounded as hardware rounds.

ONNX Runtime's CPU provider computes FP16 graphs in FP32 and rounds only where it must, so a product of
160 000 comes back finite. Here every narrow tensor is held as FP32, and a pair of casts (to the narrow type
and back) follows every node that makes one. ONNX Runtime keeps such a pair at every optimization level, and
it rounds to nearest even, with infinities, subnormals and NaN, as numpy and ml_dtypes do
(tests/test_emulation_rounding.py).

A node's inside is computed in FP32 and rounded once, but where ONNX Runtime's GPU kernels round within it
(`trtcheck.backends.kernel_roundings`); TensorRT may keep the inside of a fused group wider. TF32 rounds what
a node reads, see `trtcheck.backends.tf32`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from trtcheck.backends.graph_types import (
    NARROW,
    TYPE_ATTRIBUTES,
    Ask,
    Types,
    is_narrow,
    is_quantized,
    name_of,
    typed,
    unused_suffix,
)
from trtcheck.backends.kernel_roundings import write_out
from trtcheck.backends.products import multiplies_fp32
from trtcheck.backends.tf32 import round_factors
from trtcheck.errors import EngineError

# An operator that reads the bits of a narrow value: the FP32 value that stands for it has other bits.
_READS_BITS = frozenset({"BitCast"})

# Operators that hand on values of their inputs, or their negatives: what was narrow stays narrow unrounded.
# Clip is one from the opset on that gives its bounds as tensors, which are narrow themselves.
_HANDS_ON = frozenset(
    {
        "Abs", "Concat", "DepthToSpace", "Flatten", "Gather", "GlobalMaxPool", "Identity", "Max", "MaxPool",
        "Min", "Neg", "Relu", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
_HANDS_ON_BETWEEN_TENSORS = frozenset({"Clip"})


def needs_emulation(model: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime's CPU provider needs `emulate` to compute *model* as hardware would.

    True for any FP16 or BF16 tensor, and for Q/DQ nodes, which must be executed as written.
    """
    return is_narrow(model) or is_quantized(model)


def is_emulated(model: onnx.ModelProto, *, tf32: bool) -> bool:
    """Whether `emulate` is needed to compute *model* as hardware would; weights need not be loaded.

    Args:
        model: A lowered model.
        tf32: Whether products of FP32 tensors read their inputs as TF32.
    """
    return needs_emulation(model) or (tf32 and multiplies_fp32(typed(model, check=False)))


def emulate(model: onnx.ModelProto, ask: Ask | None = None, *, tf32: bool = False) -> onnx.ModelProto:
    """The FP32 graph that answers as *model* would on hardware with its narrow types.

    Inputs and outputs keep names and types, but for BF16, which ONNX Runtime cannot exchange with numpy: such
    an input or output is declared FP32 and rounded to BF16 at the border. All names survive, but for a
    product that a Gemm swallows; what is added carries a suffix of its own.

    Args:
        model: A lowered model, whoever made it, with its weights loaded. It is not changed.
        ask: As of `trtcheck.backends.graph_types.typed`.
        tf32: Whether products of FP32 tensors read their inputs as TF32.

    Raises:
        EngineError: A type is unknown or contradictory, or an operator cannot be emulated.
    """
    return transform(model, ask, tf32=tf32, kernels=True).model


@dataclass(frozen=True)
class Emulation:
    """An emulated graph and the way back to the graph it came from.

    Attributes:
        model: The emulated graph.
        source: The lowered graph, local functions inlined and types filled in.
        exact: Names of the values before rounding, by the name of the narrow tensor (main graph only).
        suffix: What sets every added name apart; no name of the lowered graph contains it.
    """

    model: onnx.ModelProto
    source: onnx.ModelProto
    exact: Mapping[str, str]
    suffix: str


def transform(
    model: onnx.ModelProto, ask: Ask | None = None, *, tf32: bool = False, kernels: bool = False
) -> Emulation:
    """As `emulate`, with the names that a diagnosis needs.

    Args:
        model: As of `emulate`.
        ask: As of `emulate`.
        tf32: As of `emulate`.
        kernels: Whether nodes round inside as the kernels of a GPU do. A diagnosis looks at the results of
            whole nodes, before they are rounded, and does without.
    """
    source = typed(model, ask)
    if tf32:
        round_factors(source)
    result = onnx.ModelProto()
    result.CopyFrom(source)
    if kernels:
        write_out(result)
    # Before version 4 every weight had to be listed as an input, and could be fed.
    result.ir_version = max(result.ir_version, 4)
    work = _Emulator(unused_suffix(source, "__emulated"))
    work.main_graph(result.graph)
    return Emulation(result, source, work.exact, work.suffix)


@dataclass
class _Emulator:
    """Rewrites one model in place.

    ``held`` maps a tensor to the FP32 tensor that stands for it, where the two differ in name: the narrow
    inputs and outputs of the main graph, whose own names belong to the border.
    """

    suffix: str
    exact: dict[str, str] = field(default_factory=dict)

    def main_graph(self, graph: onnx.GraphProto) -> None:
        types = Types(graph)
        weights = {weight.name for weight in graph.initializer}
        graph.ClearField("value_info")
        kept = [value for value in graph.input if value.name not in weights]
        del graph.input[:]
        graph.input.extend(kept)
        held: dict[str, str] = {}
        nodes: list[onnx.NodeProto] = []
        for value in graph.input:
            self._enter(value, types, held, nodes)
        narrow_outputs = [value for value in graph.output if self._leaves_narrow(value, types)]
        made = {name for node in graph.node for name in node.output}
        held.update({v.name: self._name(v.name, "fp32") for v in narrow_outputs if v.name in made | weights})
        for weight in graph.initializer:
            _widen_tensor(weight)
            if weight.name in held:
                nodes.append(self._cast(held[weight.name], weight.name, types.element(weight.name)))
                weight.name = held[weight.name]
        for node in graph.node:
            nodes += self._node(node, types, held, record=True)
        self._replace(graph, nodes)

    def inner_graph(self, graph: onnx.GraphProto, outer: Types, held: Mapping[str, str]) -> None:
        types = Types(graph, outer)
        own = {value.name for value in graph.input} | {weight.name for weight in graph.initializer}
        own.update(name for node in graph.node for name in node.output)
        held = {name: new for name, new in held.items() if name not in own}
        graph.ClearField("value_info")
        for value in (*graph.input, *graph.output):
            _widen_type(value.type)
            value.name = held.get(value.name, value.name)
        for weight in graph.initializer:
            _widen_tensor(weight)
        self._replace(graph, [n for node in graph.node for n in self._node(node, types, held, record=False)])

    def _enter(
        self, value: onnx.ValueInfoProto, types: Types, held: dict[str, str], nodes: list[onnx.NodeProto]
    ) -> None:
        element = types.element(value.name)
        if element not in NARROW:
            self._refuse_composite(value)
            return
        held[value.name] = self._name(value.name, "fp32")
        if element == TensorProto.FLOAT16:
            nodes.append(self._cast(value.name, held[value.name], TensorProto.FLOAT))
        else:
            _widen_type(value.type)
            nodes += self._round(value.name, held[value.name], value.name, element)

    def _leaves_narrow(self, value: onnx.ValueInfoProto, types: Types) -> bool:
        """Whether the output stays FP16 at the border; a BF16 one is declared FP32."""
        element = types.element(value.name)
        if element == TensorProto.BFLOAT16:
            _widen_type(value.type)
        elif element != TensorProto.FLOAT16:
            self._refuse_composite(value)
        return element == TensorProto.FLOAT16

    def _refuse_composite(self, value: onnx.ValueInfoProto) -> None:
        if _widen_type(onnx.TypeProto.FromString(value.type.SerializeToString())):
            raise EngineError(
                f"'{value.name}' is no tensor",
                expected="tensors as inputs and outputs",
                found=value.type.WhichOneof("value"),
            )

    def _node(
        self, node: onnx.NodeProto, types: Types, held: Mapping[str, str], *, record: bool
    ) -> list[onnx.NodeProto]:
        if node.op_type in _READS_BITS and any(
            types.element(n) in NARROW for n in (*node.input, *node.output)
        ):
            raise EngineError(f"{node.op_type} of a narrow tensor cannot be emulated", where=name_of(node))
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for attribute in new.attribute:
            self._widen_attribute(attribute, types, held)
        for index, name in enumerate(new.input):
            new.input[index] = held.get(name, name)
        after: list[onnx.NodeProto] = []
        handed_on = _hands_on(node)
        for index, name in enumerate(node.output):
            element = types.element(name)
            if not name or element not in NARROW or (handed_on and name not in held):
                continue
            new.output[index] = exact = self._name(name, "exact")
            if record:
                self.exact[name] = exact
            if name in held:
                after.append(self._cast(exact, name, element))
                after.append(self._cast(name, held[name], TensorProto.FLOAT))
            else:
                after += self._round(exact, name, name, element)
        return [new, *after]

    def _round(self, exact: str, rounded: str, name: str, element: int) -> list[onnx.NodeProto]:
        narrow = self._name(name, "narrow")
        return [self._cast(exact, narrow, element), self._cast(narrow, rounded, TensorProto.FLOAT)]

    def _cast(self, source: str, target: str, element: int) -> onnx.NodeProto:
        name = target if self.suffix in target else self._name(target, "cast")
        return helper.make_node("Cast", [source], [target], name=name, to=element)

    def _name(self, name: str, role: str) -> str:
        return f"{name}{self.suffix}_{role}"

    def _widen_attribute(self, attribute: AttributeProto, types: Types, held: Mapping[str, str]) -> None:
        if attribute.type == AttributeProto.INT and attribute.name in TYPE_ATTRIBUTES:
            attribute.i = TensorProto.FLOAT if attribute.i in NARROW else attribute.i
        elif attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t)
        elif attribute.type == AttributeProto.TYPE_PROTO:
            _widen_type(attribute.tp)
        elif attribute.type == AttributeProto.GRAPH:
            self.inner_graph(attribute.g, types, held)
        elif attribute.type == AttributeProto.SPARSE_TENSOR:
            _widen_tensor(attribute.sparse_tensor.values)
        for tensor in attribute.tensors:
            _widen_tensor(tensor)
        for graph in attribute.graphs:
            self.inner_graph(graph, types, held)

    def _replace(self, graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
        for sparse in graph.sparse_initializer:
            _widen_tensor(sparse.values)
        del graph.node[:]
        graph.node.extend(nodes)


def _hands_on(node: onnx.NodeProto) -> bool:
    """Whether every result of *node* is a value that it was given, so that there is nothing to round."""
    if node.domain not in ("", "ai.onnx"):
        return False
    return node.op_type in _HANDS_ON or (node.op_type in _HANDS_ON_BETWEEN_TENSORS and not node.attribute)


def _widen_tensor(tensor: TensorProto) -> None:
    """Turns a narrow tensor into the FP32 tensor of the same values; every narrow value is an FP32 value."""
    if tensor.data_type in NARROW:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _widen_type(kind: onnx.TypeProto) -> bool:
    """Turns a narrow element type inside *kind* (a tensor, sequence, map) into FP32; says if it did."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(kind, which)
        narrow = tensor.elem_type in NARROW
        tensor.elem_type = TensorProto.FLOAT if narrow else tensor.elem_type
        return narrow
    if which in ("sequence_type", "optional_type"):
        return _widen_type(getattr(kind, which).elem_type)
    return which == "map_type" and _widen_type(kind.map_type.value_type)
