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
        times: Files written by ``trtexec --exportTimes``, each by a run of its own.
        cuda_graph: Whether those runs replayed a CUDA graph; None where that is not said.
        spin_wait: Whether their host spun while it waited; None where that is not said.
        power_w: Mean power of the device while they ran, in watts.
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
    cuda_graph: bool | None = None
    spin_wait: bool | None = None
    power_w: float | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TimedRun:
    """One run of trtexec: times of its queries (one batch each) on the device.

    Attributes:
        latency_ms: Transfers and computation, float64 (S,), milliseconds.
        compute_ms: Computation alone, float64 (S,), milliseconds.
        start_ms: When each query began, float64 (S,), milliseconds since the run began to warm up; the
            transfers of one may overlap the computation of another.
        transfers: Whether transfers were timed at all: trtexec 11 leaves them out by default.
    """

    latency_ms: np.ndarray
    compute_ms: np.ndarray
    start_ms: np.ndarray
    transfers: bool


@dataclass(frozen=True, eq=False)
class Times:
    """Times of single queries on the device.

    Attributes:
        runs: The runs of trtexec, one a file; all of them timed transfers, or none did.
    """

    runs: tuple[TimedRun, ...]

    @property
    def transfers(self) -> bool:
        """Whether transfers were timed."""
        return self.runs[0].transfers

    @property
    def latency_ms(self) -> np.ndarray:
        """Transfers and computation of all runs, float64 (S,), milliseconds."""
        import numpy as np

        return np.concatenate([run.latency_ms for run in self.runs])

    @property
    def compute_ms(self) -> np.ndarray:
        """Computation alone of all runs, float64 (S,), milliseconds."""
        import numpy as np

        return np.concatenate([run.compute_ms for run in self.runs])

    def summary(self) -> dict[str, Any]:
        """Number of samples, and mean, median and percentiles of latency and computation; JSON-ready."""
        return {
            "samples": len(self.latency_ms),
            "transfers": self.transfers,
            "latency": _distribution(self.latency_ms),
            "compute": _distribution(self.compute_ms),
        }


def _distribution(samples: np.ndarray) -> dict[str, float]:
    """Mean, median and percentiles."""
    from trtcheck.latency.percentiles import summary

    figures = summary(samples)
    return {name: figures[name] for name in ("mean_ms", "median_ms", "p90_ms", "p95_ms", "p99_ms")}


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
