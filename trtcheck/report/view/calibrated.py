"""Facts and tables of the check ``calibration``: what the calibration data have seen, and how ranges fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtcheck.case import Check
from trtcheck.names import listed, percent
from trtcheck.report.charts import shares
from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import formats
from trtcheck.report.view.facts import Fact, fact, known
from trtcheck.report.view.records import Record
from trtcheck.report.view.tables import Column, Row, Table, folding, of_classes

SHOWN_TENSORS = 15
SHOWN_NAMES = 10
ABOVE = "▲"
_RANGES = "calibration-ranges"


@dataclass(frozen=True)
class Calibration:
    """What the check of the calibration found: in words, as a picture, and with all figures."""

    findings: tuple[str, ...]
    charts: tuple[Chart, ...]
    facts: tuple[Fact, ...]
    tables: tuple[Table, ...]


def of_items(items: Iterable[Record]) -> Calibration | None:
    """The figures of the first calibration check among *items* that has any."""
    for item in items:
        if item["check"] == Check.CALIBRATION.value and (item.get("overlap") or item.get("saturation")):
            tables = (_copies(item["overlap"]), _classes(item["coverage"]), _tensors(item))
            return Calibration(
                findings=tuple(filter(None, (_copied(item), _seen_classes(item), _outside(item)))),
                charts=_chart(item),
                facts=_facts(item),
                tables=tuple(table for table in tables if table is not None),
            )
    return None


def _copied(item: Record) -> str | None:
    overlap = item["overlap"]
    if not overlap:
        return None
    exact, resized, evaluated = overlap["exact"], overlap["resized"], formats.grouped(overlap["evaluated"])
    if not exact and not resized:
        return f"None of the {evaluated} evaluation images was found among the calibration images."
    kinds = {"exactly": exact, "at another size": resized}
    counts = " and ".join(f"{formats.grouped(count)} {kind}" for kind, count in kinds.items() if count)
    return f"Calibration images are evaluated, too: of {evaluated} images {counts}."


def _seen_classes(item: Record) -> str | None:
    coverage = item["coverage"]
    if not coverage or not coverage["counts"]:
        return None
    missing, counts = coverage["missing"], coverage["counts"]
    if missing:
        share = f"{formats.grouped(len(missing))} of {formats.number_of(len(counts), 'class', 'classes')}"
        return f"The calibration has not seen {share}: {listed(missing, SHOWN_NAMES)}."
    rarest, commonest = (choose(counts, key=counts.__getitem__) for choose in (min, max))
    least, most = counts[rarest], counts[commonest]
    if least == most:
        return f"The calibration has seen every class in {formats.number_of(least, 'image', 'images')}."
    ends = f"{formats.grouped(least)} ('{rarest}') to {formats.grouped(most)} ('{commonest}')"
    return f"The calibration has seen every class, in {ends} images."


def _outside(item: Record) -> str | None:
    rows = (item["saturation"] or {}).get("rows")
    if not rows:
        return None
    limit, tensors = item["limits"]["saturation"], item["saturation"]["tensors"]
    above, worst = sum(row["share"] > limit for row in rows), rows[0]
    if not worst["share"]:
        return "No value of the quantized tensors lies outside its calibrated range."
    most = f"most of all '{worst['tensor']}', with {percent(worst['share'])}"
    if not above:
        return f"No quantized tensor has more than {percent(limit)} of its values outside its range; {most}."
    # Of many tensors only the worst are recorded.
    count = f"At least {above}" if above == len(rows) < tensors else formats.grouped(above)
    return (
        f"{count} of {formats.number_of(tensors, 'quantized tensor', 'quantized tensors')} "
        f"{'has' if above == 1 else 'have'} more than {percent(limit)} of the values outside the calibrated "
        f"range; {most}."
    )


def _chart(item: Record) -> tuple[Chart, ...]:
    """The tensors with values outside their ranges; none where there are too few to compare."""
    rows = (item["saturation"] or {}).get("rows") or ()
    outside = [(row["tensor"], row["share"]) for row in rows if row["share"] > 0]
    if len(outside) < 2:
        return ()
    more = f": the worst {shares.MOST_ROWS}" if len(outside) > shares.MOST_ROWS else ""
    drawn = shares.bars(
        outside,
        item["limits"]["saturation"],
        anchor="calibration-picture",
        title=f"Values outside the calibrated ranges{more}",
        words="share of the evaluation's values outside the range",
        told=_outside(item) or "",
        numbers=_RANGES,
    )
    return (drawn,)


def _facts(item: Record) -> tuple[Fact, ...]:
    overlap, coverage, saturation = (item[name] or {} for name in ("overlap", "coverage", "saturation"))
    resized = overlap.get("unsearched")
    return known(
        (
            fact("calibration images", formats.count(overlap.get("images"))),
            fact("of these different", formats.count(overlap.get("distinct"))),
            fact("evaluation images", formats.count(overlap.get("evaluated"))),
            fact("of these among the calibration's", formats.count(overlap.get("exact"))),
            fact(
                "the same at another size",
                f"not looked for: {resized}" if resized else formats.count(overlap.get("resized")),
            ),
            fact("classes seen", _seen(coverage)),
            fact("classes never seen", listed(coverage.get("missing") or (), SHOWN_NAMES)),
            fact("calibration images without a class", formats.count(coverage.get("unclassed") or None)),
            fact("quantized tensors", formats.count(saturation.get("tensors"))),
            fact("looked at on", _looked_at(saturation)),
            fact("quantizers left out", formats.count(saturation.get("unknown") or None)),
        )
    )


def _seen(coverage: Record) -> str | None:
    if not coverage:
        return None
    seen = coverage["classes"] - len(coverage["missing"])
    source = "their labels" if coverage["by"] == "labels" else "the reference's answers"
    return f"{formats.grouped(seen)} of {formats.grouped(coverage['classes'])}, by {source}"


def _looked_at(saturation: Record) -> str | None:
    return formats.with_unit(formats.count(saturation.get("images")), "evaluation images")


def _copies(overlap: Record | None) -> Table | None:
    """Evaluation images that are calibration images."""
    if not overlap:
        return None
    pairs = [("exact copy", pair) for pair in overlap["exact_pairs"]]
    pairs += [("at another size", pair) for pair in overlap["resized_pairs"]]
    if not pairs:
        return None
    rows = tuple(
        Row(
            _image(pair["evaluation"], pair["evaluation_file"]),
            (_image(pair["calibration"], pair["calibration_file"]), kind),
        )
        for kind, pair in pairs
    )
    found = overlap["exact"] + overlap["resized"]
    caption = "Evaluation images that are calibration images"
    caption += f": the first {len(rows)} of {formats.grouped(found)}" if found > len(rows) else ""
    columns = (Column("calibration image", text=True), Column("kind", text=True))
    return Table("calibration-copies", caption, "evaluation image", columns, rows)


def _image(index: int, file: str | None) -> str:
    return str(index) if file is None else f"{index} ({file})"


def _classes(coverage: Record | None) -> Table | None:
    """Calibration images of every class, fewest first; where these are even, a sentence says as much."""
    if not coverage or len(set(coverage["counts"].values())) < 2:
        return None
    ordered = sorted(coverage["counts"].items(), key=lambda found: int(found[1]))
    rows = [Row(name, (formats.count(count),)) for name, count in ordered]
    caption = "Calibration images of every class, fewest first"
    return of_classes("calibration-classes", caption, (Column("calibration images"),), rows)


def _tensors(item: Record) -> Table | None:
    """How evaluation fills the calibrated ranges, in the record's order: worst first."""
    saturation, limit = item["saturation"] or {}, item["limits"]["saturation"]
    found: Sequence[Record] = saturation.get("rows") or ()
    if not found:
        return None
    columns = (
        Column("made by", text=True),
        Column("outside", hint=f"share of the values outside the range; {ABOVE} above the limit"),
        Column("range", hint="what the quantizer can hold"),
        Column("values", hint="what evaluation reaches"),
        Column("used", hint="how much of the range the values reach into"),
        Column("NaN"),
    )
    rows = tuple(_tensor(row, limit) for row in found)
    caption = f"Evaluation values beside the calibrated ranges, worst first; limit {percent(limit)} outside"
    if saturation["tensors"] > len(rows):
        caption += f": {len(rows)} of {formats.grouped(saturation['tensors'])} tensors"
    table = Table(_RANGES, caption, "tensor", columns, rows, unit="tensors")
    return folding(table, SHOWN_TENSORS)


def _tensor(row: Record, limit: float) -> Row:
    above = f" {ABOVE}" if row["share"] > limit else ""
    return Row(
        row["tensor"],
        (
            row["node"] or "an input of the model",
            f"{percent(row['share'])}{above}",
            _ends(row["low"], row["high"]),
            _ends(row["smallest"], row["largest"]),
            None if row["used"] is None else percent(row["used"]),
            formats.count(row["nan"]),
        ),
    )


def _ends(low: float | None, high: float | None) -> str:
    ends = (formats.figure(end) or "infinite" for end in (low, high))
    return " to ".join(ends).replace("-", "\N{MINUS SIGN}")
