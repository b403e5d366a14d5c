"""``pytest-trtcheck predict``: what a model sees in an image."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import suite_models
from PIL import Image

from trtcheck import cli


def told(capsys, suite, *args: object, model: str = "tiny", status: int = 0) -> str:
    usual = [f"--cache={suite.path / 'cache'}", "--backend=onnxruntime-cpu"]
    words = ["predict", *usual, suite.path, model, *args]
    assert cli.main(list(map(str, words))) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err if status else captured.out


def found(capsys, suite, *args: object) -> list[dict]:
    return json.loads(told(capsys, suite, *args, "--json"))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def expected(suite, image: np.ndarray) -> list[list]:
    """The model's probabilities by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(str(suite.path / "model.onnx"))
    [name] = [tensor.name for tensor in session.get_inputs()]
    feed = (image[None, None] * np.float32(1 / 255)).astype(np.float32)
    shares = softmax(session.run(None, {name: feed})[0][0].astype(np.float64))
    order = np.argsort(-shares, kind="stable")
    return [[suite_models.CLASSES[k], pytest.approx(shares[k], abs=1e-6)] for k in order]


def test_an_evaluation_image_is_asked_by_its_number(suite, capsys):
    [row] = found(capsys, suite, 3, "--engine=fp32,fp16", "--top=4")
    images, labels = suite_models.images()
    assert row["truth"] == suite_models.CLASSES[labels[3]]
    assert [own["engine"] for own in row["predictions"]] == ["reference", "fp32", "fp16"]
    assert [own["numerics"] for own in row["predictions"]] == ["native", "native", "emulated"]
    assert row["predictions"][0]["best"] == expected(suite, images[3])
    assert row["predictions"][2]["best"][0][0] == row["predictions"][0]["best"][0][0]


def test_an_image_file_is_decoded_resized_and_said(suite, capsys):
    pixels = suite_models.images()[0][5]
    Image.fromarray(pixels).save(suite.path / "same.png")
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).convert("RGB").save(
        suite.path / "large.png"
    )
    same, large = found(
        capsys, suite, suite.path / "same.png", suite.path / "large.png", "--engine=fp16", "--top=4"
    )
    assert same["notes"] == []
    assert same["predictions"][0]["best"] == expected(suite, pixels)
    assert large["notes"] == ["large.png was resized from 64 x 64 to 8 x 8, the size of the evaluation data"]
    assert large["predictions"][0]["best"][0][0] == same["predictions"][0]["best"][0][0]
    assert same["truth"] is None


def test_a_folder_of_colour_images_takes_files_as_its_own(suite, capsys):
    suite.model(suite_models.colours())
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 200
    for name in ("red", "green", "blue"):
        (suite.path / "photos" / name).mkdir(parents=True)
        Image.fromarray(red).save(suite.path / "photos" / name / "1.png")
    tables = "[models.tiny.input]\nscale = 0.0039\nresize = [8, 8]"
    suite.toml(tables, data="photos", calibration=None, classes=["red", "green", "blue"], scaled=False)
    Image.fromarray(red[:, ::-1]).save(suite.path / "mine.jpg")
    own, kept = found(capsys, suite, suite.path / "mine.jpg", 0, "--engine=fp16")
    assert own["predictions"][0]["best"][0][0] == "red"
    assert kept["image"].startswith("image 0 (")
    assert kept["predictions"][1]["best"][0][0] == "red"


def test_inputs_that_are_no_images_are_given_as_arrays(suite, capsys):
    suite.model(suite_models.sums())
    tokens = np.arange(70, dtype=np.int64).reshape(10, 7)
    suite.data(tokens=tokens, labels=np.zeros(10, int))
    suite.toml(classes=["low", "high"], calibration=None, scaled=False)
    np.save(suite.path / "mine.npy", np.full((1, 7), 100))
    own, kept = found(capsys, suite, suite.path / "mine.npy", 0, "--engine=fp16")
    assert own["predictions"][0]["best"][0] == ["high", 1.0]
    assert kept["predictions"][0]["best"][0][0] == "low"


def test_a_broken_engine_is_seen_at_once(suite, capsys):
    suite.model(suite_models.overflowing())
    text = told(capsys, suite, 1, "--engine=fp16")
    assert text.startswith("image 1: a 'right'\n  reference (native)\n    right ")
    assert "  fp16 (emulated)  <- another answer" in text or "no answer: the scores are not finite" in text
    assert max(map(len, text.splitlines())) <= 60


def test_the_suite_names_the_engines_where_the_command_does_not(suite, capsys):
    suite.toml(engines=["fp16"])
    [row] = found(capsys, suite, 0)
    assert [own["engine"] for own in row["predictions"]] == ["reference", "fp16"]
    suite.toml(calibration=None)
    [row] = found(capsys, suite, 0)
    assert [own["engine"] for own in row["predictions"]] == ["reference", "fp32", "fp16"]


def test_a_model_of_fixed_batch_is_padded(suite, capsys):
    suite.model(suite_models.classifier(batch=16))
    images = suite_models.images()[0]
    rows = found(capsys, suite, 0, 1, 2, "--engine=fp16", "--top=4")
    assert [row["predictions"][0]["best"] for row in rows] == [
        expected_padded(suite, images[k]) for k in range(3)
    ]


def expected_padded(suite, image: np.ndarray) -> list[list]:
    session = onnxruntime.InferenceSession(str(suite.path / "model.onnx"))
    feed = np.repeat((image[None, None] * np.float32(1 / 255)).astype(np.float32), 16, axis=0)
    shares = softmax(session.run(None, {session.get_inputs()[0].name: feed})[0][0].astype(np.float64))
    order = np.argsort(-shares, kind="stable")
    return [[suite_models.CLASSES[k], pytest.approx(shares[k], abs=1e-6)] for k in order]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere.png"], "no such file"),
        (["240"], "0 to 239"),
        (["-1"], ""),
        (["model.onnx"], "cannot be read as an image"),
        (["eval.npz"], "several inputs"),
        (["3", "--engine=fp99"], "fp99"),
        (["3", "--backend=nonsense"], "nonsense"),
        (["3", "--top=0"], "--top"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(suite, capsys, monkeypatch, args, words):
    monkeypatch.chdir(suite.path)
    assert words in told(capsys, suite, *args, status=2)


def test_an_unknown_model_or_suite_is_told(suite, capsys):
    text = told(capsys, suite, 3, model="tinny", status=2)
    assert "there is no model 'tinny'" in text
    assert "did you mean tiny?" in text
    (suite.path / "trtcheck.toml").unlink()
    assert "trtcheck.toml" in told(capsys, suite, 3, status=2)


def test_a_model_without_scores_predicts_nothing(suite, capsys):
    suite.toml(classes=None, checks=["build", "outputs"])
    text = told(capsys, suite, 3, "--engine=fp16", status=2)
    assert "gives no class scores" in text
