"""Reads an ONNX model of any age into the one shape that lowering works on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
import onnx.version_converter
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from trtcheck import model as models
from trtcheck.errors import LoweringError
from trtcheck.precision.graph import (
    DOMAINS,
    all_nodes,
    attribute,
    drop_unused,
    opset_of,
    subgraphs,
    unique,
    without_weights,
)

OLDEST_OPSET = 13
OLDEST_IR = 8
_FOLDABLE = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def read(source: Path, opset: int) -> ModelProto:
    """Reads the model at *source* with unique node names, functions inlined, weights as initializers.

    A node keeps the name it has; one without a name becomes ``<OpType>_<index in the graph>``, and of nodes
    that share a name the later ones get a number behind it.

    Raises:
        ModelError: The file cannot be read.
        LoweringError: The model cannot be lifted to *opset*.
    """
    model = models.load(source)
    _name_nodes(model.graph)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
        _name_nodes(model.graph)
    weights = {t.name for t in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    _open_dimensions(model.graph)
    model.ir_version = max(model.ir_version, OLDEST_IR)
    model = lift(model, max(opset, OLDEST_OPSET), source)
    _constants_to_initializers(model.graph)
    _fold_constants(model.graph)
    return model


def lift(model: ModelProto, opset: int, source: Path) -> ModelProto:
    """The *model* in operator set *opset* or the later one that it has, with the IR version that this needs.

    Raises:
        LoweringError: An operator of the model has no successor there.
    """
    before = opset_of(model)
    if before < opset:
        light, weights = without_weights(model)
        try:
            lifted = onnx.version_converter.convert_version(light, opset)
        except (onnx.version_converter.ConvertError, RuntimeError, ValueError, IndexError) as error:
            raise LoweringError(
                f"cannot be lifted from opset {before} to {opset}",
                where=source,
                found=str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__,
                hint=f"export the model again with opset {opset}",
            ) from error
        # The converter turns "rank unknown" into "scalar": take the declarations from the original.
        for part in ("input", "output", "value_info"):
            declared = getattr(lifted.graph, part)
            del declared[:]
            declared.extend(getattr(model.graph, part))
        lifted.graph.initializer.extend(weights)
        model = lifted
        _name_nodes(model.graph)
    model.ir_version = max(model.ir_version, helper.find_min_ir_version_for(model.opset_import, True))
    return model


def _open_dimensions(graph: GraphProto) -> None:
    """Leaves dimensions unnamed that are written as -1 or "?".

    TensorRT takes two dimensions of one name for equal, and so refuses images that are not square.
    """
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0 or dim.dim_param == "?":
                dim.Clear()


def _name_nodes(graph: GraphProto) -> None:
    """Gives every node a name of its own, those inside If, Loop and Scan last."""
    inside = [inner for node in graph.node for body in subgraphs(node) for inner in all_nodes(body)]
    taken: set[str] = set()
    seen: set[str] = set()
    for nodes in (graph.node, inside):
        taken |= {node.name for node in nodes if node.name}
        for index, node in enumerate(nodes):
            if not node.name:
                node.name = unique(f"{node.op_type}_{index}", taken)
            elif node.name in seen:
                node.name = unique(node.name, taken)
            seen.add(node.name)


def _constant_of(node: NodeProto) -> TensorProto | None:
    value = node.attribute[0]
    if value.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(value.t)
        return tensor
    dtypes = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if value.name not in dtypes:
        return None
    return numpy_helper.from_array(np.array(helper.get_attribute_value(value), dtypes[value.name]))


def _constants_to_initializers(graph: GraphProto) -> None:
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        tensor = None
        if node.op_type == "Constant" and node.domain in DOMAINS and node.output[0] not in outputs:
            tensor = _constant_of(node)
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    _replace_nodes(graph, kept)


def _fold_constants(graph: GraphProto) -> None:
    """Evaluates what exporters put between a weight and its user: changes of layout, storage in FP16."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        foldable = node.op_type in _FOLDABLE or (
            node.op_type == "Cast" and attribute(node, "to", 0) == TensorProto.FLOAT
        )
        if not foldable or node.domain not in DOMAINS or node.output[0] in outputs:
            kept.append(node)
            continue
        if not all(name in constants for name in inputs):
            kept.append(node)
            continue
        feeds = {name: numpy_helper.to_array(constants[name]) for name in inputs}
        (array,) = onnx.reference.ReferenceEvaluator(node).run(None, feeds)
        constants[node.output[0]] = numpy_helper.from_array(np.asarray(array), node.output[0])
        graph.initializer.append(constants[node.output[0]])
    _replace_nodes(graph, kept)


def _replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    if len(nodes) < len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)
        drop_unused(graph)
