"""What is tested and what came of it: plain frozen data, without I/O and without heavy imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtcheck.data import Source


class Verdict(StrEnum):
    """What an item came to."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"
    ERROR = "error"


WORST_FIRST = (Verdict.ERROR, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.SKIPPED)
"""Verdicts in the order in which one of them stands for several."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that stands for several; skipped where there are none."""
    return min(verdicts, key=WORST_FIRST.index, default=Verdict.SKIPPED)


class Numerics(StrEnum):
    """How an engine's answers came about."""

    NATIVE = "native"
    """Computed by the arithmetic that was asked for."""
    EMULATED = "emulated"
    """Computed in FP32 and rounded to the asked-for type after every node."""
    RECORDED = "recorded"
    """Read from a file that was recorded elsewhere."""


class Check(StrEnum):
    """The checks of one model and engine, in the order in which they run."""

    BUILD = "build"
    OUTPUTS = "outputs"
    ACCURACY = "accuracy"
    RECALL = "recall"
    PRECISION = "precision"


class Precision(StrEnum):
    """The precisions that an engine can be asked for."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


@dataclass(frozen=True)
class InputSpec:
    """Preprocessing, applied identically for every engine: ``(pixel * scale - mean) / std``.

    Attributes:
        layout: Layout of the *data*, ``"NHWC"`` or ``"NCHW"``; None lets the model's shape decide.
        scale: Factor applied to every pixel first.
        mean: Subtracted after scaling; one number, or one a channel.
        std: Divided by last; one number, or one a channel.
        resize: Image folders only: the shorter side in pixels, or (height, width).
        crop: Image folders only: centre crop, one number or (height, width), in pixels.
        color: Image folders only: ``"RGB"``, ``"BGR"`` or ``"L"``.
    """

    layout: str | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    color: str = "RGB"

    @property
    def is_identity(self) -> bool:
        """Whether pixels are fed as they are."""
        return self.scale == 1.0 and not self.mean and not self.std


@dataclass(frozen=True)
class LoweringSpec:
    """How one precision is made from the FP32 model.

    Attributes:
        exclude: Names (or fnmatch patterns) of nodes that stay in FP32.
        method: INT8 only: ``"entropy"``, ``"minmax"`` or ``"percentile"``.
        percentile: INT8 with ``method="percentile"``: share of activations kept, in percent.
        rest: INT8 only: precision of what is not quantized, ``"fp16"`` or ``"fp32"``.
    """

    exclude: tuple[str, ...] = ()
    method: str = "entropy"
    percentile: float = 99.99
    rest: str = "fp16"


@dataclass(frozen=True)
class ClassGates:
    """Margins of one class; None means the model's own."""

    recall_drop: float | None = None
    precision_drop: float | None = None


@dataclass(frozen=True)
class Gates:
    """Limits of one model.

    Attributes:
        recall_drop: Largest drop of a class's recall that is accepted, as a fraction (0.01 is one point).
        precision_drop: The same for precision.
        accuracy_drop: The same for accuracy over all labelled images.
        top_k_accuracy_drop: The same for top-k accuracy; None leaves it ungated.
        alpha: False-alarm rate of one item (one model, engine and check).
        classes: Margins of single classes by name.
        max_abs: Largest absolute output error accepted; None leaves it ungated, as for the following.
        max_rel: Largest relative output error.
        relative_l2: Largest relative L2 error of an output.
        cosine: Smallest cosine similarity of an output.
        kl: Largest mean Kullback-Leibler divergence of the class scores, in nats.
        top1_agreement: Smallest share of images on which engine and reference agree.
    """

    recall_drop: float = 0.01
    precision_drop: float = 0.01
    accuracy_drop: float = 0.01
    top_k_accuracy_drop: float | None = None
    alpha: float = 0.01
    classes: Mapping[str, ClassGates] = field(default_factory=dict)
    max_abs: float | None = None
    max_rel: float | None = None
    relative_l2: float | None = None
    cosine: float | None = None
    kl: float | None = None
    top1_agreement: float | None = None

    def margin(self, check: Check, name: str) -> float:
        """The accepted drop of recall or precision of class *name*, as a fraction."""
        own = self.classes.get(name, ClassGates())
        if check is Check.RECALL:
            return self.recall_drop if own.recall_drop is None else own.recall_drop
        return self.precision_drop if own.precision_drop is None else own.precision_drop


ALL_CHECKS = tuple(Check)


@dataclass(frozen=True)
class Case:
    """One model with its data and limits.

    Attributes:
        name: Name in node ids, baselines and reports.
        onnx: Path of the FP32 ONNX model, the reference.
        data: Evaluation data: an ``.npz`` path, an image folder, a mapping of array name to ``.npy`` path
            (with ``labels``), a tuple of arrays ``(images, labels)`` or a `trtcheck.data.Images`.
        classes: Class names in the order of the model's scores; None names them by folder or number.
        calibration: Calibration data for INT8, as *data*, labels optional.
        batch: Batch size, where the model leaves it open.
        output: Name of the output that holds the class scores; needed only where it is ambiguous.
        top_k: k of the reported top-k figures.
        input: Preprocessing.
        gates: Limits.
        checks: The checks to collect.
        engines: Default engines, used where neither command line nor ini names any.
        lowering: How precisions are made, by precision.
        lowered: Files that were lowered elsewhere, by precision; taken as they are.
    """

    name: str
    onnx: Path
    data: Source
    classes: tuple[str, ...] | None = None
    calibration: Source | None = None
    batch: int = 32
    output: str | None = None
    top_k: int = 5
    input: InputSpec = InputSpec()
    gates: Gates = Gates()
    checks: tuple[Check, ...] = ALL_CHECKS
    engines: tuple[str, ...] = ()
    lowering: Mapping[Precision, LoweringSpec] = field(default_factory=dict)
    lowered: Mapping[Precision, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "onnx", Path(self.onnx))
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))

    @property
    def needs_labels(self) -> bool:
        """Whether any of the checks counts right and wrong answers."""
        return bool({Check.ACCURACY, Check.RECALL, Check.PRECISION} & set(self.checks))


@dataclass(frozen=True)
class EngineSpec:
    """One entry of ``--trt-engine``.

    Attributes:
        name: The precision as typed, or the stem of the file: the name in node ids and reports.
        precision: The precision to lower to, or None for a file.
        path: A model that was made elsewhere and is tested as it is, or None.
    """

    name: str
    precision: Precision | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What one check came to: the record that reaches terminal, JUnit and report.

    Attributes:
        model: Name of the case.
        engine: Name of the engine.
        check: Name of the check.
        verdict: The verdict.
        message: The reason, in words and numbers; the first line stands alone.
        numerics: How the engine's answers came about; None where nothing was built.
        measured: The check's figures, JSON-ready (see docs/report-schema.md).
        notes: What a reader should know beside the verdict.
    """

    model: str
    engine: str
    check: Check
    verdict: Verdict
    message: str
    numerics: Numerics | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
