"""What the checks of an item came to, on its way to the report, to JUnit and to what pytest prints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trtcheck.case import Check, Outcome, Verdict
from trtcheck.errors import TrtcheckError

OUTCOMES: pytest.StashKey[list[Outcome]] = pytest.StashKey()
PENDING: pytest.StashKey[Outcome] = pytest.StashKey()
"""The check that an item is about to make, as it stands if nothing comes of it."""

PROPERTIES: pytest.StashKey[list[tuple[str, object]]] = pytest.StashKey()
"""JUnit properties of the attempt at hand; they go to its reports alone, so that reruns do not add up."""


def add_outcome(item: pytest.Item, outcome: Outcome) -> None:
    """Keeps *outcome* for the report and gives its scalars to JUnit."""
    item.stash.setdefault(OUTCOMES, []).append(outcome)
    prefix = f"trtcheck.{outcome.model}.{outcome.engine}.{outcome.check.value}"
    measured = dict(outcome.measured)
    if outcome.check is Check.LATENCY and "batch" in measured:
        prefix = f"{prefix}.b{measured['batch']}"
        measured |= measured["latency"]
    figures = {name: value for name, value in measured.items() if type(value) in (int, float, str, bool)}
    facts = {"verdict": outcome.verdict.value, "numerics": outcome.numerics and outcome.numerics.value}
    item.stash.setdefault(PROPERTIES, []).extend(
        (f"{prefix}.{name}", value) for name, value in {**facts, **figures}.items()
    )


def records_of(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
) -> list[dict[str, Any]]:
    """Records of the checks that *item* made in this phase, or of the one it could not make.

    Their figures and words are added to *report* as JUnit properties and sections.
    """
    properties: list[tuple[str, object]] = item.stash.setdefault(PROPERTIES, [])
    report.user_properties += properties
    if report.when == "teardown":
        item.stash[PROPERTIES] = []  # a rerun starts from nothing
    # What fixtures record while a test is set up belongs to its call, unless there will be none.
    if report.when == "teardown" or (report.when == "setup" and report.passed):
        return []
    outcomes = item.stash.get(OUTCOMES, [])
    item.stash[OUTCOMES] = []
    report.sections += [_section(outcome) for outcome in outcomes if not outcome.fails]
    pending = item.stash.get(PENDING, None)
    if pending is not None and not outcomes:
        if report.skipped:
            outcomes = [replace(pending, verdict=Verdict.SKIPPED, message=_skip_reason(report))]
        elif report.failed and call.excinfo is not None:
            outcomes = [replace(pending, verdict=Verdict.ERROR, message=_reason(call.excinfo.value))]
    return [_record(item.nodeid, outcome) for outcome in outcomes]


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
