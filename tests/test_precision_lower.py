"""What `lower` writes and says, for all precisions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FLOAT, cnn, graph, weight
from models import lowered, relative_l2, run
from onnx import helper

from trtcheck.backends.graph_types import typed
from trtcheck.backends.products import computes
from trtcheck.case import LoweringSpec, Precision
from trtcheck.errors import LoweringError
from trtcheck.precision import lower, storage

RNG = np.random.default_rng(7)
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8"])


def images(count: int = 16) -> np.ndarray:
    return RNG.standard_normal((count, 1, 12, 12)).astype(np.float32)


def test_fp32_is_the_original(tmp_path: Path) -> None:
    model, x = cnn(), images()
    made = lowered(model, "fp32", tmp_path)
    assert relative_l2(run(made.model, {"x": x}), run(model, {"x": x})) < 1e-6
    assert made.manifest == {
        "lowering_version": 3,
        "precision": "fp32",
        "method": None,
        "percentile": None,
        "rest": None,
        "exclude": [],
        "opset": 17,
        "nodes": {"total": 9, "narrowed": 0, "quantized": 0, "wide": 9},
        "kept": [],
        "clamped": [],
        "folded": 0,
        "notes": [],
    }


@PRECISIONS
def test_result_is_the_same_byte_for_byte_and_the_manifest_is_json(precision: str, tmp_path: Path) -> None:
    calibration = [{"x": images()}]
    contents, manifests = [], []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        made = lowered(cnn(), precision, folder, calibration)
        contents.append((folder / f"{precision}.onnx").read_bytes())
        manifests.append(json.dumps(made.manifest))
        assert sorted(p.name for p in folder.iterdir()) == sorted({"source.onnx", f"{precision}.onnx"})
        onnx.checker.check_model(made.model, full_check=True)
    assert contents[0] == contents[1]
    assert manifests[0] == manifests[1]


@PRECISIONS
def test_names_of_nodes_and_inputs_survive(precision: str, tmp_path: Path) -> None:
    model = cnn()
    made = lowered(model, precision, tmp_path, [{"x": images()}])
    assert {n.name for n in model.graph.node} <= {n.name for n in made.model.graph.node}
    assert [v.name for v in made.model.graph.input] == ["x"]
    assert [v.name for v in made.model.graph.output] == ["y"]
    names = [n.name for n in made.model.graph.node]
    assert len(names) == len(set(names))


def test_percentile_is_told_where_it_counts(tmp_path: Path) -> None:
    made = lowered(cnn(), "int8", tmp_path, [{"x": images()}], method="percentile", percentile=99.5)
    assert (made.manifest["method"], made.manifest["percentile"]) == ("percentile", 99.5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"method": "kl"},
            r"unknown calibration method\n  expected: entropy or minmax or percentile\n  found:    kl",
        ),
        ({"rest": "bf16"}, "unknown rest of INT8"),
        ({"percentile": 0.0}, "percentile is no share"),
        ({"percentile": 100.5}, "percentile is no share"),
    ],
)
def test_bad_settings_are_refused(spec: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match=message):
        lowered(cnn(), "int8", tmp_path, [{"x": images()}], **spec)


def test_large_weights_go_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_LARGEST_FILE", 1000)
    model = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        [("x", FLOAT, ["N", 64])],
        [("y", FLOAT, ["N", 32])],
        [weight("w", RNG.standard_normal((64, 32)).astype(np.float32))],
    )
    x = RNG.standard_normal((4, 64)).astype(np.float32)
    source = tmp_path / "source.onnx"
    source.write_bytes(model.SerializeToString())
    for _ in range(2):  # the second time over the files of the first
        manifest = lower(source, Precision.FP16, LoweringSpec(), target=tmp_path / "model.onnx")
        assert manifest["notes"] == ["weights are in model.weights beside the model"]
        assert (tmp_path / "model.onnx").stat().st_size < 1000
        assert (tmp_path / "model.weights").stat().st_size == 64 * 32 * 2
    assert relative_l2(run(onnx.load(tmp_path / "model.onnx"), {"x": x}), run(model, {"x": x})) < 2e-3


def test_source_with_external_weights_is_read(tmp_path: Path) -> None:
    model, x = cnn(), images()
    source = tmp_path / "source.onnx"
    onnx.save_model(
        onnx.load_from_string(model.SerializeToString()), source, save_as_external_data=True,
        location="source.data", size_threshold=0,
    )  # fmt: skip
    lower(source, Precision.FP16, LoweringSpec(), target=tmp_path / "fp16.onnx")
    (tmp_path / "source.data").unlink()
    assert relative_l2(run(onnx.load(tmp_path / "fp16.onnx"), {"x": x}), run(model, {"x": x})) < 2e-3


def test_what_multiplies_inside_a_subgraph_is_named_apart_and_told(tmp_path: Path) -> None:
    def branch(name: str, op: str, inner: str) -> onnx.GraphProto:
        made = helper.make_node(op, ["m", "w"], ["r"], name=inner)
        return helper.make_graph([made], name, [], [helper.make_tensor_value_info("r", FLOAT, None)])

    model = graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
            helper.make_node(
                "If", ["b"], ["y"], name="if",
                then_branch=branch("then", "MatMul", "product"), else_branch=branch("else", "MatMul", ""),
            ),
        ],
        [("x", FLOAT, [4, 4]), ("b", onnx.TensorProto.BOOL, [])], [("y", FLOAT, [4, 4])],
        [weight("w", RNG.standard_normal((4, 4)).astype(np.float32))],
    )  # fmt: skip
    made = lowered(model, "fp16", tmp_path)
    assert made.manifest["kept"] == [
        {"node": "if", "op": "If", "reason": "has a subgraph"},
        {"node": "MatMul_0", "op": "MatMul", "reason": "is inside 'if'"},
        {"node": "product_1", "op": "MatMul", "reason": "is inside 'if'"},
    ]
    assert computes(typed(made.model)) == {"product": "fp16", "MatMul_0": "fp32", "product_1": "fp32"}
    assert lowered(model, "fp32", tmp_path).manifest["kept"] == []
