"""The controller's side: collects what the items found, approves baselines, writes the report."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.errors import ReportError, TrtcheckError
from trtcheck.state import runtime_of

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation
    from trtcheck.runtime import Runtime

Baselines = dict[tuple[str, str], dict[str, Any]]


class Recorder:
    """Registered where results are reported: in a serial run, or on the controller of pytest-xdist.

    Args:
        config: pytest's configuration.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._items: dict[str, tuple[dict[str, Any], ...]] = {}
        """Records of the last attempt by node id; a test may make one check several times."""
        self._started = datetime.now(UTC)
        self._document: dict[str, Any] | None = None
        self._said: list[str] = []
        """What the summary tells besides the document: files written, and what went wrong with them."""
        self._finished = False
        self._index: Path | None = None
        """The report's first page, once it is written."""

    @property
    def _runtime(self) -> Runtime:
        return runtime_of(self._config)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps an item's records; those of its last attempt count."""
        if report.when == "setup":
            self._items.pop(report.nodeid, None)
        records = tuple(getattr(report, "trtcheck_records", ()))
        if records:
            self._items[report.nodeid] = records

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Approves baselines where asked, then writes the report; problems are told in the summary."""
        self._finish(session, exitstatus)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Links the report from the page of pytest-html, which is written in the same phase, maybe before."""
        self._finish(session, session.exitstatus)
        if self._document is None or self._index is None:
            return
        from trtcheck.report import pytest_html

        page = Path.cwd() / Path(os.path.expandvars(self._config.getoption("htmlpath"))).expanduser()
        prefix.append(pytest_html.link(self._document, self._index, page))

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._finished:
            return
        self._finished = True
        items = [record for records in self._items.values() for record in records]
        if all(item["verdict"] == "skipped" for item in items):
            self._said += dict.fromkeys(item["message"] for item in items)
            return  # an earlier report is worth more than one that says nothing
        interrupted = exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        try:
            evaluations = self._evaluations()
            baselines = self._baselines(items, evaluations, interrupted)
            timed = self._latency_baselines(items, interrupted)
            if any(state["status"] == "failed" for state in (*baselines.values(), *timed)):
                self._fail(session, "a baseline could not be written")
            drawn = _pictures(evaluations)
            self._document = self._make_document(items, evaluations, baselines, exitstatus, drawn)
            told = self._runtime.ran_elsewhere(self._document["environment"]["backend"])
            self._said += [told] if told else []
            if interrupted:
                self._said.append(f"interrupted after {len(items)} checks: no report is written")
            else:
                self._keep(session, self._write(self._document, drawn))
        except (TrtcheckError, OSError) as error:
            self._fail(session, f"the report could not be written: {error}")
        except Exception:  # noqa: BLE001  a hook outside the run phase never raises
            self._fail(session, f"the report could not be written; please report this:\n{format_exc()}")

    def _fail(self, session: pytest.Session, text: str) -> None:
        """Tells *text* and makes a run that would have passed exit with 1: what was asked for is missing."""
        self._said.append(text)
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _evaluations(self) -> list[Evaluation]:
        """What was evaluated in this session, by whichever worker."""
        if "shared" not in self._runtime.__dict__:
            return []
        from trtcheck.session import read_evaluations

        return read_evaluations(self._runtime.shared)

    def _baselines(
        self, items: list[dict[str, Any]], evaluations: list[Evaluation], interrupted: bool
    ) -> Baselines:
        from trtcheck.baselines import approve

        settings = self._runtime.settings
        if not settings.update_baselines:
            return {(e.model, e.engine): approve.state(settings.baselines, e) for e in evaluations}
        states: Baselines = {}
        for evaluation in evaluations:
            own = [i for i in items if (i["model"], i["engine"]) == (evaluation.model, evaluation.engine)]
            state = approve.write(settings.baselines, evaluation, own, interrupted=interrupted)
            states[evaluation.model, evaluation.engine] = state
            self._said.append(f"baseline of {evaluation.model}[{evaluation.engine}] {state['message']}")
        return states

    def _latency_baselines(self, items: list[dict[str, Any]], interrupted: bool) -> list[dict[str, Any]]:
        """What became of the latency baselines where results are approved; their items tell it, too."""
        settings = self._runtime.settings
        if not settings.update_baselines or "shared" not in self._runtime.__dict__:
            return []
        from trtcheck.baselines import latency_approve
        from trtcheck.case import Check
        from trtcheck.session import read_latency_runs
        from trtcheck.settings import cache_folder

        states = []
        for run in read_latency_runs(self._runtime.shared):
            own = [i for i in items if (i["model"], i["engine"]) == (run.model, run.engine)]
            state = latency_approve.write(
                settings.baselines, cache_folder(settings), run, own, interrupted=interrupted
            )
            for item in own:
                if item["check"] == Check.LATENCY and item.get("batch") == run.batch:
                    item["latency_baseline"] = state
            states.append(state)
            subject = f"{run.model}[{run.engine}] at batch {run.batch}"
            self._said.append(f"latency baseline of {subject} {state['message']}")
        return states

    def _make_document(
        self,
        items: list[dict[str, Any]],
        evaluations: list[Evaluation],
        baselines: Baselines,
        exitstatus: int,
        drawn: Mapping[str, bytes],
    ) -> dict[str, Any]:
        from trtcheck.case import Numerics
        from trtcheck.ci import run_of
        from trtcheck.environment import bare_fingerprint, versions
        from trtcheck.report.document import document

        # A recording was made elsewhere: it speaks for this machine only where nothing ran here.
        ran = [e for e in evaluations if e.record["numerics"] != Numerics.RECORDED] or evaluations
        environment = ran[0].record["environment"] if ran else bare_fingerprint()
        return document(
            items=items,
            evaluations=evaluations,
            baselines=baselines,
            environment=environment,
            run={
                "started": self._started.isoformat(timespec="seconds"),
                "version": versions().get("pytest-trtcheck", "not installed"),
                "seconds": round((datetime.now(UTC) - self._started).total_seconds(), 3),
                "command": shlex.join(map(str, self._config.invocation_params.args)),
                "workers": int(getattr(self._config.option, "numprocesses", None) or 0),
                "exitstatus": int(exitstatus),
                "ci": run_of(os.environ),
            },
            root=self._runtime.settings.root,
            pictures=drawn.keys(),
        )

    def _write(self, document: Mapping[str, Any], drawn: Mapping[str, bytes]) -> dict[str, Any]:
        """Writes the report; returns what is to be kept of the run."""
        from trtcheck.report import folder as report
        from trtcheck.report import history, markdown_file, places

        folder, kept = self._runtime.settings.report, self._runtime.settings.history
        run = history.record_of(document)
        if kept is not None:
            document = history.with_earlier(document, run, kept)
        report.write(document, folder, drawn)
        self._index = folder / "index.html"
        shown = places.shown(folder, self._config.invocation_params.dir)
        self._said.append(f"report: {shown}/index.html")
        step = os.environ.get("GITHUB_STEP_SUMMARY")
        told = markdown_file.append(document, Path(step), shown) if step else None
        self._said += [told] if told else []
        return run

    def _keep(self, session: pytest.Session, run: Mapping[str, Any]) -> None:
        """Keeps the *run* for later reports; where that fails its own report is there all the same."""
        from trtcheck.report import history

        folder = self._runtime.settings.history
        try:
            if folder is not None:
                history.keep(run, folder)
        except ReportError as error:
            self._fail(session, str(error))

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


def _pictures(evaluations: Sequence[Evaluation]) -> dict[str, bytes]:
    """The report's pictures by their path below it."""
    if not evaluations:
        return {}
    from trtcheck.report import matrix_pictures, pictures

    return {**pictures.thumbnails(evaluations), **matrix_pictures.of(evaluations)}
