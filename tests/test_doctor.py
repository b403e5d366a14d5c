"""The doctor: what it lists, which conflicts it sees, and that its self-test can fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from trtcheck import cli
from trtcheck.backends.base import BackendInfo
from trtcheck.case import Numerics, Precision
from trtcheck.doctor import machine, net, packages, self_test, text, trial
from trtcheck.doctor.diagnosis import Diagnosis
from trtcheck.doctor.findings import Finding, Status
from trtcheck.errors import BackendError, EngineError

ROOT = Path(__file__).parents[1]
NARROW = [Precision.TF32, Precision.FP16, Precision.BF16, Precision.INT8]


# The net and its answers


@pytest.mark.parametrize("precision", Precision)
def test_the_oracle_agrees_with_onnx_reference(precision: Precision) -> None:
    small = net.net(precision)
    [scores] = ReferenceEvaluator(small.model()).run(None, {net.INPUT: small.images.astype(np.float32)})
    assert scores.shape == (12, 10)
    assert np.abs(scores - small.answers()).max() < 5e-5


@pytest.mark.parametrize(
    ("precision", "kind"), [(Precision.FP16, np.float16), (Precision.BF16, ml_dtypes.bfloat16)]
)
def test_the_oracle_rounds_weights_as_the_type_does(precision: Precision, kind: Any) -> None:
    small = net.net(precision)
    rounded = replace(
        small, conv=small.conv.astype(kind).astype(float), dense=small.dense.astype(kind).astype(float)
    )
    assert np.array_equal(small.answers(weights=True), rounded.answers())
    assert np.abs(small.answers(weights=True) - small.answers()).max() > 3e-3


@pytest.mark.parametrize("precision", Precision)
def test_the_net_is_the_same_in_fp32_as_in_the_oracle(precision: Precision) -> None:
    small = net.net(precision)
    for values in (small.conv, small.conv_bias, small.dense, small.dense_bias, small.images):
        assert np.array_equal(values.astype(np.float32).astype(float), values)


@pytest.mark.parametrize(("precision", "share"), [
    (Precision.FP32, 1e-5), (Precision.TF32, 9e-3), (Precision.FP16, 9e-3), (Precision.BF16, 7e-2),
    (Precision.INT8, 5e-2),
])  # fmt: skip
def test_what_is_allowed_is_a_small_share_of_the_answers(precision: Precision, share: float) -> None:
    small = net.net(precision)
    assert share / 2 < small.allowed() / np.abs(small.answers()).max() < share


# Verdicts on answers


def judged(precision: Precision, answers: np.ndarray, numerics: Numerics = Numerics.EMULATED) -> Finding:
    batches = [{net.OUTPUT: part} for part in np.split(answers, np.cumsum(net.BATCHES)[:-1])]
    blank = Finding("fake", precision.value, Status.OK)
    return self_test.judge(blank, net.net(precision), batches, numerics)


@pytest.mark.parametrize("numerics", [Numerics.NATIVE, Numerics.EMULATED])
@pytest.mark.parametrize("precision", Precision)
def test_answers_that_are_rounded_as_asked_are_right(precision: Precision, numerics: Numerics) -> None:
    finding = judged(precision, net.net(precision).answers(weights=True, values=True), numerics)
    assert finding.verdict == f"ok ({numerics.value})"
    assert not finding.bad


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
@pytest.mark.parametrize("numerics", [Numerics.NATIVE, Numerics.EMULATED])
def test_fp32_answers_under_another_name_are_wrong(precision: Precision, numerics: Numerics) -> None:
    finding = judged(precision, net.net(precision).answers().astype(np.float32), numerics)
    assert finding.status is Status.WRONG
    assert finding.reason.startswith(
        f"closer to FP32 than {precision} can be: 0 % of the rounding of its weights"
    )


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_an_emulation_that_rounds_weights_alone_is_wrong(precision: Precision) -> None:
    answers = net.net(precision).answers(weights=True)
    assert judged(precision, answers, Numerics.NATIVE).status is Status.OK
    finding = judged(precision, answers, Numerics.EMULATED)
    assert finding.status is Status.WRONG
    assert "0 % of the rounding between its nodes" in finding.reason


def test_tf32_may_be_computed_in_fp32_natively_which_is_said_and_not_where_it_is_emulated() -> None:
    answers = net.net(Precision.TF32).answers()
    native = judged(Precision.TF32, answers, Numerics.NATIVE)
    assert native.verdict == "ok (native): computed in FP32, which TF32 permits"
    assert judged(Precision.TF32, answers, Numerics.EMULATED).status is Status.WRONG


def test_fp32_that_was_computed_with_tf32_is_wrong() -> None:
    small = net.net(Precision.FP32)
    as_tf32 = replace(small, precision=Precision.TF32)
    finding = judged(Precision.FP32, as_tf32.answers(weights=True, values=True), Numerics.NATIVE)
    assert finding.verdict == "WRONG: largest error 0.012, allowed 0.00028"
    assert finding.bad


CHANGES: dict[str, Callable[[net.Net], net.Net]] = {
    "mirrored": lambda n: replace(n, images=n.images[..., ::-1]),
    "other order of images": lambda n: replace(n, images=n.images[::-1]),
    "other order of channels": lambda n: replace(n, images=n.images[:, [1, 0, 2]]),
    "convolution instead of correlation": lambda n: replace(n, conv=n.conv[:, :, ::-1, ::-1]),
    "maps mistaken": lambda n: replace(n, conv=np.roll(n.conv, 1, axis=0)),
    "rows and columns mistaken": lambda n: replace(n, dense=_transposed(n.dense)),
    "no bias": lambda n: replace(n, dense_bias=n.dense_bias * 0),
}


def _transposed(dense: np.ndarray) -> np.ndarray:
    return dense.reshape(10, 8, 4, 4).transpose(0, 1, 3, 2).reshape(10, 128)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32, Precision.FP16])
@pytest.mark.parametrize("change", CHANGES)
def test_another_net_is_found_out(precision: Precision, change: str) -> None:
    finding = judged(precision, CHANGES[change](net.net(precision)).answers(weights=True, values=True))
    assert finding.status is Status.WRONG
    assert finding.reason.startswith("largest error ")


@pytest.mark.parametrize("precision", Precision)
def test_a_lost_bias_of_the_convolution_is_found_out_at_every_precision(precision: Precision) -> None:
    small = net.net(precision)
    finding = judged(precision, replace(small, conv_bias=small.conv_bias * 0).answers())
    assert finding.status is Status.WRONG


def test_nan_is_wrong_and_no_figure_of_json() -> None:
    answers = net.net(Precision.FP16).answers()
    answers[3, 3] = np.nan
    finding = judged(Precision.FP16, answers)
    assert finding.status is Status.WRONG
    assert finding.error is None


@pytest.mark.parametrize("batches", [
    [], [{net.OUTPUT: np.zeros((1, 10))}], [{"other": np.zeros((n, 10))} for n in net.BATCHES],
    [{net.OUTPUT: np.zeros((n, 5))} for n in net.BATCHES],
])  # fmt: skip
def test_missing_or_misshapen_answers_are_wrong(batches: Sequence[Mapping[str, np.ndarray]]) -> None:
    blank = Finding("fake", "fp32", Status.OK)
    finding = self_test.judge(blank, net.net(Precision.FP32), batches, Numerics.NATIVE)
    assert finding.status is Status.WRONG


# Backends that do not do what they should


class FakeBackend:
    """A backend that answers with the oracle's numbers, or fails where it is told to."""

    suffix = ".engine"
    info = BackendInfo("fake", "1.0", "nothing", "a test")

    def __init__(
        self, cannot_run: str | None = None, computes: str | None = None, **fails: Exception
    ) -> None:
        self.cannot_run, self.computes, self.fails = cannot_run, computes, fails

    def _may(self, step: str) -> None:
        if step in self.fails:
            raise self.fails[step]

    def build(self, plan: Any, target: Path, advance: Any) -> dict[str, Any]:
        self._may("build")
        target.write_bytes(b"engine")
        return {"computes": dict.fromkeys(net.PRODUCTS, self.computes or plan.precision.value)}

    def load(self, engine: Path, plan: Any) -> FakeBackend:
        self._may("load")
        self.asked = net.net(plan.precision)
        self.answers = iter(
            np.split(self.asked.answers(weights=True, values=True), np.cumsum(net.BATCHES)[:-1])
        )
        return self

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._may("infer")
        return {net.OUTPUT: next(self.answers)}

    def close(self) -> None:
        self.asked = None

    def numerics(self, plan: Any) -> Numerics:
        return Numerics.NATIVE


