"""The report in a real Chromium, under the policy of Jenkins and without JavaScript."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin
from urllib.request import urlopen

import asked
import pytest
from chromium import DESKTOP, PHONE, TABLET, Chromium
from serving import served

REPORTS = ("real_address", "whole_address", "example_address", "hostile_address")


def pages_of(browser: Chromium, address: str) -> dict[str, dict[str, Any]]:
    """What the browser finds on every page that links lead to from the index, by address."""
    found: dict[str, dict[str, Any]] = {}
    open_ends = [f"{address}/index.html"]
    while open_ends:
        url = open_ends.pop()
        with browser.visit(url, scripts=False) as page:
            found[url] = {
                "said": page.said,
                "answers": page.answers,
                "styled": page.ask(asked.STYLED),
                "blank": page.ask(asked.BLANK),
                "ids": page.ask(asked.IDS),
                "links": page.ask(asked.LINKS),
            }
        leads = {urldefrag(link).url for link in found[url]["links"]}
        open_ends += sorted(link for link in leads - found.keys() - set(open_ends) if link.endswith(".html"))
    return found


@pytest.mark.parametrize("report", REPORTS)
def test_every_page_is_silent_styled_and_linked(report: str, browser: Chromium, request) -> None:
    address = request.getfixturevalue(report)
    pages = pages_of(browser, address)
    assert len(pages) > 3
    files = set()
    for url, page in pages.items():
        assert page["said"] == []
        assert set(page["answers"].values()) == {200}, url
        assert all(loaded.startswith(f"{address}/") for loaded in page["answers"]), url
        rules, mark = page["styled"]
        assert rules > 50
        assert mark > 4
        assert page["blank"] == []
        for link in page["links"]:
            target, anchor = urldefrag(link)
            if target.endswith(".html"):
                assert not anchor or anchor in pages[target]["ids"], link
            else:
                files.add(target)
    for file in files:
        assert file.startswith(f"{address}/")
        with urlopen(file) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("report", REPORTS)
def test_no_page_is_wider_than_its_window(report: str, browser: Chromium, request) -> None:
    address = request.getfixturevalue(report)
    with browser.visit(f"{address}/index.html") as page:
        links = {urldefrag(link).url for link in page.ask(asked.LINKS)}
    for url in sorted(link for link in links if link.endswith(".html")):
        with browser.visit(url) as page:
            page.ask(asked.UNFOLD)
            for width in (DESKTOP, TABLET, PHONE):
                page.resize(width)
                assert page.ask(asked.TOO_WIDE) == [], (url, width)


def test_the_files_of_a_report_have_harmless_names(hostile: Path) -> None:
    for path in hostile.rglob("*"):
        name = path.relative_to(hostile).as_posix()
        if path.is_dir():
            assert name in ("pictures", "history")
        else:
            assert re.fullmatch(r"((pictures|history)/)?[a-z0-9-]+\.(html|css|png|json|md)", name)
            assert len(path.name) <= 200


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ('<p style="color: red">x', "Content Security Policy"),
        ("<style>p { color: red }</style>", "Content Security Policy"),
        ("<script>console.log('x')</script>", "Blocked script execution"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">', "Content Security Policy"),
        ('<img src="not-there.png">', "404"),
    ],
)
def test_what_jenkins_would_refuse_is_told(text: str, sign: str, browser: Chromium, tmp_path: Path) -> None:
    """Else the silence of the other pages would mean nothing."""
    (tmp_path / "page.html").write_text(f"<!doctype html><title>x</title>{text}", encoding="utf-8")
    with served(tmp_path) as address, browser.visit(urljoin(address, "page.html")) as page:
        assert any(sign in said for said in page.said)


def test_a_page_that_is_too_wide_is_told(browser: Chromium, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<!doctype html><meta name="viewport" content="width=device-width"><body><pre>' + "wide " * 400,
        encoding="utf-8",
    )
    with served(tmp_path) as address:
        for width in (DESKTOP, PHONE):
            with browser.visit(f"{address}/page.html", width=width) as page:
                assert "<pre>" in page.ask(asked.TOO_WIDE)[1]
