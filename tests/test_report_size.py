"""The pages of a report with many models and classes stay light; benchmarks/report.py makes the full one."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trtcheck.report import pictures
from trtcheck.report.view.gallery import CARDS_OF_A_REPORT

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "report.py"
TIMES = 10
"""As many models as the small report has the one that the bounds are for: 50 of 3 engines, 1000 classes."""
BYTES, FILES, INDEX = 30e6, 2000, 1e6


@dataclass(frozen=True)
class Report:
    """A report of 5 models: where it is and the figures that the benchmark tells."""

    folder: Path
    figures: dict[str, float]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("size") / "report"
    command = [sys.executable, str(BENCHMARK), "--quick", f"--folder={folder}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    rows = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("| ")]
    return Report(folder, {name: float(value) for name, value in rows[1:]})


def test_a_report_of_fifty_models_stays_below_thirty_megabytes(small: Report) -> None:
    found = small.figures
    text = "".join(path.read_text(encoding="utf-8") for path in small.folder.glob("*.html"))
    cards = re.findall(r'<li class="shown.*?</li>', text, re.DOTALL)
    weight = sum(len(card.encode()) for card in cards)
    # Of changed answers and thumbnails there are only so many in any report.
    of_cards = weight / len(cards) * min(len(cards) * TIMES, CARDS_OF_A_REPORT)
    thumbnails = found["bytes of thumbnails"] / found["thumbnails"] * pictures.MOST_THUMBNAILS
    others = found["bytes"] - weight - found["bytes of thumbnails"]
    assert TIMES * others + of_cards + min(thumbnails, pictures.MOST_BYTES) < BYTES


def test_a_report_of_fifty_models_has_fewer_than_two_thousand_files(small: Report) -> None:
    others = small.figures["files"] - small.figures["thumbnails"]
    assert TIMES * others + pictures.MOST_THUMBNAILS < FILES


def test_the_index_of_fifty_models_stays_below_a_megabyte(small: Report) -> None:
    text = (small.folder / "index.html").read_text(encoding="utf-8")
    # Where models are many, the index draws fewer pictures of each.
    rows = re.sub(r"<figure.*?</figure>", "", text, flags=re.DOTALL)
    drawn = len(text.encode()) - len(rows.encode())
    assert TIMES * len(rows.encode()) + 2 * drawn < INDEX