def examined(fake: FakeBackend, folder: Path, name: str = "tensorrt", precision: str = "fp16") -> Finding:
    finding = self_test.examine(fake, name, Precision(precision), folder)  # type: ignore[arg-type]
    assert (finding.backend, finding.precision, finding.library) == (name, precision, "1.0")
    return finding


def test_a_fake_backend_that_works_is_right(tmp_path: Path) -> None:
    fake = FakeBackend()
    assert examined(fake, tmp_path).verdict == "ok (native)"
    assert fake.asked is None


@pytest.mark.parametrize("step", ["load", "infer"])
def test_a_fake_backend_that_claims_to_run_and_fails_is_bad(tmp_path: Path, step: str) -> None:
    finding = examined(FakeBackend(**{step: EngineError("no memory", found="0 MB")}), tmp_path)
    assert finding.verdict == "FAILED: cannot be run: no memory; found: 0 MB"
    assert finding.bad


def test_a_fake_backend_that_cannot_run_has_to_build_all_the_same(tmp_path: Path) -> None:
    finding = examined(FakeBackend(cannot_run="there is no GPU"), tmp_path)
    assert finding.verdict == "builds, cannot run: there is no GPU"
    assert not finding.bad
    refused = FakeBackend(cannot_run="there is no GPU", build=EngineError("node 3 is unknown"))
    finding = examined(refused, tmp_path)
    assert finding.verdict == "FAILED: cannot be built: node 3 is unknown"
    assert finding.bad


