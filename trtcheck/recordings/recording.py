"""What a recording is: outputs, what is said about them, and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck import digests

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.case import InputSpec

PERCENTILES = (90, 95, 99)
"""The percentiles that trtexec prints by default."""


class Format(StrEnum):
    """Who wrote a recording's files."""

    NPZ = "npz"
    """``numpy.savez``: output name to array."""
    POLYGRAPHY = "polygraphy"
    """Polygraphy's ``RunResults.save``, also ``polygraphy run --save-outputs``."""
    TRTEXEC = "trtexec"
    """``trtexec --exportOutput``."""


@dataclass(frozen=True)
class Sidecar:
    """What a recording's TOML file says about it; every key may be missing.

    Attributes:
        path: The file; None where there is none.
        device: The device that computed the outputs, in the user's words.
        runtime: Its runtime and version.
        precision: The precision of its engine.
        images: How many images were recorded; rows beyond them are padding.
        batch: Rows of a batch, where the last one is padded.
        inputs_digest: Digest of the inputs, see `inputs_digest`.
        times: Files written by ``trtexec --exportTimes``.
        outputs: The model's name of an output by the engine's.
    """

    path: Path | None = None
    device: str | None = None
    runtime: str | None = None
    precision: str | None = None
    images: int | None = None
    batch: int | None = None
    inputs_digest: str | None = None
    times: tuple[Path, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Times:
    """Times of single queries (one batch each) on the device.

    Attributes:
        latency_ms: Transfers and computation, float64 (S,), milliseconds.
        compute_ms: Computation alone, float64 (S,), milliseconds.
        transfers: Whether the device timed transfers at all: trtexec 11 leaves them out by default.
    """

    latency_ms: np.ndarray
    compute_ms: np.ndarray
    transfers: bool

    def summary(self) -> dict[str, Any]:
        """Number of samples, and mean, median and percentiles of latency and computation; JSON-ready."""
        return {
            "samples": len(self.latency_ms),
            "transfers": self.transfers,
            "latency": _distribution(self.latency_ms),
            "compute": _distribution(self.compute_ms),
        }


def _distribution(samples: np.ndarray) -> dict[str, float]:
    """Mean, median and nearest-rank percentiles, by the ranks that trtexec takes (``findPercentile``)."""
    import numpy as np

    ordered = np.sort(samples)
    count = len(ordered)
    ranks = {p: max(count - 1 - (100 - p) * count // 100, 0) for p in PERCENTILES}
    return {
        "mean_ms": float(ordered.mean()),
        "median_ms": float(np.median(ordered)),
        **{f"p{p}_ms": float(ordered[rank]) for p, rank in ranks.items()},
    }


@dataclass(frozen=True, eq=False)
class Recording:
    """Outputs that were recorded elsewhere.

    Attributes:
        path: The file or folder.
        format: Who wrote it.
        files: The files with outputs, in the order of the images.
        outputs: Arrays (rows, ...) by the model's names.
        sidecar: What is said about them.
        times: Times on the device, where any were recorded.
        index: Which image each row is, int64 (rows,), where the recording says so.
        batch: Rows of a batch, where that is known.
        missing_times: Files of times that the sidecar names and that are not there.
    """

    path: Path
    format: Format
    files: tuple[Path, ...]
    outputs: Mapping[str, np.ndarray]
    sidecar: Sidecar
    times: Times | None = None
    index: np.ndarray | None = None
    batch: int | None = None
    missing_times: tuple[Path, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the arrays, padding included."""
        return len(next(iter(self.outputs.values())))

    @property
    def images(self) -> int:
        """The number of images, which is that of the rows where the sidecar does not say."""
        return self.rows if self.sidecar.images is None else self.sidecar.images


def inputs_digest(data_digest: str, spec: InputSpec) -> str:
    """Digest of what a model is fed.

    Args:
        data_digest: Digest of the images, see `trtcheck.data.Images.digest`.
        spec: Their preprocessing.
    """
    return digests.of_json({"data": data_digest, "input": asdict(spec)})


def facts(recording: Recording) -> dict[str, Any]:
    """What is known of a recording, JSON-ready, for the report."""
    sidecar = recording.sidecar
    return {
        "format": recording.format.value,
        "files": len(recording.files),
        "images": recording.images,
        "batch_rows": recording.batch,
        "outputs": [
            {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
            for name, array in recording.outputs.items()
        ],
        "device": sidecar.device,
        "runtime": sidecar.runtime,
        "precision": sidecar.precision,
        "inputs_digest": sidecar.inputs_digest,
        "times": None if recording.times is None else recording.times.summary(),
    }
