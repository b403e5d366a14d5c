"""The pages of a report with many models and classes stay light; benchmarks/report.py makes the full one."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trtcheck.report import pictures
from trtcheck.report.view.room import SMALL

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "report.py"
MODELS = SMALL // 3 + 1
"""The fewest models of 3 engines of which pages are made light."""
TIMES = 50 / MODELS
"""How many times as many models the report has that the bounds are for: 50 of 3 engines, 1000 classes."""
BYTES, FILES, INDEX = 30e6, 2000, 1e6


@dataclass(frozen=True)
class Report:
    """A report of few models: where it is and the figures that the benchmark tells."""

    folder: Path
    figures: dict[str, float]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("size") / "report"
    command = [sys.executable, str(BENCHMARK), "--quick", f"--models={MODELS}", f"--folder={folder}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    rows = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("| ")]
    return Report(folder, {name: float(value) for name, value in rows[1:]})


def test_a_report_of_fifty_models_stays_below_thirty_megabytes(small: Report) -> None:
    found = small.figures
    # Of thumbnails there are only so many in any report.
    thumbnails = found["bytes of thumbnails"] / found["thumbnails"] * pictures.MOST_THUMBNAILS
    others = found["bytes"] - found["bytes of thumbnails"]
    assert TIMES * others + min(thumbnails, pictures.MOST_BYTES) < BYTES


def test_a_report_of_fifty_models_has_fewer_than_two_thousand_files(small: Report) -> None:
    others = small.figures["files"] - small.figures["thumbnails"]
    assert TIMES * others + pictures.MOST_THUMBNAILS < FILES


def test_the_index_of_fifty_models_stays_below_a_megabyte(small: Report) -> None:
    text = (small.folder / "index.html").read_text(encoding="utf-8")
    # Where models are many, the index draws fewer pictures of each.
    rows = re.sub(r"<figure.*?</figure>", "", text, flags=re.DOTALL)
    drawn = len(text.encode()) - len(rows.encode())
    assert TIMES * len(rows.encode()) + 2 * drawn < INDEX
