"""From paired answers to verdicts: pure functions, usable without pytest.

The rules and their reasons are in docs/statistics.md.
"""

from trtcheck.judge.classes import (
    AccuracyVerdict,
    ClassesVerdict,
    ClassVerdict,
    accuracy,
    precision,
    recall,
    top_k_accuracy,
)
from trtcheck.judge.paired import holm, mcnemar_p, minimum_detectable_drop

__all__ = [
    "AccuracyVerdict",
    "ClassVerdict",
    "ClassesVerdict",
    "accuracy",
    "holm",
    "mcnemar_p",
    "minimum_detectable_drop",
    "precision",
    "recall",
    "top_k_accuracy",
]
