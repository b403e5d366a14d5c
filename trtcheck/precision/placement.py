"""Decides which nodes of a graph may compute in a narrow type, and which of their tensors do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from trtcheck.precision.graph import DOMAINS, Values, captured, consumers, opset_of, subgraphs

FLOAT = TensorProto.FLOAT
QUANTIZED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that TensorRT computes in INT8."""

_TYPE_STRINGS: dict[int, str] = {
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
}
_SHAPE_SOURCES = ("Shape", "Size")
_INDIFFERENT = ("Cast", *_SHAPE_SOURCES)
"""Operators that take a tensor in whatever type it is: what they answer does not depend on it."""

_OWN_TYPE = frozenset(
    ("Bernoulli", "BlackmanWindow", "Constant", "EyeLike", "HammingWindow", "HannWindow", "MelWeightMatrix",
     "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "SequenceEmpty")
)  # fmt: skip

REFUSED: dict[int, frozenset[str]] = {TensorProto.BFLOAT16: frozenset(("GRU", "HardSwish", "Mish"))}
"""What ONNX allows in a narrow type and TensorRT's parser does not take, by docs/tensorrt_ops.md.

Products are not among them, for they have to be what was asked for, or fail.
"""

Slots = tuple[bool, ...]


@dataclass(frozen=True)
class Place:
    """Where one node computes.

    Attributes:
        narrow: Whether it computes in the narrow type.
        inputs: Per input, whether it takes the narrow type; None takes the tensor as it is.
        outputs: Per output, whether it is of the narrow type.
        reason: Why float work of the node stays wide, or None.
    """

    narrow: bool
    inputs: tuple[bool | None, ...]
    outputs: Slots
    reason: str | None = None


def has_float_work(node: NodeProto, types: Mapping[str, int]) -> bool:
    """Whether *node* computes with FP32 tensors, or with tensors of unknown type, which may be."""
    if node.op_type in _INDIFFERENT:
        return False
    return any(types.get(name) in (FLOAT, None) for name in (*node.input, *node.output) if name)


def place(model: ModelProto, values: Values, narrow: int, excluded: Collection[str]) -> list[Place]:
    """The place of each node of *model*, in graph order.

    Args:
        model: A prepared FP32 model, topologically sorted as ONNX demands.
        values: Types of its tensors.
        narrow: The narrow element type, FLOAT16 or BFLOAT16.
        excluded: Names of nodes that stay in FP32. What only reworks the result of such a node (an
            activation, a reduction, a factor) stays with it up to the next convolution, matrix product or
            meeting with another tensor: a sum too large for FP16 is not narrowed before it is scaled down.
    """
    graph = model.graph
    opset = opset_of(model)
    shapes = _shape_arithmetic(model)
    tail = _tails(model, values, excluded)
    places: list[Place] = []
    for node in graph.node:
        reason = _reason(node, values, excluded, shapes, tail)
        if reason is not None:
            places.append(_wide(node, reason))
        elif node.op_type in _INDIFFERENT:
            places.append(Place(False, (None,) * len(node.input), (False,) * len(node.output)))
        elif not has_float_work(node, values.types):
            places.append(_wide(node, None))
        else:
            inputs, outputs = _admitted(node, opset, values, narrow)
            kind = f"{_TYPE_STRINGS[narrow][7:-1]} {node.op_type}"
            if not any(inputs + outputs):
                places.append(_wide(node, f"ONNX opset {opset} has no {kind}"))
            elif node.op_type in REFUSED.get(narrow, ()):
                places.append(_wide(node, f"TensorRT does not take {kind}"))
            else:
                places.append(Place(True, inputs, outputs))
    _place_casts(model, places, shapes)
    return places


def _wide(node: NodeProto, reason: str | None) -> Place:
    return Place(False, (False,) * len(node.input), (False,) * len(node.output), reason)


def _reason(
    node: NodeProto, values: Values, excluded: Collection[str], shapes: set[str], tail: dict[str, str]
) -> str | None:
    if any(subgraphs(node)):
        return "has a subgraph"
    if node.op_type not in _INDIFFERENT and not has_float_work(node, values.types):
        return None
    if node.name in excluded:
        return "excluded"
    if node.domain not in DOMAINS:
        return f"is of the non-standard domain '{node.domain}'"
    if unknown := [name for name in (*node.input, *node.output) if name and name not in values.types]:
        return f"tensor '{unknown[0]}' is of unknown type"
    if node.name in tail:
        return f"reworks the result of '{tail[node.name]}', which is excluded"
    if node.op_type in _INDIFFERENT:
        return None
    if node.name in shapes:
        return "computes shapes"
    if node.op_type == "BatchNormalization":
        return "BatchNormalization whose parameters are computed or which is in training mode"
    if node.op_type in _OWN_TYPE:
        return f"{node.op_type} states its own type"
    return None


def _admitted(node: NodeProto, opset: int, values: Values, narrow: int) -> tuple[Slots, Slots]:
    """Which float inputs and outputs the operator's definition allows in the narrow type."""
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}

    def slots(names: list[str], formals: list[onnx.defs.OpSchema.FormalParameter]) -> Slots:
        answers = []
        for index, name in enumerate(names):
            formal = formals[min(index, len(formals) - 1)]
            types = allowed.get(formal.type_str, {formal.type_str})
            answers.append(bool(name) and values.types.get(name) == FLOAT and _TYPE_STRINGS[narrow] in types)
        return tuple(answers)

    inputs = slots(list(node.input), list(schema.inputs))
    outputs = slots(list(node.output), list(schema.outputs))
    if node.op_type == "LayerNormalization":  # mean and deviation come in stash_type, which is FLOAT
        outputs = (*outputs[:1], *(False for _ in outputs[1:]))
    return inputs, outputs


