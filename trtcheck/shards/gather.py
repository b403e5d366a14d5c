"""Sends shards out and takes one answer of each: what dies on the way runs again, nothing counts twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from trtcheck import errors
from trtcheck.errors import BackendError, TrtcheckError
from trtcheck.shards.files import contents
from trtcheck.shards.worker import run

if TYPE_CHECKING:
    from trtcheck.progress import Advance
    from trtcheck.shards.task import Answer, Bundle, Task

_log = logging.getLogger("trtcheck")

TRIES = 3
"""How often a shard is sent out whose worker dies."""


class Pool:
    """An executor; one that broke is replaced where there is something that makes another.

    Args:
        given: The executor, or what makes one: that is shut down in the end.
    """

    def __init__(self, given: Executor | Callable[[], Executor]) -> None:
        self._make = None if isinstance(given, Executor) else given
        self._executor = given if isinstance(given, Executor) else given()

    def submit(self, task: Task) -> Future[Answer]:
        """Sends *task* out.

        Raises:
            BackendError: The executor broke and there is no other.
        """
        try:
            return self._executor.submit(run, task)
        except BrokenExecutor as error:
            if self._make is None:
                raise BackendError(
                    f"{task} cannot be sent out: the executor broke when one of its workers died",
                    found=error,
                    hint="give what makes an executor: executor=lambda: ProcessPoolExecutor(4, context)",
                ) from error
        except RuntimeError as error:
            raise BackendError(f"{task} cannot be sent out: the executor is closed", found=error) from error
        self._executor.shutdown(wait=False)
        self._executor = self._make()
        return self._executor.submit(run, task)

    def close(self) -> None:
        """Ends the executor, unless it is the caller's own."""
        if self._make is not None:
            self._executor.shutdown(cancel_futures=True)


def gather(tasks: Iterable[Task], pool: Pool, advance: Advance) -> dict[int, Answer]:
    """The answers of all *tasks*, by number.

    Args:
        tasks: The shards; each is asked for when it is sent out.
        pool: What evaluates them.
        advance: Called with the number of images of every shard that is done.

    Raises:
        TrtcheckError: A worker refuses or cannot evaluate a shard, or a shard's workers died `TRIES` times.
    """
    done: dict[int, Answer] = {}
    pending: dict[Future[Answer], Task] = {}
    tries: dict[int, int] = {}

    def send(task: Task) -> None:
        pending[pool.submit(task)] = task

    def harvest(finished: Iterable[Future[Answer]]) -> None:
        for future in finished:
            task = pending.pop(future)
            answer = _answer(future, task, tries)
            again = task if answer is None else _with_files(task, answer)
            if again is not None:
                send(again)
            elif answer is not None and task.number not in done:
                done[task.number] = answer
                advance(len(task.span))

    try:
        for task in tasks:
            send(task)
            harvest([future for future in pending if future.done()])
        while pending:
            harvest(wait(pending, return_when=FIRST_COMPLETED).done)
    finally:
        for future in pending:
            future.cancel()
    return done


def _answer(future: Future[Answer], task: Task, tries: dict[int, int]) -> Answer | None:
    """What came of *task*; None where its worker died and it is to be sent out again."""
    try:
        return future.result()
    except BrokenExecutor as error:
        tries[task.number] = tries.get(task.number, 0) + 1
        if tries[task.number] >= TRIES:
            raise BackendError(
                f"{task} was not evaluated: its worker died {TRIES} times", found=error,
                hint="is there enough memory for every worker? Fewer at once need less; and a script that "
                'starts processes has its work under if __name__ == "__main__":',
            ) from error  # fmt: skip
        _log.warning("trtcheck: %s is evaluated again: its worker died (%s)", task, error)
        return None
    except CancelledError as error:
        raise BackendError(f"{task} was not evaluated: the executor dropped it") from error
    except TrtcheckError:
        raise
    except Exception as error:  # whatever an executor raises of its own
        told = " ".join(f"{type(error).__name__}: {error}".split())
        hint = next((hint for sign, hint in _HINTS.items() if sign in told), None)
        raise BackendError(f"{task} was not evaluated", found=told, hint=hint) from error


_HINTS = {
    "KilledWorker": "the workers that took it died; their logs say why: often there is not enough memory",
    "pickle": "data that cannot be sent to a process cannot be cut: give paths or arrays",
    "ModuleNotFoundError": "install on every worker what is installed here",
}
"""What to try, by what an error says."""


def _with_files(task: Task, answer: Answer) -> Task | None:
    """*task* with the files that its worker lacks; None where it is done.

    Raises:
        TrtcheckError: The worker refused it or failed.
    """
    worker = answer["worker"]
    match answer["kind"]:
        case "done":
            return None
        case "needs":
            bundles: Mapping[str, Bundle] = {b.key: b for b in (task.job.model, task.job.engine_file)}
            sent = {key: contents(bundles[key]) for key in answer["files"]}
            names = ", ".join(bundles[key].path.name for key in answer["files"])
            if set(sent) <= set(task.sent):
                raise BackendError(f"{task}: worker {worker} asks for {names} although it was sent")
            _log.info("trtcheck: worker %s is sent %s", worker, names)
            return replace(task, sent={**task.sent, **sent})
        case "refused":
            raise BackendError(
                f"{task} cannot be evaluated by worker {worker}: it {answer['text']}",
                expected=answer["expected"], found=answer["found"],
                hint="make the workers alike, or leave this one out",
            )  # fmt: skip
    kind = getattr(errors, answer["type"], TrtcheckError)
    raise kind(f"{answer['text']}\n  worker:   {worker}")
