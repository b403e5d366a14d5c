"""An evaluation in shards: planned and joined here, its images seen by an executor's workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from trtcheck.case import Case, EngineKind, EngineSpec
from trtcheck.comparison import Subject, compare, described
from trtcheck.errors import EngineError
from trtcheck.evaluation import Evaluation, merged
from trtcheck.evaluation_record import from_parts
from trtcheck.shards.gather import gather
from trtcheck.shards.lane import lanes
from trtcheck.shards.plan import job_of, spans, tasks

if TYPE_CHECKING:
    from trtcheck.session import Workbench
    from trtcheck.shards.crew import Crew
    from trtcheck.shards.task import Answer


def evaluate(bench: Workbench, case: Case, engine: EngineSpec, crew: Crew) -> Evaluation:
    """Compares *engine* with the reference on all images, shard by shard.

    A recording is compared here: there is no engine to run.

    Raises:
        TrtcheckError: The case cannot be opened, the engine not built, or a shard not be evaluated.
    """
    if engine.kind is EngineKind.RECORDING:
        return compare(bench, case, engine)
    subject = Subject.of(bench, case, engine)
    job = job_of(bench, subject, threads=crew.threads, beside=crew.beside)
    label = f"evaluating {case.name}[{engine.name}] in shards"
    try:
        with bench.progress.task(label, job.images) as advance:
            answers = gather(tasks(job, subject, crew.shards), crew.pool, advance)
    finally:
        lanes().end(job.session)  # of an executor whose workers are threads of this process
    whole = joined(answers.values(), len(spans(job.images, job.batch, crew.shards)), job.images)
    return described(bench, subject, replace(whole, classes=subject.resolved.classes))


def joined(answers: Iterable[Answer], shards: int, images: int) -> Evaluation:
    """The evaluation of all *images* from the answers of its *shards*, in any order; each counts once.

    Counts are those of one pass. Sums of floats are, up to the order of summation.

    Raises:
        EngineError: A shard is missing, or has seen other images than it should have.
    """
    first: dict[int, Answer] = {}
    for answer in answers:
        first.setdefault(answer["shard"], answer)
    missing = sorted(set(range(shards)) - set(first))
    if missing:
        raise EngineError(
            "the evaluation is not whole", expected=f"{shards} shards",
            found=f"none of number {', '.join(map(str, missing))}",
        )  # fmt: skip
    whole = merged([from_parts(answer["record"], answer["arrays"]) for answer in first.values()])
    if whole.start != 0 or whole.images != images:
        raise EngineError(
            "the shards do not make up the evaluation", expected=f"{images} images from 0",
            found=f"{whole.images} images from {whole.start}",
        )  # fmt: skip
    return whole
