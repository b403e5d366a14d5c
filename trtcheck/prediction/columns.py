"""Predictions side by side, for a terminal as for a pipe, and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

from trtcheck.case import Case, Numerics
from trtcheck.names import fraction
from trtcheck.prediction.answers import Prediction, Seen, Shares
from trtcheck.report.escaped import visible
from trtcheck.report.places import shown

NARROWEST = 60
"""Cells of a line that are always there."""
_NAME, _ENGINE = 16, 18
"""Cells that a class has at least, and that an engine's name has at most."""
_GAP = 2
_ANSWER = "*"
_KEY = {
    Numerics.EMULATED: "computed in FP32, rounded to the asked-for type as ONNX Runtime's CUDA kernels do",
    Numerics.RECORDED: "read from a file that was recorded elsewhere",
}


def as_text(found: Sequence[Seen], *, width: int = NARROWEST, base: Path | None = None) -> str:
    """A table an input: its classes, and the probability that every engine gives them.

    Args:
        found: What was answered.
        width: Cells of a line; engines that have no room stand in a table below.
        base: Folder against which files are told.
    """
    blocks = [_block(seen, max(width, NARROWEST), base) for seen in found]
    kinds = dict.fromkeys(own.numerics for seen in found for own in seen.predictions)
    keys = [
        _wrapped(f"{kind}: {text}", max(width, NARROWEST))
        for kind, text in _KEY.items()
        if kind.value in kinds
    ]
    blocks.append("\n".join([f"{_ANSWER} the answer", *keys]))
    return "\n\n".join(blocks) + "\n"


def _block(seen: Seen, width: int, base: Path | None) -> str:
    truth = "" if seen.asked.truth is None else f", labelled '{visible(seen.asked.truth)}'"
    place = _place(seen, base)
    head = [
        f"{visible(seen.asked.name)}{truth}",
        *([f"  {visible(place)}"] if place is not None else []),
        *(_wrapped(f"note: {note}", width, "  ") for note in seen.asked.notes),
    ]
    tables = [_table(seen, columns, width) for columns in _pages(seen.predictions, width)]
    verdict = [_wrapped(sentence, width) for sentence in _verdict(seen.predictions)]
    return "\n\n".join(["\n".join(head), *tables, "\n".join(verdict)])


def _wrapped(text: str, width: int, indent: str = "") -> str:
    """*text* in lines that are not longer than *width*, all but the first further in."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    )


def _place(seen: Seen, base: Path | None) -> str | None:
    """The file of an evaluation image; any other is called by its file already."""
    if seen.asked.file is None or seen.asked.index is None:
        return None
    return seen.asked.file if base is None else shown(Path(seen.asked.file), base)


def _pages(predictions: Sequence[Prediction], width: int) -> list[range]:
    """The engines that fit beside each other, table by table."""
    pages, start, left = [], 0, width - _NAME
    for column, own in enumerate(predictions):
        left -= _GAP + _wide(own)
        if left < 0 and column > start:
            pages.append(range(start, column))
            start, left = column, width - _NAME - _GAP - _wide(own)
    return [*pages, range(start, len(predictions))]


def _wide(own: Prediction) -> int:
    return max(len(_ANSWER) + len(fraction(1.0)), len(own.numerics), min(_ENGINE, _cells(own.engine)))


def _cells(name: str) -> int:
    return cell_len(visible(name))


def _table(seen: Seen, columns: range, width: int) -> str:
    chosen = [seen.predictions[column] for column in columns]
    wide = [_wide(own) for own in chosen]
    longest = max((_cells(row.name) for row in seen.classes), default=0)
    room = max(0, min(longest, width - sum(wide) - _GAP * len(wide)))

    def line(name: str, cells: Sequence[str]) -> str:
        parts = [_fitted(name, room), *(_right(*each) for each in zip(cells, wide, strict=True))]
        return (" " * _GAP).join(parts).rstrip()

    return "\n".join(
        [
            line("", [own.engine for own in chosen]),
            line("", [own.numerics for own in chosen]),
            *(line(row.name, [_cell(row, seen, column) for column in columns]) for row in seen.classes),
        ]
    )


def _cell(row: Shares, seen: Seen, column: int) -> str:
    share = row.of[column]
    if share is None:
        return "-"
    return f"{_ANSWER if seen.predictions[column].answer == row.name else ''}{fraction(share)}"


def _fitted(name: str, room: int) -> str:
    """*name* in as many cells as *room* says, its end cut off where it is longer."""
    told = visible(name)
    return set_cell_size(told, room) if cell_len(told) <= room else f"{set_cell_size(told, room - 1)}…"


def _right(text: str, room: int) -> str:
    told = visible(text)
    if cell_len(told) > room:  # files are often told apart by their end
        half = (room - 1) // 2
        told = f"{set_cell_size(told, room - 1 - half)}…{told[-half:]}"
    return " " * (room - cell_len(told)) + told


def _verdict(predictions: Sequence[Prediction]) -> list[str]:
    """Whether all answer the same, in a sentence an engine that does not."""
    first, *others = predictions
    told = [
        f"{visible(own.engine)} answers {_answer(own)} where the {first.engine} answers {_answer(first)}"
        for own in others
        if own.answer != first.answer
    ]
    if told:
        return told
    if first.answer is None:
        return ["there is no answer: the scores are not finite"]
    return ["all answer the same" if others else f"the {first.engine} answers {_answer(first)}"]


def _answer(own: Prediction) -> str:
    return "nothing (its scores are not finite)" if own.answer is None else f"'{visible(own.answer)}'"


def as_json(case: Case, found: Sequence[Seen], notes: Sequence[str]) -> str:
    """The same for programs, in ASCII: one object with the inputs in order."""
    document: dict[str, Any] = {
        "model": case.name,
        "notes": list(notes),
        "images": [
            {
                "name": seen.asked.name,
                "index": seen.asked.index,
                "file": seen.asked.file,
                "truth": seen.asked.truth,
                "notes": list(seen.asked.notes),
                "predictions": [
                    {
                        "engine": own.engine,
                        "numerics": own.numerics,
                        "answer": own.answer,
                        "top": [list(pair) for pair in own.best],
                    }
                    for own in seen.predictions
                ],
            }
            for seen in found
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
