"""The limits of a model: the table ``gates`` of a suite file, and what marks and fixtures change of them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from trtcheck import given
from trtcheck.case import BY_BATCH, LIMITS, Case, Check, ClassGates, Gates
from trtcheck.errors import SuiteError
from trtcheck.suite.table import Table

GATES = (*LIMITS, "classes")
"""The names of all gates."""


def read_gates(table: Table, default: Gates, known: Collection[str] = GATES) -> Gates:
    """The gates of *table*, which may hold the *known* ones; what it does not name is as in *default*.

    Class limits of *table* come before those of *default*: of several patterns that fit a class, the first
    counts. An entry that both have keeps the limits that only *default* sets.

    Raises:
        SuiteError: A key is unknown or its value cannot be used.
    """
    values = {
        name: table.get(name, getattr(default, name), *reader)
        for name, reader in LIMITS.items()
        if name in known
    }
    own: dict[str, ClassGates] = {}
    classes = table.table("classes") if "classes" in known else None
    if classes is not None:
        for entry in classes.values:
            before = default.classes.get(entry, ClassGates())
            own[entry] = _class_gates(classes.required_table(entry), before)
    table.finish()
    return replace(default, **values, classes={**own, **_others(default.classes, own)})


def _class_gates(table: Table, default: ClassGates) -> ClassGates:
    limits = {f.name: table.get(f.name, getattr(default, f.name), *given.SHARE) for f in fields(ClassGates)}
    table.finish()
    return ClassGates(**limits)


def _others(classes: Mapping[str, ClassGates], own: Mapping[str, ClassGates]) -> dict[str, ClassGates]:
    return {entry: gates for entry, gates in classes.items() if entry not in own}


def require_classes(gates: Gates, names: Sequence[str], table: Table) -> None:
    """Refuses limits of *table* for classes that are none of *names*.

    Args:
        gates: What *table* was read as.
        names: The names of the model's classes.
        table: The table ``gates``.

    Raises:
        SuiteError: An entry of ``classes`` or ``key_classes`` stands for no class.
    """
    unmatched = gates.unmatched(names)
    for key, entries in (("classes", gates.classes), ("key_classes", gates.key_classes)):
        for entry in entries:
            if entry in unmatched:
                close = difflib.get_close_matches(entry, names, n=1)
                shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
                raise SuiteError(
                    f"{table.at(key)} names a class that is not there: '{entry}'", where=table.path,
                    expected=f"one of the model's classes, or a pattern that fits some: {shown}",
                    found=f"'{entry}'", hint=f"did you mean {close[0]}?" if close else None,
                )  # fmt: skip


_SHOWN = 20


def require_timed(case: Case, path: Path) -> None:
    """Refuses limits of *case* for batch sizes that nothing is timed at: they would hold whatever happens.

    Args:
        case: The case.
        path: Its suite file.

    Raises:
        SuiteError: There is one.
    """
    if case.latency is None or Check.LATENCY not in case.checks:
        return
    sizes = case.latency.batches
    for gate in BY_BATCH:
        limits = getattr(case.gates, gate)
        for batch in limits if isinstance(limits, Mapping) else ():
            if batch not in sizes:
                raise SuiteError(
                    f"models.{case.name}.gates.{gate} has a limit for a batch size that is not timed",
                    where=path, expected=f"one of batches = {list(sizes)} in [models.{case.name}.latency]",
                    found=f"batch {batch}",
                )  # fmt: skip


def changed_gates(
    gates: Gates, changes: Mapping[str, Any], where: str, known: Collection[str] = GATES
) -> Gates:
    """The *gates* with *changes*, which are checked as the table ``gates`` of a suite file is.

    Args:
        gates: The gates.
        changes: New values by name; ``classes`` (`ClassGates` by name or pattern) come before those that are
            there.
        where: What messages name.
        known: The gates that may be changed.

    Raises:
        SuiteError: A name is none of them, or its value cannot be used.
    """
    plain = dict(changes)
    table = Table(Path(where), "", plain)
    if "classes" in plain and "classes" in known:
        if not isinstance(plain["classes"], Mapping):
            raise table.wrong("classes", "limits by class name or pattern")
        plain["classes"] = {
            entry: {limit: value for limit, value in asdict(own).items() if value is not None}
            if isinstance(own, ClassGates)
            else own
            for entry, own in plain["classes"].items()
        }
    return read_gates(table, gates, known)
