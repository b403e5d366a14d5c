"""The link on the page of pytest-html, a plugin that may be installed beside trtcheck."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape

import pytest
import suite_models
from test_report_html import document, evaluated

from trtcheck.report import pytest_html, view


@pytest.mark.parametrize("own", [(), ("--self-contained-html",)])
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_its_page_has_the_verdict_and_a_link_that_leads_to_the_report(suite, own, workers):
    suite.model(suite_models.overflowing())
    suite.run(
        "--trt-engine=fp16", "--html=pages/all tests.html", *own, *workers,
        plugins=["metadata", "html", "xdist"], process=True, report="reports/a b",
    )  # fmt: skip
    page = suite.path / "pages" / "all tests.html"
    [(told, target)] = re.findall(
        r'<p>trtcheck: (.*?) \(<a href="([^"]*)">the report</a>\)</p>', page.read_text()
    )
    assert unescape(told) == f"✗ fail: {view.headline(suite.report('reports/a b'))}"
    assert target == "../reports/a%20b/index.html"


def test_without_a_report_there_is_no_link(suite):
    suite.run("--html=page.html", plugins=["metadata", "html"], process=True)
    assert "trtcheck: " not in (suite.path / "page.html").read_text()


def test_names_stay_names(tmp_path):
    name = "</p><script>alert(1)</script>"
    found = document(evaluated(name, "int8", [name, '"&'], 40, {name: ('"&', 0.9)}))
    told = pytest_html.link(found, tmp_path / '"><b>' / "index.html", tmp_path / "page.html")
    assert re.findall("<[^>]*>", told) == ["<p>", '<a href="%22%3E%3Cb%3E/index.html">', "</a>", "</p>"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_real_chromium_shows_the_link(suite, tmp_path_factory):
    suite.run("--trt-engine=fp16", "--html=page.html", plugins=["metadata", "html"], process=True)
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--dump-dom",
        (suite.path / "page.html").as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert '(<a href="reports/index.html">the report</a>)' in shown
    assert "✓ pass: Everything passes" in shown
    assert (suite.path / "reports" / "index.html").exists()
