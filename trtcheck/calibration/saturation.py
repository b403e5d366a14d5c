"""How evaluation activations fill the ranges that calibration gave a lowered graph's quantizers.

Counted by probes in the graph itself, as the engine sees the activations (rounded, quantized before them),
in ONNX Runtime on the CPU whatever runs the engine. A probe gives a few numbers an image; nothing as large as
an activation is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck import model as models
from trtcheck.backends.emulation import transform
from trtcheck.backends.onnxruntime import element_types, fitted, open_session, run_session, session_options
from trtcheck.calibration.overlap import evenly
from trtcheck.calibration.quantizers import Quantizer, find
from trtcheck.data import Images
from trtcheck.data.batches import Batch
from trtcheck.errors import EngineError
from trtcheck.model import Signature
from trtcheck.precision.storage import save

SAMPLE = 1000
"""At most as many evaluation images are looked at, evenly spaced over all of them."""
_FIGURES = ("outside", "nan", "largest", "smallest", "size")


@dataclass(frozen=True)
class SaturationRow:
    """One quantized activation on the evaluation images that were looked at.

    Attributes:
        tensor: Its name in the lowered graph.
        node: The node that makes it; None for an input of the model.
        low: Smallest value that the quantizer's range holds (the widest channel's, where they differ).
        high: Largest value, likewise.
        channels: Number of ranges: 1, or one a channel.
        elements: Values seen.
        outside: How many of them lie outside the range by more than half a step, infinities included.
        nan: How many are NaN; they are in neither count.
        smallest: The smallest value seen, at most 0.
        largest: The largest value seen, at least 0.
    """

    tensor: str
    node: str | None
    low: float
    high: float
    channels: int
    elements: int
    outside: int
    nan: int
    smallest: float
    largest: float

    @property
    def share(self) -> float:
        """The share of the values (NaN left out) that lie outside the range."""
        return self.outside / max(1, self.elements - self.nan)

    @property
    def used(self) -> float | None:
        """How much of the range the values reach into, on the side that they fill best; 1 is all of it.

        None where they are all 0 and where channels have ranges of their own.
        """
        if self.channels > 1 or (self.largest == 0 and self.smallest == 0):
            return None
        sides = ((self.largest, self.high), (self.smallest, self.low))
        return max(value / limit for value, limit in sides if limit)


@dataclass(frozen=True)
class Saturation:
    """All quantized activations of a lowered graph.

    Attributes:
        rows: One a tensor and range: the most saturated first, then the emptiest.
        images: Evaluation images looked at.
        unknown: Quantizers of activations that were left out, see `trtcheck.calibration.quantizers.find`.
    """

    rows: tuple[SaturationRow, ...]
    images: int
    unknown: int


class Sample:
    """Some images of a source, as a source of its own; an `Images` without labels.

    Args:
        images: The source.
        indices: Which of its images, int64 (N,).
    """

    def __init__(self, images: Images, indices: np.ndarray) -> None:
        self.name = images.name
        self.labels: np.ndarray | None = None
        self.class_names: tuple[str, ...] | None = None
        self._images = images
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """The sample's images *start* to *stop*, by array name."""
        parts = [self._images.read(int(index), int(index) + 1) for index in self._indices[start:stop]]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def digest(self) -> str:
        """The source's digest; nothing is kept by it."""
        return self._images.digest()


def sample(images: Images, fixed_batch: int | None) -> Images:
    """At most 1000 of *images*, evenly spaced; whole batches where the model fixes their size."""
    count = min(SAMPLE, len(images))
    if fixed_batch is not None and count > fixed_batch:
        count -= count % fixed_batch
    if count == len(images):
        return images  # read by the batch, not one by one
    return Sample(images, evenly(len(images), count))


