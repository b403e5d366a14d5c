"""``pytest-trtcheck predict``: what a model sees in an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import suite_models
from PIL import Image
from rich.cells import cell_len

import trtcheck
from trtcheck import cli
from trtcheck.prediction.answers import Prediction, Seen, Shares
from trtcheck.prediction.columns import as_text
from trtcheck.prediction.inputs import Asked


@pytest.fixture(autouse=True)
def _as_in_a_pipe(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")


def told(capsys, suite, *args: object, model: str = "tiny", status: int = 0) -> str:
    usual = (f"--cache={suite.path / 'cache'}", "--backend=onnxruntime-cpu")
    words = ["predict", suite.path, model, *usual, *args]
    assert cli.main(list(map(str, words))) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err if status else captured.out


def found(capsys, suite, *args: object) -> list[dict[str, Any]]:
    return json.loads(told(capsys, suite, *args, "--json"))["images"]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def expected(suite, image: np.ndarray, batch: int = 1) -> list[list]:
    """The model's probabilities by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(str(suite.path / "model.onnx"))
    [name] = [tensor.name for tensor in session.get_inputs()]
    feed = np.repeat((image[None, None] * np.float32(1 / 255)).astype(np.float32), batch, axis=0)
    shares = softmax(session.run(None, {name: feed})[0][0].astype(np.float64))
    order = np.argsort(-shares, kind="stable")
    return [[suite_models.CLASSES[k], pytest.approx(shares[k], abs=1e-6)] for k in order]


def colour_folder(suite, tables: str, **keys: object) -> np.ndarray:
    """A suite of colour photos 30 wide and 20 high; returns the red one."""
    suite.model(suite_models.colours())
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 200
    for channel, name in enumerate(("red", "green", "blue")):
        (suite.path / "photos" / name).mkdir(parents=True)
        Image.fromarray(np.roll(red, channel, axis=2)).save(suite.path / "photos" / name / "1.png")
    made = {"data": "photos", "calibration": None, "classes": ["red", "green", "blue"], **keys}
    suite.toml(f"[models.tiny.input]\nscale = 0.0039\n{tables}", scaled=False, **made)
    return red


# what is asked


def test_an_evaluation_image_is_asked_by_its_number(suite, capsys):
    [row] = found(capsys, suite, 3, "--engine=fp32,fp16", "--top=4")
    images, labels = suite_models.images()
    assert (row["name"], row["index"], row["file"]) == ("image 3", 3, None)
    assert row["truth"] == suite_models.CLASSES[labels[3]]
    assert [own["engine"] for own in row["predictions"]] == ["reference", "fp32", "fp16"]
    assert [own["numerics"] for own in row["predictions"]] == ["native", "native", "emulated"]
    assert row["predictions"][0]["top"] == expected(suite, images[3])
    assert {own["answer"] for own in row["predictions"]} == {suite_models.CLASSES[labels[3]]}


@pytest.mark.parametrize("kind", ["png", "bmp", "webp"])
def test_an_image_file_is_what_its_pixels_are_in_the_data(suite, capsys, kind):
    pixels = suite_models.images()[0][5]
    path = suite.path / f"same.{kind}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if kind == "webp" else {}))
    [same] = found(capsys, suite, path, "--engine=fp16", "--top=4")
    assert (same["notes"], same["truth"], same["file"]) == ([], None, str(path))
    assert same["predictions"][0]["top"] == expected(suite, pixels)


def test_a_file_of_another_size_and_colour_is_resized_and_that_is_said(suite, capsys):
    pixels = suite_models.images()[0][5]
    large = suite.path / "large.png"
    Image.fromarray(pixels).resize((64, 32), Image.Resampling.NEAREST).convert("RGB").save(large)
    [row] = found(capsys, suite, large, "--engine=fp16", "--top=4")
    assert row["notes"] == [
        "resized from 64 x 32 to 8 x 8 pixels (width x height), the size of the evaluation data"
    ]
    shrunk = np.asarray(Image.open(large).convert("L").resize((8, 8), Image.Resampling.BILINEAR))
    assert row["predictions"][0]["top"] == expected(suite, shrunk)
    text = told(capsys, suite, large, "--engine=fp16")
    assert "note: resized from 64 x 32 to 8 x 8 pixels" in text
    assert max(map(len, text.splitlines()[1:])) <= 60