def test_a_fake_backend_that_cannot_build_here_is_refused_but_for_one_that_needs_no_gpu(
    tmp_path: Path,
) -> None:
    error = BackendError("building needs a GPU", found="there is no GPU")
    fake = FakeBackend(cannot_run="there is no GPU", build=error)
    finding = examined(fake, tmp_path)
    assert (finding.verdict, finding.bad) == ("refused: building needs a GPU; found: there is no GPU", False)
    finding = examined(fake, tmp_path, "tensorrt-rtx")
    assert finding.verdict == "FAILED: cannot be built: building needs a GPU; found: there is no GPU"
    assert finding.bad
    crash = BackendError("building ended without an answer", found="ended by signal SIGABRT")
    assert examined(FakeBackend(cannot_run="there is no GPU", build=crash), tmp_path).bad
    claims = FakeBackend(build=BackendError("building needs a GPU"))
    assert examined(claims, tmp_path).bad


@pytest.mark.parametrize(("name", "precision", "status"), [
    ("onnxruntime-cuda", "bf16", Status.REFUSED), ("onnxruntime-cuda", "tf32", Status.REFUSED),
    ("onnxruntime-cuda", "fp16", Status.FAILED), ("tensorrt", "bf16", Status.REFUSED),
    ("tensorrt", "int8", Status.FAILED), ("tensorrt-rtx", "bf16", Status.FAILED),
])  # fmt: skip
def test_a_fake_gpu_may_lack_a_type_but_not_one_that_every_gpu_has(
    tmp_path: Path, name: str, precision: str, status: Status
) -> None:
    fake = FakeBackend(build=EngineError("no kernel for Conv"))
    finding = examined(fake, tmp_path, name, precision)
    assert finding.status is status
    assert "no kernel for Conv" in finding.reason


