"""The summary in Markdown: what it says, that names inject nothing into it, and where it is written.

It is rendered by markdown-it, which follows CommonMark, with GitHub's tables; GitHub and GitLab add mentions
and references, which are looked for in the rendered text as they do, outside of code and links.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
import suite_models
from markdown_it import MarkdownIt
from test_report_html import FASHION, HOSTILE, OVERFLOW, document, evaluated, skipped_model, unbuilt
from test_report_latency import reported, timed

from trtcheck.errors import ReportError
from trtcheck.report import markdown, markdown_file, view
from trtcheck.report.escaped import code, text

NASTY = [
    *HOSTILE, "a|b", "`a`", "``", "a\nb", "a\r\n\r\n# b", "[x](javascript:alert(1))", "![x](http://e.example/x)",
    "@octocat", "#1", "!1", "~bug", "%1", "&1", ":smile:", "**bold**", "_it_", "<!-- x", "-->", "&lt;b&gt;",
    "\\", "a\\", "\\|", "~~x~~", "<https://e.example>", "https://e.example", "www.e.example", "$x$", "$$x$$",
    "1. x", "12) x", "- x", "+ x", "* x", "    x", "# x", "=", "---", "> x", "- [ ] x", "\x1b[31mred",
    "</code>", "</td></tr></table>", "a\u2028b", "x\udc80y", "\u2069\u202eabc", "me@e.example", "GH-1",
    "|", "||||", "[x]: http://e.example", "z\u0300\u0301\u0302", "ab\tc", "```", "~~~",
]  # fmt: skip
TAGS = {"h2", "h3", "p", "ul", "li", "strong", "a", "table", "thead", "tbody", "tr", "th", "td", "code"}


class Rendered(HTMLParser):
    """A rendered summary taken apart."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.text = ""
        self.prose = ""
        """Text outside of code and links, in which a server looks for mentions; a tag is a border."""
        self._open: list[str] = []
        renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.html = renderer.render(source)
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if not {"code", "a"} & set(self._open):
            self.prose += f"\0{data}"
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data


def assert_harmless(source: str, pages: set[str]) -> Rendered:
    rendered = Rendered(source)
    assert rendered.tags <= TAGS
    assert rendered.attributes <= {"href", "style"}  # of table cells: their alignment
    assert {link.partition("#")[0] for link in rendered.links} <= {"index.html", *pages}
    assert {len(row) for row in rendered.rows} <= {7}
    # As html-pipeline's MentionFilter and GitLab's reference filters have them.
    assert not re.search(r"@[a-z0-9]|[#!~%&]\d|:[a-z]+:|GH-\d|://|\bwww\.", rendered.prose, re.IGNORECASE)
    assert not re.search("[\u202a-\u202e\u2066\u2067\x00-\x08\x0b-\x1f]", rendered.text)
    assert rendered.text.count("\u2068") == rendered.text.count("\u2069")
    return rendered


def pages_of(found: dict[str, Any]) -> set[str]:
    return set(view.page_names(found).values())


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_neither_inject_nor_break_the_table(name):
    engines = [evaluated(name, engine, [name, "b"], 40, {name: ("b", 0.9)}) for engine in (name, "int8")]
    for _, items in engines:
        items[0]["warnings"] = [f"{name} is odd", name]
        items[1] |= {"verdict": "inconclusive", "message": name}
    engines[0][0]["baseline"] = {
        "status": "compared", "path": name, "message": name,
        "changes": [{"what": name, "approved": name, "now": name}],
    }  # fmt: skip
    found = document(*engines, unbuilt(f"{name}x", name, "error", name))
    found["run"]["command"] = name
    found["environment"]["backend"]["device"] = name
    found["run"]["ci"] = {"name": name, "commit": name, "ref": name, "url": name}
    found["run"]["ci"]["url"] = None
    for elsewhere in (None, name or "reports"):
        rendered = assert_harmless(markdown.summary(found, elsewhere=elsewhere), pages_of(found))
        assert len(rendered.rows) == 4  # the head and three engines


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("form", [text, code])
def test_a_reader_sees_the_name_as_it_is(name, form):
    shown = re.sub("[\u2060\u2068\u2069]", "", Rendered(f"a {form(name)} z").text).strip()
    printable = "".join(sign for sign in " ".join(name.splitlines()) if sign.isprintable())
    seen = re.sub(r"\\u[0-9a-f]{4}", "", shown.removeprefix("a ").removesuffix(" z"))
    assert seen.replace(" ", "") == printable.replace(" ", "")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://e.example/a) [b](c", "https://e/<script>", "x"]
)
def test_an_address_that_could_end_its_link_is_none(url):
    found = document(evaluated("m", "int8", ["a", "b"], 40, {}))
    found["run"]["ci"] = {"name": "Jenkins", "commit": None, "ref": None, "url": url}
    assert_harmless(markdown.summary(found), pages_of(found))


