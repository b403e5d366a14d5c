"""A browser and reports to look at, each made once a session."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import browser_reports
import pytest
from chromium import Chromium, installed
from serving import served

from trtcheck.report import html

HERE = Path(__file__).parent
AXE = Path("node_modules", "axe-core", "axe.min.js")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = installed()
    if program is None:
        pytest.skip("chromium is not installed")
    with Chromium(program, tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core: that of ``npm ci`` in this folder, else installed for this session alone."""
    path = HERE / AXE
    if not path.exists():
        folder = tmp_path_factory.mktemp("axe")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            pytest.skip("axe-core is not installed")
        path = folder / AXE
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that a run wrote: three engines of a tiny model, one of which lost a class."""
    root = tmp_path_factory.mktemp("real")
    return browser_reports.real(root)


@pytest.fixture(scope="session")
def real_address(real: Path) -> Iterator[str]:
    with served(real) as address:
        yield address


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that a run wrote, with hostile names of models, classes, engines and folders."""
    return browser_reports.hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def hostile_address(hostile: Path) -> Iterator[str]:
    with served(hostile) as address:
        yield address


@pytest.fixture(scope="session")
def whole_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a report that holds everything at once."""
    folder = tmp_path_factory.mktemp("whole")
    with served(written(folder, *browser_reports.everything())) as address:
        yield address


def written(folder: Path, document: Mapping[str, Any], drawn: Mapping[str, bytes] | None = None) -> Path:
    """The *folder* with the pages of *document*, the pictures *drawn* and itself."""
    html.write(document, folder, drawn)
    (folder / "report.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def example_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the documentation's example, whose times are of a GPU, rendered anew."""
    folder = tmp_path_factory.mktemp("example")
    text = (HERE.parents[1] / "docs" / "example-report" / "report.json").read_text(encoding="utf-8")
    with served(written(folder, json.loads(text))) as address:
        yield address
