"""What was held against what: one row a gate, with how close it came and what it could have missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trtcheck.case import Check, DropTest, OnFinding
from trtcheck.names import percent, significant
from trtcheck.report.view import formats, time_tables
from trtcheck.report.view.evidence import VERDICT, in_points
from trtcheck.report.view.links import check_anchor, numbered
from trtcheck.report.view.records import PER_CLASS, Record, fall, own_verdict
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import Column, Row, Table, descending

_MB = 1e6
_COLUMNS = (
    VERDICT,
    Column("where", text=True, hint="the class or output that fares worst"),
    Column("measured"),
    Column("limit"),
    Column("interval", hint="each end a one-sided bound"),
    Column("detectable", hint="the smallest change that would have been found with power .8"),
    Column("p", hint="of classes adjusted for their number"),
    Column("level", hint="false-alarm rate of the test: a p-value above it is no failure"),
)


def of_items(items: Sequence[Record]) -> Table | None:
    """The gates that the *items* of one engine were held against, worst first; None where there are none."""
    rows = [row for check in PER_CLASS for row in _of_classes(check, items)]
    rows += (row for item in items for row in _of_item(item))
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row.status.rank if row.status else len(STATUSES))
    return Table("gates", "What was held against what, worst first", "gate", _COLUMNS, tuple(ordered))


def _of_item(item: Record) -> Iterator[Row]:
    check = item["check"]
    if check == Check.BUILD.value:
        yield from _build(item)
    elif check == Check.CALIBRATION.value and item.get("limits"):
        yield from _calibration(item)
    elif check == Check.OUTPUTS.value and item.get("outputs"):
        yield from _outputs(item)
    elif check == Check.BATCH_INVARIANCE.value and item.get("outputs"):
        yield _batches(item)
    elif check == Check.ACCURACY.value and item.get("images") is not None:
        yield from _accuracy(item)
    elif check == Check.LATENCY.value and item.get("latency"):
        yield from _latency(item)


def _row(
    name: str, verdict: str, href: str, *, where: str = "", measured: str | None = None,
    limit: str = "", interval: str | None = "", detectable: str | None = "", p: str | None = "",
    level: float | None = None,
) -> Row:  # fmt: skip
    """A gate: of what it does not have cells are empty, what is undefined is None.

    A name of the user's stands in a cell of its own, *where*: it may be written from right to left.
    """
    status = STATUSES[verdict]
    at = "" if level is None else f"{level:.3g}"
    cells = (status, where, measured, limit, interval, detectable, p, at)
    return Row(name, cells, None if verdict in ("pass", "skipped") else status, href=href)


def _drop_row(name: str, verdict: str, href: str, row: Record, alpha: float, test: str) -> Row:
    """A gate on a drop of accuracy, or of a class's recall or precision."""
    paired = test == DropTest.PAIRED.value
    before, after = (formats.share(row[side]) or "undefined" for side in ("before", "after"))
    drop = in_points(fall(row["before"], row["after"]))
    limits = [f"drop of {in_points(row['margin'])}"]
    limits += [f"at least {formats.share(row['floor'])}"] if row["floor"] is not None else []
    limits += [f"{percent(row['target'])} of the reference's"] if row.get("target") is not None else []
    return _row(
        name, verdict, href,
        where=str(row.get("name", "")),
        measured=f"{before} → {after}" + ("" if drop is None else f", drop {drop}"),
        limit=", ".join(limits),
        interval=formats.with_unit(formats.interval(row["interval"]), "points"),
        detectable=in_points(row["detectable"]),
        p=formats.p_value(row["p_adjusted"] if paired and "p_adjusted" in row else row["p"]),
        level=alpha if paired else None,
    )  # fmt: skip


def _accuracy(item: Record) -> Iterator[Row]:
    href, own = "accuracy-figures", (item["alpha"], item["test"])
    yield _drop_row("accuracy", own_verdict(item), href, item, *own)
    top = item.get("top_k")
    if top and top["gated"]:
        yield _drop_row(f"top-{top['k']} accuracy", top["verdict"], href, top, *own)
    then = item.get("baseline")
    if then:
        name = "accuracy against the approved"
        yield _drop_row(name, then["verdict"], "baseline-accuracy", then, then["alpha"], then["test"])


