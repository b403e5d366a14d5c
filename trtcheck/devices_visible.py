"""The GPUs that CUDA would show to this process, found out without starting it here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtcheck.devices import VARIABLE, Device

ORDER = "CUDA_DEVICE_ORDER"


@dataclass(frozen=True)
class Board:
    """A GPU as NVML lists it, whatever is visible.

    Attributes:
        device: The GPU.
        instances: What it is divided into (MIG); None where it is not.
    """

    device: Device
    instances: tuple[Device, ...] | None = None

    @property
    def usable(self) -> tuple[Device, ...]:
        """What CUDA programs can be given: the whole, or its instances."""
        return (self.device,) if self.instances is None else self.instances


def visible(environment: Mapping[str, str]) -> tuple[Device, ...]:
    """Every GPU that is visible to a process of this *environment*; at least one.

    NVIDIA's management library is asked first, which is quick, and the driver in a child process where that
    library is not there, or where it counts in another order than CUDA.

    Raises:
        BackendError: There is none, or neither can be asked.
    """
    boards = _boards()
    if boards and _same_order(boards, environment):
        found = shown(boards, environment.get(VARIABLE))
        if found:
            return found
    from trtcheck.child import call

    reply = call("trtcheck.devices_child", {}, what="counting the GPUs", environment=environment)
    return tuple(Device(entry["uuid"], entry["name"]) for entry in reply["gpus"])


def _same_order(boards: Sequence[Board], environment: Mapping[str, str]) -> bool:
    """Whether NVML's numbers are CUDA's: CUDA puts the fastest first unless it is told to go by the bus."""
    return environment.get(ORDER) == "PCI_BUS_ID" or len({board.device.name for board in boards}) == 1


def shown(boards: Sequence[Board], variable: str | None) -> tuple[Device, ...]:
    """What of the machine's GPUs ``CUDA_VISIBLE_DEVICES`` shows.

    An entry is a number, the beginning of a UUID, or the UUID of an instance; as CUDA does, the list is read
    as far as its entries are valid (CUDA C++ Programming Guide, environment variables).

    Args:
        boards: The machine's GPUs in CUDA's order.
        variable: The variable; None where it is not set, which shows all.
    """
    if variable is None:
        return tuple(device for board in boards for device in board.usable)
    found: list[Device] = []
    for entry in variable.split(","):
        devices = _entry(boards, entry.strip())
        if not devices or devices[0] in found:
            break
        found += devices
    return tuple(found)


def _entry(boards: Sequence[Board], entry: str) -> tuple[Device, ...]:
    """What one entry of the variable shows; nothing where it is not valid."""
    if entry.isascii() and entry.isdigit():
        return boards[int(entry)].usable if int(entry) < len(boards) else ()
    if entry.startswith("MIG-"):
        instances = [device for board in boards for device in board.instances or ()]
        return tuple(device for device in instances if device.uuid == entry)
    named = [board for board in boards if entry.startswith("GPU-") and board.device.uuid.startswith(entry)]
    return named[0].usable if len(named) == 1 else ()


def _boards() -> tuple[Board, ...]:
    """The machine's GPUs by NVML, in the order of the bus; none where it cannot be asked."""
    try:
        import pynvml
    except ImportError:
        return ()
    refusals = (pynvml.NVMLError, getattr(pynvml, "NVMLLibraryMismatchError", pynvml.NVMLError))
    try:
        pynvml.nvmlInit()
    except refusals:
        return ()
    try:
        return tuple(_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    except refusals:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _read(nvml: Any, index: int) -> Board:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        mode, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # a GPU that cannot be divided
        mode = None
    divided = mode == getattr(nvml, "NVML_DEVICE_MIG_ENABLE", 1)
    return Board(_device(nvml, handle), tuple(_instances(nvml, handle)) if divided else None)


def _instances(nvml: Any, handle: Any) -> Iterator[Device]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # a place that is not taken
            continue
        yield _device(nvml, instance)


def _device(nvml: Any, handle: Any) -> Device:
    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    return Device(*(text.decode() if isinstance(text, bytes) else text for text in (uuid, name)))


def of_driver() -> list[dict[str, str]]:
    """The GPUs that the driver shows to this process, JSON-ready; starts CUDA.

    Raises:
        BackendError: See `trtcheck.gpu.all_gpus`.
    """
    from trtcheck.gpu import all_gpus

    return [{"uuid": _instance_uuid(gpu.name, gpu.uuid), "name": gpu.name} for gpu in all_gpus()]


def _instance_uuid(name: str, uuid: str) -> str:
    """The UUID as ``CUDA_VISIBLE_DEVICES`` takes it: the driver gives an instance's without its kind."""
    return uuid.replace("GPU-", "MIG-", 1) if " MIG " in name else uuid
