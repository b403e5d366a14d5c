"""ModelOpt's part that needs no ModelOpt: refusals, what its process is asked, what is made of its answer.

A fake stands in for ModelOpt itself (tests/modelopt has the real one): a package of that name on the child's
path, which notes what it is called with and answers with a prepared file.
"""

from __future__ import annotations

import json
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import FLOAT, cnn, graph, weight
from models import counted, lowered
from onnx import ModelProto, helper

from trtcheck.case import LoweringSpec, Precision
from trtcheck.errors import BackendError, LoweringError
from trtcheck.precision import modelopt

INT8, FP16 = Precision.INT8, Precision.FP16
FAKE = """
import json, os, pathlib, shutil

def _note(**options):
    pathlib.Path(os.environ["FAKE_TOLD"]).write_text(json.dumps(options))

def quantize(path, *, calibration_data, output_path, **options):
    shapes = {name: [list(array.shape), float(array.max())] for name, array in calibration_data.items()}
    _note(data=shapes, beside=sorted(p.name for p in pathlib.Path(path).parent.iterdir()), **options)
    exec(os.environ.get("FAKE_FAULT", ""))
    shutil.copy(os.environ["FAKE_ANSWER"], output_path)
"""
AUTOCAST = """
import os, onnx

def convert_to_mixed_precision(path, **options):
    return onnx.load(os.environ["FAKE_ANSWER"])
"""
UTILS = """
import onnx

def save_onnx(model, path, external):
    onnx.save_model(model, path)
"""


def images(count: int = 8) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, 1, 12, 12)).astype(np.float32)


