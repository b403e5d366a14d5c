"""What lowering writes, TensorRT for RTX parses and builds: real builds, which need no GPU."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from graphs import FLOAT, cnn, graph, weight
from models import lowered
from onnx import TensorProto, helper

from trtcheck.precision.placement import REFUSED

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "examples" / "fashion_mnist" / "model.onnx"
RNG = np.random.default_rng(3)


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tensorrt_ops", ROOT / "benchmarks" / "tensorrt_ops.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tensorrt_ops"] = module  # its dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


ops = _script()
ALL = pytest.mark.parametrize(
    ("precision", "spec"),
    [
        ("fp32", {}), ("tf32", {}), ("fp16", {}), ("bf16", {}),
        ("int8", {"method": "minmax"}), ("int8", {"method": "minmax", "rest": "fp32"}),
    ],
    ids=["fp32", "tf32", "fp16", "bf16", "int8", "int8-fp32"],
)  # fmt: skip


def refusal(model: onnx.ModelProto) -> str | None:
    return ops.try_build(model.SerializeToString())


def random(*shape: int) -> np.ndarray:
    return RNG.random(shape).astype(np.float32)


@ALL
def test_the_demo_builds(precision: str, spec: dict[str, str], tmp_path: Path) -> None:
    model = onnx.load(DEMO)
    shape = [d.dim_value or 8 for d in model.graph.input[0].type.tensor_type.shape.dim]
    calibration = [{model.graph.input[0].name: random(*shape)}]
    assert refusal(lowered(model, precision, tmp_path, calibration, **spec).model) is None


def two_inputs(opset: int) -> onnx.ModelProto:
    """An image of any size and indices into a table: convolutions up and down, pooling, lookup, sum."""
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], name="down", strides=[2, 2]),
        helper.make_node("Mish", ["c0"], ["m0"], name="mish"),
        helper.make_node("HardSwish", ["m0"], ["h0"], name="hardswish"),
        helper.make_node("Resize", ["h0", "", "scales"], ["r0"], name="resize", mode="linear"),
        helper.make_node("GlobalAveragePool", ["r0"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flatten"),
        helper.make_node("Gather", ["table", "index"], ["row"], name="gather"),
        helper.make_node("Add", ["flat", "row"], ["sum"], name="add"),
        helper.make_node("MatMul", ["sum", "w1"], ["y"], name="product"),
        helper.make_node("TopK", ["y", "k"], ["best", "which"], name="top"),
    ]
    weights = [
        weight("w0", random(8, 3, 3, 3)), weight("w1", random(8, 4)), weight("table", random(10, 8)),
        weight("scales", np.array([1, 1, 2, 2], np.float32)), weight("k", np.array([2])),
    ]  # fmt: skip
    return graph(
        nodes,
        [("image", FLOAT, ["N", 3, "H", "W"]), ("index", TensorProto.INT64, ["N"])],
        [("y", FLOAT, ["N", 4]), ("which", TensorProto.INT64, ["N", 2])],
        weights, opset=opset,
    )  # fmt: skip


@ALL
@pytest.mark.parametrize("opset", [18, 22])
def test_open_sizes_and_several_inputs_build(
    precision: str, spec: dict[str, str], opset: int, tmp_path: Path
) -> None:
    calibration = [{"image": random(2, 3, 16, 16), "index": np.array([1, 2])}]
    made = lowered(two_inputs(opset), precision, tmp_path, calibration, **spec)
    assert refusal(made.model) is None
    if precision == "bf16":
        assert {e["node"]: e["reason"] for e in made.manifest["kept"]} == {
            "mish": "TensorRT does not take bfloat16 Mish",
            "hardswish": "TensorRT does not take bfloat16 HardSwish",
            "top": "ONNX opset 22 has no bfloat16 TopK",
        }


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_exclusion_builds(precision: str, tmp_path: Path) -> None:
    assert refusal(lowered(cnn(), precision, tmp_path, exclude=("dw", "gemm")).model) is None


@pytest.mark.parametrize("op", sorted(REFUSED[TensorProto.BFLOAT16]))
def test_what_stays_wide_is_refused_in_bf16_and_built_as_lowered(op: str, tmp_path: Path) -> None:
    """Should a later version take the operator, this fails and the entry can go."""
    probe = next(probe for probe in ops.probes() if probe.op == op)
    assert ops.answer(probe, "BF16").startswith("parser: ")
    model = ops.net(probe, "FP32")
    behind = model.graph.node[-1]
    behind.CopyFrom(helper.make_node("Relu", behind.input, behind.output, name="relu"))  # can be narrowed
    made = lowered(model, "bf16", tmp_path)
    reason = f"TensorRT does not take bfloat16 {op}"
    assert {"node": "probed", "op": op, "reason": reason} in made.manifest["kept"]
    assert made.manifest["nodes"]["narrowed"] == 1
    assert refusal(made.model) is None


def test_a_transposed_convolution_in_bf16_is_parsed_and_not_built_without_a_gpu() -> None:
    probe = next(probe for probe in ops.probes() if probe.op == "ConvTranspose")
    assert ops.answer(probe, "BF16").startswith("builder: ")


def test_the_table_of_the_docs_says_what_stays_wide() -> None:
    text = (ROOT / "docs" / "tensorrt_ops.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\|.*\|$", text, re.M)]
    head, _, *body = rows
    assert head == ["operator", *ops.TYPES]
    refused = {kind: {row[0] for row in body if row[i] == "**parser**"} for i, kind in enumerate(head) if i}
    assert refused == {
        "FP32": set(),
        "FP16": set(),
        "BF16": set(REFUSED[TensorProto.BFLOAT16]),
        "INT8": set(),
    }
    assert [row[0] for row in body] == [f"{probe.op} {probe.label}".strip() for probe in ops.probes()]
