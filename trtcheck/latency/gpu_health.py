"""What speaks against times that were taken on a GPU, judged from what was read between the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from trtcheck.latency.measurement import Health
from trtcheck.latency.nvml import GpuFacts, GpuReading

CLOCK_SHARE = 0.03
"""The change of a clock that is none: GPUs step by 15 MHz (of 1980) and lose some steps as they warm up."""

EXCUSED = 0.1
"""The share of readings that may be out of line: one round of twelve moves neither a median nor a
Hodges-Lehmann estimate."""

BUSY = 5
"""Percent of the time that another process may compute on the GPU: a desktop draws itself with a few."""

_CAP = "software power cap"
_FAULTS = (
    "hardware slowdown",
    "software thermal slowdown",
    "hardware thermal slowdown",
    "hardware power brake",
)
"""What must not hold the clocks down in any round; idleness and settings of the clocks may."""

_STEP_MHZ = 15


@dataclass(frozen=True)
class Company:
    """Who was on the GPU.

    Attributes:
        listed: Processes that held it in the end; None where unknown.
        shares: By process the percent of time that it computed; None where unknown.
        own: Number of this process.
        relatives: Those of other processes of this test run: its other workers, and what this one started.
        names: Processes for people, by number.
    """

    listed: Collection[int] | None
    shares: Mapping[int, int] | None
    own: int
    relatives: Collection[int]
    names: Mapping[int, str]


def judge(
    before: GpuFacts, after: GpuFacts, readings: Sequence[GpuReading], company: Company
) -> tuple[Health, ...]:
    """What speaks against times that were taken meanwhile, a part for everything that was looked at.

    Args:
        before: How it was set before.
        after: How it was set afterwards.
        readings: Its state between rounds and after the last one.
        company: Who else was there.
    """
    settings = {name: value for name, value in asdict(before).items() if value is not None}
    throttled = _limiters(readings, before)
    slowed = any(part.reasons for part in throttled)
    sm_clock = _clock("SM clock", "sm_mhz", readings, before)
    return (
        Health(figures={"settings": settings, "readings": len(readings)}),
        _limits(before, after),
        *throttled,
        # A clock that throttling moves is one and the same reason.
        *([part for part in sm_clock if not part.reasons] if slowed else sm_clock),
        *_clock("memory clock", "memory_mhz", readings, before),
        _spread("temperature", "temperature_c", readings),
        _spread("power", "power_w", readings),
        *_processes(company),
    )


def _limits(before: GpuFacts, after: GpuFacts) -> Health:
    then, now = before.power_limit_w, after.power_limit_w
    if then is None or now is None:
        return Health(unknown=("the GPU's power limit",))
    if then == now:
        return Health()
    return Health(
        (f"the GPU's power limit changed while engines were timed: from {then:.0f} to {now:.0f} W",),
        (f"keep it as it is: sudo nvidia-smi -pl {then:.0f}",),
    )


def _limiters(readings: Sequence[GpuReading], facts: GpuFacts) -> list[Health]:
    """Throttling; the power cap apart, since some GPUs touch it now and then under any load."""
    known = [each.limiters for each in readings if each.limiters is not None]
    if not known:
        return [Health(unknown=("what holds the GPU's clocks down",))]
    counts = {
        name: sum(name in each for each in known)
        for name in sorted({name for each in known for name in each})
    }
    parts = [Health(figures={"limiters": counts})]
    faults = [name for name in _FAULTS if name in counts]
    hottest = max((each.temperature_c for each in readings if each.temperature_c is not None), default=None)
    if faults:
        times = max(counts[name] for name in faults)
        heat = "" if hottest is None else f", at up to {hottest} °C"
        thermal = any("thermal" in name for name in faults)
        parts.append(
            Health(
                (f"the GPU throttled ({', '.join(faults)}) in {times} of {len(known)} readings{heat}",),
                ("cool the GPU" if thermal else "look for its reason: nvidia-smi -q -d PERFORMANCE,POWER",),
            )
        )
    if counts.get(_CAP, 0) > EXCUSED * len(known):
        parts.append(_capped(counts[_CAP], len(known), readings, facts))
    return parts


def _capped(times: int, of: int, readings: Sequence[GpuReading], facts: GpuFacts) -> Health:
    limit = facts.power_limit_w
    watts = "" if limit is None else f" of {limit:.0f} W"
    hints = []
    held = min((each.sm_mhz for each in readings if each.sm_mhz), default=None)
    if held is not None:
        clock = held // _STEP_MHZ * _STEP_MHZ
        hints.append(f"fix clocks that it holds within its power limit: sudo nvidia-smi -lgc {clock},{clock}")
    default = facts.default_power_limit_w
    if limit is not None and default is not None and limit < default:
        hints.append(f"sudo nvidia-smi -pl {default:.0f} (the default power limit)")
    return Health(
        (f"the GPU's power limit{watts} held its clocks down in {times} of {of} readings",), tuple(hints)
    )


def _clock(what: str, field: str, readings: Sequence[GpuReading], facts: GpuFacts) -> list[Health]:
    """Whether a clock changed; only what was read while the GPU had work counts, as it falls when idle."""
    at_work = [each for each in readings if "idle" not in (each.limiters or ())]
    spread = _spread(what, field, at_work)
    values = [getattr(each, field) for each in at_work if getattr(each, field) is not None]
    if not values:
        return [spread]
    # One of the readings: between the halves of a clock that changed half-way lies none that is near either.
    middle = statistics.median_low(values)
    off = [value for value in values if abs(value - middle) > CLOCK_SHARE * middle]
    if len(off) <= EXCUSED * len(values):
        return [spread]
    hints = []
    if field == "sm_mhz":
        lowest = min(values) // _STEP_MHZ * _STEP_MHZ
        hints.append(
            f"fix the clocks for the time of the measurement: sudo nvidia-smi -lgc {lowest},{lowest}"
        )
    if facts.persistence is False:
        hints.append("sudo nvidia-smi -pm 1 (persistence mode is off)")
    changed = Health(
        (
            f"the GPU's {what} changed while engines were timed: {len(off)} of {len(values)} readings are "
            f"more than {CLOCK_SHARE:.0%} off {middle:.0f} MHz ({min(values)} to {max(values)} MHz)",
        ),
        tuple(hints),
    )
    return [spread, changed]


def _spread(what: str, field: str, readings: Sequence[GpuReading]) -> Health:
    values = [getattr(each, field) for each in readings if getattr(each, field) is not None]
    if not values:
        return Health(unknown=(f"the GPU's {what} under load",))
    return Health(
        figures={field: {"min": min(values), "median": statistics.median(values), "max": max(values)}}
    )


def _processes(company: Company) -> list[Health]:
    """Whether anybody else computed; where nobody tells, whether any stranger was there at all."""
    listed, shares = company.listed, company.shares
    if shares is None and listed is None:
        return [Health(unknown=("other processes on the GPU",))]
    present = sorted({*(listed or ()), *(shares or {})})
    figures = {
        "processes": [
            {"process": company.names.get(pid, str(pid)), "own": pid == company.own,
             "percent": None if shares is None else shares.get(pid, 0)}
            for pid in present
        ]
    }  # fmt: skip
    visible = company.own in present
    if shares is None:
        return [Health(figures=figures), _strangers(present, visible, company)]
    active = {pid: share for pid, share in shares.items() if share >= BUSY and not _serves(pid, company)}
    others = sorted(active.keys() - {company.own})
    if not visible and others:
        # Numbers of another namespace: one of them is this process, which computed all the time.
        others.remove(max(others, key=lambda pid: active[pid]))
    return [Health(figures=figures), *(_computed(pid, active[pid], visible, company) for pid in others)]


def _serves(pid: int, company: Company) -> bool:
    """Whether it is the server through which processes share a GPU (MPS): what it computes is theirs."""
    return company.names.get(pid, "").startswith("nvidia-cuda-mps")


def _computed(pid: int, percent: int, visible: bool, company: Company) -> Health:
    share = f"{percent} % of the time"
    if not visible:
        return Health(
            (f"a second process, outside of this container, computed on the GPU meanwhile ({share})",),
            ("end other work on the GPU while engines are timed, or time on a GPU of your own",),
        )
    name = company.names.get(pid, f"process {pid}")
    if pid in company.relatives:
        return Health(
            (f"another process of this test run, {name}, computed on the GPU meanwhile ({share})",),
            ("time apart from the other checks: pytest -k latency -n 0",),
        )
    return Health((f"{name} computed on the GPU meanwhile ({share})",), (f"end process {pid}",))


def _strangers(present: Sequence[int], visible: bool, company: Company) -> Health:
    """Processes that hold the GPU, where it is not known whether they compute."""
    if not visible and present:
        return Health(
            unknown=("whose the processes on the GPU are: their numbers are those of another namespace",)
        )
    others = [pid for pid in present if pid != company.own and not _serves(pid, company)]
    strangers = [pid for pid in others if pid not in company.relatives]
    unknown: tuple[str, ...] = ()
    if len(others) > len(strangers):
        unknown = ("whether other processes of this test run computed on the GPU",)
    if not strangers:
        return Health(unknown=unknown)
    names = ", ".join(company.names.get(pid, f"process {pid}") for pid in strangers)
    return Health(
        (f"others hold the GPU, too ({names}), and whether they computed meanwhile is unknown",),
        tuple(f"end process {pid}" for pid in strangers),
        unknown=unknown,
    )