@pytest.fixture(scope="module")
def red() -> dict[str, Any]:
    ruined = {"Shirt": ("T-shirt", 0.78), "Coat": ("Pullover", 0.31)}
    unsure, items = evaluated("tiny", "fp16", ["cat", "dog"], 8, {})
    unsure["verdict"] = items[3]["verdict"] = "inconclusive"
    items[3]["message"] = "too few images to tell for 'cat'"
    items[1]["warnings"] = ["12 images are in both"]
    model, item = skipped_model("untested")
    found = document(
        evaluated("fashion", "fp16", FASHION, 1000, {}), evaluated("fashion", "int8", FASHION, 1000, ruined),
        (unsure, items), models=[model], items=[item],
    )  # fmt: skip
    found["engines"][0]["baseline"] = {
        "status": "compared", "path": "b.json", "message": "",
        "changes": [{"what": "package onnx", "approved": "1.16.0", "now": "1.17.0"}],
    }  # fmt: skip
    return found


def test_the_verdict_comes_first_then_what_fails_then_every_engine(red):
    rendered = assert_harmless(markdown.summary(red), pages_of(red))
    told = rendered.text
    parts = [
        "trtcheck: ✗ fail", view.headline(red), "What fails (2)",
        "fashion · INT8 · recall: recall of 'Shirt' fell", "fashion · INT8 · accuracy: ", "Engines (3)",
        "Inconclusive (1)", "tiny · FP16 · recall: too few images to tell for 'cat'", "Warnings (1)",
        "12 images are in both", "Since the approval", "package onnx: 1.16.0 → 1.17.0 (fashion FP16)", "Run",
        "backend onnxruntime-cpu 1.20.1", "pytest examples --trt-engine=fp32,fp16,int8", "The whole report",
    ]  # fmt: skip
    places = [told.index(part) for part in parts]
    assert places == sorted(places)
    assert rendered.rows[1][:3] == ["fashion", "INT8 (emulated)", "✗ fail"]
    assert rendered.rows[1][4].endswith("points (Shirt)")
    assert [row[2] for row in rendered.rows[2:]] == ["? inconclusive", "✓ pass"]
    assert {"index.html", "fashion--int8.html#check-recall", "fashion--int8.html"} <= set(rendered.links)


def test_away_from_the_report_no_link_leads_into_it(red):
    rendered = assert_harmless(markdown.summary(red, elsewhere="reports"), set())
    assert rendered.links == []
    assert "The whole report is index.html in the folder reports." in rendered.text


def test_times_stand_in_the_table_with_their_batch_sizes():
    items = [timed("fp16", batch, 0.5 * batch) for batch in (1, 4, 8, 16)]
    [_, row] = Rendered(markdown.summary(reported(*items))).rows
    assert (
        row[6].replace("\N{NO-BREAK SPACE}", " ")
        == "0.500 ms at batch 1, 2.00 ms at batch 4, 4.00 ms at batch 8, …"
    )


def test_the_node_that_overflows_comes_before_what_it_does():
    found, items = evaluated("tiny", "fp16", FASHION, 100, dict.fromkeys(FASHION[:6], ("Bag", 0.9)))
    found["overflow"] = OVERFLOW
    [recall] = [item for item in items if item["check"] == "recall"]
    recall["message"] += f"; {OVERFLOW}"
    told = Rendered(markdown.summary(document((found, items)))).text
    assert f"tiny · FP16 · recall: {OVERFLOW}; recall of " in told
    assert re.search(r"and \d more in the report", told)


def test_many_failures_are_ten_and_a_count():
    engines = [unbuilt(f"m{n:02d}", "int8", "error", f"this is wrong: {n}") for n in range(40)]
    told = Rendered(markdown.summary(document(*engines))).text
    assert "What fails (40)" in told
    assert told.count("this is wrong") == 11  # the headline's and ten
    assert "and 30 more in the report" in told


@pytest.mark.parametrize("sign", ["x", "|", "@a", "\N{T-SHIRT}", "ש", "\u202e"])
def test_no_run_is_too_large_for_the_page_of_a_job(sign):
    name = sign * 3000
    names = [f"{n}{name}" for n in range(3)]
    engines = []
    for number in range(150):
        record, items = evaluated(f"{number}{name}", "int8", names, 40, {names[0]: (names[1], 0.9)})
        for item in items:
            item["warnings"] = [f"{number} {name}"]
        record["baseline"] = {
            "status": "compared", "path": name, "message": name,
            "changes": [{"what": name, "approved": f"{number}", "now": name}],
        }  # fmt: skip
        engines.append((record, items))
    found = document(*engines)
    found["run"]["command"] = name
    found["run"]["ci"] = {"name": name, "commit": name, "ref": name, "url": None}
    found["environment"] |= dict.fromkeys(("machine", "system", "python"), name)
    summary = markdown.summary(found)
    assert len(summary.encode()) <= markdown.LARGEST
    rendered = assert_harmless(summary, pages_of(found))
    assert "Engines (150)" in rendered.text
    assert re.search(r"and \d+ more in the report", rendered.text)
    assert "The whole report" in rendered.text


