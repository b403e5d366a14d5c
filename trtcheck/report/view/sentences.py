"""Sentences above the pages: the worst finding of a run or an engine, and what was checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from trtcheck import names
from trtcheck.case import DropTest
from trtcheck.report.view.findings import clauses, is_strict
from trtcheck.report.view.formats import backend_name, grouped, number_of, shown_engine
from trtcheck.report.view.records import Pair, Record, pair, worst_first
from trtcheck.report.view.statuses import STATUSES

HEADLINE_CLAUSE = 200
"""Characters of a finding that the headline quotes at most."""

_VERBS = {
    "error": ("cannot be judged", "cannot be judged"),
    "fail": ("fails", "fail"),
    "inconclusive": ("is inconclusive", "are inconclusive"),
    "pass": ("passes", "pass"),
    "skipped": ("was skipped", "were skipped"),
}


def headline(document: Record) -> str:
    """The whole run in one sentence: the worst finding first, or what was checked."""
    items = worst_first(document["items"])
    if not items:
        return "Nothing was tested: the run held no checks"
    worst = items[0]["verdict"]
    if worst == "skipped":
        return f"Nothing was tested: {_shortened(items[0]['message'])}"
    alone = len({item["model"] for item in items}) == 1
    verdicts: dict[Pair, str] = {}
    for item in items:
        verdicts.setdefault(pair(item), item["verdict"])
    if worst == "pass":
        passed = [item for item in items if item["verdict"] == "pass"]
        # pytest exits with 0 where it came to its end, and with 1 where something else failed.
        whole = document["run"].get("exitstatus", 0) in (0, 1)
        told = "Everything passes" if whole else "Interrupted, and what was checked until then passes"
        parts = [f"{told}: {_extent(passed)}", *_unsure(passed), *_others(verdicts, "skipped")]
        return "; ".join([*parts, *_pace(items, alone=alone)])
    del verdicts[pair(items[0])]
    others = [
        part
        for verdict in STATUSES
        for part in _others(verdicts, verdict, more=verdict == worst, alone=alone)
    ]
    return "; ".join([_said(items[0], alone=alone), *others, *_pace(items, alone=alone)])


def engine_headline(engine: Record, items: Sequence[Record]) -> str:
    """One engine in one sentence; *items* are its own, worst first."""
    subject = _subject(pair(engine))
    if not items:
        return f"{subject} was evaluated, but not judged"
    if items[0]["verdict"] == "pass":
        passed = sum(item["verdict"] == "pass" for item in items)
        return f"{subject} passes {number_of(passed, 'check', 'checks')}"
    return _said(items[0])


def summary(document: Record) -> str:
    """Extent and tally of the run, unless the headline told them, and where it was made."""
    items = document["items"]
    tally = Counter(item["verdict"] for item in items)
    parts = []
    if len(tally) > 1:
        counts = ", ".join(f"{grouped(tally[word])} {word}" for word in STATUSES if tally[word])
        parts.append(f"{_extent(items)}: {counts}")
    jobs = document.get("jobs") or ()
    if jobs:
        parts.append(number_of(len(jobs), "job", "jobs"))
    backend = (document["environment"] or {}).get("backend") or {}
    if backend and not jobs:  # each job has its own, in a table
        device = f" on {backend['device']}" if backend.get("device") else ""
        parts.append(f"{backend_name(backend)}{device}")
    kinds = sorted({item["numerics"] for item in items if item["numerics"]})
    if kinds:
        parts.append(" and ".join(kinds))
    return " · ".join(parts)


def _unsure(items: Sequence[Record]) -> list[str]:
    """What is to be said of classes that are inconclusive in items that pass."""
    found = [
        f"{item['check']} of '{row['name']}' is inconclusive in {_subject(pair(item))}"
        for item in items
        for row in item.get("classes") or ()
        if row["verdict"] == "inconclusive"
    ]
    return (
        [_shortened(found[0]) + (f", and {len(found) - 1} more" if len(found) > 1 else "")] if found else []
    )


def _pace(items: Sequence[Record], *, alone: bool) -> list[str]:
    """What is to be said of times beside the worst finding: what became slower, or that nothing did."""
    compared = [(item, rows) for item in items if (rows := _compared(item))]
    slower = [
        item for item, rows in compared if "fail" in {row["verdict"] for row in rows} and item is not items[0]
    ]
    if slower:
        first, further = slower[0], len(slower) - 1
        more = f", and {further} more" if further else ""
        return [f"{_subject(pair(first), alone=alone)} is slower at batch {first['batch']}{more}"]
    timed = [item for item in items if item.get("latency")]
    warned = any("is slower than" in text for item in items for text in item["warnings"])
    verdicts = {row["verdict"] for _, rows in compared for row in rows}
    settled = len(compared) == len(timed) and verdicts == {"pass"}
    return ["nothing slower"] if settled and not warned else []


def _compared(item: Record) -> list[Record]:
    """What counts of an item's times that were held against others; nothing where the machine was unfit."""
    if (item.get("health") or {}).get("reasons"):
        return []
    rows: Sequence[Record] = item.get("judged") or ()
    return [
        row
        for row in rows
        if row["rule"] != "none"
        and row["what"] != "faster_than"
        and (row["gated"] or row["verdict"] == "fail")
    ]


