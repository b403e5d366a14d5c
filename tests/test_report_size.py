"""The pages of a report with many models and classes stay light; benchmarks/report.py makes the full one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "report.py"
MODELS, ALL = 5, 50
BYTES, FILES = 30e6, 2000


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    """Figures of a report of 5 models, 3 engines and 1000 classes, by what they are."""
    command = [sys.executable, str(BENCHMARK), "--quick"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    rows = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("| ")]
    return {name: float(value) for name, value in rows[1:]}


def test_the_report_of_fifty_models_stays_below_thirty_megabytes(found: dict[str, float]) -> None:
    from trtcheck.report import pictures

    times = ALL / MODELS
    html = found["bytes of html"] * times
    drawn = min(found["bytes of thumbnails"] * times, pictures.MOST_BYTES)
    others = (found["bytes of png"] - found["bytes of thumbnails"]) * times
    assert html + found["bytes of css"] + drawn + others < BYTES


def test_the_report_of_fifty_models_has_fewer_than_two_thousand_files(found: dict[str, float]) -> None:
    from trtcheck.report import pictures

    most = pictures.MOST_THUMBNAILS
    others = (found["files"] - found["thumbnails"]) * ALL / MODELS
    assert others + most < FILES


def test_the_index_of_fifty_models_stays_below_a_megabyte(found: dict[str, float]) -> None:
    assert found["bytes of index.html"] * ALL / MODELS < 1e6
    assert found["bytes of the largest page"] < 200_000
