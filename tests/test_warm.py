"""A second session on a warm cache: what it does again, what it does not, and what it says all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_models

from trtcheck import model, precision
from trtcheck.backends import onnxruntime as backend
from trtcheck.calibration import examine, kept, saturation
from trtcheck.case import Case, EngineSpec, InputSpec, Precision
from trtcheck.data.arrays import ArrayImages
from trtcheck.progress import LoggedProgress
from trtcheck.session import Workbench

FP32, FP16, INT8 = (EngineSpec(p.value, p) for p in (Precision.FP32, Precision.FP16, Precision.INT8))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often what is costly was done; the real functions run."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str, what: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[what] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(precision, "lower", "models lowered")
    count(backend.OnnxRuntimeCpu, "build", "engines built")
    count(backend, "reference_session", "reference sessions")
    count(backend.OnnxRuntimeCpu, "load", "engines loaded")
    count(examine, "survey", "surveys")
    count(examine, "overlap_of", "searches")
    count(saturation, "Probes", "probes")
    count(ArrayImages, "digest", "digests of data")
    count(model, "digest", "digests of models")
    return counts


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    np.savez(tmp_path / "eval.npz", **suite_models.arrays(60))
    copied = np.concatenate([suite_models.images(60)[0][:3], suite_models.images(40, seed=1)[0]])
    np.savez(tmp_path / "calibration.npz", images=copied)
    return Case(
        name="tiny", onnx=path, data=tmp_path / "eval.npz", classes=suite_models.CLASSES,
        calibration=tmp_path / "calibration.npz", input=InputSpec(scale=1 / 255),
    )  # fmt: skip


class Sessions:
    """Sessions on one cache, each with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self._folder, self._number = folder, 0

    @contextmanager
    def bench(self) -> Iterator[Workbench]:
        self._number += 1
        made = Workbench(
            cache=self.cache, shared=self._folder / f"session{self._number}", backend="onnxruntime-cpu",
            threads=1, progress=LoggedProgress(),
        )  # fmt: skip
        with closing(made):
            yield made

    def findings(self, case: Case, engine: EngineSpec = INT8) -> Any:
        """What a new session finds out about the calibration."""
        with self.bench() as bench:
            return bench.calibration(case, engine)

    def entries(self) -> list[Path]:
        return sorted(path.parent for path in (self.cache / kept.KIND).glob("*/manifest.json"))


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path)


def test_a_warm_session_runs_the_engines_and_makes_nothing_else_again(done, case, sessions):
    def run() -> list[Any]:
        with sessions.bench() as bench:
            for engine in (FP32, FP16, INT8):
                bench.evaluation(case, engine)
                bench.batch_invariance(case, engine)
            return [bench.calibration(case, engine) for engine in (FP32, INT8)]

    first = run()
    # One session answers the evaluation images, one the calibration's.
    assert done["models lowered"] == done["engines built"] == 3
    assert (done["reference sessions"], done["surveys"], done["searches"], done["probes"]) == (2, 1, 1, 2)
    done.clear()
    assert run() == first
    assert done["engines loaded"] == 6
    for what in ("models lowered", "engines built", "reference sessions", "surveys", "searches", "probes"):
        assert done[what] == 0, what


def test_data_and_models_are_digested_once_a_session_whoever_asks(done, case, sessions):
    with sessions.bench() as bench:
        for engine in (FP32, FP16, INT8):
            bench.evaluation(case, engine)
        bench.calibration(case, INT8)
        assert done["digests of data"] == 2  # evaluation and calibration
        assert done["digests of models"] == 1  # what is lowered is digested by the cache
        other = Workbench(
            cache=sessions.cache, shared=bench.shared_folder, backend="onnxruntime-cpu", threads=1,
            progress=LoggedProgress(),
        )  # fmt: skip
        with closing(other):  # another worker of the session
            assert other.resolve(case).digest == bench.resolve(case).digest
            other.calibration(case, INT8)
        assert done["digests of data"] == 2


def test_a_model_that_is_written_anew_is_digested_anew(case, tmp_path):
    from trtcheck.resolve import ModelDigests

    known = ModelDigests()
    before = known.of(case.onnx)
    suite_models.save(suite_models.classifier(blind=0.5), case.onnx)
    assert known.of(case.onnx) == model.digest(case.onnx) != before


