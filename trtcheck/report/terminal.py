"""The terminal summary of a report's document."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtcheck.case import Check
from trtcheck.names import fraction, points, significant
from trtcheck.report import false_alarm, speeds
from trtcheck.report.reasons import first_of, worst_first
from trtcheck.report.view import headline

_COLORS = {"fail": "red", "error": "red", "inconclusive": "yellow", "pass": "green", "skipped": "yellow"}
_ALARMING = ("error", "fail")
_OF_SOME_ENGINES = (Check.CALIBRATION, Check.BATCH_INVARIANCE, Check.LATENCY)
_OF_EVERY_ENGINE = {check.value for check in Check if check not in _OF_SOME_ENGINES}


@dataclass(frozen=True)
class Line:
    """One line and the colour it may have."""

    text: str
    color: str | None = None


def summary(document: Mapping[str, Any]) -> Iterator[Line]:
    """Lines of the summary: regressions, what is inconclusive, warnings, one line an engine, the verdict."""
    items = document["items"]
    overflows = {(each["model"], each["engine"]): each.get("overflow") for each in document["engines"]}
    seen: set[tuple[str | None, ...]] = set()
    for verdict in (*_ALARMING, "inconclusive"):
        for item in items:
            # One broken data set breaks every item of every engine in the same way: it is told once.
            own = (item["engine"], item["check"]) if verdict != "error" else ()
            same = (item["model"], item["message"], *own)
            if item["verdict"] != verdict or same in seen:
                continue
            seen.add(same)
            strict = " fails here" if verdict == "inconclusive" and item["fails"] else ""
            overflow = overflows.get((item["model"], item["engine"]))
            reasons = worst_first(item["message"], overflow)
            reason = ";\n".join(first_of(reasons, _TOLD + (reasons[0] == overflow)))
            yield from _told(f"{verdict.upper()} {item['nodeid']}{strict}", reason, _COLORS[verdict])
    yield from _warnings(items)
    for engine in document["engines"]:
        if engine["engine"]:
            pair = (engine["model"], engine["engine"])
            its = [item for item in items if (item["model"], item["engine"]) == pair]
            yield Line(_engine(engine, its), _COLORS[engine["verdict"]])
    yield from _unapproved(document["engines"], items, document["run"]["command"])
    changed = [e for e in document["engines"] if e["baseline"] and "changed" in e["baseline"]["message"]]
    yield from (
        Line(f"{e['model']}[{e['engine']}]: {e['baseline']['message']}")
        for e in changed
        if e["baseline"]["status"] == "compared"
    )
    chance = false_alarm.sentence(document["false_alarm"])
    if chance:
        yield Line(chance)
    yield Line(headline(document), _COLORS[document["verdict"]])


def _told(subject: str, text: str, color: str) -> Iterator[Line]:
    head, *rest = text.splitlines() or [""]
    yield Line(f"{subject}: {head}", color)
    yield from (Line(f"    {line}") for line in rest)


def _warnings(items: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """One line a warning; what is said of several engines of one model is said once."""
    first: dict[tuple[str, str], str] = {}
    for item in items:
        for text in item["warnings"]:
            first.setdefault((item["model"], text), item["nodeid"])
    for (_model, text), nodeid in first.items():
        yield from _told(f"WARNING {nodeid}", text, "yellow")


def _untold(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Classes that are inconclusive in one of *items* that is not, in the order of the checks."""
    names = [
        f"{item['check']} of '{row['name']}'"
        for item in items
        if item["verdict"] == "pass"
        for row in item.get("classes", ())
        if row["verdict"] == "inconclusive"
    ]
    return names[:_TOLD] + ([f"{len(names) - _TOLD} more"] if len(names) > _TOLD else [])


_TOLD = 3


