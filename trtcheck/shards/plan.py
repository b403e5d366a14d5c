"""Cuts an evaluation into shards, and says what a worker must have so that answers are those of one pass."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from trtcheck import model
from trtcheck.case import EngineKind
from trtcheck.comparison import batching
from trtcheck.environment import runtime_version
from trtcheck.shards import data
from trtcheck.shards.files import bundle_of
from trtcheck.shards.task import Job, Task

if TYPE_CHECKING:
    from trtcheck.backends.base import BackendInfo
    from trtcheck.backends.reference_place import Place
    from trtcheck.comparison import Subject
    from trtcheck.session import Workbench

_PACKAGES = ("pytest-trtcheck", "numpy", "Pillow", "onnx")
"""What answers depend on besides the runtime: what decodes and preprocesses, and what reads models."""


def spans(images: int, batch: int, shards: int) -> list[range]:
    """The images cut into *shards* ranges of about the same size, or fewer where there are fewer batches.

    Every range starts at a multiple of *batch*: its batches are those of one pass.

    Raises:
        ValueError: One of the numbers is below 1.
    """
    if min(images, batch, shards) < 1:
        raise ValueError(f"{images} images, batch {batch}, {shards} shards: expected 1 or more of each")
    batches = -(-images // batch)
    count = min(shards, batches)
    cuts = [number * batches // count * batch for number in range(count)]
    return [range(start, stop) for start, stop in zip(cuts, [*cuts[1:], images], strict=True)]


def needed_libraries() -> dict[str, str]:
    """Versions of the libraries that answers depend on, as they are here, by name."""
    # The reference is computed by ONNX Runtime, whichever distribution that comes in.
    found = {"ONNX Runtime": runtime_version() or "none"}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def needed_device(info: BackendInfo) -> dict[str, str]:
    """What runs the engine, as it is here: its version, and of a GPU the model and what moves answers."""
    found = {info.name: info.version}
    return found if info.name == "onnxruntime-cpu" else {**found, "GPU": info.device, **info.settings}


def needed_reference(place: Place) -> dict[str, str]:
    """What runs the reference, as it is here; the processor's model does not count, as for engines."""
    found = {"reference on": place.provider}
    if not place.on_gpu:
        return found
    return {**found, "GPU of the reference": place.device, **place.settings}


def differences(needed: Mapping[str, str], found: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What is needed and what was found, by what differs; what is only found does not count."""
    return {
        name: (wanted, found.get(name, "none"))
        for name, wanted in needed.items()
        if found.get(name) != wanted
    }


def job_of(bench: Workbench, subject: Subject, *, threads: int, beside: int) -> Job:
    """What all shards of an evaluation have in common.

    Args:
        bench: What builds and runs engines here.
        subject: What is compared.
        threads: As of `Job`.
        beside: As of `Job`.

    Raises:
        TrtcheckError: A file cannot be read, or an engine that was built elsewhere not be loaded.
    """
    case, built, resolved = subject.case, subject.built, subject.resolved
    info = bench.info_of(subject.engine, built)
    place = bench.reference_place(subject.engine)
    profile = {"profile": built.facts["profile"]} if "profile" in built.facts else {}
    return Job(
        session=uuid.uuid4().hex,
        case=data.travelling(case), engine=subject.engine,
        built=replace(built, lowered={}, facts=profile, notes=()),
        model=bundle_of(case.onnx), engine_file=bundle_of(built.path),
        model_digest=resolved.model_digest, data_digest=resolved.digest,
        images=len(resolved.images), batch=_batch(bench, subject),
        classes=len(resolved.classes), scores=resolved.scores,
        backend=info.name, reference=place.name,
        needed={**needed_libraries(), **needed_device(info), **needed_reference(place)},
        cache=bench.cache.root.absolute(), rows=data.is_in_memory(case.data), threads=threads, beside=beside,
    )  # fmt: skip


def _batch(bench: Workbench, subject: Subject) -> int:
    """Images of a batch. An engine takes what its lowered model takes; one built elsewhere is asked."""
    case, built, reference = subject.case, subject.built, subject.resolved.signature
    if subject.engine.kind is EngineKind.ENGINE:
        with closing(bench.load(case, subject.engine, built, subject.resolved)) as loaded:
            signature = loaded.signature
    else:
        signature = model.read_signature(built.lowered_path)
    return batching(case, reference, signature, built)[1]


def tasks(job: Job, subject: Subject, shards: int) -> Iterator[Task]:
    """The shards in their order; each is read for its digest when it is asked for.

    Raises:
        DataError: An image cannot be read.
    """
    images = subject.resolved.images
    labels = subject.resolved.truth.astype(np.int32)
    for number, span in enumerate(spans(job.images, job.batch, shards)):
        yield Task(
            job=job, number=number, span=span, digest=data.span_digest(images, span),
            labels=labels[span.start : span.stop], rows=data.cut(images, span) if job.rows else None,
        )  # fmt: skip