def _shape_arithmetic(model: ModelProto) -> set[str]:
    """Names of nodes that compute from shapes and constants only: sizes over 2048 need more than FP16."""
    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    derived: set[str] = set()
    nodes = set()
    for node in model.graph.node:
        inputs = (set(node.input) | captured(node)) - constants
        if node.op_type in _SHAPE_SOURCES or (inputs and inputs <= derived):
            derived.update(node.output)
            nodes.add(node.name)
    return nodes


def _tails(model: ModelProto, values: Values, excluded: Collection[str]) -> dict[str, str]:
    """The nodes that only rework the result of an excluded node, each with that node's name."""
    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    origin: dict[str, str] = {}
    tail: dict[str, str] = {}
    for node in model.graph.node:
        floats = [name for name in node.input if name not in constants and values.types.get(name) == FLOAT]
        if node.name in excluded:
            origin.update((name, node.name) for name in node.output)
        elif floats and origin.keys() >= set(floats) and _reworks(node):
            tail[node.name] = origin[floats[0]]
            origin.update((name, tail[node.name]) for name in node.output)
    return tail


def _reworks(node: NodeProto) -> bool:
    if node.op_type == "Cast":
        return _cast_to(node) == FLOAT
    return node.op_type not in (*QUANTIZED_OPS, *_SHAPE_SOURCES)


def _place_casts(model: ModelProto, places: list[Place], shapes: set[str]) -> None:
    """Lets a Cast to FLOAT go to the narrow type where all that reads its result is narrow."""
    graph = model.graph
    used = consumers(graph)
    narrow_uses: dict[str, int] = {}
    for index in range(len(graph.node) - 1, -1, -1):
        node, spot = graph.node[index], places[index]
        if node.op_type == "Cast" and spot.reason is None and _cast_to(node) == FLOAT:
            output = node.output[0]
            if node.name not in shapes and 0 < used[output] == narrow_uses.get(output, 0):
                places[index] = spot = Place(True, (None,), (True,))
                narrow_uses[node.input[0]] = narrow_uses.get(node.input[0], 0) + 1
        for name, takes_narrow in zip(node.input, spot.inputs, strict=True):
            if takes_narrow:
                narrow_uses[name] = narrow_uses.get(name, 0) + 1


def _cast_to(node: NodeProto) -> int:
    return next(int(a.i) for a in node.attribute if a.name == "to")
