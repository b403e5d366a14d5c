"""Hostile names in a real Chromium: they are text, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asked
import browser_reports
import pytest
from chromium import DESKTOP, PHONE, Chromium
from serving import served
from test_report_html import HOSTILE, document, evaluated
from test_report_latency import timed

from trtcheck.names import visible
from trtcheck.report import html

NAMES = (*HOSTILE, *browser_reports.HOSTILE_MODELS)


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """A report of models, engines and classes of every hostile name: its address and its pages."""
    folder = tmp_path_factory.mktemp("renamed")
    engines = []
    for name in NAMES:
        record, items = evaluated(
            name, name, [*browser_reports.HOSTILE_CLASSES, name, "b"], 40, {name: ("b", 0.9)}
        )
        engines.append((record, [*items, timed(name, 1, 1.5, model=name)]))
    pages = [path.name for path in html.write(document(*engines), folder) if path.suffix == ".html"]
    with served(folder) as address:
        yield address, pages


def test_hostile_names_neither_inject_nor_break_the_layout(
    renamed: tuple[str, list[str]], browser: Chromium
) -> None:
    address, pages = renamed
    for name in pages:
        # Without the policy, so that it is our escaping that holds and not the policy.
        with browser.visit(f"{address}/{name}", policy=False) as page:
            page.ask(asked.UNFOLD)
            assert page.said == []
            assert set(page.answers) <= {f"{address}/{name}", f"{address}/style.css"}
            assert not {"script", "iframe", "style"} & set(page.ask(asked.TAGS))
            for width in (DESKTOP, PHONE):
                page.resize(width)
                assert page.ask(asked.TOO_WIDE) == [], (name, width)


def test_a_real_run_shows_hostile_names_as_they_are(hostile: Path, hostile_address: str, browser) -> None:
    pages = [path.name for path in sorted(hostile.glob("*.html"))]
    for name in pages:
        with browser.visit(f"{hostile_address}/{name}", policy=False) as page:
            assert page.said == []
            assert "script" not in page.ask(asked.TAGS)
            said = page.ask("document.body.textContent")
            if name != "index.html":
                assert all(visible(known) in said for known in browser_reports.HOSTILE_CLASSES)
            assert visible(browser_reports.HOSTILE_FOLDER) in said