def test_a_fake_backend_that_builds_another_precision_is_wrong(tmp_path: Path) -> None:
    finding = examined(FakeBackend(cannot_run="there is no GPU", computes="fp32"), tmp_path)
    assert finding.verdict == "WRONG: asked for fp16, built conv as fp32, dense as fp32"
    assert finding.bad


SITE = """
import os, signal
from trtcheck import backends

opened = backends.open_backend

class Fake:
    def __init__(self, real):
        self.real = real

    def __getattr__(self, name):
        return getattr(self.real, name)

    def build(self, plan, target, advance):
        if plan.precision == "int8":
            os.kill(os.getpid(), signal.SIGSEGV)
        facts = self.real.build(plan, target, advance)
        if plan.precision == "fp16":
            target.write_bytes(plan.lowered.with_name("fp16.source.onnx").read_bytes())
        return facts

backends.open_backend = lambda name, **options: Fake(opened(name, **options))
"""


@pytest.fixture
def fake_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets child processes open fakes that answer FP16 with FP32 and crash at INT8."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def document(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    """What the doctor writes as JSON."""
    assert cli.main(["doctor", "--json", "-", *arguments]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("fake_backends")
def test_a_crash_of_a_fake_backend_is_one_line_and_the_exit_status_is_1(capsys: Any) -> None:
    found = document(capsys, "--backend", "onnxruntime-cpu", status=1)
    verdicts = {f["precision"]: f["status"] for f in found["self_test"]}
    assert verdicts == {"fp32": "ok", "tf32": "ok", "fp16": "WRONG", "bf16": "ok", "int8": "crashed"}
    assert found["self_test"][-1]["reason"].startswith("ended by signal SIGSEGV")
    wrong, crashed = found["problems"]
    assert wrong.startswith("onnxruntime-cpu fp16 WRONG: closer to FP32 than fp16 can be: 0 %")
    assert crashed.startswith("onnxruntime-cpu int8 crashed: ended by signal SIGSEGV")


def test_a_backend_that_cannot_be_opened_at_all_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libcudnn.so.9: cannot open shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [finding] = trial.examine(["onnxruntime-cpu"], lambda _name: None)
    assert finding.precision is None
    assert finding.status is Status.CRASHED
    assert "libcudnn.so.9: cannot open shared object file" in finding.reason
    assert "libcudnn.so.9" in machine.describe()["onnxruntime"]["fault"]


def test_a_backend_whose_package_is_broken_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('DLL load failed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [finding] = trial.examine(["onnxruntime-cpu"], lambda _name: None)
    assert finding.bad
    assert "DLL load failed" in finding.reason


BROKEN = {
    "abort": ("import os; os.abort()", "ended by signal SIGABRT"),
    "library": ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10"),
    "syntax": ("def (", "SyntaxError"),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_fake_tensorrt_that_cannot_be_loaded_fails_also_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str, how: str
) -> None:
    code, words = BROKEN[how]
    package = tmp_path / name.replace("-", "_")
    package.mkdir()
    (package / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = document(capsys, "--backend", name, status=1)
    [finding] = found["self_test"]
    assert finding["status"] == "FAILED"
    assert words in finding["reason"]
    assert "pytest-trtcheck doctor" not in finding["reason"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BackendError("there is no NVIDIA driver", found="libcuda was not found"), "refused"),
        (BackendError("onnxruntime-gpu is too old", found="1.20"), "FAILED"),
    ],
    ids=["no GPU", "broken"],
)
def test_only_the_lack_of_a_gpu_excuses_a_fake_backend_that_does_not_open(
    monkeypatch: pytest.MonkeyPatch, error: BackendError, status: str
) -> None:
    def refuse(_name: str, **_options: Any) -> Any:
        raise error

    monkeypatch.setattr("trtcheck.backends.open_backend", refuse)
    monkeypatch.setattr(self_test, "why_no_gpu", lambda: "there is no NVIDIA driver")
    reply = self_test.answer({"backend": "onnxruntime-cuda", "precisions": ["fp16"]}, lambda _count: None)
    assert [finding["status"] for finding in reply["findings"]] == [status]


def test_a_folder_that_onnxruntime_left_behind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    # Without the real one, of which a leftover is in front of nothing.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.machinery as m, importlib.util as u\nfind = m.PathFinder.find_spec\n"
        "def only_leftover(name, path=None, target=None):\n"
        f"    return find(name, [{str(tmp_path)!r}] if name == 'onnxruntime' else path, target)\n"
        "m.PathFinder.find_spec = only_leftover\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = document(capsys, "--backend", "onnxruntime-cpu", status=1)
    cause = "onnxruntime is a folder without a package: pip install --force-reinstall onnxruntime"
    assert found["machine"]["onnxruntime"]["fault"] == cause
    assert [(f["status"], f["reason"]) for f in found["self_test"]] == [("FAILED", cause)]


@pytest.mark.usefixtures("fake_backends")
def test_a_crash_of_a_fake_backend_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    found = trial.examine(["onnxruntime-cpu"], lambda _name: None)
    assert found[-1].status is Status.CRASHED
    assert list(temporary.iterdir()) == []


# This machine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document of a whole run of the command here, GPUs hidden, and beside it what it printed."""
    folder = tmp_path_factory.mktemp("doctor")
    done = subprocess.run(
        [sys.executable, "-m", "trtcheck", "doctor", "--json", "doctor.json", "--cache", "cache"],
        cwd=folder, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, check=False,
        encoding="utf-8",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found: dict[str, Any] = json.loads((folder / "doctor.json").read_text(encoding="utf-8"))
    return found | {"printed": done.stdout}


def verdicts(found: Mapping[str, Any], backend: str) -> dict[str, str]:
    return {
        f["precision"]: Finding.from_record(f).verdict for f in found["self_test"] if f["backend"] == backend
    }


def test_the_cpu_is_right_at_every_precision(whole: dict[str, Any]) -> None:
    expected = dict.fromkeys(map(str, NARROW), "ok (emulated)")
    assert verdicts(whole, "onnxruntime-cpu") == {"fp32": "ok (native)", **expected}
    for finding in whole["self_test"]:
        if finding["backend"] == "onnxruntime-cpu":
            assert 0 < finding["error"] < finding["allowed"]


def test_tensorrt_rtx_builds_every_precision_and_says_why_it_cannot_run(whole: dict[str, Any]) -> None:
    found = verdicts(whole, "tensorrt-rtx")
    assert list(found) == ["fp32", "tf32", "fp16", "bf16", "int8"]
    for verdict in found.values():
        assert verdict.startswith("builds, cannot run: ")
        assert "driver" in verdict or "GPU" in verdict


def test_the_document_is_complete(whole: dict[str, Any]) -> None:
    assert whole["schema_version"] == 1
    assert set(whole["packages"]) == set(packages.GROUPS)
    assert whole["packages"]["TensorRT for RTX"]["tensorrt-rtx-cu13"]
    assert whole["packages"]["ONNX Runtime"]["onnxruntime"]
    assert "CPUExecutionProvider" in whole["machine"]["onnxruntime"]["providers"]
    assert whole["machine"]["gpus"] == []
    assert whole["machine"]["no_gpu"]
    assert {f["backend"] for f in whole["self_test"]} == set(trial.BACKENDS)
    assert whole["cache"]["fault"] is None
    assert whole["conflicts"] == whole["problems"] == []


def test_the_text_can_be_pasted_into_an_issue(whole: dict[str, Any]) -> None:
    assert whole["printed"] == text.render(whole)
    lines = whole["printed"].splitlines()
    assert (lines[0], lines[-1], lines[-2]) == ("```text", "```", "no problems found")
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) <= 100
    [int8] = [line for line in lines if line.startswith("    int8             ok (emulated); largest error ")]
    assert int8.endswith(", allowed 5.7e-01")
    assert any(line.startswith("TensorRT for RTX     tensorrt-rtx-cu13 1.") for line in lines)


