"""Recall or precision of classes before and after: two marks a class, joined, with the drop's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.scales import Linear
from trtcheck.report.view import formats
from trtcheck.report.view.room import Room
from trtcheck.report.view.statuses import STATUSES

MOST_ROWS, FEWER_ROWS = 20, 12
"""Classes of a picture: fewer where most of a model's are not shown anyway."""
WIDTH = 580
_LEFT, _RIGHT, _TOP, _STEP = 165, 470, 18, 22

Record = Mapping[str, Any]


def of_classes(rows: Sequence[Record], figure: str, anchor: str, numbers: str, room: Room) -> Chart | None:
    """The picture of the worst classes.

    Args:
        rows: Classes, worst first: ``name``, ``before``, ``after`` and, where they were judged, ``verdict``,
            ``interval`` of the drop, ``margin``, ``floor`` and ``key``.
        figure: ``"recall"`` or ``"precision"``.
        anchor: Id of the picture.
        numbers: Id of the table that has the numbers.
        room: How much the page may hold.

    Returns:
        The picture; None where nothing is defined before or after.
    """
    defined = [row for row in rows if row["before"] is not None or row["after"] is not None]
    if not defined:
        return None
    shown = _chosen(defined, MOST_ROWS if len(defined) <= room.classes else FEWER_ROWS)
    ends = (end for row in shown for end in (row["before"], row["after"], row.get("floor"), *_ends(row)))
    scale = Linear.around((end for end in ends if end is not None), _LEFT, _RIGHT, least=0.02)
    scale = Linear(max(scale.low, 0.0), min(scale.high, 1.0), _LEFT, _RIGHT)
    bottom = _TOP + _STEP * len(shown)
    words = f"{figure}, from {scale.low:g} to {scale.high:g}"
    found = [*axes.below(scale, _TOP - 6, bottom, words, "{:g}".format)]
    for number, row in enumerate(shown):
        found += _row(row, scale, _TOP + _STEP * number + _STEP / 2)
    return Chart(
        anchor=anchor,
        title=_title(figure, defined, shown),
        description=" ".join((*_verdicts(defined), *_told(shown, figure, len(defined) - len(shown)))),
        width=WIDTH,
        height=bottom + 40,
        marks=tuple(found),
        legend=_legend(shown),
        numbers=numbers,
    )


def _chosen(rows: Sequence[Record], most: int) -> list[Record]:
    """The first of *rows*, and key classes in any case; half of the room is kept for the others."""
    key = [row for row in rows if row.get("key")]
    others = [row for row in rows if not row.get("key")]
    key = key[: max(most - len(others), most // 2)]
    kept = {id(row) for row in (*key, *others[: most - len(key)])}
    return [row for row in rows if id(row) in kept]


def _title(figure: str, rows: Sequence[Record], shown: Sequence[Record]) -> str:
    title = f"{figure.capitalize()} before and after"
    if len(shown) == len(rows):
        return title
    which = "the worst" if list(shown) == list(rows[: len(shown)]) else "the worst and key classes,"
    return f"{title}: {which} {len(shown)} of {formats.grouped(len(rows))} classes"


def _verdicts(rows: Sequence[Record]) -> list[str]:
    """How many classes fail, in a sentence; none where none was judged."""
    verdicts = [row["verdict"] for row in rows if row.get("verdict")]
    if not verdicts:
        return []
    counts = {word: verdicts.count(word) for word in ("fail", "inconclusive")}
    told = [f"{formats.grouped(n)} {_VERBS[word][n != 1]}" for word, n in counts.items() if n]
    return [
        f"Of {formats.number_of(len(verdicts), 'class', 'classes')} {' and '.join(told) or 'none fails'}."
    ]


_VERBS = {"fail": ("fails", "fail"), "inconclusive": ("is inconclusive", "are inconclusive")}


def _ends(row: Record) -> tuple[float, ...]:
    """What the drop's interval makes of the value after: its ends, between 0 and 1."""
    if row.get("interval") is None or row["before"] is None:
        return ()
    low, high = row["interval"]
    return tuple(min(max(row["before"] - end, 0.0), 1.0) for end in (high, low))


def _row(row: Record, scale: Linear, y: float) -> list[Mark]:
    verdict = row.get("verdict")
    status = None if verdict is None else STATUSES[verdict]
    before, after = row["before"], row["after"]
    title = f"{row['name']}: {_shown(before)} before, {_shown(after)} after"
    name = marks.fitted(str(row["name"]), _LEFT - 14)
    found = [marks.text(_LEFT - 10, y + 4, name, "strong" if row.get("key") else "", "end")]
    ends = _ends(row)
    if ends:
        left, right = map(scale, ends)
        found.append(marks.interval(left, right, y, "whisker"))
    if before is not None and after is not None:
        found.append(marks.line(scale(before), y, scale(after), y, "span"))
    for limit in (row.get("floor"), _limit(row)):
        if limit is not None and scale.low <= limit <= scale.high:
            found += [marks.line(scale(limit), y - 8, scale(limit), y + 8, "limit")]
    if before is not None:
        found.append(marks.point(scale(before), y, 0, "hollow"))
    if after is not None:
        found.append(marks.point(scale(after), y, 2, status.word if status else "", title))
    if status is not None:
        found.append(marks.text(_RIGHT + 12, y + 4, f"{status.shape} {status.word}", status.word))
    return found


def _shown(value: float | None) -> str:
    return formats.share(value) or "undefined"


def _limit(row: Record) -> float | None:
    """Where the value after would have to be for the drop to reach its margin."""
    if row.get("margin") is None or row["before"] is None:
        return None
    return max(float(row["before"] - row["margin"]), 0.0)


def _told(rows: Sequence[Record], figure: str, left_out: int) -> list[str]:
    fallen = [
        (row["before"] - row["after"], row) for row in rows if None not in (row["before"], row["after"])
    ]
    worst = sorted((pair for pair in fallen if pair[0] > 0), key=lambda pair: -pair[0])[:3]
    parts = [
        f"{row['name']} from {formats.share(row['before'])} to {formats.share(row['after'])}"
        for _, row in worst
    ]
    said = f"Largest falls of {figure}: {', '.join(parts)}." if parts else f"No {figure} fell."
    more = [f"{formats.number_of(left_out, 'class is', 'classes are')} left out."] if left_out else []
    return [said, *more]


def _legend(rows: Sequence[Record]) -> tuple[Key, ...]:
    found = [
        Key(marks.point(0, 0, 0, "hollow"), "before"),
        Key(marks.point(0, 0, 2), "after"),
        Key(marks.line(-10, 0, 10, 0, "span"), "the change"),
    ]
    if any(map(_ends, rows)):
        found.append(Key(marks.line(-10, 0, 10, 0, "whisker"), "interval of the drop"))
    if any(row.get("margin") is not None for row in rows):
        floors = any(row.get("floor") is not None for row in rows)
        found.append(Key(marks.line(0, -7, 0, 7, "limit"), "limit or floor" if floors else "limit"))
    return tuple(found)
