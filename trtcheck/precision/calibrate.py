"""Measures how large activations become on calibration data, in one pass and bounded memory.

Not ``onnxruntime.quantization.calibrate``: at its default of 128 bins its entropy method has one candidate,
the maximum, and at 2048 bins it takes half a second per tensor; its histograms grow with the ratio of the
largest batch to the first until numpy refuses; batches of unequal size break it; NaN passes unseen through
its minimum and maximum; it prints to standard output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from trtcheck.environment import usable_cores
from trtcheck.errors import BackendError, LoweringError
from trtcheck.precision.storage import save

METHODS = ("entropy", "minmax", "percentile")

_BINS = 4096
_LEVELS = 128
_STRIDE = 8
_KEPT_BY_ENTROPY = 99.9
_ROWS = 16
_TINY = 1e-30

Feeds = Mapping[str, np.ndarray]

Counted = tuple[Feeds, int]
"""Feeds of one batch, and how many of its rows are images; those beyond are padding and never count."""


def largest(
    model: ModelProto,
    tensors: Sequence[str],
    batches: Iterable[Counted],
    *,
    method: str,
    percentile: float,
    source: Path,
    threads: int = 0,
) -> dict[str, float]:
    """The magnitude at which each of *tensors* is cut off.

    Args:
        model: An FP32 model.
        tensors: Names of FP32 tensors of its graph, inputs included.
        batches: Feeds by input name, first axis the batch, with the number of rows that are images.
        method: ``"minmax"`` takes the largest magnitude seen, ``"percentile"`` cuts off the largest ones,
            ``"entropy"`` loses the least information (Migacz, "8-bit inference with TensorRT", GTC 2017).
        percentile: Share of values kept by ``"percentile"``, in percent.
        source: The file that messages name.
        threads: Threads for inference; 0 takes every core that this process may use.

    Returns:
        Cut-off by tensor name; 0 for a tensor that was always 0.

    Raises:
        LoweringError: ONNX Runtime takes neither model nor data, there are no batches, or one makes a tensor
            NaN or infinite.
        BackendError: ONNX Runtime is not installed.
    """
    histograms = {name: Histogram() for name in tensors}
    makers = {name: node.name for node in model.graph.node for name in node.output}
    images = 0
    for values, rows in _activations(model, tensors, batches, source, threads):
        for name in tensors:
            array = values[name]
            if not np.isfinite(array).all():
                raise LoweringError(
                    f"tensor '{name}' has NaN or infinite values on the calibration data",
                    where=source,
                    expected="finite activations in FP32",
                    found=f"first in calibration images {images} to {images + rows - 1}, made by "
                    + (f"node '{makers[name]}'" if name in makers else "the data themselves"),
                )
            histograms[name].add(np.abs(array))
        images += rows
    if not images:
        raise missing(source)
    return {name: _cut(histogram, method, percentile) for name, histogram in histograms.items()}


def missing(source: Path) -> LoweringError:
    """The error for INT8 without calibration data."""
    return LoweringError(
        "INT8 needs calibration data",
        where=source,
        expected='calibration = "…" in the model\'s table of trtcheck.toml',
        found="no calibration images",
        hint='name them, or a model that was quantized elsewhere: [models.x.lowered] int8 = "…"',
    )


class Histogram:
    """Counts of magnitudes in bins of equal width, whose range doubles when a larger value comes.

    Attributes:
        counts: int64 array of how many values fell into each bin.
        limit: Upper end of the last bin; 0 before the first value that is not 0.
        largest: The largest value seen.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.limit = 0.0
        self.largest = 0.0

    def add(self, magnitudes: np.ndarray) -> None:
        """Counts *magnitudes*, a float32 array without NaN, infinities and signs."""
        self.largest = max(self.largest, float(magnitudes.max(initial=0)))
        if self.limit == 0:
            self.limit = max(self.largest, _TINY) if self.largest else 0.0
        while self.limit < self.largest:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros_like(merged)])
            self.limit *= 2
        scale = _BINS / self.limit if self.limit else 0.0
        bins = np.minimum((magnitudes.reshape(-1) * np.float32(scale)).astype(np.int64), _BINS - 1)
        self.counts += np.bincount(bins, minlength=_BINS)

    def percentile(self, percent: float) -> float:
        """The magnitude that *percent* of the values do not exceed."""
        return self._edge(self._bins_of(percent))

    def entropy(self) -> float:
        """The magnitude at which cutting off and rounding to 128 levels changes the distribution least.

        At most one value in a thousand is cut off. Without that bound spikes, such as the constant background
        of an image leaves in every layer, draw the cut down to themselves: rounding them costs the divergence
        more than losing all that is larger.
        """
        counts = self.counts.copy()
        counts[0] = counts[1]  # zeros, half of all values after a Relu, are exact at any scale
        used = int(np.flatnonzero(self.counts).max(initial=0)) + 1
        first = max(_LEVELS, self._bins_of(_KEPT_BY_ENTROPY))
        candidates = [*range(first, used, _STRIDE), used]
        return self._edge(min(candidates, key=lambda bins: (_divergence(counts, bins), -bins)))

    def _bins_of(self, percent: float) -> int:
        wanted = percent / 100 * self.counts.sum()
        return int(np.searchsorted(np.cumsum(self.counts), wanted)) + 1

    def _edge(self, bins: int) -> float:
        return min(bins * self.limit / _BINS, self.largest)


