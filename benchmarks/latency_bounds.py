"""Which bounds a slowdown should have: those of signed ranks, Student's t, and the trimmed mean.

Rounds are resampled from benchmarks/data/h100_latency.npz or simulated; prints a table of docs/statistics.md.

    python benchmarks/latency_bounds.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy import special

from trtcheck.judge.latency_bounds import SESSION_SD, bounds

ALPHA, TOLERANCE = 0.01, np.log(1.02)
MEASUREMENTS, SEED = 20_000, 5
DATA = Path(__file__).parent / "data" / "h100_latency.npz"
PROCESSES = [f"{number:02d}" for number in range(1, 9)]

Ends = tuple[np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def session_margin() -> float:
    """Distance of a bound that what differs between sessions asks for."""
    return -float(special.ndtri(ALPHA)) * SESSION_SD


def by_signed_ranks(logs: np.ndarray) -> Ends:
    """Wilcoxon's exact interval around the Hodges-Lehmann estimate, widened by the session term."""
    rounds = logs.shape[1]
    first, second = np.triu_indices(rounds)
    walsh = np.sort((logs[:, first] + logs[:, second]) / 2, axis=1)
    chances = np.zeros(walsh.shape[1] + 1)
    chances[0] = 1.0
    for rank in range(1, rounds + 1):
        chances[rank:] += chances[:-rank].copy()
        chances /= 2
    cut = int(np.searchsorted(np.cumsum(chances), ALPHA, side="right"))
    centre = np.median(walsh, axis=1)
    below = np.hypot(centre - walsh[:, cut - 1], session_margin())
    above = np.hypot(walsh[:, -cut] - centre, session_margin())
    return centre - below, centre + above


def by_t(logs: np.ndarray) -> Ends:
    """Student's interval of the mean, widened by the session term."""
    rounds = logs.shape[1]
    se = logs.std(axis=1, ddof=1) / np.sqrt(rounds)
    distance = np.hypot(-special.stdtrit(rounds - 1, ALPHA) * se, session_margin())
    return logs.mean(axis=1) - distance, logs.mean(axis=1) + distance


def by_trtcheck(logs: np.ndarray) -> Ends:
    """What trtcheck does: `trtcheck.judge.latency_bounds.bounds`."""
    found = [bounds(row, ALPHA, SESSION_SD) for row in logs]
    kept = [one for one in found if one is not None]
    return np.array([one.low for one in kept]), np.array([one.high for one in kept])


RULES: Mapping[str, Callable[[np.ndarray], Ends]] = {
    "signed ranks": by_signed_ranks, "t": by_t, "trimmed t": by_trtcheck,
}  # fmt: skip


def h100(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Rounds of one process each, resampled around its centre, with what differs between processes."""
    with np.load(DATA) as stored:
        medians = {
            (name, process): np.median(stored[f"interleaved.{name}.{process}"], axis=1)
            for name in ("A_1", "A_2", "B5", "B10") for process in PROCESSES
        }  # fmt: skip
    logs = np.array(
        [[np.log(medians[name, p] / medians["A_1", p]) for p in PROCESSES] for name in ("A_2", "B5", "B10")]
    )
    centres = np.median(logs, axis=2, keepdims=True)
    rounds = (logs - centres).reshape(-1, logs.shape[2])
    # The two engines are alike, and so are a log ratio and its negative.
    rounds = np.concatenate([rounds, -rounds], axis=1)
    sessions = (centres - np.median(centres, axis=1, keepdims=True)).ravel()
    chosen = rng.integers(0, len(rounds), (shape[0], 1))
    drawn: np.ndarray = rounds[chosen, rng.integers(0, rounds.shape[1], shape)]
    return drawn + rng.choice(sessions, (shape[0], 1))


def simulated(draw: Draw) -> Draw:
    """The same for rounds from *draw*, with sessions that differ by .1 %."""
    return lambda rng, shape: draw(rng, shape) + rng.normal(0, 0.001, (shape[0], 1))


KINDS: Mapping[str, Draw] = {
    "H100, resampled": h100,
    "normal, 1 %": simulated(lambda rng, shape: rng.normal(0, 0.01, shape)),
    "normal, 2 %": simulated(lambda rng, shape: rng.normal(0, 0.02, shape)),
    "t(3), 1 %": simulated(lambda rng, shape: 0.01 * rng.standard_t(3, shape)),
    "1 %, a tenth 8 times as wide": simulated(
        lambda rng, shape: rng.normal(0, 0.01, shape) * np.where(rng.random(shape) < 0.1, 8, 1)
    ),
}


def main() -> None:
    """Prints the table."""
    print("| rounds | identical: pass | 2 % slower: fail | 5 % slower: fail |")
    print("|---|---|---|---|")
    for name, draw in KINDS.items():
        for rounds in (12, 24):
            logs = draw(np.random.default_rng([SEED, rounds]), (MEASUREMENTS, rounds))
            ends = [rule(logs) for rule in RULES.values()]
            columns = (
                [100 * (high <= TOLERANCE).mean() for _, high in ends],
                [100 * (low > 0).mean() for low, _ in ends],
                [100 * (low + np.log(1.05) > TOLERANCE).mean() for low, _ in ends],
            )
            cells = [
                " / ".join(f"{share:.{digits}f}" for share in column)
                for column, digits in zip(columns, (1, 2, 1), strict=True)
            ]
            print(f"| {rounds} of {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
