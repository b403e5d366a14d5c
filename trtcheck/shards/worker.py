"""What runs in a worker: one shard evaluated, or what speaks against evaluating it there."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from trtcheck.cache import Cache
from trtcheck.comparison import compare_span
from trtcheck.environment import usable_cores
from trtcheck.errors import TrtcheckError
from trtcheck.evaluation_record import to_parts
from trtcheck.settings import user_cache
from trtcheck.shards import data, plan
from trtcheck.shards.files import find
from trtcheck.shards.lane import Lane, ShardBench, lanes
from trtcheck.shards.task import Answer, Job, Task


def run(task: Task) -> Answer:
    """Evaluates *task*, wherever it was sent.

    Nothing of trtcheck is raised: what speaks against the worker, the data or the engine is an answer too.
    """
    answer: Answer = {"shard": task.number, "worker": f"{socket.gethostname()}:{os.getpid()}"}
    try:
        return {**answer, **_evaluated(task)}
    except TrtcheckError as error:
        return {**answer, "kind": "error", "type": type(error).__name__, "text": str(error)}


def libraries(_: object = None) -> dict[str, str]:
    """Versions of the libraries here, to tell a whole pool's before any work is sent."""
    return plan.needed_libraries()


def _evaluated(task: Task) -> Answer:
    different = plan.differences(_libraries_of(task.job), plan.needed_libraries())
    if different:
        return _refused("has other libraries", different)
    lane = lanes().take(task.job)
    if lane is None:
        opened = _open(task)
        if not isinstance(opened, Lane):
            return opened
        lane = opened
    try:
        answer = _compared(lane, task)
    except BaseException:
        lane.bench.end()  # what failed is not kept
        raise
    lanes().give(lane)
    return answer


def _libraries_of(job: Job) -> dict[str, str]:
    return {name: version for name, version in job.needed.items() if name in plan.needed_libraries()}


def _open(task: Task) -> Lane | Answer:
    """The evaluation's lane, or what is missing or different here."""
    job = task.job
    cache = job.cache if job.cache.is_dir() else user_cache()
    found = {bundle.key: find(bundle, Cache(cache), task.sent) for bundle in (job.model, job.engine_file)}
    missing = [key for key, path in found.items() if path is None]
    if missing:
        return {"kind": "needs", "files": missing}
    paths: dict[str, Path] = {key: path for key, path in found.items() if path is not None}
    threads = job.threads or max(1, usable_cores() // job.beside)
    bench = ShardBench(cache, job.backend, threads, job.reference)
    lane = Lane.open(job, bench, paths[job.model.key], paths[job.engine_file.key])
    device = plan.needed_device(bench.backend_of(lane.engine).info)
    reference = plan.needed_reference(bench.reference_place(lane.engine))
    different = plan.differences(job.needed, {**plan.needed_libraries(), **device, **reference})
    return _refused("computes with something else", different) if different else lane


def _compared(lane: Lane, task: Task) -> Answer:
    images = lane.images_of(task)
    if len(images) != task.job.images:
        return _refused(
            "has other data", {f"images in {images.name}": (str(task.job.images), str(len(images)))}
        )
    digest = data.span_digest(images, task.span)
    if digest != task.digest:
        what = f"images {task.span.start} to {task.span.stop - 1} of {images.name}"
        return _refused("has other data", {what: (task.digest, digest)})
    end = lane.bench.cache.begin_session()
    try:
        evaluation = compare_span(lane.bench, lane.subject(task), task.span)
    finally:
        end()
    record, arrays = to_parts(evaluation)
    record["classes"] = []  # whoever asks has them
    return {"kind": "done", "record": record, "arrays": arrays}


def _refused(what: str, different: Mapping[str, tuple[str, str]]) -> Answer:
    return {
        "kind": "refused",
        "text": what,
        "expected": ", ".join(f"{name} {wanted}" for name, (wanted, _) in different.items()),
        "found": ", ".join(f"{name} {found}" for name, (_, found) in different.items()),
    }
