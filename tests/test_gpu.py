"""Asking the driver for GPUs: really where there is none, and of a fake driver for what it would say."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator

import fake_cuda
import pytest
from fake_cuda import CUresult, FakeDriver

from trtcheck import gpu
from trtcheck.errors import BackendError
from trtcheck.gpu import Gpu, all_gpus, find_gpu, require_cuda, why_no_gpu


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield fake_cuda.install(monkeypatch)
    all_gpus.cache_clear()  # what other tests of this process ask for must not be the fake's


def is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


# For real.


def test_a_machine_without_a_driver_is_told_so() -> None:
    all_gpus.cache_clear()
    missing = why_no_gpu() == "there is no NVIDIA driver on this machine"
    assert missing is not is_loadable("libcuda.so.1")
    if missing:
        with pytest.raises(BackendError, match=r"(?s)no NVIDIA driver on this machine.*found: .*driver"):
            find_gpu()


def test_without_cuda_python_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    all_gpus.cache_clear()
    with pytest.raises(
        BackendError, match=r"(?s)cuda-python is not installed.*pip install cuda-bindings nvidia-ml-py"
    ):
        find_gpu()
    assert why_no_gpu() == "cuda-python is not installed"


def test_without_nvml_the_drivers_version_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu.driver_version() == ""


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, trtcheck.gpu; print(sorted({'numpy', 'cuda', 'pynvml', 'onnx'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Of a fake driver.


def test_a_fake_gpu_is_described(driver: FakeDriver) -> None:
    found = find_gpu()
    assert found == Gpu(
        index=0,
        name="Fake GPU 0",
        compute_capability=(9, 0),
        uuid="GPU-00010203-0405-0607-0809-0a0b0c0d0e0f",
        memory_bytes=80 * 2**20,
        driver="580.159.04",
        cuda="13.0",
    )
    assert str(found) == "Fake GPU 0, driver 580.159.04, CUDA 13.0"
    assert why_no_gpu() is None
    driver.init = CUresult.CUDA_ERROR_NO_DEVICE  # asked once a process
    assert find_gpu() is found


def test_fake_gpus_are_numbered(driver: FakeDriver) -> None:
    driver.gpus = 2
    assert [found.index for found in all_gpus()] == [0, 1]
    assert why_no_gpu(1) is None
    for index in (2, -1):
        with pytest.raises(
            BackendError, match=rf"(?s)no GPU {index}.*expected: 0 to 1.*Fake GPU 0, Fake GPU 1"
        ):
            find_gpu(index)


def test_a_fake_driver_without_a_gpu(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.init = CUresult.CUDA_ERROR_NO_DEVICE
    with pytest.raises(
        BackendError,
        match=r"(?s)there is an NVIDIA driver but no GPU.*driver 580\.159\.04, CUDA 13\.0.*nvidia-smi",
    ):
        find_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(BackendError, match=r"(?s)CUDA_VISIBLE_DEVICES is '7'.*unset CUDA_VISIBLE_DEVICES"):
        find_gpu()
    driver.init, driver.gpus = CUresult.CUDA_SUCCESS, 0
    assert why_no_gpu() == "no GPU is visible: CUDA_VISIBLE_DEVICES is '7'"


def test_a_fake_driver_that_is_too_old(driver: FakeDriver) -> None:
    driver.version = 11080
    with pytest.raises(BackendError) as refused:
        find_gpu()
    assert str(refused.value).splitlines() == [
        "the NVIDIA driver is too old for CUDA programs of today",
        "  expected: CUDA 12.0 (driver 525.60 or newer)",
        "  found:    driver 580.159.04, CUDA 11.8",
        "  try:      update the driver",
    ]


def test_a_fake_driver_that_refuses(driver: FakeDriver) -> None:
    driver.init = CUresult.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    with pytest.raises(
        BackendError,
        match=r"(?s)CUDA cannot start.*CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: system_driver_mismatch",
    ):
        find_gpu()


@pytest.mark.parametrize(
    ("cuda", "refused"), [("12.9", False), ("13.0", False), ("13.2", False), ("14.0", True)]
)
def test_minor_versions_of_cuda_run_on_any_fake_driver_of_the_major(
    driver: FakeDriver, cuda: str, refused: bool
) -> None:
    found = find_gpu()
    if not refused:
        require_cuda(found, cuda, "a library")
        return
    with pytest.raises(BackendError, match=r"(?s)too old for a library.*expected: CUDA 14\.0\n.*CUDA 13\.0"):
        require_cuda(found, cuda, "a library")
