"""The report's folder as a whole: pages, pictures, report.json and summary.md."""

from __future__ import annotations

import json

from test_report_html import document, evaluated

from trtcheck.report import folder, history

NO_TEXT = "a\udcff"
"""What Python makes of a path that is no UTF-8."""


def test_names_that_are_no_text_are_written_by_their_codes(tmp_path):
    made = document(evaluated("fashion", "int8", [NO_TEXT, "b"], 20, {NO_TEXT: ("b", 0.8)}))
    for item in made["items"]:
        item["nodeid"] = f"{NO_TEXT}/{item['nodeid']}"
        item["message"] += f"; {NO_TEXT}"
    made["run"]["started"] = "2026-01-01T00:00:00+00:00"
    folder.write(made, tmp_path / "reports")
    found = json.loads((tmp_path / "reports" / "report.json").read_text(encoding="utf-8"))
    assert found["items"][0]["nodeid"].startswith(f"{NO_TEXT}/")
    assert "udcff" in (tmp_path / "reports" / "summary.md").read_text(encoding="utf-8")
    history.keep(history.record_of(made), tmp_path / "history")
    [run], unreadable = history.read(tmp_path / "history")
    assert (unreadable, NO_TEXT in run["engines"][0]["recall"]) == (0, True)


def test_everything_that_is_written_is_there_and_nothing_else(tmp_path):
    folder.write(document(evaluated("fashion", "int8", ["a", "b"], 20, {})), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fashion--int8.html", "index.html", "report.json", "style.css", "summary.md"
    ]  # fmt: skip
