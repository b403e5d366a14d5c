"""What TensorRT's parser made of an ONNX model: its layers, and the precision of each product.

In a strongly typed network the types of its layers decide, and they can be read without a GPU. The functions
take the bindings' objects and are run in the child process that builds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from trtcheck.backends.graph_types import name_of, walk
from trtcheck.backends.products import PRODUCTS

if TYPE_CHECKING:
    import onnx

TYPES = {
    "FLOAT": "FLOAT", "HALF": "FLOAT16", "BF16": "BFLOAT16", "INT8": "INT8", "INT32": "INT32",
    "INT64": "INT64", "BOOL": "BOOL", "UINT8": "UINT8", "FP8": "FLOAT8E4M3FN", "INT4": "INT4",
    "FP4": "FLOAT4E2M1", "E8M0": "FLOAT8E8M0",
}  # fmt: skip
"""ONNX's names of element types by TensorRT's."""

_MULTIPLIES = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"})
_PASSES_ON = frozenset({"SHUFFLE", "IDENTITY", "SQUEEZE", "UNSQUEEZE"})
_PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
_WIDEST_FIRST = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")

_METADATA = re.compile(r"\[ONNX Layer: (.+?)\](?=\s*(\[|$))")

DEPTHWISE = (
    "the graph asks for INT8, but TensorRT is known to run depthwise convolutions in a wider type where it "
    "has no faster kernel"
)


def facts(network: Any, model: onnx.ModelProto, *, tf32: bool) -> dict[str, Any]:
    """What a parsed *network* is made of, JSON-ready.

    Args:
        network: An ``INetworkDefinition``.
        model: The ONNX model it was parsed from; weights need not be loaded.
        tf32: Whether products of FP32 tensors may read their inputs as TF32.

    Returns:
        ``nodes``, ``types`` and ``computes`` as `trtcheck.backends.base.Backend.build` has them (constants
        are not counted), ``layers`` (by TensorRT's type of layer), ``depthwise`` (names of depthwise
        convolutions that compute in INT8) and ``notes``.
    """
    layers = [layer for layer in network if layer.type.name != "CONSTANT"]
    makers = _makers(layers)
    origins = _Origins(model)
    products = [
        (layer, origin, precision)
        for layer in layers
        if layer.type.name in _MULTIPLIES
        and (origin := origins.of(layer)) is not None
        and (precision := _precision(layer, makers, tf32=tf32)) is not None
    ]
    depthwise = [
        origin.name
        for layer, origin, precision in products
        if precision == "int8" and _is_depthwise(layer, origin)
    ]
    types = Counter(kind for layer in layers for kind in _result_types(layer))
    quantized = sum(precision == "int8" for _, _, precision in products)
    return {
        "nodes": len(layers),
        "types": {**dict(sorted(types.items())), "quantized": quantized},
        "layers": dict(sorted(Counter(layer.type.name for layer in layers).items())),
        "computes": _by_node((origin, precision) for _, origin, precision in products),
        "depthwise": depthwise,
        "notes": [f"{DEPTHWISE}: {', '.join(depthwise)}"] if depthwise else [],
    }


class _Origin(NamedTuple):
    """The ONNX node that a layer was made from: its name, and operator and groups where they are known."""

    name: str
    operator: str | None = None
    groups: int = 1


class _Origins:
    """ONNX nodes by the names that the parser gives them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._known = {
            # The parser calls a node without a name after its first output.
            node.name or f"node_of_{next(iter(node.output), '')}": _Origin(
                name_of(node), node.op_type, next((a.i for a in node.attribute if a.name == "group"), 1)
            )
            for graph in walk(model.graph)
            for node in graph.node
        }

    def of(self, layer: Any) -> _Origin | None:
        """The node that *layer* is the work of; None for a layer inside of a node of another kind.

        The layers inside of GRU, LSTM and RNN name no node.
        """
        found = _METADATA.search(layer.metadata or "")
        if found is None:
            return self._known.get(layer.name)
        name = found.group(1)
        # Inside of an If the parser appends the branch: "NAME | GRAPH (then_branch) | IF (If)".
        known = self._known.get(name) or self._known.get(name.partition(" | ")[0])
        return known or _Origin(name)


def _by_node(products: Iterable[tuple[_Origin, str]]) -> dict[str, str]:
    """The precision of every product of ONNX by name; the widest where several layers share a name."""
    found: dict[str, str] = {}
    for origin, precision in products:
        if origin.operator is None or origin.operator in PRODUCTS:
            found[origin.name] = min(precision, found.get(origin.name, precision), key=_width)
    return found


def _width(precision: str) -> int:
    return _WIDEST_FIRST.index(precision) if precision in _WIDEST_FIRST else len(_WIDEST_FIRST)


def _makers(layers: Iterable[Any]) -> dict[str, Any]:
    """The layer that makes each tensor, by the tensor's name."""
    return {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}


def _result_types(layer: Any) -> set[str]:
    kinds = {layer.get_output(index).dtype.name for index in range(layer.num_outputs)}
    return {TYPES.get(kind, kind) for kind in kinds}


def _precision(layer: Any, makers: Mapping[str, Any], *, tf32: bool) -> str | None:
    """The precision that a product computes in; None for one of integers."""
    sources = [_quantized_type(layer, index, makers) for index in (0, 1)]
    if sources[0] is not None and sources[1] is not None:
        return max(sources[0], sources[1]).lower()  # FP8 and INT8 do not meet in one product
    kind = _PRECISIONS.get(layer.get_input(0).dtype.name)
    return "tf32" if kind == "fp32" and tf32 else kind


def _quantized_type(layer: Any, index: int, makers: Mapping[str, Any]) -> str | None:
    """The type that an input of *layer* was dequantized from; None if it was not."""
    tensor = layer.get_input(index) if index < layer.num_inputs else None
    while tensor is not None:
        maker = makers.get(tensor.name)
        if maker is None:
            return None
        if maker.type.name == "DEQUANTIZE":
            return str(maker.get_input(0).dtype.name)
        tensor = maker.get_input(0) if maker.type.name in _PASSES_ON else None
    return None


def _is_depthwise(layer: Any, origin: _Origin) -> bool:
    if layer.type.name != "CONVOLUTION" or origin.groups < 2:
        return False
    shape = tuple(layer.get_input(0).shape)
    return len(shape) > 1 and shape[1] == origin.groups
