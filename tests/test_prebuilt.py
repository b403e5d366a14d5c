"""Engines that were built elsewhere are held against the case, and run in batches that they take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from trtcheck.backends.base import BackendInfo, BuiltEngine
from trtcheck.backends.tensorrt import EngineFacts
from trtcheck.case import BuildSpec, Case, EngineSpec, Numerics
from trtcheck.comparison import batching
from trtcheck.errors import CaseError, EngineError
from trtcheck.model import Signature, Tensor
from trtcheck.prebuilt import read_engine

FP32, FP16, INT64 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int64)
IMAGE, SCORES = Tensor("image", FP32, (None, 3, 8, 8)), Tensor("scores", FP32, (None, 5))
REFERENCE = Signature((IMAGE,), (SCORES,))


class FakeTensorRt:
    """Stands for a TensorRT that read an engine: no machine here can."""

    info = BackendInfo("tensorrt", "11.4", "some GPU", "")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.asked: list[BuildSpec] = []

    def inspect(self, engine: Path, spec: BuildSpec) -> EngineFacts:
        self.asked.append(spec)
        return EngineFacts(self.signature, {"nodes": 7, "engine_bytes": engine.stat().st_size}, ("a note",))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(name="m", onnx=tmp_path / "m.onnx", data=tmp_path / "eval.npz", batch=32)


def read(case: Case, signature: Signature) -> BuiltEngine:
    path = case.onnx.with_suffix(".engine")
    path.write_bytes(b"ftrt")
    return read_engine(EngineSpec("m", None, path), case, REFERENCE, FakeTensorRt(signature))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"dtype": FP16}, {"dtype": np.dtype(ml_dtypes.bfloat16)}, {"shape": (1, 3, 8, 8)},
        {"shape": None},
    ],
)  # fmt: skip
def test_an_engine_of_the_same_model_fits_whatever_its_floats_and_batch_fake(case, changed):
    built = read(case, Signature((replace(IMAGE, **changed),), (SCORES,)))
    assert (built.backend, built.numerics, built.notes) == ("tensorrt", Numerics.NATIVE, ("a note",))
    assert built.facts["engine_bytes"] == 4
    assert built.lowered["made_by"] == "elsewhere"


@pytest.mark.parametrize(
    ("signature", "what"),
    [
        (Signature((replace(IMAGE, name="pixels"),), (SCORES,)), "found:    pixels: float32[?, 3, 8, 8]"),
        (Signature((IMAGE, replace(IMAGE, name="more")), (SCORES,)), "more: float32"),
        (Signature((replace(IMAGE, shape=(None, 3, 9, 8)),), (SCORES,)), "image: float32[?, 3, 9, 8]"),
        (Signature((replace(IMAGE, shape=(None, 192)),), (SCORES,)), "image: float32[?, 192]"),
        (Signature((replace(IMAGE, dtype=INT64),), (SCORES,)), "image: int64"),
        (Signature((IMAGE,), (replace(SCORES, shape=(None, 7)),)), "the engine's outputs are not those"),
        (Signature((IMAGE,), ()), "the engine's outputs are not those"),
    ],
)
def test_the_engine_of_another_model_is_refused_with_both_sides_fake(case, signature, what):
    with pytest.raises(EngineError, match="are not those of the model") as caught:
        read(case, signature)
    assert what in str(caught.value)
    assert "expected: " in str(caught.value)
    assert "is it the engine of another model" in str(caught.value)


def test_the_plugins_of_the_case_are_there_when_the_engine_is_read_fake(case):
    backend = FakeTensorRt(REFERENCE)
    spec = BuildSpec(plugins=("a.so",))
    path = case.onnx.with_suffix(".engine")
    path.write_bytes(b"ftrt")
    read_engine(EngineSpec("m", None, path), replace(case, build=spec), REFERENCE, backend)  # type: ignore[arg-type]
    assert backend.asked == [spec]


def test_a_precision_is_no_file():
    with pytest.raises(CaseError, match="engine 'fp16' names no file"):
        _ = EngineSpec("fp16").file


def profile(low: int, high: int) -> SimpleNamespace:
    shapes = {"min": [low, 3, 8, 8], "opt": [low, 3, 8, 8], "max": [high, 3, 8, 8]}
    return SimpleNamespace(facts={"profile": {"image": shapes}}, path=Path("m.engine"))


def fixed(batch: int) -> Signature:
    return Signature((replace(IMAGE, shape=(batch, 3, 8, 8)),), (SCORES,))


@pytest.mark.parametrize(
    ("reference", "engine", "limits", "size", "padded_to"),
    [
        (REFERENCE, REFERENCE, (1, 64), 32, None),  # the case's batch
        (REFERENCE, REFERENCE, (1, 8), 8, None),  # as large as the profile allows
        (
            REFERENCE,
            REFERENCE,
            (4, 64),
            32,
            32,
        ),  # an engine that takes no single image: the last batch is padded
        (REFERENCE, REFERENCE, (64, 128), 64, 64),
        (REFERENCE, fixed(16), (16, 16), 16, 16),
        (fixed(16), fixed(16), (16, 16), 16, 16),
    ],
)
def test_batches_are_such_as_the_engine_takes(case, reference, engine, limits, size, padded_to):
    signature, found = batching(case, reference, engine, profile(*limits))  # type: ignore[arg-type]
    assert (found, signature.fixed_batch) == (size, padded_to)


def test_two_fixed_batches_that_differ_are_refused(case):
    with pytest.raises(EngineError, match="another batch size") as caught:
        batching(case, fixed(4), fixed(8), profile(8, 8))  # type: ignore[arg-type]
    assert "expected: batch 4" in str(caught.value)
    assert "found:    batch 8" in str(caught.value)
