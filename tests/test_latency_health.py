# ruff: noqa: N802
"""The state of the machine: read really on this one, judged on fabricated readings, and of a fake NVML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trtcheck.environment import usable_cores
from trtcheck.errors import BackendError
from trtcheck.latency import gpu_health, processor, processor_health
from trtcheck.latency.environment import gpu_facts
from trtcheck.latency.gpu_health import Company
from trtcheck.latency.health import watch
from trtcheck.latency.measurement import Health
from trtcheck.latency.nvml import GpuFacts, GpuReading, NvmlGpu
from trtcheck.latency.processor import ProcessorReading

UUID = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
linux = pytest.mark.skipif(sys.platform != "linux", reason="read from files of Linux")


def texts(parts: Sequence[Health], name: str) -> list[str]:
    return [text for part in parts for text in getattr(part, name)]


def figures(parts: Sequence[Health]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.figures.items()}


# For real: this machine.


def test_a_watch_on_the_processor_tells_what_it_read_and_fits_into_json() -> None:
    with watch(None, threads=2) as watching:
        for _ in range(3):
            watching.sample()
        found = watching.end()
        assert watching.energy_joules() is None
    told = found.figures["processor"]
    assert (told["threads"], told["cores"]) == (2, usable_cores())
    assert json.loads(json.dumps(found.figures)) == found.figures


def test_threads_left_open_are_all_cores() -> None:
    with watch(None, threads=0) as watching:
        assert watching.end().figures["processor"]["threads"] == usable_cores()


@linux
def test_work_of_this_process_and_of_others_is_told_apart() -> None:
    burn = "import time\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", burn]) as other:
        try:
            with watch(None, threads=usable_cores()) as watching:
                watching.sample()
                until = time.monotonic() + 1.0
                while time.monotonic() < until:
                    pass
                found = watching.end()
        finally:
            other.kill()
    told = found.figures["processor"]
    assert told["own_cores"] > 0
    assert told["others_cores"] > 0
    if usable_cores() <= 16:  # with more, other tests may have pushed it from the list
        names = {each["process"] for each in told["others"]}
        assert f"({os.getpid()})" not in " ".join(names)


def test_without_a_driver_a_gpu_is_unknown_and_nothing_is_raised() -> None:
    with watch("GPU-ffffffff-ffff-ffff-ffff-ffffffffffff", threads=4) as watching:
        watching.sample()
        found = watching.end()
        assert watching.energy_joules() is None
    [text] = [text for text in found.unknown if "GPU" in text]
    assert text.startswith("clocks, temperature, power and other processes of the GPU: NVML ")
    assert found.figures["processor"]["threads"] == 1  # one thread hands the GPU its work


def test_without_nvidia_ml_py_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with watch(UUID, threads=4) as watching:
        [text] = [text for text in watching.end().unknown if "GPU" in text]
    assert "nvidia-ml-py is not installed" in text
    assert "pip install nvidia-ml-py" in text


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, trtcheck.latency.health; print(sorted({'numpy', 'pynvml', 'onnx'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# The processor, on fabricated readings.


def series(count: int = 13, seconds: float = 5.0, **at_end: float) -> list[ProcessorReading]:
    """Readings in even steps from nothing to what is given; 4 cores at 3 GHz, and nobody else."""
    whole = {"busy_s": 4 * seconds, "steal_s": 0.0, "own_s": 4 * seconds, **at_end}
    steps = [step / (count - 1) for step in range(count)]
    return [
        ProcessorReading(at=100 + step * seconds, mhz=3000.0, **{k: v * step for k, v in whole.items()})
        for step in steps
    ]


def judged(readings: Sequence[ProcessorReading], threads: int = 4, **more: Any) -> tuple[Health, ...]:
    return processor_health.judge(readings, threads=threads, cores=4, **more)


def test_a_quiet_machine_has_nothing_against_it() -> None:
    found = judged(series())
    assert texts(found, "reasons") == texts(found, "hints") == texts(found, "unknown") == []
    assert figures(found)["others_cores"] == 0


def test_a_runners_own_agent_is_no_reason() -> None:
    found = judged(series(busy_s=20 + 5 * 0.2))  # a fifth of a core
    assert texts(found, "reasons") == []
    assert figures(found)["others_cores"] == 0.2


def test_work_of_others_on_cores_that_the_engine_needs_is_one_and_says_whose() -> None:
    readings = series(own_s=12.5, busy_s=20)  # 2.5 cores of its own, 1.5 of others
    found = judged(readings, others=[("make (812)", 6.0), ("sshd (7)", 0.1)])
    [reason] = texts(found, "reasons")
    assert reason == "other processes kept 1.5 of 4 cores busy, and the engine needs 4 (most: make (812) 1.2)"
    assert "pytest -k latency -n 0" in texts(found, "hints")[0]


def test_work_of_others_on_cores_that_are_left_is_none() -> None:
    readings = series(own_s=10, busy_s=20)  # 2 cores each, as two workers of pytest-xdist
    assert texts(judged(readings, threads=2), "reasons") == []
    assert texts(judged(readings, threads=4), "reasons") != []


def test_more_threads_than_cores_are_not_the_others_fault() -> None:
    assert texts(judged(series(), threads=64), "reasons") == []


@pytest.mark.parametrize(("share", "bad"), [(0.01, False), (0.05, True)])
def test_steal_time(share: float, bad: bool) -> None:
    found = judged(series(steal_s=5 * 4 * share))
    assert bool(texts(found, "reasons")) is bad
    assert figures(found)["steal"] == share
    if bad:
        assert texts(found, "reasons") == [
            "the hypervisor gave 5.0% of the processor's time to other machines (limit 2%)"
        ]


def limited(periods: int, throttled: int) -> list[ProcessorReading]:
    first, *rest = series()
    return [replace(first, periods=7, throttled=3),
            *(replace(each, periods=7 + periods, throttled=3 + throttled) for each in rest)]  # fmt: skip


def test_a_container_that_is_stopped_again_and_again() -> None:
    found = judged(limited(50, 31))
    assert texts(found, "reasons") == [
        "the container's CPU limit stopped this process in 31 of 50 scheduling periods"
    ]
    assert "--cpus" in texts(found, "hints")[0]
    assert texts(judged(limited(50, 2)), "reasons") == []
    assert texts(judged(limited(0, 0)), "reasons") == []


def at(*mhz: float) -> list[ProcessorReading]:
    return [replace(each, mhz=value) for each, value in zip(series(len(mhz)), mhz, strict=True)]


def test_a_processor_that_slows_down_is_told_and_one_whose_boost_jitters_is_not() -> None:
    found = judged(at(4500, 4480, 4500, 3600, 3610, 3600), governor="powersave")
    assert texts(found, "reasons") == [
        "the processor's frequency changed while engines were timed: from 4500 to 3600 MHz"
    ]
    assert texts(found, "hints")[1].startswith("sudo cpupower frequency-set -g performance")
    assert texts(judged(at(4500, 3900, 4400, 3950, 4450, 3900, 4500, 4000)), "reasons") == []
    assert texts(judged(at(4500, 3000)), "reasons") == []  # two readings are no trend


def test_a_system_that_tells_nothing_is_unknown_and_not_bad() -> None:
    found = judged([ProcessorReading(at=0.0), ProcessorReading(at=5.0)])
    assert texts(found, "reasons") == []
    assert texts(found, "unknown") == [
        "the processor's frequency", "work of other processes and steal time: read on Linux only",
    ]  # fmt: skip


def test_a_moment_is_too_short_to_be_judged() -> None:
    found = judged(series(seconds=0.1, busy_s=10.0))
    assert texts(found, "reasons") == []
    assert texts(found, "unknown") == ["work of other processes: 0.10 s are too short to tell"]


def test_what_happened_before_the_first_round_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others kept all cores busy while engines were loaded and warmed up, and none in the rounds."""
    busy = [0.0, 4e3, 4e3, 4e3]
    readings = [
        ProcessorReading(at=at, busy_s=work, steal_s=0.0)
        for at, work in zip([0.0, 100.0, 101.0, 102.0], busy, strict=True)
    ]
    monkeypatch.setattr(processor, "read", iter(readings).__next__)
    with watch(None, threads=usable_cores()) as watching:
        watching.sample()
        watching.sample()
        found = watching.end()
    assert found.reasons == ()
    assert found.figures["processor"]["seconds"] == 2


