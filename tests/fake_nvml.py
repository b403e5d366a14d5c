# ruff: noqa: N802
"""NVML without a GPU, for what this project's CPU machines cannot run; a suite gets it as its ``pynvml``.

The environment variable says what there is: ``FAKE_GPUS="GPU-0a=NVIDIA H100;GPU-0b=NVIDIA H100"``, each with
its instances behind it: ``GPU-0c=NVIDIA A100+MIG-1=NVIDIA A100 MIG 1g.5gb``. Without it there is no driver.
"""

from __future__ import annotations

import os

NVML_DEVICE_MIG_ENABLE = 1


class NVMLError(Exception):
    pass


class NVMLLibraryMismatchError(Exception):
    pass


def _gpus() -> list[list[tuple[str, str]]]:
    entries = [entry for entry in os.environ["FAKE_GPUS"].split(";") if entry]
    return [[(part.split("=")[0], part.split("=")[1]) for part in entry.split("+")] for entry in entries]


def nvmlInit() -> None:
    if "FAKE_GPUS" not in os.environ:
        raise NVMLError("NVML Shared Library Not Found")


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return "580.0"


def nvmlDeviceGetCount() -> int:
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(index: int) -> list[tuple[str, str]]:
    return _gpus()[index]


def nvmlDeviceGetMigMode(handle: list[tuple[str, str]]) -> tuple[int, int]:
    if "A100" not in handle[0][1]:
        raise NVMLError("Not Supported")
    return (int(len(handle) > 1),) * 2


def nvmlDeviceGetMaxMigDeviceCount(_handle: list[tuple[str, str]]) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: list[tuple[str, str]], index: int) -> list[tuple[str, str]]:
    if index + 1 >= len(handle):
        raise NVMLError("Not Found")
    return [handle[index + 1]]


def nvmlDeviceGetUUID(handle: list[tuple[str, str]]) -> str:
    return handle[0][0]


def nvmlDeviceGetName(handle: list[tuple[str, str]]) -> str:
    return handle[0][1]
