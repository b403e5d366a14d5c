"""From a case to its engine: what calibration sees, and what a failure says."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import suite_models
from onnx import helper, numpy_helper

import trtcheck
from trtcheck.cache import Cache
from trtcheck.case import Case, EngineSpec, InputSpec, LoweringSpec, Precision
from trtcheck.data.sources import open_images
from trtcheck.engines import MADE_AGAIN, CalibrationFeeds, Lowered, Workshop, lower
from trtcheck.errors import LoweringError, OptionError
from trtcheck.settings import parse_engines

# 64 dark images and a bright one: 65, so that a batch of 64 is padded with 63 copies of the bright one.
DARK_AND_BRIGHT = np.full((65, 1, 8, 8), 40, np.uint8)
DARK_AND_BRIGHT[-1] = 255


def case(folder: Path, batch: int | str) -> Case:
    folder.mkdir()
    suite_models.save(suite_models.classifier(batch=batch), folder / "model.onnx")
    spec = LoweringSpec(method="percentile", percentile=98.0, rest="fp32")
    return trtcheck.Case(
        name="tiny", onnx=folder / "model.onnx", data=folder / "eval.npz", calibration=DARK_AND_BRIGHT,
        batch=64, input=InputSpec(scale=1 / 255), lowering={Precision.INT8: spec},
    )  # fmt: skip


def int8(tiny: Case, folder: Path, threads: int = 0) -> dict[str, float]:
    """The scales of the activations of *tiny* in INT8."""
    (engine,) = parse_engines(["int8"], base=folder, where="here")
    images = open_images(DARK_AND_BRIGHT, role="calibration")
    workshop = Workshop(Cache(folder / "cache"), folder, threads=threads)
    made = onnx.load(lower(tiny, engine, workshop, images).path)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    return {name: float(a) for name, a in arrays.items() if name.endswith("_scale") and a.ndim == 0}


def test_a_fixed_batch_gives_the_scales_of_an_open_one(tmp_path: Path) -> None:
    """At the 98th percentile the one bright image of 65 does not count; 63 copies of it would."""
    fixed, free = (int8(case(tmp_path / str(batch), batch), tmp_path) for batch in (64, "N"))
    assert fixed == pytest.approx(free, rel=1e-3)
    assert len(fixed) > 1


def test_calibration_feeds_say_how_many_rows_are_images(tmp_path: Path) -> None:
    told: list[int] = []
    images = open_images(DARK_AND_BRIGHT, role="calibration")
    feeds = CalibrationFeeds(images, case(tmp_path / "fixed", 64), told.append)
    for _ in range(2):
        assert [(len(next(iter(arrays.values()))), count) for arrays, count in feeds] == [(64, 64), (64, 1)]
    assert told == [64, 1, 64, 1]


def test_an_operator_that_onnx_runtime_does_not_know_is_no_traceback(tmp_path: Path) -> None:
    tiny = case(tmp_path / "model", "N")
    model = onnx.load(tiny.onnx)
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    last.output[list(last.output).index(output)] = "before"
    model.graph.node.append(helper.make_node("Mystery", ["before"], [output], name="riddle", domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    onnx.save(model, tiny.onnx)
    with pytest.raises(LoweringError, match=r"model\.onnx: ONNX Runtime does not take the model"):
        int8(tiny, tmp_path)


def test_a_damaged_lowered_model_is_made_anew_and_said_so(tmp_path: Path) -> None:
    tiny, engine = case(tmp_path / "model", "N"), EngineSpec("fp16", Precision.FP16)

    def lowered(session: str) -> Lowered:
        (tmp_path / session).mkdir()
        return lower(tiny, engine, Workshop(Cache(tmp_path / "cache"), tmp_path / session), None)

    first = lowered("a")
    whole = first.path.read_bytes()
    assert MADE_AGAIN not in first.manifest["notes"]
    first.path.write_bytes(whole[:-1])
    second = lowered("b")
    assert second.path.read_bytes() == whole
    assert MADE_AGAIN in second.manifest["notes"]
    assert MADE_AGAIN not in lowered("c").manifest["notes"]


def test_a_disk_that_fills_up_names_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    tiny = case(tmp_path / "model", "N")
    monkeypatch.setattr(importlib.import_module("trtcheck.precision.lower"), "save", full)
    with pytest.raises(OptionError, match=r"cache[\s\S]*No space left[\s\S]*--trt-cache=DIR"):
        int8(tiny, tmp_path)