def test_a_machine_with_a_gpu_is_described(whole: dict[str, Any]) -> None:
    gpu = {"name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0", "memory_gib": 79.2}
    found = whole | {
        "machine": whole["machine"] | {"gpus": [gpu], "no_gpu": None, "driver": "580.1", "cuda": "13.0"}
    }
    lines = text.render(found).splitlines()
    assert "GPU 0                NVIDIA H100 80GB HBM3, compute capability 9.0, 79.2 GiB" in lines
    assert "NVIDIA driver        580.1, supports CUDA 13.0 and older" in lines


def test_a_long_reason_is_cut_in_the_text_alone(whole: dict[str, Any]) -> None:
    reason = "no kernel " * 100
    finding = {"backend": "tensorrt", "precision": "fp16", "status": "FAILED", "reason": reason}
    printed = text.render(whole | {"self_test": [finding], "problems": [reason]})
    assert " ".join(printed.split()).count("no kernel") == 29 + 30
    assert printed.count(" …\n") == 2


def test_the_test_s_own_folder_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FakeBackend, plan: Any, *_rest: Any) -> dict[str, Any]:
        raise EngineError("is refused", where=plan.lowered)

    monkeypatch.setattr(FakeBackend, "build", refuse)
    monkeypatch.setattr("trtcheck.backends.open_backend", lambda _name, **_options: FakeBackend())
    reply = self_test.answer({"backend": "fake", "precisions": ["fp16"]}, lambda _count: None)
    assert reply["findings"][0]["reason"] == "cannot be built: fp16.onnx: is refused"


