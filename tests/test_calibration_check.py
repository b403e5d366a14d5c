"""The check ``calibration`` from data and model to outcome: plain words where something is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import suite_models
from calibration_pictures import CLASSES, DEMO, MISCALIBRATED, clothes
from graphs import FLOAT, graph, weight
from onnx import helper
from PIL import Image

from trtcheck.calibration import overlap
from trtcheck.calibration.check import outcome
from trtcheck.case import (
    Case,
    EngineSpec,
    Gates,
    InputSpec,
    LoweringSpec,
    OnFinding,
    Outcome,
    Precision,
    Verdict,
)
from trtcheck.errors import DataError, LoweringError
from trtcheck.progress import LoggedProgress
from trtcheck.session import Workbench

INT8 = EngineSpec("int8", Precision.INT8)
TINY = InputSpec(scale=1 / 255)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(
        cache=tmp_path / "cache", shared=tmp_path / "shared", backend="onnxruntime", threads=2,
        progress=LoggedProgress(),
    )  # fmt: skip


def fashion(**changes: object) -> Case:
    """The demo's case."""
    case = Case(
        name="fashion", onnx=DEMO / "model.onnx", data=DEMO / "eval.npz", classes=CLASSES, batch=100,
        calibration=DEMO / "calibration.npz",
        input=InputSpec(scale=1 / 255, mean=(0.286,), std=(0.353,)),
        lowering={Precision.INT8: LoweringSpec(method="percentile", percentile=99.999)},
    )  # fmt: skip
    return replace(case, **changes)  # type: ignore[arg-type]


def tiny(tmp_path: Path, calibration: object, **changes: object) -> Case:
    path = suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    case = Case(
        name="tiny", onnx=path, data=suite_models.images(120), classes=suite_models.CLASSES,
        calibration=calibration, input=TINY,
    )  # fmt: skip
    return replace(case, **changes)  # type: ignore[arg-type]


def judged(bench: Workbench, case: Case, engine: EngineSpec = INT8) -> Outcome:
    result = outcome(case, engine, bench.built(case, engine), bench.calibration(case, engine))
    json.dumps(result.measured, allow_nan=False)
    return result


def test_the_demo_is_clean(bench: Workbench) -> None:
    found = judged(bench, fashion())
    assert (found.verdict, found.warnings) == (Verdict.PASS, ())
    assert found.message.startswith(
        "1000 calibration images, all different, none of the 10000 evaluation images among them; "
        "all 10 classes seen (by their labels; fewest: 100 of 'T-shirt/top'); "
        "largest share outside the calibrated range "
    )
    assert any("cropped" in note for note in found.notes)
    assert found.measured["saturation"]["tensors"] == len(found.measured["saturation"]["rows"]) == 17
    assert found.measured["saturation"]["images"] == 1000
    assert found.measured["coverage"]["counts"]["Bag"] == 100


def test_the_miscalibrated_demo_is_warned_of_in_plain_words(bench: Workbench) -> None:
    case = fashion(name="ruined", calibration=MISCALIBRATED / "calibration.npz")
    found = judged(bench, case)
    assert found.verdict is Verdict.PASS
    (text,) = found.warnings
    assert "8 of 17 quantized tensors leave the calibrated range" in text
    assert "(an input of the model): .290 of the values lie outside -0.817 to 0.811" in text
    assert "scale, mean and std" in text


def test_calibration_in_a_larger_scale_is_warned_of(bench: Workbench) -> None:
    with np.load(DEMO / "calibration.npz") as file:
        loud = file["images"][:150].astype(np.float32) * 255
    found = judged(bench, fashion(name="loud", calibration=loud))
    assert any("use less than 1/16 of the calibrated range" in text for text in found.warnings)


def test_an_error_where_asked(bench: Workbench) -> None:
    images, labels = clothes(300)
    case = fashion(
        data=(images, labels), calibration=(images[:200], labels[:200]),
        gates=Gates(on_calibration=OnFinding.FAIL),
    )  # fmt: skip
    found = judged(bench, case)
    assert found.verdict is Verdict.FAIL
    assert found.fails
    assert "200 of 300 evaluation images are calibration images, too" in found.message
    assert found.measured["overlap"]["exact"] == 200
    assert found.warnings == ()  # what fails is told once
    told = judged(bench, replace(case, gates=Gates()))
    assert (told.verdict, "; ".join(told.warnings)) == (Verdict.PASS, found.message)


