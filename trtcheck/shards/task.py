"""What travels to a worker and back: plain data, so that any executor can carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.backends.base import BuiltEngine
    from trtcheck.case import Case, EngineSpec

Answer = dict[str, Any]
"""What a worker answers, in builtins and arrays: ``shard``, ``worker`` and ``kind``.

With ``done`` come ``record`` and ``arrays`` (see `trtcheck.evaluation_record`), with ``needs`` the ``files``
(keys of `Bundle`) that it lacks, with ``refused`` and ``error`` a ``text`` and the ``type`` of the error.
"""

Sent = Mapping[str, Mapping[str, bytes]]
"""Contents of files by name, by the key of their bundle."""


@dataclass(frozen=True)
class Bundle:
    """A model or an engine as the files that it consists of.

    Attributes:
        key: Digest of all of them.
        path: The file that is opened.
        files: Digest of each file by its name, relative to the folder of *path*; external weights are among
            them.
    """

    key: str
    path: Path
    files: Mapping[str, str]


@dataclass(eq=False)
class Cut:
    """The rows of a shard, for data that are nowhere but in memory; a `trtcheck.data.Images`.

    Attributes:
        name: What messages call the data.
        images: Number of images of the whole data set.
        start: Index of the first row.
        arrays: Rows by array name.
        labels: None: a task brings its labels.
        class_names: None: nobody asks a part.
    """

    name: str
    images: int
    start: int
    arrays: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return self.images

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """Arrays of the images *start* to *stop* of the whole data set."""
        rows = slice(start - self.start, stop - self.start)
        return {name: array[rows] for name, array in self.arrays.items()}

    def digest(self) -> str:
        """Digest of these rows."""
        from trtcheck import digests

        return digests.of_json({name: digests.of_array(array) for name, array in self.arrays.items()})


@dataclass(frozen=True)
class Job:
    """What all shards of one evaluation have in common.

    Attributes:
        session: Tells this evaluation from every other.
        case: The case; its data are paths, or what the executor can carry.
        engine: The engine.
        built: The same, built; without what only the report needs.
        model: Files of the reference model.
        engine_file: File of the built engine.
        model_digest: Digest of the reference model, as caches know it.
        data_digest: Digest of all inputs, as caches know it.
        images: Number of images of the whole data set.
        batch: Images of a batch; every shard starts at a multiple of it.
        classes: Number of classes; 0 where no class scores are judged.
        scores: Name of the output with the class scores, or None.
        backend: What runs the engine, one of `trtcheck.backends.FASTEST_FIRST`.
        reference: Where the reference runs: ``"cpu"`` or ``"cuda"``.
        needed: What must be the same wherever a shard is evaluated, by what it is of: versions of libraries,
            where the reference runs, and the model of the GPU where one computes.
        cache: The cache folder; a worker that does not see it uses its user's.
        rows: Whether every shard brings its images, since they are nowhere but in memory.
        threads: Threads for inference; 0 takes the worker's share of its machine's cores.
        beside: Shards that a worker's machine evaluates at once, for that share.
    """

    session: str
    case: Case
    engine: EngineSpec
    built: BuiltEngine
    model: Bundle
    engine_file: Bundle
    model_digest: str
    data_digest: str
    images: int
    batch: int
    classes: int
    scores: str | None
    backend: str
    reference: str
    needed: Mapping[str, str]
    cache: Path
    rows: bool = False
    threads: int = 0
    beside: int = 1


@dataclass(frozen=True, eq=False)
class Task:
    """One shard: a range of neighbouring images of one evaluation.

    Attributes:
        job: What all shards have in common.
        number: Its number, from 0.
        span: The images.
        digest: Digest of their inputs, see `trtcheck.shards.data.span_digest`.
        labels: Their labels, int32, -1 for none.
        rows: The images themselves, where they are nowhere but in memory.
        sent: Files that the worker asked for.
    """

    job: Job
    number: int
    span: range
    digest: str
    labels: np.ndarray
    rows: Cut | None = None
    sent: Sent = field(default_factory=dict)

    def __str__(self) -> str:
        """The shard in a message."""
        label = f"{self.job.case.name}[{self.job.engine.name}]"
        return f"shard {self.number} of {label} (images {self.span.start} to {self.span.stop - 1})"