def test_the_home_folder_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    cache = machine.describe_cache(str(tmp_path / "cache"))
    assert cache["folder"] == str(tmp_path / "cache")
    crash = Finding("tensorrt", "fp16", Status.CRASHED, f"in {tmp_path}/lib/libnvinfer.so")
    found = Diagnosis({"onnxruntime": {"fault": None}}, cache, {}, (), (crash,)).document()
    assert found["cache"]["folder"].replace("\\", "/") == "~/cache"
    assert str(tmp_path) not in json.dumps(found)
    assert found["self_test"][0]["reason"] == "in ~/lib/libnvinfer.so"


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    found = document(capsys, "--no-self-test", "--cache", str(tmp_path / "file" / "cache"), status=1)
    [problem] = found["problems"]
    assert "cannot be written: pytest --trt-cache=DIR" in problem
    assert found["self_test"] is None


def test_a_cache_of_an_impossible_name_is_a_problem(tmp_path: Path, capsys: Any) -> None:
    found = document(capsys, "--no-self-test", "--cache", str(tmp_path / ("c" * 300)), status=1)
    [problem] = found["problems"]
    assert problem.startswith("File name too long: ")
    assert problem.endswith("cannot be written: pytest --trt-cache=DIR names another folder")
    assert found["cache"]["bytes"] == 0


def test_a_cache_below_a_folder_that_must_not_be_entered_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.stat

    def denied(path: Path, **options: Any) -> os.stat_result:
        if "closed" in path.parts[:-1]:  # a superuser is denied nothing
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", denied)
    (tmp_path / "closed").mkdir()
    found = machine.describe_cache(str(tmp_path / "closed" / "inner" / "cache"))
    assert found["fault"].startswith("Permission denied: ")


def test_the_size_of_the_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "one").write_bytes(bytes(1500))
    (tmp_path / "two").write_bytes(bytes(500))
    assert machine.describe_cache(str(tmp_path)) == {"folder": str(tmp_path), "bytes": 2000, "fault": None}
    assert machine.describe_cache(str(tmp_path / "later"))["bytes"] == 0


# Conflicts, between distributions that are folders made on the spot


def distribution(
    folder: Path, name: str, version: str, *, needs: Sequence[str] = (), holds: Sequence[str] = (),
) -> None:  # fmt: skip
    made = folder / f"{name}-{version}.dist-info"
    made.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (made / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs), ""]))
    (made / "RECORD").write_text("".join(f"{module}/__init__.py,,\n" for module in holds))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of Python's path."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def found_conflicts() -> list[str]:
    return packages.conflicts(packages.installed())


