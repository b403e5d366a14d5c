"""The report on paper: what Chromium prints."""

from __future__ import annotations

import asked
import pytest
from chromium import Chromium

PAPER = 717
"""CSS pixels between the margins of an A4 page (8.27 inches less 0.4 on either side, 96 a inch)."""


@pytest.mark.parametrize("report", ["real_address", "whole_address", "example_address"])
def test_no_page_is_cut_on_paper(report: str, browser: Chromium, request) -> None:
    address = request.getfixturevalue(report)
    with browser.visit(f"{address}/index.html") as page:
        links = {link.partition("#")[0] for link in page.ask(asked.LINKS)}
    for url in sorted(link for link in links if link.endswith(".html")):
        with browser.visit(url, width=PAPER) as page:
            page.command("Emulation.setEmulatedMedia", media="print")
            assert page.ask(asked.STICKS_OUT) == [], url


def test_a_page_is_printed_whole_and_on_few_sheets(browser: Chromium, whole_address: str) -> None:
    for name, fewest, most in (
        ("index.html", 2, 6),
        ("fashion--int8.html", 2, 16),
        ("birds--int8.html", 1, 2),
    ):
        with browser.visit(f"{whole_address}/{name}", dark=True) as page:
            printed = page.print()
            assert printed.startswith(b"%PDF")
            assert fewest <= printed.count(b"/Type /Page\n") <= most, name
            page.command("Emulation.setEmulatedMedia", media="print")
            assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
