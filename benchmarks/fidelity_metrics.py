"""What two lanes' answers have in common: agreement, recall by class, relative L2 and margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SUPPORT = 100
"""Fewest inputs of a class whose recall is compared."""
AGREEMENT, POINTS = 0.999, 0.1


def compared(
    emulated: np.ndarray, native: np.ndarray, reference: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """How far the scores *emulated* on the CPU are from the GPU's *native* ones, JSON-ready.

    Args:
        emulated: Scores (N, classes).
        native: Likewise.
        reference: Those of FP32 on the CPU.
        labels: True classes (N,).

    Returns:
        ``agreement`` (share of equal answers), ``recall_points`` (largest difference of a class's recall,
        among classes of at least `SUPPORT` inputs), ``one_input_points`` (what one input weighs in the
        smallest of them), ``relative_l2`` of the two and of each against FP32 (inputs with finite scores
        in all three), ``accuracy`` of both and of FP32, ``margin`` (median distance of the GPU's two best
        scores) and ``margin_apart`` (the same, and the largest, where the answers differ).
    """
    ours, theirs, plain = (scores.argmax(axis=1) for scores in (emulated, native, reference))
    apart = ours != theirs
    finite = np.isfinite(emulated).all(1) & np.isfinite(native).all(1) & np.isfinite(reference).all(1)
    best = np.sort(np.where(np.isfinite(native), native, 0).astype(np.float64), axis=1)
    margins = best[:, -1] - best[:, -2]
    supports = np.bincount(labels)
    classes = np.flatnonzero(supports >= SUPPORT)
    points = [100 * abs(float(np.mean(ours[labels == c] == c) - np.mean(theirs[labels == c] == c)))
              for c in classes]  # fmt: skip
    return {
        "inputs": len(labels),
        "finite": int(finite.sum()),
        "agreement": float(np.mean(~apart)),
        "apart": int(apart.sum()),
        "recall_points": max(points, default=None),
        "one_input_points": 100 / int(supports[classes].min()) if len(classes) else None,
        "classes": len(classes),
        "relative_l2": _distance(emulated[finite], native[finite]),
        "relative_l2_fp32": [_distance(one[finite], reference[finite]) for one in (emulated, native)],
        "agreement_fp32": [float(np.mean(one == plain)) for one in (ours, theirs)],
        "accuracy": [float(np.mean(one == labels)) for one in (ours, theirs, plain)],
        "margin": float(np.median(margins)),
        "margin_apart": [float(np.median(margins[apart])), float(margins[apart].max())]
        if apart.any()
        else None,
    }


def floor(plain: np.ndarray, others: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """How far the scores *others* of other orders of summation are from the *plain* ones, JSON-ready.

    Returns:
        ``apart``, ``recall_points`` and ``relative_l2`` as of `compared`, the largest of all orders, and
        ``orders``, their number.
    """
    rows = [compared(other, plain, plain, labels) for other in others]
    largest = {
        key: max((row[key] for row in rows if row[key] is not None), default=None)
        for key in ("apart", "recall_points", "relative_l2")
    }
    return {"orders": len(rows), **largest}


def _distance(one: np.ndarray, other: np.ndarray) -> float | None:
    """Relative L2 of *one* from *other*."""
    whole = float(np.linalg.norm(other.astype(np.float64)))
    return float(np.linalg.norm(one.astype(np.float64) - other)) / whole if whole else None


def goals(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows that miss a goal, in sentences; a class's recall may differ by one input.

    One input may weigh more than the goal's `POINTS`, so a class of fewer than 1000 cannot miss by one. Where
    the row has a floor, the sentence names it; the goal is missed all the same.
    """
    missed = []
    for row in rows:
        what = f"{row['model']} {row['precision']}"
        if "refused" in row:
            continue
        if row["agreement"] < AGREEMENT:
            told = f"{what}: {row['agreement']:.4f} of the answers agree ({row['apart']} differ), "
            missed.append(f"{told}goal {AGREEMENT}{_beside(row, 'apart', '{} differ')}")
        if (
            row["recall_points"] is not None
            and row["recall_points"] > max(POINTS, row["one_input_points"]) + 1e-9
        ):
            told = f"{what}: a class's recall differs by {row['recall_points']:.2f} points, goal {POINTS}"
            missed.append(f"{told} or one input{_beside(row, 'recall_points', '{:.2f} points')}")
    return missed


def _beside(row: Mapping[str, Any], key: str, told: str) -> str:
    """What the CPU alone does in another order of summation, for a sentence about a missed goal."""
    if row.get("floor") is None:
        return ""
    return f"; of the CPU's own answers in another order of summation, up to {told.format(row['floor'][key])}"


def table(document: Mapping[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        f"{document['machine']}",
        "",
        "| model | precision | inputs | same answer "
        "| largest difference of a class's recall (what one input weighs), points "
        "| floor: differ / points / relative L2 "
        "| relative L2: CPU to GPU | CPU to FP32 | GPU to FP32 | same answer as FP32: CPU / GPU "
        "| accuracy: FP32 / CPU / GPU | median margin: all / where they differ |",
        "|---" * 12 + "|",
    ]
    return "\n".join(lines + [_line(row) for row in document["rows"]])


def _line(row: Mapping[str, Any]) -> str:
    first = f"| {row['model']} | {row['precision']} |"
    if "refused" in row:
        return f"{first} not run: {row['refused'][:160]}" + " |" * 10
    ours, theirs, plain = row["accuracy"]
    apart = f"{row['margin_apart'][0]:.2g}" if row["margin_apart"] else "none differ"
    recall = (
        "" if row["recall_points"] is None else f"{row['recall_points']:.2f} ({row['one_input_points']:.2f})"
    )
    cells = [
        f"{row['inputs']}" + (f", {row['finite']} finite" if row["finite"] < row["inputs"] else ""),
        f"{row['agreement']:.4f} ({row['apart']} differ)",
        recall,
        _floor(row.get("floor")),
        *(f"{x:.1e}" if x is not None else "" for x in (row["relative_l2"], *row["relative_l2_fp32"])),
        " / ".join(f"{x:.4f}" for x in row["agreement_fp32"]),
        f"{plain:.4f} / {ours:.4f} / {theirs:.4f}",
        f"{row['margin']:.2g} / {apart}",
    ]
    return f"{first} " + " | ".join(cells) + " |"


def _floor(found: Mapping[str, Any] | None) -> str:
    """The cell of a row's floor; empty where it was not measured."""
    if found is None:
        return ""
    points = "" if found["recall_points"] is None else f"{found['recall_points']:.2f}"
    distance = "" if found["relative_l2"] is None else f"{found['relative_l2']:.1e}"
    return f"{found['apart']} / {points} / {distance}"