def _unapproved(
    engines: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]], command: str
) -> Iterator[Line]:
    """One line on all engines that could be approved; one with an item that failed could not."""
    failed = {(item["model"], item["engine"]) for item in items if item["fails"]}
    missing = [
        engine
        for engine in engines
        if engine["baseline"]
        and engine["baseline"]["status"] == "missing"
        and (engine["model"], engine["engine"]) not in failed
    ]
    if missing and not _is_part(command):
        approve = " ".join(part for part in ("pytest", command, "--trt-update-baselines") if part)
        every = ", ".join(f"{engine['model']}[{engine['engine']}]" for engine in missing)
        yield Line(f"no baseline yet: {every}; approve: {approve}")


def _is_part(command: str) -> bool:
    """Whether *command* runs some of the checks only, which approves nothing."""
    chosen = ("-k", "-m", "--lf", "--last-failed", "--deselect")
    return any("::" in word or word.startswith(chosen) for word in shlex.split(command))


def _engine(engine: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    """``PASS fashion[int8] emulated: accuracy .912 -> .909, largest recall drop …, 103 of 10000 …``.

    Args:
        engine: The engine.
        items: Its own items.
    """
    parts = []
    if engine["accuracy"] is not None:
        accuracy = engine["accuracy"]
        parts.append(f"accuracy {fraction(accuracy['before'])} -> {fraction(accuracy['after'])}")
        parts.append(_worst_class(engine["classes"]))
    if engine["flips"] is not None:
        flips = engine["flips"]
        parts.append(
            f"{flips['total']} of {engine['images']} answers changed "
            f"({flips['broken']} broken, {flips['fixed']} fixed)"
        )
    elif engine["outputs"]:
        parts.append(_output_error(engine["outputs"]))
    parts += _times(speeds.timed(items))
    untold = _untold(items)
    numerics = f" {engine['numerics']}" if engine["numerics"] else ""
    rest = (engine["lowered"] or {}).get("rest")
    how = f" (rest {rest})" if rest else ""
    if untold:
        parts.append(f"inconclusive: {', '.join(untold)}")
    if engine["baseline"] and engine["baseline"]["status"] == "compared":
        parts.append("baseline compared")
    if engine["beside"]:
        parts.append(f"{engine['beside']['backend']} built it too")
    if engine["checks"] and not engine["checks"].keys() >= _OF_EVERY_ENGINE:
        parts.append(f"checked: {', '.join(engine['checks'])}")
    detail = f": {', '.join(part for part in parts if part)}" if parts else ""
    return f"{engine['verdict'].upper():<12} {engine['model']}[{engine['engine']}]{how}{numerics}{detail}"


def _times(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """``b1 0.712 ms (1.83x the reference)``, …, and the throughput of the last of them, with its batch."""
    told = []
    for item in items:
        faster = item["speedups"].get(speeds.REFERENCE)
        beside = "" if faster is None else f" ({speeds.times(faster['ratio'])}x the reference)"
        told.append(f"b{item['batch']} {significant(item['latency']['median_ms'], 3)} ms{beside}")
    if items:
        told.append(f"{significant(items[-1]['throughput'], 3)} images/s at b{items[-1]['batch']}")
    return told


def _output_error(rows: Sequence[Mapping[str, Any]]) -> str:
    bad = sum(row["nan"] + row["inf"] for row in rows)
    if bad:
        return f"{bad} of {sum(row['elements'] for row in rows)} output values NaN or infinite"
    errors = [row["max_abs"] for row in rows if row["max_abs"] is not None]
    return f"largest output error {max(errors):.3g}" if errors else "no output error known"


def _worst_class(classes: list[Mapping[str, Any]]) -> str:
    drops = [
        (row["before"]["recall"] - row["after"]["recall"], row["support"], row["name"])
        for row in classes
        if row["before"]["recall"] is not None and row["after"]["recall"] is not None
    ]
    if not drops:
        return ""
    drop, _support, name = max(drops)
    return f"largest recall drop {points(drop)} ('{name}')" if drop > 0 else "no class lost recall"
