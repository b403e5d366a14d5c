"""What cannot be used is refused with both sides named, and nothing native ends this process."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import graphs
import pytest

from trtcheck import backends, child
from trtcheck.backends import tensorrt
from trtcheck.backends.base import BuildPlan
from trtcheck.backends.tensorrt import TensorRt, flavour_of, unsupported_by_rtx
from trtcheck.backends.trt_flavour import FLAVOURS, RTX, TENSORRT
from trtcheck.case import BuildSpec, Precision, ShapeRange
from trtcheck.errors import BackendError, EngineError, TrtcheckError
from trtcheck.gpu import Gpu

SHAPES = {"x": ShapeRange((1, 1, 12, 12), (4, 1, 12, 12), (8, 1, 12, 12))}
SPEC = BuildSpec()
PARTS = "class Runtime: pass\nclass ILogger: pass\nclass DataType: pass\nclass TensorIOMode: pass\n"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TensorRt:
    return TensorRt("tensorrt-rtx", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, backend: TensorRt) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    backend.build(plan(folder), folder / "model.engine", lambda _count: None)
    return folder / "model.engine"


def plan(folder: Path, **spec: object) -> BuildPlan:
    path = graphs.save(graphs.cnn(), folder / "model.onnx")
    return BuildPlan(path, Precision.FP32, SHAPES, BuildSpec(**spec))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Puts a package of that name and content before the installed ones, here and in children."""

    def put(name: str, content: str) -> None:
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(content)
        monkeypatch.syspath_prepend(folder.parent)
        monkeypatch.setenv("PYTHONPATH", str(folder.parent))
        monkeypatch.delitem(sys.modules, name, raising=False)

    return put


@pytest.mark.parametrize("name", list(FLAVOURS))
def test_a_library_that_is_missing_is_told_with_the_extra_that_installs_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr(backends, "is_installed", lambda _name: False)
    with pytest.raises(BackendError, match=f"{FLAVOURS[name].label} is not installed") as caught:
        TensorRt(name, cache=tmp_path)
    assert f'pip install "pytest-trtcheck[{name}]"' in str(caught.value)


def test_a_folder_that_is_called_like_the_library_does_not_stand_for_it(tmp_path, monkeypatch):
    (tmp_path / "tensorrt" / "scripts").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert str(backends.missing("tensorrt")).startswith("TensorRT is not installed")
    with pytest.raises(BackendError, match="TensorRT is not installed"):
        TensorRt("tensorrt", cache=tmp_path)


def test_a_package_whose_shared_library_is_missing_tells_which(tmp_path, package):
    package("tensorrt", "raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    with pytest.raises(BackendError, match=r"cannot be loaded\n.*libnvinfer\.so\.10"):
        TensorRt("tensorrt", cache=tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("print 'of Python 2'", "SyntaxError: "),
        ("raise KeyError('CUDA_HOME')", "KeyError: 'CUDA_HOME'"),
        ("raise TypeError('other interface')", "TypeError: other interface"),
        ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
    ],
)
def test_a_package_that_is_broken_in_any_way_is_told_without_a_traceback(tmp_path, package, content, found):
    package("tensorrt", content)
    with pytest.raises(BackendError, match="TensorRT is installed, but cannot be loaded") as caught:
        TensorRt("tensorrt", cache=tmp_path)
    assert f"found:    {found}" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert 'File "' not in str(caught.value)
    assert "pip install" in str(caught.value)


@pytest.mark.parametrize("version", ["8.6.1", "10.11.0.33", "12.0.0"])
def test_a_foreign_version_is_refused_with_both_sides(tmp_path, package, version):
    package("tensorrt", f"{PARTS}__version__ = '{version}'")
    with pytest.raises(BackendError, match="this version of TensorRT cannot be used") as caught:
        TensorRt("tensorrt", cache=tmp_path)
    assert f"found:    {version}" in str(caught.value)
    assert "10.12 or newer, or 11" in str(caught.value)


