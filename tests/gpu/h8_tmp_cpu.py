"""A suite with latency items on a real GPU: run with ``pytest tests/gpu/gpu_latency_suite.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import suite_models

MODEL = """
[models.{name}]
onnx = "model.onnx"
data = "eval.npz"
calibration = "eval.npz"
batch = 8
checks = ["build", "latency"]

[models.{name}.input]
scale = 0.00392156862745098

[models.{name}.latency]
batches = [1, 8]
cuda_graph = {graph}
transfers = {transfers}
"""
PLAIN, GRAPH, COPIED = "plain", "graph", "copied"
HOW = {PLAIN: (False, False), GRAPH: (True, False), COPIED: (False, True)}
"""By model, whether a CUDA graph is replayed, and whether transfers are timed."""


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite with one small network, timed in three ways."""
    suite_models.save(suite_models.classifier(), pytester.path / "model.onnx")
    np.savez(pytester.path / "eval.npz", **suite_models.arrays(32))
    text = "".join(
        MODEL.format(name=name, graph=str(graph).lower(), transfers=str(transfers).lower())
        for name, (graph, transfers) in HOW.items()
    )
    (pytester.path / "trtcheck.toml").write_text(text)
    return pytester


def latency_items(folder: pytest.Pytester, engines: str, *options: str) -> dict[str, dict[str, Any]]:
    """What the latency items of a run came to, by test id."""
    folder.runpytest_subprocess(
        "--trt-backend=onnxruntime-cpu", f"--trt-engine={engines}", "--trt-latency-budget=5",
        "--trt-cache=cache", *options,
    )  # fmt: skip
    report: Mapping[str, Any] = json.loads((folder.path / "reports" / "report.json").read_text())
    return {item["nodeid"]: item for item in report["items"] if item["check"] == "latency"}


def test_engines_are_timed_and_never_slower_than_themselves(folder: pytest.Pytester) -> None:
    first = latency_items(folder, "fp32", "--trt-update-baselines")
    assert len(first) == 3 * 1 * 2  # ways, engines, batch sizes
    for item in first.values():
        graph, transfers = HOW[item["model"]]
        assert item["timing"] == {
            "clock": "host", "transfers": False, "cuda_graph": False, "spin_wait": False,
        }  # fmt: skip
        assert item["latency"]["median_ms"] > 0
        assert item["throughput"] > 0
        assert item["contestants"]["reference"]["timing"] == item["timing"]
    again = latency_items(folder, "fp32")
    assert again.keys() == first.keys()
    for name, item in again.items():
        if not first[name]["health"]["reasons"]:  # what was not healthy was not approved
            assert item["judged"][0]["rule"] == "interleaved", name
        assert item["verdict"] in ("pass", "inconclusive"), (name, item["message"])
        if item["verdict"] == "inconclusive":
            assert item["health"]["reasons"] or any(row["reason"] for row in item["judged"]), name


def test_int8_that_is_computed_in_floating_point_is_not_timed(folder: pytest.Pytester) -> None:
    items = latency_items(folder, "int8", "-k", "plain")
    assert {item["verdict"] for item in items.values()} == {"skipped"}
    assert all("says nothing about INT8" in item["message"] for item in items.values())
