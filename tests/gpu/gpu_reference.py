"""The reference on a real GPU, a minute: run with ``pytest -s tests/gpu/gpu_reference.py``.

With ``-o junit_family=xunit1 --junitxml=gpu.xml`` the figures are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import suite_models

import trtcheck
from trtcheck import engine_check
from trtcheck.backends.cuda_libraries import library_versions
from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda
from trtcheck.case import Case, EngineSpec, Gates, InputSpec, Precision, Verdict
from trtcheck.evaluation import Evaluation
from trtcheck.library import open_workbench

Record = Callable[[str, object], None]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    return Case(
        name="tiny", onnx=path, data=suite_models.images(2000), classes=suite_models.CLASSES,
        input=InputSpec(scale=1 / 255), batch=64,
    )  # fmt: skip


def evaluated(case: Case, folder: Path, engine: str, **how: object) -> Evaluation:
    return trtcheck.evaluate(case, engine, backend="onnxruntime-cuda", cache=folder, **how)  # type: ignore[arg-type]


def test_the_libraries_that_are_loaded_tell_their_versions(record_property: Record) -> None:
    info = OnnxRuntimeCuda(threads=1).info
    record_property("settings", dict(info.settings))
    print(dict(info.settings))  # noqa: T201
    assert set(library_versions()) == {"CUDA runtime", "cuBLAS", "cuDNN"}
    assert int(info.settings["cuDNN"].partition(".")[0]) == 9
    assert int(info.settings["CUDA runtime"].partition(".")[0]) in (12, 13)


def test_fp32_beside_its_reference_on_the_gpu_is_the_same_to_the_bit(case: Case, tmp_path: Path) -> None:
    """Both run the same kernels without TF32; with the reference on the CPU the last bits may differ."""
    found = evaluated(case, tmp_path / "cache", "fp32")
    assert found.record["reference"]["provider"] == "onnxruntime-cuda"
    assert [drift.max_abs for drift in found.outputs] == [0.0] * len(found.outputs)
    on_cpu = evaluated(case, tmp_path / "cache", "fp32", reference="cpu")
    assert on_cpu.record["reference"]["provider"] == "onnxruntime-cpu"
    assert max(drift.relative_l2 for drift in on_cpu.outputs) < 1e-5


def test_tf32_moves_the_engine_and_not_the_reference(
    case: Case, tmp_path: Path, record_property: Record
) -> None:
    found = evaluated(case, tmp_path / "cache", "tf32")
    worst = max(drift.relative_l2 for drift in found.outputs)
    record_property("tf32", worst)
    assert 1e-6 < worst < 1e-2


def test_the_second_evaluation_takes_the_reference_from_the_cache(
    case: Case, tmp_path: Path, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {}
    for name in ("live", "cached"):
        begin = time.perf_counter()
        first = evaluated(case, tmp_path / "cache", "fp16")
        seconds[name] = time.perf_counter() - begin
        monkeypatch.setattr("trtcheck.backends.reference_place.load_fp32", None)  # calling it would fail
    record_property("seconds", seconds)
    print(seconds)  # noqa: T201
    assert first.images == 2000


def test_cuda_by_name_beside_emulated_engines_and_in_child_processes(case: Case, tmp_path: Path) -> None:
    whole, cut = (
        trtcheck.evaluate(
            case, "fp16", backend="onnxruntime-cpu", reference="cuda", cache=tmp_path / name, **how
        )
        for name, how in (("whole", {}), ("cut", {"shards": 2}))
    )
    assert whole.record["reference"] == cut.record["reference"]
    assert whole.labels is not None
    assert cut.labels is not None
    np.testing.assert_array_equal(whole.labels.reference, cut.labels.reference)
    assert [drift.max_abs for drift in whole.outputs] == [drift.max_abs for drift in cut.outputs]


def test_no_node_of_a_plain_network_is_left_to_the_cpu(case: Case, tmp_path: Path) -> None:
    fp16 = EngineSpec("fp16", Precision.FP16)
    with open_workbench("onnxruntime-cuda", tmp_path) as bench:
        built = bench.built(case, fp16)
    outcome = engine_check.build(replace(case, gates=Gates(cpu_nodes=0)), fp16, built)
    assert built.facts["on_cpu"] == {}
    assert outcome.verdict is Verdict.PASS, outcome.message
