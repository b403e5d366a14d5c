"""What is tested and what came of it: plain frozen data, without I/O and without heavy imports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trtcheck import given
from trtcheck.errors import CaseError
from trtcheck.names import matching

if TYPE_CHECKING:
    from trtcheck.data import Source

T = TypeVar("T")


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
    """Computed in FP32, rounded to the asked-for type as ONNX Runtime's CUDA kernels do."""
    RECORDED = "recorded"
    """Read from a file that was recorded elsewhere."""


class Check(StrEnum):
    """The checks of one model and engine, in the order in which they run."""

    BUILD = "build"
    CALIBRATION = "calibration"
    """Of INT8 engines: what the calibration data have seen and what they must not have seen."""
    OUTPUTS = "outputs"
    BATCH_INVARIANCE = "batch_invariance"
    """Whether an image's answer depends on the images beside it in a batch."""
    ACCURACY = "accuracy"
    RECALL = "recall"
    PRECISION = "precision"
    LATENCY = "latency"
    """Of models with a table ``latency``: whether an engine became slower, one item a batch size."""


class DropTest(StrEnum):
    """What makes a drop of recall, precision or accuracy a failure."""

    PAIRED = "paired"
    """It reaches the margin, and an exact paired test says that it is no noise."""
    THRESHOLD = "threshold"
    """It reaches the margin; noise does, too."""
    PROVEN = "proven"
    """It is not proven to be smaller than the margin: the upper Tango score bound does not lie below it."""


class OnFinding(StrEnum):
    """What becomes of a finding that is no regression by itself."""

    TELL = "tell"
    FAIL = "fail"


class Precision(StrEnum):
    """The precisions that an engine can be asked for."""

    FP32 = "fp32"
    """FP32 with TF32 off."""
    TF32 = "tf32"
    """FP32 whose products read their inputs with 10 bits of mantissa."""
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


WIDTHS: Mapping[Precision, int] = {
    Precision.FP32: 3, Precision.TF32: 2, Precision.FP16: 1, Precision.BF16: 1, Precision.INT8: 0,
}  # fmt: skip
"""Precisions by how many bits they compute in: the narrower one is meant to be the faster."""


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

    def __post_init__(self) -> None:
        given.require(self)
        given.settle(self, ("scale",), "a number", given.real)
        given.settle(self, ("mean", "std"), "a number, or one a channel", given.reals)
        given.settle(self, ("resize", "crop"), "pixels: one number, or (height, width)", given.pixels)

    @property
    def is_identity(self) -> bool:
        """Whether pixels are fed as they are."""
        return self.scale == 1.0 and not self.mean and not self.std


MAKERS = ("trtcheck", "modelopt")
"""Who can lower a model."""


@dataclass(frozen=True)
class LoweringSpec:
    """How one precision is made from the FP32 model.

    Attributes:
        exclude: Names (or fnmatch patterns) of nodes that stay in FP32.
        method: INT8 only: ``"entropy"``, ``"minmax"`` or ``"percentile"``.
        percentile: INT8 with ``method="percentile"``: share of activations kept, in percent.
        rest: INT8 only: precision of what is not quantized, ``"fp16"`` or ``"fp32"``.
        maker: Who lowers: ``"trtcheck"``, or ``"modelopt"`` for NVIDIA's ModelOpt (INT8: its quantizer;
            FP16: its AutoCast). The toml calls it ``quantizer`` for INT8 and ``converter`` for FP16.
    """

    exclude: tuple[str, ...] = ()
    method: str = "entropy"
    percentile: float = 99.99
    rest: str = "fp16"
    maker: str = "trtcheck"

    def __post_init__(self) -> None:
        given.require(self)
        given.settle(self, ("exclude",), *given.TEXTS)
        given.settle(self, ("maker",), " or ".join(MAKERS), _maker)


def _maker(value: object) -> str | None:
    return value if isinstance(value, str) and value in MAKERS else None


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of one input between which a TensorRT engine works: an optimization profile.

    Attributes:
        min: Smallest shape, the batch axis included.
        opt: The shape that the builder tunes for.
        max: Largest shape.
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        given.settle(self, ("min", "opt", "max"), "whole numbers, 1 or more", given.counts)
        if not given.ascends(self.min, self.opt, self.max):
            raise given.wrong("ShapeRange", "min <= opt <= max in every dimension", self)


