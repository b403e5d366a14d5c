"""Speed of the counts and of a verdict, each beside what users would write instead.

    python benchmarks/metrics.py

Every function counts the same labels in turn, several times over, and its best time counts. A verdict is
timed in a fresh process: the first one, and a second one on other answers, which finds some of the detectable
drops computed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from itertools import product

import numpy as np

from trtcheck.environment import processor, usable_cores
from trtcheck.metrics.confusion import confusion_matrix
from trtcheck.metrics.paired import paired_counts

GOAL_S = 1.0
"""A verdict on 1000 classes takes less."""
SIZES = ((20_000_000, 19, ("int64", "int32", "uint8")), (50_000, 1000, ("int64", "int32", "int16")))
QUICK_SIZES = ((50_000, 19, ("int64", "uint8")), (5_000, 1000, ("int32",)))


def answers(truth: np.ndarray, classes: int, wrong: float, seed: int) -> np.ndarray:
    """The truth, but for a share of *wrong* answers at random."""
    rng = np.random.default_rng(seed)
    out = truth.copy()
    at = np.flatnonzero(rng.random(len(truth)) < wrong)
    out[at] = rng.integers(0, classes, len(at))
    return out


def best_seconds(functions: dict[str, Callable[[], object]], repetitions: dict[str, int]) -> dict[str, float]:
    """The best time of each function in seconds; they take turns."""
    best = dict.fromkeys(functions, float("inf"))
    for turn in range(max(repetitions.values())):
        for name, function in functions.items():
            if turn < repetitions[name]:
                start = time.perf_counter()
                function()
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def plain(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """The counts by `numpy.bincount` alone, which takes any label for granted."""
    if truth.itemsize * 8 - 1 < (classes * classes).bit_length():  # the product needs a wider type
        truth = truth.astype(np.int64)
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def speeds(sizes: Iterable[tuple[int, int, tuple[str, ...]]], quick: bool) -> list[str]:
    """A table of millions of images a second."""
    rows = [
        "| images | classes | labels | `confusion_matrix` | `numpy.bincount` | scikit-learn | to NumPy "
        "| to scikit-learn | `paired_counts` |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for images, classes, types in sizes:
        labels = np.random.default_rng(0).integers(0, classes, images)
        for dtype in types:
            truth = labels.astype(dtype)
            before = answers(truth, classes, 0.2, 1)
            after = answers(before, classes, 0.04, 2)
            rows.append(_speed(truth, before, after, classes, 2 if quick else 9))
    return rows


def _speed(truth: np.ndarray, before: np.ndarray, after: np.ndarray, classes: int, turns: int) -> str:
    from sklearn import metrics  # here, as the fresh processes of the verdicts do without it

    every = range(classes)
    functions: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: confusion_matrix(truth, before, classes)[:, :-1],
        "numpy": lambda: plain(truth, before, classes),
        "sklearn": lambda: metrics.confusion_matrix(truth, before, labels=every),
    }
    counts = [function() for function in functions.values()]
    if any((found != counts[0]).any() for found in counts):
        raise SystemExit("the counts differ")
    if len(truth) < 1_000_000:
        turns *= 10
    best = best_seconds(
        {**functions, "paired": lambda: paired_counts(truth, before, after, classes)},
        {"ours": turns, "numpy": turns, "sklearn": min(turns, 3), "paired": turns},
    )
    speed = {name: len(truth) / seconds / 1e6 for name, seconds in best.items()}
    return (
        f"| {len(truth):,} | {classes} | {truth.dtype} | {speed['ours']:.0f} | {speed['numpy']:.0f} "
        f"| {speed['sklearn']:.1f} | {speed['ours'] / speed['numpy']:.2f} x "
        f"| {speed['ours'] / speed['sklearn']:.0f} x | {speed['paired']:.0f} |"
    )


def judge_seconds(judged: str, supports: tuple[int, ...]) -> list[float]:
    """Seconds of a first and of a second verdict of ``judge.recall`` or ``judge.precision``.

    The answers are different ones each time.
    """
    from trtcheck import judge

    truth = np.repeat(np.arange(len(supports)), supports)
    seconds = []
    for seed in (1, 2):
        before = answers(truth, len(supports), 0.2, seed)
        after = answers(before, len(supports), 0.04, seed + 2)
        start = time.perf_counter()
        getattr(judge, judged)(truth, before, after, classes=len(supports))
        seconds.append(time.perf_counter() - start)
    return seconds


def verdicts(classes: int) -> list[str]:
    """A table of the seconds of verdicts on recall and on precision."""
    supports = {
        "50 images each": (50,) * classes,
        f"1 to {classes} images, each its own number": tuple(range(1, classes + 1)),
    }
    rows = [
        f"| verdict on {classes} classes | images | first | second | goal |",
        "|---|---:|---:|---:|---:|",
    ]
    spawn = multiprocessing.get_context("spawn")
    for (label, images), judged in product(supports.items(), ("recall", "precision")):
        with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
            first, second = fresh.submit(judge_seconds, judged, images).result()
        seconds = f"{first:.2f} s | {second:.2f} s | < {GOAL_S:g} s"
        rows.append(f"| {judged}, {label} | {sum(images):,} | {seconds} |")
    return rows


def main() -> None:
    """Prints the environment and both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a check that all of it runs")
    quick = parser.parse_args().quick
    libraries = f"NumPy {np.__version__}, scikit-learn {version('scikit-learn')}"
    print(f"Python {platform.python_version()}, {libraries}; {processor()}, {usable_cores()} cores\n")
    print("Millions of images a second:\n")
    print(*speeds(QUICK_SIZES if quick else SIZES, quick), sep="\n")
    print("\nSeconds of a verdict, from labels on, in a fresh process:\n")
    print(*verdicts(100 if quick else 1000), sep="\n")


if __name__ == "__main__":
    main()