def test_findings_are_the_same_from_the_cache_with_the_order_of_classes(done, case, sessions):
    first = sessions.findings(case)
    assert len(first.overlap.exact) == 3
    assert tuple(first.coverage.counts) == suite_models.CLASSES
    again = sessions.findings(case)
    assert again == first
    assert tuple(again.coverage.counts) == suite_models.CLASSES
    assert [str(pair) for pair in again.exact_pairs] == [str(pair) for pair in first.exact_pairs]
    assert done["surveys"] == 1


@pytest.mark.parametrize("what", ["labels", "images", "calibration", "input", "classes"])
def test_findings_about_other_files_are_made_anew(done, case, sessions, what):
    sessions.findings(case)
    arrays = suite_models.arrays(60)
    if what == "labels":
        np.savez(case.data, **(arrays | {"labels": arrays["labels"][::-1]}))
    elif what == "images":
        np.savez(case.data, **(arrays | {"images": arrays["images"][::-1]}))
    elif what == "calibration":
        np.savez(case.calibration, images=suite_models.images(50, seed=5)[0])
    elif what == "input":
        case = replace(case, input=InputSpec(scale=1 / 128))
    else:
        case = replace(case, classes=("a", "b", "c", "d"))
    found = sessions.findings(case)
    assert (done["surveys"], done["searches"]) == (2, 2)
    # Labels and names of classes are nothing to the ranges.
    assert done["probes"] == (1 if what in ("labels", "classes") else 2)
    if what == "classes":
        assert tuple(found.coverage.counts) == case.classes


def damage_text(entry: Path) -> None:
    path = entry / "manifest.json"
    path.write_text(path.read_text().replace('"images"', '"imagez"'))


def damage_array(entry: Path) -> None:
    for path in entry.glob("*.npy"):
        path.write_bytes(path.read_bytes()[:-8] + b"12345678")


@pytest.mark.parametrize(("damage", "searches", "probes"), [(damage_text, 2, 2), (damage_array, 2, 1)])
def test_findings_that_are_damaged_are_made_anew(done, case, sessions, damage, searches, probes):
    first = sessions.findings(case)
    assert len(sessions.entries()) == 2
    for entry in sessions.entries():
        damage(entry)
    assert sessions.findings(case) == first
    assert (done["searches"], done["probes"]) == (searches, probes)
    sessions.findings(case)
    assert (done["searches"], done["probes"]) == (searches, probes)


def test_findings_of_an_older_version_are_made_anew(done, case, sessions, monkeypatch):
    monkeypatch.setattr(kept, "VERSION", kept.VERSION - 1)
    sessions.findings(case)
    monkeypatch.undo()
    before = done["searches"]
    with sessions.bench() as bench:
        bench.calibration(case, INT8)
    assert before == 1
    assert len(sessions.entries()) == 4


def test_a_warm_run_of_pytest_says_the_same_as_the_first(suite):
    suite.run("--trt-engine=fp32,fp16,int8", report="first")
    suite.run("--trt-engine=fp32,fp16,int8", report="second")

    def items(folder: str) -> list[Any]:
        return [item for item in suite.report(folder)["items"] if item["check"] != "build"]

    assert len(items("first")) == 16
    assert items("second") == items("first")
    assert {engine["cached"] for engine in suite.report("second")["engines"]} == {True}


def test_the_benchmark_tells_where_a_warm_run_spends_its_time(suite, tmp_path):
    figures = tmp_path / "figures.json"
    script = Path(__file__).parents[1] / "benchmarks" / "warm.py"
    command = [
        sys.executable, str(script), "--quick", f"--suite={suite.path / 'trtcheck.toml'}",
        "--engines=fp32,int8", "--backend=onnxruntime-cpu", f"--json={figures}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["needless"] == {"models lowered": 0, "engines built": 0, "reference sessions opened": 0}
    [run] = found["runs"]
    for part in ("evaluation of fp32", "evaluation of int8", "calibration: data", "report", "imports"):
        assert 0 < run["seconds"][part] < run["seconds"]["whole"], part
    # Both engines read every image once, each batch check 32 of them, the lookout for thumbnails few.
    assert 480 < run["counts"]["images read"] < 480 + 64 + 100
