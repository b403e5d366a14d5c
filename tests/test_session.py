"""One session's work: who may have a name, what gates do not change, and verdicts that would be empty."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import suite_models

import trtcheck
from trtcheck import judge
from trtcheck.case import Case, ClassGates, EngineSpec, Gates, InputSpec, Precision, Verdict
from trtcheck.errors import BackendError, CaseError
from trtcheck.progress import LoggedProgress
from trtcheck.session import Workbench

FP16 = EngineSpec("fp16", Precision.FP16)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(
        cache=tmp_path / "cache", shared=tmp_path / "shared", backend="auto", threads=1,
        progress=LoggedProgress(),
    )  # fmt: skip


@pytest.fixture
def case(tmp_path: Path) -> Case:
    images, labels = suite_models.images(60)
    path = suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    spec = InputSpec(scale=1 / 255)
    return Case(name="tiny", onnx=path, data=(images, labels), classes=suite_models.CLASSES, input=spec)


def test_two_different_cases_cannot_share_a_name(bench: Workbench, case: Case) -> None:
    bench.evaluation(case, FP16)
    images, labels = suite_models.images(40)
    with pytest.raises(CaseError, match="two different cases are called 'tiny'"):
        bench.evaluation(replace(case, data=(images, labels)), FP16)
    assert bench.evaluation(case, FP16).images == 60


def test_gates_neither_make_another_case_nor_spoil_the_evaluation(bench: Workbench, case: Case) -> None:
    wrong = replace(case, gates=Gates(classes={"Shrit": ClassGates(recall_drop=0.0)}))
    first = bench.evaluation(wrong, FP16)
    assert bench.evaluation(case, FP16) is first


def test_data_in_memory_are_read_for_their_digest_once(bench: Workbench, case: Case) -> None:
    class Counted:
        """Images in memory that count how often they are digested; a fake for the count alone."""

        name, class_names = "counted", None

        def __init__(self) -> None:
            self.images, self.labels = suite_models.images(60)
            self.digests = 0

        def __len__(self) -> int:
            return len(self.images)

        def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
            return {"images": self.images[start:stop]}

        def digest(self) -> str:
            self.digests += 1
            return "sha256:counted"

    counted = Counted()
    for _ in range(4):
        bench.evaluation(replace(case, data=counted), FP16)
    assert counted.digests == 2, "once to tell cases apart, once when the evaluation opens them"


def test_without_onnxruntime_the_reference_says_what_to_install(
    bench: Workbench, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pytest-trtcheck\[cpu\]"):
        bench.reference(case)


def test_a_top_k_gate_that_tests_nothing_is_refused(bench: Workbench, case: Case) -> None:
    evaluation = bench.evaluation(replace(case, top_k=4), FP16)
    gates = Gates(top_k_accuracy_drop=0.01)
    with pytest.raises(CaseError, match="top_k_accuracy_drop tests nothing"):
        trtcheck.judge_evaluation(evaluation, "accuracy", gates)


def test_a_class_that_is_never_answered_any_more_is_no_pass_of_its_precision() -> None:
    truth = np.repeat(np.arange(3), 200)
    gone = np.where(truth == 2, 0, truth)
    verdict = judge.precision(truth, truth, gone, classes=["a", "b", "c"])
    assert [row.verdict for row in verdict.classes] == [Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE]
    nothing = judge.precision(truth, truth, np.full(600, -1), classes=["a", "b", "c"])
    assert nothing.verdict is Verdict.INCONCLUSIVE
