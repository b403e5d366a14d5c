"""What NVML tells of a real GPU: run with ``pytest tests/gpu/gpu_*.py``."""

from __future__ import annotations

import os
import subprocess

import pytest

from trtcheck.backends.cuda import Device
from trtcheck.gpu import find_gpu
from trtcheck.latency.environment import gpu_facts
from trtcheck.latency.health import watch
from trtcheck.latency.nvml import NvmlGpu


def nvidia_smi(field: str) -> str:
    query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", f"--id={find_gpu().uuid}"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


def test_settings_are_those_that_nvidia_smi_tells() -> None:
    facts = gpu_facts(find_gpu().uuid)
    assert facts is not None
    assert facts.name == find_gpu().name == nvidia_smi("name")
    assert facts.power_limit_w == pytest.approx(float(nvidia_smi("enforced.power.limit")))
    assert facts.default_power_limit_w == pytest.approx(float(nvidia_smi("power.default_limit")))
    assert facts.max_sm_mhz == int(nvidia_smi("clocks.max.sm"))


def test_a_process_sees_itself_on_the_gpu() -> None:
    with Device(), NvmlGpu(find_gpu().uuid) as gpu:
        assert os.getpid() in (gpu.processes() or ())


def test_a_watch_leaves_nothing_of_the_gpu_unknown() -> None:
    with Device(), watch(find_gpu().uuid, threads=1) as watching:
        for _ in range(3):
            watching.sample()
        found = watching.end()
        assert (watching.energy_joules() or 0) > 0
    # Clocks count only under load, and here is none.
    assert {text for text in found.unknown if "GPU" in text} <= {
        "the GPU's SM clock under load", "the GPU's memory clock under load",
    }  # fmt: skip
    assert found.figures["gpu"]["readings"] == 4