class Fake:
    """A fake ModelOpt in the child's path, and what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        package = folder / "fake" / "modelopt" / "onnx"
        package.mkdir(parents=True)
        (package.parent / "__init__.py").touch()
        (package / "__init__.py").touch()
        self.module = package / "quantization.py"
        self.module.write_text(FAKE)
        (package / "autocast.py").write_text(AUTOCAST)
        (package / "utils.py").write_text(UTILS)
        for name in ("nvidia_modelopt", "torch"):
            facts = folder / "fake" / f"{name}-9.9.dist-info"
            facts.mkdir()
            (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
        self.source = folder / "model.onnx"
        self.source.write_bytes(cnn().SerializeToString())
        monkeypatch.setenv("PYTHONPATH", str(folder / "fake"))
        monkeypatch.setenv("FAKE_TOLD", str(folder / "told.json"))
        monkeypatch.setenv("FAKE_ANSWER", str(folder / "answer.onnx"))
        work = folder / "work"
        work.mkdir()
        self.answer(lowered(cnn(), "int8", work, [{"x": images()}]).model)

    def answer(self, model: ModelProto) -> None:
        (self.folder / "answer.onnx").write_bytes(model.SerializeToString())

    def fault(self, code: str) -> None:
        self._monkeypatch.setenv("FAKE_FAULT", code)

    def lower(self, feeds: Any = None, **spec: Any) -> dict[str, Any]:
        return modelopt.lower(
            self.source, INT8, LoweringSpec(maker="modelopt", **spec), target=self.folder / "lowered.onnx",
            calibration=counted([{"x": images()}]) if feeds is None else feeds, python=sys.executable,
        )  # fmt: skip

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "told.json").read_text())
        return told


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("installed", "missing"),
    [({}, "no modelopt and no torch"), ({"modelopt": "0.47.0", "onnx": "1.21.0"}, "no torch")],
)
def test_modelopt_that_is_not_installed_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], missing: str
) -> None:
    monkeypatch.setattr(modelopt, "installed", lambda: installed)
    with pytest.raises(LoweringError) as caught:
        modelopt.versions()
    assert f"found:    {missing}" in str(caught.value)
    assert 'pip install "pytest-trtcheck[modelopt]"' in str(caught.value)
    assert "--trt-modelopt-python=PATH" in str(caught.value)


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "python")
    with pytest.raises(BackendError) as caught:
        modelopt.versions(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ModelOpt's Python cannot be used\n")
    assert "found:    [Errno 2] No such file or directory" in text
    assert "try:      --trt-modelopt-python=PATH" in text


def test_a_python_without_onnx_or_numpy_is_told_in_one_line_what_it_lacks(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    bare = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(LoweringError, match=r"ModelOpt's Python has no (onnx|numpy)\n") as caught:
        modelopt.versions(str(bare))
    assert f'try:      {bare} -m pip install "nvidia-modelopt[onnx]"' in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_versions_of_another_python_are_those_that_it_has_fake(fake: Fake) -> None:
    found = modelopt.versions(sys.executable)
    assert (found["modelopt"], found["torch"], found["onnx"]) == ("9.9", "9.9", onnx.__version__)


@pytest.mark.parametrize(
    ("precision", "spec", "calibrated", "words"),
    [
        (INT8, {}, False, "INT8 needs calibration data"),
        (FP16, {}, False, "AutoCast needs calibration data"),
        (INT8, {"method": "percentile"}, True, 'expected: method = "entropy" or method = "minmax"'),
        (INT8, {"rest": "bf16"}, True, "unknown rest of INT8"),
        (Precision.BF16, {}, True, "ModelOpt does not make bf16 here"),
    ],
)
def test_what_modelopt_cannot_do_is_refused_before_it_is_looked_for(
    tmp_path: Path, precision: Precision, spec: dict[str, Any], calibrated: bool, words: str
) -> None:
    with pytest.raises(LoweringError) as caught:
        modelopt.lower(
            tmp_path / "model.onnx", precision, LoweringSpec(**spec), target=tmp_path / "lowered.onnx",
            calibration=[({"x": images()}, 8)] if calibrated else None,
        )  # fmt: skip
    assert words in str(caught.value)


def test_no_images_are_no_calibration_data_fake(fake: Fake) -> None:
    with pytest.raises(LoweringError, match="INT8 needs calibration data"):
        fake.lower(feeds=[])


def test_a_name_becomes_a_pattern_that_finds_no_other_name() -> None:
    import re

    pattern = modelopt.pattern_of("a.b[0]/conv1")
    matching = ["a.b[0]/conv1", "a.b[0]/conv10", "xa.b[0]/conv1", "a_b[0]/conv1", "a.b0/conv1"]
    assert [name for name in matching if re.match(pattern, name)] == matching[:1]


def test_modelopt_gets_data_without_padding_and_the_nodes_by_name_fake(fake: Fake) -> None:
    padded = np.concatenate([images()[4:6], np.full((2, 1, 12, 12), 1e5, np.float32)])
    with pytest.raises(LoweringError, match="did not keep in FP32 what is excluded: conv, pw"):
        fake.lower([({"x": images()[:4]}, 4), ({"x": padded}, 2)], exclude=("co*", "pw"), rest="fp32")
    assert fake.told() == {
        "data": {"x": [[6, 1, 12, 12], pytest.approx(float(images()[:6].max()))]},
        "beside": ["calibration.npz", "model.onnx"],
        "quantize_mode": "int8",
        "calibration_method": "entropy",
        "calibration_eps": ["cpu"],
        "high_precision_dtype": "fp32",
        "nodes_to_exclude": [r"conv\Z", r"pw\Z"],
        "use_external_data_format": False,
    }


def test_what_reworks_an_excluded_result_is_excluded_with_it_fake(fake: Fake) -> None:
    with pytest.raises(LoweringError, match="did not keep in FP32 what is excluded: gemm"):
        fake.lower(exclude=("gemm",))
    assert fake.told()["nodes_to_exclude"] == [r"gemm\Z", r"softmax\Z"]
    assert fake.told()["high_precision_dtype"] == "fp32"


def test_the_manifest_counts_what_came_back_fake(fake: Fake) -> None:
    manifest = fake.lower(method="minmax")
    assert fake.told()["calibration_method"] == "max"
    assert manifest == {
        "lowering_version": manifest["lowering_version"],
        "maker": "modelopt",
        "modelopt": "9.9",
        "torch": "9.9",
        "precision": "int8",
        "method": "minmax",
        "percentile": None,
        "rest": "fp16",
        "exclude": [],
        "opset": 19,
        "nodes": {"total": 9, "narrowed": 5, "quantized": 4, "wide": 0},
        "kept": [],
        "clamped": [],
        "folded": 0,
        "notes": [],
    }
    assert json.loads(json.dumps(manifest)) == manifest
    assert onnx.load(fake.folder / "lowered.onnx").graph.output[0].name == "y"


def test_what_came_back_wider_is_said_fake(fake: Fake) -> None:
    work = fake.folder / "work"
    made = lowered(cnn(), "int8", work, [{"x": images()}], exclude=("gemm",), rest="fp32")
    fake.answer(made.model)
    manifest = fake.lower(rest="fp32")
    assert manifest["kept"] == [{"node": "gemm", "op": "Gemm", "reason": "left wide by ModelOpt"}]
    assert manifest["notes"] == []


def another(batch: int | str, output: str = "y", rank: int = 2) -> ModelProto:
    """A model that takes and gives the same shapes."""
    return graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "w"], [output], name="matmul"),
        ],
        [("x", FLOAT, [batch, 1, 12, 12])],
        [(output, FLOAT, [batch, 5, 1][:rank])],
        [weight("w", np.ones((144, 5), np.float32))],
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (cnn(), "ModelOpt left every node wider than int8"),
        (another(1), "found:    x: float32[1, 1, 12, 12]"),
        (another("N", "z"), "found:    z: float32[?, 5]"),
        (another("N", rank=3), "ModelOpt's model is not valid ONNX"),
    ],
    ids=["unquantized", "fixed batch", "other output", "invalid"],
)
def test_an_answer_that_is_another_model_is_refused_fake(fake: Fake, answer: ModelProto, words: str) -> None:
    fake.answer(answer)
    with pytest.raises(LoweringError) as caught:
        fake.lower()
    assert words in str(caught.value)
    assert not (fake.folder / "lowered.onnx").exists()


@pytest.mark.parametrize("declared", [[], None], ids=["as a single number", "not at all"])
def test_an_output_whose_rank_the_source_declares_wrong_is_no_other_output_fake(
    fake: Fake, declared: list[int] | None
) -> None:
    model = cnn()
    shape = model.graph.output[0].type.tensor_type.shape
    assert len(shape.dim) == 2
    if declared is None:
        model.graph.output[0].type.tensor_type.ClearField("shape")
    else:
        del shape.dim[:]
    fake.source.write_bytes(model.SerializeToString())
    assert fake.lower(rest="fp16")["nodes"]["quantized"] == 4


def test_hints_name_the_keys_of_the_suite_fake(fake: Fake) -> None:
    fake.answer(another("N", "z"))
    with pytest.raises(LoweringError) as caught:
        fake.lower()
    assert (
        'leave the work to trtcheck: quantizer = "trtcheck"; or name a file in [models.NAME.lowered]'
        in str(caught.value)
    )


def test_a_quantized_source_is_refused_since_modelopt_would_hand_it_back_fake(fake: Fake) -> None:
    fake.source.write_bytes((fake.folder / "answer.onnx").read_bytes())
    with pytest.raises(LoweringError, match="is quantized already"):
        fake.lower()


def test_an_exclusion_that_names_nothing_is_refused_fake(fake: Fake) -> None:
    with pytest.raises(LoweringError, match="exclude names no node of the model: 'convv'"):
        fake.lower(exclude=("convv",))


def test_an_input_without_rows_is_refused_fake(fake: Fake) -> None:
    with pytest.raises(LoweringError, match="ModelOpt cannot be fed input 'x'"):
        fake.lower([({"x": np.float32(1)}, 1)])


def test_the_last_batch_of_a_fixed_batch_is_filled_with_images_fake(fake: Fake) -> None:
    model = cnn()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    fake.source.write_bytes(model.SerializeToString())
    work = fake.folder / "fixed"
    work.mkdir()
    fake.answer(lowered(model, "int8", work, [{"x": images(4)}]).model)
    manifest = fake.lower([({"x": images(4)}, 3)])
    assert fake.told()["data"]["x"][0] == [4, 1, 12, 12]
    assert manifest["notes"] == [
        "ModelOpt takes whole batches of 4: 1 of the 3 calibration images were used twice"
    ]


def test_an_exception_of_modelopt_comes_with_its_log_fake(fake: Fake) -> None:
    fake.fault("import logging; logging.getLogger('modelopt.onnx').warning('odd'); raise KeyError('Conv_7')")
    with pytest.raises(LoweringError) as caught:
        fake.lower()
    text = str(caught.value)
    assert text.startswith(f"{fake.source}: ModelOpt failed\n")
    assert "KeyError: 'Conv_7' (" in text
    assert text.endswith('\n    odd\n  try:      or leave it to trtcheck: quantizer = "trtcheck"')


def test_a_broken_torch_is_told_with_what_to_do_fake(fake: Fake) -> None:
    fake.module.write_text("raise ImportError('libtorch.so: cannot open shared object file')")
    with pytest.raises(LoweringError, match=r"ModelOpt cannot be imported\n  found:    libtorch.so"):
        fake.lower()


def test_a_crash_of_modelopt_is_an_error_and_no_crash_of_ours_fake(fake: Fake) -> None:
    fake.fault("print('about to fall', flush=True); os.abort()")
    with pytest.raises(BackendError) as caught:
        fake.lower()
    assert "quantizing with ModelOpt ended without an answer" in str(caught.value)
    assert "about to fall" in str(caught.value)


def test_the_source_keeps_its_folder_to_itself_fake(fake: Fake) -> None:
    before = sorted(fake.folder.iterdir())
    fake.lower()
    assert sorted(fake.folder.iterdir()) == sorted(
        [*before, fake.folder / "told.json", fake.folder / "lowered.onnx"]
    )


def test_unnamed_open_dimensions_get_names_for_modelopt_fake(fake: Fake) -> None:
    model = cnn()
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    fake.source.write_bytes(model.SerializeToString())
    fake.fault("import onnx; raise ValueError(onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0])")
    with pytest.raises(LoweringError, match='dim_param: "x_axis0"'):
        fake.lower()


def test_one_quantized_factor_of_two_is_not_int8_fake(fake: Fake) -> None:
    """A node whose activation alone is quantized computes in floats."""
    made = lowered(cnn(), "int8", fake.folder / "work", [{"x": images()}], rest="fp32").model
    makers = {name: node for node in made.graph.node for name in node.output}
    gemm = next(node for node in made.graph.node if node.name == "gemm")
    assert makers[gemm.input[1]].op_type == "DequantizeLinear"
    made.graph.initializer.append(weight("plain", np.ones((5, 8), np.float32)))
    gemm.input[1] = "plain"
    fake.answer(made)
    assert [entry["node"] for entry in fake.lower(rest="fp32")["kept"]] == ["gemm"]