# The processor's files, fabricated as Linux writes them.


@dataclass(frozen=True)
class Files:
    proc: Path
    sys: Path

    def write(self, path: str, text: str) -> None:
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2}, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda _: 100, raising=False)
    return Files(tmp_path / "proc", tmp_path / "sys")


def test_only_cores_that_this_process_may_use_are_counted(files: Files) -> None:
    files.write(
        "proc/stat",
        "cpu  9 9 9 9 9 9 9 9 9 9\n"
        "cpu0 900 900 900 900 900 900 900 900 900 900\n"
        "cpu1 100 20 30 5000 40 5 6 70 50 0\n"  # guest time is part of user time
        "cpu2 200 0 0 5000 0 0 0 30 0 0\n"
        "intr 1 2 3\n",
    )
    found = processor.read(files.proc, files.sys)
    assert found.busy_s == pytest.approx(3.61)
    assert found.steal_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("groups", "stat"),
    [
        ("0::/\n", "sys/fs/cgroup/cpu.stat"),
        ("0::/ci/job\n", "sys/fs/cgroup/ci/job/cpu.stat"),
        ("0::/ci/job\n", "sys/fs/cgroup/ci/cpu.stat"),
        ("0::/docker/abc\n", "sys/fs/cgroup/cpu.stat"),
        ("12:cpu,cpuacct:/docker/abc\n3:memory:/x\n", "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.stat"),
        ("12:cpu,cpuacct:/docker/abc\n", "sys/fs/cgroup/cpu/cpu.stat"),
    ],
    ids=["v2 in a container", "v2", "v2 above", "v2 of a host", "v1", "v1 in a container"],
)
def test_the_limit_of_a_container_is_found(files: Files, groups: str, stat: str) -> None:
    files.write("proc/self/cgroup", groups)
    files.write(stat, "usage_usec 5\nnr_periods 40\nnr_throttled 12\nthrottled_usec 900\n")
    found = processor.read(files.proc, files.sys)
    assert (found.throttled, found.periods) == (12, 40)


