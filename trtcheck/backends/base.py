"""The seam between trtcheck and what runs a model: build, load, infer a batch, describe, close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.case import BuildSpec, Numerics, Precision, ShapeRange
    from trtcheck.latency.timing import Timer
    from trtcheck.model import Signature
    from trtcheck.progress import Advance


@dataclass(frozen=True)
class BackendInfo:
    """What a backend says of itself, for header, fingerprint and report.

    Attributes:
        name: For example ``"onnxruntime-cpu"``.
        version: Version of its library.
        device: The processor or GPU it runs on.
        reason: Why it was taken.
        driver: Version of the GPU's driver; None where no GPU computes.
        settings: What moves answers or times besides, by name: options of the library, alike for all engines,
            and versions of what it loads.
    """

    name: str
    version: str
    device: str
    reason: str
    driver: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildPlan:
    """What an engine is built from, besides the machine.

    Attributes:
        lowered: The lowered ONNX model.
        precision: The precision that was asked for; None for a file that was lowered elsewhere.
        shapes: The range of shapes of every input with open dimensions, by name.
        spec: How TensorRT builds.
        spin_wait: Whether threads that wait spin instead of sleeping; no engine depends on it, its time does.
    """

    lowered: Path
    precision: Precision | None
    shapes: Mapping[str, ShapeRange]
    spec: BuildSpec
    spin_wait: bool = False

    @property
    def tf32(self) -> bool:
        """Whether products of FP32 tensors may read their inputs as TF32."""
        from trtcheck.case import Precision

        if self.precision is Precision.FP32:
            return False
        return self.precision is Precision.TF32 or self.spec.tf32


@dataclass(frozen=True)
class BuiltEngine:
    """An engine on disk, with what its build found out.

    Attributes:
        path: The engine's file.
        lowered_path: The lowered model it was built from; the engine itself where it was built elsewhere.
        backend: Name of the backend that runs it.
        numerics: How its answers come about on this backend.
        cached: Whether it was taken from the cache.
        lowered: Manifest of that model.
        facts: Figures of the build (layers, sizes), JSON-ready.
        notes: What a reader should know, in sentences.
    """

    path: Path
    lowered_path: Path
    backend: str
    numerics: Numerics
    cached: bool
    lowered: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Closing:
    """Something that is closed at the end of a ``with`` block."""

    def close(self) -> None:
        """Releases it; a second time does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LoadedEngine(Protocol):
    """An engine that answers batches until it is closed."""

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of its inputs and outputs."""
        ...

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers of one batch.

        Args:
            feeds: One array per input, first axis the batch.

        Returns:
            One array per output, by name.

        Raises:
            EngineError: The engine refused the batch.
        """
        ...

    def close(self) -> None:
        """Frees sessions and device memory; the engine answers no more."""
        ...


class TimedEngine(LoadedEngine, Protocol):
    """A loaded engine whose time can be taken."""

    def timer(self, feeds: Mapping[str, np.ndarray], *, transfers: bool, spin_wait: bool) -> Timer:
        """What runs the engine on one batch again and again; it is closed with the engine.

        Args:
            feeds: One array per input, first axis the batch.
            transfers: Whether the copies between host and GPU are part of the time.
            spin_wait: Whether the host spins while it waits for the GPU. On the CPU the session's threads do,
                or do not, as the plan says that it was loaded with.

        Raises:
            EngineError: The engine refused the batch.
        """
        ...


class Backend(Protocol):
    """Builds and loads engines on one kind of runtime."""

    @property
    def info(self) -> BackendInfo:
        """What this backend is and where it runs."""
        ...

    @property
    def suffix(self) -> str:
        """Suffix of the engines' files, for example ``".engine"``."""
        ...

    @property
    def cannot_run(self) -> str | None:
        """Why engines cannot run on this machine, in a sentence; None where they can."""
        ...

    def identity(self, plan: BuildPlan) -> Mapping[str, Any]:
        """What an engine of *plan* depends on besides the lowered model; JSON-ready, part of the cache's key.

        Versions, build settings and, where the engine is bound to it, GPU, driver and system.
        """
        ...

    def numerics(self, plan: BuildPlan) -> Numerics:
        """How answers of an engine of *plan* come about here."""
        ...

    def build(self, plan: BuildPlan, target: Path, advance: Advance) -> Mapping[str, Any]:
        """Builds an engine of *plan* into the file *target*.

        Args:
            plan: What is built.
            target: The file to write.
            advance: Called with the number of steps done since the last call.

        Returns:
            Facts of the build, JSON-ready. Of every backend: ``nodes`` (how many), ``types`` (nodes by type
            of their results: ``FLOAT``, ``FLOAT16``, ``BFLOAT16``, …, and ``quantized``), ``computes`` (by
            name of each Conv, ConvTranspose, MatMul and Gemm the precision that it computes in, a value of
            `Precision`), ``engine_bytes`` (size of the file) and, where there are any, ``notes`` (sentences).
            Where it is known: ``memory_bytes`` (device memory of one context). Backends may add their own.

        Raises:
            EngineError: The runtime does not take the model; the message carries its own reason.
            BackendError: This machine cannot build.
        """
        ...

    def load(self, engine: Path, plan: BuildPlan) -> TimedEngine:
        """Loads an engine.

        Args:
            engine: The file.
            plan: What it was built from.

        Raises:
            EngineError: The file cannot be loaded here.
            BackendError: This machine cannot run engines.
        """
        ...

    def find_overflow(self, lowered: Path, feeds: Mapping[str, np.ndarray]) -> str | None:
        """Names the nodes whose output leaves the narrow type's range on *feeds*, or None."""
        ...
