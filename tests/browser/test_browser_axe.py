"""axe-core finds no serious fault of accessibility on any kind of page."""

from __future__ import annotations

import json
from pathlib import Path

import asked
import pytest
from chromium import DESKTOP, PHONE, Chromium, Visit
from serving import served

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
PAGES = ("index", "fashion--fp16", "fashion--int8", "birds--int8", "tiny--fp16", "imagenet--fp16")


def faults(page: Visit, axe: str) -> list[str]:
    """What axe-core finds that is serious or critical, with the first element of each."""
    page.ask(f"{axe};0")
    found = page.ask(
        f"axe.run(document, {{runOnly: {json.dumps(TAGS)}, resultTypes: ['violations']}}).then(all =>"
        "all.violations.map(each => [each.impact, each.id, each.nodes.length, each.nodes[0].html,"
        "each.nodes[0].failureSummary]))"
    )
    return [str(fault) for fault in found if fault[0] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "dark"), [(DESKTOP, False), (DESKTOP, True), (PHONE, False)])
@pytest.mark.parametrize("name", PAGES)
def test_no_serious_fault(
    name: str, width: int, dark: bool, browser: Chromium, axe: str, whole_address: str
) -> None:
    # The checker is a script: it needs the policy out of the way.
    with browser.visit(f"{whole_address}/{name}.html", width=width, dark=dark, policy=False) as page:
        if name != "imagenet--fp16":  # whose thousands of folded rows are like the others
            page.ask(asked.UNFOLD)
        assert faults(page, axe) == []


@pytest.mark.parametrize("name", ["index", "tiny--blind", "tiny--fp16"])
def test_no_serious_fault_in_what_a_run_wrote(
    name: str, browser: Chromium, axe: str, real_address: str
) -> None:
    with browser.visit(f"{real_address}/{name}.html", policy=False) as page:
        page.ask(asked.UNFOLD)
        assert faults(page, axe) == []


def test_a_fault_is_found(browser: Chromium, axe: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<!doctype html><html lang="en"><title>x</title><main><h1 style="color: #ccc">pale</h1>'
        '<img src="x.png">',
        encoding="utf-8",
    )
    with served(tmp_path) as address, browser.visit(f"{address}/page.html", policy=False) as page:
        found = faults(page, axe)
    assert [sign for sign in ("color-contrast", "image-alt") if not any(sign in each for each in found)] == []