def _of_classes(check: str, items: Sequence[Record]) -> Iterator[Row]:
    """The gates on recall or precision; the numbers of the links are those of `judged`'s tables."""
    found = [item for item in items if item["check"] == check and item.get("classes")]
    for number, item in enumerate(found, start=1):
        hrefs = (numbered(f"{check}-{part}", number) for part in ("classes", "pooled"))
        yield from _classes(item, check, *hrefs)
    approved = [item for item in found if item.get("baseline") and item["baseline"]["classes"]]
    for number, item in enumerate(approved, start=1):
        hrefs = (numbered(f"baseline-{check}{part}", number) for part in ("", "-pooled"))
        yield from _classes(item["baseline"], f"{check} against the approved", *hrefs)


def _classes(judged: Record, name: str, classes_href: str, pooled_href: str) -> Iterator[Row]:
    """The class that fares worst, and all of them together."""
    rows, pooled = judged["classes"], judged["pooled"]
    worst = min(rows, key=lambda row: (STATUSES[row["verdict"]].rank, descending(row["drop"])))
    failed = sum(row["verdict"] == "fail" for row in rows)
    count = formats.number_of(len(rows), "class", "classes")
    told = f"{name}, {formats.grouped(failed)} of {count} fail" if failed else f"{name}, {count}"
    yield _drop_row(told, worst["verdict"], classes_href, worst, judged["alpha"], judged["test"])
    if pooled["verdict"] != "skipped":
        yield _row(
            f"{name}, all classes together", pooled["verdict"], pooled_href,
            measured=f"drop {in_points(pooled['drop'])}",
            limit=f"drop of {in_points(pooled['margin'])}",
            detectable=in_points(pooled["detectable"]),
            p=formats.p_value(pooled["p"]),
            level=pooled["alpha"],
        )  # fmt: skip


def _outputs(item: Record) -> Iterator[Row]:
    limited = [*_output_limits(item), *_churn(item)]
    bad = sum(row["nan"] + row["inf"] for row in item["outputs"])
    failed = STATUSES["fail"]
    # What fails without a limit is an output that is missing, has another shape or cannot be compared.
    unsound = (
        bad or item["problems"] or (item["verdict"] == "fail" and all(r.status != failed for r in limited))
    )
    told = f"{formats.grouped(bad)} values NaN or infinite" if bad else "no" if unsound else "yes"
    yield _row("outputs complete and finite", "fail" if unsound else "pass", _OUTPUTS, measured=told)
    yield from limited


def _output_limits(item: Record) -> Iterator[Row]:
    agreement = item["agreement"] or {}
    for name, (words, least) in _LIMITS.items():
        limit = item["limits"].get(name)
        if limit is None:
            continue
        if name in _OF_SCORES:
            found = [("", agreement.get(_OF_SCORES[name]))]
        else:
            found = [(row["name"], row[name]) for row in item["outputs"]]
        where, value = min(found, key=lambda pair: _distance(pair[1], least=least))
        kept = value is not None and (value >= limit if least else value <= limit)
        yield _row(
            words, "pass" if kept else "fail", _OUTPUTS,
            where=where,
            measured=None if value is None else significant(value, 6 if least else 4),
            limit=f"at {'least' if least else 'most'} {limit:g}",
        )  # fmt: skip


_OUTPUTS = "outputs-figures"
_OF_SCORES = {"kl": "kl_mean", "top1_agreement": "top1"}
_LIMITS = {
    "max_abs": ("largest absolute error", False),
    "max_rel": ("largest relative error", False),
    "relative_l2": ("relative L2 error", False),
    "cosine": ("cosine", True),
    "kl": ("mean KL divergence, nats", False),
    "top1_agreement": ("same answers", True),
}
"""Limits on outputs in words, and whether they are the *least* that is accepted."""


def _distance(value: float | None, *, least: bool) -> float:
    """Sorts the worst figure first, an undefined one before all."""
    return float("-inf") if value is None else value if least else -value