def test_without_a_limit_there_is_none(files: Files) -> None:
    files.write("proc/self/cgroup", "0::/\n")
    files.write("sys/fs/cgroup/cpu.stat", "usage_usec 5\nnr_periods 0\nnr_throttled 0\n")
    found = processor.read(files.proc, files.sys)
    assert (found.throttled, found.periods) == (None, None)


def test_frequencies_are_read_where_there_are_any(files: Files) -> None:
    assert processor.read(files.proc, files.sys).mhz is None
    files.write("proc/cpuinfo", "processor : 0\ncpu MHz\t\t: 2300.5\nprocessor : 1\ncpu MHz\t\t: 2200.0\n")
    assert processor.read(files.proc, files.sys).mhz == 2300.5
    for core, khz in ((0, 9_000_000), (1, 3_100_000), (2, 800_000)):
        files.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")
    assert processor.read(files.proc, files.sys).mhz == 3100


def test_a_name_may_hold_anything(files: Files) -> None:
    after_name = "S 41 1 1 0 -1 4194560 1 1 1 1 150 50 0 0 20 0 1 0 1 1 1"
    files.write("proc/42/stat", f"42 (a) b ( 9) {after_name}")
    files.write("proc/42/comm", "a) b ( 9\n")
    files.write("proc/43/stat", "")
    assert processor.process_times(files.proc) == {42: 2.0}
    assert processor.parent_of(42, files.proc) == 41
    assert processor.parent_of(43, files.proc) is None
    assert processor.name_of(42, files.proc) == "a) b ( 9 (42)"
    assert processor.name_of(44, files.proc) == "process 44"


def test_the_busiest_others_are_named_and_not_this_process() -> None:
    after = {os.getpid(): 99.0, 1: 5.0, 2: 4.0, 3: 3.0, 4: 2.0, 5: 0.0}
    assert processor.busiest({1: 4.5, 4: 1.9}, after) == ((2, 4.0), (3, 3.0), (1, 0.5))
    assert processor.busiest({}, {5: 0.0}) == ()


# The GPU, on fabricated readings. Those of an H100 are as one told them.

