"""The check ``calibration``: findings in, an `Outcome` out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trtcheck.calibration.coverage import RECOMMENDED
from trtcheck.calibration.findings import CalibrationFindings, named, warnings
from trtcheck.case import Check, OnFinding, Outcome, Verdict
from trtcheck.names import listed, percent

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.calibration.coverage import Coverage
    from trtcheck.calibration.overlap import Overlap
    from trtcheck.calibration.saturation import Saturation, SaturationRow
    from trtcheck.case import Case, EngineSpec

MOST_ROWS = 50
"""Tensors in the record; the worst come first."""
COULD_MISS = "cropped, turned, mirrored or recoloured copies would not be found"


def outcome(case: Case, engine: EngineSpec, built: BuiltEngine, findings: CalibrationFindings) -> Outcome:
    """Whether the calibration data are clean and the ranges fit the evaluation data.

    Findings are warnings, or failures where ``case.gates.on_calibration`` says so.

    Args:
        case: The case.
        engine: What was asked for.
        built: The engine that runs.
        findings: What `trtcheck.session.Workbench.calibration` found.
    """
    nothing = _nothing(findings)
    told = () if nothing else warnings(findings, case.gates)
    fails = bool(told) and case.gates.on_calibration is OnFinding.FAIL
    verdict = Verdict.SKIPPED if nothing else Verdict.FAIL if fails else Verdict.PASS
    return Outcome(
        model=case.name, engine=engine.name, check=Check.CALIBRATION, verdict=verdict,
        message=nothing or ("; ".join(told) if fails else "; ".join(_described(findings))),
        numerics=built.numerics, measured=_measured(findings, case),
        notes=() if nothing else tuple(_notes(findings)), warnings=() if fails else told,
    )  # fmt: skip


def _nothing(findings: CalibrationFindings) -> str | None:
    """Why there is nothing to judge, or None."""
    saturation = findings.saturation
    if saturation is not None and not saturation.rows and not saturation.unknown:
        return "no activation of the lowered model is quantized to a fixed range, so nothing was calibrated"
    if saturation is not None and not saturation.rows and findings.overlap is None:
        return "no activation of the lowered model has an INT8 or UINT8 range that is fixed in the file"
    if saturation is None and findings.overlap is None:
        return "neither calibration data nor a lowered model to look into"
    return None


def _described(findings: CalibrationFindings) -> list[str]:
    """What was looked at and found, in numbers."""
    found = []
    if findings.overlap is not None:
        found.append(_overlap_described(findings.overlap))
    if findings.coverage is not None:
        found.append(_coverage_described(findings.coverage))
    if findings.saturation is not None and findings.saturation.rows:
        found.append(_saturation_described(findings.saturation))
    return found


def _overlap_described(overlap: Overlap) -> str:
    images, distinct = overlap.images, overlap.distinct
    number = (
        "1 calibration image"
        if images == 1
        else (f"{images} calibration images, {'all' if distinct == images else distinct} different")
    )
    copies = len({match.evaluation for match in (*overlap.exact, *overlap.resized)})
    return f"{number}, {copies or 'none'} of the {overlap.evaluated} evaluation images among them"


def _saturation_described(saturation: Saturation) -> str:
    worst, count = saturation.rows[0], len(saturation.rows)
    return (
        f"largest share outside the calibrated range {percent(worst.share)}: {named(worst)}, of {count} "
        f"quantized tensor{'' if count == 1 else 's'} on {saturation.images} evaluation images"
    )


def _coverage_described(coverage: Coverage) -> str:
    seen = len(coverage.counts) - len(coverage.missing)
    classes = f"all {seen}" if not coverage.missing else f"{seen} of {len(coverage.counts)}"
    source = "by their labels" if coverage.by_labels else "as the reference answers"
    rarest = min(coverage.counts, key=lambda name: coverage.counts[name] or float("inf"))
    return f"{classes} classes seen ({source}; fewest: {coverage.counts[rarest]} of '{rarest}')"


def _notes(findings: CalibrationFindings) -> list[str]:
    """What the check could not see."""
    notes = []
    overlap, coverage, saturation = findings.overlap, findings.coverage, findings.saturation
    if overlap is None:
        notes.append(
            "the model was quantized elsewhere and the suite names no calibration data: only the ranges in "
            "the file were looked at"
        )
    elif findings.made_elsewhere:
        notes.append("the model was quantized elsewhere; the suite's calibration data may not be its own")
    if overlap is not None:
        if overlap.unsearched is not None:
            notes.append(f"only exact copies were looked for: {overlap.unsearched}")
        else:
            notes.append(f"copies were looked for exactly and at other sizes; {COULD_MISS}")
            left = overlap.distinct - overlap.plain - overlap.compared
            if overlap.unverified:
                notes.append(
                    f"{overlap.unverified} more pairs of images stand out and were not looked at closely"
                )
            if left:
                notes.append(f"{left} calibration images, evenly spread, were compared exactly only")
    if coverage is None and overlap is not None:
        notes.append("the model gives no class scores, so no classes were counted")
    if coverage is not None and coverage.by_chance and coverage.images >= RECOMMENDED:
        notes.append(
            f"no calibration image shows {listed(coverage.by_chance, 3)}: a random sample of as many images "
            "may miss them, too"
        )
    if saturation is None:
        notes.append("there is no lowered ONNX model to look into, so ranges were not looked at")
    elif saturation.unknown:
        notes.append(
            f"{saturation.unknown} quantizers of activations were left out: the file fixes no INT8 or UINT8 "
            "range for them, or only inside If, Loop or Scan"
        )
    return notes


def _measured(findings: CalibrationFindings, case: Case) -> dict[str, Any]:
    """All figures, JSON-ready."""
    return {
        "made_elsewhere": findings.made_elsewhere,
        "overlap": _overlap_record(findings),
        "coverage": _coverage_record(findings.coverage),
        "saturation": _saturation_record(findings.saturation),
        "limits": {"saturation": case.gates.saturation, "on_calibration": case.gates.on_calibration.value},
    }


def _overlap_record(findings: CalibrationFindings) -> dict[str, Any] | None:
    overlap = findings.overlap
    if overlap is None:
        return None
    return {
        "images": overlap.images, "distinct": overlap.distinct, "evaluated": overlap.evaluated,
        "exact": len(overlap.exact), "exact_pairs": [asdict(pair) for pair in findings.exact_pairs],
        "resized": len(overlap.resized), "resized_pairs": [asdict(pair) for pair in findings.resized_pairs],
        "compared": overlap.compared, "plain": overlap.plain,
        "unverified": overlap.unverified, "unsearched": overlap.unsearched,
    }  # fmt: skip


def _coverage_record(coverage: Coverage | None) -> dict[str, Any] | None:
    if coverage is None:
        return None
    return {
        "by": "labels" if coverage.by_labels else "answers", "classes": len(coverage.counts),
        "counts": dict(coverage.counts), "missing": list(coverage.missing),
        "by_chance": list(coverage.by_chance), "unclassed": coverage.unclassed,
    }  # fmt: skip


def _saturation_record(saturation: Saturation | None) -> dict[str, Any] | None:
    if saturation is None:
        return None
    return {
        "images": saturation.images, "tensors": len(saturation.rows), "unknown": saturation.unknown,
        "rows": [_row(row) for row in saturation.rows[:MOST_ROWS]],
    }  # fmt: skip


def _row(row: SaturationRow) -> dict[str, Any]:
    from trtcheck.baselines.schema import finite

    figures = asdict(row) | {"share": row.share, "used": row.used}
    return {key: finite(value) if isinstance(value, float) else value for key, value in figures.items()}