def _divergence(counts: np.ndarray, bins: int) -> float:
    """Kullback-Leibler divergence, in nats, of the first *bins* bins from the same in 128 levels.

    What lies beyond is counted into the last bin of the former, as saturation does.
    """
    fine = counts[:bins].astype(np.float64)
    levels = np.arange(bins) * _LEVELS // bins
    inside = np.bincount(levels, weights=fine, minlength=_LEVELS)
    fine[-1] += counts[bins:].sum()
    filled = fine > 0
    sizes = np.bincount(levels, weights=filled, minlength=_LEVELS)
    coarse = (inside / np.maximum(sizes, 1))[levels[filled]]
    if not coarse.all():  # nothing near the cut, and all of the tail piled up there
        return float("inf")
    fine = fine[filled] / fine.sum()
    return float(np.sum(fine * np.log(fine / (coarse / coarse.sum()))))


def _cut(histogram: Histogram, method: str, percentile: float) -> float:
    if histogram.largest == 0 or method == "minmax":
        return histogram.largest
    return histogram.percentile(percentile) if method == "percentile" else histogram.entropy()


def _activations(
    model: ModelProto, tensors: Sequence[str], batches: Iterable[Counted], source: Path, threads: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Values of *tensors* for each few images of *batches*, with the number of images."""
    inputs = {value.name for value in model.graph.input}
    inner = [name for name in tensors if name not in inputs]
    with tempfile.TemporaryDirectory(prefix="trtcheck-") as folder:
        session = _session(model, inner, Path(folder) / "calibration.onnx", source, threads)
        rows = _ROWS if all(_has_open_batch(value) for value in model.graph.input) else None
        for batch, count in batches:
            for feeds, length, images in _slices(batch, count, rows):
                try:
                    answers = session.run(inner or None, dict(feeds))
                except Exception as error:  # onnxruntime's errors have no base class but this
                    raise LoweringError(
                        "the calibration data cannot be fed to the model", where=source, found=error
                    ) from error
                values = dict(zip(inner, answers, strict=False))
                values |= {name: np.asarray(feeds[name]) for name in tensors if name in inputs}
                yield (
                    {name: _without_padding(array, length, images) for name, array in values.items()},
                    images,
                )


def _without_padding(array: np.ndarray, length: int, images: int) -> np.ndarray:
    """The rows of the *images* among *length*; all of an array that has no row for each."""
    return array[:images] if array.ndim and len(array) == length else array


def _has_open_batch(value: ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return bool(dims) and dims[0].dim_value < 1  # some exporters write -1 for "open"


def _slices(batch: Feeds, count: int, rows: int | None) -> Iterator[tuple[Feeds, int, int]]:
    """*batch* in parts of *rows*, with their length and images; in one where an input has no such axis."""
    lengths = {np.shape(array)[:1] for array in batch.values()}
    length = max((dims[0] for dims in lengths if dims), default=1)
    if rows is None or lengths != {(length,)}:
        yield batch, length, count
        return
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        yield {name: array[start:stop] for name, array in batch.items()}, stop - start, stop - start


def _session(model: ModelProto, tensors: Sequence[str], path: Path, source: Path, threads: int) -> Any:
    """A session that answers *tensors* of the model's graph."""
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "onnxruntime is not installed, which calibration runs on", found=error,
            hint='pip install "pytest-trtcheck[cpu]"',
        ) from error  # fmt: skip
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    shapeless = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors]
    probe.graph.output.extend(shapeless or model.graph.output)
    try:
        save(probe, path)
    except OSError as error:
        raise LoweringError(
            "the temporary folder has no room for the model that calibration runs", where=path.parent,
            found=error, hint="name a folder with enough room: TMPDIR=DIR pytest",
        ) from error  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    # Waiting threads would burn the cores that decoding and other workers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base class but this
        raise LoweringError(
            "ONNX Runtime does not take the model, so it cannot be calibrated", where=source, found=error,
            hint='name a file that is quantized already: [models.x.lowered] int8 = "…"',
        ) from error  # fmt: skip
