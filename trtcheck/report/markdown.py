"""The report in one page of GitHub-flavoured Markdown, for the page of a CI job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trtcheck.names import significant
from trtcheck.report import speeds, view
from trtcheck.report.escaped import code, text
from trtcheck.report.reasons import fitting, worst_first
from trtcheck.report.view.changes import SinceApproval
from trtcheck.report.view.facts import Fact
from trtcheck.report.view.findings import Finding, Warned
from trtcheck.report.view.formats import grouped
from trtcheck.report.view.index_page import EngineRow, IndexView
from trtcheck.report.view.records import Pair
from trtcheck.report.view.statuses import Status

MARK = "<!-- pytest-trtcheck summary -->"
"""The first line; a file without it is somebody else's."""
LARGEST = 60_000
"""Bytes that a page has at most: GitHub takes 1 MiB from one step, and comments of 64 KB."""

_HEADLINE, _MESSAGE, _LONGEST_MESSAGE, _NAME, _FIGURE, _COMMAND = 600, 400, 600, 80, 60, 500
"""Characters of a text that are told."""
_FAILURES, _UNSURE, _WARNINGS, _TIMES = 10, 3, 5, 3
"""How many of each are told."""
_LARGEST_LIST, _LARGEST_TABLE, _LARGEST_SHORT = 15_000, 24_000, 4_000
"""Bytes of the failures, of the table, of any other list."""

Linked = Callable[[str, str], str]
"""Makes a link of an escaped text and a place in the report's folder."""


def summary(document: Mapping[str, Any], *, elsewhere: str | None = None) -> str:
    """The whole report on one page: the verdict, what fails, a table of all engines, and what was run.

    Args:
        document: The report as docs/report-schema.md describes it.
        elsewhere: The report's folder, where the page will not stand in it: then nothing is a link into it.

    Returns:
        At most `LARGEST` bytes of UTF-8, the mark first; names and messages of users are escaped.
    """
    index = view.index(document)
    linked = _link if elsewhere is None else _unlinked
    pages = view.page_names(document)
    times = _times(document, pages)
    overflows = {pages[each["model"], each["engine"]]: each["overflow"] for each in document["engines"]}

    def told(found: Sequence[Finding]) -> list[str]:
        return [_finding(each, overflows.get(each.page or ""), linked) for each in found]

    parts = [
        f"{MARK}\n\n## trtcheck: {_word(index.status)}",
        text(index.headline, _HEADLINE),
        text(index.summary, _HEADLINE),
        *_listed("What fails", told(index.problems), _FAILURES, _LARGEST_LIST),
        *_engines(index, times, linked),
        *_listed("Inconclusive", told(index.unsure), _UNSURE),
        *_listed("Jobs that differ", [text(told, _MESSAGE) for told in index.differences], _UNSURE),
        *_warnings(index.warnings),
        *_approval(index.approval),
        *_run(index, document["run"] or {}),
        _whole_report(elsewhere),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _link(told: str, place: str) -> str:
    return f"[{told}]({place})"


def _unlinked(told: str, _place: str) -> str:
    return told


def _word(status: Status) -> str:
    return f"{text(status.shape)} {status.word}"


def _within(lines: Iterable[str], most: int, largest: int) -> list[str]:
    """The first of *lines*, at most that many and of that many bytes."""
    kept: list[str] = []
    for line in lines:
        largest -= len(line.encode()) + 1
        if largest < 0 or len(kept) == most:
            break
        kept.append(line)
    return kept


def _listed(heading: str, lines: Sequence[str], most: int, largest: int = _LARGEST_SHORT) -> list[str]:
    """A heading and a list under it; what it does not hold is counted."""
    if not lines:
        return []
    kept = _within((f"- {line}" for line in lines), most, largest)
    more = len(lines) - len(kept)
    rest = [f"- and {grouped(more)} more in the report"] if more else []
    return [f"### {heading} ({grouped(len(lines))})", "\n".join(kept + rest)]


def _finding(found: Finding, overflow: str | None, linked: Linked) -> str:
    engine = "" if found.engine is None else f" · {text(found.engine, _NAME)}"
    subject = f"{text(found.model, _NAME)}{engine} · {', '.join(map(text, found.checks))}"
    if found.page is not None:
        subject = linked(subject, f"{found.page}#{found.anchors[0]}")
    strict = " (fails here)" if found.strict else ""
    message = ";\n".join(filter(None, (found.message, found.more))).replace(";\n", "; ")
    reason = "; ".join(fitting(worst_first(message, overflow), _MESSAGE))
    return f"**{_word(found.status)}**{strict} {subject}: {text(reason, _LONGEST_MESSAGE)}"


def _warnings(found: Sequence[Warned]) -> list[str]:
    lines = [
        f"**{_word(each.status)}** {text(each.model, _NAME)}"
        f"{_row_of(engine for engine, _ in each.engines if engine)} · {', '.join(map(text, each.checks))}: "
        f"{text(each.message, _MESSAGE)}"
        for each in found
    ]
    return _listed("Warnings", lines, _WARNINGS)


def _row_of(engines: Iterable[str]) -> str:
    told = ", ".join(engines)
    return f" · {text(told, _NAME)}" if told else ""


_NOTHING = "\N{EN DASH}"
_NO_BREAK = "\N{NO-BREAK SPACE}"
_COLUMNS = (
    "model", "engine", "verdict", "accuracy", "worst class drop", "changed answers", "median time",
)  # fmt: skip


def _engines(index: IndexView, times: Mapping[str, str], linked: Linked) -> list[str]:
    """The table of all engines, worst first; what it does not hold is counted."""
    rows = [
        (row.status.rank, f"| {' | '.join(_cells(model.name, row, times, linked))} |")
        for model in index.models
        for row in model.rows
    ]
    if not rows:
        return []
    lines = [line for _, line in sorted(rows, key=lambda row: row[0])]
    kept = _within(lines, len(lines), _LARGEST_TABLE)
    more = len(lines) - len(kept)
    head = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * 3}{'---:|' * 4}"]
    table = "\n".join(head + kept)
    return [
        f"### Engines ({grouped(len(rows))})",
        table,
        f"and {grouped(more)} more in the report" * bool(more),
    ]


