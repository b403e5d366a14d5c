"""The seam between trtcheck and what runs a model: build, load, infer a batch, describe, close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.case import Numerics
    from trtcheck.model import Signature


@dataclass(frozen=True)
class BackendInfo:
    """What a backend says of itself, for header, fingerprint and report.

    Attributes:
        name: For example ``"onnxruntime-cpu"``.
        version: Version of its library.
        device: The processor or GPU it runs on.
        reason: Why it was taken.
    """

    name: str
    version: str
    device: str
    reason: str


@dataclass(frozen=True)
class BuiltEngine:
    """An engine on disk, with what its build found out.

    Attributes:
        path: The engine's file.
        lowered_path: The lowered model it was built from.
        numerics: How its answers come about on this backend.
        cached: Whether it was taken from the cache.
        lowered: Manifest of that model.
        facts: Figures of the build (layers, sizes), JSON-ready.
        notes: What a reader should know, in sentences.
    """

    path: Path
    lowered_path: Path
    numerics: Numerics
    cached: bool
    lowered: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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


class Backend(Protocol):
    """Builds and loads engines on one kind of runtime."""

    @property
    def info(self) -> BackendInfo:
        """What this backend is and where it runs."""
        ...

    @property
    def build_version(self) -> int:
        """Counts changes of how engines are built, so that older ones in the cache are not taken."""
        ...

    def numerics(self, lowered: Path) -> Numerics:
        """How answers of an engine of the *lowered* model come about here."""
        ...

    def build(self, lowered: Path, target: Path) -> Mapping[str, Any]:
        """Builds an engine of the *lowered* model into the file *target*; returns facts of the build.

        Raises:
            EngineError: The runtime does not take the model; the message carries its own reason.
        """
        ...

    def load(self, engine: Path) -> LoadedEngine:
        """Loads a built engine.

        Raises:
            EngineError: The file cannot be loaded here.
        """
        ...

    def find_overflow(self, lowered: Path, feeds: Mapping[str, np.ndarray]) -> str | None:
        """Names the nodes whose output leaves the narrow type's range on *feeds*, or None."""
        ...