@dataclass(frozen=True)
class BuildSpec:
    """How TensorRT builds and runs engines; other backends take no notice of it.

    Attributes:
        batch: Smallest, best and largest batch (min, opt, max); None for 1, the case's batch and the same.
        shapes: Full shapes by input name, for inputs with open dimensions besides the batch.
        workspace_mb: Memory that a layer may take while it runs, in MiB; None for TensorRT's own limit.
        optimization_level: Builder optimization level, 0 to 5; None for TensorRT's default.
        tf32: Whether the FP32 parts of an FP16, BF16 or INT8 engine may use TF32; the precision ``tf32``
            always does, and ``fp32`` never.
        version_compatible: Whether engines run on later versions of TensorRT too.
        hardware_compatible: Whether engines run on other GPUs of the Ampere generation or later too.
        plugins: Plugin libraries, loaded before parsing and before an engine is read.
        cuda_graph: Whether an engine is replayed as a CUDA graph.
    """

    batch: tuple[int, int, int] | None = None
    shapes: Mapping[str, ShapeRange] = field(default_factory=dict)
    workspace_mb: float | None = None
    optimization_level: int | None = None
    tf32: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    plugins: tuple[Path, ...] = ()
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        given.require(self)
        given.settle(self, ("batch",), "three whole numbers, min <= opt <= max", given.batches)
        given.settle(self, ("shapes",), "a mapping of input name to ShapeRange", _shape_ranges)
        given.settle(self, ("workspace_mb",), "a number above 0", given.positive)
        given.settle(self, ("optimization_level",), "a whole number from 0 to 5", given.level)
        flags = ("tf32", "version_compatible", "hardware_compatible", "cuda_graph")
        given.settle(self, flags, "True or False", lambda value: value if isinstance(value, bool) else None)
        given.settle(self, ("plugins",), "a list of paths", given.paths)


@dataclass(frozen=True)
class LatencySpec:
    """What is timed, and how.

    Attributes:
        batches: Batch sizes; a model of fixed batch size has only that.
        transfers: Whether the copies between host and GPU are part of the time.
        cuda_graph: Whether the work is replayed as a CUDA graph; None for what ``BuildSpec.cuda_graph`` says.
        spin_wait: Whether waiting threads spin instead of sleeping.
        rounds: Rounds of a measurement; more are made where the budget allows and the verdict is open.
    """

    batches: tuple[int, ...] = (1,)
    transfers: bool = False
    cuda_graph: bool | None = None
    spin_wait: bool = False
    rounds: int = 12

    def __post_init__(self) -> None:
        given.require(self)
        given.settle(self, ("batches",), *given.SIZES)
        given.settle(self, ("transfers", "cuda_graph", "spin_wait"), *given.FLAG)
        given.settle(self, ("rounds",), *given.ROUNDS)


def _shape_ranges(value: object) -> dict[str, ShapeRange] | None:
    if not isinstance(value, Mapping):
        return None
    whole = all(isinstance(k, str) and isinstance(v, ShapeRange) for k, v in value.items())
    return {str(name): own for name, own in value.items()} if whole else None


@dataclass(frozen=True)
class ClassGates:
    """Limits of one class; None means the model's own.

    Attributes:
        recall_drop: The drop of recall that is too much, as a fraction: a smaller one is accepted.
        precision_drop: The same for precision.
        recall_floor: Smallest accepted recall, whatever the reference's.
        precision_floor: The same for precision.
    """

    recall_drop: float | None = None
    precision_drop: float | None = None
    recall_floor: float | None = None
    precision_floor: float | None = None

    def __post_init__(self) -> None:
        given.settle(self, (limit.name for limit in fields(self)), *given.SHARE)


