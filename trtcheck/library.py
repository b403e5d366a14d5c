"""trtcheck without pytest: evaluate a case and judge the result, in a script or a notebook."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck import checks
from trtcheck.case import Case, Check, EngineSpec, Gates, OnFinding, Outcome
from trtcheck.progress import LoggedProgress
from trtcheck.session import Workbench
from trtcheck.settings import cache_folder, parse_backend, parse_engines, read_settings
from trtcheck.suite import read_suite as _read_suite

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation

__all__ = ["evaluate", "judge_evaluation", "read_suite"]


def evaluate(
    case: Case,
    engine: str | Path | EngineSpec,
    *,
    backend: str = "auto",
    cache: Path | str | None = None,
    threads: int | None = None,
) -> Evaluation:
    """Compares one engine of *case* with the ONNX Runtime reference, image by image.

    Args:
        case: Model, data and limits.
        engine: A precision (``"fp16"``) or a path, as an entry of ``--trt-engine``: an ``.onnx`` file, a
            TensorRT engine or a recording.
        backend: As ``--trt-backend``.
        cache: Folder of lowered models, engines and reference answers; None for the user's cache.
        threads: Threads for inference; None for all processors.

    Raises:
        TrtcheckError: The case cannot be opened, or the engine not built or run.
    """
    here = Path.cwd()
    if isinstance(engine, EngineSpec):
        spec = engine
    else:
        [spec] = parse_engines([str(engine)], base=here, where="engine")
    settings = read_settings({"cache": cache}, {}, invoked_in=here, root=here)
    with tempfile.TemporaryDirectory(prefix="trtcheck-") as shared:
        workbench = Workbench(
            cache=cache_folder(settings), shared=Path(shared), backend=parse_backend(backend),
            threads=threads or 0, progress=LoggedProgress(),
        )  # fmt: skip
        try:
            return workbench.evaluation(case, spec)
        finally:
            workbench.close()


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
