"""What many times of queries amount to: middle, spread, percentiles, and how many it takes to trust these."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

PERCENTILES = (90, 95, 99)
"""The percentiles that trtexec prints by default."""


def summary(samples_ms: np.ndarray) -> dict[str, Any]:
    """Figures of the times of single queries; JSON-ready.

    Args:
        samples_ms: Times, float64 (S,), milliseconds, at least one.

    Returns:
        ``median_ms``, ``mean_ms``, ``stddev_ms`` (of a sample, as pytest-benchmark takes it; 0 for one time),
        ``min_ms``, ``max_ms``, ``p90_ms``, ``p95_ms``, ``p99_ms``, ``samples`` (how many) and ``indicative``:
        the percentiles that so few samples only indicate (see `queries_needed`).

    Raises:
        ValueError: There is no time, or one that is no finite number.
    """
    count = samples_ms.size
    if count == 0 or not np.isfinite(samples_ms).all():
        raise ValueError("times of queries must be at least one, and all of them finite")
    return {
        "median_ms": float(np.median(samples_ms)),
        "mean_ms": float(samples_ms.mean()),
        "stddev_ms": float(samples_ms.std(ddof=1)) if count > 1 else 0.0,
        "min_ms": float(samples_ms.min()),
        "max_ms": float(samples_ms.max()),
        **{f"p{p}_ms": value for p, value in nearest_ranks(samples_ms).items()},
        "samples": count,
        "indicative": [f"p{p}" for p in PERCENTILES if count < queries_needed(p)],
    }


def nearest_ranks(samples: np.ndarray) -> dict[int, float]:
    """The percentiles that trtexec prints, by nearest rank: each is a time that was measured.

    Args:
        samples: Times, float64 (S,), at least one.

    Source: ``findPercentile`` in NVIDIA/TensorRT, samples/common/sampleReporting.cpp. It reckons in single
    precision and so takes the time one rank above for 99 where the times are a multiple of 100.
    """
    ordered = np.sort(samples)
    count = len(ordered)
    return {p: float(ordered[max(count - 1 - (100 - p) * count // 100, 0)]) for p in PERCENTILES}


def queries_needed(percentile: int, confidence: float = 0.99) -> int:
    """How many queries a percentile needs so that its rank is off by a twentieth of its tail at most.

    Args:
        percentile: 90 is the time that 90 % of the queries stay within.
        confidence: Of that statement.

    Returns:
        24 576 for 90, 57 344 for 95, 270 336 for 99.

    Source: MLPerf Inference Rules, "Appendix Number of Queries". With p the fraction and
    (1 - p) / 20 the margin: Phi^-1((1 - confidence) / 2)^2 p (1 - p) / margin^2, up to a multiple of 2^13.
    """
    p = percentile / 100
    margin = (1 - p) / 20
    queries = NormalDist().inv_cdf((1 - confidence) / 2) ** 2 * p * (1 - p) / margin**2
    return math.ceil(queries / 2**13) * 2**13


def throughput(batch: int, queries: int, seconds: float) -> float:
    """Images per second.

    Args:
        batch: Images of a query.
        queries: Queries that ran.
        seconds: What they took by the host's clock, above 0.
    """
    return batch * queries / seconds