def test_copies_are_named_by_their_files(bench: Workbench, tmp_path: Path) -> None:
    images, labels = clothes(120)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "data" / CLASSES[label].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k:03}.png")
    flat = tmp_path / "calibration"
    flat.mkdir()
    for k, image in enumerate(clothes(1200)[0][1090:]):
        Image.fromarray(image).save(flat / f"other-{k:03}.png")
    Image.fromarray(images[7]).save(flat / "exact.png")
    Image.fromarray(images[8]).resize((84, 84), Image.Resampling.BICUBIC).save(
        flat / "larger.jpg", quality=90
    )
    names = tuple(name.replace("/", "-") for name in CLASSES)
    spec = InputSpec(scale=1 / 255, mean=(0.286,), std=(0.353,), resize=(28, 28), color="L")
    case = fashion(name="folders", data=tmp_path / "data", calibration=flat, classes=names, input=spec)
    exact, other = judged(bench, case).warnings
    assert exact.startswith("1 of 120 evaluation images is a calibration image, too (evaluation image ")
    assert f"({names[labels[7]]}/007.png) is calibration image 0 (exact.png)" in exact
    assert f"({names[labels[8]]}/008.png) is calibration image 1 (larger.jpg)" in other


def test_few_images_and_copies_among_them_are_told(bench: Workbench, tmp_path: Path) -> None:
    images, labels = suite_models.images(50, seed=5)
    found = judged(bench, tiny(tmp_path, (np.tile(images, (20, 1, 1)), np.tile(labels, 20))))
    copies, few = found.warnings[:2]
    assert copies.startswith("only 50 of 1000 calibration images are different")
    assert few.startswith("50 different calibration images are few: NVIDIA recommends about 500")


def test_one_image_is_told_in_the_singular(bench: Workbench, tmp_path: Path) -> None:
    images, labels = suite_models.images(1, seed=5)
    found = judged(bench, tiny(tmp_path, (images, labels)))
    assert found.message.startswith("1 calibration image, none of the 120 evaluation images among them; ")
    assert found.warnings[0].startswith("1 calibration image is too few: NVIDIA recommends about 500")


def test_a_single_copy_among_many_is_no_warning(bench: Workbench, tmp_path: Path) -> None:
    images, labels = suite_models.images(200, seed=5)
    images[7] = images[11]
    found = judged(bench, tiny(tmp_path, (images, labels), gates=Gates(saturation=0.1)))
    assert found.warnings == ()
    assert "200 calibration images, 199 different" in found.message
    assert any("only exact copies were looked for" in note for note in found.notes)


def test_the_limit_of_saturation_is_the_gate(bench: Workbench, tmp_path: Path) -> None:
    images, labels = suite_models.images(200, seed=5)
    case = tiny(tmp_path, ((images * 0.7).astype(np.uint8), labels))
    worst = judged(bench, case).measured["saturation"]["rows"][0]["share"]
    assert worst > 0.01
    for limit, count in ((worst * 0.99, 1), (worst * 1.01, 0)):
        found = judged(bench, replace(case, gates=Gates(saturation=limit)))
        assert sum("leave the calibrated range" in text for text in found.warnings) == count


