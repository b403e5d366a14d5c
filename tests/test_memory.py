"""Memory of an evaluation does not grow with the number of images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "memory.py"
FEW, MANY = 2_000, 40_000
"""38,000 images more are 117 MB of data, as which they would show."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads peaks from /proc")


@pytest.fixture(scope="module")
def peaks(tmp_path_factory) -> dict[tuple[str, int], float]:
    """MB that each process held at most, by state of the cache and number of images."""
    file = tmp_path_factory.mktemp("memory") / "found.json"
    command = [sys.executable, str(BENCHMARK), "--scores=10", f"--images={FEW},{MANY}", f"--json={file}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert file.is_file(), run.stderr
    return {(held["cache"], held["images"]): held["peak_mb"] for held in json.loads(file.read_text())}


@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_many_images_take_at_most_50_mb_more_than_few(peaks, cache):
    assert peaks[cache, MANY] - peaks[cache, FEW] <= 50