def _said(item: Record, *, alone: bool = False) -> str:
    """One finding in one sentence, the first of its clauses."""
    singular, _ = _VERBS[item["verdict"]]
    strict = " and fails here" if is_strict(item) else ""
    return f"{_subject(pair(item), alone=alone)} {singular}{strict}: {_first_clause(item)}"


def _first_clause(item: Record) -> str:
    """The first finding of an item, and how many more classes share it."""
    clause = clauses(item)[0]
    approved = clause.startswith("against the approved baseline")
    judged = (item.get("baseline") or {}) if approved else item
    failed = [row for row in judged.get("classes") or () if row["verdict"] == "fail"]
    others = f", and {number_of(len(failed) - 1, 'more class', 'more classes')}" if len(failed) > 1 else ""
    fallen = [row for row in failed if clause.find(f"{item['check']} of '{row['name']}' fell") >= 0]
    if not fallen:
        return _shortened(clause) + others
    # The counts behind the p-value stand below; the headline is read in a chat window, too.
    row = fallen[0]
    p = f", {names.p_value(row['p_adjusted'])}" if judged["test"] == DropTest.PAIRED.value else ""
    support = f" (support {grouped(row['support'])}{p})"
    against = "against the approved baseline, " if approved else ""
    before, after = (names.fraction(row[side]) for side in ("before", "after"))
    return f"{against}{item['check']} of '{row['name']}' fell from {before} to {after}{support}{others}"


def _shortened(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= HEADLINE_CLAUSE else f"{line[: HEADLINE_CLAUSE - 1].rstrip()}…"


def _others(
    verdicts: Mapping[Pair, str], verdict: str, *, more: bool = False, alone: bool = False
) -> list[str]:
    """What is to be said of the engines of one *verdict*: by name where they are few."""
    pairs = [told for told, found in verdicts.items() if found == verdict]
    singular, plural = _VERBS[verdict]
    if not pairs:
        return []
    if len(pairs) == 1:
        return [f"{_subject(pairs[0], alone=alone)} {singular}"]
    engines = [shown_engine(engine) for _, engine in pairs if engine is not None]
    if len(pairs) <= 3 and len(engines) == len(pairs) and len({model for model, _ in pairs}) == 1:
        return [f"{', '.join(engines[:-1])} and {engines[-1]} {plural}"]
    return [f"{len(pairs)} {'more ' if more else ''}{'engines' if engines else 'models'} {plural}"]


def _subject(told: Pair, *, alone: bool = False) -> str:
    """Engine and model; the engine only where a report has but one model."""
    model, engine = told
    if engine is None:
        return model
    return shown_engine(engine) if alone else f"{shown_engine(engine)} of {model}"


def _extent(items: Sequence[Record]) -> str:
    """How much was checked: models (a single one by name), engines and checks."""
    models = {item["model"] for item in items}
    engines = {pair(item) for item in items if item["engine"] is not None}
    return ", ".join(
        (
            *(models if len(models) == 1 else (number_of(len(models), "model", "models"),)),
            number_of(len(engines), "engine", "engines"),
            number_of(len(items), "check", "checks"),
        )
    )
