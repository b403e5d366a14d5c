"""Polygraphy's saved run results, read by Polygraphy itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trtcheck.errors import EngineError


def outputs(path: Path) -> list[dict[str, np.ndarray]]:
    """The outputs of every iteration (one batch each) of the one runner in the file at *path*.

    Args:
        path: A file that ``RunResults.save`` or ``polygraphy run --save-outputs`` wrote.

    Raises:
        EngineError: It is no such file, or holds the results of several runners or of none.
    """
    from polygraphy.comparator import RunResults
    from polygraphy.logger import G_LOGGER

    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
            results = RunResults.load(str(path))
            runners = [(str(name), [dict(one.items()) for one in every]) for name, every in results.items()]
    except Exception as error:  # whatever the parts of Polygraphy's decoder raise
        raise EngineError(
            "are no run results of Polygraphy", where=path,
            expected="a file of RunResults.save or of polygraphy run --save-outputs",
            found=f"{type(error).__name__}: {error}"[:500],
        ) from error  # fmt: skip
    if len(runners) != 1 or not runners[0][1]:
        found = ", ".join(f"'{name}' with {len(every)} iterations" for name, every in runners)
        raise EngineError(
            "does not hold the results of one runner", where=path,
            expected="one runner, one iteration a batch", found=found or "no runner",
            hint="run and save the device's runner alone",
        )  # fmt: skip
    return [_arrays(iteration, path) for iteration in runners[0][1]]


def _arrays(iteration: dict[object, object], path: Path) -> dict[str, np.ndarray]:
    found = {}
    for name, value in iteration.items():
        array = value.numpy() if type(value).__module__.split(".")[0] == "torch" else value  # type: ignore[attr-defined]
        if not isinstance(array, np.ndarray):
            raise EngineError(
                f"output '{name}' is no array", where=path, expected="an array", found=type(value).__name__
            )
        found[str(name)] = array
    return found