def test_a_run_of_which_nothing_is_known_has_a_summary():
    model, item = skipped_model("untested")
    found = document(models=[model], items=[item]) | {"environment": None, "run": None}
    assert "Nothing was tested: no engine was asked for" in Rendered(markdown.summary(found)).text


def test_every_run_writes_it_beside_the_pages_and_onto_the_page_of_the_job(suite, monkeypatch):
    step = suite.path / "step.md"
    step.write_text("what another program wrote\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    result = suite.run("--trt-engine=fp16", "-n", "2", plugins=["xdist"], process=True)
    result.stdout.fnmatch_lines(["report: reports/index.html"])
    beside = (suite.path / "reports" / "summary.md").read_text(encoding="utf-8")
    assert beside.startswith(f"{markdown.MARK}\n")
    assert_harmless(beside, pages_of(suite.report()))
    told = step.read_text(encoding="utf-8")
    assert told.startswith("what another program wrote\n")
    assert told.count(markdown.MARK) == 1
    assert "](" not in told
    suite.run("--trt-engine=fp16")
    assert step.read_text(encoding="utf-8").count(markdown.MARK) == 2


def test_an_unwritable_page_of_the_job_is_told_and_no_error(suite, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(suite.path / "nowhere" / "step.md"))
    result = suite.run("--trt-engine=fp16")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["the page of the CI job has no summary: GITHUB_STEP_SUMMARY cannot be written: *"]
    )
    assert (suite.path / "reports" / "index.html").exists()


def test_a_summary_of_somebody_else_stays_and_no_page_is_written(suite):
    (suite.path / "reports").mkdir()
    (suite.path / "reports" / "summary.md").write_text("# Our minutes\n", encoding="utf-8")
    result = suite.run("--trt-engine=fp16")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["the report could not be written: *summary.md: this file was not written by *"]
    )
    assert [path.name for path in (suite.path / "reports").iterdir()] == ["summary.md"]


def test_a_link_is_somebody_elses(red, tmp_path):
    (tmp_path / "own.md").write_text(f"{markdown.MARK}\n", encoding="utf-8")
    (tmp_path / "summary.md").symlink_to(tmp_path / "own.md")
    with pytest.raises(ReportError, match="not written by trtcheck"):
        markdown_file.write(red, tmp_path)


def properties(suite: Any) -> dict[str, str]:
    every = ElementTree.parse(suite.path / "junit.xml").iter("property")
    return {own.attrib["name"]: own.attrib["value"] for own in every}


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_junit_leads_to_the_place_in_the_report(suite, workers):
    suite.run(
        "--trt-engine=fp16,int8", "--junitxml=junit.xml", *workers, plugins=["xdist"], process=bool(workers)
    )
    found = properties(suite)
    pages = view.page_names(suite.report())
    assert found["trtcheck.tiny.int8.recall.report"] == f"reports/{pages['tiny', 'int8']}#check-recall"
    for item in suite.report()["items"]:
        page, _, anchor = found[f"trtcheck.tiny.{item['engine']}.{item['check']}.report"].partition("#")
        assert f'id="{anchor}"' in (suite.path / page).read_text(encoding="utf-8")


def test_junit_has_the_worst_class_with_its_limit(suite):
    suite.toml("[models.tiny.gates]\nrecall_floor = 1\nchurn = 0.5\n")
    suite.run("--trt-engine=fp16", "--junitxml=junit.xml")
    found = properties(suite)
    recall = suite.item("fp16", "recall")
    worst = {
        name: found[f"trtcheck.tiny.fp16.recall.worst_class.{name}"] for name in ("name", "after", "verdict")
    }
    [row] = [row for row in recall["classes"] if row["name"] == worst["name"]]
    assert (float(worst["after"]), worst["verdict"]) == (row["after"], "fail")
    assert found["trtcheck.tiny.fp16.outputs.churn.limit"] == "0.5"


def test_junit_tells_the_verdict_of_what_could_not_be_checked(suite):
    images, labels = suite_models.images()
    suite.data(images=images, labels=labels + 99)
    suite.run("--trt-engine=fp16", "--junitxml=junit.xml", "-k", "recall")
    found = properties(suite)
    assert found["trtcheck.tiny.fp16.recall.verdict"] == "error"
    page, _, anchor = found["trtcheck.tiny.fp16.recall.report"].partition("#")
    assert f'id="{anchor}"' in (suite.path / page).read_text(encoding="utf-8")
