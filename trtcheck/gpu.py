"""The NVIDIA GPUs of this machine, asked of the driver: cheap, without a context, and never with a crash."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

from trtcheck.errors import BackendError

OLDEST_CUDA = "12.0"
"""The oldest CUDA of which any library that trtcheck drives is still made."""

_DRIVERS = {12: "525.60", 13: "580.65"}
"""The first driver of each CUDA major version (NVIDIA: CUDA Toolkit release notes, table 2, Linux)."""

_INSTALL = "pip install cuda-bindings nvidia-ml-py"


@dataclass(frozen=True)
class Gpu:
    """One GPU that CUDA programs of this process can use.

    Attributes:
        index: Its number among those that are visible.
        name: Its model, for example ``"NVIDIA H100 80GB HBM3"``.
        compute_capability: Major and minor version of its architecture.
        uuid: What tells it from every other, as nvidia-smi writes it.
        memory_bytes: Its whole memory.
        driver: Version of the driver, for example ``"580.159.04"``; empty where it is unknown.
        cuda: The newest CUDA that the driver supports, for example ``"13.0"``.
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    uuid: str
    memory_bytes: int
    driver: str
    cuda: str

    def __str__(self) -> str:
        driver = f", driver {self.driver}" if self.driver else ""
        return f"{self.name}{driver}, CUDA {self.cuda}"


def bindings() -> Any:
    """The module of the driver's functions.

    Raises:
        BackendError: cuda-python is not installed, or broken.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise BackendError("cuda-python is not installed", found=error, hint=_INSTALL) from error
    except (OSError, RuntimeError) as error:
        raise BackendError("cuda-python cannot be loaded", found=error, hint=_INSTALL) from error
    return driver


def checked(attempt: str, answer: tuple[Any, ...]) -> Any:
    """What a driver function returned beside its status.

    Args:
        attempt: What was attempted, to follow "cannot", for example ``"make a stream"``.
        answer: The status, and any number of values.

    Returns:
        Nothing, the only value, or all values as a tuple.

    Raises:
        BackendError: The status is no success; CUDA's own name and description of it are told.
    """
    status, *values = answer
    if int(status) != 0:
        raise BackendError(f"CUDA cannot {attempt}", found=describe(status))
    return (values[0] if len(values) == 1 else tuple(values)) if values else None


def describe(status: Any) -> str:
    """CUDA's own name and description of a driver function's *status*."""
    driver = bindings()
    texts = []
    for ask in (driver.cuGetErrorName, driver.cuGetErrorString):
        try:
            known, text = ask(status)
        except RuntimeError:  # a driver without that function
            continue
        texts.append(text.decode() if int(known) == 0 and text else "")
    name, description = (*texts, "", "")[:2]
    return f"{name or int(status)}: {description}" if description else name or f"error {int(status)}"


def find_gpu(index: int = 0) -> Gpu:
    """The GPU of that number.

    Args:
        index: Its number among those that are visible to this process.

    Raises:
        BackendError: cuda-python or the driver is missing, the driver is too old or refuses, or there is no
            such GPU; the message tells which.
    """
    gpus = all_gpus()
    if not 0 <= index < len(gpus):
        raise BackendError(
            f"there is no GPU {index}",
            expected=f"0 to {len(gpus) - 1}",
            found=", ".join(gpu.name for gpu in gpus),
        )
    return gpus[index]


def why_no_gpu(index: int = 0) -> str | None:
    """Why the GPU of that number cannot be used, in one line, or None where it can."""
    try:
        find_gpu(index)
    except BackendError as error:
        return str(error).splitlines()[0]
    return None


@functools.cache
def all_gpus() -> tuple[Gpu, ...]:
    """Every GPU that is visible to this process; at least one.

    Kept once it succeeded: the driver itself reads ``CUDA_VISIBLE_DEVICES`` only once a process.

    Raises:
        BackendError: As of `find_gpu`.
    """
    driver = bindings()
    try:
        (status,) = driver.cuInit(0)
        cuda = _cuda_version(driver)
    except (
        RuntimeError
    ) as error:  # what cuda-python raises where it finds no libcuda, or no such function in it
        raise BackendError("there is no NVIDIA driver on this machine", found=error) from error
    found = f"driver {driver_version() or 'of unknown version'}, CUDA {cuda}"
    if _number(cuda) < _number(OLDEST_CUDA):
        raise _too_old("CUDA programs of today", OLDEST_CUDA, found)
    if status == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        raise _no_device(found)
    checked("start", (status,))
    count = checked("count the GPUs", driver.cuDeviceGetCount())
    if count == 0:
        raise _no_device(found)
    version = driver_version()
    return tuple(_read(driver, index, version, cuda) for index in range(count))


def require_cuda(gpu: Gpu, cuda: str, needed_by: str) -> None:
    """Refuses a driver that is older than the CUDA that a library was made with.

    Minor versions of one CUDA run on any driver of that major version (NVIDIA: CUDA compatibility).

    Args:
        gpu: The GPU.
        cuda: The library's CUDA, for example ``"13.0"``.
        needed_by: The library's name.

    Raises:
        BackendError: The driver is too old.
    """
    if _number(gpu.cuda)[0] < _number(cuda)[0]:
        raise _too_old(needed_by, cuda, f"driver {gpu.driver or 'of unknown version'}, CUDA {gpu.cuda}")


def driver_version() -> str:
    """Version of the NVIDIA driver; empty where it is unknown."""
    try:
        import pynvml
    except ImportError:
        return ""
    try:
        pynvml.nvmlInit()
        try:
            version = pynvml.nvmlSystemGetDriverVersion()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ""
    return version.decode() if isinstance(version, bytes) else str(version)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _too_old(needed_by: str, cuda: str, found: str) -> BackendError:
    major = _number(cuda)[0]
    first = f" (driver {_DRIVERS[major]} or newer)" if major in _DRIVERS else ""
    return BackendError(
        f"the NVIDIA driver is too old for {needed_by}", expected=f"CUDA {cuda}{first}", found=found,
        hint="update the driver",
    )  # fmt: skip


def _no_device(found: str) -> BackendError:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return BackendError(
            f"no GPU is visible: CUDA_VISIBLE_DEVICES is '{hidden}'", found=found,
            hint="unset CUDA_VISIBLE_DEVICES",
        )  # fmt: skip
    return BackendError(
        "there is an NVIDIA driver but no GPU",
        found=found,
        hint="nvidia-smi -L (in a container: docker run --gpus all)",
    )


def _cuda_version(driver: Any) -> str:
    number = checked("tell the driver's version", driver.cuDriverGetVersion())
    return f"{number // 1000}.{number % 1000 // 10}"


def _read(driver: Any, index: int, version: str, cuda: str) -> Gpu:
    device = checked(f"open GPU {index}", driver.cuDeviceGet(index))
    kinds = driver.CUdevice_attribute
    major, minor = (
        checked("tell the compute capability", driver.cuDeviceGetAttribute(kind, device))
        for kind in (
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    name = checked("tell the GPU's name", driver.cuDeviceGetName(256, device))
    digits = bytes(checked("tell the GPU's UUID", driver.cuDeviceGetUuid(device)).bytes).hex()
    cut = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return Gpu(
        index=index,
        name=name.split(b"\0")[0].decode(),
        compute_capability=(int(major), int(minor)),
        uuid=f"GPU-{'-'.join(cut)}",
        memory_bytes=int(checked("tell the GPU's memory", driver.cuDeviceTotalMem(device))),
        driver=version,
        cuda=cuda,
    )
