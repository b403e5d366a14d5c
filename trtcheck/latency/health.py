"""Watches the machine while engines are timed; it reads and judges, and changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, final

from trtcheck.backends.base import Closing
from trtcheck.environment import usable_cores
from trtcheck.errors import BackendError
from trtcheck.latency import gpu_health, processor, processor_health
from trtcheck.latency.gpu_health import Company
from trtcheck.latency.measurement import Health
from trtcheck.latency.nvml import GpuReading, NvmlGpu


def watch(gpu_uuid: str | None, *, threads: int) -> Watch:
    """What watches the machine, for a ``with`` block around a measurement.

    Args:
        gpu_uuid: The GPU that computes, as `trtcheck.gpu` tells it; None where the processor does.
        threads: Threads that compute where the processor does, 0 for as many as there are cores. Where a GPU
            computes, one thread hands it its work.
    """
    return Watch(gpu_uuid, threads=threads)


@final
class Watch(Closing):
    """Reads the state before when it is made, between rounds in `sample`, and afterwards in `end`.

    Args:
        gpu_uuid: The GPU; None where the processor computes.
        threads: Threads that compute.
    """

    def __init__(self, gpu_uuid: str | None, *, threads: int) -> None:
        self._gpu = None if gpu_uuid is None else _Gpu(gpu_uuid)
        self._threads = threads or usable_cores() if self._gpu is None else 1
        self._setting = processor.setting()
        self._working = processor.process_times()
        self._readings = [processor.read()]
        self._samples = 0

    def sample(self) -> None:
        """Reads the state between two rounds; the first time ends the warm-up, which is not judged."""
        if self._gpu is not None:  # first: its clocks fall as soon as it has nothing to do
            self._gpu.sample()
        if self._samples == 0:
            self._working = processor.process_times()
            self._readings.clear()
        self._samples += 1
        self._readings.append(processor.read())

    def end(self) -> Health:
        """Reads the state afterwards, and judges."""
        parts = [] if self._gpu is None else [_joined(self._gpu.end(), "gpu")]
        self._readings.append(processor.read())
        worked = processor.busiest(self._working, processor.process_times())
        found = processor_health.judge(
            self._readings, threads=self._threads, cores=usable_cores(), governor=self._setting["governor"],
            others=[(processor.name_of(pid), seconds) for pid, seconds in worked],
        )  # fmt: skip
        before = Health(figures={"before": self._setting})
        return _joined([*parts, _joined([before, *found], "processor")])

    def energy_joules(self) -> float | None:
        """Energy of the GPU since its driver was loaded, in joules; None where it does not tell."""
        return None if self._gpu is None else self._gpu.energy_joules()

    def close(self) -> None:
        """Lets go of the GPU; a second time does nothing."""
        if self._gpu is not None:
            self._gpu.close()


@final
class _Gpu:
    """The GPU's part of a watch."""

    def __init__(self, uuid: str) -> None:
        self._missing: BackendError | None = None
        try:
            self._gpu = NvmlGpu(uuid)
        except BackendError as error:
            self._missing = error
            return
        self._facts = self._gpu.facts()
        self._before = self._gpu.reading()
        self._began = time.time()
        self._readings: list[GpuReading] = []

    def sample(self) -> None:
        if self._missing is not None:
            return
        self._readings.append(self._gpu.reading())
        if len(self._readings) == 1:
            self._began = time.time()

    def end(self) -> tuple[Health, ...]:
        if self._missing is not None:
            why = "; ".join(line.strip() for line in str(self._missing).splitlines())
            return (Health(unknown=(f"clocks, temperature, power and other processes of the GPU: {why}",)),)
        after = self._gpu.reading()
        figures = {"before": _record(self._before), "after": _record(after)}
        company = _company(self._gpu, self._began)
        judged = gpu_health.judge(self._facts, self._gpu.facts(), [*self._readings, after], company)
        return (Health(figures=figures), *judged)

    def energy_joules(self) -> float | None:
        return None if self._missing is not None else self._gpu.energy_joules()

    def close(self) -> None:
        if self._missing is None:
            self._gpu.close()


def _record(reading: GpuReading) -> dict[str, Any]:
    """What is known of a reading, JSON-ready."""
    found = {**asdict(reading), "limiters": None if reading.limiters is None else list(reading.limiters)}
    return {name: value for name, value in found.items() if value is not None}


def _company(gpu: NvmlGpu, since: float) -> Company:
    listed, shares = gpu.processes(), gpu.shares(since)
    present = {*(listed or ()), *(shares or {})}
    # Workers of pytest-xdist are children of the process that reads their results.
    heads = {os.getpid(), *([os.getppid()] if "PYTEST_XDIST_WORKER" in os.environ else [])}
    relatives = {pid for pid in present if heads & {pid, processor.parent_of(pid)}} - {os.getpid()}
    names = {pid: processor.name_of(pid) for pid in present}
    return Company(listed, shares, os.getpid(), relatives, names)


def _joined(parts: Sequence[Health], name: str | None = None) -> Health:
    """Everything that was found; the figures under *name* where one is given."""
    figures: dict[str, Any] = {}
    for part in parts:
        figures.update(part.figures)
    return Health(
        tuple(text for part in parts for text in part.reasons),
        tuple(dict.fromkeys(text for part in parts for text in part.hints)),
        figures if name is None else {name: figures},
        tuple(text for part in parts for text in part.unknown),
    )
