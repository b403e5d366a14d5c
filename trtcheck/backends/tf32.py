"""TF32 on a processor without it: both factors of every FP32 product rounded to 10 bits of mantissa.

A tensor core multiplies TF32 numbers exactly and sums in FP32, so that rounding the factors is the whole
difference. They are rounded to nearest, ties to even: so do cuBLAS 13 and cuDNN 9.19 on an H100 (seen with
products by one, half of the factors halfway between two TF32 numbers: every matrix product and all but one of
the convolutions that used TF32 at all; that one, 3 by 3 of 64 channels in NCHW, rounded ties away from zero,
and none cut the bits off). Products that do not suit a tensor core stayed in FP32 there: matrix times
vector, convolutions of three channels, some of 16, 32 and 48, and those that sum over a single channel
(depthwise ones, and the first of a network for grey images). Only the last are left in FP32 here: they have
nothing to put on a tensor core, whereas the others are cuDNN's choice, and another library's may differ. What
TensorRT does with its own kernels could not be seen.

The rounding is Veltkamp's splitting, three operations that ONNX Runtime leaves as they are at every
optimization level (tests/test_tf32.py). Magnitudes of 2**114 and more, whose splitting would overflow, pass
unrounded, as do infinities and NaN; subnormal numbers keep 11 significant bits, where TF32 has fewer.

Einsum, LSTM, GRU and RNN, which multiply inside, are left in FP32.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.graph_types import Types, name_of, reads, subgraphs, unused_suffix
from trtcheck.backends.products import is_fp32_product, makers_of
from trtcheck.errors import EngineError

_SPLIT = np.float32(2.0**13 + 1)
_TOO_LARGE = np.float32(2.0**114)
_OPSET_OF_WHERE = 9


def rounded(values: np.ndarray) -> np.ndarray:
    """FP32 *values* rounded as the emulated graph rounds them."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = values * _SPLIT
        split = shifted - (shifted - values)
    return np.where(np.abs(values) < _TOO_LARGE, split, values).astype(np.float32)


def round_factors(model: onnx.ModelProto) -> None:
    """Lets every FP32 product of *model* read rounded factors; in place, subgraphs included.

    Weights are rounded here and now. All names survive; what is added carries a suffix of its own.

    Args:
        model: A model as `trtcheck.backends.graph_types.typed` returns it, with its weights loaded.

    Raises:
        EngineError: The operator set of the model is too old.
    """
    work = _Rounder(model)
    work.rewrite(model.graph, None)
    if work.used:
        for name, value in ((work.split, _SPLIT), (work.limit, _TOO_LARGE)):
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))


class _Rounder:
    """Rewrites one model; ``used`` says whether any node was added."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self._makers = makers_of(model.graph)
        self._suffix = unused_suffix(model, "__tf32")
        self.split = f"split{self._suffix}"
        self.limit = f"limit{self._suffix}"
        self.used = False

    def rewrite(self, graph: onnx.GraphProto, outer: Types | None) -> None:
        types = Types(graph, outer)
        weights = {weight.name: weight for weight in graph.initializer}
        done: dict[str, str] = {}
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            for inner in subgraphs(node):
                self.rewrite(inner, types)
            if is_fp32_product(node, types, self._makers) and not _one_channel(node, types):
                for index in range(2):
                    name = node.input[index]
                    if name not in done:
                        done[name] = f"{name}{self._suffix}"
                        if name in weights:
                            array = rounded(numpy_helper.to_array(weights[name]))
                            graph.initializer.append(numpy_helper.from_array(array, done[name]))
                        else:
                            nodes += self._rounding(node, name, graph)
                    node.input[index] = done[name]
            nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        del graph.node[:]
        graph.node.extend(nodes)
        _drop_unread(graph, set(done) & set(weights))

    def _rounding(self, reader: onnx.NodeProto, name: str, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
        """The nodes that round tensor *name* for *reader*."""
        if self._opset < _OPSET_OF_WHERE:
            raise EngineError(
                "TF32 cannot be emulated in so old a model", where=name_of(reader),
                expected=f"opset {_OPSET_OF_WHERE} or later", found=f"opset {self._opset}",
            )  # fmt: skip
        self.used = True
        target = f"{name}{self._suffix}"
        steps = [
            ("Mul", [name, self.split], "shifted"),
            ("Sub", [f"{target}_shifted", name], "difference"),
            ("Sub", [f"{target}_shifted", f"{target}_difference"], "high"),
            ("Abs", [name], "magnitude"),
            ("Less", [f"{target}_magnitude", self.limit], "fits"),
            ("Where", [f"{target}_fits", f"{target}_high", name], ""),
        ]
        nodes = []
        for op, inputs, role in steps:
            output = f"{target}_{role}" if role else target
            nodes.append(helper.make_node(op, inputs, [output], name=f"{output}_{op}"))
            element = TensorProto.BOOL if op == "Less" else TensorProto.FLOAT
            graph.value_info.append(helper.make_tensor_value_info(output, element, None))
        return nodes


def _one_channel(node: onnx.NodeProto, types: Types) -> bool:
    """Whether *node* is a convolution each of whose results reads one channel only."""
    kind = types.get(node.input[1]) if node.op_type == "Conv" else None
    if kind is None or len(kind.tensor_type.shape.dim) < 2:
        return False
    return bool(kind.tensor_type.shape.dim[1].dim_value == 1)


def _drop_unread(graph: onnx.GraphProto, names: set[str]) -> None:
    """Removes those weights *names* that nothing reads any more."""
    read = {value.name for value in graph.output}
    read.update(name for node in graph.node for name in reads(node))
    for part in (graph.initializer, graph.input):
        kept = [item for item in part if item.name not in names - read]
        del part[:]
        part.extend(kept)  # type: ignore[arg-type]
