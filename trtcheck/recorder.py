"""The controller's side: collects what the items found, approves baselines, writes the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from traceback import format_exc
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.errors import TrtcheckError

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation
    from trtcheck.runtime import Runtime

Baselines = dict[tuple[str, str], dict[str, Any]]


class Recorder:
    """Registered where results are reported: in a serial run, or on the controller of pytest-xdist.

    Args:
        config: pytest's configuration.
        runtime: The state of this process.
    """

    def __init__(self, config: pytest.Config, runtime: Runtime) -> None:
        self._config = config
        self._runtime = runtime
        self._items: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self._started = datetime.now(UTC)
        self._document: dict[str, Any] | None = None
        self._said: list[str] = []
        """What the summary tells besides the document: files written, and what went wrong with them."""

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps an item's records; those of its last attempt count."""
        for record in getattr(report, "trtcheck_records", ()):
            key = (record["nodeid"], record["model"], record["engine"], record["check"])
            self._items[key] = record

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Approves baselines where asked, then writes the report; problems are told in the summary."""
        if all(item["verdict"] == "skipped" for item in self._items.values()):
            return  # an earlier report is worth more than one that says nothing
        items = list(self._items.values())
        try:
            evaluations = self._evaluations()
            baselines = self._baselines(items, evaluations, exitstatus)
            self._document = self._make_document(items, evaluations, baselines, exitstatus)
            self._write(self._document)
        except (TrtcheckError, OSError) as error:
            self._said.append(f"the report could not be written: {error}")
        except Exception:  # noqa: BLE001  a hook outside the run phase never raises
            self._said.append(f"the report could not be written; please report this:\n{format_exc()}")

    def _evaluations(self) -> list[Evaluation]:
        """What was evaluated in this session, by whichever worker."""
        if "shared" not in self._runtime.__dict__:
            return []
        from trtcheck.session import read_evaluations

        return read_evaluations(self._runtime.shared)

    def _baselines(
        self, items: list[dict[str, Any]], evaluations: list[Evaluation], exitstatus: int
    ) -> Baselines:
        from trtcheck.baselines import approve

        settings = self._runtime.settings
        if not settings.update_baselines:
            return {(e.model, e.engine): approve.state(settings.baselines, e) for e in evaluations}
        interrupted = exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        states: Baselines = {}
        for evaluation in evaluations:
            own = [i for i in items if (i["model"], i["engine"]) == (evaluation.model, evaluation.engine)]
            state = approve.write(settings.baselines, evaluation, own, interrupted=interrupted)
            states[evaluation.model, evaluation.engine] = state
            self._said.append(f"baseline of {evaluation.model}[{evaluation.engine}] {state['message']}")
        return states

    def _make_document(
        self,
        items: list[dict[str, Any]],
        evaluations: list[Evaluation],
        baselines: Baselines,
        exitstatus: int,
    ) -> dict[str, Any]:
        from trtcheck.environment import bare_fingerprint
        from trtcheck.report.document import document

        environment = evaluations[0].record["environment"] if evaluations else bare_fingerprint()
        return document(
            items=items,
            evaluations=evaluations,
            baselines=baselines,
            environment=environment,
            run={
                "started": self._started.isoformat(timespec="seconds"),
                "version": metadata.version("pytest-trtcheck"),
                "seconds": round((datetime.now(UTC) - self._started).total_seconds(), 3),
                "command": " ".join(self._config.invocation_params.args),
                "workers": int(getattr(self._config.option, "numprocesses", None) or 0),
                "exitstatus": int(exitstatus),
            },
            root=self._runtime.settings.root,
        )

    def _write(self, document: Mapping[str, Any]) -> None:
        from trtcheck.cache import write_atomically
        from trtcheck.report import html

        folder = self._runtime.settings.report
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / "report.json", text + "\n")
        html.write(document, folder)
        shown = folder / "index.html"
        if shown.is_relative_to(self._config.invocation_params.dir):
            shown = shown.relative_to(self._config.invocation_params.dir)
        self._said.append(f"report: {shown}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Regressions first, then one line an engine."""
        if self._document is None and not self._said:
            return
        from trtcheck.report.terminal import summary

        terminalreporter.write_sep("=", "trtcheck")
        if self._document is not None:
            for line in summary(self._document):
                terminalreporter.write_line(line.text, **{line.color: True} if line.color else {})
        for text in self._said:
            terminalreporter.write_line(text)
