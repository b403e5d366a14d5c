"""What was found out about the calibration of an engine, and the sentences that warn of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trtcheck.calibration.coverage import FEWEST, RECOMMENDED, Coverage
from trtcheck.calibration.overlap import Overlap
from trtcheck.calibration.saturation import Saturation, SaturationRow
from trtcheck.case import Gates
from trtcheck.names import fraction, listed

MOSTLY_EMPTY = 1 / 16
"""A range of which evaluation never uses more wastes four of its eight bits."""
MANY_COPIES = 0.9
"""A smaller share of different images among the calibration's is told."""
_TOLD = 3


@dataclass(frozen=True)
class Pair:
    """An evaluation image and the calibration image that it equals.

    Attributes:
        evaluation: Index of the evaluation image.
        calibration: Index of the calibration image.
        evaluation_file: Its file, where the source has files.
        calibration_file: The same for the calibration image.
    """

    evaluation: int
    calibration: int
    evaluation_file: str | None = None
    calibration_file: str | None = None

    def __str__(self) -> str:
        one, other = self.evaluation_file, self.calibration_file
        return (
            f"evaluation image {self.evaluation}{f' ({one})' if one else ''} is calibration image "
            f"{self.calibration}{f' ({other})' if other else ''}"
        )


@dataclass(frozen=True)
class CalibrationFindings:
    """What was found out about the calibration of an engine.

    Attributes:
        made_elsewhere: Whether the lowered model came with the suite, perhaps without its calibration data.
        overlap: What calibration and evaluation data have in common; None without calibration data.
        exact_pairs: The first of the exact copies.
        resized_pairs: The first of the resized copies.
        coverage: Which classes the calibration images show; None without calibration data or class scores.
        saturation: How evaluation fills the ranges; None where there is no lowered graph to look into.
    """

    made_elsewhere: bool = False
    overlap: Overlap | None = None
    exact_pairs: tuple[Pair, ...] = ()
    resized_pairs: tuple[Pair, ...] = ()
    coverage: Coverage | None = None
    saturation: Saturation | None = None


def warnings(findings: CalibrationFindings, gates: Gates) -> tuple[str, ...]:
    """What is wrong with the calibration, in sentences with numbers and what to do; empty if nothing is."""
    found = [*_of_overlap(findings), *_of_number(findings.overlap), *_of_coverage(findings.coverage, gates)]
    if findings.saturation is not None:
        found += _of_saturation(findings.saturation, gates)
    return tuple(found)


def _of_overlap(findings: CalibrationFindings) -> Iterable[str]:
    overlap = findings.overlap
    if overlap is None:
        return
    kinds = (
        (overlap.exact, findings.exact_pairs, "too"),
        (overlap.resized, findings.resized_pairs, "at another size, compressed again, or brighter or darker"),
    )
    for matches, pairs, how in kinds:
        if not matches:
            continue
        are = "is a calibration image" if len(matches) == 1 else "are calibration images"
        told = ", ".join(map(str, pairs[:_TOLD]))
        more = f" and {len(matches) - _TOLD} more" if len(matches) > _TOLD else ""
        yield (
            f"{len(matches)} of {overlap.evaluated} evaluation images {are}, {how} ({told}{more}): the "
            "engine was tuned to what it is judged by. Take them out of the calibration data"
        )


def _of_number(overlap: Overlap | None) -> Iterable[str]:
    if overlap is None:
        return
    copies = overlap.distinct < MANY_COPIES * overlap.images
    if copies:
        yield (
            f"only {overlap.distinct} of {overlap.images} calibration images are different; the others are "
            "exact copies of them, which tell the quantizer nothing new"
        )
    if overlap.distinct < FEWEST:
        what = f"{overlap.distinct} {'different ' if copies else ''}calibration image"
        yield (
            f"{what}{' is too few' if overlap.distinct == 1 else 's are few'}: NVIDIA recommends about "
            f"{RECOMMENDED} for ImageNet classifiers. Add images that the engine is not judged by"
        )


def _of_coverage(coverage: Coverage | None, gates: Gates) -> Iterable[str]:
    if coverage is None:
        return
    missing = coverage.missing
    keys = gates.key_among(missing)
    images = coverage.images
    excused = set(coverage.by_chance) if images >= RECOMMENDED else set()
    surprising = [name for name in missing if name not in excused or name in keys]
    source = "by their labels" if coverage.by_labels else "by the reference's answers"
    if surprising:
        ordered = [*keys, *(name for name in surprising if name not in keys)]
        of_keys = f", key {'classes' if len(keys) > 1 else 'class'} {listed(keys)} among them" if keys else ""
        yield (
            f"no calibration image shows {len(missing)} of the {len(coverage.counts)} evaluated classes "
            f"({source}): {listed(ordered)}{of_keys}. Add images of them"
        )
    if coverage.unclassed:
        yield (
            f"the reference gives no answer (NaN) on {coverage.unclassed} of {images} calibration images: "
            "look at these images and at scale, mean and std"
        )


def _of_saturation(saturation: Saturation, gates: Gates) -> Iterable[str]:
    rows = saturation.rows
    over = [row for row in rows if row.share > gates.saturation]
    if over:
        worst = over[0]
        yield (
            f"{len(over)} of {len(rows)} quantized tensors leave the calibrated range with more than "
            f"{fraction(gates.saturation)} of the evaluation's values; worst {named(worst)}: "
            f"{fraction(worst.share)} of the values lie outside {worst.low:.3g} to {worst.high:.3g}, they "
            f"reach {worst.smallest:.3g} to {worst.largest:.3g}. Calibrate on images like the evaluation's, "
            'preprocessed alike (see scale, mean and std), or by a method that cuts off less ("minmax")'
        )
    empty = [row for row in rows if row.used is not None and row.used < MOSTLY_EMPTY]
    if empty:
        worst = min(empty, key=lambda row: row.used or 0.0)
        yield (
            f"{len(empty)} of {len(rows)} quantized tensors use less than 1/16 of the calibrated range on "
            f"the evaluation images; worst {named(worst)}: its values reach {worst.smallest:.3g} to "
            f"{worst.largest:.3g}, its range {worst.low:.3g} to {worst.high:.3g}, so most of the 8 bits "
            "are wasted. Calibration data in another scale do this: see scale, mean and std"
        )
    broken = [row for row in rows if row.nan]
    if broken:
        yield (
            f"{len(broken)} of {len(rows)} quantized tensors hold NaN on evaluation images; first "
            f"{named(broken[0])}: {broken[0].nan} of {broken[0].elements} values"
        )


def named(row: SaturationRow) -> str:
    """The tensor of *row* with what makes it."""
    return f"'{row.tensor}' ({'an input of the model' if row.node is None else f'made by {row.node!r}'})"
