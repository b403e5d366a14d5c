"""A folder with a tiny suite in it, for the tests of the plugin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_models

TOML = {
    "onnx": "model.onnx",
    "data": "eval.npz",
    "calibration": "calibration.npz",
    "classes": list(suite_models.CLASSES),
}
SCALE = "[models.{name}.input]\nscale = 0.00392156862745098\n"


class Suite:
    """A folder with a tiny suite in it, in which pytest can be run."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def model(self, made: Any = None, name: str = "model.onnx") -> Path:
        """Writes the model *made*, by default the classifier."""
        return suite_models.save(suite_models.classifier() if made is None else made, self.path / name)

    def data(self, name: str = "eval.npz", **arrays: Any) -> Path:
        """Writes an archive of *arrays*."""
        np.savez(self.path / name, **arrays)
        return self.path / name

    def toml(
        self, tables: str = "", *, name: str = "tiny", file: str = "trtcheck.toml", scaled: bool = True,
        **keys: Any,
    ) -> Path:  # fmt: skip
        """Writes the suite file: the usual keys changed by *keys* (None: left out), and more *tables*."""
        changed = {key: value for key, value in (TOML | keys).items() if value is not None}
        lines = [f"{key} = {json.dumps(value)}" for key, value in changed.items()]
        text = "\n".join([f"[models.{name}]", *lines, SCALE.format(name=name) if scaled else "", tables])
        path = self.path / file
        path.write_text(text, encoding="utf-8")
        return path

    def run(
        self, *args: object, cache: str = "cache", report: str = "reports", process: bool = False,
        plugins: Sequence[str] = (), backend: str | None = "onnxruntime-cpu",
    ) -> pytest.RunResult:  # fmt: skip
        """Runs pytest in the folder, with *cache* and *report* inside it.

        Args:
            *args: More arguments of pytest.
            cache: Cache folder.
            report: Report folder.
            process: Whether it runs in a process of its own.
            plugins: Plugins besides trtcheck; others are not loaded, which takes longer than the run.
            backend: The backend, where *args* name none; None leaves it to the suite. ``auto`` would build
                every engine for TensorRT too.
        """
        run = self.pytester.runpytest_subprocess if process else self.pytester.runpytest_inprocess
        loaded = [argument for plugin in ("trtcheck", *plugins) for argument in ("-p", plugin)]
        chosen = [] if backend is None else [f"--trt-backend={backend}"]
        result = run(*loaded, f"--trt-cache={cache}", f"--trt-report={report}", *chosen, *map(str, args))
        text = f"{result.stdout.str()}\n{result.stderr.str()}"
        for sign in ("INTERNALERROR", "Traceback (most recent call last)", "_multicall", "session.py:"):
            assert sign not in text
        return result

    def report(self, folder: str = "reports") -> dict[str, Any]:
        """The report that the last run wrote."""
        document: dict[str, Any] = json.loads(
            (self.path / folder / "report.json").read_text(encoding="utf-8")
        )
        return document

    def verdicts(self, folder: str = "reports") -> dict[str, str]:
        """Verdicts by ``engine check``."""
        return {f"{i['engine']} {i['check']}": i["verdict"] for i in self.report(folder)["items"]}

    def item(self, engine: str, check: str, folder: str = "reports") -> dict[str, Any]:
        """The record of one check."""
        [found] = [i for i in self.report(folder)["items"] if (i["engine"], i["check"]) == (engine, check)]
        return found
