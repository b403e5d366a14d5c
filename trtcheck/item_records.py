"""What the checks of an item came to, on its way to the report, to JUnit and to what pytest prints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest

from trtcheck.case import WORST_FIRST, Check, Outcome, Verdict
from trtcheck.errors import TrtcheckError
from trtcheck.state import runtime_of

OUTCOMES: pytest.StashKey[list[Outcome]] = pytest.StashKey()
PENDING: pytest.StashKey[Outcome] = pytest.StashKey()
"""The check that an item is about to make, as it stands if nothing comes of it."""

PROPERTIES: pytest.StashKey[list[tuple[str, object]]] = pytest.StashKey()
"""JUnit properties of the attempt at hand; they go to its reports alone, so that reruns do not add up."""


def add_outcome(item: pytest.Item, outcome: Outcome) -> None:
    """Keeps *outcome* for the report and gives its figures to JUnit."""
    item.stash.setdefault(OUTCOMES, []).append(outcome)
    item.stash.setdefault(PROPERTIES, []).extend(_properties(item.config, outcome))


_SCALARS = (int, float, str, bool)
_NOT_XML = re.compile("[^\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GROUPS = ("agreement", "churn", "pooled", "top_k")
_OF_A_CLASS = ("name", "before", "after", "drop", "margin", "p_adjusted", "verdict")


def _properties(config: pytest.Config, outcome: Outcome) -> list[tuple[str, object]]:
    """Verdict, figures and limits of *outcome*, and where the report tells it, by name."""
    prefix = f"trtcheck.{outcome.model}.{outcome.engine}.{outcome.check.value}"
    measured = dict(outcome.measured)
    if outcome.check is Check.LATENCY and "batch" in measured:
        prefix = f"{prefix}.b{measured['batch']}"
        measured |= measured["latency"]
    found = {
        "verdict": outcome.verdict.value,
        "numerics": outcome.numerics and outcome.numerics.value,
        "report": _place(config, outcome),
        **{name: value for name, value in measured.items() if type(value) in _SCALARS},
        **{
            f"{group}.{name}": value
            for group in _GROUPS
            for name, value in (measured.get(group) or {}).items()
            if type(value) in _SCALARS
        },
        **_limits(measured),
        **_worst_class(measured.get("classes") or ()),
    }
    # pytest escapes the values and takes the names as they are.
    prefix = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", prefix)
    return [(f"{prefix}.{name}", value) for name, value in found.items()]


def _place(config: pytest.Config, outcome: Outcome) -> str:
    """Where the report tells *outcome*, as seen from the folder in which pytest was started."""
    from trtcheck.report import places

    folder = places.shown(runtime_of(config).settings.report, config.invocation_params.dir)
    return places.of_check(folder, outcome.model, outcome.engine, outcome.check)


def _limits(measured: Mapping[str, Any]) -> dict[str, object]:
    """The limits of the check, with what was held against each of a latency check, and its comparisons."""
    limits = measured.get("limits") or {}
    if isinstance(limits, Mapping):
        return {f"limits.{name}": value for name, value in limits.items() if type(value) in _SCALARS}
    rows = [
        *((f"limits.{row['gate']}", row, ("limit", "measured", "verdict")) for row in limits),
        *((f"change.{row['what']}", row, ("effect", "tolerance", "verdict")) for row in measured["judged"]),
    ]
    return {
        # A worker of pytest-xdist sends builtins alone.
        f"{name}.{field}": row[field].value if isinstance(row[field], Enum) else row[field]
        for name, row, fields in rows
        for field in fields
        if row[field] is not None
    }


def _worst_class(rows: Any) -> dict[str, object]:
    """The class that decided the verdict or, of several, lost most."""
    verdicts = [verdict.value for verdict in WORST_FIRST]
    judged = [row for row in rows if row["verdict"] != Verdict.SKIPPED.value and row["drop"] is not None]
    worst = min(judged, key=lambda row: (verdicts.index(row["verdict"]), -row["drop"]), default=None)
    found = {} if worst is None else {f"worst_class.{name}": worst[name] for name in _OF_A_CLASS}
    return {name: value for name, value in found.items() if value is not None}


def records_of(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
) -> list[dict[str, Any]]:
    """Records of the checks that *item* made in this phase, or of the one it could not make.

    Their figures and words are added to *report* as JUnit properties and sections.
    """
    # What fixtures record while a test is set up belongs to its call, unless there will be none.
    early = report.when == "teardown" or (report.when == "setup" and report.passed)
    outcomes = [] if early else _concluded(item, call, report)
    known: list[tuple[str, object]] = item.stash.setdefault(PROPERTIES, [])
    report.user_properties += known
    if report.when == "teardown":
        item.stash[PROPERTIES] = []  # a rerun starts from nothing
    return [_record(item.nodeid, outcome) for outcome in outcomes]


def _concluded(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> list[Outcome]:
    """What the checks came to that *item* made, or the one that it could not make."""
    outcomes = item.stash.get(OUTCOMES, [])
    item.stash[OUTCOMES] = []
    report.sections += [_section(outcome) for outcome in outcomes if not outcome.fails]
    pending = item.stash.get(PENDING, None)
    if pending is not None and not outcomes:
        if report.skipped:
            outcomes = [replace(pending, verdict=Verdict.SKIPPED, message=_skip_reason(report))]
        elif report.failed and call.excinfo is not None:
            outcomes = [replace(pending, verdict=Verdict.ERROR, message=_reason(call.excinfo.value))]
        known = item.stash.setdefault(PROPERTIES, [])
        known += [found for outcome in outcomes for found in _properties(item.config, outcome)]
    return outcomes


def _section(outcome: Outcome) -> tuple[str, str]:
    """What a check that did not fail says; one that failed tells it as the test's failure."""
    return f"Captured trtcheck {outcome.check.value} call", "\n".join(
        [f"{outcome.verdict.value}: {outcome.message}", *asides(outcome)]
    )


def asides(outcome: Outcome) -> list[str]:
    """What is told below the message of *outcome*, a line each: warnings before notes."""
    return [*(f"warning: {text}" for text in outcome.warnings), *(f"note: {text}" for text in outcome.notes)]


def _record(nodeid: str, outcome: Outcome) -> dict[str, Any]:
    """The record of *outcome*, or of the reason why there is none: an error here would end the session."""
    from trtcheck.report.document import item as record

    try:
        return record(nodeid, outcome)
    except Exception as error:  # noqa: BLE001  told as the verdict of the check
        message = f"the check's result could not be recorded; please report this: {_reason(error)}"
        return record(
            nodeid,
            Outcome(
                model=outcome.model, engine=outcome.engine, check=outcome.check, verdict=Verdict.ERROR,
                message=message,
            ),
        )  # fmt: skip


def _reason(error: BaseException) -> str:
    known = isinstance(error, TrtcheckError | pytest.fail.Exception)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _skip_reason(report: pytest.TestReport) -> str:
    longrepr = report.longrepr
    return longrepr[2].removeprefix("Skipped: ") if isinstance(longrepr, tuple) else str(longrepr)
