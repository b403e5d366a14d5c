"""What a time depends on, how it is filed, and what is said where two environments differ."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from trtcheck.backends.base import BackendInfo
from trtcheck.environment import usable_cores
from trtcheck.latency.environment import (
    GpuFacts,
    differences,
    digest,
    explain,
    file_part,
    gpu_facts,
    latency_environment,
)  # fmt: skip
from trtcheck.latency.timing import Clock, TimingMode

H100 = BackendInfo("tensorrt", "10.13.0.35", "NVIDIA H100 80GB HBM3", "", "580.159.04")
CPU = BackendInfo("onnxruntime-cpu", "1.31.1", "Some Processor", "")
BOARD = BackendInfo("recorded", "TensorRT 10.3", "Jetson Orin Nano", "a recording was given")
DEVICE = TimingMode(Clock.DEVICE, transfers=False, cuda_graph=True, spin_wait=True)
HOST = TimingMode(Clock.HOST, transfers=False, cuda_graph=False, spin_wait=False)
FULL = GpuFacts(name="NVIDIA H100 80GB HBM3", power_limit_w=700.0, default_power_limit_w=700.0)


def on_h100(gpu: GpuFacts | None = FULL, mode: TimingMode = DEVICE, **changed: Any) -> dict[str, Any]:
    return latency_environment(replace(H100, **changed), mode, gpu=gpu, threads=4)


def on_cpu(threads: int = 4, mode: TimingMode = HOST, **changed: Any) -> dict[str, Any]:
    return latency_environment(replace(CPU, **changed), mode, gpu=None, threads=threads)


def on_board(mode: TimingMode = DEVICE, **changed: Any) -> dict[str, Any]:
    return latency_environment(replace(BOARD, **changed), mode, gpu=None, threads=0)


def test_a_gpu_is_told_with_its_driver_power_limit_and_timing_mode() -> None:
    assert on_h100(replace(FULL, power_limit_w=699.99)) == {
        "backend": "tensorrt", "clock": "device", "cuda_graph": True, "device": "NVIDIA H100 80GB HBM3",
        "driver": "580", "power_limit_w": 700, "runtime": "10.13.0.35", "spin_wait": True, "transfers": False,
    }  # fmt: skip


def test_a_processor_is_told_with_its_threads() -> None:
    assert on_cpu() == {
        "backend": "onnxruntime-cpu", "clock": "host", "cuda_graph": False, "device": "Some Processor",
        "runtime": "1.31.1", "spin_wait": False, "threads": 4, "transfers": False,
    }  # fmt: skip
    assert on_cpu(threads=0)["threads"] == usable_cores()


def test_a_recording_is_told_as_far_as_its_sidecar_goes() -> None:
    unsaid = TimingMode(Clock.DEVICE, transfers=True)
    assert on_board(unsaid) == {
        "backend": "recorded", "clock": "device", "device": "Jetson Orin Nano", "runtime": "TensorRT 10.3",
        "transfers": True,
    }  # fmt: skip


ALL = [
    on_h100(),
    on_h100(device="NVIDIA A100-SXM4-80GB"),
    on_h100(driver="570.86.10"),
    on_h100(version="10.14.1.48"),
    on_h100(name="tensorrt-rtx"),
    on_h100(replace(FULL, power_limit_w=350.0)),
    on_h100(replace(FULL, power_limit_w=None)),
    on_h100(replace(FULL, mig="1g.10gb")),
    on_h100(mode=replace(DEVICE, clock=Clock.HOST)),
    on_h100(mode=replace(DEVICE, transfers=True)),
    on_h100(mode=replace(DEVICE, cuda_graph=False)),
    on_h100(mode=replace(DEVICE, cuda_graph=None)),
    on_h100(mode=replace(DEVICE, spin_wait=False)),
    on_cpu(),
    on_cpu(threads=8),
    on_cpu(device="Another Processor"),
    on_board(),
    on_board(device="Jetson AGX Orin"),
]


def test_whatever_moves_times_makes_another_environment_and_another_file() -> None:
    assert len({digest(each) for each in ALL}) == len({file_part(each) for each in ALL}) == len(ALL)
    for then in ALL:
        for now in ALL:
            assert bool(differences(then, now)) == (then != now)


def test_what_does_not_move_times_makes_none() -> None:
    same = [
        on_h100(driver="580.95.05"),
        on_h100(reason="asked for by name"),
        on_h100(replace(FULL, power_limit_w=700.4, application_sm_mhz=1980)),
        json.loads(json.dumps(on_h100())),
        dict(reversed(on_h100().items())),
    ]
    assert {digest(each) for each in same} == {digest(on_h100())}
    assert [differences(on_h100(), each) for each in same] == [()] * len(same)


@pytest.mark.parametrize("each", ALL, ids=lambda each: digest(each))
def test_an_environment_is_sorted_json(each: dict[str, Any]) -> None:
    assert json.loads(json.dumps(each)) == each
    assert list(each) == sorted(each)


def test_the_files_part_names_backend_and_device() -> None:
    part = file_part(on_h100())
    assert re.fullmatch(r"tensorrt-nvidia-h100-80gb-hbm3-[0-9a-f]{16}", part)
    assert part.endswith(digest(on_h100()))
    odd = file_part(on_cpu(device="Größe/../Chip (R) @ 2.30GHz " + "x" * 300))
    assert re.fullmatch(r"[a-z0-9-]{1,80}", odd)


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (
            on_h100(replace(FULL, power_limit_w=350.0)),
            "power limit: approved with 700 W, here 350 W (to compare: sudo nvidia-smi -pl 700)",
        ),
        (
            on_h100(driver="570.86.10"),
            "driver: approved with 580, here 570 (to compare: install driver 580)",
        ),
        (
            on_h100(version="10.14.1.48"),
            "runtime: approved with 10.13.0.35, here 10.14.1.48 (to compare: install tensorrt 10.13.0.35)",
        ),
        (
            on_h100(mode=replace(DEVICE, cuda_graph=False)),
            "CUDA graph: approved with on, here off (to compare: cuda_graph = true in [models.NAME.latency])",
        ),
        (
            on_h100(mode=replace(DEVICE, transfers=True)),
            "transfers in the time: approved with off, here on (to compare: transfers = false in "
            "[models.NAME.latency])",
        ),
        (
            on_h100(replace(FULL, mig="1g.10gb")),
            "MIG profile: approved with none, here 1g.10gb",
        ),
    ],
)  # fmt: skip
def test_both_sides_are_told_and_what_would_make_them_comparable(now: dict[str, Any], text: str) -> None:
    assert explain(on_h100(), now) == text


def test_on_another_gpu_its_settings_are_told_and_not_advised() -> None:
    smaller = GpuFacts(power_limit_w=400.0)
    now = on_h100(smaller, device="NVIDIA A100-SXM4-80GB", driver="570.86.10")
    assert explain(on_h100(), now) == (
        "device: approved with NVIDIA H100 80GB HBM3, here NVIDIA A100-SXM4-80GB; "
        "power limit: approved with 700 W, here 400 W; driver: approved with 580, here 570 "
        "(to compare: run on a machine with NVIDIA H100 80GB HBM3; install driver 580)"
    )


def test_on_another_backend_the_way_back_is_that_backend() -> None:
    found = explain(on_h100(), on_cpu())
    assert found.endswith(
        "(to compare: pytest --trt-backend=tensorrt; spin_wait = true in [models.NAME.latency])"
    )
    assert "power limit" not in found  # a processor has none
    assert "threads" not in found


def test_times_of_a_recording_are_compared_by_recording_anew() -> None:
    then = on_board()
    now = on_board(replace(DEVICE, spin_wait=None), device="Jetson AGX Orin", version="TensorRT 10.7")
    assert explain(then, now) == (
        "device: approved with Jetson Orin Nano, here Jetson AGX Orin; "
        "runtime: approved with TensorRT 10.3, here TensorRT 10.7; spin-wait: approved with on, here unknown "
        "(to compare: record on Jetson Orin Nano; record with TensorRT 10.3; "
        "spin_wait = true in the recording's sidecar, if it was so)"
    )


def test_a_key_of_another_version_is_a_difference() -> None:
    [found] = differences({**on_cpu(), "numa": 2}, on_cpu())
    assert (found.what, found.then, found.now) == ("numa", "2", "unknown")


def test_without_nvml_a_gpus_settings_are_unknown_and_no_error() -> None:
    assert gpu_facts("GPU-ffffffff-ffff-ffff-ffff-ffffffffffff") is None
