"""The state and settings of one GPU, asked of NVIDIA's management library: read, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from trtcheck.backends.base import Closing
from trtcheck.errors import BackendError

LIMITERS = {
    0x1: "idle",
    0x2: "application clocks setting",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clock setting",
}
"""What holds clocks down, by its bit (NVML: ``nvmlDeviceGetCurrentClocksEventReasons``)."""

_WATT = 1e-3
_JOULE = 1e-3


@dataclass(frozen=True)
class GpuFacts:
    """How a GPU is set; None for what it does not tell.

    Attributes:
        name: Its model.
        power_limit_w: The power limit that is enforced, in watts.
        default_power_limit_w: The power limit that it is sold with.
        max_sm_mhz: Highest clock of its multiprocessors.
        application_sm_mhz: Their clock as applications set it.
        persistence: Whether the driver stays loaded while nobody uses it.
        mig: Profile of the GPU instance in use, ``"unknown profile"`` where the instance is not known; None
            where the GPU is not divided.
    """

    name: str | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    max_sm_mhz: int | None = None
    application_sm_mhz: int | None = None
    persistence: bool | None = None
    mig: str | None = None


@dataclass(frozen=True)
class GpuReading:
    """The state of a GPU at one moment; None for what it does not tell.

    Attributes:
        sm_mhz: Clock of its multiprocessors.
        memory_mhz: Clock of its memory.
        limiters: What holds the clocks down, see `LIMITERS`.
        temperature_c: Its temperature in degrees Celsius.
        power_w: Its power in watts.
        pstate: Its performance state, 0 for the highest.
    """

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    limiters: tuple[str, ...] | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    pstate: int | None = None


def gpu_facts(uuid: str) -> GpuFacts | None:
    """How the GPU is set; None where NVML cannot be asked for it.

    Args:
        uuid: The GPU's, as `trtcheck.gpu` tells it.
    """
    try:
        with NvmlGpu(uuid) as gpu:
            return gpu.facts()
    except BackendError:
        return None


@final
class NvmlGpu(Closing):
    """One GPU, or one instance of a GPU that is divided (MIG), until it is closed.

    Args:
        uuid: The GPU's, as `trtcheck.gpu` tells it: for an instance the driver gives that of the instance.

    Raises:
        BackendError: nvidia-ml-py or the driver is missing, or it knows no such GPU.
    """

    def __init__(self, uuid: str) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise BackendError("nvidia-ml-py is not installed", hint="pip install nvidia-ml-py") from error
        self._nvml: Any = pynvml
        self._refusals = (pynvml.NVMLError, getattr(pynvml, "NVMLLibraryMismatchError", pynvml.NVMLError))
        try:
            pynvml.nvmlInit()
        except self._refusals as error:
            raise BackendError("NVML cannot be used", found=error) from error
        self._open = True
        self._instance = self._found(uuid)
        if self._instance is None:
            self.close()
            raise BackendError(f"NVML knows no GPU {uuid}")
        # Clocks, power and temperature are those of the whole GPU.
        whole = self._ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", self._instance)
        self._whole = self._instance if whole is None else whole
        self._divided = whole is not None

    def _found(self, uuid: str) -> Any:
        for name in (uuid, uuid.replace("GPU-", "MIG-", 1)):
            handle = self._ask("nvmlDeviceGetHandleByUUID", name)
            if handle is not None:
                return handle
        return None

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What a function returns; None where this library, driver or GPU has none of it."""
        ask = getattr(self._nvml, function, None)
        try:
            return None if ask is None else ask(*arguments)
        except self._refusals:
            return None

    def facts(self) -> GpuFacts:
        """How it is set."""
        nvml, whole = self._nvml, self._whole
        persistence = self._ask("nvmlDeviceGetPersistenceMode", whole)
        return GpuFacts(
            name=_text(self._ask("nvmlDeviceGetName", whole)),
            power_limit_w=_times(self._ask("nvmlDeviceGetEnforcedPowerLimit", whole), _WATT),
            default_power_limit_w=_times(self._ask("nvmlDeviceGetPowerManagementDefaultLimit", whole), _WATT),
            max_sm_mhz=self._ask("nvmlDeviceGetMaxClockInfo", whole, nvml.NVML_CLOCK_SM),
            application_sm_mhz=self._ask("nvmlDeviceGetApplicationsClock", whole, nvml.NVML_CLOCK_SM),
            persistence=None if persistence is None else bool(persistence),
            mig=self._profile(),
        )

    def _profile(self) -> str | None:
        if self._divided:
            name = _text(self._ask("nvmlDeviceGetName", self._instance)) or ""
            return name.partition(" MIG ")[2] or "unknown profile"  # "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
        modes = self._ask("nvmlDeviceGetMigMode", self._whole)
        return "unknown profile" if modes is not None and modes[0] else None

    def reading(self) -> GpuReading:
        """Its state now; the clocks come first, since they fall as soon as nothing computes."""
        nvml, whole = self._nvml, self._whole
        sm = self._ask("nvmlDeviceGetClockInfo", whole, nvml.NVML_CLOCK_SM)
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons", whole)
        if bits is None:  # a driver before 535
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", whole)
        return GpuReading(
            sm_mhz=sm,
            memory_mhz=self._ask("nvmlDeviceGetClockInfo", whole, nvml.NVML_CLOCK_MEM),
            limiters=None if bits is None else tuple(name for bit, name in LIMITERS.items() if bits & bit),
            temperature_c=self._ask("nvmlDeviceGetTemperature", whole, nvml.NVML_TEMPERATURE_GPU),
            power_w=_times(self._ask("nvmlDeviceGetPowerUsage", whole), _WATT),
            pstate=self._ask("nvmlDeviceGetPerformanceState", whole),
        )

    def processes(self) -> tuple[int, ...] | None:
        """Numbers of the processes that hold the GPU to compute; None where it does not tell.

        In a container they may be those of the host, or leave out whoever is outside.
        """
        found = self._ask("nvmlDeviceGetComputeRunningProcesses", self._instance)
        return None if found is None else tuple(sorted({int(each.pid) for each in found}))

    def shares(self, since: float) -> Mapping[int, int] | None:
        """Percent of the time that each process computed, by its number; None where it does not tell.

        Args:
            since: Samples that are older do not count, seconds since the epoch.
        """
        try:
            # Not of an instance: NVML has none of a divided GPU's.
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._instance, int(since * 1e6))
        except self._refusals as error:
            nothing = getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_FOUND
            return {} if nothing else None
        found: dict[int, int] = {}
        for sample in samples:
            if sample.timeStamp >= since * 1e6 and sample.smUtil <= 100:  # drivers tell of more now and then
                found[int(sample.pid)] = max(found.get(int(sample.pid), 0), int(sample.smUtil))
        return found

    def energy_joules(self) -> float | None:
        """Energy since the driver was loaded, in joules; None where it does not tell.

        None for an instance, too: the counter is that of the whole GPU, whoever computes on it.
        """
        if self._profile() is not None:
            return None
        return _times(self._ask("nvmlDeviceGetTotalEnergyConsumption", self._whole), _JOULE)

    def close(self) -> None:
        """Lets go of NVML; a second time does nothing."""
        if self._open:
            self._open = False
            self._ask("nvmlShutdown")


def _times(value: int | None, unit: float) -> float | None:
    return None if value is None else value * unit


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