LIMITS: Mapping[str, given.Reader] = {
    "recall_drop": given.SHARE,
    "precision_drop": given.SHARE,
    "accuracy_drop": given.SHARE,
    "top_k_accuracy_drop": given.SHARE,
    "alpha": given.RATE,
    "test": given.one_of(DropTest),
    "key_classes": given.TEXTS,
    "pooled_drop": given.SHARE,
    "must_see": given.SHARE,
    "recall_floor": given.SHARE,
    "precision_floor": given.SHARE,
    "accuracy_floor": given.SHARE,
    "accuracy_target": given.SHARE,
    "churn": given.SHARE,
    "max_abs": given.AT_LEAST_ZERO,
    "max_rel": given.AT_LEAST_ZERO,
    "relative_l2": given.AT_LEAST_ZERO,
    "cosine": given.SHARE,
    "kl": given.AT_LEAST_ZERO,
    "top1_agreement": given.SHARE,
    "engine_mb": given.AT_LEAST_ZERO,
    "memory_mb": given.AT_LEAST_ZERO,
    "cpu_nodes": given.NONE_OR_MORE,
    "batch_tolerance": given.AT_LEAST_ZERO,
    "saturation": given.SHARE,
    "latency_slowdown": given.SLOWDOWN,
    "latency_p95_slowdown": given.SLOWDOWN,
    "throughput_drop": given.BELOW_ONE,
    "latency_ms": given.BY_BATCH,
    "latency_p95_ms": given.BY_BATCH,
    "throughput": given.BY_BATCH,
    "energy_mj": given.BY_BATCH,
    "speedup": given.POSITIVE,
    "faster_than": given.TEXT,
    "on_calibration": given.one_of(OnFinding),
    "on_inconclusive": given.one_of(OnFinding),
}
"""How every field of `Gates` but ``classes`` is read, in Python and in a suite file."""

BY_BATCH = tuple(name for name, reader in LIMITS.items() if reader is given.BY_BATCH)
"""The gates that may have a limit a batch size."""


