"""trtcheck without pytest: evaluate a case and judge the result, in a script or a notebook."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck import checks
from trtcheck.case import Case, Check, EngineSpec, Gates, OnFinding, Outcome
from trtcheck.progress import LoggedProgress, Progress
from trtcheck.session import Workbench
from trtcheck.session_folder import SessionFolder
from trtcheck.settings import cache_folder, parse_backend, parse_engines, parse_reference, read_settings
from trtcheck.suite import read_suite as _read_suite

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation
    from trtcheck.prediction.answers import Seen
    from trtcheck.shards.crew import Crew

__all__ = ["evaluate", "judge_evaluation", "predict", "read_suite"]


def evaluate(
    case: Case,
    engine: str | Path | EngineSpec,
    *,
    backend: str = "auto",
    cache: Path | str | None = None,
    threads: int | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    shards: int | None = None,
    devices: str | None = None,
    reference: str = "auto",
) -> Evaluation:
    """Compares one engine of *case* with the ONNX Runtime reference, image by image.

    Args:
        case: Model, data and limits.
        engine: A precision (``"fp16"``) or a path, as an entry of ``--trt-engine``: an ``.onnx`` file, a
            TensorRT engine or a recording.
        backend: As ``--trt-backend``.
        cache: Folder of lowered models, engines and reference answers; None for the user's cache.
        threads: Threads for inference; None for all processors, or with an executor for one a shard.
        executor: What evaluates the images in shards, or what makes one: a broken one can then be replaced,
            and is shut down in the end. Any `concurrent.futures.Executor`, also that of a Dask client.
        shards: How many shards, for an executor; without one, how many child processes of this machine the
            images are cut over. None for 16, or for this process alone.
        devices: The GPUs that child processes take turns on, as ``--trt-devices``; None for the first.
        reference: Where the reference runs, as ``--trt-reference``.

    Raises:
        TrtcheckError: The case cannot be opened, or the engine not built or run.
        ValueError: *shards* is below 1, or *devices* is given without child processes.
    """
    [spec] = _engines([engine])
    with ExitStack() as stack:
        crew = None
        if executor is not None or shards is not None or devices is not None:
            crew = stack.enter_context(closing(_crew(executor, shards, threads, devices)))
        workbench = stack.enter_context(
            open_workbench(backend, cache, threads, crew=crew, reference=reference)
        )
        return workbench.evaluation(case, spec)


def _crew(
    executor: Executor | Callable[[], Executor] | None, shards: int | None, threads: int | None,
    devices: str | None,
) -> Crew:  # fmt: skip
    """Who evaluates shards; arguments as of `evaluate`."""
    from trtcheck.devices import find, read_devices
    from trtcheck.environment import usable_cores
    from trtcheck.shards import crew

    if shards is not None and (not isinstance(shards, int) or shards < 1):
        raise ValueError(f"shards = {shards}: expected a whole number, 1 or more")
    if executor is not None and not (isinstance(executor, Executor) or callable(executor)):
        raise TypeError(
            f"executor = {executor!r}: expected a concurrent.futures.Executor or what makes one, for example "
            "distributed.Client('tcp://scheduler:8786').get_executor(pure=False)"
        )
    if executor is not None and devices is None:
        return crew.of_executor(executor, shards, threads)
    if executor is not None or shards is None:
        raise ValueError("devices are for child processes: give shards, and no executor")
    gpus = [device.uuid for device in find(read_devices(devices, None), os.environ)]
    return crew.of_children(shards, gpus, threads or usable_cores())


def predict(
    case: Case,
    engines: Sequence[str | Path | EngineSpec],
    images: Sequence[str | Path | int],
    *,
    top: int = 5,
    backend: str = "auto",
    cache: Path | str | None = None,
    threads: int | None = None,
) -> list[Seen]:
    """What the ONNX Runtime reference and *engines* see in single inputs.

    Args:
        case: Model and preprocessing.
        engines: Each as of `evaluate`; a recording knows the evaluation images alone.
        images: Paths of image files or of .npy or .npz files with one input, or positions in the evaluation
            data; at least one.
        top: How many classes are told of each.
        backend: As ``--trt-backend``.
        cache: As of `evaluate`.
        threads: As of `evaluate`.

    Returns:
        For each input what was `asked`, and the `predictions` of the reference and then of every engine.

    Raises:
        TrtcheckError: The case cannot be opened or gives no class scores, an input not be used, or an engine
            not be built or run.
        ValueError: There is no input, or *top* is below 1.
    """
    from trtcheck.prediction.answers import predict as predicted

    if not images or top < 1:
        raise ValueError(f"{len(images)} images, top = {top}: expected 1 or more of each")
    specs = _engines(engines)
    with open_workbench(backend, cache, threads) as workbench:
        return predicted(workbench, case, specs, images, top)


def _engines(given: Sequence[str | Path | EngineSpec]) -> list[EngineSpec]:
    here = Path.cwd()
    return [
        engine
        if isinstance(engine, EngineSpec)
        else parse_engines([str(engine)], base=here, where="engine")[0]
        for engine in given
    ]


@contextmanager
def open_workbench(
    backend: str, cache: Path | str | None, threads: int | None = None, progress: Progress | None = None,
    crew: Crew | None = None, reference: str = "auto",
) -> Iterator[Workbench]:  # fmt: skip
    """A workbench of its own, closed in the end; the arguments are those of `evaluate`.

    Raises:
        OptionError: The backend or place is unknown, or there is no place for the cache.
    """
    here = Path.cwd()
    settings = read_settings({"cache": cache}, {}, invoked_in=here, root=here)
    with closing(SessionFolder()) as folder:
        workbench = Workbench(
            cache=cache_folder(settings), shared=folder.path, backend=parse_backend(backend),
            threads=threads or 0, progress=progress or LoggedProgress(),
            crew=None if crew is None else lambda: crew, reference=parse_reference(reference),
        )  # fmt: skip
        with closing(workbench):
            yield workbench


def judge_evaluation(evaluation: Evaluation, check: Check | str, gates: Gates | None = None) -> Outcome:
    """Judges an evaluation as the item of that name would, without a baseline.

    Args:
        evaluation: What `evaluate` returned.
        check: ``"outputs"``, ``"accuracy"``, ``"recall"`` or ``"precision"``.
        gates: Limits; None for the defaults.

    Raises:
        ValueError: *check* is no check of an evaluation.
        TrtcheckError: There are no class scores or no labels to judge, or *gates* name a class that is not
            there.
    """
    judged = Check(check)
    if judged not in checks.CHECKS:
        raise ValueError(
            f"check {judged.value!r} judges no evaluation; one of {[c.value for c in checks.CHECKS]}"
        )
    limits = gates or Gates()
    checks.require_known_classes(evaluation, limits)
    outcome = checks.CHECKS[judged](evaluation, limits, None)
    return replace(outcome, strict=limits.on_inconclusive is OnFinding.FAIL)


def read_suite(path: Path | str) -> tuple[Case, ...]:
    """The cases of a ``trtcheck.toml``.

    Raises:
        SuiteError: The file cannot be used.
    """
    return _read_suite(Path(path))