class Probes:
    """A lowered model that tells how its quantizers' ranges are filled.

    Args:
        path: The lowered model.
        threads: Threads inside an operator; 0 takes every core that this process may use.

    Raises:
        ModelError: The file is missing or damaged.
        EngineError: ONNX Runtime does not take the model.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        try:
            emulation = transform(models.load(path), element_types)
        except EngineError as error:
            raise EngineError(str(error), where=path) from error
        self.quantizers, self.unknown = find(emulation)
        self.signature: Signature = models.signature_of(emulation.model, path)
        if not self.quantizers:
            return
        self._outputs = _add_probes(emulation.model, self.quantizers, emulation.suffix)
        with tempfile.TemporaryDirectory(prefix="trtcheck-") as folder:
            file = Path(folder) / "probes.onnx"
            try:
                save(emulation.model, file)
            except OSError as error:
                raise EngineError(
                    "the temporary folder has no room for the model that is looked into", where=folder,
                    found=error, hint="name a folder with enough room: TMPDIR=DIR pytest",
                ) from error  # fmt: skip
            self._session = open_session(str(file), path, session_options(threads))

    def run(self, batches: Iterable[Batch], advance: Callable[[int], None]) -> Saturation:
        """What the quantizers see on *batches*.

        Raises:
            EngineError: ONNX Runtime failed, or the batches do not fit the model.
        """
        tallies = [_Tally() for _ in self.quantizers]
        images = 0
        for batch in batches if self.quantizers else ():
            feeds = fitted(batch.feeds, self.signature, self._path)
            answers = run_session(self._session, self._outputs, feeds, self._path)
            length = max((len(feed) for feed in feeds.values() if feed.ndim), default=1)
            for k, tally in enumerate(tallies):
                figures = answers[k * len(_FIGURES) : (k + 1) * len(_FIGURES)]
                tally.add(dict(zip(_FIGURES, figures, strict=True)), length, batch.count)
            images += batch.count
            advance(batch.count)
        rows = [tally.row(q) for tally, q in zip(tallies, self.quantizers, strict=True)]
        rows.sort(key=lambda row: (-row.share, row.used if row.used is not None else 1.0, row.tensor))
        return Saturation(tuple(rows), images, self.unknown)


class _Tally:
    """Sums up what the probes of one quantizer tell."""

    def __init__(self) -> None:
        self.elements = self.outside = self.nan = 0
        self.smallest = self.largest = 0.0

    def add(self, figures: Mapping[str, np.ndarray], length: int, count: int) -> None:
        """Takes in one batch of *length* rows, of which *count* are images."""
        rows = len(figures["outside"])
        # A tensor may have several rows an image, as windows of it do; others have none for each.
        real = rows // length * count if rows and rows % length == 0 else rows
        self.elements += int(figures["size"]) // max(1, rows) * real
        self.outside += int(figures["outside"][:real].sum(dtype=np.float64))
        self.nan += int(figures["nan"][:real].sum(dtype=np.float64))
        self.smallest = min(self.smallest, float(figures["smallest"][:real].min(initial=0)))
        self.largest = max(self.largest, float(figures["largest"][:real].max(initial=0)))

    def row(self, quantizer: Quantizer) -> SaturationRow:
        return SaturationRow(
            tensor=quantizer.tensor, node=quantizer.node,
            low=float(quantizer.low.min()), high=float(quantizer.high.max()), channels=quantizer.low.size,
            elements=self.elements, outside=self.outside, nan=self.nan,
            smallest=self.smallest, largest=self.largest,
        )  # fmt: skip


def _add_probes(model: onnx.ModelProto, quantizers: Sequence[Quantizer], suffix: str) -> list[str]:
    """Makes the probes of *quantizers* the only outputs of *model*; returns their names."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    graph = model.graph
    del graph.output[:]
    build = _Builder(graph, opset, suffix)
    for number, quantizer in enumerate(quantizers):
        build.probe(number, quantizer)
    return [value.name for value in graph.output]


class _Builder:
    """Appends probe nodes to a graph; every added name carries a suffix that the graph does not use."""

    def __init__(self, graph: onnx.GraphProto, opset: int, suffix: str) -> None:
        self._graph = graph
        self._opset = opset
        self._suffix = f"{suffix}_probe"
        self._zero = self._constant("zero", np.zeros((), np.float32))
        self._rows = self._constant("rows", np.array([1], np.int64))

    def probe(self, number: int, quantizer: Quantizer) -> None:
        """Adds the five probes of one quantizer."""
        x = quantizer.reads
        # Half a step beyond the last value still rounds to it: no more is lost than anywhere else.
        low = self._constant(f"{number}_low", quantizer.low - quantizer.step / 2)
        high = self._constant(f"{number}_high", quantizer.high + quantizer.step / 2)
        beyond = self._node("Or", [self._node("Greater", [x, high]), self._node("Less", [x, low])])
        nan = self._node("IsNaN", [x])
        nans = self._summed(nan)
        # ONNX Runtime 1.20 fails on the largest of no values: a column of zeros stands beside them.
        values = self._flat(self._node("Where", [nan, self._zero, x]))
        nothing = self._node("Mul", [nans, self._zero])
        values = self._node("Concat", [values, self._column(nothing)], axis=1)
        self._output(self._summed(beyond))
        self._output(nans)
        self._output(self._reduced("ReduceMax", values))
        self._output(self._reduced("ReduceMin", values))
        self._output(self._node("Size", [x]), TensorProto.INT64)

    def _summed(self, flags: str) -> str:
        """How many of *flags* are set, by the first axis."""
        return self._reduced("ReduceSum", self._flat(self._node("Cast", [flags], to=TensorProto.FLOAT)))

    def _column(self, name: str) -> str:
        """*name* (N,) as (N, 1)."""
        if self._opset >= 13:
            return self._node("Unsqueeze", [name, self._rows])
        return self._node("Unsqueeze", [name], axes=[1])

    def _flat(self, name: str) -> str:
        return self._node("Flatten", [name], axis=1)

    def _reduced(self, operator: str, name: str) -> str:
        """*name* (N, M) reduced to (N,); the axes became an input in opset 13 (sum) and 18 (others)."""
        if self._opset >= (13 if operator == "ReduceSum" else 18):
            return self._node(operator, [name, self._rows], keepdims=0)
        return self._node(operator, [name], axes=[1], keepdims=0)

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{len(self._graph.node)}{self._suffix}"
        self._graph.node.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, value: np.ndarray) -> str:
        full = f"{name}{self._suffix}"
        self._graph.initializer.append(numpy_helper.from_array(value, full))
        return full

    def _output(self, name: str, element: int = TensorProto.FLOAT) -> None:
        self._graph.output.append(helper.make_tensor_value_info(name, element, None))
