"""Models and data of many kinds, in a toml alone."""

from __future__ import annotations

import numpy as np
import pytest
import suite_models
from onnx import TensorProto
from PIL import Image

FP16 = 6
"""Items of an engine."""
INT8 = 7
"""The same with that of the calibration."""


def test_a_fixed_batch_is_padded_and_the_padding_never_counted(suite):
    suite.model(suite_models.classifier(batch=7))
    suite.run("--trt-engine=fp16,int8").assert_outcomes(passed=FP16 + INT8)
    for engine in suite.report()["engines"]:
        assert engine["images"] == 240
        assert sum(map(sum, engine["confusion"]["before"])) == 240
        assert [row["support"] for row in engine["classes"]] == [60, 60, 60, 60]
        assert engine["outputs"][0]["elements"] == 960


def test_batch_size_changes_no_figure(suite):
    found = []
    for batch in (1, 32, 240, 1000):
        suite.toml(batch=batch)
        suite.run("--trt-engine=fp16", report=f"batch{batch}")
        found.append(suite.report(f"batch{batch}")["engines"][0])
    for other in found[1:]:
        for field in ("confusion", "flips", "accuracy", "images"):
            assert other[field] == found[0][field]


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_a_model_of_integers_of_another_rank(suite, kind):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 11, (400, 7)).astype(np.int32)
    tokens = tokens[abs(tokens.sum(axis=1) - 35) > 3]
    suite.model(suite_models.sums(kind=kind))
    suite.data(tokens=tokens, labels=(tokens.sum(axis=1) > 35).astype(int))
    suite.data("calibration.npz", tokens=tokens[:50])
    suite.toml(classes=["low", "high"], scaled=False)
    suite.run("--trt-engine=fp32,fp16,int8").assert_outcomes(passed=2 * FP16 + INT8)
    assert suite.report()["models"][0]["model"]["inputs"] == [
        f"tokens: int{32 if kind == TensorProto.INT32 else 64}[?, 7]"
    ]


def test_a_model_of_two_inputs_takes_arrays_by_their_names(suite):
    arrays = suite_models.arrays()
    weights = np.random.default_rng(0).uniform(1, 2, (240, 1)).astype(np.float32)
    suite.model(suite_models.two_inputs())
    suite.data(**arrays, weight=weights)
    suite.data("calibration.npz", images=arrays["images"][:40], weight=weights[:40])
    suite.run("--trt-engine=fp16,int8").assert_outcomes(passed=FP16 + INT8)
    suite.data(**arrays, waight=weights)
    suite.run("--trt-engine=fp16").assert_outcomes(passed=1, errors=FP16 - 1)
    assert "images, weight" in suite.item("fp16", "recall")["message"]


@pytest.mark.parametrize("layout", [None, "NHWC"])
def test_data_with_channels_last(suite, layout):
    arrays = suite_models.arrays()
    suite.data(images=arrays["images"][..., None], labels=arrays["labels"])
    suite.data("calibration.npz", images=arrays["images"][:40, ..., None])
    table = "[models.tiny.input]\nscale = 0.00392156862745098\n"
    suite.toml(table + (f'layout = "{layout}"' if layout else ""), scaled=False)
    suite.run("--trt-engine=fp16,int8").assert_outcomes(passed=FP16 + INT8)


def test_a_folder_of_images(suite):
    images, labels = suite_models.images()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = suite.path / "photos" / suite_models.CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((16, 16), Image.Resampling.NEAREST).save(folder / f"{number:03}.png")
    table = '[models.tiny.input]\nscale = 0.00392156862745098\ncolor = "L"\nresize = 8\ncrop = [8, 8]\n'
    suite.toml(table, data="photos", calibration="photos", scaled=False)
    suite.run("--trt-engine=fp16,int8").assert_outcomes(passed=FP16 + INT8)
    [row, *_] = suite.report()["engines"][0]["classes"]
    assert (row["name"], row["support"]) == ("left", 60)
    assert suite.item("fp16", "accuracy")["before"] > 0.95


def test_folders_name_the_classes_where_the_suite_does_not(suite):
    for label, name in enumerate("dcba"):
        folder = suite.path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(20):
            Image.fromarray(np.full((8, 8), 60 * label, np.uint8)).save(folder / f"{number}.png")
    table = '[models.tiny.input]\nscale = 0.00392156862745098\ncolor = "L"\n'
    suite.toml(table, data="photos", classes=None, scaled=False, calibration=None)
    suite.run("--trt-engine=fp32", "-k", "build or outputs").assert_outcomes(passed=2)
    assert suite.report()["models"][0]["classes"] == ["a", "b", "c", "d"]


def test_a_pair_of_npy_files(suite):
    images, labels = suite_models.images()
    np.save(suite.path / "x.npy", images)
    np.save(suite.path / "y.npy", labels)
    path = suite.toml(data="DATA")
    path.write_text(path.read_text().replace('"DATA"', '{ images = "x.npy", labels = "y.npy" }'))
    suite.run("--trt-engine=fp16,int8").assert_outcomes(passed=FP16 + INT8)
    assert suite.report()["models"][0]["data"]["name"] == "x.npy"


def test_classes_are_numbered_where_nobody_names_them(suite):
    suite.toml(classes=None)
    suite.run("--trt-engine=fp16").assert_outcomes(passed=FP16)
    assert suite.report()["models"][0]["classes"] == ["0", "1", "2", "3"]


def test_a_model_without_classes_is_compared_by_its_outputs(suite):
    suite.model(suite_models.regressor())
    suite.data(images=suite_models.images()[0])
    suite.toml(classes=None, checks=["build", "outputs"])
    result = suite.run("--trt-engine=fp32,fp16,int8")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["PASS *tiny[[]fp16[]] emulated: largest output error *"])
    assert suite.item("fp16", "outputs")["agreement"] is None


def test_an_output_error_in_the_summary_is_rounded(suite):
    suite.model(suite_models.regressor())
    suite.data(images=suite_models.images()[0])
    suite.toml(classes=None, checks=["build", "outputs"])
    result = suite.run("--trt-engine=fp16")
    result.stdout.re_match_lines([r"PASS .* largest output error 0\.000\d\d\d, checked: build, outputs$"])
    made = suite_models.regressor()
    made.graph.initializer[0].CopyFrom(
        suite_models.numpy_helper.from_array(np.full((1, 1, 8, 8), 3e4, np.float32), "kernel")
    )
    suite.model(made)
    result = suite.run("--trt-engine=fp16")
    result.stdout.re_match_lines(
        [r"FAIL .* 240 of 240 output values NaN or infinite, checked: build, outputs$"]
    )


def test_one_output_of_several_holds_the_scores(suite):
    made = suite_models.classifier()
    made.graph.output.append(made.graph.output[0])
    made.graph.output[1].name = "twin"
    made.graph.node.append(
        type(made.graph.node[0])(op_type="Identity", input=["scores"], output=["twin"], name="id")
    )
    suite.model(made)
    suite.run("--trt-engine=fp16").assert_outcomes(passed=1, errors=FP16 - 1)
    assert 'output = "…"' in suite.item("fp16", "recall")["message"]
    suite.toml(output="twin")
    suite.run("--trt-engine=fp16").assert_outcomes(passed=FP16)
    assert [row["name"] for row in suite.item("fp16", "outputs")["outputs"]] == ["scores", "twin"]
