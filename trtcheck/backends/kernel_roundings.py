"""Where ONNX Runtime's CUDA kernels round to a narrow type inside one node of the graph.

Most of them compute in FP32 and round once. Some do not, as could be seen on an H100 (ONNX Runtime 1.31.1,
`benchmarks/fidelity_probe.py`; each formula gives the kernel's answer to the bit for all finite FP16 numbers,
or for all but one in a thousand where a sum's order is open):

- QuantizeLinear divides in the type of the scale, as ONNX says: the quotient is rounded, then once more to an
  integer.
- Conv and ConvTranspose round the sum of products, then add the bias and round again.
- HardSwish is computed in four steps, each of which rounds: ``x * (1 / 6)``, ``+ 1 / 2``, clipped, ``* x``.
- HardSigmoid and LeakyRelu hold their attributes in the narrow type.
- Softplus rounds after each of its steps, and with it Mish, which ONNX defines by it: both are 0 in FP16 for
  x below -8. (Seen of Mish; the formula gives its distance from one rounding, .732879 equal, to the digit.)
- A MatMul whose only reader is an Add becomes a Gemm, which rounds once. Observed of matrices; products of
  more axes are left alone, for ONNX Runtime joins these only where every size is fixed.

For a network that goes on in INT8 this decides: any one of the first three, left out, changes as many answers
as quantization itself does (docs/decisions.md).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.graph_types import NARROW, Types, reads, subgraphs, unused_suffix

_WITH_BIAS = frozenset({"Conv", "ConvTranspose"})
_HELD_NARROW = {"HardSigmoid": {"alpha": 0.2, "beta": 0.5}, "LeakyRelu": {"alpha": 0.01}}
"""Attributes that a kernel rounds to its tensors' type, with ONNX's defaults."""
_OPSET_OF_BROADCASTS = 7
"""From here on Add and Gemm spread a bias by themselves."""


def write_out(model: onnx.ModelProto) -> None:
    """Turns nodes that round inside into nodes that round at their ends; in place, subgraphs included.

    A product and a sum that round as one become a Gemm. All other results keep their names; what is added
    carries a suffix of its own. What cannot be written out (a tensor of unknown rank, blocks of scales) stays
    as it is.

    Args:
        model: A model as `trtcheck.backends.graph_types.typed` returns it, with its weights loaded.
    """
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if opset >= _OPSET_OF_BROADCASTS:
        _Writer(unused_suffix(model, "__steps")).rewrite(model.graph, None)


class _Writer:
    """Rewrites one model."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix

    def rewrite(self, graph: onnx.GraphProto, outer: Types | None) -> None:
        types = Types(graph, outer)
        nodes: list[onnx.NodeProto] = []
        for node in _joined(graph, types):
            for inner in subgraphs(node):
                self.rewrite(inner, types)
            steps = self._steps(node, types, graph) if node.domain in ("", "ai.onnx") else [node]
            nodes += [onnx.NodeProto.FromString(step.SerializeToString()) for step in steps]
        del graph.node[:]
        graph.node.extend(nodes)

    def _steps(self, node: onnx.NodeProto, types: Types, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
        element = types.element(node.input[0]) if node.input else TensorProto.UNDEFINED
        if element not in NARROW:
            return [node]
        step = _Steps(node, element, self._suffix, graph)
        if node.op_type == "QuantizeLinear" and types.element(node.input[1]) == element:
            return self._quotient(node, types, step)
        if node.op_type in _WITH_BIAS and len(node.input) > 2 and node.input[2]:
            return self._bias(node, types, step)
        if node.op_type == "HardSwish":
            return self._hard_swish(node, step)
        if node.op_type in ("Softplus", "Mish"):
            return self._softplus(node, step)
        if node.op_type in _HELD_NARROW:
            return [_narrow_attributes(node, element)]
        return [node]

    def _quotient(self, node: onnx.NodeProto, types: Types, step: _Steps) -> list[onnx.NodeProto]:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        rank, scale = _rank(node.input[0], types), _shape(node.input[1], types)
        wide = attributes.get("precision") or step.element
        if rank is None or scale is None or attributes.get("block_size") or wide != step.element:
            return [node]
        divisor = node.input[1]
        if scale:
            axis = attributes.get("axis", 1) % rank if scale != [1] else 0
            sizes = [-1 if k == axis else 1 for k in range(rank)]
            divisor = step.add("Reshape", [divisor, step.constant("sizes", np.array(sizes, np.int64))], "by")
        quotient = step.add("Div", [node.input[0], divisor], "quotient")
        last = onnx.NodeProto.FromString(node.SerializeToString())
        last.input[0] = quotient
        last.input[1] = step.constant("one", np.ones(scale, np.float32), step.element)
        return [*step.made, last]

    def _bias(self, node: onnx.NodeProto, types: Types, step: _Steps) -> list[onnx.NodeProto]:
        rank = _rank(node.output[0], types) or _rank(node.input[1], types)
        if rank is None:
            return [node]
        first = onnx.NodeProto.FromString(node.SerializeToString())
        first.output[0] = step.declare("sum", step.element)
        bias = first.input.pop()
        step.made.append(first)
        sizes = step.constant("sizes", np.array([1, -1, *[1] * (rank - 2)], np.int64))
        bias = step.add("Reshape", [bias, sizes], "bias")
        return [*step.made, step.last("Add", [first.output[0], bias])]

    def _hard_swish(self, node: onnx.NodeProto, step: _Steps) -> list[onnx.NodeProto]:
        x = node.input[0]
        wide = step.cast(x, "wide", TensorProto.FLOAT)
        # The factor is not rounded: it stays FP32, and the product alone becomes narrow.
        product = step.declare("wide_product", TensorProto.FLOAT)
        sixth = step.constant("sixth", np.array(1 / 6, np.float32))
        step.made.append(helper.make_node("Mul", [wide, sixth], [product], name=product))
        product = step.cast(product, "product", step.element)
        shifted = step.add("Add", [product, step.value("half", 0.5)], "shifted")
        clipped = step.add("Clip", [shifted, step.value("zero", 0.0), step.value("one", 1.0)], "clipped")
        return [*step.made, step.last("Mul", [x, clipped])]

    def _softplus(self, node: onnx.NodeProto, step: _Steps) -> list[onnx.NodeProto]:
        """``max(x, 0) + log(exp(-abs(x)) + 1)``, and for Mish ``x`` times its tanh."""
        x = node.input[0]
        power = step.add("Exp", [step.add("Neg", [step.add("Abs", [x], "size")], "negative")], "power")
        logarithm = step.add("Log", [step.add("Add", [power, step.value("one", 1.0)], "shifted")], "log")
        terms = [step.add("Relu", [x], "positive"), logarithm]
        if node.op_type == "Softplus":
            return [*step.made, step.last("Add", terms)]
        tanh = step.add("Tanh", [step.add("Add", terms, "softplus")], "tanh")
        return [*step.made, step.last("Mul", [x, tanh])]


class _Steps:
    """The nodes that one node becomes; what they make in between is declared in the graph."""

    def __init__(self, node: onnx.NodeProto, element: int, suffix: str, graph: onnx.GraphProto) -> None:
        self.element = element
        self.made: list[onnx.NodeProto] = []
        self._node = node
        self._stem = f"{node.output[0]}{suffix}"
        self._graph = graph

    def add(self, op: str, inputs: list[str], role: str) -> str:
        """Appends a node whose result is of the narrow type; returns its name."""
        name = self.declare(role, self.element)
        self.made.append(helper.make_node(op, inputs, [name], name=name))
        return name

    def cast(self, source: str, role: str, element: int) -> str:
        """Appends a cast to *element*; returns the name of its result."""
        name = self.declare(role, element)
        self.made.append(helper.make_node("Cast", [source], [name], name=name, to=element))
        return name

    def last(self, op: str, inputs: list[str]) -> onnx.NodeProto:
        """The node that makes the original's result."""
        return helper.make_node(op, inputs, [self._node.output[0]], name=f"{self._stem}_last")

    def declare(self, role: str, element: int) -> str:
        """The name of a tensor in between."""
        name = f"{self._stem}_{role}"
        self._graph.value_info.append(helper.make_tensor_value_info(name, element, None))
        return name

    def constant(self, role: str, array: np.ndarray, element: int | None = None) -> str:
        """The name of a constant, rounded to *element* where that is named."""
        name = f"{self._stem}_{role}"
        if element is None:
            tensor = numpy_helper.from_array(array, name)
        else:
            tensor = numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(element)), name)
        self._graph.initializer.append(tensor)
        return name

    def value(self, role: str, number: float) -> str:
        """The name of a scalar of the narrow type."""
        return self.constant(role, np.array(number, np.float32), self.element)