def test_a_photo_is_turned_upright_as_the_folder_source_does(suite, capsys):
    pixels = suite_models.images()[0][4]  # bright at the left
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(pixels[::-1, ::-1]).save(suite.path / "turned.png", exif=exif)
    [row] = found(capsys, suite, suite.path / "turned.png", "--engine=fp16", "--top=4")
    assert row["predictions"][0]["top"] == expected(suite, pixels)
    assert row["predictions"][0]["answer"] == "left"


def test_a_folder_of_colour_images_takes_files_as_its_own(suite, capsys):
    red = colour_folder(suite, "resize = [8, 8]")
    Image.fromarray(red[:, ::-1]).save(suite.path / "mine.jpg")
    own, kept = found(capsys, suite, suite.path / "mine.jpg", 2, "--engine=fp16")
    assert (own["predictions"][0]["answer"], own["notes"]) == ("red", [])
    assert (kept["index"], kept["truth"], kept["predictions"][1]["answer"]) == (2, "red", "red")
    assert kept["file"] == str(suite.path / "photos" / "red" / "1.png")
    text = told(capsys, suite, 2, "--engine=fp16")
    assert text.startswith("image 2, labelled 'red'\n")


def test_bgr_folders_and_sizes_without_resize(suite, capsys):
    red = colour_folder(suite, 'color = "BGR"')
    for path in suite.path.glob("photos/*/1.png"):
        Image.open(path).resize((8, 8)).save(path)
    Image.fromarray(red).save(suite.path / "mine.png")
    [row] = found(capsys, suite, suite.path / "mine.png", "--engine=fp16")
    assert row["predictions"][0]["answer"] == "blue"  # the first channel is what the model takes for red
    assert row["notes"][0].startswith("resized from 30 x 20 to 8 x 8 pixels")


@pytest.mark.parametrize("channels_first", [True, False])
def test_arrays_of_colour_images_take_colour_files(suite, capsys, channels_first):
    suite.model(suite_models.colours())
    data = np.zeros((4, 8, 8, 3), np.uint8)
    suite.data(images=np.moveaxis(data, 3, 1) if channels_first else data, labels=np.zeros(4, int))
    suite.toml(calibration=None, classes=["red", "green", "blue"])
    green = np.zeros((8, 8, 3), np.uint8)
    green[..., 1] = 250
    Image.fromarray(green).save(suite.path / "green.png")
    [row] = found(capsys, suite, suite.path / "green.png", "--engine=fp16")
    assert row["predictions"][0]["answer"] == "green"


def test_inputs_that_are_no_images_are_given_as_arrays(suite, capsys):
    suite.model(suite_models.sums())
    tokens = np.arange(70, dtype=np.int64).reshape(10, 7)
    suite.data(tokens=tokens, labels=np.zeros(10, int))
    suite.toml(classes=["low", "high"], calibration=None, scaled=False)
    np.save(suite.path / "mine.npy", np.full((1, 7), 100))
    np.save(suite.path / "bare.npy", np.full(7, 100))
    suite.data("named.npz", tokens=np.full((1, 7), 100), labels=[1])
    files = [suite.path / name for name in ("mine.npy", "bare.npy", "named.npz")]
    *own, kept = found(capsys, suite, *files, 0, "--engine=fp16")
    assert [row["predictions"][0]["top"][0] for row in own] == [["high", 1.0]] * 3
    assert [row["truth"] for row in own] == [None, None, "high"]
    assert kept["predictions"][0]["answer"] == "low"
    Image.new("L", (7, 1)).save(suite.path / "image.png")
    error = told(capsys, suite, suite.path / "image.png", status=2)
    assert "tokens: int64 (7,)" in error
    assert ".npy" in error


