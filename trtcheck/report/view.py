"""What the pages show: the report's document as ordered, formatted text, without any HTML."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trtcheck.case import Check, Precision
from trtcheck.digests import short
from trtcheck.names import fraction, listed, p_value, points

Record = Mapping[str, Any]
Pair = tuple[str, str | None]
"""A model and an engine; None where a model was not tested at all."""

SHOWN_ROWS = 50
"""Rows of a table before the rest is folded."""
SHOWN_FLIPS = 50
SHOWN_CONFUSIONS = 10
"""Confusions listed beside a matrix; without a matrix all of them are."""
MATRIX_CLASSES = 25
"""Confusion matrices of more classes than this are listed instead of drawn."""
SHOWN_CLAUSES = 12
"""Clauses of a message before the rest is folded (on the index: left to the engine's page)."""
HEADLINE_CLAUSE = 280
"""Characters of a finding that the headline quotes at most."""
HEAT_LEVELS = 10

_MINUS = "\N{MINUS SIGN}"
_PRECISIONS = {precision.value for precision in Precision}
_CHECKS = [check.value for check in Check]
_LEADING = ("build", "recall", "accuracy", "precision", "outputs")
"""Which of several failed checks of one engine tells most."""


@dataclass(frozen=True)
class Status:
    """A verdict as word and shape; *rank* orders worst first."""

    word: str
    shape: str
    rank: int


STATUSES: Mapping[str, Status] = {
    word: Status(word, shape, rank)
    for rank, (word, shape) in enumerate(
        (("error", "!"), ("fail", "✗"), ("inconclusive", "?"), ("pass", "✓"), ("skipped", "\N{EN DASH}"))
    )
}


@dataclass(frozen=True)
class Fact:
    """A term and what there is to say of it; *code* for what people copy."""

    term: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table; *text* columns are aligned left, *hint* explains the heading."""

    name: str
    text: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table: its heading and its cells, None where a figure is undefined."""

    name: str
    cells: tuple[Status | str | None, ...]
    status: Status | None = None


@dataclass(frozen=True)
class Table:
    """A table, worst row first; *folded* are the rows that are opened on demand.

    Attributes:
        anchor: Its id on the page.
        caption: What it shows.
        head: Heading of the column of row headings.
        columns: The other columns.
        rows: Rows always shown.
        folded: The rest.
        unit: What a row is, in the plural.
    """

    anchor: str
    caption: str
    head: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    folded: tuple[Row, ...] = ()
    unit: str = "rows"


@dataclass(frozen=True)
class Finding:
    """The verdict and reason of one item, or of several of one engine that have both in common.

    Attributes:
        anchors: The items' ids on the engine's page.
        status: The verdict.
        model: Its model.
        engine: Its engine as people write it, or None.
        checks: The items' checks.
        message: The reason, one clause a line.
        more: What does not belong on a first look, or "".
        hidden: How many clauses *more* holds.
        nodeids: pytest's names of the items.
        notes: What a reader should know.
        page: The engine's page, or None.
        detail: Id of the figures on that page, or None.
    """

    anchors: tuple[str, ...]
    status: Status
    model: str
    engine: str | None
    checks: tuple[str, ...]
    message: str
    more: str
    hidden: int
    nodeids: tuple[str, ...]
    notes: tuple[str, ...]
    page: str | None
    detail: str | None


@dataclass(frozen=True)
class Cell:
    """A check's verdict in the table of all engines, with the place where it is explained."""

    status: Status
    href: str


@dataclass(frozen=True)
class EngineRow:
    """One engine in the table of all engines; *drop* is its largest fall of a class's recall in points."""

    engine: str
    page: str
    status: Status
    cells: tuple[Cell | None, ...]
    numerics: str | None
    before: str | None
    after: str | None
    drop: str | None
    dropped: str | None
    flips: str | None


@dataclass(frozen=True)
class ModelView:
    """A model: its verdict, its engines (worst first) and what it was tested with."""

    anchor: str
    name: str
    status: Status
    rows: tuple[EngineRow, ...]
    facts: tuple[Fact, ...]
    gates: tuple[Fact, ...]


@dataclass(frozen=True)
class IndexView:
    """The first page."""

    headline: str
    status: Status
    summary: str
    checks: tuple[str, ...]
    models: tuple[ModelView, ...]
    problems: tuple[Finding, ...]
    unsure: tuple[Finding, ...]
    skipped: tuple[Finding, ...]
    environment: tuple[Fact, ...]
    run: tuple[Fact, ...]


@dataclass(frozen=True)
class Count:
    """A field of a confusion matrix; *heat* from 0 to 9 is its share of the row, *hit* the right answers."""

    text: str
    heat: int
    hit: bool


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: rows are the truth, columns the answers."""

    caption: str
    answers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Count, ...]], ...]


@dataclass(frozen=True)
class EngineView:
    """The page of one engine; what was not measured is empty or None."""

    page: str
    model: str
    engine: str
    status: Status
    headline: str
    numerics: str | None
    facts: tuple[Fact, ...]
    overflow: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    classes: tuple[Table, ...]
    accuracy: tuple[Table, ...]
    matrices: tuple[Matrix, ...]
    confusions: Table | None
    flips: tuple[Fact, ...]
    flipped: Table | None
    outputs: Table | None
    agreement: tuple[Fact, ...]
    lowered: tuple[Fact, ...]
    kept: Table | None
    baseline: tuple[Fact, ...]
    compared: tuple[Table, ...]


def index(document: Record) -> IndexView:
    """The first page of *document*."""
    items = _worst_first(document["items"])
    pages = page_names(document)
    checks = tuple(dict.fromkeys([*_CHECKS, *(item["check"] for item in items)]))
    models = sorted(document["models"], key=lambda model: (STATUSES[model["verdict"]].rank, model["name"]))
    return IndexView(
        headline=headline(document),
        status=STATUSES[document["verdict"]],
        summary=_summary(document),
        checks=checks,
        models=tuple(
            _model(model, f"model-{number}", document, pages, checks)
            for number, model in enumerate(models, start=1)
        ),
        problems=_findings([item for item in items if item["verdict"] in ("error", "fail")], pages),
        unsure=_findings([item for item in items if item["verdict"] == "inconclusive"], pages),
        skipped=_findings([item for item in items if item["verdict"] == "skipped"], pages),
        environment=_environment(document.get("environment") or {}),
        run=_run(document.get("run") or {}),
    )


def engines(document: Record) -> tuple[EngineView, ...]:
    """The pages of the engines of *document*."""
    pages = page_names(document)
    return tuple(_engine(engine, _own(document, engine), pages) for engine in document["engines"])


def page_names(document: Record) -> dict[Pair, str]:
    """File name of every engine's page by model and engine: unique, only ``a-z``, ``0-9`` and ``-``."""
    names: dict[Pair, str] = {}
    taken: set[str] = set()
    for engine in document["engines"]:
        pair = (engine["model"], engine["engine"])
        # Single hyphens inside the parts and a double one between them keep a-b + c from a + b-c.
        stem = name = "--".join(_page_part(part) for part in pair)
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        names[pair] = f"{name}.html"
    return names


def _page_part(name: str) -> str:
    clean = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-")
    if clean == name:
        return clean
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{clean}-{digest}" if clean else digest


def headline(document: Record) -> str:
    """The whole run in one sentence: the worst finding first, or what was checked."""
    items = _worst_first(document["items"])
    worst = items[0]["verdict"] if items else "skipped"
    verdicts: dict[Pair, str] = {}
    for item in items:
        verdicts.setdefault(_pair(item), item["verdict"])
    if worst == "skipped":
        return f"Nothing was tested: {_shortened(items[0]['message']) if items else 'the run held no checks'}"
    if worst == "pass":
        return "; ".join([f"Everything passes: {_extent(items, 'pass')}", *_others(verdicts, "skipped")])
    told = _pair(items[0])
    rest = {pair: verdict for pair, verdict in verdicts.items() if pair != told}
    others = [part for verdict in STATUSES for part in _others(rest, verdict, more=verdict == worst)]
    return "; ".join([_said(items[0]), *others])


def _engine_headline(engine: Record, items: Sequence[Record]) -> str:
    """One engine in one sentence."""
    subject = _of(engine["model"], engine["engine"])
    if not items:
        return f"{subject} was evaluated, but not judged"
    if items[0]["verdict"] == "pass":
        passed = sum(item["verdict"] == "pass" for item in items)
        return f"{subject} passes {_number_of(passed, 'check', 'checks')}"
    return _said(items[0])


def _said(item: Record) -> str:
    """One finding in one sentence, the first of its clauses."""
    verb = _VERBS[item["verdict"]][0]
    return f"{_of(*_pair(item))} {verb}: {_first_clause(item)}"


_VERBS = {
    "error": ("cannot be judged", "cannot be judged"),
    "fail": ("fails", "fail"),
    "inconclusive": ("is inconclusive", "are inconclusive"),
    "pass": ("passes", "pass"),
    "skipped": ("was skipped", "were skipped"),
}


def _others(verdicts: Mapping[Pair, str], verdict: str, *, more: bool = False) -> list[str]:
    """What is to be said of the engines of one *verdict*: by name where they are few."""
    pairs = [pair for pair, found in verdicts.items() if found == verdict]
    singular, plural = _VERBS[verdict]
    if not pairs:
        return []
    if len(pairs) == 1:
        return [f"{_of(*pairs[0])} {singular}"]
    engines = [shown_engine(engine) for _, engine in pairs if engine is not None]
    if len(pairs) <= 3 and len(engines) == len(pairs) and len({model for model, _ in pairs}) == 1:
        return [f"{', '.join(engines[:-1])} and {engines[-1]} {plural}"]
    return [f"{len(pairs)} {'more ' if more else ''}{'engines' if engines else 'models'} {plural}"]


def _first_clause(item: Record) -> str:
    """The first finding of an item, and how many more classes share it."""
    clause = _clauses(item["message"])[0]
    judged = item["baseline"] if clause.startswith("against the approved baseline") else item
    failed = sum(row["verdict"] == "fail" for row in judged.get("classes") or ())
    others = f", and {_number_of(failed - 1, 'more class', 'more classes')}" if failed > 1 else ""
    return _shortened(clause) + others


def _shortened(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= HEADLINE_CLAUSE else f"{line[: HEADLINE_CLAUSE - 1].rstrip()}…"


def _clauses(message: str) -> list[str]:
    return message.split("; ")


def _number_of(count: int, one: str, many: str) -> str:
    return f"{_count(count)} {one if count == 1 else many}"


def _extent(every: Sequence[Record], verdict: str | None = None) -> str:
    """How much was checked: models, engines and checks, all of them or those of one *verdict*."""
    items = [item for item in every if verdict is None or item["verdict"] == verdict]
    return ", ".join(
        (
            _number_of(len({item["model"] for item in items}), "model", "models"),
            _number_of(
                len({_pair(item) for item in items if item["engine"] is not None}), "engine", "engines"
            ),
            _number_of(len(items), "check", "checks"),
        )
    )


def _summary(document: Record) -> str:
    """Extent and tally of the run, unless the headline told them, and where it was made."""
    tally = Counter(item["verdict"] for item in document["items"])
    parts = []
    if len(tally) > 1:
        counts = ", ".join(f"{_count(tally[word])} {word}" for word in STATUSES if tally[word])
        parts.append(f"{_extent(document['items'])}: {counts}")
    backend = (document.get("environment") or {}).get("backend") or {}
    if backend.get("name"):
        device = f" on {backend['device']}" if backend.get("device") else ""
        parts.append(f"{' '.join(filter(None, (backend['name'], backend.get('version'))))}{device}")
    kinds = sorted({item["numerics"] for item in document["items"] if item["numerics"]})
    if kinds:
        parts.append(" and ".join(kinds))
    return " · ".join(parts)


def shown_engine(engine: str) -> str:
    """The engine as people write it: precisions in capitals, files as they are named."""
    return engine.upper() if engine in _PRECISIONS else engine


def _of(model: str, engine: str | None) -> str:
    return model if engine is None else f"{shown_engine(engine)} of {model}"


def _pair(item: Record) -> Pair:
    return item["model"], item["engine"]


def _own(document: Record, engine: Record) -> list[Record]:
    return [item for item in document["items"] if _pair(item) == _pair(engine)]


def _worst_first(items: Iterable[Record]) -> list[Record]:
    """By verdict, then by the largest loss, then by what tells most."""

    def order(item: Record) -> tuple[Any, ...]:
        check = item["check"]
        telling = _LEADING.index(check) if check in _LEADING else len(_LEADING)
        return (
            STATUSES[item["verdict"]].rank,
            check != Check.BUILD.value,
            -_loss(item),
            telling,
            item["model"],
            item["engine"] or "",
            item["nodeid"],
        )

    return sorted(items, key=order)


def _loss(item: Record) -> float:
    """The largest fall that decided the item's verdict, as a fraction."""
    rows = [row for row in item.get("classes") or () if row["verdict"] == item["verdict"]]
    falls = [row["drop"] for row in rows if row.get("drop") is not None]
    if item.get("before") is not None and item.get("after") is not None:
        falls.append(item["before"] - item["after"])
    return max(falls, default=0.0)


def _findings(items: Sequence[Record], pages: Mapping[Pair, str]) -> tuple[Finding, ...]:
    """What the *items* found, in their order; an engine's checks that say the same are one finding."""
    number: Counter[tuple[Pair, str]] = Counter()
    groups: dict[tuple[Pair, str, str], list[tuple[Record, str]]] = {}
    for item in items:
        number[_pair(item), item["check"]] += 1
        again = number[_pair(item), item["check"]]
        anchor = _anchor(item["check"]) + (f"-{again}" if again > 1 else "")
        groups.setdefault((_pair(item), item["verdict"], item["message"]), []).append((item, anchor))
    return tuple(_finding(group, pages) for group in groups.values())


def _finding(group: Sequence[tuple[Record, str]], pages: Mapping[Pair, str]) -> Finding:
    first = group[0][0]
    ordered = sorted(
        group,
        key=lambda pair: _CHECKS.index(pair[0]["check"]) if pair[0]["check"] in _CHECKS else len(_CHECKS),
    )
    items = [item for item, _ in ordered]
    clauses = _clauses(first["message"])
    return Finding(
        anchors=tuple(anchor for _, anchor in ordered),
        status=STATUSES[first["verdict"]],
        model=first["model"],
        engine=None if first["engine"] is None else shown_engine(first["engine"]),
        checks=tuple(dict.fromkeys(item["check"] for item in items)),
        message=";\n".join(clauses[:SHOWN_CLAUSES]),
        more=";\n".join(clauses[SHOWN_CLAUSES:]),
        hidden=max(0, len(clauses) - SHOWN_CLAUSES),
        nodeids=tuple(item["nodeid"] for item in items),
        notes=tuple(dict.fromkeys(note for item in items for note in item.get("notes") or ())),
        page=pages.get(_pair(first)),
        detail=_detail(first),
    )


def _detail(item: Record) -> str | None:
    """The id of the figures that belong to an item."""
    for check, field, anchor in (
        ("build", "facts", "lowered"),
        ("outputs", "outputs", "outputs"),
        ("accuracy", "images", "accuracy-figures"),
        ("recall", "classes", "recall-classes"),
        ("precision", "classes", "precision-classes"),
    ):
        if item["check"] == check and item.get(field):
            return anchor
    return None


def _anchor(check: str) -> str:
    return f"check-{_page_part(check)}"


def _model(
    model: Record,
    anchor: str,
    document: Record,
    pages: Mapping[Pair, str],
    checks: Sequence[str],
) -> ModelView:
    rows = [
        _engine_row(engine, _own(document, engine), pages, checks)
        for engine in document["engines"]
        if engine["model"] == model["name"]
    ]
    return ModelView(
        anchor=anchor,
        name=model["name"],
        status=STATUSES[model["verdict"]],
        rows=tuple(sorted(rows, key=lambda row: (row.status.rank, row.engine))),
        facts=_model_facts(model),
        gates=_gates(model.get("gates") or {}),
    )


def _engine_row(
    engine: Record, items: Sequence[Record], pages: Mapping[Pair, str], checks: Sequence[str]
) -> EngineRow:
    page = pages[engine["model"], engine["engine"]]

    def cell(check: str) -> Cell | None:
        found = [STATUSES[item["verdict"]] for item in items if item["check"] == check]
        return Cell(min(found, key=lambda s: s.rank), f"{page}#{_anchor(check)}") if found else None

    accuracy = engine.get("accuracy") or {}
    fallen = [(fall, row["name"]) for row in engine.get("classes") or () if (fall := _fall(row)) is not None]
    drop, dropped = max(fallen, key=lambda pair: pair[0], default=(None, None))
    flips = engine.get("flips")
    return EngineRow(
        engine=shown_engine(engine["engine"]),
        page=page,
        status=STATUSES[engine["verdict"]],
        cells=tuple(cell(check) for check in checks),
        numerics=engine.get("numerics"),
        before=_share(accuracy.get("before")),
        after=_share(accuracy.get("after")),
        drop=_points(drop),
        dropped=dropped if drop is not None and drop > 0 else None,
        flips=None if flips is None else f"{_count(flips['total'])} of {_count(engine.get('images'))}",
    )


def _fall(row: Record) -> float | None:
    before, after = row["before"].get("recall"), row["after"].get("recall")
    return None if before is None or after is None else before - after


def _model_facts(model: Record) -> tuple[Fact, ...]:
    source, data = model.get("model") or {}, model.get("data") or {}
    calibration = model.get("calibration")
    facts = [
        _fact("file", source.get("path"), code=True),
        _fact("model digest", _digest(source.get("digest")), code=True),
        _fact("inputs", "; ".join(source.get("inputs") or ()), code=True),
        _fact("outputs", "; ".join(source.get("outputs") or ()), code=True),
        _fact("evaluation data", data.get("name"), code=True),
        _fact("images", _count(data.get("images"))),
        _fact("data digest", _digest(data.get("digest")), code=True),
        _fact("labels digest", _digest(data.get("labels_digest")), code=True),
        _fact("classes", _count(len(model.get("classes") or ()) or None)),
    ]
    if calibration is not None:
        facts += [
            _fact("calibration data", calibration.get("name"), code=True),
            _fact("calibration images", _count(calibration.get("images"))),
            _fact("calibration digest", _digest(calibration.get("digest")), code=True),
        ]
    return _known(facts)


def _gates(gates: Record) -> tuple[Fact, ...]:
    facts = [_fact(name, _limit(name, value)) for name, value in gates.items() if name != "classes"]
    of_classes = list((gates.get("classes") or {}).items())
    for name, own in of_classes[:SHOWN_CONFUSIONS]:
        limits = [f"{key} {_limit(key, value)}" for key, value in own.items() if value is not None]
        facts.append(_fact(f"class '{name}'", ", ".join(limits)))
    if len(of_classes) > SHOWN_CONFUSIONS:
        facts.append(
            _fact("further classes", f"{len(of_classes) - SHOWN_CONFUSIONS} with limits of their own")
        )
    return _known(facts)


def _limit(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return points(value) if name.endswith("_drop") else f"{value:g}"
    return str(value)


def _environment(environment: Record) -> tuple[Fact, ...]:
    backend = environment.get("backend") or {}
    packages = environment.get("packages") or {}
    name = " ".join(str(backend[key]) for key in ("name", "version") if backend.get(key))
    return _known(
        (
            _fact("backend", name),
            _fact("chosen because", backend.get("reason")),
            _fact("device", backend.get("device")),
            _fact("machine", environment.get("machine")),
            _fact("system", environment.get("system")),
            _fact("Python", environment.get("python")),
            *(_fact(package, str(version)) for package, version in sorted(packages.items())),
        )
    )


def _run(run: Record) -> tuple[Fact, ...]:
    seconds, command = run.get("seconds"), run.get("command")
    if isinstance(command, list | tuple):
        command = " ".join(str(part) for part in command)
    return _known(
        (
            _fact("started", run.get("started")),
            _fact("duration", None if seconds is None else f"{seconds:.1f} s"),
            _fact("trtcheck", run.get("version")),
            _fact("workers", _count(run.get("workers"))),
            _fact("command", command, code=True),
        )
    )


def _engine(engine: Record, items: Sequence[Record], pages: Mapping[Pair, str]) -> EngineView:
    ordered = _worst_first(items)
    # What several checks have in common is said once.
    told = Counter(note for item in ordered for note in item.get("notes") or ())
    findings = [
        replace(finding, notes=tuple(note for note in finding.notes if told[note] == 1))
        for finding in _findings(ordered, pages)
    ]
    names = [row["name"] for row in engine.get("classes") or ()]
    matrices = _matrices(engine, names)
    return EngineView(
        page=pages[engine["model"], engine["engine"]],
        model=engine["model"],
        engine=shown_engine(engine["engine"]),
        status=STATUSES[engine["verdict"]],
        headline=_engine_headline(engine, ordered),
        numerics=engine.get("numerics"),
        facts=_engine_facts(engine),
        overflow=engine.get("overflow"),
        problems=tuple(engine.get("problems") or ()),
        notes=tuple(note for note in engine.get("notes") or () if told[note] != 1),
        findings=tuple(findings),
        classes=_class_tables(ordered, engine),
        accuracy=_accuracy_tables(ordered, engine),
        matrices=matrices,
        confusions=_confusions(engine, beside_matrix=bool(matrices)),
        flips=_flips(engine),
        flipped=_flipped(engine),
        outputs=_outputs(engine, ordered),
        agreement=_agreement(engine.get("agreement")),
        lowered=_lowered(engine),
        kept=_kept(engine.get("lowered") or {}),
        baseline=_baseline(engine.get("baseline")),
        compared=_compared(ordered),
    )


def _engine_facts(engine: Record) -> tuple[Fact, ...]:
    cached = engine.get("cached")
    return _known(
        (
            _fact("precision", engine.get("precision")),
            _fact("backend", engine.get("backend")),
            _fact("images", _count(engine.get("images"))),
            _fact("of these labelled", _count(engine.get("labelled"))),
            _fact("engine", None if cached is None else "from the cache" if cached else "built in this run"),
        )
    )


_EVIDENCE = {
    "recall": (
        Column("newly wrong", hint="b: only the reference answers right"),
        Column("newly right", hint="c: only the engine answers right"),
    ),
    "precision": (
        Column("new false", hint="b: images of other classes that only the engine puts here"),
        Column("gone false", hint="c: images of other classes that only the reference puts here"),
    ),
}
_P = Column("p", hint="one-sided exact p-value, adjusted for the number of classes (Holm)")
_DETECTABLE = {
    "recall": Column("detectable", hint="smallest drop in points that would have been found with power .8"),
    "precision": Column(
        "detectable",
        hint="smallest rise of false positives, in points of the other images, that would have been found "
        "with power .8",
    ),
}


def _class_tables(items: Sequence[Record], engine: Record) -> tuple[Table, ...]:
    """Recall and precision of every class; without a check's verdicts the plain figures."""
    tables = []
    for check in _EVIDENCE:
        judged = [item for item in items if item["check"] == check and item.get("classes")]
        for number, item in enumerate(judged, start=1):
            anchor = f"{check}-classes" + (f"-{number}" if number > 1 else "")
            caption = f"{check.capitalize()} of every class, worst first"
            alpha = item.get("alpha")
            if alpha is not None:
                caption += f"; false-alarm rate over all classes {alpha:g}"
            tables.append(_judged_classes(item["classes"], check, anchor, caption))
        if not judged and engine.get("classes"):
            tables.append(_plain_classes(engine["classes"], check))
    return tuple(tables)


def _judged_classes(
    classes: Sequence[Record],
    check: str,
    anchor: str,
    caption: str,
    before: str = "before",
) -> Table:
    def order(row: Record) -> tuple[int, float]:
        drop = row.get("drop")
        return STATUSES[row["verdict"]].rank, math.inf if drop is None else -drop

    rows = tuple(
        Row(
            name=row["name"],
            status=STATUSES[row["verdict"]],
            cells=(
                STATUSES[row["verdict"]],
                _count(row.get("support")),
                _share(row.get("before")),
                _share(row.get("after")),
                *_test(row),
            ),
        )
        for row in sorted(classes, key=order)
    )
    columns = (
        Column("verdict", text=True),
        Column("support", hint="labelled images of the class"),
        Column(before),
        Column("after"),
        Column("drop", hint="in points"),
        Column("limit", hint="accepted drop in points"),
        *_EVIDENCE[check],
        _P,
        _DETECTABLE[check],
    )
    return Table(anchor, caption, "class", columns, rows[:SHOWN_ROWS], rows[SHOWN_ROWS:], "classes")


def _test(row: Record) -> tuple[str | None, ...]:
    """Drop, limit and evidence of one judged row."""
    before, after = row.get("before"), row.get("after")
    drop = None if before is None or after is None else before - after
    p = row.get("p_adjusted", row.get("p"))
    return (
        _points(row.get("drop", drop)),
        _points(row.get("margin")),
        _count(row.get("b")),
        _count(row.get("c")),
        None if p is None else p_value(p).removeprefix("p = ").removeprefix("p "),
        _points(row.get("detectable")),
    )


def _plain_classes(classes: Sequence[Record], figure: str) -> Table:
    def drop(row: Record) -> float | None:
        before, after = row["before"].get(figure), row["after"].get(figure)
        return None if before is None or after is None else before - after

    def order(row: Record) -> float:
        found = drop(row)
        return math.inf if found is None else -found

    rows = tuple(
        Row(
            row["name"],
            (
                _count(row.get("support")),
                _share(row["before"].get(figure)),
                _share(row["after"].get(figure)),
                _points(drop(row)),
            ),
        )
        for row in sorted(classes, key=order)
    )
    columns = (Column("support"), Column("before"), Column("after"), Column("drop", hint="in points"))
    caption = f"{figure.capitalize()} of every class, largest drop first; not judged in this run"
    return Table(
        f"{figure}-classes", caption, "class", columns, rows[:SHOWN_ROWS], rows[SHOWN_ROWS:], "classes"
    )


_ACCURACY_COLUMNS = (
    Column("verdict", text=True),
    Column("images"),
    Column("before"),
    Column("after"),
    Column("drop", hint="in points"),
    Column("limit", hint="accepted drop in points"),
    *_EVIDENCE["recall"],
    Column("p", hint="one-sided exact p-value"),
    _DETECTABLE["recall"],
)


def _accuracy_tables(items: Sequence[Record], engine: Record) -> tuple[Table, ...]:
    rows = []
    for item in items:
        if item["check"] == Check.ACCURACY.value and item.get("images") is not None:
            rows.append(_accuracy_row("accuracy", item, STATUSES[item["verdict"]]))
            top = item.get("top_k")
            if top:
                gated = STATUSES[top["verdict"]] if top.get("gated") and "verdict" in top else None
                rows.append(_accuracy_row(f"top-{top['k']} accuracy", top, gated))
    tables = []
    if rows:
        caption = "Accuracy over all labelled images"
        tables.append(Table("accuracy-figures", caption, "figure", _ACCURACY_COLUMNS, tuple(rows)))
    averages = _averages(engine, with_accuracy=not rows)
    if averages:
        columns = (Column("before"), Column("after"), Column("drop", hint="in points"))
        caption = "Averages over the classes: macro counts every class alike, weighted by its support"
        tables.append(Table("averages", caption, "figure", columns, averages))
    return tuple(tables)


def _accuracy_row(name: str, row: Record, status: Status | None) -> Row:
    test = list(_test(row))
    if status is None:
        test[1] = "not gated"
    cells = (
        status or "not gated",
        _count(row.get("images")),
        _share(row.get("before")),
        _share(row.get("after")),
    )
    return Row(name, (*cells, *test), status)


def _averages(engine: Record, *, with_accuracy: bool) -> tuple[Row, ...]:
    found: list[tuple[str, Any, Any]] = []
    accuracy, averages = engine.get("accuracy"), engine.get("averages")
    if accuracy and with_accuracy:
        found.append(("accuracy", accuracy["before"], accuracy["after"]))
    if averages:
        found += [
            (
                f"{kind} {figure.replace('f1', 'F1')}",
                averages["before"][kind][figure],
                averages["after"][kind][figure],
            )
            for kind in ("macro", "weighted")
            for figure in ("precision", "recall", "f1")
        ]
    return tuple(
        Row(
            name,
            (_share(before), _share(after), None if None in (before, after) else _points(before - after)),
        )
        for name, before, after in found
    )


def _matrices(engine: Record, names: Sequence[str]) -> tuple[Matrix, ...]:
    confusion = engine.get("confusion")
    if not confusion or len(names) > MATRIX_CLASSES:
        return ()
    # The column of those without an answer says nothing as long as there are none.
    unanswered = any(row[-1] for side in confusion.values() for row in side if len(row) > len(names))
    answers = (*names, "no answer") if unanswered else tuple(names)
    captions = {"before": "Before: the reference", "after": f"After: {shown_engine(engine['engine'])}"}
    return tuple(
        Matrix(
            caption,
            answers,
            tuple(
                (name, _counts(row[: len(answers)], hit))
                for hit, (name, row) in enumerate(zip(names, confusion[side], strict=True))
            ),
        )
        for side, caption in captions.items()
    )


def _counts(row: Sequence[int], hit: int) -> tuple[Count, ...]:
    total = sum(row)
    return tuple(
        Count(_count(count) or "0", heat_level(count, total, right=column == hit), column == hit)
        for column, count in enumerate(row)
    )


def heat_level(count: int, total: int, *, right: bool) -> int:
    """The shade of a field, 0 for none to 9 for the whole row.

    Wrong answers go by the root of their share: one per cent of errors has to be seen, too.
    """
    if count <= 0 or total <= 0:
        return 0
    share = count / total
    level = round(share * (HEAT_LEVELS - 1)) if right else 1 + int(math.sqrt(share) * (HEAT_LEVELS - 2))
    return min(max(level, 1), HEAT_LEVELS - 1)


def _confusions(engine: Record, *, beside_matrix: bool) -> Table | None:
    found = engine.get("confusions") or ()
    rows = tuple(
        Row(
            row["truth"],
            (
                "no answer" if row["answer"] is None else row["answer"],
                _count(row["before"]),
                _count(row["after"]),
                _signed(row["after"] - row["before"]),
            ),
        )
        for row in found
    )
    if not rows:
        return None
    shown = SHOWN_CONFUSIONS if beside_matrix else len(rows)
    columns = (Column("answered", text=True), Column("before"), Column("after"), Column("change"))
    caption = "Wrong answers that changed most in number"
    return Table("confusions", caption, "truth", columns, rows[:shown], rows[shown:], "confusions")


def _flips(engine: Record) -> tuple[Fact, ...]:
    flips = engine.get("flips")
    if flips is None:
        return ()
    return _known(
        (
            _fact("changed answers", f"{_count(flips['total'])} of {_count(engine.get('images'))} images"),
            _fact("broken", f"{_count(flips['broken'])} (right before, wrong after)"),
            _fact("fixed", f"{_count(flips['fixed'])} (wrong before, right after)"),
            _fact("share of images", _share(flips.get("churn"))),
        )
    )


def _flipped(engine: Record) -> Table | None:
    flips = engine.get("flips") or {}
    worst = (flips.get("worst") or ())[:SHOWN_FLIPS]
    if not worst:
        return None
    rows = tuple(
        Row(
            str(flip["index"]),
            (
                "no label" if flip["truth"] is None else flip["truth"],
                "no answer" if flip["before"] is None else flip["before"],
                _share(flip.get("confidence_before")),
                "no answer" if flip["after"] is None else flip["after"],
                _share(flip.get("confidence_after")),
                _kind(flip),
            ),
        )
        for flip in worst
    )
    columns = (
        Column("truth", text=True),
        Column("before", text=True),
        Column("confidence before"),
        Column("after", text=True),
        Column("confidence after"),
        Column("kind", text=True),
    )
    shown = "all" if len(worst) == flips["total"] else f"the worst {len(worst)} of {_count(flips['total'])}"
    return Table("flipped", f"Images whose answer changed: {shown}", "image", columns, rows)


def _kind(flip: Record) -> str:
    truth = flip["truth"]
    if truth is None:
        return "\N{EN DASH} unlabelled"
    if flip["before"] == truth:
        return "✗ broken"
    return "✓ fixed" if flip["after"] == truth else "\N{EN DASH} wrong both times"


def _outputs(engine: Record, items: Sequence[Record]) -> Table | None:
    found = engine.get("outputs") or ()
    if not found:
        return None
    rows = tuple(
        Row(
            row["name"],
            (
                _count(row.get("elements")),
                _count(row.get("different")),
                _count(row.get("nan")),
                _count(row.get("inf")),
                "none" if row.get("first_bad") is None else str(row["first_bad"]),
                _figure(row.get("max_abs")),
                _figure(row.get("max_rel")),
                _figure(row.get("relative_l2")),
                _figure(row.get("cosine"), ".6f"),
                _figure(row.get("psnr"), ".1f"),
            ),
            STATUSES["fail"] if row.get("nan") or row.get("inf") else None,
        )
        for row in found
    )
    columns = (
        Column("values"),
        Column("different", hint="values that are not exactly equal"),
        Column("NaN"),
        Column("infinite"),
        Column("first in image", hint="first image with NaN or infinity"),
        Column("max abs", hint="largest absolute error"),
        Column("max rel", hint="largest relative error"),
        Column("relative L2"),
        Column("cosine"),
        Column("PSNR", hint="in dB"),
    )
    limits = {
        name: value
        for item in items
        for name, value in (item.get("limits") or {}).items()
        if item["check"] == Check.OUTPUTS.value and value is not None
    }
    gated = ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "none set"
    return Table(
        "outputs-figures", f"Outputs against the reference; limits: {gated}", "output", columns, rows
    )


def _agreement(agreement: Record | None) -> tuple[Fact, ...]:
    if agreement is None:
        return ()
    return _known(
        (
            _fact("same first answer", _share(agreement.get("top1"))),
            _fact(f"same top {agreement.get('k')}", _share(agreement.get("top_k"))),
            _fact("mean KL divergence", _with_unit(_figure(agreement.get("kl_mean")), "nats")),
            _fact("largest KL divergence", _with_unit(_figure(agreement.get("kl_max")), "nats")),
        )
    )


def _lowered(engine: Record) -> tuple[Fact, ...]:
    lowered, facts = engine.get("lowered") or {}, engine.get("facts") or {}
    method = lowered.get("method")
    if method is not None and lowered.get("percentile") is not None:
        method = f"{method} {lowered['percentile']:g}"
    nodes, types = lowered.get("nodes"), facts.get("types")
    if isinstance(nodes, Mapping):
        nodes = ", ".join(f"{_count(count)} {name}" for name, count in nodes.items())
    excluded = lowered.get("exclude")
    return _known(
        (
            _fact("lowered by", lowered.get("made_by")),
            _fact("calibration method", method),
            _fact("calibration images", _count(lowered.get("calibration_images"))),
            _fact("what is not quantized runs in", lowered.get("rest")),
            _fact(
                "excluded nodes",
                None if excluded is None else ", ".join(excluded) or "none",
                code=bool(excluded),
            ),
            _fact("nodes", None if nodes is None else str(nodes)),
            _fact("changed constants", _names(lowered.get("clamped")), code=True),
            _fact("folded nodes", _names(lowered.get("folded")), code=True),
            _fact("nodes of the engine", _count(facts.get("nodes"))),
            _fact(
                "computing in",
                ", ".join(
                    f"{_count(count)} {name}" for name, count in sorted((types or {}).items()) if count
                ),
            ),
            _fact("engine size", _with_unit(_count(facts.get("engine_bytes")), "bytes")),
            _fact("source digest", _digest(lowered.get("source_digest")), code=True),
            _fact("calibration digest", _digest(lowered.get("calibration_digest")), code=True),
            _fact("lowered digest", _digest(lowered.get("digest")), code=True),
            *(_fact("note", note) for note in lowered.get("notes") or ()),
        )
    )


def _names(value: Any) -> str | None:
    if not value:
        return None
    return listed((str(name) for name in value), 8) if isinstance(value, list | tuple) else str(value)


def _kept(lowered: Record) -> Table | None:
    """Nodes that stayed wide, grouped by the reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for node in lowered.get("kept") or ():
        groups.setdefault((node.get("reason") or "not said", node.get("op") or "?"), []).append(node["node"])
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    rows = tuple(Row(reason, (op, _count(len(nodes)), listed(nodes, 8))) for (reason, op), nodes in ordered)
    if not rows:
        return None
    columns = (Column("operation", text=True), Column("nodes"), Column("names", text=True))
    caption = "Nodes that stayed wide, and why"
    return Table("kept", caption, "reason", columns, rows[:SHOWN_ROWS], rows[SHOWN_ROWS:], "reasons")


def _baseline(baseline: Record | None) -> tuple[Fact, ...]:
    if baseline is None:
        return ()
    return _known(
        (
            _fact("status", baseline.get("status")),
            _fact("file", baseline.get("path"), code=True),
            _fact("message", baseline.get("message")),
        )
    )


def _compared(items: Sequence[Record]) -> tuple[Table, ...]:
    """The comparisons with the approved baseline: accuracy first, then the worst classes."""
    approved = [(item, item["baseline"]) for item in items if item.get("baseline")]
    rows = tuple(
        _accuracy_row("accuracy", then, STATUSES[then["verdict"]])
        for item, then in approved
        if item["check"] == Check.ACCURACY.value
    )
    tables = []
    if rows:
        columns = tuple(Column("approved") if c.name == "before" else c for c in _ACCURACY_COLUMNS)
        caption = "Accuracy against the approved baseline"
        tables.append(Table("baseline-accuracy", caption, "figure", columns, rows))
    number: Counter[str] = Counter()
    for item, then in sorted(approved, key=lambda pair: str(pair[0]["check"]), reverse=True):
        check = item["check"]
        if check in _EVIDENCE and then.get("classes"):
            number[check] += 1
            anchor = f"baseline-{check}" + (f"-{number[check]}" if number[check] > 1 else "")
            caption = f"{check.capitalize()} against the approved baseline, worst first"
            table = _judged_classes(then["classes"], check, anchor, caption, "approved")
            if table.folded:
                caption += (
                    f": {len(table.rows)} of {len(then['classes'])} classes, all of them in report.json"
                )
            # The classes stand above already: a second thousand rows would only weigh.
            tables.append(replace(table, caption=caption, folded=()))
    return tuple(tables)


def _fact(term: str, text: Any, *, code: bool = False) -> Fact:
    return Fact(term, "" if text is None else str(text), code)


def _known(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    return tuple(fact for fact in facts if fact.text)


def _digest(value: str | None) -> str | None:
    return None if value is None else short(value)


def _share(value: float | None) -> str | None:
    return None if value is None else fraction(value)


def _points(value: float | None) -> str | None:
    return None if value is None else points(value).removesuffix(" points").replace("-", _MINUS)


def _figure(value: float | None, form: str = ".3g") -> str | None:
    return None if value is None else format(value, form)


def _with_unit(text: str | None, unit: str) -> str | None:
    return None if text is None else f"{text} {unit}"


def _count(value: int | None) -> str | None:
    """A count; from five digits on in groups of three."""
    if value is None:
        return None
    return str(value) if abs(value) < 10_000 else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _signed(value: int) -> str:
    return f"+{_count(value)}" if value > 0 else f"{_count(value)}".replace("-", _MINUS)
