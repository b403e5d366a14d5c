"""Puts backends to the self-test, each in a child process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace

from trtcheck import backends, child
from trtcheck.case import Precision
from trtcheck.doctor.findings import Finding, Status, in_one_line
from trtcheck.errors import TrtcheckError

BACKENDS = tuple(reversed(backends.FASTEST_FIRST))
"""What can be tested, the one that works everywhere first."""

_CHILD = "trtcheck.doctor.self_test"


def examine(names: Sequence[str], said: Callable[[str], None]) -> tuple[Finding, ...]:
    """Findings on the backends *names* at every precision.

    Args:
        names: Some of `BACKENDS`.
        said: Told of every backend that is about to be tested.
    """
    found: list[Finding] = []
    for name in names:
        absent = backends.missing(name)
        if absent is not None:
            found.append(Finding(name, None, Status.ABSENT, _how_to_install(absent)))
            continue
        said(name)
        found += _examine_one(name)
    return tuple(found)


def _how_to_install(absent: TrtcheckError) -> str:
    return str(absent).partition("try:")[2].strip()


def _examine_one(name: str) -> list[Finding]:
    every = tuple(Precision)
    try:
        return _ask(name, every)
    except TrtcheckError:
        # What crashed at one precision may work at the others.
        found = [finding for precision in every for finding in _ask_alone(name, precision)]
        whole = {replace(finding, precision=None) for finding in found}
        return list(whole) if len(whole) == 1 else found


def _ask_alone(name: str, precision: Precision) -> list[Finding]:
    try:
        found = _ask(name, (precision,))
    except TrtcheckError as error:
        return [Finding(name, precision.value, Status.CRASHED, _how_it_ended(error))]
    return [replace(finding, precision=precision.value) for finding in found]


def _ask(name: str, precisions: Sequence[Precision]) -> list[Finding]:
    request = {"backend": name, "precisions": [precision.value for precision in precisions]}
    # The test's files are removed here, however its process ends.
    with tempfile.TemporaryDirectory(prefix="trtcheck-doctor-", ignore_cleanup_errors=True) as folder:
        reply = child.call(_CHILD, request, what=f"the self-test of {name}", environment={"TMPDIR": folder})
    return [Finding.from_record(record) for record in reply["findings"]]


def _how_it_ended(error: TrtcheckError) -> str:
    """How a child process ended, and the last thing that it said."""
    found = str(error).partition("found:")[2].partition("\n  try:")[0]
    how, _, said = found.partition("; it said:")
    last = said.strip().splitlines()[-1:] if said else []
    return ": ".join(text.strip() for text in (how, *last) if text.strip()) or in_one_line(error)