@dataclass(frozen=True)
class Gates:
    """Limits of one model.

    Attributes:
        recall_drop: The drop of a class's recall that is too much, as a fraction (0.01 is one point): a
            smaller one is accepted, one of exactly as much is not.
        precision_drop: The same for precision.
        accuracy_drop: The same for accuracy over all labelled images.
        top_k_accuracy_drop: The same for top-k accuracy; None leaves it ungated.
        alpha: False-alarm rate of one item (one model, engine and check).
        test: What makes a drop a failure.
        key_classes: Names or patterns (fnmatch) of the classes that share a quarter of alpha of their own.
        pooled_drop: Smallest drop over all classes together that the pooled test fails, as a fraction; None
            for a fifth of what the classes' drops accept together.
        must_see: A class whose minimum detectable drop is larger is blind, as a fraction.
        recall_floor: Smallest accepted recall of any class; None leaves it ungated, as for the following.
        precision_floor: Smallest accepted precision of any class.
        accuracy_floor: Smallest accepted accuracy.
        accuracy_target: Smallest accepted share of the reference's accuracy (MLPerf: .99 or .999).
        classes: Limits of single classes, by name or pattern (fnmatch); what stands first comes first.
        churn: Largest accepted share of images whose answer changed.
        max_abs: Largest absolute output error accepted; None leaves it ungated, as for the following.
        max_rel: Largest relative output error.
        relative_l2: Largest relative L2 error of an output.
        cosine: Smallest cosine similarity of an output.
        kl: Largest mean Kullback-Leibler divergence of the class scores, in nats.
        top1_agreement: Smallest share of images on which engine and reference agree.
        engine_mb: Largest size of the engine's file, in MB (1e6 bytes).
        memory_mb: Largest device memory that the engine needs while it runs, in MB.
        cpu_nodes: Largest number of nodes that ONNX Runtime CUDA may leave to the CPU.
        batch_tolerance: Largest relative L2 difference of an image's output between batches; None for what
            the precision rounds to.
        saturation: Largest share of a tensor's evaluation activations outside the calibrated range that is
            not told.
        latency_slowdown: The slowdown of the median that is accepted, as a fraction (0.02 is 2 %).
        latency_p95_slowdown: The same for the 95th percentile; None for ``latency_slowdown``, where a tail
            that is too noisy to be judged is told and leaves the verdict to the median.
        throughput_drop: The drop of throughput that is accepted, as a fraction; None leaves it ungated, as
            for the following.
        latency_ms: Largest accepted median of a query, in ms; one number, or one by batch size.
        latency_p95_ms: Largest accepted 95th percentile, likewise.
        throughput: Smallest accepted throughput, in images per second, likewise.
        energy_mj: Largest accepted energy of an image, in millijoules, likewise.
        speedup: Smallest accepted speed-up over the reference on the same device.
        faster_than: Name of an engine of this model that must be slower, for example ``"fp16"``.
        on_calibration: Whether findings of the ``calibration`` check are told or fail it.
        on_inconclusive: Whether an inconclusive item is told or fails.
    """

    recall_drop: float = 0.01
    precision_drop: float = 0.01
    accuracy_drop: float = 0.01
    top_k_accuracy_drop: float | None = None
    alpha: float = 0.01
    test: DropTest = DropTest.PAIRED
    key_classes: tuple[str, ...] = ()
    pooled_drop: float | None = None
    must_see: float = 0.6
    recall_floor: float | None = None
    precision_floor: float | None = None
    accuracy_floor: float | None = None
    accuracy_target: float | None = None
    classes: Mapping[str, ClassGates] = field(default_factory=dict)
    churn: float | None = None
    max_abs: float | None = None
    max_rel: float | None = None
    relative_l2: float | None = None
    cosine: float | None = None
    kl: float | None = None
    top1_agreement: float | None = None
    engine_mb: float | None = None
    memory_mb: float | None = None
    cpu_nodes: int | None = None
    batch_tolerance: float | None = None
    saturation: float = 0.01
    latency_slowdown: float = 0.02
    latency_p95_slowdown: float | None = None
    throughput_drop: float | None = None
    latency_ms: Mapping[int, float] | float | None = None
    latency_p95_ms: Mapping[int, float] | float | None = None
    throughput: Mapping[int, float] | float | None = None
    energy_mj: Mapping[int, float] | float | None = None
    speedup: float | None = None
    faster_than: str | None = None
    on_calibration: OnFinding = OnFinding.TELL
    on_inconclusive: OnFinding = OnFinding.TELL

    def __post_init__(self) -> None:
        given.require(self)
        for name, reader in LIMITS.items():
            given.settle(self, (name,), *reader)
        given.settle(self, ("classes",), "a mapping of class name to ClassGates", _class_gates)

    def of_classes(self, names: Sequence[str]) -> tuple[ClassGates, ...]:
        """The limits of each class of *names*, nothing left to look up.

        An entry of ``classes`` that is a class's name counts before patterns, these in their order.
        """
        entries = sorted(self.classes.items(), key=lambda entry: entry[0] not in names)
        own: dict[str, list[ClassGates]] = {name: [] for name in names}
        for entry, gates in entries:
            for name in matching(entry, names):
                own[name].append(gates)
        model = ClassGates(self.recall_drop, self.precision_drop, self.recall_floor, self.precision_floor)
        return tuple(_first_of([*own[name], model]) for name in names)

    def key_among(self, names: Sequence[str]) -> tuple[str, ...]:
        """The key classes among *names*, in their order."""
        keys = {name for entry in self.key_classes for name in matching(entry, names)}
        return tuple(name for name in names if name in keys)

    def at_batch(self, gate: str, batch: int) -> float | None:
        """The limit *gate* (``latency_ms``, …) at a batch size; None where there is none."""
        limit: Mapping[int, float] | float | None = getattr(self, gate)
        return limit.get(batch) if isinstance(limit, Mapping) else limit

    def unmatched(self, names: Sequence[str]) -> tuple[str, ...]:
        """The entries of ``classes`` and ``key_classes`` that stand for no class of *names*."""
        return tuple(entry for entry in (*self.classes, *self.key_classes) if not matching(entry, names))


def _first_of(gates: Sequence[ClassGates]) -> ClassGates:
    """Every limit from the first of *gates* that sets it."""

    def first(limit: str) -> float | None:
        return next((value for own in gates if (value := getattr(own, limit)) is not None), None)

    return ClassGates(*(first(limit.name) for limit in fields(ClassGates)))