def test_a_version_of_rtx_that_the_extra_does_not_install_is_refused(tmp_path, package):
    package("tensorrt_rtx", f"{PARTS}__version__ = '1.6.0'")
    with pytest.raises(BackendError, match="this version of TensorRT for RTX cannot be used") as caught:
        TensorRt("tensorrt-rtx", cache=tmp_path)
    assert "expected: 1.7 or newer" in str(caught.value)


@pytest.mark.parametrize("version", ["10.12.0.36", "10.16.1.11", "11.4.0.106"])
def test_the_versions_that_are_driven_are_taken_with_a_fake_package(tmp_path, package, version):
    package("tensorrt", f"{PARTS}__version__ = '{version}'")
    assert TensorRt("tensorrt", cache=tmp_path).info.version == version


def test_another_package_of_the_same_name_is_refused(tmp_path, package):
    package("tensorrt", "__version__ = '10.13.0'")
    with pytest.raises(BackendError, match="the package 'tensorrt' is not TensorRT") as caught:
        TensorRt("tensorrt", cache=tmp_path)
    assert "packages" in str(caught.value)  # where it lies


def test_a_library_that_ends_the_process_when_it_is_loaded_ends_the_childs(tmp_path, package):
    package("tensorrt", "import os\nos.abort()")
    with pytest.raises(BackendError, match="ended by signal SIGABRT"):
        TensorRt("tensorrt", cache=tmp_path)


def test_a_builder_that_is_killed_is_an_error_and_leaves_no_engine(tmp_path, backend, package):
    package("tensorrt_rtx", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(
        BackendError, match="building the engine with TensorRT for RTX ended without an answer"
    ):
        backend.build(plan(tmp_path), tmp_path / "model.engine", lambda _count: None)
    assert not (tmp_path / "model.engine").exists()


def test_tensorrt_without_a_gpu_builds_nothing_and_says_what_does_with_a_fake_package(
    tmp_path, package, monkeypatch
):
    package("tensorrt", f"{PARTS}class Builder: pass\n__version__ = '11.4.0'")
    monkeypatch.setattr(tensorrt, "why_no_gpu", lambda: "there is no NVIDIA driver on this machine")
    backend = TensorRt("tensorrt", cache=tmp_path)
    with pytest.raises(BackendError, match="TensorRT builds only where its engines run") as caught:
        backend.build(plan(tmp_path), tmp_path / "model.engine", lambda _count: None)
    assert "no NVIDIA driver" in str(caught.value)
    assert "--trt-backend=tensorrt-rtx --trt-build-only" in str(caught.value)


def test_a_runtime_without_a_builder_is_told_with_a_fake_package(tmp_path, package):
    package("tensorrt", f"{PARTS}__version__ = '11.4.0'")
    with pytest.raises(BackendError, match="this installation of TensorRT has no builder"):
        TensorRt("tensorrt", cache=tmp_path).build(plan(tmp_path), tmp_path / "e", lambda _count: None)


WITHOUT_GPU = """
import sys
from pathlib import Path
from trtcheck.backends.tensorrt import TensorRt
from trtcheck.case import BuildSpec
from trtcheck.errors import BackendError

backend = TensorRt("tensorrt-rtx", cache=Path(sys.argv[2]))
print(backend.info.device)
for load in (backend.load_prebuilt, backend.inspect):
    try:
        load(Path(sys.argv[1]), BuildSpec())
    except BackendError as error:
        print(error)
"""


def test_without_a_gpu_an_engine_is_not_loaded_and_the_reason_told(tmp_path, engine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GPU, str(engine), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reason = r"(there is no NVIDIA driver on this machine|no GPU is visible: CUDA_VISIBLE_DEVICES is '')"
    assert re.search(rf"^no GPU: {reason}", done.stdout)
    assert len(re.findall(rf"cannot run engines here\n  found: +{reason}", done.stdout)) == 2


def test_a_load_that_nobody_asked_the_driver_about_is_an_error_of_the_childs_alone(engine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    request = {
        "command": "describe", "flavour": "tensorrt-rtx", "engine": str(engine), "plugins": [],
        "host_code": True,
    }  # fmt: skip
    with pytest.raises(TrtcheckError):
        child.call("trtcheck.backends.trt_child", request, what="loading", environment=RTX.environment)


def gpu(major: int, minor: int) -> Gpu:
    return Gpu(0, "some GPU", (major, minor), "GPU-0", 2**34, "580.1", "13.0")


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (12, 0), (12, 1), (13, 0)])
def test_rtx_runs_on_the_gpus_of_its_list_with_a_fake_gpu(monkeypatch, capability):
    monkeypatch.setattr(tensorrt, "find_gpu", lambda _index=0: gpu(*capability))
    assert unsupported_by_rtx() is None


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 7), (9, 0), (10, 0), (11, 0)])
def test_rtx_refuses_other_gpus_and_names_its_list_with_a_fake_gpu(tmp_path, monkeypatch, capability):
    monkeypatch.setattr(tensorrt, "find_gpu", lambda _index=0: gpu(*capability))
    monkeypatch.setattr(tensorrt, "why_no_gpu", lambda: None)
    reason = unsupported_by_rtx()
    assert reason is not None
    assert f"some GPU (compute capability {capability[0]}.{capability[1]}" in reason
    assert "8.0, 8.6, 8.9, and 12.0 or later" in reason
    assert TensorRt("tensorrt-rtx", cache=tmp_path).cannot_run == reason


