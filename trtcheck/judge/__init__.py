"""From paired answers to verdicts: pure functions, usable without pytest.

The rules and their reasons are in docs/statistics.md.
"""

from trtcheck.case import DropTest, Verdict
from trtcheck.judge.accuracy import accuracy, top_k_accuracy
from trtcheck.judge.classes import precision, recall
from trtcheck.judge.latency import latency, latency_absolute, latency_ratio
from trtcheck.judge.latency_bounds import session_sd
from trtcheck.judge.latency_limits import looks, speedup, within
from trtcheck.judge.multiplicity import holm, tarone_holm
from trtcheck.judge.paired import mcnemar_p
from trtcheck.judge.power import minimum_detectable_drop
from trtcheck.judge.rates import clopper_pearson
from trtcheck.judge.tango import score_interval
from trtcheck.judge.verdicts import (
    AccuracyVerdict,
    ClassesVerdict,
    ClassVerdict,
    Enough,
    LatencyRule,
    LatencyVerdict,
    LimitVerdict,
    PooledVerdict,
    PrecisionVerdict,
    RecallVerdict,
    Speedup,
)

__all__ = [
    "AccuracyVerdict",
    "ClassVerdict",
    "ClassesVerdict",
    "DropTest",
    "Enough",
    "LatencyRule",
    "LatencyVerdict",
    "LimitVerdict",
    "PooledVerdict",
    "PrecisionVerdict",
    "RecallVerdict",
    "Speedup",
    "Verdict",
    "accuracy",
    "clopper_pearson",
    "holm",
    "latency",
    "latency_absolute",
    "latency_ratio",
    "looks",
    "mcnemar_p",
    "minimum_detectable_drop",
    "precision",
    "recall",
    "score_interval",
    "session_sd",
    "speedup",
    "tarone_holm",
    "top_k_accuracy",
    "within",
]
