"""The benchmark of the CPU lane's fidelity: what it counts, and that its two halves fit together."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtcheck.backends.onnxruntime import run_once

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks."""

    def loaded(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return loaded


def test_agreement_recall_and_margins_are_counted(load) -> None:
    metrics = load("fidelity_metrics")
    labels = np.repeat([0, 1, 2], [200, 100, 50])
    right = 2.0 * np.eye(3, dtype=np.float32)[labels]
    native = right.copy()
    native[200] = [1.5, 1.25, 0]  # one of class 1 is taken for class 0 on the GPU
    native[349] = [0, 3, 0]  # and one of class 2, which is too small to be compared
    row = metrics.compared(right, native, right, labels)
    assert row["agreement"] == pytest.approx(348 / 350)
    assert row["apart"] == 2
    assert row["recall_points"] == pytest.approx(1.0)
    assert row["one_input_points"] == pytest.approx(1.0)
    assert row["accuracy"] == pytest.approx([1, 348 / 350, 1])
    assert row["margin"] == 2
    assert row["margin_apart"] == pytest.approx([1.625, 3.0])
    distance = np.linalg.norm(right - native)
    assert row["relative_l2"] == pytest.approx(distance / np.linalg.norm(native), rel=1e-5)
    assert row["relative_l2_fp32"] == pytest.approx([0, distance / np.linalg.norm(right)], rel=1e-5)


def test_answers_that_are_not_finite_are_told_and_left_out_of_distances(load) -> None:
    metrics = load("fidelity_metrics")
    labels = np.zeros(100, np.int64)
    scores = np.tile(np.array([[2, 1]], np.float32), (100, 1))
    broken = scores.copy()
    broken[0] = np.nan
    row = metrics.compared(broken, broken, scores, labels)
    assert (row["finite"], row["relative_l2"]) == (99, 0)
    json.dumps(row, allow_nan=False)


def test_a_missed_goal_is_a_sentence(load) -> None:
    metrics = load("fidelity_metrics")
    row = {
        "model": "m",
        "precision": "int8",
        "agreement": 0.9985,
        "apart": 15,
        "recall_points": 0.3,
        "one_input_points": 0.1,
    }
    assert metrics.goals([row]) == [
        "m int8: 0.9985 of the answers agree (15 differ), goal 0.999",
        "m int8: a class's recall differs by 0.30 points, goal 0.1 or one input",
    ]
    floor = {"apart": 12, "recall_points": 0.2, "relative_l2": 0.02, "orders": 3}
    assert metrics.goals([row | {"floor": floor}]) == [
        "m int8: 0.9985 of the answers agree (15 differ), goal 0.999; of the CPU's own answers in another "
        "order of summation, up to 12 differ",
        "m int8: a class's recall differs by 0.30 points, goal 0.1 or one input; of the CPU's own answers in "
        "another order of summation, up to 0.20 points",
    ]
    assert metrics.goals([row | {"agreement": 0.9992, "recall_points": 0.1}]) == []
    assert metrics.goals([{"model": "m", "precision": "bf16", "refused": "no kernel"}]) == []


def test_what_was_prepared_is_made_again_to_the_byte(
    load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fidelity = load("fidelity")
    fidelity.main(["prepare", "--out", str(tmp_path), "--only", "demo", "--demo", "100"])
    assert {file.suffix for file in tmp_path.iterdir() if file.is_file()} == {
        ".json",
        ".npz",
    }  # no model travels
    found = tmp_path / "found.json"
    arguments = ["run", "--data", str(tmp_path), "--json", str(found), "--only", "demo"]
    assert fidelity.main([*arguments, "--backend", "onnxruntime-cpu"]) == 0
    rows = json.loads(found.read_text())["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "tf32", "fp16", "bf16", "int8-fp32", "int8-fp16"]
    for row in rows:
        assert not row["remade"], row["precision"]  # the lowered file is the one that was prepared
        assert (row["agreement"], row["relative_l2"]) == (1, 0)
    assert fidelity.main(["floor", "--data", str(tmp_path), "--json", str(found)]) == 0
    floors = {row["precision"]: row["floor"] for row in json.loads(found.read_text())["rows"]}
    assert 0 < floors["fp32"]["relative_l2"] < 1e-5 < floors["fp16"]["relative_l2"]  # steps of FP16 are wider
    assert floors["int8-fp32"]["relative_l2"] < 0.05
    capsys.readouterr()
    fidelity.main(["table", str(found)])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| demo |") for line in lines) == 6
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1  # every row has every column


def test_what_is_not_prepared_as_it_was_is_computed_again(load, tmp_path: Path) -> None:
    fidelity = load("fidelity")
    fidelity.main(["prepare", "--out", str(tmp_path), "--only", "demo", "--demo", "100"])
    entry = json.loads((tmp_path / "demo.json").read_text())
    entry["files"]["fp16"] = "another"
    (tmp_path / "demo.json").write_text(json.dumps(entry))
    rows = list(fidelity.measure(tmp_path, "onnxruntime-cpu", ["demo"], 60))
    assert [row["precision"] for row in rows if row["remade"]] == ["fp16"]
    assert all(row["agreement"] == 1 for row in rows)


@pytest.mark.parametrize("turned", [False, True], ids=["as it is", "transposed"])
def test_another_order_adds_up_the_same_terms(load, turned: bool) -> None:
    reordered = load("fidelity_floor").reordered
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 64, 5, 5)).astype(np.float32)
    weights = {
        "k": rng.standard_normal((8, 64, 3, 3)), "g": rng.standard_normal((8, 1, 3, 3)),
        "w": rng.standard_normal((4, 8) if turned else (8, 4)), "v": rng.standard_normal((4, 3)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("Conv", ["c", "g"], ["d"], name="groups", group=8),
        helper.make_node("Flatten", ["d"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["e"], name="gemm", transB=int(turned)),
        helper.make_node("MatMul", ["e", "v"], ["y"], name="matmul"),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    plain = run_once(model, {"x": x})["y"]
    for seed in range(3):
        other = reordered(model, seed)
        gathers = [node for node in other.graph.node if node.op_type == "Gather"]
        assert len(gathers) == 6  # both factors of all but the convolution of groups
        found = run_once(other, {"x": x})["y"]
        np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-3)
        assert not np.array_equal(found, plain)
