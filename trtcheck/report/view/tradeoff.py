"""Speed-up against loss: all engines of a model, for those who decide which of them to deploy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtcheck.case import Check
from trtcheck.latency.environment import differences
from trtcheck.report import speeds
from trtcheck.report.charts import tradeoff
from trtcheck.report.charts.chart import Chart
from trtcheck.report.charts.tradeoff import Estimate, Point, shown_pace
from trtcheck.report.view import formats
from trtcheck.report.view.records import Record, fall
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import Column, Row, Table

MANY_MODELS = 12
"""In a report of more models each has but one picture, that of the largest batch size."""


@dataclass(frozen=True)
class Tradeoff:
    """The engines of a model, fastest first.

    Attributes:
        told: The fastest engine that loses little, in a sentence, or "".
        charts: A picture a batch size, at most three.
        table: All engines, those without a time as well.
    """

    told: str
    charts: tuple[Chart, ...]
    table: Table


@dataclass(frozen=True)
class _Loss:
    """The largest fall of a class's recall; *key* is that of the worst key class where it is another."""

    name: str
    drop: Estimate
    key_name: str | None = None
    key: float | None = None


@dataclass(frozen=True)
class _Paces:
    """The engines at one batch size: by name their speed-up over something, or their time in ms."""

    batch: int
    over: str | None
    found: Mapping[str, Estimate]


def of_model(model: str, anchor: str, document: Record) -> Tradeoff | None:
    """The engines of *model*; None where nothing is to be weighed: no class, or no time and one engine.

    Args:
        model: Its name.
        anchor: Beginning of ids.
        document: The report.
    """
    engines = [engine for engine in document["engines"] if engine["model"] == model]
    own = [item for item in document["items"] if item["model"] == model]
    losses = {
        engine["engine"]: loss for engine in engines if (loss := _loss(engine, own)) is not None
    }  # fmt: skip
    counting = _comparable(own, losses)
    paces = _paces(counting, [*losses], few=len(document["models"]) <= MANY_MODELS)
    # FP32 beside an FP32 reference is no choice.
    drawn = [each for each in paces if {name.partition(" @ ")[0] for name in each.found} != {"fp32"}]
    if not losses or (not drawn and len(losses) < 2):
        return None
    ordered = sorted(engines, key=lambda engine: _order(engine, paces))
    why = {engine["engine"]: _why(engine["engine"], own, counting) for engine in engines}
    table = _table(model, f"{anchor}-price-numbers", ordered, losses, paces, why)
    return Tradeoff(
        told=_told(engines, losses, drawn),
        charts=tuple(_chart(model, f"{anchor}-price-b{each.batch}", ordered, losses, each, table.anchor)
                     for each in drawn),
        table=table,
    )  # fmt: skip


def _loss(engine: Record, items: Sequence[Record]) -> _Loss | None:
    """What an engine loses at worst; None where it has no classes with images."""
    judged = next(
        (item.get("classes") or () for item in items
         if item["check"] == Check.RECALL.value and item["engine"] == engine["engine"]), (),
    )  # fmt: skip
    rows = {row["name"]: row for row in judged}
    falls = [
        (lost, row["name"])
        for row in engine["classes"]
        if (lost := fall(row["before"]["recall"], row["after"]["recall"])) is not None
    ]
    if not falls:
        return None
    drop, name = max(falls, key=lambda fallen: fallen[0])
    low, high = (rows.get(name) or {}).get("interval") or (None, None)
    keys = [fallen for fallen in falls if (rows.get(fallen[1]) or {}).get("key")]
    key, key_name = max(keys, key=lambda fallen: fallen[0], default=(None, None))
    if key_name == name:
        key, key_name = None, None
    return _Loss(name, Estimate(drop, low, high), key_name, key)


def _comparable(items: Sequence[Record], losses: Mapping[str, _Loss]) -> list[Record]:
    """The times that may stand in one picture: of one environment, and of a machine that was fit."""
    fit = [item for item in speeds.timed(items) if not item["health"]["reasons"]]
    places = Counter(item["environment_digest"] for item in fit if item["engine"] in losses)
    if not places:
        return []
    most = min(places, key=lambda place: (-places[place], place))
    return [item for item in fit if item["environment_digest"] == most]