def test_models_of_several_inputs_take_an_archive(suite, capsys):
    suite.model(suite_models.two_inputs())
    images, labels = suite_models.images(8)
    suite.data(images=images, weight=np.ones((8, 1), np.float32), labels=labels)
    suite.toml(calibration=None)
    suite.data("mine.npz", images=images[:1], weight=np.full((1, 1), 2, np.float32))
    one, two = found(capsys, suite, 0, suite.path / "mine.npz", "--engine=fp16")
    first, second = one["predictions"][0]["top"][0], two["predictions"][0]["top"][0]
    assert first[0] == second[0]
    assert second[1] > first[1]
    np.save(suite.path / "images.npy", images[:1])
    assert "expected: images, weight" in told(capsys, suite, suite.path / "images.npy", status=2)


# who is asked


def test_the_suite_names_the_engines_where_the_command_does_not(suite, capsys):
    suite.toml(engines=["fp16"])
    [row] = found(capsys, suite, 0)
    assert [own["engine"] for own in row["predictions"]] == ["reference", "fp16"]
    suite.toml()
    [row] = found(capsys, suite, 0)
    assert [own["engine"] for own in row["predictions"]] == ["reference", "fp32", "fp16", "int8"]
    suite.toml(calibration=None)
    text = told(capsys, suite, 0)
    assert text.startswith("note: int8 is left out: the model has no calibration data\n")
    assert "int8 " not in text.partition("\n")[2]


def recorded(suite, scores: np.ndarray) -> Path:
    folder = suite.path / "board"
    folder.mkdir()
    np.savez(folder / "outputs.npz", scores=scores)
    return folder


def test_a_recording_knows_the_evaluation_images_alone(suite, capsys):
    scores = np.zeros((240, 4), np.float32)
    scores[:, 3] = 5
    scores[17, 1] = 9
    folder = recorded(suite, scores)
    first, second = found(capsys, suite, 17, 2, f"--engine={folder}", "--top=1")
    assert first["predictions"][1]["numerics"] == "recorded"
    assert first["predictions"][1]["top"][0] == ["right", pytest.approx(softmax(scores[17])[1])]
    assert second["predictions"][1]["answer"] == "bright"
    assert "recorded: read from a file that was recorded elsewhere" in told(
        capsys, suite, 17, f"--engine={folder}"
    )
    Image.new("L", (8, 8)).save(suite.path / "new.png")
    error = told(capsys, suite, suite.path / "new.png", f"--engine={folder}", status=2)
    assert "the answers of 'board' are recorded: it knows the evaluation images alone" in error
    suite.toml(engines=["fp16", "board"])
    text = told(capsys, suite, suite.path / "new.png")
    assert text.startswith("note: 'board' is left out")
    assert "fp16" in text
    assert "board" in told(capsys, suite, 2).partition("\n")[2]


def test_a_model_of_fixed_batch_is_padded(suite, capsys):
    suite.model(suite_models.classifier(batch=16))
    images = suite_models.images()[0]
    rows = found(capsys, suite, 0, 1, 2, "--engine=fp16", "--top=4")
    assert [row["predictions"][0]["top"] for row in rows] == [
        expected(suite, images[k], batch=16) for k in range(3)
    ]


def test_a_broken_engine_is_seen_at_once(suite, capsys):
    suite.model(suite_models.overflowing())
    text = told(capsys, suite, 1, "--engine=fp16")
    assert "fp16 answers nothing (its scores are not finite) where the reference answers 'right'" in (
        " ".join(text.split())
    )
    [row] = found(capsys, suite, 1, "--engine=fp16")
    assert [own["answer"] for own in row["predictions"]] == ["right", None]
    assert max(map(len, text.splitlines())) <= 60


# what is printed


def seen(engines: list[str], classes: list[str], answers: list[str | None]) -> Seen:
    shares = tuple(Shares(name, tuple(0.125 for _ in engines)) for name in classes)
    predictions = tuple(
        Prediction(engine, "native", answer, ((classes[0], 0.125),))
        for engine, answer in zip(engines, answers, strict=True)
    )
    return Seen(Asked("image 1", {}, 1), predictions, shares)


