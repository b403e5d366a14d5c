"""What all tests of a session together can do by chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trtcheck.case import Check, DropTest
from trtcheck.names import percent


def bound(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The chance that a session of harmless changes fails, bounded by the sum of its tests' levels.

    Args:
        items: Records of `trtcheck.report.document.item`.

    Returns:
        ``tests``, their common ``alpha`` (None where it differs or there is no test), ``bound``, and in
        ``unbounded`` the items whose rule promises nothing: a plain threshold, or proof of harmlessness.
    """
    levels = [level for item in items for level in _levels(item)]
    return {
        "tests": len(levels),
        "alpha": levels[0] if len(set(levels)) == 1 else None,
        "bound": min(sum(levels), 1.0),
        "unbounded": sum(item.get("test") in _UNBOUNDED for item in items),
    }


_UNBOUNDED = (DropTest.THRESHOLD.value, DropTest.PROVEN.value)


def _levels(item: Mapping[str, Any]) -> Iterable[float]:
    """The levels of an item's tests: against reference and baseline, and of gated top-k and churn."""
    if item["check"] == Check.LATENCY.value:
        return _latency_levels(item)
    top_k, churn = item.get("top_k") or {}, item.get("churn") or {}
    judged = (
        item,
        item.get("baseline") or {},
        top_k if top_k.get("gated") else {},
        churn if churn.get("limit") is not None else {},
    )
    return (found["alpha"] for found in judged if found.get("test") == DropTest.PAIRED.value)


def _latency_levels(item: Mapping[str, Any]) -> Iterable[float]:
    """The levels of what was compared with something, and of limits, all looks together."""
    looks = item.get("looks") or [[0, 1.0]]
    share = looks[-1][1]
    levels = [
        row["alpha"]
        for row in (*item.get("judged", ()), *item.get("limits", ()))
        if row["alpha"] is not None and row["low"] is not None  # without bounds nothing can fail
    ]
    # Twelve digits: a level is the same whatever share of it was spent at the last look.
    return (float(f"{level / share:.12g}") for level in levels)


def sentence(found: Mapping[str, Any]) -> str:
    """What `bound` *found*, in words; empty where nothing was tested."""
    if not found["tests"]:
        number = "1 item" if found["unbounded"] == 1 else f"{found['unbounded']} items"
        return f"{number} judged without a bound on false alarms" if found["unbounded"] else ""
    tests = "1 test" if found["tests"] == 1 else f"{found['tests']} tests"
    level = "" if found["alpha"] is None else f" at {percent(found['alpha'])}"
    items = "1 item" if found["unbounded"] == 1 else f"{found['unbounded']} items"
    others = f"; {items} judged without such a bound" if found["unbounded"] else ""
    told = f"at most {percent(found['bound'], up=True)} ({tests}{level}{others})"
    return f"chance that harmless changes fail this session: {told}"
