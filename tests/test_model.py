"""Reading ONNX files: signatures, external weights, digests, and files that cannot be read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import suite_models
from onnx import TensorProto, helper, numpy_helper

from trtcheck import model
from trtcheck.errors import DataError, ModelError, TrtcheckError


def with_input(*dims: object, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, dims)],
        [helper.make_tensor_value_info("y", kind, dims)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def saved(path: Path, made: onnx.ModelProto, **options: object) -> Path:
    onnx.save(made, path, **options)
    return path


@pytest.mark.parametrize(
    ("first", "batch"),
    [("N", None), (-1, None), (0, None), (4, 4), (1, 1)],
    ids=["name", "-1", "0", "4", "1"],
)
def test_the_batch_is_fixed_only_where_a_positive_size_stands(
    tmp_path: Path, first: object, batch: int | None
) -> None:
    found = model.read_signature(saved(tmp_path / "m.onnx", with_input(first, 3)))
    assert found.fixed_batch == batch
    assert found.inputs[0].shape == (batch, 3)


def test_external_weights_belong_to_the_digest(tmp_path: Path) -> None:
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    path = saved(tmp_path / "m.onnx", suite_models.classifier(), **options)
    before = model.digest(path)
    weights = tmp_path / "weights.bin"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert model.digest(path) != before
    weights.unlink()
    with pytest.raises(ModelError, match=r"external weights are missing[\s\S]*weights\.bin"):
        model.digest(path)
    with pytest.raises(ModelError, match="external weights cannot be read"):
        model.load(path)


def test_weights_in_a_subgraph_are_found(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    made = with_input(2)
    made.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    assert [tensor.name for tensor in model._weights(made.graph)] == ["w", "w"]


@pytest.mark.parametrize("suffix", [".json", ".onnxtxt", ".textproto", ".onnxjson", ".pb", ""])
def test_the_name_of_a_file_says_nothing_of_its_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(with_input("N", 3).SerializeToString())
    assert model.read_signature(path).inputs[0].shape == (None, 3)
    path.write_text('{"graph": {}}')
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        model.load(path)


@pytest.mark.parametrize("error", [RecursionError, ValueError])
def test_whatever_the_reader_stumbles_over_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("stop")

    path = saved(tmp_path / "m.onnx", with_input("N", 3))
    monkeypatch.setattr(onnx, "load", fail)
    with pytest.raises(ModelError, match=r"m\.onnx: cannot be read as an ONNX model"):
        model.load(path)


def test_an_element_type_of_another_time_names_the_tensor(tmp_path: Path) -> None:
    made = with_input("N", 3)
    made.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(ModelError, match=r"(?s)'x' .*element type.*99"):
        model.read_signature(saved(tmp_path / "m.onnx", made))


@pytest.mark.parametrize("key", ["offset", "length"])
def test_external_weights_at_an_odd_place_are_an_error_in_words(tmp_path: Path, key: str) -> None:
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    made = suite_models.classifier()
    path = saved(tmp_path / "m.onnx", made, **options)
    made = onnx.load(path, load_external_data=False)
    entry = next(e for t in made.graph.initializer for e in t.external_data if e.key == key)
    entry.value = "here"
    path.write_bytes(made.SerializeToString())
    for use in (model.digest, model.load):
        with pytest.raises(ModelError, match="external weights cannot be read"):
            use(path)


def test_external_weights_with_a_name_of_odd_bytes_are_an_error_in_words(tmp_path: Path) -> None:
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    path = saved(tmp_path / "m.onnx", suite_models.classifier(), **options)
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"weights\xff\xfein"))
    for use in (model.digest, model.load):
        with pytest.raises(ModelError, match="cannot be read"):
            use(path)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x00" * 100, b"\xff" * 64])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx: cannot be read as an ONNX model"):
        model.read_signature(path)


def test_every_truncation_of_a_model_is_an_error_for_people_or_a_model(tmp_path: Path) -> None:
    whole = suite_models.classifier().SerializeToString()
    path = tmp_path / "cut.onnx"
    for end in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:end])
        try:
            model.signature_of(model.load(path), path)
        except ModelError as error:
            assert "cut.onnx" in str(error)  # noqa: PT017


def test_an_output_that_is_no_tensor_says_how_to_export(tmp_path: Path) -> None:
    made = with_input("N", 3)
    made.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["N", 3]))
    with pytest.raises(ModelError, match="zipmap"):
        model.read_signature(saved(tmp_path / "m.onnx", made))


def test_errors_survive_the_way_between_processes() -> None:
    error = DataError("is odd", where="eval.npz", expected=1, found=2, hint="look")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, DataError)
    assert isinstance(copy, TrtcheckError)
    assert str(copy) == str(error) == "eval.npz: is odd\n  expected: 1\n  found:    2\n  try:      look"