def _paces(items: Sequence[Record], engines: Sequence[str], *, few: bool) -> list[_Paces]:
    """How fast *engines* are at the smallest, a middle and the largest batch size."""
    sizes = sorted({item["batch"] for item in items if item["engine"] in engines})
    if len(sizes) > 3:
        sizes = [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
    chosen = sizes if few else sizes[-1:]
    return [_at(batch, [item for item in items if item["batch"] == batch], engines) for batch in chosen]


def _at(batch: int, items: Sequence[Record], engines: Sequence[str]) -> _Paces:
    """One yardstick for all engines of a picture: the reference, the FP32 engine, or the time itself."""
    own = [item for item in items if item["engine"] in engines]
    beside = [item for item in own if speeds.REFERENCE in item["speedups"]]
    plain = next((item for item in items if item["engine"].partition(" @ ")[0] == "fp32"), None)
    if beside and (plain is None or len(beside) == len(own)):
        found = {item["engine"]: _estimate(item["speedups"][speeds.REFERENCE]) for item in beside}
        return _Paces(batch, "the reference", found)
    if plain is not None and len(own) > (plain in own):
        found = {
            item["engine"]: Estimate(1.0) if item is plain else _faster(speeds.faster(item, plain))
            for item in own
        }
        return _Paces(batch, "the FP32 engine", found)
    return _Paces(batch, None, {item["engine"]: Estimate(item["latency"]["median_ms"]) for item in own})


def _estimate(speedup: Record) -> Estimate:
    return Estimate(speedup["ratio"], speedup["low"], speedup["high"])


def _faster(found: speeds.Faster) -> Estimate:
    return Estimate(found.ratio, found.low, found.high)


def _order(engine: Record, paces: Sequence[_Paces]) -> tuple[bool, float, str]:
    """The fastest at the largest batch size first, and what was not timed last."""
    last = paces[-1] if paces else None
    pace = last.found.get(engine["engine"]) if last else None
    if last is None or pace is None:
        return True, 0.0, engine["engine"]
    return False, -pace.value if last.over else pace.value, engine["engine"]


def _why(engine: str, items: Sequence[Record], counting: Sequence[Record]) -> str:
    """Why an engine is in no picture, in a sentence; "" where it is in one."""
    own = [item for item in items if item["engine"] == engine and item["check"] == Check.LATENCY.value]
    timed = speeds.timed(own)
    if any(item["engine"] == engine for item in counting):
        return ""
    if not timed:
        told = dict.fromkeys(item["message"] for item in own if item["verdict"] in ("skipped", "error"))
        return next(iter(told), "")
    unfit = [reason for item in timed for reason in item["health"]["reasons"]]
    if unfit:
        return f"the state of the machine speaks against its times: {unfit[0]}"
    if not counting:
        return ""
    found = differences(counting[0]["environment"], timed[0]["environment"])
    elsewhere = "; ".join(f"{each.what}: {each.then} there, {each.now} here" for each in found)
    return f"its times are of another environment than those of the others: {elsewhere}"


def _chart(
    model: str, anchor: str, engines: Sequence[Record], losses: Mapping[str, _Loss], paces: _Paces,
    numbers: str,
) -> Chart:  # fmt: skip
    points = [
        _point(engine, losses[engine["engine"]], pace, speedup=paces.over is not None)
        for engine in engines
        if engine["engine"] in losses
        and (pace := paces.found.get(engine["engine"])) is not None
    ]  # fmt: skip
    across = "median time of a query in ms" if paces.over is None else f"speed-up over {paces.over}"
    left = len(points) - tradeoff.MOST_POINTS
    parts = [point.told for point in points[:6]]
    if len(points) > 6:
        parts.append(f"{len(points) - 6} more in the table")
    if left > 0:
        parts.append(f"{left} of them are not drawn")
    what = "Time" if paces.over is None else "Speed-up"
    return tradeoff.of_points(
        points, anchor, f"{what} and loss of {model} at batch {paces.batch}", across,
        speedup=paces.over is not None, told="; ".join(parts) + ".", numbers=numbers,
    )  # fmt: skip


def _point(engine: Record, loss: _Loss, pace: Estimate, *, speedup: bool) -> Point:
    name, status = formats.shown_engine(engine["engine"]), STATUSES[engine["verdict"]]
    told = f"{name}: {shown_pace(pace, speedup=speedup)}, {_fallen(loss)}, {status.word}"
    return Point(name, status, pace, loss.drop, loss.key, told)


def _fallen(loss: _Loss) -> str:
    if loss.drop.value <= 0:
        return "no class lost recall"
    return f"recall of '{loss.name}' {formats.points(loss.drop.value)} points lower"


def _told(engines: Sequence[Record], losses: Mapping[str, _Loss], paces: Sequence[_Paces]) -> str:
    """The fastest of the engines that do not fail and lose a point at most, at each batch size."""
    failed = {engine["engine"] for engine in engines if engine["verdict"] in ("fail", "error")}
    parts = []
    for each in paces:
        kept = {
            name: pace
            for name, pace in each.found.items()
            if name in losses and name not in failed and losses[name].drop.value <= tradeoff.WITHIN
        }
        if not kept:
            parts.append(f"at batch {each.batch} none")
            continue
        best = max(kept, key=lambda name: kept[name].value * (1 if each.over else -1))
        pace = shown_pace(kept[best], speedup=each.over is not None)
        over = f" as fast as {each.over}" if each.over else ""
        parts.append(f"at batch {each.batch} {formats.shown_engine(best)}, {pace}{over}")
    if not parts:
        return ""
    found = "; ".join(parts)
    return f"Fastest of those that do not fail and lose at most 1 point of any class's recall: {found}."


def _table(
    model: str, anchor: str, engines: Sequence[Record], losses: Mapping[str, _Loss],
    paces: Sequence[_Paces], why: Mapping[str, str],
) -> Table:  # fmt: skip
    keys = any(loss.key is not None for loss in losses.values())
    columns = (
        Column("verdict", text=True),
        Column("worst class's fall", hint="of recall, in points, and its interval"),
        Column("worst class", text=True),
        *([Column("worst key class's fall", hint="where another class falls further")] if keys else []),
        *(Column(f"batch {each.batch}", hint=_hint(each)) for each in paces),
        *([] if paces else [Column("time", text=True)]),
    )

    def row(engine: Record) -> Row:
        name, status = engine["engine"], STATUSES[engine["verdict"]]
        loss = losses.get(name)
        cells = (
            status,
            None if loss is None else _with_interval(loss.drop),
            None if loss is None or loss.drop.value <= 0 else loss.name,
            *([None if loss is None or loss.key is None else _key(loss)] if keys else []),
            *(_cell(each, name, any(name in other.found for other in paces)) for each in paces),
            *([] if paces else ["not timed here"]),
        )
        return Row(formats.shown_engine(name), cells, None if status.word == "pass" else status, why[name])

    caption = f"{model}: how fast its engines are, and what they lose"
    return Table(anchor, caption, "engine", columns, tuple(map(row, engines)))


def _hint(paces: _Paces) -> str:
    return "median in ms" if paces.over is None else f"speed-up over {paces.over}"


def _cell(paces: _Paces, engine: str, timed: bool) -> str | None:
    pace = paces.found.get(engine)
    if pace is None:
        return None if timed else "not timed here"
    return shown_pace(pace, speedup=paces.over is not None)


def _with_interval(drop: Estimate) -> str | None:
    ends = None if drop.low is None or drop.high is None else formats.interval((drop.low, drop.high))
    return formats.points(drop.value) if ends is None else f"{formats.points(drop.value)} ({ends})"


def _key(loss: _Loss) -> str:
    return f"{formats.points(loss.key)} ({loss.key_name})"