def _churn(item: Record) -> Iterator[Row]:
    churn = item["churn"]
    if churn and churn["limit"] is not None:
        yield _row(
            "changed answers (churn)", churn.get("verdict") or item["verdict"], "flips",
            measured=percent(churn["rate"]),
            limit=f"at most {percent(churn['limit'])}",
            interval=f"{percent(churn['low'])} to {percent(churn['high'])}",
        )  # fmt: skip


def _build(item: Record) -> Iterator[Row]:
    # The limits are a TensorRT engine's, where one was built besides.
    facts = (item.get("beside") or item).get("facts") or {}
    for gate, (words, fact) in _SIZES.items():
        limit, size = (item.get("gates") or {}).get(gate), facts.get(fact)
        if limit is not None:
            verdict = "inconclusive" if size is None else "pass" if size <= limit * _MB else "fail"
            measured = None if size is None else f"{significant(size / _MB)} MB"
            yield _row(
                words, verdict, check_anchor("build"), measured=measured, limit=f"at most {limit:g} MB"
            )
    yield from _placed(item)


def _placed(item: Record) -> Iterator[Row]:
    """Nodes on the CPU, where the engine's backend has a say in it."""
    limit, facts = (item.get("gates") or {}).get("cpu_nodes"), item.get("facts") or {}
    if limit is None or facts.get("providers") is None:
        return
    count = sum(facts["on_cpu"].values()) if facts["providers"] else None
    verdict = "inconclusive" if count is None else "pass" if count <= limit else "fail"
    yield _row(
        "nodes on the CPU", verdict, check_anchor("build"), measured=None if count is None else str(count),
        limit=f"at most {limit}",
    )  # fmt: skip


_SIZES = {
    "engine_mb": ("size of the engine's file", "engine_bytes"),
    "memory_mb": ("device memory", "memory_bytes"),
}


def _calibration(item: Record) -> Iterator[Row]:
    """The findings of the calibration, where they are a gate; else they are warnings."""
    if item["limits"]["on_calibration"] == OnFinding.FAIL.value and item["verdict"] != "skipped":
        told = "findings" if item["verdict"] == "fail" else "no finding"
        anchor = check_anchor(item["check"])
        yield _row("calibration", item["verdict"], anchor, measured=told, limit="no finding")


def _batches(item: Record) -> Row:
    worst = min(item["outputs"], key=lambda row: _distance(row["difference"], least=False))
    value = worst["difference"]
    return _row(
        "same outputs in any batch", item["verdict"], "batch-invariance-figures",
        where=worst["name"],
        measured="infinite" if value is None else f"{value:.2g}",
        limit=f"at most {item['tolerance']:g}",
    )  # fmt: skip


def _latency(item: Record) -> Iterator[Row]:
    at = f"at batch {formats.grouped(item['batch'])}"
    for row in item["judged"]:
        if row["gated"] or row["verdict"] == "fail":
            rival = row["what"] == "faster_than"
            yield _row(
                f"{'faster than' if rival else row['what']} {at}", time_tables.standing(item, row)[0].word,
                "latency-judged",
                where=row["against"] if rival else "",
                measured=formats.change(row["effect"]),
                limit=f"at most {formats.change(row['tolerance'])}",
                interval=_ends(row, formats.change),
                detectable=formats.change(row["detectable"]),
                level=row["alpha"],
            )  # fmt: skip
    for row in item["limits"]:
        unfit = item["health"]["reasons"]
        yield _row(
            f"{row['gate']} {at}", "inconclusive" if unfit else row["verdict"], "latency-limits",
            measured=None if row["measured"] is None else significant(row["measured"]),
            limit=f"at {'least' if row['gate'] in _LEAST else 'most'} {row['limit']:g}",
            interval=_ends(row, significant),
            level=row["alpha"],
        )  # fmt: skip


_LEAST = ("throughput", "speedup")


def _ends(row: Record, shown: Callable[[float], str | None]) -> str:
    return "" if None in (row["low"], row["high"]) else f"{shown(row['low'])} to {shown(row['high'])}"