def test_here_nothing_is_at_odds() -> None:
    assert found_conflicts() == []


def test_a_foreign_trtcheck_is_a_conflict(site: Path, capsys: Any) -> None:
    distribution(site, "trtcheck", "0.9", holds=["trtcheck"])
    assert cli.main(["doctor", "--no-self-test"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert ", trtcheck 0.9 " in printed
    assert "1 problem found: - the distribution 'trtcheck' 0.9 is another project" in printed
    assert "pip uninstall trtcheck" in printed


def test_two_onnxruntimes_overwrite_each_other(site: Path) -> None:
    distribution(site, "onnxruntime_gpu", "1.27.0", holds=["onnxruntime"])
    distribution(site, "onnxruntime_extensions", "0.13", holds=["onnxruntime_extensions"])
    [found] = found_conflicts()
    assert found.startswith("onnxruntime and onnxruntime-gpu hold the same module 'onnxruntime'")
    assert "pip uninstall onnxruntime onnxruntime-gpu" in found


def test_tensorrt_for_two_cudas_overwrites_itself(site: Path) -> None:
    distribution(site, "tensorrt_cu12", "10.16.0", holds=["tensorrt"])
    distribution(site, "tensorrt_cu13", "10.16.0", holds=["tensorrt"])
    assert "tensorrt-cu12 and tensorrt-cu13 hold the same module 'tensorrt'" in found_conflicts()[0]


def test_a_tensorrt_stub_without_its_libraries_is_incomplete(site: Path) -> None:
    needs = ["tensorrt_cu13_libs==11.4.0", "tensorrt_cu13_bindings==11.4.0", 'numpy; extra == "numpy"']
    distribution(site, "tensorrt_cu13", "11.4.0", needs=needs, holds=["tensorrt"])
    distribution(site, "tensorrt_cu13_bindings", "11.3.0", holds=["tensorrt_bindings"])
    missing, other = found_conflicts()
    assert missing == (
        "tensorrt-cu13 11.4.0 needs tensorrt-cu13-libs==11.4.0, which is not installed: "
        "pip install --force-reinstall tensorrt-cu13"
    )
    assert "needs tensorrt-cu13-bindings==11.4.0, found 11.3.0" in other


def test_versions_that_are_too_old_are_named_also_of_extras(site: Path) -> None:
    distribution(site, "numpy", "1.20.0")
    distribution(site, "onnxruntime", "1.10.0", holds=["onnxruntime"])
    numpy, runtime = sorted(found_conflicts())
    assert numpy == "numpy 1.20.0 is not supported: pip install 'numpy>=1.26'"
    assert runtime == "onnxruntime 1.10.0 is not supported: pip install 'onnxruntime>=1.20'"


def test_old_tools_of_development_are_no_conflict(site: Path) -> None:
    distribution(site, "hypothesis", "3.0")
    distribution(site, "ruff", "0.0.1")
    assert found_conflicts() == []


def test_the_leavings_of_an_interrupted_pip_do_no_harm(site: Path) -> None:
    (site / "~numpy-1.0.dist-info").mkdir()
    made = site / "nameless-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\n")
    distribution(site, "tensorrt", "10.16", needs=["not a requirement at all !!"])
    assert found_conflicts() == []


# The docs


def test_the_docs_name_every_verdict_and_option(capsys: Any) -> None:
    written = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(options) == 4
    assert {name for name in (*Status, *options) if f"`{name}" not in written} == set()


def test_the_verdicts_in_the_docs_are_those_of_a_machine_without_a_gpu(whole: dict[str, Any]) -> None:
    written = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8").splitlines()
    verdict = re.compile(r"    (fp32|tf32|fp16|bf16|int8) {13}([^:;]+)")
    found = [match.groups() for line in whole["printed"].splitlines() if (match := verdict.match(line))]
    shown = [match.groups() for line in written if (match := verdict.match(line))]
    assert len(found) == 10
    assert shown == found
