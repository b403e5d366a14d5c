"""Classes in a real Chromium: links open what they lead to, and narrow screens keep room for figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import PHONE, Chromium
from serving import served
from test_report_html import HOSTILE, document, evaluated

from trtcheck.report import html

_OPEN = "document.querySelector('details[open] > #classes-by-recall') !== null"
_IN_SIGHT = "document.querySelector('#classes-by-recall').getBoundingClientRect().top < innerHeight"
_WIDE_HEADS = """[...document.querySelectorAll('tbody th, thead th:first-child')]
    .filter(cell => cell.offsetWidth > innerWidth / 2).map(cell => cell.textContent)"""
_CUT_CAPTIONS = """[...document.querySelectorAll('.scroll caption > span')].filter(caption =>
    caption.scrollWidth > caption.clientWidth
    || caption.getBoundingClientRect().right > caption.closest('.scroll').getBoundingClientRect().right + 1
).map(caption => caption.textContent)"""


@pytest.fixture(scope="module")
def classes_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a report of a model of 300 classes, some of them with hostile names."""
    names = [*HOSTILE, *(f"n{k:08d} some kind of bird with a long name" for k in range(290))]
    engine = evaluated("birds", "fp16", names, 20, {names[77]: (names[78], 0.9)})
    folder = tmp_path_factory.mktemp("classes")
    html.write(document(engine), folder)
    with served(folder) as address:
        yield address


def test_a_link_to_an_order_opens_it(classes_address: str, browser: Chromium) -> None:
    with browser.visit(f"{classes_address}/birds--fp16.html", scripts=False) as page:
        assert page.ask(_OPEN) is False
    with browser.visit(f"{classes_address}/birds--fp16.html#classes-by-recall", scripts=False) as page:
        assert page.ask(_OPEN) is True
        assert page.ask(_IN_SIGHT) is True


@pytest.mark.parametrize("name", ["birds--fp16", "birds---classes"])
def test_on_a_phone_names_leave_room_for_figures(name: str, classes_address: str, browser: Chromium) -> None:
    with browser.visit(f"{classes_address}/{name}.html", scripts=False) as page:
        page.resize(PHONE)
        page.ask("document.querySelectorAll('details').forEach(found => { found.open = true })")
        assert page.ask(_WIDE_HEADS) == []
        assert page.ask(_CUT_CAPTIONS) == []