FACTS = GpuFacts(
    name="NVIDIA H100 80GB HBM3", power_limit_w=700.0, default_power_limit_w=700.0, max_sm_mhz=1980,
    application_sm_mhz=1980, persistence=True,
)  # fmt: skip
READING = GpuReading(
    sm_mhz=1980, memory_mhz=2619, limiters=(), temperature_c=39, power_w=158.0, pstate=0
)  # fmt: skip
ALONE = Company(listed=(10,), shares={10: 35}, own=10, relatives=(), names={10: "python (10)"})


def gpu(
    *readings: GpuReading, company: Company = ALONE, facts: GpuFacts = FACTS, after: GpuFacts | None = None
) -> tuple[Health, ...]:
    return gpu_health.judge(facts, after or facts, readings or (READING,) * 13, company)


def clocks(*mhz: int, **more: Any) -> list[GpuReading]:
    return [replace(READING, sm_mhz=value, **more) for value in mhz]


def test_an_h100_under_a_light_load_has_nothing_against_it() -> None:
    found = gpu()
    assert texts(found, "reasons") == texts(found, "hints") == texts(found, "unknown") == []
    told = figures(found)
    assert told["sm_mhz"] == {"min": 1980, "median": 1980, "max": 1980}
    assert told["processes"] == [{"process": "python (10)", "own": True, "percent": 35}]


def test_an_h100_at_its_power_limit_is_told_once_with_clocks_that_it_holds() -> None:
    wandering = (1440, 1395, 1230, 1455, 1320, 1410, 1260, 1380, 1395, 1290, 1350, 1440, 1320)
    found = gpu(*clocks(*wandering, limiters=("software power cap",), power_w=697.0))
    assert texts(found, "reasons") == [
        "the GPU's power limit of 700 W held its clocks down in 13 of 13 readings"
    ]
    assert texts(found, "hints") == [
        "fix clocks that it holds within its power limit: sudo nvidia-smi -lgc 1230,1230"
    ]
    assert figures(found)["limiters"] == {"software power cap": 13}


def test_a_lowered_power_limit_is_named() -> None:
    capped = [replace(READING, limiters=("software power cap",))] * 13
    found = gpu(*capped, facts=replace(FACTS, power_limit_w=350.0))
    assert texts(found, "hints")[1] == "sudo nvidia-smi -pl 700 (the default power limit)"


@pytest.mark.parametrize(("times", "bad"), [(1, False), (2, True)])
def test_a_touch_of_the_power_limit_is_excused(times: int, bad: bool) -> None:
    capped = replace(READING, limiters=("software power cap",))
    found = gpu(*[capped] * times, *[READING] * (13 - times))
    assert bool(texts(found, "reasons")) is bad


@pytest.mark.parametrize(
    ("limiter", "hint"),
    [
        ("hardware slowdown", "nvidia-smi -q -d PERFORMANCE,POWER"),
        ("hardware power brake", "nvidia-smi -q -d PERFORMANCE,POWER"),
        ("software thermal slowdown", "cool the GPU"),
        ("hardware thermal slowdown", "cool the GPU"),
    ],
)
def test_throttling_in_a_single_round_is_a_reason(limiter: str, hint: str) -> None:
    found = gpu(*[READING] * 12, replace(READING, limiters=(limiter,), temperature_c=88))
    assert texts(found, "reasons") == [f"the GPU throttled ({limiter}) in 1 of 13 readings, at up to 88 °C"]
    assert hint in texts(found, "hints")[0]


@pytest.mark.parametrize("limiter", ["application clocks setting", "sync boost", "display clock setting"])
def test_settings_of_the_clocks_are_none(limiter: str) -> None:
    found = gpu(*[replace(READING, sm_mhz=1200, limiters=(limiter,))] * 13)
    assert texts(found, "reasons") == []


