"""The demo as a newcomer runs it: the committed model, data and baselines, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


def run(folder: str, tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    command = [
        sys.executable, "-m", "pytest", f"examples/{folder}", f"--trt-cache={tmp_path / 'cache'}",
        f"--trt-report={tmp_path / 'reports'}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done, json.loads((tmp_path / "reports" / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict]:
    return run("fashion_mnist", tmp_path_factory.mktemp("demo"), "--trt-engine=fp32,fp16,int8")


@pytest.fixture(scope="module")
def ruined(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict]:
    return run("fashion_mnist_miscalibrated", tmp_path_factory.mktemp("ruined"), "--trt-engine=int8")


def test_the_demo_passes(demo: tuple[subprocess.CompletedProcess[str], dict]) -> None:
    done, report = demo
    assert done.returncode == 0, done.stdout
    answers = [item["verdict"] for item in report["items"] if item["check"] != "latency"]
    assert answers == ["pass"] * 19


def test_the_demo_times_fp32_and_says_why_it_times_nothing_else(
    demo: tuple[subprocess.CompletedProcess[str], dict],
) -> None:
    _, report = demo
    timed = {item["engine"]: item for item in report["items"] if item["check"] == "latency"}
    assert {engine: timed[engine]["verdict"] for engine in ("fp16", "int8")} == {
        "fp16": "skipped", "int8": "skipped",
    }  # fmt: skip
    assert "only fp32 is native" in timed["int8"]["message"]
    assert timed["fp32"]["latency"]["median_ms"] > 0
    # On a machine that is busy elsewhere it is inconclusive, and says so.
    assert timed["fp32"]["verdict"] == ("inconclusive" if timed["fp32"]["health"]["reasons"] else "pass")


def test_the_demo_compares_with_its_committed_baselines(
    demo: tuple[subprocess.CompletedProcess[str], dict],
) -> None:
    _, report = demo
    assert {engine["engine"]: engine["baseline"]["status"] for engine in report["engines"]} == {
        "fp32": "compared",
        "fp16": "compared",
        "int8": "compared",
    }


def test_the_demo_says_how_each_engine_computed(
    demo: tuple[subprocess.CompletedProcess[str], dict],
) -> None:
    done, report = demo
    numerics = {engine["engine"]: engine["numerics"] for engine in report["engines"]}
    assert numerics == {"fp32": "native", "fp16": "emulated", "int8": "emulated"}
    assert "fp32 native; fp16, int8 emulated" in done.stdout


def test_int8_of_the_demo_is_judged_per_class(demo: tuple[subprocess.CompletedProcess[str], dict]) -> None:
    _, report = demo
    (item,) = [i for i in report["items"] if (i["engine"], i["check"]) == ("int8", "recall")]
    assert [row["name"] for row in item["classes"]] == CLASSES
    assert {row["support"] for row in item["classes"]} == {1000}
    changed = sum(row["b"] + row["c"] for row in item["classes"])
    assert changed > 0, "an INT8 engine that answers exactly as FP32 is no INT8 engine"
    assert "could have been missed" in item["message"]


def test_the_miscalibrated_demo_fails_naming_the_ruined_classes(
    ruined: tuple[subprocess.CompletedProcess[str], dict],
) -> None:
    done, report = ruined
    assert done.returncode == 1
    (item,) = [i for i in report["items"] if i["check"] == "recall"]
    assert item["verdict"] == "fail"
    failed = [row["name"] for row in item["classes"] if row["verdict"] == "fail"]
    assert len(failed) >= 2
    for name in failed:
        assert f"recall of '{name}' fell from" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