def test_engines_stand_side_by_side_in_columns():
    text = as_text([seen(["reference", "fp16", "int8"], ["cat", "a dog"], ["cat", "cat", "a dog"])])
    assert text == (
        "image 1\n\n"
        "       reference    fp16    int8\n"
        "          native  native  native\n"
        "cat        *.125   *.125    .125\n"
        "a dog       .125    .125   *.125\n\n"
        "int8 answers 'a dog' where the reference answers 'cat'\n\n"
        "* the answer\n"
    )


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_many_engines_of_long_and_wide_names_stay_within_the_line(count):
    engines = ["reference", *(f"an-engine-with-a-very-long-name-{k}" for k in range(count - 1))]
    classes = ["\N{CAT FACE}" * 40, "x" * 300, "猫の名前" * 20, "\x1b[31mred\n", "\u202eright"]
    text = as_text([seen(engines, classes, [classes[0]] * count)], width=10)
    tables = [line for block in text.split("\n\n")[1:-2] for line in block.splitlines()]
    assert len([line for line in tables if "red" in line]) == len(tables) / 7  # once a table
    assert max(map(cell_len, tables)) <= 60
    ends = {cell_len(line) for line in tables[-5:]}
    assert len(ends) == 1  # the columns are aligned
    assert "\x1b" not in text
    assert "\u202e" not in text
    for k in range(count - 1):
        assert f"name-{k}" in text


def test_an_output_that_lacks_the_signs_of_a_class_still_tells_the_rest(suite, capsys, monkeypatch):
    suite.toml(classes=["left", "r\N{LATIN SMALL LETTER I WITH DIAERESIS}ght", "猫", "bright"])
    with (suite.path / "out.txt").open("w", encoding="ascii") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert told(capsys, suite, 1, "--engine=fp16") == ""
        monkeypatch.undo()
    text = (suite.path / "out.txt").read_text(encoding="ascii")
    assert "labelled 'r\\xefght'" in text
    assert "\\u732b" in text


# what cannot be


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere.png"], "nowhere.png: is no file"),
        (["."], "found:    a folder"),
        (["240"], "0 to 239"),
        (["99999999999999999999"], "0 to 239"),
        (["-1"], "-1: is no file"),
        (["model.onnx"], "cannot be read as an image"),
        (["eval.npz"], "holds several inputs"),
        (["wide.npy"], "wide.npy"),
        (["text.npy"], "text.npy"),
        (["3", "--engine=fp99"], "fp99"),
        (["3", "--backend=nonsense"], "nonsense"),
        (["3", "--top=0"], "--top"),
        ([], "IMAGE"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(suite, capsys, monkeypatch, args, words):
    monkeypatch.chdir(suite.path)
    np.save("wide.npy", np.zeros((1, 9, 9), np.uint8))
    np.save("text.npy", np.full((1, 8, 8), "a"))
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


def test_a_lowered_file_without_the_scores_is_told(suite, capsys):
    other = suite_models.classifier()
    other.graph.node[-1].output[0] = other.graph.output[0].name = "renamed"
    suite.model(other, "other.onnx")
    text = told(capsys, suite, 3, f"--engine={suite.path / 'other.onnx'}", status=2)
    assert "no output 'scores'" in text
    assert "found:    renamed" in text


# in Python


def test_the_library_predicts_too(tmp_path):
    images, labels = suite_models.images()
    case = trtcheck.Case(
        name="tiny",
        onnx=suite_models.save(suite_models.classifier(), tmp_path / "model.onnx"),
        data=(images, labels),
        classes=suite_models.CLASSES,
        input=trtcheck.InputSpec(scale=1 / 255),
    )
    Image.fromarray(images[5]).save(tmp_path / "mine.png")
    own, kept = trtcheck.predict(
        case, ["fp16"], [tmp_path / "mine.png", 5], top=2, cache=tmp_path / "cache", threads=1
    )
    assert own.predictions == kept.predictions
    assert [len(prediction.best) for prediction in own.predictions] == [2, 2]
    assert kept.asked.truth == suite_models.CLASSES[labels[5]]
    with pytest.raises(ValueError, match="0 images"):
        trtcheck.predict(case, ["fp16"], [], cache=tmp_path / "cache")