def _narrow_attributes(node: onnx.NodeProto, element: int) -> onnx.NodeProto:
    defaults = _HELD_NARROW[node.op_type]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    copy = onnx.NodeProto.FromString(node.SerializeToString())
    del copy.attribute[:]
    narrow = helper.tensor_dtype_to_np_dtype(element)
    for name, value in {**defaults, **given}.items():
        held = float(np.float32(value).astype(narrow)) if name in defaults else value
        copy.attribute.append(helper.make_attribute(name, held))
    return copy


def _joined(graph: onnx.GraphProto, types: Types) -> list[onnx.NodeProto]:
    """The nodes of *graph*; a narrow MatMul whose only reader is an Add is one Gemm with it."""
    readers = Counter(name for node in graph.node for name in reads(node))
    readers.update(value.name for value in graph.output)
    products = {
        node.output[0]: node
        for node in graph.node
        if _is(node, "MatMul") and readers[node.output[0]] == 1 and types.element(node.input[0]) in NARROW
    }
    gemms: dict[str, onnx.NodeProto] = {}
    joined: set[str] = set()
    for node in graph.node:
        for name, bias in zip(node.input, reversed(node.input), strict=True) if _is(node, "Add") else ():
            if name in products and _is_bias(bias, products[name], types):
                factors = products.pop(name).input
                gemms[node.output[0]] = helper.make_node(
                    "Gemm", [*factors, bias], [node.output[0]], name=node.name
                )
                joined.add(name)
                break
    left = [node for node in graph.node if joined.isdisjoint(node.output)]
    return [gemms.get(node.output[0], node) if node.output else node for node in left]