def foreign(tmp_path: Path) -> Path:
    """The tiny classifier with its features quantized elsewhere, to UINT8."""
    model = suite_models.classifier()
    model.graph.initializer.extend([weight("scale", np.float32(1 / 200)), weight("zero", np.uint8(0))])
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    flatten.input[0] = "dequantized"
    pair = [
        helper.make_node("QuantizeLinear", ["halves", "scale", "zero"], ["quantized"], name="q"),
        helper.make_node("DequantizeLinear", ["quantized", "scale", "zero"], ["dequantized"], name="dq"),
    ]
    index = list(model.graph.node).index(flatten)
    nodes = [*model.graph.node[:index], *pair, *model.graph.node[index:]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return suite_models.save(model, tmp_path / "foreign.onnx")


def test_a_model_that_was_quantized_elsewhere_is_looked_into(bench: Workbench, tmp_path: Path) -> None:
    case = tiny(tmp_path, None, lowered={Precision.INT8: foreign(tmp_path)})
    found = judged(bench, case)
    assert found.verdict is Verdict.PASS
    assert found.message == (
        "largest share outside the calibrated range 0 %: 'halves' (made by 'relu'), of 1 quantized tensor on "
        "120 evaluation images"
    )
    assert any("the suite names no calibration data" in note for note in found.notes)
    assert (found.measured["overlap"], found.measured["coverage"]) == (None, None)


def test_nothing_quantized_is_a_skip_that_says_so(bench: Workbench, tmp_path: Path) -> None:
    same = suite_models.save(suite_models.classifier(), tmp_path / "same.onnx")
    found = judged(bench, tiny(tmp_path, None), EngineSpec("same", None, same))
    assert found.verdict is Verdict.SKIPPED
    assert "no activation of the lowered model is quantized" in found.message


def test_integer_inputs_and_several_inputs(bench: Workbench, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 10_000, (400, 7))
    labels = (tokens.sum(axis=1) > 35).astype(np.int64)
    case = Case(
        name="sums", onnx=suite_models.save(suite_models.sums(), tmp_path / "sums.onnx"),
        data=(tokens[:200], labels[:200]), calibration=(tokens[195:], labels[195:]), classes=("low", "high"),
    )  # fmt: skip
    found = judged(bench, case)
    assert "5 of 200 evaluation images are calibration images, too" in found.warnings[0]
    images, truth = suite_models.images(120)
    np.savez(tmp_path / "two.npz", images=images, weight=np.ones((120, 1), np.float32), labels=truth)
    np.savez(tmp_path / "cal.npz", images=images[:60], weight=np.full((60, 1), 2, np.float32))
    two = Case(
        name="two", onnx=suite_models.save(suite_models.two_inputs(), tmp_path / "two.onnx"), input=TINY,
        data=tmp_path / "two.npz", calibration=tmp_path / "cal.npz", classes=suite_models.CLASSES,
    )  # fmt: skip
    found = judged(bench, two)
    assert found.measured["overlap"]["exact"] == 0, "the weights differ"
    assert found.measured["coverage"]["by"] == "answers"


def test_a_fixed_batch(bench: Workbench, tmp_path: Path) -> None:
    path = suite_models.save(suite_models.classifier(batch=16), tmp_path / "fixed.onnx")
    images, labels = suite_models.images(131, seed=3)
    case = tiny(tmp_path, (images, labels), onnx=path)
    found = judged(bench, case)
    overlap, rows = found.measured["overlap"], found.measured["saturation"]["rows"]
    assert (overlap["images"], overlap["distinct"], overlap["evaluated"]) == (131, 131, 120)
    assert found.measured["saturation"]["images"] == 112
    assert {row["elements"] % 112 for row in rows} == {0}


def test_calibration_data_of_another_shape_are_an_error_in_words(bench: Workbench, tmp_path: Path) -> None:
    images, labels = suite_models.images(120)
    with pytest.raises(DataError, match="does not fit the model's input 'images'"):
        judged(bench, tiny(tmp_path, (images[:, :6], labels)))
    lowered = {Precision.INT8: foreign(tmp_path)}
    with pytest.raises(DataError, match="does not fit the model's input 'images'"):
        judged(bench, tiny(tmp_path, (images[:, :6], labels), lowered=lowered, name="lowered"))
    with pytest.raises(LoweringError, match="INT8 needs calibration data"):
        judged(bench, tiny(tmp_path, None, name="none"))


def test_a_corrupt_file_is_named(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for k in range(3):
        Image.new("L", (8, 8), 40 * k).save(tmp_path / "data" / f"{k}.png")
    (tmp_path / "data" / "1.png").write_bytes(b"\x89PNG no more")
    spec = replace(TINY, color="L")
    images = tmp_path / "evaluation"
    for k, name in enumerate(suite_models.CLASSES):
        (images / name).mkdir(parents=True)
        Image.new("L", (8, 8), 60 * k).save(images / name / "0.png")
    case = tiny(
        tmp_path, tmp_path / "data", input=spec, data=images, lowered={Precision.INT8: foreign(tmp_path)}
    )
    with pytest.raises(DataError, match=r"1\.png: cannot be read as an image"):
        judged(bench, case)


def test_ranges_that_no_file_fixes_are_no_pass(bench: Workbench, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dynamic"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dq"),
    ]
    model = graph(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])])
    path = suite_models.save(model, tmp_path / "dynamic.onnx")
    data = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    case = Case(name="dynamic", onnx=path, data=data, checks=("build", "outputs"))
    found = judged(bench, case, EngineSpec("dynamic", None, path))
    assert found.verdict is Verdict.SKIPPED
    assert "no activation of the lowered model is quantized to a fixed range" in found.message


def test_the_calibration_data_are_read_once_for_all_engines_of_a_case(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = suite_models.images(120)
    path = foreign(tmp_path)
    case = tiny(tmp_path, (images[:40], labels[:40]), lowered={Precision.INT8: path})
    read = []
    original = overlap.compare
    monkeypatch.setattr(
        "trtcheck.calibration.examine.compare", lambda *a, **b: read.append(1) or original(*a, **b)
    )
    first, second = judged(bench, case), judged(bench, case, EngineSpec("other", None, path))
    assert first.measured["overlap"] == second.measured["overlap"]
    assert first.measured["overlap"]["exact"] == 40
    assert len(read) == 1
    changed = replace(case, name="changed", calibration=suite_models.images(30, seed=7))
    assert judged(bench, changed).measured["overlap"]["exact"] == 0
