"""How often suites cry wolf, and how often they see harm: the tables of docs/statistics.md.

    python benchmarks/verdicts.py > verdicts.md

Every kind of suite has a seed of its own, so that the tables are the same on any number of cores.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeVar

import numpy as np
import scipy
from simulation import RULES, SEED, Cell, failed, precision_failed, same_verdicts

from trtcheck.environment import processor, usable_cores
from trtcheck.judge import clopper_pearson

CLASSES, IMAGES = (10, 100, 1000), (20, 50, 200, 1000)
FLIPS = (0.005, 0.02, 0.05, 0.1)
DROPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
USUAL_FLIPS, MANY_FLIPS = 0.02, 0.1
CONFIDENCE = 0.95
TEXT = """\
The reference's recall is 80 % in every class. Benign flips of 2 % mean that each image goes from right to
wrong with probability 2 %, and from wrong to right with probability 2 %; a drop of 20 points adds 20 % to the
first. All rules but the naive one fail a class whose net loss is at least one point of its images and whose
one-sided exact p-value is significant at 1 %:

- naive: the observed recall of any class is lower by more than one point;
- McNemar: p of any class is at most .01, not corrected for the number of classes;
- Holm, BH: the same after the correction of Holm, or of Benjamini and Hochberg, over the classes;
- trtcheck: Tarone-Holm over the classes at .5 %, and at .5 % the pooled test over all of them, which asks for
  a net loss of .2 points instead.

Bounds are exact (Clopper-Pearson), one-sided, 95 %. The power of a rule that fails harmless suites says
nothing.
"""
KEYS = """\
A key class has a quarter of the 1 % to itself and the others share a quarter. That helps where many answers
change, and costs a little where so few change that Tarone's procedure drops most classes anyway.
"""
LABELS = """\
Label vectors for `trtcheck.judge`: wrong answers are spread evenly over the other classes, and as many images
as flip each way go from one wrong class to another. "As counted": the classes that `judge.recall` fails, its
pooled test and its verdict are those of the counts that the tables above are made from.
"""


@dataclass(frozen=True)
class Plan:
    """What is simulated: the grid, and how many suites of each number of classes."""

    classes: Sequence[int] = CLASSES
    images: Sequence[int] = IMAGES
    flips: Sequence[float] = FLIPS
    drops: Sequence[float] = DROPS
    harmless: Sequence[int] = (20_000, 50_000, 10_000)
    harmed: int = 1_000
    goals: int = 2_000
    on_labels: Sequence[int] = (1_000, 1_000, 200)
    same: int = 50


QUICK = Plan(
    classes=(10, 100), images=(20, 50), flips=(0.02, 0.1), drops=(0.01, 0.2, 0.4), harmless=(1_000, 300),
    harmed=100, goals=200, on_labels=(50, 10), same=3,
)  # fmt: skip
GOALS = (
    ("40 points in one of 1000 classes of 50 images", Cell(1000, 50, USUAL_FLIPS, 0.4), 0.95),
    ("20 points in one of 100 classes of 200 images", Cell(100, 200, USUAL_FLIPS, 0.2), 0.99),
    ("1 point in all of 1000 classes of 50 images", Cell(1000, 50, USUAL_FLIPS, 0.01, True), 0.99),
)


def percent(share: float) -> str:
    """A share in percent; 0 and 100 stand for none and all."""
    if share in (0, 1):
        return f"{100 * share:.0f}"
    text = f"{100 * share:.1f}"
    return {"0.0": "< 0.1", "100.0": "> 99.9"}.get(text, text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a Markdown table and an empty line."""
    print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


T = TypeVar("T")


class Map(Protocol):
    """The built-in `map` over cells and their numbers of suites, by several processes."""

    def __call__(
        self, function: Callable[[Cell, int], T], cells: Sequence[Cell], suites: Sequence[int], /
    ) -> Iterator[T]:
        """What *function* gives for each cell, in their order."""
        ...


def false_alarms(plan: Plan, over: Map) -> tuple[float, float]:
    """Prints the table of harmless suites.

    Returns:
        The highest share that trtcheck fails, and the highest upper bound of such a share.
    """
    cells = [Cell(*kind) for kind in product(plan.classes, plan.images, plan.flips)]
    suites = [dict(zip(plan.classes, plan.harmless, strict=True))[cell.classes] for cell in cells]
    totals = iter(zip(over(failed, cells, suites), suites, strict=True))
    rows, shares, bounds = [], [], []
    for classes, images in product(plan.classes, plan.images):
        found = [next(totals) for _ in plan.flips]
        columns = [" / ".join(percent(total[rule] / count) for total, count in found) for rule in RULES]
        upper = [clopper_pearson(total["trtcheck"], count, CONFIDENCE)[1] for total, count in found]
        rows.append([str(classes), str(images), f"{found[0][1]:,}", *columns, f"{100 * max(upper):.2f}"])
        shares += [total["trtcheck"] / count for total, count in found]
        bounds += upper
    print(f"### Harmless suites that fail, in % (benign flips {_listed(plan.flips)} % each way)\n")
    table(["classes", "images a class", "suites", *RULES, "trtcheck, upper bound"], rows)
    return max(shares), max(bounds)


