"""What was held against what: one row a gate, with how close it came and what it could have missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trtcheck.case import Check
from trtcheck.names import percent, significant
from trtcheck.report.view import formats
from trtcheck.report.view.records import PER_CLASS, Record
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import Column, Row, Table, descending

MB = 1e6
_COLUMNS = (
    Column("verdict", text=True),
    Column("measured"),
    Column("limit"),
    Column("interval", hint="each end a one-sided bound"),
    Column("would have failed", hint="the smallest change found with power .8"),
    Column("p"),
)


def of_items(items: Sequence[Record]) -> Table | None:
    """The gates that the *items* of one engine were held against, worst first; None where there are none."""
    rows = [row for item in items for row in _of_item(item)]
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row.status.rank if row.status else len(STATUSES))
    return Table(
        "gates",
        "Every gate, worst first: what was measured and how close it came",
        "gate",
        _COLUMNS,
        tuple(ordered),
    )


def _of_item(item: Record) -> Iterator[Row]:
    check = item["check"]
    if check == Check.ACCURACY.value and item.get("images") is not None:
        yield from _accuracy(item)
    elif check in PER_CLASS and item.get("classes"):
        yield from _per_class(item)
    elif check == Check.OUTPUTS.value and item.get("outputs"):
        yield from _outputs(item)
    elif check == Check.BUILD.value:
        yield from _build(item)
    elif check == Check.LATENCY.value and item.get("latency"):
        yield from _latency(item)


def _row(name: str, verdict: str, cells: Sequence[str | None], href: str) -> Row:
    status = STATUSES[verdict]
    coloured = None if verdict in ("pass", "skipped") else status
    return Row(name, (status, *cells), coloured, href=href)


def _accuracy(item: Record) -> Iterator[Row]:
    yield _row("accuracy", item["verdict"], _drop_cells(item, "p"), "accuracy-figures")
    top = item.get("top_k")
    if top and top["gated"]:
        yield _row(f"top-{top['k']} accuracy", top["verdict"], _drop_cells(top, "p"), "accuracy-figures")
    if item.get("baseline"):
        cells = _drop_cells(item["baseline"], "p")
        yield _row("accuracy against the approved", item["baseline"]["verdict"], cells, "baseline-accuracy")


def _drop_cells(row: Record, p: str) -> tuple[str | None, ...]:
    """Measured, limit, interval, detectable and p of a drop in points."""
    drop = row.get("drop", None if None in (row["before"], row["after"]) else row["before"] - row["after"])
    before, after = (formats.share(row[side]) or "undefined" for side in ("before", "after"))
    moved = f"{before} → {after}"
    limits = [f"drop {formats.points(row['margin'])}"] if row["margin"] is not None else []
    limits += [f"at least {formats.share(row['floor'])}"] if row.get("floor") is not None else []
    limits += [f"{percent(row['target'])} of the reference"] if row.get("target") is not None else []
    return (
        f"{moved} ({formats.points(drop)} points)" if drop is not None else moved,
        ", ".join(limits) or None,
        formats.interval(row["interval"]),
        formats.points(row["detectable"]),
        formats.p_value(row[p]),
    )


def _per_class(item: Record) -> Iterator[Row]:
    check = item["check"]
    yield from _worst_class(item, check, f"{check}-classes")
    if item.get("baseline"):
        yield from _worst_class(item["baseline"], f"{check} against the approved", f"baseline-{check}")


def _worst_class(judged: Record, name: str, href: str) -> Iterator[Row]:
    rows = judged["classes"]
    if rows:
        worst = min(rows, key=lambda row: (STATUSES[row["verdict"]].rank, descending(row["drop"])))
        p = "p_adjusted" if judged["test"] == "paired" else "p"
        count = formats.number_of(len(rows), "class", "classes")
        measured, *rest = _drop_cells(worst, p)
        yield _row(
            f"{name}, worst of {count}", worst["verdict"], (f"'{worst['name']}' {measured}", *rest), href
        )
    pooled = judged["pooled"]
    if pooled["verdict"] != "skipped":
        cells = (
            f"{formats.points(pooled['drop'])} points", f"drop {formats.points(pooled['margin'])}", None,
            formats.points(pooled["detectable"]), formats.p_value(pooled["p"]),
        )  # fmt: skip
        anchor = href.replace("-classes", "-pooled") if href.endswith("-classes") else f"{href}-pooled"
        yield _row(f"{name}: all classes together", pooled["verdict"], cells, anchor)


def _outputs(item: Record) -> Iterator[Row]:
    limits, agreement = item.get("limits") or {}, item.get("agreement") or {}
    bad = sum(row["nan"] + row["inf"] for row in item["outputs"])
    finite = "fail" if bad or item.get("problems") else "pass"
    told = f"{formats.grouped(bad)} NaN or infinite" if bad else "all finite"
    yield _row("outputs are finite", finite, (told, "none", None, None, None), "outputs-figures")
    for name, limit in limits.items():
        if limit is None:
            continue
        least = name in ("cosine", "top1_agreement")
        told_of = {"kl": agreement.get("kl_mean"), "top1_agreement": agreement.get("top1")}
        values = [told_of[name]] if name in told_of else [row.get(name) for row in item["outputs"]]
        known = [value for value in values if value is not None]
        measured = (min(known) if least else max(known)) if known and len(known) == len(values) else None
        kept = measured is not None and (measured >= limit if least else measured <= limit)
        shown = None if measured is None else significant(measured)
        bound = f"{'at least' if least else 'at most'} {limit:g}"
        yield _row(
            f"outputs: {name}",
            "pass" if kept else "fail",
            (shown, bound, None, None, None),
            "outputs-figures",
        )
    churn = item.get("churn")
    if churn and churn["limit"] is not None:
        over = churn["rate"] > churn["limit"]
        verdict = item["verdict"] if over and item["verdict"] in ("fail", "inconclusive") else "pass"
        ends = f"{percent(churn['low'])} to {percent(churn['high'])}"
        cells = (percent(churn["rate"]), f"at most {percent(churn['limit'])}", ends, None, None)
        yield _row("changed answers (churn)", verdict, cells, "flips")


def _build(item: Record) -> Iterator[Row]:
    gates, facts = item.get("gates") or {}, item.get("facts") or {}
    for gate, fact in (("engine_mb", "engine_bytes"), ("memory_mb", "memory_bytes")):
        limit, measured = gates.get(gate), facts.get(fact)
        if limit is None:
            continue
        verdict = "inconclusive" if measured is None else "pass" if measured / MB <= limit else "fail"
        shown = None if measured is None else f"{significant(measured / MB)} MB"
        yield _row(gate, verdict, (shown, f"at most {limit:g} MB", None, None, None), "lowered")


def _latency(item: Record) -> Iterator[Row]:
    unfit = bool(item["health"]["reasons"])
    for row in item["judged"]:
        if not (row["gated"] or row["verdict"] == "fail"):
            continue
        bounds = None
        if row["low"] is not None and row["high"] is not None:
            bounds = f"{formats.change(row['low'])} to {formats.change(row['high'])}"
        name = row["what"].replace("faster_than", f"faster than {row.get('against')}")
        cells = (
            formats.change(row["effect"]), f"at most {formats.change(row['tolerance'])}", bounds,
            formats.change(row["detectable"]), None,
        )  # fmt: skip
        verdict = "inconclusive" if unfit else row["verdict"]
        yield _row(f"{name} at batch {item['batch']}", verdict, cells, "latency-judged")
    for row in item["limits"]:
        bounds = None
        if row["low"] is not None and row["high"] is not None:
            bounds = f"{significant(row['low'])} to {significant(row['high'])}"
        measured = None if row["measured"] is None else significant(row["measured"])
        cells = (measured, format(row["limit"], "g"), bounds, None, None)
        verdict = "inconclusive" if unfit else row["verdict"]
        yield _row(f"{row['gate']} at batch {item['batch']}", verdict, cells, "latency-limits")
