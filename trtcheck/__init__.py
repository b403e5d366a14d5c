"""Accuracy and performance regression tests for TensorRT engines, per class.

The names below are imported when they are first used, so that ``import trtcheck`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtcheck.case import (
        BuildSpec,
        Case,
        Check,
        ClassGates,
        DropTest,
        EngineSpec,
        Gates,
        InputSpec,
        LatencySpec,
        LoweringSpec,
        Numerics,
        OnFinding,
        Outcome,
        Precision,
        ShapeRange,
        Verdict,
    )
    from trtcheck.errors import TrtcheckError
    from trtcheck.evaluation import Evaluation
    from trtcheck.library import evaluate, judge_evaluation, predict, read_suite

_HOME = {
    **dict.fromkeys(
        ("BuildSpec", "Case", "Check", "ClassGates", "DropTest", "EngineSpec", "Gates", "InputSpec",
         "LatencySpec", "LoweringSpec", "Numerics", "OnFinding", "Outcome", "Precision", "ShapeRange",
         "Verdict"),
        "trtcheck.case",
    ),
    "TrtcheckError": "trtcheck.errors",
    "Evaluation": "trtcheck.evaluation",
    **dict.fromkeys(("evaluate", "judge_evaluation", "predict", "read_suite"), "trtcheck.library"),
}  # fmt: skip
_SUBMODULES = ("judge", "metrics")

__all__ = [
    "BuildSpec",
    "Case",
    "Check",
    "ClassGates",
    "DropTest",
    "EngineSpec",
    "Evaluation",
    "Gates",
    "InputSpec",
    "LatencySpec",
    "LoweringSpec",
    "Numerics",
    "OnFinding",
    "Outcome",
    "Precision",
    "ShapeRange",
    "TrtcheckError",
    "Verdict",
    "evaluate",
    "judge_evaluation",
    "predict",
    "read_suite",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"trtcheck.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'trtcheck' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