def _class_gates(value: object) -> dict[str, ClassGates] | None:
    if not isinstance(value, Mapping):
        return None
    whole = all(isinstance(k, str) and isinstance(v, ClassGates) for k, v in value.items())
    return {str(name): own for name, own in value.items()} if whole else None


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
        build: How TensorRT builds and runs engines.
        latency: What is timed; None for nothing.
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
    build: BuildSpec = BuildSpec()
    latency: LatencySpec | None = None

    def __post_init__(self) -> None:
        given.require(self)
        given.settle(self, ("onnx",), "a path", given.a_path)
        given.settle(self, ("classes", "engines"), *given.TEXTS)
        given.settle(self, ("batch", "top_k"), "a whole number, 1 or more", given.count)
        known = ", ".join(ALL_CHECKS)
        given.settle(self, ("checks",), f"some of: {known}", lambda value: given.members(Check, value))
        given.settle(self, ("input",), "an InputSpec", lambda v: v if isinstance(v, InputSpec) else None)
        given.settle(self, ("build",), "a BuildSpec", lambda v: v if isinstance(v, BuildSpec) else None)
        given.settle(self, ("gates",), "Gates", lambda v: v if isinstance(v, Gates) else None)
        given.settle(self, ("latency",), "a LatencySpec", lambda v: v if isinstance(v, LatencySpec) else None)
        kinds = ", ".join(Precision)
        given.settle(self, ("lowering",), f"LoweringSpec by precision ({kinds})", _lowering)
        given.settle(self, ("lowered",), f"paths by precision ({kinds})", _lowered)

    @property
    def needs_labels(self) -> bool:
        """Whether any of the checks counts right and wrong answers."""
        return bool({Check.ACCURACY, Check.RECALL, Check.PRECISION} & set(self.checks))


def _by_precision(value: object, read: Callable[[Any], T | None]) -> dict[Precision, T] | None:
    if not isinstance(value, Mapping):
        return None
    found = {given.member(Precision, name): read(inner) for name, inner in value.items()}
    settled = {name: inner for name, inner in found.items() if name is not None and inner is not None}
    return settled if len(settled) == len(value) else None


def _lowering(value: object) -> dict[Precision, LoweringSpec] | None:
    return _by_precision(value, lambda spec: spec if isinstance(spec, LoweringSpec) else None)


def _lowered(value: object) -> dict[Precision, Path] | None:
    return _by_precision(value, given.a_path)


class EngineKind(StrEnum):
    """What an entry of ``--trt-engine`` stands for."""

    PRECISION = "precision"
    """The case's own model, lowered by trtcheck or by a file of ``[models.x.lowered]``."""
    LOWERED = "lowered"
    """An ONNX file that was lowered elsewhere."""
    ENGINE = "engine"
    """A serialized TensorRT engine, tested as it is."""
    RECORDING = "recording"
    """Outputs that were recorded on another device."""


def applies(check: Check, precision: Precision | None, kind: EngineKind) -> bool:
    """Whether there is anything to *check* of an engine of this *precision* (None: a file's) and *kind*."""
    if check is Check.CALIBRATION:
        return precision is Precision.INT8
    return check is not Check.BATCH_INVARIANCE or kind is not EngineKind.RECORDING


ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
"""Suffixes of serialized engines."""

RECORDING_SUFFIXES = (".npz", ".json")
"""Suffixes of recorded outputs; a folder is a recording too."""


@dataclass(frozen=True)
class EngineSpec:
    """One entry of ``--trt-engine``.

    Attributes:
        name: The precision as typed, or the stem of the file: the name in node ids and reports.
        precision: The precision to lower to, or None for a file.
        path: A model, engine or recording that was made elsewhere and is tested as it is, or None.
    """

    name: str
    precision: Precision | None = None
    path: Path | None = None

    @property
    def file(self) -> Path:
        """The path, where the entry is a file.

        Raises:
            CaseError: It is a precision.
        """
        if self.path is None:
            raise CaseError(f"engine '{self.name}' names no file")
        return self.path

    @property
    def kind(self) -> EngineKind:
        """What the entry stands for, by the suffix of its path."""
        if self.path is None:
            return EngineKind.PRECISION
        suffix = self.path.suffix.lower()
        if suffix in ENGINE_SUFFIXES:
            return EngineKind.ENGINE
        return EngineKind.LOWERED if suffix == ".onnx" else EngineKind.RECORDING


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
        warnings: What a reader must know although the check did not fail; told in the terminal, too.
        strict: Whether an inconclusive verdict fails.
    """

    model: str
    engine: str
    check: Check
    verdict: Verdict
    message: str
    numerics: Numerics | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    strict: bool = False

    @property
    def fails(self) -> bool:
        """Whether pytest is to fail the item."""
        return self.verdict in (Verdict.FAIL, Verdict.ERROR) or (
            self.strict and self.verdict is Verdict.INCONCLUSIVE
        )
