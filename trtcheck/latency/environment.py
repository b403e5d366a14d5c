"""What a time depends on besides the engine: times of two latency environments are never compared."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtcheck import digests
from trtcheck.environment import usable_cores
from trtcheck.latency.nvml import GpuFacts, gpu_facts

if TYPE_CHECKING:
    from trtcheck.backends.base import BackendInfo
    from trtcheck.latency.timing import TimingMode

__all__ = ["Difference", "GpuFacts", "differences", "digest", "explain", "file_part", "gpu_facts",
           "latency_environment"]  # fmt: skip

_PROCESSOR = "onnxruntime-cpu"
"""The backend whose threads compute."""

_RECORDED = "recorded"
_OF_A_RECORDING = {
    "backend": "",
    "device": "record on {then}",
    "runtime": "record with {then}",
}
"""Remedies where the times are those of a recording, by key."""


@dataclass(frozen=True)
class Difference:
    """One point in which two environments differ.

    Attributes:
        what: The point, in words.
        then: How it was, in words.
        now: How it is.
        remedy: What would make it as it was; empty where nothing but another remedy would.
    """

    what: str
    then: str
    now: str
    remedy: str


def latency_environment(
    info: BackendInfo, mode: TimingMode, *, gpu: GpuFacts | None, threads: int
) -> dict[str, Any]:
    """What times are filed under, JSON-ready, sorted by key; what is unknown or does not apply is left out.

    The reference has no part in it: its times are taken beside the engine's.

    Args:
        info: What runs the engine.
        mode: How it is timed.
        gpu: The GPU's own settings; None where the processor computes, and for a recording.
        threads: Threads for inference, 0 for every core that this process may use; they count where the
            processor computes.
    """
    found = {
        "backend": info.name,
        "clock": mode.clock.value,
        "cuda_graph": mode.cuda_graph,
        "device": info.device,
        "driver": info.driver.partition(".")[0] if info.driver else None,
        "mig": None if gpu is None else gpu.mig,
        "power_limit_w": None if gpu is None or gpu.power_limit_w is None else round(gpu.power_limit_w),
        "runtime": info.version,
        "spin_wait": mode.spin_wait,
        "threads": (threads or usable_cores()) if info.name == _PROCESSOR else None,
        "transfers": mode.transfers,
    }
    return {name: value for name, value in found.items() if value is not None}


def digest(environment: Mapping[str, Any]) -> str:
    """What tells the environment from every other, 16 hex digits."""
    return digests.of_json(dict(environment)).removeprefix("sha256:")[:16]


def file_part(environment: Mapping[str, Any]) -> str:
    """The environment as part of a file's name: backend and device for people, the digest for certain."""
    words = f"{environment['backend']} {environment['device']}"
    plain = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:60].rstrip("-")
    return f"{plain}-{digest(environment)}" if plain else digest(environment)


@dataclass(frozen=True)
class _Point:
    """How one key of an environment is told.

    Attributes:
        what: The key in words.
        remedy: What would restore it: ``{then}`` is the approved value in words, ``{value}`` as TOML writes
            it, ``{backend}`` the backend and ``{table}`` where the way of timing is set.
        unit: Unit of its values.
        absent: What it means where it is left out.
        follows: The key of which this one is a mere consequence where both differ.
    """

    what: str
    remedy: str
    unit: str = ""
    follows: str | None = None
    absent: str = "unknown"


_POINTS = {
    "backend": _Point("backend", "pytest --trt-backend={then}"),
    "device": _Point("device", "run on a machine with {then}", follows="backend"),
    "mig": _Point(
        "MIG profile", "run in a GPU instance with MIG profile {then}", follows="device", absent="none"
    ),
    "power_limit_w": _Point("power limit", "sudo nvidia-smi -pl {value}", " W", "device"),
    "driver": _Point("driver", "install driver {then}", follows="backend"),
    "runtime": _Point("runtime", "install {backend} {then}", follows="backend"),
    "threads": _Point(
        "threads",
        "run where a worker has {then} cores: pytest -n divides them, taskset limits them",
        follows="backend",
    ),
    "clock": _Point("timing clock", "time with a backend that has the {then} clock", follows="backend"),
    "transfers": _Point("transfers in the time", "transfers = {value} in [models.NAME.latency]"),
    "cuda_graph": _Point("CUDA graph", "cuda_graph = {value} in {table}", follows="backend"),
    "spin_wait": _Point("spin-wait", "spin_wait = {value} in {table}"),
}
"""Every key of an environment, the weightiest first."""


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Difference, ...]:
    """In what two environments differ, the weightiest first; empty where times may be compared.

    What only one of them has is left out where another difference explains it, such as threads where another
    backend computes.

    Args:
        then: The environment that was approved.
        now: That of this run.
    """
    foreign = sorted((then.keys() | now.keys()) - _POINTS.keys())
    changed = [key for key in (*_POINTS, *foreign) if then.get(key) != now.get(key)]
    return tuple(
        _difference(key, then, now, changed)
        for key in changed
        if (key in then and key in now) or not _follows(key, changed)
    )


def explain(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Both sides of every difference, and what would make the two comparable, in one line.

    Args:
        then: The environment that was approved.
        now: That of this run.
    """
    found = differences(then, now)
    sides = "; ".join(f"{each.what}: approved with {each.then}, here {each.now}" for each in found)
    remedies = "; ".join(each.remedy for each in found if each.remedy)
    return f"{sides} (to compare: {remedies})" if remedies else sides


def _difference(
    key: str, then: Mapping[str, Any], now: Mapping[str, Any], changed: Collection[str]
) -> Difference:
    point = _POINTS.get(key, _Point(key, ""))
    old, new = (_told(side.get(key), point) for side in (then, now))
    if key not in then or _follows(key, changed):
        return Difference(point.what, old, new, "")
    if _RECORDED in (then.get("backend"), now.get("backend")) and key in _OF_A_RECORDING:
        return Difference(point.what, old, new, _OF_A_RECORDING[key].format(then=old))
    recorded = now.get("backend") == _RECORDED
    remedy = point.remedy.format(
        then=old, value=str(then[key]).lower(), backend=now.get("backend", ""),
        table="the recording's sidecar, if it was so" if recorded else "[models.NAME.latency]",
    )  # fmt: skip
    return Difference(point.what, old, new, remedy)


def _follows(key: str, changed: Collection[str]) -> bool:
    """Whether another difference explains this one: the power limit of another GPU is no use here."""
    leader = _POINTS[key].follows if key in _POINTS else None
    return leader is not None and (leader in changed or _follows(leader, changed))


def _told(value: object, point: _Point) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return point.absent if value is None else f"{value}{point.unit}"