def test_clocks_that_step_down_as_a_gpu_warms_are_no_change_and_those_that_fall_are() -> None:
    warming = (1950, 1950, 1935, 1935, 1935, 1920, 1920, 1920, 1920, 1905, 1905, 1905, 1905)
    assert texts(gpu(*clocks(*warming)), "reasons") == []
    assert texts(gpu(*clocks(*[1980] * 12, 1410)), "reasons") == []  # one of thirteen
    found = gpu(*clocks(*[1980] * 9, 1700, 1700, 1410, 1410), facts=replace(FACTS, persistence=False))
    assert texts(found, "reasons") == [
        "the GPU's SM clock changed while engines were timed: 4 of 13 readings are more than 3% off 1980 MHz "
        "(1410 to 1980 MHz)"
    ]
    assert texts(found, "hints") == [
        "fix the clocks for the time of the measurement: sudo nvidia-smi -lgc 1410,1410",
        "sudo nvidia-smi -pm 1 (persistence mode is off)",
    ]


def test_clocks_that_fell_since_nothing_was_to_be_done_do_not_count() -> None:
    asleep = replace(READING, sm_mhz=345, limiters=("idle",))
    found = gpu(*[READING] * 6, *[asleep] * 7)
    assert texts(found, "reasons") == []
    assert figures(found)["sm_mhz"]["min"] == 1980
    assert "the GPU's SM clock under load" in texts(gpu(*[asleep] * 13), "unknown")


def test_a_change_of_the_memory_clock_is_told() -> None:
    slow = replace(READING, memory_mhz=1593)
    [reason] = texts(gpu(*[READING] * 8, *[slow] * 5), "reasons")
    assert reason.startswith("the GPU's memory clock changed")


def test_a_change_of_the_power_limit_is_told() -> None:
    [reason] = texts(gpu(after=replace(FACTS, power_limit_w=500.0)), "reasons")
    assert reason == "the GPU's power limit changed while engines were timed: from 700 to 500 W"


def test_a_gpu_that_tells_nothing_is_unknown_and_not_bad() -> None:
    found = gpu(*[GpuReading()] * 13, facts=GpuFacts(), company=replace(ALONE, listed=None, shares=None))
    assert texts(found, "reasons") == []
    assert texts(found, "unknown") == [
        "the GPU's power limit", "what holds the GPU's clocks down", "the GPU's SM clock under load",
        "the GPU's memory clock under load", "the GPU's temperature under load", "the GPU's power under load",
        "other processes on the GPU",
    ]  # fmt: skip


# Who else is on the GPU.


def crowd(shares: dict[int, int] | None, listed: Sequence[int] | None = (10, 11), **more: Any) -> Company:
    names = {10: "python (10)", 11: "blender (11)", 12: "nvidia-cuda-mps-server (12)"}
    return Company(**{"listed": listed, "shares": shares, "own": 10, "relatives": (), "names": names, **more})


def test_a_stranger_that_computes_is_a_reason_and_one_that_merely_is_there_is_not() -> None:
    found = gpu(company=crowd({10: 53, 11: 46}))
    assert texts(found, "reasons") == ["blender (11) computed on the GPU meanwhile (46 % of the time)"]
    assert texts(found, "hints") == ["end process 11"]
    assert texts(gpu(company=crowd({10: 53})), "reasons") == []
    assert texts(gpu(company=crowd({10: 53, 11: 2})), "reasons") == []  # a desktop draws itself


def test_another_worker_is_told_as_one() -> None:
    found = gpu(company=crowd({10: 53, 11: 46}, relatives=(11,)))
    assert texts(found, "reasons") == [
        "another process of this test run, blender (11), computed on the GPU meanwhile (46 % of the time)"
    ]
    assert texts(found, "hints") == ["time apart from the other checks: pytest -k latency -n 0"]


def test_in_a_container_the_busiest_is_taken_for_this_process() -> None:
    assert texts(gpu(company=crowd({4711: 90}, listed=())), "reasons") == []
    assert texts(gpu(company=crowd({}, listed=())), "reasons") == []
    [reason] = texts(gpu(company=crowd({4711: 90, 4712: 30}, listed=())), "reasons")
    assert reason == (
        "a second process, outside of this container, computed on the GPU meanwhile (30 % of the time)"
    )


def test_where_nobody_tells_who_computes_a_stranger_is_a_reason() -> None:
    found = gpu(company=crowd(None))
    assert texts(found, "reasons") == [
        "others hold the GPU, too (blender (11)), and whether they computed meanwhile is unknown"
    ]
    assert texts(gpu(company=crowd(None, listed=(10,))), "reasons") == []