def _cells(model: str, row: EngineRow, times: Mapping[str, str], linked: Linked) -> tuple[str, ...]:
    aside = f" ({text(row.numerics, _FIGURE)})" if row.numerics else ""
    accuracy = f"{row.before}{_NO_BREAK}→ {row.after}" if row.before and row.after else _NOTHING
    drop = _NOTHING if row.drop is None else "none fell"
    if row.dropped is not None:
        drop = f"{row.drop} points ({text(row.dropped, _FIGURE)})"
    flips = f"{row.flips} of {row.images}" if row.flips else _NOTHING
    return (
        text(model, _NAME),
        linked(text(row.engine, _NAME), row.page) + aside,
        _word(row.status),
        accuracy,
        drop,
        flips,
        times.get(row.page, _NOTHING),
    )


def _times(document: Mapping[str, Any], pages: Mapping[Pair, str]) -> dict[str, str]:
    """Median times of a query by the engine's page, the smallest batches first."""
    found: dict[str, list[str]] = {}
    for item in sorted(speeds.timed(document["items"]), key=lambda item: item["batch"]):
        told = f"{significant(item['latency']['median_ms'], 3)} ms at batch {item['batch']}"
        found.setdefault(pages[item["model"], item["engine"]], []).append(told.replace(" ", _NO_BREAK))
    return {
        page: ", ".join(own[:_TIMES]) + (", …" if len(own) > _TIMES else "") for page, own in found.items()
    }


def _approval(approval: SinceApproval | None) -> list[str]:
    if approval is None:
        return []
    sentence = text(approval.sentence[:1].upper() + approval.sentence[1:], _HEADLINE) + "."
    lines = [
        f"- {text(change.what, _NAME)}: {text(change.approved, _FIGURE)} → {text(change.now, _FIGURE)} "
        f"({text(', '.join(name for name, _ in change.engines), _NAME)}"
        f"{f' and {change.more} more' if change.more else ''})"
        for change in approval.changes
    ]
    kept = _within(lines, len(lines), _LARGEST_SHORT)
    more = len(lines) - len(kept) + approval.more
    rest = [f"- and {grouped(more)} more in the report"] if more else []
    return ["### Since the approval", sentence, "\n".join(kept + rest)]


_PLACE = ("backend", "device", "driver", "machine", "system", "Python")
"""Facts of the environment that are told."""


def _run(index: IndexView, run: Mapping[str, Any]) -> list[str]:
    """Where it ran, which commit it was, and the command."""
    version = next((fact for fact in index.run if fact.term == "trtcheck"), None)
    facts = [fact for fact in index.environment if fact.term in _PLACE]
    lines = [" · ".join(map(_fact, [*facts, *([version] if version else [])])), _ci(run.get("ci") or {})]
    if run.get("command") is not None:
        lines.append(code(f"pytest {run['command']}".strip(), _COMMAND))
    told = [line for line in lines if line]
    return ["### Run", "\n".join(f"- {line}" for line in told)] if told else []


def _fact(fact: Fact) -> str:
    return f"{text(fact.term)} {text(fact.text, _NAME)}"


def _ci(found: Mapping[str, str | None]) -> str:
    """Server, commit and branch; the name of the server leads to the run."""
    name, url = found.get("name"), found.get("url")
    if not name:
        return ""
    told = text(name, _NAME)
    # Whoever wrote the document, an address may not end the link or begin another scheme.
    if url and url.startswith(("http://", "https://")) and not set(url) & set("()<>[]\\`\"' \n\r\t|"):
        told = _link(told, url.replace("&", "&amp;"))
    parts = [f"{word} {code(value, _NAME)}" for word in ("commit", "ref") if (value := found.get(word))]
    return " · ".join([told, *parts])


def _whole_report(elsewhere: str | None) -> str:
    if elsewhere is None:
        return "[The whole report](index.html)"
    return f"The whole report is `index.html` in the folder {code(elsewhere, _MESSAGE)}."
