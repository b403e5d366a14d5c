"""The state of the processor: work, steal time, frequency, limits of a container; read from files of Linux.

On other systems most of it is unknown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOST_CORES = 8
"""Cores whose frequency is read: on a machine of hundreds, asking all would let them cool down."""

PROC, SYS = Path("/proc"), Path("/sys")


@dataclass(frozen=True)
class ProcessorReading:
    """Counters and state of the processor at one moment, over the cores that this process may use.

    Attributes:
        at: Seconds of a monotonic clock.
        busy_s: Time that all cores worked, in seconds; None where unknown.
        steal_s: Time that a hypervisor gave to others while a core had work.
        own_s: Time that this process's threads worked.
        mhz: Highest frequency of the cores.
        throttled: How often this process's container was stopped for having used up its share; None where it
            has no limit.
        periods: Scheduling periods of that limit.
    """

    at: float
    busy_s: float | None = None
    steal_s: float | None = None
    own_s: float = 0.0
    mhz: float | None = None
    throttled: int | None = None
    periods: int | None = None


def read(proc: Path = PROC, sys: Path = SYS) -> ProcessorReading:
    """The state of the processor now.

    Args:
        proc: Where the system tells of processes.
        sys: Where it tells of devices and control groups.
    """
    cores = _cores()
    busy, steal = _times(proc, cores)
    throttled, periods = _throttling(proc, sys)
    return ProcessorReading(
        at=time.monotonic(), busy_s=busy, steal_s=steal, own_s=time.process_time(),
        mhz=_mhz(proc, sys, cores), throttled=throttled, periods=periods,
    )  # fmt: skip


def busiest(before: Mapping[int, float], after: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    """The other processes that worked most between two lists: number and seconds, at most three.

    Args:
        before: Working time by process, see `process_times`.
        after: The same later.
    """
    worked = {pid: seconds - before.get(pid, 0.0) for pid, seconds in after.items() if pid != os.getpid()}
    ranked = sorted(worked.items(), key=lambda each: each[1], reverse=True)
    return tuple((pid, seconds) for pid, seconds in ranked[:3] if seconds > 0)


def process_times(proc: Path = PROC) -> dict[int, float]:
    """Working time in seconds of every process that this one sees."""
    found = {}
    for folder in proc.glob("[0-9]*"):
        text = _text(folder / "stat")
        fields = text.rpartition(")")[2].split() if text else []  # a name may hold anything
        if len(fields) > 12:
            found[int(folder.name)] = (int(fields[11]) + int(fields[12])) / _ticks()
    return found


def name_of(pid: int, proc: Path = PROC) -> str:
    """A process for people: ``python (812)``."""
    name = (_text(proc / str(pid) / "comm") or "").strip()
    return f"{name} ({pid})" if name else f"process {pid}"


def parent_of(pid: int, proc: Path = PROC) -> int | None:
    """Number of the process that started it; None where unknown."""
    fields = (_text(proc / str(pid) / "stat") or "").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else None


def setting(sys: Path = SYS) -> dict[str, Any]:
    """Load and governor, as they are now, JSON-ready."""
    try:
        load = [round(each, 2) for each in os.getloadavg()]
    except (OSError, AttributeError):  # AttributeError: Windows has none
        load = None
    core = next(iter(_cores() or ()), 0)
    governor = _text(sys / f"devices/system/cpu/cpu{core}/cpufreq/scaling_governor")
    return {"load": load, "governor": governor.strip() if governor else None}


def _cores() -> frozenset[int] | None:
    """Numbers of the cores that this process may use."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")


def _times(proc: Path, cores: frozenset[int] | None) -> tuple[float | None, float | None]:
    """Time that the cores worked and that was stolen from them, in seconds (proc(5), ``/proc/stat``)."""
    text = _text(proc / "stat")
    if text is None or cores is None:
        return None, None
    busy = steal = 0
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _wait, irq, soft, stolen, *_ = (*map(int, rest.split()), *[0] * 8)
            busy += user + nice + system + irq + soft
            steal += stolen
    return busy / _ticks(), steal / _ticks()


def _mhz(proc: Path, sys: Path, cores: frozenset[int] | None) -> float | None:
    """The highest frequency of the cores: the core that reads it is awake, most others may sleep."""
    every = sorted(cores or ())
    asked = every[:: -(-len(every) // _MOST_CORES) or 1]
    texts = [_text(sys / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in asked]
    found = [int(text) / 1e3 for text in texts if text and text.strip().isdigit()]
    if not found and len(every) <= _MOST_CORES:
        lines = (_text(proc / "cpuinfo") or "").splitlines()
        found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return max(found, default=None)


def _throttling(proc: Path, sys: Path) -> tuple[int | None, int | None]:
    """How often this process's control groups were stopped, and their periods (Linux: CFS bandwidth)."""
    times, periods = None, None
    for folder in _groups(proc, sys):
        values = dict(
            line.split()[:2] for line in (_text(folder / "cpu.stat") or "").splitlines() if " " in line
        )
        if int(values.get("nr_periods", 0)):  # without a limit there are none
            times = max(times or 0, int(values.get("nr_throttled", 0)))
            periods = max(periods or 0, int(values["nr_periods"]))
    return times, periods


def _groups(proc: Path, sys: Path) -> list[Path]:
    """Folders of the control groups that limit this process, its own first; in a container those it sees."""
    found = []
    for line in (_text(proc / "self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (controllers, "cpu") if controllers else (".", "unified"):
            place = Path(path.lstrip("/"))
            found += [sys / "fs/cgroup" / mount / each for each in (place, *place.parents)]
    return list(dict.fromkeys(found))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