def test_where_nobody_tells_who_computes_a_worker_or_another_namespace_is_unknown() -> None:
    found = gpu(company=crowd(None, relatives=(11,)))
    assert texts(found, "reasons") == []
    assert texts(found, "unknown") == ["whether other processes of this test run computed on the GPU"]
    found = gpu(company=crowd(None, listed=(4711, 4712)))
    assert texts(found, "reasons") == []
    assert texts(found, "unknown") == [
        "whose the processes on the GPU are: their numbers are those of another namespace"
    ]


def test_the_server_that_shares_a_gpu_is_nobody() -> None:
    assert texts(gpu(company=crowd({10: 50, 12: 50}, listed=(10, 12))), "reasons") == []
    assert texts(gpu(company=crowd(None, listed=(10, 12))), "reasons") == []


# Of a fake NVML, since there is no driver here.


class FakeNvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"fake error {value}")
        self.value = value


class FakeNvml(ModuleType):
    """The functions of ``pynvml`` that trtcheck calls, for one GPU under load, or an instance of it.

    Attributes:
        uuid: Name of the only handle.
        fails: Functions that this GPU does not support.
        bits: What holds its clocks down.
        samples: What each process computed: number, percent, seconds since the epoch.
        inits: How often NVML is in use.
        mig: Name of the instance.
        joules: Its energy counter.
    """

    NVMLError = FakeNvmlError
    NVML_ERROR_NOT_FOUND, NVML_ERROR_NOT_SUPPORTED = 6, 3
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.uuid, self.bits, self.inits, self.mig, self.joules = UUID, 0, 0, "", 1000.0
        self.fails: set[str] = set()
        self.samples: list[tuple[int, int, float]] = [(os.getpid(), 60, time.time() + 1000)]

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDevice") and name in object.__getattribute__(self, "fails"):
            return self._refuse
        return super().__getattribute__(name)

    def _refuse(self, *_: Any) -> None:
        raise FakeNvmlError(self.NVML_ERROR_NOT_SUPPORTED)

    def nvmlInit(self) -> None:
        self.inits += 1

    def nvmlShutdown(self) -> None:
        self.inits -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != self.uuid:
            raise FakeNvmlError(self.NVML_ERROR_NOT_FOUND)
        return "instance" if self.mig else "gpu"

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        if handle != "instance":
            raise FakeNvmlError(2)
        return "gpu"

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        return [0, 0]

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # as old versions of the library give it
        return f"Fake GPU{' MIG ' + self.mig if handle == 'instance' else ''}".encode()

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return {"gpu": 350_000}[handle]

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: str) -> int:
        return {"gpu": 400_000}[handle]

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> int:
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetApplicationsClock(self, handle: str, kind: int) -> int:
        return {1: 1755, 2: 2619}[kind]

    def nvmlDeviceGetPersistenceMode(self, handle: str) -> int:
        return 1

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return {1: 1740, 2: 2619}[kind]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return self.bits

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self.bits

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 55

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 312_500

    def nvmlDeviceGetPerformanceState(self, handle: str) -> int:
        return 0

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid, *_ in self.samples]

    def nvmlDeviceGetProcessUtilization(self, handle: str, since: int) -> list[SimpleNamespace]:
        if not self.samples:
            raise FakeNvmlError(self.NVML_ERROR_NOT_FOUND)
        return [SimpleNamespace(pid=pid, smUtil=share, timeStamp=at * 1e6) for pid, share, at in self.samples]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return int(self.joules * 1000)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@contextmanager
def watched(nvml: FakeNvml, samples: int = 12) -> Iterator[Any]:
    with watch(UUID, threads=4) as watching:
        for _ in range(samples):
            watching.sample()
        yield watching
    assert nvml.inits == 0


def about_gpu(found: Sequence[str]) -> list[str]:
    """Those sentences that are not about this machine's processor."""
    return [text for text in found if "GPU" in text]