def power(plan: Plan, over: Map, everywhere: bool) -> None:
    """Prints the table of suites with harm in one class or in all."""
    grid = product(plan.classes, plan.images, plan.drops)
    cells = [Cell(classes, images, USUAL_FLIPS, drop, everywhere) for classes, images, drop in grid]
    totals = over(failed, cells, [plan.harmed] * len(cells))
    where = "all classes" if everywhere else "one class"
    print(f"### Suites that fail, in %, with {where} worse by {_listed(plan.drops)} points\n")
    rows = []
    for classes, images in product(plan.classes, plan.images):
        found = [next(totals) for _ in plan.drops]
        columns = [" / ".join(percent(total[rule] / plan.harmed) for total in found) for rule in RULES]
        rows.append([str(classes), str(images), *columns])
    table(["classes", "images a class", *RULES], rows)


def goals(plan: Plan, over: Map, alarms: tuple[float, float]) -> None:
    """Prints the goals and what came of them."""
    totals = over(failed, [cell for _, cell, _ in GOALS], [plan.goals] * len(GOALS))
    rows = [
        [
            "nothing, in any cell",
            "at most 1 %",
            f"at most {percent(alarms[0])} %",
            f"< {100 * alarms[1]:.2f} %",
        ]
    ]
    for (harm, _, goal), total in zip(GOALS, totals, strict=True):
        found = total["trtcheck"]
        lower = clopper_pearson(found, plan.goals, CONFIDENCE)[0]
        rows.append(
            [harm, f"{100 * goal:.0f} %", f"{percent(found / plan.goals)} %", f"> {100 * lower:.2f} %"]
        )
    print(f"### Goals ({plan.goals:,} suites each; benign flips {_listed([USUAL_FLIPS])} % each way)\n")
    table(["harm", "suites to fail", "trtcheck fails", "95 % bound"], rows)


def key_class(plan: Plan, over: Map) -> None:
    """Prints what it changes to name one class of 100 a key class."""
    drops = (0.0, *plan.drops)
    kinds = list(product((USUAL_FLIPS, MANY_FLIPS), (50, 200), (False, True)))
    cells = [Cell(100, images, flips, drop, key=key) for flips, images, key in kinds for drop in drops]
    totals = over(failed, cells, [plan.goals] * len(cells))
    rows = []
    for flips, images, key in kinds:
        found = [percent(next(totals)["trtcheck"] / plan.goals) for _ in drops]
        rows.append([f"{100 * flips:g}", str(images), "yes" if key else "no", " / ".join(found)])
    print(f"### Suites of 100 classes that fail, in %, with one class worse ({plan.goals:,} suites each)\n")
    print(KEYS)
    table(["benign flips, %", "images a class", "a key class", f"worse by {_listed(drops)} points"], rows)


def on_labels(plan: Plan, over: Map) -> None:
    """Prints what whole verdicts on label vectors say."""
    kinds = list(product(zip(plan.classes, plan.on_labels, strict=True), (USUAL_FLIPS, MANY_FLIPS)))
    cells = [Cell(classes, 50, flips) for (classes, _), flips in kinds]
    suites = [count for (_, count), _ in kinds]
    found = list(over(precision_failed, cells, suites))
    harmed = [Cell(cell.classes, 50, cell.flips, 0.2) for cell in cells]
    same = list(over(same_verdicts, cells, [plan.same] * len(cells)))
    same_harmed = list(over(same_verdicts, harmed, [plan.same] * len(cells)))
    rows = []
    for cell, count, alarms, *alike in zip(cells, suites, found, same, same_harmed, strict=True):
        upper = clopper_pearson(alarms, count, CONFIDENCE)[1]
        row = [str(cell.classes), f"{100 * cell.flips:g}", f"{count:,}", percent(alarms / count)]
        rows.append([*row, f"{100 * upper:.2f}", *(f"{one} of {plan.same}" for one in alike)])
    print("### Whole verdicts on label vectors, 50 images a class\n")
    print(LABELS)
    head = ["classes", "benign flips, %", "harmless suites", "precision fails, %", "upper bound"]
    table([*head, "recall as counted, harmless", "recall as counted, one class -20 points"], rows)


def _listed(shares: Sequence[float]) -> str:
    return " / ".join(f"{100 * share:g}" for share in shares)


def main() -> None:
    """Prints the environment and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few suites: a check that all of it runs")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes (default: one a core)")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    started = time.monotonic()
    command = "python benchmarks/verdicts.py" + " --quick" * options.quick
    libraries = f"NumPy {np.__version__}, SciPy {scipy.__version__}; {processor()}"
    print(f"Made by `{command}`, seed {SEED}; Python {platform.python_version()}, {libraries}\n")
    print(TEXT)
    with ProcessPoolExecutor(options.workers) as pool:
        over: Map = pool.map
        alarms = false_alarms(plan, over)
        goals(plan, over, alarms)
        power(plan, over, everywhere=False)
        power(plan, over, everywhere=True)
        key_class(plan, over)
        on_labels(plan, over)
    print(f"{time.monotonic() - started:.0f} s on {options.workers} cores", file=sys.stderr)


if __name__ == "__main__":
    main()
