"""TensorRT for RTX builds engines for real, on a machine without a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from models import lowered
from onnx import TensorProto, helper, numpy_helper

from trtcheck import child
from trtcheck.backends.base import BuildPlan
from trtcheck.backends.tensorrt import TensorRt
from trtcheck.backends.trt_flavour import RTX
from trtcheck.case import BuildSpec, Numerics, Precision, ShapeRange
from trtcheck.errors import EngineError, ModelError

PLAIN = BuildSpec()
LIMITS = ("min", "opt", "max")
DEMO = Path(__file__).parent.parent / "examples" / "fashion_mnist"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TensorRt:
    return TensorRt("tensorrt-rtx", cache=tmp_path_factory.mktemp("cache"))


def shapes_of(model: onnx.ModelProto, *batch: int) -> dict[str, ShapeRange]:
    """A profile of the batch sizes *batch* (min, opt, max) for every input of *model* whose batch is open."""
    found = {}
    for value in model.graph.input:
        first, *rest = value.type.tensor_type.shape.dim
        if not first.dim_value:
            sizes = [dim.dim_value for dim in rest]
            found[value.name] = ShapeRange(*((size, *sizes) for size in batch))
    return found


def built(
    backend: TensorRt,
    model: onnx.ModelProto,
    folder: Path,
    precision: str | None = None,
    spec: BuildSpec = PLAIN,
    batch: tuple[int, int, int] = (1, 4, 16),
) -> dict[str, Any]:
    """Facts of an engine of *model*, which lies in *folder* as ``model.engine`` afterwards."""
    asked = Precision(precision) if precision else None
    path = graphs.save(model, folder / "model.onnx")
    plan = BuildPlan(path, asked, shapes_of(model, *batch), spec)
    steps: list[int] = []
    facts = dict(backend.build(plan, folder / "model.engine", steps.append))
    assert sum(steps) > 0, "no progress was told"
    assert json.loads(json.dumps(facts)) == facts
    assert backend.numerics(plan) is Numerics.NATIVE
    return facts


def calibration(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    (value,) = model.graph.input
    shape = [dim.dim_value or 8 for dim in value.type.tensor_type.shape.dim]
    return [{value.name: rng.standard_normal(shape, np.float32)} for _ in range(2)]


PRODUCTS = ("conv", "dw", "pw", "gemm")


@pytest.mark.parametrize(
    ("precision", "type_name"),
    [("fp32", "FLOAT"), ("fp16", "FLOAT16"), ("bf16", "BFLOAT16"), ("int8", "quantized")],
)
def test_every_precision_builds_and_every_product_computes_in_it(tmp_path, backend, precision, type_name):
    model = graphs.cnn()
    made = lowered(model, precision, tmp_path, calibration(model)).model
    facts = built(backend, made, tmp_path, precision)
    assert facts["computes"] == dict.fromkeys(PRODUCTS, precision)
    assert facts["types"][type_name] >= len(PRODUCTS)
    assert facts["types"]["quantized"] == (len(PRODUCTS) if precision == "int8" else 0)
    assert facts["layers"]["CONVOLUTION"] == 3
    engine = (tmp_path / "model.engine").read_bytes()
    assert engine[:4] == b"vtrt"
    assert facts["engine_bytes"] == len(engine)
    assert facts["tensorrt"] == {"flavour": "tensorrt-rtx", "version": backend.info.version}
    assert facts["profile"]["x"]["max"] == [16, 1, 12, 12]


def test_tf32_is_a_switch_of_the_builder_and_what_fp32_products_then_compute_in(tmp_path, backend):
    model = graphs.cnn()
    engines = {}
    for precision in ("fp32", "tf32"):
        facts = built(backend, model, tmp_path, precision)
        engines[precision] = (tmp_path / "model.engine").read_bytes()
        assert facts["computes"] == dict.fromkeys(PRODUCTS, precision)
        assert facts["flags"]["tf32"] is (precision == "tf32")
    assert engines["fp32"] != engines["tf32"]


def test_an_int8_graph_with_an_excluded_node_tells_which_precision_that_one_has(tmp_path, backend):
    model = graphs.cnn()
    made = lowered(model, "int8", tmp_path, calibration(model), exclude=("pw",)).model
    facts = built(backend, made, tmp_path, "int8")
    assert facts["computes"] == {"conv": "int8", "dw": "int8", "pw": "fp32", "gemm": "int8"}


def test_depthwise_convolutions_of_int8_are_named_in_a_note(tmp_path, backend):
    model = graphs.cnn()
    facts = built(backend, lowered(model, "int8", tmp_path, calibration(model)).model, tmp_path, "int8")
    assert facts["depthwise"] == ["dw"]
    assert [note for note in facts["notes"] if note.endswith(": dw")]
    facts = built(backend, lowered(model, "fp16", tmp_path).model, tmp_path, "fp16")
    assert facts["depthwise"] == []


def test_nodes_without_names_and_with_names_that_are_taken_are_told_apart_by_precision(tmp_path, backend):
    """Two nodes share a name, one in FP16 and one in FP32: the wider counts. One has no name."""
    made = graphs.graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["wide"], name="same"),
            helper.make_node("Cast", ["wide"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("MatMul", ["half", "h"], ["narrow"], name="same"),
            helper.make_node("MatMul", ["narrow", "h"], ["y"]),
        ],
        [("x", graphs.FLOAT, ["N", 4])],
        [("y", graphs.FP16, ["N", 4])],
        [graphs.weight("w", np.eye(4, dtype=np.float32)), graphs.weight("h", np.eye(4), graphs.FP16)],
    )
    facts = built(backend, made, tmp_path)
    assert facts["computes"] == {"same": "fp32", "MatMul (output 'y')": "fp16"}


def test_a_one_dimensional_int8_convolution_counts_as_int8_although_the_parser_puts_layers_before_it(
    tmp_path, backend
):
    made = graphs.graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["dw"], name="dw"),
            helper.make_node("Conv", ["d", "dw"], ["a"], name="conv"),
            helper.make_node("MatMul", ["a", "v"], ["y"], name="matmul"),
        ],
        [("x", graphs.FLOAT, ["N", 3, 8])],
        [("y", graphs.FLOAT, ["N", 4, 2])],
        [
            graphs.weight("s", np.float32(0.1)), graphs.weight("z", np.int8(0)),
            graphs.weight("w", np.ones((4, 3, 3), np.int8)), graphs.weight("v", np.ones((6, 2), np.float32)),
        ],
    )  # fmt: skip
    facts = built(backend, made, tmp_path)
    assert facts["computes"] == {"conv": "int8", "matmul": "fp32"}
    assert facts["types"]["quantized"] == 1


def test_a_node_that_the_parser_does_not_take_is_named_with_its_operator_and_reason(tmp_path, backend):
    made = graphs.graph(
        [
            helper.make_node("Relu", ["x"], ["a"], name="fine"),
            helper.make_node("Unheard", ["a"], ["y"], name="strange", domain="com.example"),
        ],
        [("x", graphs.FLOAT, ["N", 4])],
        [("y", graphs.FLOAT, ["N", 4])],
        domains={"com.example": 1},
    )
    with pytest.raises(EngineError, match=r"node 'strange' \(Unheard\).*Plugin not found") as caught:
        built(backend, made, tmp_path)
    assert "TensorRT for RTX's parser does not take the model" in str(caught.value)
    assert "catchCudaError" not in str(caught.value)
    assert not (tmp_path / "model.engine").exists()


def test_a_node_that_mixes_float_types_is_refused_for_the_types_and_not_for_the_missing_driver(
    tmp_path, backend
):
    made = graphs.graph(
        [
            helper.make_node("Cast", ["x"], ["h"], name="cast", to=TensorProto.FLOAT16),
            helper.make_node("Add", ["h", "x"], ["y"], name="mixed"),
        ],
        [("x", graphs.FLOAT, ["N", 4])],
        [("y", graphs.FLOAT, ["N", 4])],
    )
    with pytest.raises(EngineError, match=r"node 'mixed' \(Add\).*types Half and Float") as caught:
        built(backend, made, tmp_path)
    assert "driver" not in str(caught.value)


def test_what_is_no_onnx_file_is_told_before_the_parser_sees_it(tmp_path, backend):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        backend.build(BuildPlan(path, None, {}, BuildSpec()), tmp_path / "model.engine", lambda _count: None)


def test_an_engine_that_cannot_be_written_is_told_with_the_option_to_change(tmp_path, backend):
    path = graphs.save(graphs.cnn(), tmp_path / "model.onnx")
    plan = BuildPlan(path, None, shapes_of(graphs.cnn(), 1, 4, 16), PLAIN)
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="the engine cannot be written") as caught:
        backend.build(plan, tmp_path / "file" / "model.engine", lambda _count: None)
    assert "Not a directory" in str(caught.value)
    assert "--trt-cache=DIR" in str(caught.value)
    assert 'File "' not in str(caught.value)


def test_a_workspace_that_is_too_small_fails_with_the_builders_reason_and_the_key_to_change(
    tmp_path, backend
):
    with pytest.raises(EngineError, match="workspace") as caught:
        built(backend, graphs.cnn(), tmp_path, spec=BuildSpec(workspace_mb=0.01))
    assert "cannot build the engine" in str(caught.value)
    assert "a larger workspace_mb" in str(caught.value)
    assert built(backend, graphs.cnn(), tmp_path, spec=BuildSpec(workspace_mb=256))["engine_bytes"] > 0


def test_a_profile_that_contradicts_the_model_fails_with_the_builders_reason(tmp_path, backend):
    path = graphs.save(graphs.cnn(), tmp_path / "model.onnx")
    shapes = {"x": ShapeRange((1, 3, 12, 12), (4, 3, 12, 12), (8, 3, 12, 12))}
    plan = BuildPlan(path, None, shapes, BuildSpec())
    with pytest.raises(EngineError, match="profile has min=3, opt=3, max=3 but tensor has 1"):
        backend.build(plan, tmp_path / "model.engine", lambda _count: None)


def test_settings_that_rtx_cannot_follow_are_refused_and_those_without_effect_noted(tmp_path, backend):
    model = graphs.cnn()
    with pytest.raises(EngineError, match="builds no version-compatible engines") as caught:
        built(backend, model, tmp_path, spec=BuildSpec(version_compatible=True))
    assert "version_compatible = true" in str(caught.value)
    facts = built(backend, model, tmp_path, spec=BuildSpec(hardware_compatible=True, optimization_level=5))
    noted = [note.partition(" ")[0] for note in facts["notes"]]
    assert noted == ["hardware_compatible", "optimization_level"]


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such plugin library"), (b"no library", "cannot be loaded")]
)
def test_a_plugin_library_that_is_missing_or_none_is_named(tmp_path, backend, content, reason):
    plugin = tmp_path / "plugin.so"
    if content is not None:
        plugin.write_bytes(content)
    with pytest.raises(EngineError, match=reason) as caught:
        built(backend, graphs.cnn(), tmp_path, spec=BuildSpec(plugins=(plugin,)))
    assert str(plugin) in str(caught.value)


def test_two_inputs_two_outputs_and_a_fixed_shape_build_without_a_profile(tmp_path, backend):
    made = graphs.graph(
        [
            helper.make_node("MatMul", ["a", "w"], ["p"], name="p"),
            helper.make_node("Add", ["p", "b"], ["sum"], name="add"),
            helper.make_node("ArgMax", ["sum"], ["best"], name="best", axis=1),
        ],
        [("a", graphs.FLOAT, [2, 4]), ("b", graphs.FLOAT, [2, 4])],
        [("sum", graphs.FLOAT, [2, 4]), ("best", TensorProto.INT64, [2, 1])],
        [graphs.weight("w", np.eye(4, dtype=np.float32))],
    )
    facts = built(backend, made, tmp_path)
    assert facts["profile"] == {}
    assert facts["computes"] == {"p": "fp32"}


def test_external_weights_beside_the_model_are_found(tmp_path, backend):
    model = graphs.cnn()
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.weights", size_threshold=0)
    plan = BuildPlan(path, Precision.FP32, shapes_of(model, 1, 4, 16), BuildSpec())
    facts = backend.build(plan, tmp_path / "model.engine", lambda _count: None)
    assert facts["computes"] == dict.fromkeys(PRODUCTS, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_the_demo_model_builds_at_each_precision(tmp_path, backend, precision):
    model = onnx.load(next(DEMO.glob("*.onnx")))
    made = lowered(model, precision, tmp_path, calibration(model)).model
    facts = built(backend, made, tmp_path, precision)
    assert set(facts["computes"].values()) == {precision}
    assert len(facts["computes"]) == 17


def resnet50() -> onnx.ModelProto:
    """A graph of ResNet-50's size and shape: 53 convolutions, one Gemm, 25.5 M parameters, random weights."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        weights.append(numpy_helper.from_array(rng.standard_normal(shape, np.float32) * scale, name))
        return name

    def conv(x: str, name: str, into: int, out: int, size: int, stride: int = 1, *, relu: bool = True) -> str:
        pads = [size // 2] * 4
        made = [x, weight(f"{name}.w", out, into, size, size), weight(f"{name}.b", out)]
        nodes.append(helper.make_node("Conv", made, [name], name=name, pads=pads, strides=[stride] * 2))
        if relu:
            nodes.append(helper.make_node("Relu", [name], [f"{name}.r"], name=f"{name}.relu"))
        return f"{name}.r" if relu else name

    x = conv("x", "stem", 3, 64, 7, 2)
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    nodes.append(helper.make_node("MaxPool", [x], ["pool"], name="pool", **window))
    x, into = "pool", 64
    for stage, (depth, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(depth):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            short = conv(x, f"{name}.p", into, 4 * width, 1, stride, relu=False) if not block else x
            inner = conv(conv(x, f"{name}.1", into, width, 1), f"{name}.2", width, width, 3, stride)
            last = conv(inner, f"{name}.3", width, 4 * width, 1, relu=False)
            nodes.append(helper.make_node("Add", [last, short], [f"{name}.a"], name=f"{name}.add"))
            nodes.append(helper.make_node("Relu", [f"{name}.a"], [f"{name}.o"], name=f"{name}.relu"))
            x, into = f"{name}.o", 4 * width
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["gap"], name="gap"),
        helper.make_node("Flatten", ["gap"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", weight("fc.w", 1000, 2048), weight("fc.b", 1000)], ["y"], name="fc",
                         transB=1),
    ]  # fmt: skip
    return graphs.graph(
        nodes, [("x", graphs.FLOAT, ["N", 3, 224, 224])], [("y", graphs.FLOAT, ["N", 1000])], weights
    )


def test_a_graph_of_the_size_of_resnet50_builds_in_fp16(tmp_path, backend):
    model = resnet50()
    assert sum(np.prod(w.dims) for w in model.graph.initializer) == pytest.approx(25.5e6, rel=0.01)
    facts = built(backend, lowered(model, "fp16", tmp_path).model, tmp_path, "fp16", batch=(1, 8, 32))
    assert facts["layers"]["CONVOLUTION"] == 53
    assert len(facts["computes"]) == 54
    assert set(facts["computes"].values()) == {"fp16"}
    assert facts["engine_bytes"] > 50e6  # 25.5 M weights of two bytes


@pytest.mark.parametrize("damaged", [False, True])
def test_a_timing_cache_is_kept_beside_its_lock_and_a_damaged_one_does_not_fail_the_build(tmp_path, damaged):
    """RTX times nothing and takes a timing cache all the same, so that the way of the file can be seen."""
    model = graphs.save(graphs.cnn(), tmp_path / "model.onnx")
    shared = tmp_path / "timing" / "key.cache"
    if damaged:
        shared.parent.mkdir()
        shared.write_bytes(b"no timing cache")
    request = {
        "command": "build", "flavour": "tensorrt-rtx", "lowered": str(model),
        "target": str(tmp_path / "model.engine"), "shapes": {"x": {key: [4, 1, 12, 12] for key in LIMITS}},
        "tf32": False, "workspace_bytes": None, "optimization_level": None, "version_compatible": False,
        "hardware_compatible": False, "plugins": [], "timing_cache": str(shared),
    }  # fmt: skip
    for _ in range(2):
        child.call("trtcheck.backends.trt_child", request, what="building", environment=RTX.environment)
        assert shared.stat().st_size > len(b"no timing cache")
    assert sorted(path.name for path in shared.parent.iterdir()) == ["key.cache", "key.lock"]


def test_what_a_recurrent_node_multiplies_inside_is_not_judged(tmp_path, backend):
    rng = np.random.default_rng(0)
    made = graphs.graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[1, 0, 2]),
            helper.make_node("GRU", ["t", "w", "r"], ["", "h"], name="gru", hidden_size=5),
            helper.make_node("Squeeze", ["h", "first"], ["s"], name="squeeze"),
            helper.make_node("Gemm", ["s", "g"], ["y"], name="gemm"),
        ],
        [("x", graphs.FLOAT, ["N", 6, 4])],
        [("y", graphs.FLOAT, ["N", 2])],
        [
            graphs.weight("w", rng.standard_normal((1, 15, 4)).astype(np.float32)),
            graphs.weight("r", rng.standard_normal((1, 15, 5)).astype(np.float32)),
            graphs.weight("g", rng.standard_normal((5, 2)).astype(np.float32)),
            graphs.weight("first", np.array([0])),
        ],
    )
    facts = built(backend, made, tmp_path)
    assert facts["layers"]["MATRIX_MULTIPLY"] > 1
    assert facts["computes"] == {"gemm": "fp32"}


def test_of_many_refused_nodes_the_first_are_named_and_the_rest_counted(tmp_path, backend):
    nodes = [
        helper.make_node("Unheard", ["x"], [f"y{index}"], name=f"strange{index}", domain="com.example")
        for index in range(15)
    ]
    outputs = [(f"y{index}", graphs.FLOAT, ["N", 4]) for index in range(15)]
    made = graphs.graph(nodes, [("x", graphs.FLOAT, ["N", 4])], outputs, domains={"com.example": 1})
    with pytest.raises(EngineError, match="node 'strange0'") as caught:
        built(backend, made, tmp_path)
    assert "node 'strange0', 'strange1', 'strange2' and 12 more (Unheard): " in str(caught.value)
    assert "strange3" not in str(caught.value)
