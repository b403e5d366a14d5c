"""What a time depends on besides the engine: times of two latency environments are never compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    """What times are filed under, JSON-ready and sorted by key; what is not known or does not apply is left out.

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
        unit: Unit of its values.
        remedy: What would restore it, with ``{then}`` for the approved value in words and ``{name}`` for the
            backend's name.
        follows: The key whose own difference explains this one, so that its remedy would be none.
    """

    what: str
    remedy: str
    unit: str = ""
    follows: str | None = None


_TABLE = "in the table latency of the model (a recording: in its sidecar)"
_POINTS = {
    "backend": _Point("backend", "pytest --trt-backend={then}"),
    "device": _Point("device", "run on a machine with {then}", follows="backend"),
    "mig": _Point("MIG profile", "a GPU instance with MIG profile {then}", follows="device"),
    "power_limit_w": _Point("power limit", "sudo nvidia-smi -pl {value}", " W", "device"),
    "driver": _Point("driver", "install a driver {then}", follows="backend"),
    "runtime": _Point("runtime", "install {name} {then}", follows="backend"),
    "threads": _Point("threads", "run with {then} cores for each worker (taskset, pytest -n)"),
    "clock": _Point("timing clock", "time by the clock of the {then}, as the same backend does", follows="backend"),
    "transfers": _Point("transfers in the time", f"transfers = {{toml}} {_TABLE}"),
    "cuda_graph": _Point("CUDA graph", f"cuda_graph = {{toml}} {_TABLE}"),
    "spin_wait": _Point("spin-wait", f"spin_wait = {{toml}} {_TABLE}"),
}
"""Every key of an environment, the weightiest first."""


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Difference, ...]:
    """In what two environments differ, the weightiest first; empty where times may be compared.

    Args:
        then: The environment that was approved.
        now: That of this run.
    """
    known = [key for key in _POINTS if key in then or key in now]
    foreign = sorted((then.keys() | now.keys()) - _POINTS.keys())
    changed = {key for key in (*known, *foreign) if then.get(key) != now.get(key)}
    return tuple(
        _difference(key, then, now, changed) for key in (*known, *foreign) if key in changed
    )  # fmt: skip


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


def _difference(key: str, then: Mapping[str, Any], now: Mapping[str, Any], changed: set[str]) -> Difference:
    point = _POINTS.get(key, _Point(key, ""))
    old, new = (_told(side.get(key), point.unit) for side in (then, now))
    remedy = ""
    if key in then and not _follows(point, changed):
        value = then[key]
        remedy = point.remedy.format(
            then=old, value=value, toml=str(value).lower(), name=then.get("backend", "")
        )
    return Difference(point.what, old, new, remedy)


def _follows(point: _Point, changed: set[str]) -> bool:
    """Whether another difference explains this one: the power limit of another GPU is no use here."""
    while point.follows is not None:
        if point.follows in changed:
            return True
        point = _POINTS[point.follows]
    return False


def _told(value: object, unit: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none or unknown" if value is None else f"{value}{unit}"