def _is(node: onnx.NodeProto, op: str) -> bool:
    """Whether *node* is ONNX's own operator *op*."""
    return node.op_type == op and node.domain in ("", "ai.onnx")


def _is_bias(name: str, product: onnx.NodeProto, types: Types) -> bool:
    """Whether a Gemm of *product*'s matrices can add tensor *name*: of a row's or of the product's size."""
    left, right, bias = (_sizes(tensor, types) for tensor in (*product.input, name))
    if left is None or right is None or bias is None or len(left) != 2 or len(right) != 2:
        return False
    high, wide = left[0], right[1]
    return wide is not None and (
        bias in ([wide], [1, wide]) or (high is not None and bias in ([high, 1], [high, wide]))
    )


def _sizes(name: str, types: Types) -> list[int | str | None] | None:
    """The size or the name of each axis of tensor *name*, None for one that has neither."""
    kind = types.get(name)
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in kind.tensor_type.shape.dim
    ]


def _shape(name: str, types: Types) -> list[int] | None:
    """The shape of tensor *name*, None where any of it is unknown."""
    sizes = _sizes(name, types)
    numbers = [size for size in sizes or () if isinstance(size, int)]
    return numbers if sizes is not None and len(numbers) == len(sizes) else None


def _rank(name: str, types: Types) -> int | None:
    """The number of axes of tensor *name*, None where it is unknown."""
    sizes = _sizes(name, types)
    return None if sizes is None else len(sizes)