def test_a_driver_that_is_older_than_the_librarys_cuda_is_refused_with_a_fake_gpu(tmp_path, monkeypatch):
    old = Gpu(0, "some GPU", (8, 9), "GPU-0", 2**34, "525.60", "12.0")
    monkeypatch.setattr(tensorrt, "find_gpu", lambda _index=0: old)
    monkeypatch.setattr(tensorrt, "why_no_gpu", lambda: None)
    reason = TensorRt("tensorrt-rtx", cache=tmp_path).cannot_run
    assert reason is not None
    assert "the NVIDIA driver is too old for TensorRT for RTX" in reason
    assert "CUDA 13.0" in reason


def test_auto_goes_past_a_library_whose_cuda_the_driver_is_too_old_for_with_a_fake_gpu(tmp_path, monkeypatch):
    old = Gpu(0, "some GPU", (8, 9), "GPU-0", 2**34, "525.60", "12.0")
    monkeypatch.setattr(tensorrt, "find_gpu", lambda _index=0: old)
    monkeypatch.setattr(tensorrt, "why_no_gpu", lambda: None)
    opened = backends.open_backend("auto", threads=1, cache=tmp_path)
    assert opened.info.name.startswith("onnxruntime-")
    assert "not tensorrt-rtx: the NVIDIA driver is too old for TensorRT for RTX" in opened.info.reason
    assert backends.choose("auto").name == opened.info.name
    assert backends.builder_beside("auto") == "tensorrt-rtx"


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "an empty file"), (b"\x08\x07PK", "4 bytes that begin with")]
)
def test_a_file_that_is_no_engine_is_refused_with_what_it_begins_with(tmp_path, backend, content, found):
    path = tmp_path / "model.engine"
    path.write_bytes(content)
    for ask in (flavour_of, partial(backend.inspect, spec=SPEC), partial(backend.load_prebuilt, spec=SPEC)):
        with pytest.raises(EngineError, match="this is no TensorRT engine") as caught:
            ask(path)
        assert found in str(caught.value)
    with pytest.raises(EngineError, match="no such engine file"):
        flavour_of(tmp_path / "missing.engine")


