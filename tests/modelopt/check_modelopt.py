"""NVIDIA's ModelOpt for real: ``nox -s modelopt``, or ``pytest tests/modelopt/check_modelopt.py``.

Not collected by a plain ``pytest``: ModelOpt brings PyTorch. Where it lives in another environment than
trtcheck, TRTCHECK_MODELOPT_PYTHON names that Python.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import FLOAT, graph, weight
from models import Feeds, Lowered, counted, relative_l2
from onnx import ModelProto, helper

from trtcheck import model as models
from trtcheck.backends.emulation import emulate
from trtcheck.backends.onnxruntime import element_types, run_once
from trtcheck.case import LoweringSpec, Precision
from trtcheck.engines import CalibrationFeeds
from trtcheck.errors import LoweringError
from trtcheck.precision import modelopt
from trtcheck.suite import read_suite

PYTHON = os.environ.get("TRTCHECK_MODELOPT_PYTHON")
DEMO = Path(__file__).parents[2] / "examples" / "fashion_mnist"
BOTH = pytest.mark.parametrize("precision", ["int8", "fp16"])


def net(batch: int | str = "N", inputs: tuple[str, ...] = ("x",)) -> ModelProto:
    """Convolutions of 16 channels, which ModelOpt quantizes; several inputs are added up after the first."""
    rng = np.random.default_rng(3)

    def random(name: str, *shape: int) -> onnx.TensorProto:
        return weight(name, (rng.standard_normal(shape) * 0.2).astype(np.float32))

    nodes = [
        helper.make_node("Conv", [name, f"w_{name}"], [f"c_{name}"], name=f"conv_{name}", pads=[1, 1, 1, 1])
        for name in inputs
    ]
    total = f"c_{inputs[0]}"
    for name in inputs[1:]:
        nodes.append(helper.make_node("Add", [total, f"c_{name}"], [f"sum_{name}"], name=f"add_{name}"))
        total = f"sum_{name}"
    nodes += [
        helper.make_node("Relu", [total], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w10"], ["c10"], name="conv10", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c10"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["y"], name="flatten"),
    ]
    weights = [random(f"w_{name}", 16, 16, 3, 3) for name in inputs]
    weights += [random("w1", 16, 16, 3, 3), random("w10", 32, 16, 3, 3)]
    values = [(name, FLOAT, [batch, 16, 8, 8]) for name in inputs]
    return graph(nodes, values, [("y", FLOAT, [batch, 32])], weights)


def run(model: ModelProto, feeds: Feeds) -> np.ndarray:
    """The first output of *model* as trtcheck runs it on the CPU, whatever the version of ONNX Runtime."""
    return next(iter(run_once(emulate(model, element_types), feeds).values()))


def images(count: int = 12, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, 16, 8, 8)) * scale
    return made.astype(np.float32)


def made(
    model: ModelProto, precision: str, folder: Path, feeds: Iterable[tuple[Feeds, int]], **spec: Any
) -> Lowered:
    folder.mkdir(exist_ok=True)
    (folder / "source.onnx").write_bytes(model.SerializeToString())
    manifest = modelopt.lower(
        folder / "source.onnx", Precision(precision), LoweringSpec(maker="modelopt", **spec),
        target=folder / "lowered.onnx", calibration=feeds, python=PYTHON,
    )  # fmt: skip
    return Lowered(onnx.load(folder / "lowered.onnx"), manifest)


def input_scale(lowered: Lowered, tensor: str = "x") -> float:
    """The scale by which input *tensor* is quantized."""
    makers = {name: node for node in lowered.model.graph.node for name in node.output}
    for node in lowered.model.graph.node:
        origin = node.input[0]
        while origin in makers and makers[origin].op_type == "Cast":
            origin = makers[origin].input[0]
        if node.op_type == "QuantizeLinear" and origin == tensor:
            return float(lowered.weight(node.input[1]))
    raise AssertionError(f"{tensor} is not quantized")


@pytest.mark.parametrize(
    ("precision", "spec", "largest"),
    [
        ("int8", {}, 0.05),
        ("int8", {"method": "minmax"}, 0.05),
        ("int8", {"rest": "fp32"}, 0.05),
        ("fp16", {}, 0.002),
    ],
)
def test_answers_stay_near_those_of_fp32_at_any_batch(
    tmp_path: Path, precision: str, spec: dict[str, Any], largest: float
) -> None:
    lowered = made(net(), precision, tmp_path, counted([{"x": images()}]), **spec)
    x = images(5, seed=1)
    assert 0 < relative_l2(run(lowered.model, {"x": x}), run(net(), {"x": x})) < largest
    assert models.read_signature(tmp_path / "lowered.onnx") == models.read_signature(tmp_path / "source.onnx")
    assert lowered.manifest["nodes"]["quantized"] == (3 if precision == "int8" else 0)
    assert lowered.manifest["nodes"]["narrowed"] == {"int8": 4, "fp16": 7}[precision] * (
        spec.get("rest") != "fp32"
    )
    assert lowered.manifest["maker"] == "modelopt"
    assert {"modelopt", "torch"} <= modelopt.versions(PYTHON).keys()


@BOTH
def test_the_same_input_gives_the_same_bytes_and_nothing_is_written_beside_the_source(
    tmp_path: Path, precision: str
) -> None:
    contents = []
    for name in ("first", "second"):
        made(net(), precision, tmp_path / name, counted([{"x": images()}]))
        contents.append((tmp_path / name / "lowered.onnx").read_bytes())
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["lowered.onnx", "source.onnx"]
    assert contents[0] == contents[1]


@BOTH
def test_padding_never_counts(tmp_path: Path, precision: str) -> None:
    x = images(6)
    padded = np.concatenate([x[4:], np.full((2, 16, 8, 8), 1e5, np.float32)])
    plain = made(net(), precision, tmp_path / "plain", [({"x": x}, 6)])
    same = made(net(), precision, tmp_path / "padded", [({"x": x[:4]}, 4), ({"x": padded}, 2)])
    assert plain.model == same.model


def test_calibration_data_decide_the_scales(tmp_path: Path) -> None:
    scales = [
        input_scale(made(net(), "int8", tmp_path, counted([{"x": images(scale=scale)}]), method="minmax"))
        for scale in (1.0, 10.0)
    ]
    assert scales[0] == pytest.approx(np.abs(images()).max() / 127, rel=0.01)
    assert scales[1] == pytest.approx(10 * scales[0], rel=0.01)


def test_calibration_data_decide_what_autocast_leaves_wide(tmp_path: Path) -> None:
    quiet = made(net(), "fp16", tmp_path, counted([{"x": images()}]))
    loud = made(net(), "fp16", tmp_path, counted([{"x": images(scale=40.0)}]))
    assert quiet.kept() == {}
    assert loud.kept()["conv1"] == "left wide by ModelOpt"
    assert loud.types()["conv1"] == "fp32"


@pytest.mark.parametrize(("precision", "rest"), [("int8", "fp16"), ("int8", "fp32"), ("fp16", "fp16")])
def test_what_is_excluded_stays_in_fp32_and_no_more_than_that(
    tmp_path: Path, precision: str, rest: str
) -> None:
    feeds = counted([{"x": images()}])
    lowered = made(net(), precision, tmp_path, feeds, exclude=("conv1",), rest=rest)
    follows = {} if rest == "fp32" else {"relu1": "reworks the result of 'conv1', which is excluded"}
    assert lowered.kept() == {"conv1": "excluded", **follows}
    makers = {name: node.op_type for node in lowered.model.graph.node for name in node.output}
    assert makers.get(lowered.node("conv1").input[1]) != "DequantizeLinear"
    assert lowered.types()["conv1"] == "fp32"
    assert lowered.types()["conv10"] == ("fp32" if rest == "fp32" else "fp16")
    assert lowered.manifest["nodes"]["quantized"] == (2 if precision == "int8" else 0)
    x = images(5, seed=1)
    assert relative_l2(run(lowered.model, {"x": x}), run(net(), {"x": x})) < 0.05


@BOTH
def test_what_reworks_an_excluded_result_stays_with_it(tmp_path: Path, precision: str) -> None:
    """4000 * 4000 * 16 overflows FP16; the logarithm of it does not."""
    model = net()
    model.graph.output[0].name = "z"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["y", "large"], ["big"], name="big"),
            helper.make_node("ReduceSumSquare", ["big", "axis"], ["sum"], name="sum"),
            helper.make_node("Log", ["sum"], ["z"], name="log"),
        ]
    )
    model.graph.initializer.extend([weight("large", np.float32(4000)), weight("axis", np.array([1]))])
    model.opset_import[0].version = 18
    lowered = made(model, precision, tmp_path, counted([{"x": images()}]), exclude=("sum",))
    assert lowered.kept()["log"] == "reworks the result of 'sum', which is excluded"
    assert (lowered.types()["sum"], lowered.types()["log"]) == ("fp32", "fp32")
    assert not [node for node in lowered.model.graph.node if node.op_type == "Cast" and "sum" in node.input]
    x = images(5, seed=1)
    assert relative_l2(run(lowered.model, {"x": x}), run(model, {"x": x})) < 0.02


@BOTH
def test_a_model_with_two_inputs(tmp_path: Path, precision: str) -> None:
    model = net(inputs=("x", "z"))
    feeds = {"x": images(), "z": images(scale=10.0, seed=1)}
    lowered = made(model, precision, tmp_path, counted([feeds]), method="minmax")
    new = {"x": images(5, seed=2), "z": images(5, scale=10.0, seed=3)}
    assert relative_l2(run(lowered.model, new), run(model, new)) < 0.05
    if precision == "int8":
        assert input_scale(lowered, "z") == pytest.approx(np.abs(feeds["z"]).max() / 127, rel=0.01)
        assert input_scale(lowered, "x") == pytest.approx(np.abs(feeds["x"]).max() / 127, rel=0.01)


@BOTH
def test_a_fixed_batch_stays_and_its_last_batch_is_filled(tmp_path: Path, precision: str) -> None:
    x = images(6)
    feeds = [({"x": x[:4]}, 4), ({"x": np.concatenate([x[4:], x[4:]])}, 2)]
    lowered = made(net(batch=4), precision, tmp_path, feeds)
    assert models.read_signature(tmp_path / "lowered.onnx").fixed_batch == 4
    assert lowered.manifest["notes"] == [
        "ModelOpt takes whole batches of 4: 2 of the 6 calibration images were used twice"
    ]


def test_open_dimensions_without_a_name(tmp_path: Path) -> None:
    model = net()
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        if dim.dim_param or dim.dim_value == 8:
            dim.Clear()
    lowered = made(model, "int8", tmp_path, counted([{"x": images()}]))
    assert lowered.manifest["nodes"]["quantized"] == 3
    shape = models.read_signature(tmp_path / "lowered.onnx").inputs[0].shape
    assert shape == (None, 16, None, None)


def test_external_weights(tmp_path: Path) -> None:
    onnx.save_model(
        net(), tmp_path / "source.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    for precision in (Precision.INT8, Precision.FP16):
        manifest = modelopt.lower(
            tmp_path / "source.onnx", precision, LoweringSpec(maker="modelopt"),
            target=tmp_path / "lowered.onnx", calibration=counted([{"x": images()}]), python=PYTHON,
        )  # fmt: skip
        assert manifest["nodes"]["wide"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lowered.onnx", "source.onnx", "weights"]


def test_a_model_without_work_for_int8_is_refused_with_the_reasons(tmp_path: Path) -> None:
    model = graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm")],
        [("x", FLOAT, ["N", 16])], [("y", FLOAT, ["N", 32])],
        [weight("w", np.ones((16, 32), np.float32))],
    )  # fmt: skip
    with pytest.raises(LoweringError, match="gemm: left wide by ModelOpt"):
        made(model, "int8", tmp_path, counted([{"x": np.ones((4, 16), np.float32)}]))


def test_data_that_do_not_fit_are_refused_with_modelopts_words(tmp_path: Path) -> None:
    wrong = np.ones((4, 16, 8, 9), np.float32)
    with pytest.raises(LoweringError, match="ModelOpt failed") as caught:
        made(net(), "int8", tmp_path, counted([{"x": wrong}]))
    assert str(tmp_path / "source.onnx") in str(caught.value)
    assert "Got: 9 Expected: 8" in str(caught.value)


@pytest.mark.parametrize(("precision", "narrowed", "quantized"), [("int8", 17, 16), ("fp16", 33, 0)])
def test_the_demo(tmp_path: Path, precision: str, narrowed: int, quantized: int) -> None:
    from trtcheck.data.sources import open_images

    case = read_suite(DEMO / "trtcheck.toml")[0]
    calibration = open_images(case.calibration, spec=case.input, role="calibration")
    manifest = modelopt.lower(
        case.onnx, Precision(precision), LoweringSpec(maker="modelopt"), target=tmp_path / "lowered.onnx",
        calibration=CalibrationFeeds(calibration, case, lambda _count: None), python=PYTHON,
    )  # fmt: skip
    assert manifest["nodes"] == {"total": 33, "narrowed": narrowed, "quantized": quantized, "wide": 0}
    with np.load(DEMO / "eval.npz") as arrays:
        raw, labels = arrays["images"][:1000], arrays["labels"][:1000]
    x = ((raw[:, None].astype(np.float32) / 255) - 0.286) / 0.353
    before = run(onnx.load(case.onnx), {"image": x}).argmax(1)
    after = run(onnx.load(tmp_path / "lowered.onnx"), {"image": x}).argmax(1)
    assert (after != before).mean() < 0.02
    assert abs((after == labels).mean() - (before == labels).mean()) < 0.01


@BOTH
def test_tensorrt_for_rtx_computes_in_what_was_asked_for(tmp_path: Path, precision: str) -> None:
    import tensorrt_rtx

    made(net(), precision, tmp_path, counted([{"x": images()}]))
    builder = tensorrt_rtx.Builder(tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    network = builder.create_network(0)
    parser = tensorrt_rtx.OnnxParser(network, tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    assert parser.parse((tmp_path / "lowered.onnx").read_bytes())
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    makers = {layer.get_output(0).name: layer.type.name for layer in layers}
    products = [layer for layer in layers if layer.type.name == "CONVOLUTION"]
    assert [layer.get_output(0).dtype.name for layer in products] == ["HALF"] * 3
    quantized = [
        layer.name
        for layer in products
        if layer.num_inputs > 1 and {makers.get(layer.get_input(i).name) for i in (0, 1)} == {"DEQUANTIZE"}
    ]
    assert len(quantized) == (3 if precision == "int8" else 0)
