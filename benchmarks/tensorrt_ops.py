"""Which operators TensorRT's parser and builder take at which precision: the table of docs/tensorrt_ops.md.

    pip install tensorrt-rtx-cu13
    python benchmarks/tensorrt_ops.py docs/tensorrt_ops.md

Every operator is a net of its own: a cast to the type, the operator, a cast back. Under INT8 its floating
inputs come from a Q/DQ pair with FP16 scales. Nets are built one a process, so that a crash is one line of
the table. Needs no GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 22
TYPES = {
    "FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16,
    "INT8": TensorProto.FLOAT16,
}  # fmt: skip
IMAGE = (1, 8, 8, 8)
SECONDS = 120


@dataclass(frozen=True)
class Probe:
    """One operator: its floating input's shape, further inputs and attributes.

    Attributes:
        op: The operator.
        shape: Shape of the first input.
        weights: Further inputs: arrays (floats take the probed type), or None for one that is left out.
        attributes: Attributes of the node.
        results: How many results.
        label: What sets it apart from another probe of the operator.
        second: Whether the second input is a tensor of the first one's kind, not a constant.
    """

    op: str
    shape: tuple[int, ...] = IMAGE
    weights: tuple[np.ndarray | None, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    results: int = 1
    label: str = ""
    second: bool = False


def floats(*shape: int) -> np.ndarray:
    """Small numbers, the same ones every time."""
    return np.random.default_rng(0).uniform(0.1, 0.5, shape).astype(np.float32)


def whole(*numbers: int) -> np.ndarray:
    """An INT64 constant."""
    return np.array(numbers, np.int64)


UNARY = (
    "Abs", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign",
    "Sin", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu", "Softmax", "LogSoftmax",
    "GlobalAveragePool", "GlobalMaxPool", "Flatten", "Transpose",
)  # fmt: skip
REDUCTIONS = ("Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare", "Prod")
BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")


def probes() -> Iterator[Probe]:
    """Every probe, products first."""
    yield Probe("Conv", weights=(floats(8, 8, 3, 3), floats(8)))
    yield Probe("Conv", weights=(floats(8, 1, 3, 3), floats(8)), attributes={"group": 8}, label="depthwise")
    yield Probe("Conv", shape=(1, 8, 16), weights=(floats(8, 8, 3),), label="1-D")
    yield Probe("Conv", shape=(1, 8, 4, 8, 8), weights=(floats(8, 8, 3, 3, 3),), label="3-D")
    yield Probe("ConvTranspose", weights=(floats(8, 8, 2, 2), floats(8)), attributes={"strides": [2, 2]})
    yield Probe("Gemm", (4, 8), (floats(8, 8), floats(8)))
    yield Probe("MatMul", (4, 8), (floats(8, 8),))
    yield Probe("MatMul", (2, 4, 4), second=True, label="of two tensors")
    yield Probe("Einsum", (2, 4, 4), second=True, attributes={"equation": "bij,bjk->bik"})
    for op in UNARY:
        yield Probe(op)
    for op in BINARY:
        yield Probe(op, second=True, label="of two tensors")
        yield Probe(op, weights=(floats(1),), label="with a constant")
    for kind in REDUCTIONS:
        yield Probe(f"Reduce{kind}", weights=(whole(2, 3),))
    yield Probe("PRelu", weights=(floats(8, 1, 1),))
    yield Probe("Clip", weights=(np.array(0, np.float32), np.array(6, np.float32)))
    yield Probe("MaxPool", attributes={"kernel_shape": [2, 2]})
    yield Probe("AveragePool", attributes={"kernel_shape": [2, 2]})
    yield Probe("BatchNormalization", weights=(floats(8), floats(8), floats(8), floats(8)))
    yield Probe("InstanceNormalization", weights=(floats(8), floats(8)))
    yield Probe("LayerNormalization", (2, 4, 8), (floats(8), floats(8)))
    yield Probe("GroupNormalization", weights=(floats(8), floats(8)), attributes={"num_groups": 2})
    yield Probe("LRN", attributes={"size": 3})
    for mode in ("nearest", "linear", "cubic"):
        yield Probe(
            "Resize",
            weights=(None, np.array([1, 1, 2, 2], np.float32)),
            attributes={"mode": mode},
            label=mode,
        )
    yield Probe("GridSample", weights=(floats(1, 8, 8, 2),))
    yield Probe("ArgMax", attributes={"axis": 1})
    yield Probe("TopK", weights=(whole(3),), results=2)
    yield Probe("Gather", weights=(whole(0, 2),), attributes={"axis": 1})
    yield Probe("GatherElements", (1, 8), (whole(0, 2).reshape(1, 2),), attributes={"axis": 1})
    yield Probe("ScatterND", (4, 8), (whole(1).reshape(1, 1), floats(1, 8)))
    yield Probe("Concat", second=True, attributes={"axis": 1})
    yield Probe("Split", attributes={"axis": 1, "num_outputs": 2}, results=2)
    yield Probe("Slice", weights=(whole(0), whole(4), whole(2)))
    yield Probe("Pad", weights=(whole(0, 0, 1, 1, 0, 0, 1, 1),))
    yield Probe(
        "Pad", weights=(whole(0, 0, 1, 1, 0, 0, 1, 1),), attributes={"mode": "reflect"}, label="reflect"
    )
    yield Probe("Reshape", weights=(whole(1, -1),))
    yield Probe("Squeeze", weights=(whole(0),))
    yield Probe("Unsqueeze", weights=(whole(0),))
    yield Probe("Expand", weights=(whole(2, 8, 8, 8),))
    yield Probe("Tile", weights=(whole(1, 1, 2, 2),))
    yield Probe("CumSum", weights=(np.array(1, np.int64),))
    yield Probe("DepthToSpace", attributes={"blocksize": 2})
    yield Probe("SpaceToDepth", attributes={"blocksize": 2})
    for op in ("Greater", "Less", "Equal"):
        yield Probe(op, second=True)
    yield Probe("Where", label="of two tensors", second=True)
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}
    for op, count in gates.items():
        weights = (floats(1, count * 4, 8), floats(1, count * 4, 4))
        yield Probe(op, (5, 1, 8), weights, attributes={"hidden_size": 4})


def net(probe: Probe, precision: str) -> onnx.ModelProto:
    """The net of one operator at one precision."""
    element = TYPES[precision]
    nodes: list[onnx.NodeProto] = []
    weights: list[TensorProto] = []
    names = [_entrance("x", element, precision, nodes, weights)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, probe.shape)]
    if probe.second:
        names.append(_entrance("x2", element, precision, nodes, weights))
        inputs.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, probe.shape))
    if probe.op == "Where":
        weights.append(numpy_helper.from_array(np.array([True, False] * 4), "choice"))
        names.insert(0, "choice")
    products = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
    for index, array in enumerate(probe.weights):
        name = "" if array is None else f"w{index}"
        names.append(name)
        if array is None:
            continue
        if precision == "INT8" and probe.op in products and index == 0:
            names[-1] = _quantized_weight(name, array, nodes, weights)
        # The scales of Resize are FP32 by its definition.
        elif array.dtype != np.float32 or probe.op == "Resize":
            weights.append(numpy_helper.from_array(np.asarray(array), name))
        else:
            weights.append(_constant(name, array, element))
    made = [f"r{index}" for index in range(probe.results)]
    nodes.append(helper.make_node(probe.op, names, made, name="probed", **probe.attributes))
    nodes.append(helper.make_node("Cast", ["r0"], ["y"], name="leave", to=TensorProto.FLOAT))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, probe.op, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    if not model.graph.output[0].type.tensor_type.HasField("shape"):  # GroupNormalization has no inference
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, probe.shape))
    onnx.checker.check_model(model, full_check=True)
    return model


def _entrance(
    name: str, element: int, precision: str, nodes: list[onnx.NodeProto], weights: list[TensorProto]
) -> str:
    nodes.append(helper.make_node("Cast", [name], [f"{name}_in"], name=f"enter_{name}", to=element))
    if precision != "INT8":
        return f"{name}_in"
    scale = _constant(f"{name}_scale", np.array(0.05, np.float32), element)
    weights += [scale, numpy_helper.from_array(np.array(0, np.int8), f"{name}_zero")]
    parameters = [f"{name}_scale", f"{name}_zero"]
    nodes.append(helper.make_node("QuantizeLinear", [f"{name}_in", *parameters], [f"{name}_q"]))
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *parameters], [f"{name}_dq"]))
    return f"{name}_dq"


def _quantized_weight(
    name: str, array: np.ndarray, nodes: list[onnx.NodeProto], weights: list[TensorProto]
) -> str:
    scale = _constant(f"{name}_scale", np.array(0.005, np.float32), TensorProto.FLOAT16)
    integers = np.clip(np.rint(array / 0.005), -127, 127).astype(np.int8)
    weights += [scale, numpy_helper.from_array(integers, f"{name}_q")]
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [f"{name}_dq"]))
    return f"{name}_dq"


def _constant(name: str, array: np.ndarray, element: int) -> TensorProto:
    kind = helper.tensor_dtype_to_np_dtype(element)
    return numpy_helper.from_array(np.asarray(array).astype(kind), name)


def try_build(data: bytes, batches: tuple[int, int, int] = (1, 4, 8), other: int = 16) -> str | None:
    """None if an engine of the model is built, else who refuses it and why.

    Args:
        data: The model.
        batches: Smallest, best and largest first dimension, where it is open.
        other: Size of other open dimensions.
    """
    import tensorrt_rtx as trt

    said: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.ERROR:
                said.append(text)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(data):
        return "parser: " + "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        sizes = [
            [n if n > 0 else (other if i else batch) for i, n in enumerate(tensor.shape)] for batch in batches
        ]
        if any(size < 0 for size in tensor.shape):
            profile.set_shape(tensor.name, *sizes)
    config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        return "builder: " + (said[0] if said else "no reason")
    return None


def _worker(data: bytes, pipe: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pipe.send(try_build(data))


def answer(probe: Probe, precision: str, build: Callable[[bytes, Any], None] = _worker) -> str | None:
    """As `try_build`, in a process of its own; a model that ONNX itself does not allow is told too."""
    try:
        data = net(probe, precision).SerializeToString()
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return "onnx: " + str(error).strip().splitlines()[0]
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=build, args=(data, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(SECONDS) else "builder: no answer"
    except EOFError:
        return "builder: crash"
    finally:
        process.kill()
        process.join()


WORDS = {"onnx": "not in ONNX", "parser": "**parser**", "builder": "**builder**"}


def main(target: Path) -> None:
    """Writes the table into *target*, below its line ``<!-- table -->``."""
    import tensorrt_rtx

    rows, reasons = [], []
    for probe in probes():
        label = f"{probe.op} {probe.label}".strip()
        cells = []
        for precision in TYPES:
            said = answer(probe, precision)
            cells.append("yes" if said is None else WORDS[said.partition(":")[0]])
            if said is not None and not said.startswith("onnx"):
                reasons.append(f"- {label}, {precision}: {_short(said)}")
            print(f"{label}, {precision}: {said or 'yes'}", flush=True)
        rows.append(f"| {label} | {' | '.join(cells)} |")
    head = [f"TensorRT for RTX {tensorrt_rtx.__version__}, opset {OPSET}:", ""]
    columns = [f"| operator | {' | '.join(TYPES)} |", "|---" * (len(TYPES) + 1) + "|"]
    mark = "<!-- table -->"
    before = target.read_text("utf-8").partition(mark)[0] if target.exists() else ""
    body = [*head, *columns, *rows, "", "What it said:", "", *reasons]
    target.write_text(before + mark + "\n" + "\n".join(body) + "\n", "utf-8")


def _short(said: str) -> str:
    text = " ".join(said.split()).replace("|", "/")
    return text if len(text) < _LONGEST else text[:_LONGEST] + " …"


_LONGEST = 240


if __name__ == "__main__":
    main(Path(sys.argv[1]))