def test_a_fake_gpu_is_watched_from_before_to_after(nvml: FakeNvml) -> None:
    with watched(nvml) as watching:
        found = watching.end()
        assert watching.energy_joules() == 1000.0
        nvml.joules = 1250.5
        assert watching.energy_joules() == 1250.5
    assert about_gpu([*found.reasons, *found.unknown]) == []
    told = found.figures["gpu"]
    state = {
        "sm_mhz": 1740, "memory_mhz": 2619, "limiters": [], "temperature_c": 55, "power_w": 312.5,
        "pstate": 0,
    }  # fmt: skip
    assert told["before"] == told["after"] == state
    assert told["settings"] == {
        "name": "Fake GPU", "power_limit_w": 350.0, "default_power_limit_w": 400.0, "max_sm_mhz": 1980,
        "application_sm_mhz": 1755, "persistence": True,
    }  # fmt: skip
    assert told["readings"] == 13
    assert json.loads(json.dumps(found.figures)) == found.figures


def test_a_fake_gpu_that_throttles_and_is_shared_is_told(nvml: FakeNvml) -> None:
    nvml.bits = 0x8 | 0x40
    nvml.samples.append((2**22 + 1, 40, time.time() + 1000))
    with watched(nvml) as watching:
        found = watching.end()
    assert about_gpu(found.reasons) == [
        "the GPU throttled (hardware slowdown, hardware thermal slowdown) in 13 of 13 readings, "
        "at up to 55 °C",
        f"process {2**22 + 1} computed on the GPU meanwhile (40 % of the time)",
    ]
    assert found.hints[:2] == ("cool the GPU", f"end process {2**22 + 1}")


def test_what_another_process_computed_before_on_a_fake_gpu_does_not_count(nvml: FakeNvml) -> None:
    nvml.samples.append((2**22 + 1, 90, time.time() - 30))
    nvml.samples.append((2**22 + 1, 4_294_967, time.time() + 1000))  # drivers have told such
    with watched(nvml) as watching:
        assert about_gpu(watching.end().reasons) == []


def test_every_function_may_fail_on_a_fake_gpu(nvml: FakeNvml) -> None:
    functions = {name for name in dir(FakeNvml) if name.startswith("nvmlDevice")}
    nvml.fails = functions - {"nvmlDeviceGetHandleByUUID"}
    with watched(nvml) as watching:
        found = watching.end()
        assert watching.energy_joules() is None
    assert about_gpu(found.reasons) == []
    assert len(about_gpu(found.unknown)) == 7
    for function in sorted(functions):
        nvml.fails = {function}
        with watched(nvml) as watching:
            assert about_gpu(watching.end().reasons) == [], function


def test_an_older_driver_and_library_tell_what_throttles_a_fake_gpu(nvml: FakeNvml) -> None:
    nvml.fails, nvml.bits = {"nvmlDeviceGetCurrentClocksEventReasons"}, 0x80
    with watched(nvml) as watching:
        assert "hardware power brake" in about_gpu(watching.end().reasons)[0]


def test_a_fake_gpu_on_which_nobody_computed_says_so(nvml: FakeNvml) -> None:
    nvml.samples.clear()
    with NvmlGpu(UUID) as opened:
        assert opened.shares(time.time()) == {}
    nvml.fails = {"nvmlDeviceGetProcessUtilization"}
    with NvmlGpu(UUID) as opened:
        assert opened.shares(time.time()) is None


def test_settings_of_a_fake_gpu_and_its_instances(nvml: FakeNvml) -> None:
    whole = gpu_facts(UUID)
    assert whole is not None
    assert (whole.power_limit_w, whole.mig) == (350.0, None)
    nvml.uuid, nvml.mig = UUID.replace("GPU-", "MIG-"), "1g.5gb"  # as the driver and NVML call it
    instance = gpu_facts(UUID)
    assert instance is not None
    assert (instance.name, instance.power_limit_w, instance.mig) == ("Fake GPU", 350.0, "1g.5gb")
    with NvmlGpu(UUID) as opened:
        assert opened.energy_joules() is None  # it would be that of all instances
    assert nvml.inits == 0


def test_an_unknown_fake_gpu_is_told_and_nvml_let_go_of(nvml: FakeNvml) -> None:
    nvml.uuid = "GPU-other"
    with pytest.raises(BackendError, match=f"NVML knows no GPU {UUID}"):
        NvmlGpu(UUID)
    assert gpu_facts(UUID) is None
    assert nvml.inits == 0
