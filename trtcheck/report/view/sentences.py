"""Sentences above the pages: the worst finding of a run or an engine, and what was checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from trtcheck.report.view.findings import clauses, is_strict
from trtcheck.report.view.formats import backend_name, grouped, number_of, shown_engine
from trtcheck.report.view.records import Pair, Record, pair, worst_first
from trtcheck.report.view.statuses import STATUSES

HEADLINE_CLAUSE = 280
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
    verdicts: dict[Pair, str] = {}
    for item in items:
        verdicts.setdefault(pair(item), item["verdict"])
    if worst == "pass":
        passed = [item for item in items if item["verdict"] == "pass"]
        parts = [f"Everything passes: {_extent(passed)}", *_unsure(passed), *_others(verdicts, "skipped")]
        return "; ".join(parts)
    del verdicts[pair(items[0])]
    others = [part for verdict in STATUSES for part in _others(verdicts, verdict, more=verdict == worst)]
    return "; ".join([_said(items[0]), *others])


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
    backend = (document["environment"] or {}).get("backend") or {}
    if backend:
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


def _said(item: Record) -> str:
    """One finding in one sentence, the first of its clauses."""
    singular, _ = _VERBS[item["verdict"]]
    strict = " and fails here" if is_strict(item) else ""
    return f"{_subject(pair(item))} {singular}{strict}: {_first_clause(item)}"


def _first_clause(item: Record) -> str:
    """The first finding of an item, and how many more classes share it."""
    clause = clauses(item)[0]
    judged = item["baseline"] if clause.startswith("against the approved baseline") else item
    failed = sum(row["verdict"] == "fail" for row in judged.get("classes") or ())
    others = f", and {number_of(failed - 1, 'more class', 'more classes')}" if failed > 1 else ""
    return _shortened(clause) + others


def _shortened(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= HEADLINE_CLAUSE else f"{line[: HEADLINE_CLAUSE - 1].rstrip()}…"


def _others(verdicts: Mapping[Pair, str], verdict: str, *, more: bool = False) -> list[str]:
    """What is to be said of the engines of one *verdict*: by name where they are few."""
    pairs = [told for told, found in verdicts.items() if found == verdict]
    singular, plural = _VERBS[verdict]
    if not pairs:
        return []
    if len(pairs) == 1:
        return [f"{_subject(pairs[0])} {singular}"]
    engines = [shown_engine(engine) for _, engine in pairs if engine is not None]
    if len(pairs) <= 3 and len(engines) == len(pairs) and len({model for model, _ in pairs}) == 1:
        return [f"{', '.join(engines[:-1])} and {engines[-1]} {plural}"]
    return [f"{len(pairs)} {'more ' if more else ''}{'engines' if engines else 'models'} {plural}"]


def _subject(told: Pair) -> str:
    model, engine = told
    return model if engine is None else f"{shown_engine(engine)} of {model}"


def _extent(items: Sequence[Record]) -> str:
    """How much was checked: models, engines and checks."""
    models = {item["model"] for item in items}
    engines = {pair(item) for item in items if item["engine"] is not None}
    return ", ".join(
        (
            number_of(len(models), "model", "models"),
            number_of(len(engines), "engine", "engines"),
            number_of(len(items), "check", "checks"),
        )
    )