def test_engines_of_both_flavours_are_told_apart_by_their_first_bytes(tmp_path, engine, backend):
    other = tmp_path / "other.engine"
    other.write_bytes(b"ftrt" + bytes(100))
    assert flavour_of(engine) == "tensorrt-rtx"
    assert flavour_of(other) == "tensorrt"
    with pytest.raises(EngineError, match="built for another library") as caught:
        backend.inspect(other, SPEC)
    assert "expected: TensorRT for RTX\n  found:    TensorRT\n" in str(caught.value)


@pytest.mark.parametrize("kept", [20, 30, 5000])
def test_a_truncated_engine_is_refused_before_the_driver_is_asked(tmp_path, engine, backend, kept):
    path = tmp_path / "model.engine"
    path.write_bytes(engine.read_bytes()[:kept])
    with pytest.raises(EngineError, match="truncated") as caught:
        backend.load_prebuilt(path, SPEC)
    assert f"{kept:,} bytes" in str(caught.value)
    if kept > 28:
        assert f"expected: {engine.stat().st_size:,} bytes" in str(caught.value)


def test_an_engine_of_another_version_of_rtx_is_refused_with_both_versions(tmp_path, engine, backend):
    path = tmp_path / "model.engine"
    data = bytearray(engine.read_bytes())
    installed = ".".join(map(str, data[24:28]))
    assert installed == backend.info.version
    data[24:28] = bytes((1, 2, 0, 54))
    path.write_bytes(data)
    with pytest.raises(EngineError, match=r"another version of TensorRT for RTX") as caught:
        backend.inspect(path, SPEC)
    assert f"expected: {installed}" in str(caught.value)
    assert "found:    1.2.0.54" in str(caught.value)


def test_the_identity_changes_with_all_that_reaches_the_builder(tmp_path, backend, monkeypatch):
    plugin = tmp_path / "plugin.so"
    plugin.write_bytes(b"one")
    plans = [
        plan(tmp_path),
        BuildPlan(tmp_path / "model.onnx", Precision.TF32, SHAPES, SPEC),
        BuildPlan(tmp_path / "model.onnx", Precision.FP32, {}, SPEC),
        plan(tmp_path, workspace_mb=64),
        plan(tmp_path, optimization_level=3),
        plan(tmp_path, hardware_compatible=True),
        plan(tmp_path, version_compatible=True),
        plan(tmp_path, plugins=(plugin,)),
    ]
    found = [str(backend.identity(each)) for each in plans]
    assert len(set(found)) == len(plans)
    plugin.write_bytes(b"two")
    with monkeypatch.context() as patch:
        patch.setattr(tensorrt.metadata, "version", lambda _name: "0.0")
        assert str(backend.identity(plans[0])) != found[0]
    assert str(backend.identity(plans[-1])) != found[-1]
    assert backend.identity(plan(tmp_path, cuda_graph=True)) == backend.identity(plans[0])
    with pytest.raises(EngineError, match="no such plugin library"):
        backend.identity(plan(tmp_path, plugins=(tmp_path / "missing.so",)))


def test_the_identity_holds_gpu_and_driver_where_there_is_one_with_a_fake_gpu(tmp_path, backend, monkeypatch):
    monkeypatch.setattr(tensorrt, "why_no_gpu", lambda: None)
    found = []
    for driver in ("580.1", "580.2"):
        made = Gpu(0, "some GPU", (8, 9), "GPU-0", 2**34, driver, "13.0")
        monkeypatch.setattr(tensorrt, "find_gpu", lambda _index=0, made=made: made)
        found.append(backend.identity(plan(tmp_path))["gpu"])
    here = {"name": "some GPU", "compute_capability": [8, 9], "driver": "580.1", "cuda": "13.0"}
    assert found[0] == here
    assert found[0] != found[1]


def test_each_flavour_switches_polygraphy_to_itself():
    assert RTX.environment == {"POLYGRAPHY_USE_TENSORRT_RTX": "1"}
    assert TENSORRT.environment == {"POLYGRAPHY_USE_TENSORRT_RTX": "0"}
