"""The limits of a model: the table ``gates`` of a suite file, and what marks and fixtures change of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from trtcheck import given
from trtcheck.case import ClassGates, DropTest, Gates, OnFinding
from trtcheck.errors import SuiteError
from trtcheck.suite.table import Table

Reader = tuple[str, Callable[[Any], Any]]
"""What is expected, in words, and what becomes of a value: None where it is wrong."""


def _member(kind: type[StrEnum]) -> Reader:
    return " or ".join(f'"{known}"' for known in kind), partial(given.member, kind)


_SHARE: Reader = (given.SHARE, given.share)
_AT_LEAST_ZERO: Reader = (given.AT_LEAST_ZERO, given.at_least_zero)
_READERS: Mapping[str, Reader] = {
    "recall_drop": _SHARE,
    "precision_drop": _SHARE,
    "accuracy_drop": _SHARE,
    "top_k_accuracy_drop": _SHARE,
    "alpha": (given.RATE, given.rate),
    "test": _member(DropTest),
    "key_classes": ("a list of strings", given.texts),
    "pooled_drop": _SHARE,
    "must_see": _SHARE,
    "recall_floor": _SHARE,
    "precision_floor": _SHARE,
    "accuracy_floor": _SHARE,
    "accuracy_target": _SHARE,
    "churn": _SHARE,
    "max_abs": _AT_LEAST_ZERO,
    "max_rel": _AT_LEAST_ZERO,
    "relative_l2": _AT_LEAST_ZERO,
    "cosine": _SHARE,
    "kl": _AT_LEAST_ZERO,
    "top1_agreement": _SHARE,
    "engine_mb": _AT_LEAST_ZERO,
    "memory_mb": _AT_LEAST_ZERO,
    "batch_tolerance": _AT_LEAST_ZERO,
    "saturation": _SHARE,
    "on_calibration": _member(OnFinding),
    "on_inconclusive": _member(OnFinding),
}
"""Every gate but ``classes``, which is a table of tables."""


def read_gates(table: Table, default: Gates) -> Gates:
    """The gates of *table*; what it does not name is as in *default*.

    Class limits of *table* come before those of *default*: of several patterns that fit a class, the first
    counts. An entry that both have keeps the limits that only *default* sets.

    Raises:
        SuiteError: A key is unknown or its value cannot be used.
    """
    values = {name: table.get(name, getattr(default, name), *reader) for name, reader in _READERS.items()}
    own: dict[str, ClassGates] = {}
    classes = table.table("classes")
    if classes is not None:
        for entry in classes.values:
            known = default.classes.get(entry, ClassGates())
            own[entry] = _class_gates(classes.required_table(entry), known)
    table.finish()
    return replace(default, **values, classes={**own, **_others(default.classes, own)})


def _class_gates(table: Table, default: ClassGates) -> ClassGates:
    limits = {f.name: table.get(f.name, getattr(default, f.name), *_SHARE) for f in fields(ClassGates)}
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


def changed_gates(gates: Gates, changes: Mapping[str, Any], where: str) -> Gates:
    """The *gates* with *changes*, which are checked as the table ``gates`` of a suite file is.

    Args:
        gates: The gates.
        changes: New values by name; ``classes`` (`ClassGates` by name or pattern) come before those that are
            there.
        where: What messages name.

    Raises:
        SuiteError: A name is no gate, or its value cannot be used.
    """
    plain = dict(changes)
    if isinstance(plain.get("classes"), Mapping):
        plain["classes"] = {
            entry: {limit: value for limit, value in asdict(own).items() if value is not None}
            if isinstance(own, ClassGates)
            else own
            for entry, own in plain["classes"].items()
        }
    return read_gates(Table(Path(where), "", plain), gates)
