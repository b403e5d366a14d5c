"""Which classes the calibration images show, and from where that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import suite_models
from PIL import Image

from trtcheck.calibration.coverage import cover, labels_of
from trtcheck.calibration.findings import CalibrationFindings, warnings
from trtcheck.case import Case, EngineSpec, Gates, InputSpec, Precision
from trtcheck.data.sources import open_images
from trtcheck.progress import LoggedProgress
from trtcheck.session import Workbench

INT8 = EngineSpec("int8", Precision.INT8)
CLASSES = suite_models.CLASSES


def told(shown: np.ndarray, truth: np.ndarray, classes: tuple[str, ...], **gates: object) -> tuple[str, ...]:
    """The warnings of calibration images of the classes *shown*."""
    coverage = cover(shown, truth, classes, by_labels=True)
    return warnings(CalibrationFindings(made_elsewhere=False, coverage=coverage), Gates(**gates))  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(
        cache=tmp_path / "cache", shared=tmp_path / "shared", backend="onnxruntime", threads=1,
        progress=LoggedProgress(),
    )  # fmt: skip


def case(tmp_path: Path, calibration: object) -> Case:
    path = suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    return Case(
        name="tiny", onnx=path, data=suite_models.images(120), classes=CLASSES, calibration=calibration,
        input=InputSpec(scale=1 / 255),
    )  # fmt: skip


def test_labels_tell_the_classes_where_every_image_has_one(tmp_path: Path, bench: Workbench) -> None:
    images, labels = suite_models.images(200, seed=7)
    kept = labels != 2
    found = bench.calibration(case(tmp_path, (images[kept], labels[kept])), INT8).coverage
    assert found is not None
    assert found.by_labels
    assert found.counts == {"left": 50, "right": 50, "dim": 0, "bright": 50}
    assert found.missing == ("dim",)


@pytest.mark.parametrize("unlabelled", ["all", "one"])
def test_else_the_answers_of_the_reference_tell_them(
    tmp_path: Path, bench: Workbench, unlabelled: str
) -> None:
    images, labels = suite_models.images(200, seed=7, noise=1)
    given = images if unlabelled == "all" else (images, np.where(np.arange(200) == 3, -1, labels))
    tiny = case(tmp_path, given)
    found = bench.calibration(tiny, INT8).coverage
    assert found is not None
    assert not found.by_labels
    answers = bench.reference(
        Case(name="other", onnx=tiny.onnx, data=(images, labels), classes=CLASSES, input=tiny.input)
    ).predicted
    assert list(found.counts.values()) == np.bincount(answers, minlength=4).tolist()


def test_folders_are_matched_with_the_classes_by_name(tmp_path: Path) -> None:
    for name, count in (("bright", 2), ("left", 1)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(count):
            Image.new("L", (8, 8), 10 * k).save(tmp_path / "data" / name / f"{k}.png")
    images = open_images(tmp_path / "data", spec=InputSpec(color="L"))
    labels = labels_of(images, CLASSES)
    assert labels is not None
    assert labels.tolist() == [3, 3, 0]
    assert labels_of(images, ("left", "right")) is None, "'bright' is no class of the model"


def test_only_classes_that_are_evaluated_are_missed() -> None:
    truth = np.repeat([0, 1, 3], 100)
    found = cover(np.repeat([0, 1], 50), truth, CLASSES, by_labels=True)
    assert found.missing == ("bright",)
    unlabelled = cover(np.repeat([0, 1], 50), np.full(300, -1), CLASSES, by_labels=True)
    assert unlabelled.missing == ("dim", "bright")


def test_the_warning_names_key_classes_first() -> None:
    classes = tuple(f"class {k}" for k in range(20))
    shown = np.tile(np.arange(8), 100)
    (text,) = told(shown, np.arange(20), classes, key_classes=("class 17", "class 3"))
    assert text.startswith(
        "no calibration image shows 12 of the 20 evaluated classes (by their labels): 'class 17', 'class 8', "
        "'class 9', 'class 10', 'class 11' and 7 more, key class 'class 17' among them"
    )


def test_five_hundred_images_need_not_show_a_thousand_classes_but_key_classes() -> None:
    classes = tuple(map(str, range(1000)))
    shown = np.random.default_rng(0).integers(0, 1000, 500)
    truth = np.repeat(np.arange(1000), 50)
    missing = cover(shown, truth, classes, by_labels=True).missing
    assert len(missing) > 500
    assert told(shown, truth, classes) == ()
    (text,) = told(shown, truth, classes, key_classes=(missing[0],))
    assert f"'{missing[0]}'" in text
    # A class that makes up a tenth of the evaluation is not missed by chance.
    (text,) = told(shown, np.concatenate([truth, np.repeat(int(missing[1]), 6000)]), classes)
    assert f": '{missing[1]}'. " in text


def test_images_that_the_reference_cannot_answer_are_told() -> None:
    (text,) = told(np.array([0, 1, 2, 3, -1] * 40), np.arange(4), CLASSES)
    assert "no answer (NaN) on 40 of 200 calibration images" in text


def test_without_class_scores_there_is_nothing_to_cover(tmp_path: Path, bench: Workbench) -> None:
    images, _ = suite_models.images(150)
    path = suite_models.save(suite_models.regressor(), tmp_path / "model.onnx")
    levels = Case(
        name="levels", onnx=path, data=images[:50], calibration=images[50:], checks=("build", "outputs")
    )
    found = bench.calibration(levels, INT8)
    assert found.coverage is None
    assert found.overlap is not None
