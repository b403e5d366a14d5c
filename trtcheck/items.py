"""Test items from a suite file: model by model, engine by engine, check by check."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.case import Case, Check, EngineSpec, Outcome, Verdict
from trtcheck.errors import BackendError, EngineError, SuiteError, TrtcheckError
from trtcheck.runtime import OUTCOMES, PENDING, RUNTIME, Runtime, add_outcome
from trtcheck.settings import HOW_TO_ASK
from trtcheck.suite import default_engines, read_suite

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.session import Workbench


class RegressionError(Exception):
    """A check failed; its text is the whole message."""


class SuiteFile(pytest.File):
    """A ``trtcheck.toml``."""

    def collect(self) -> Iterator[pytest.Item]:
        """Items ``model[engine]::check``, or one skipped item a model where no engine was asked for.

        Raises:
            SuiteError: The file cannot be used.
        """
        runtime = self.config.stash[RUNTIME]
        for case in read_suite(self.path):
            _claim(runtime, case.name, self.path)
            engines = runtime.settings.engines
            if engines is None:
                engines = default_engines(case, self.path)
            if not engines:
                yield SkippedModel.from_parent(self, name=case.name)
            for engine in engines:
                checks = case.checks
                if runtime.settings.build_only and Check.BUILD not in checks:
                    checks = (Check.BUILD, *checks)  # a suite that leaves it out is not meant to do nothing
                for check in checks:
                    name = f"{case.name}[{engine.name}]::{check.value}"
                    # Given as text, so that pytest compares ids as it reads them from its cache (--lf).
                    nodeid = f"{self.nodeid}::{name}"
                    yield CheckItem.from_parent(
                        self, name=name, nodeid=nodeid, case=case, engine=engine, check=check
                    )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """The message of an error that is meant for people, without a traceback."""
        if isinstance(excinfo.value, TrtcheckError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)


def _claim(runtime: Runtime, name: str, path: Path) -> None:
    """Takes the model's name for this file: baselines and reports are kept by it.

    Raises:
        SuiteError: Another file has it already.
    """
    owner = runtime.suite_of.setdefault(name, path)
    if owner != path:
        raise SuiteError(
            f"models.{name} is named in another suite too", where=path,
            expected="a name of its own for every model, since baselines are kept by it", found=owner,
            hint=f"rename one of them, or run the suites apart: pytest {path.name}",
        )  # fmt: skip


class SkippedModel(pytest.Item):
    """A model for which no engine was asked."""

    def setup(self) -> None:
        """Skips."""
        self.stash[PENDING] = Outcome(
            model=self.name, engine="", check=Check.BUILD, verdict=Verdict.SKIPPED, message=HOW_TO_ASK
        )
        pytest.skip(HOW_TO_ASK)

    def runtest(self) -> None:
        """Never reached: `setup` skips."""

    def reportinfo(self) -> tuple[Path, None, str]:
        """File and name for messages."""
        return self.path, None, self.name


class CheckItem(pytest.Item):
    """One check of one model and engine.

    Args:
        case: The case.
        engine: The engine.
        check: The check.
    """

    def __init__(self, *, case: Case, engine: EngineSpec, check: Check, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.engine = engine
        self.check = check

    def setup(self) -> None:
        """Evaluates, so that what is wrong with suite or data is an error, and with the engine a failure."""
        self.stash[PENDING] = Outcome(
            model=self.case.name, engine=self.engine.name, check=self.check, verdict=Verdict.ERROR, message=""
        )
        # A rerun after a failure starts from nothing.
        self.stash[OUTCOMES] = []
        if self.check is Check.BUILD:
            return
        from trtcheck.checks import require_known_classes

        try:
            evaluation = self.config.stash[RUNTIME].workbench.evaluation(self.case, self.engine)
            require_known_classes(evaluation, self.case.gates)
        except (EngineError, BackendError):
            return  # what is wrong with the engine is a failure: `runtest` meets it again
        except TrtcheckError as error:
            # pytest asks `repr_failure` about the call alone; this keeps the traceback out of setup too.
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    def runtest(self) -> None:
        """Judges.

        Raises:
            RegressionError: The check failed.
            TrtcheckError: The engine cannot be built.
        """
        outcome = judge(self.config.stash[RUNTIME], self.case, self.engine, self.check)
        add_outcome(self, outcome)
        if outcome.verdict in (Verdict.FAIL, Verdict.ERROR):
            raise RegressionError(describe(outcome))

    def reportinfo(self) -> tuple[Path, None, str]:
        """File and name for messages."""
        return self.path, None, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """The message of a failure or of an error that is meant for people, without a traceback."""
        if isinstance(excinfo.value, RegressionError | TrtcheckError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)


def only_builds(item: pytest.Item) -> bool:
    """Whether *item* runs no engine: a ``build`` item, or a test of no concern to trtcheck's checks."""
    if isinstance(item, CheckItem):
        return item.check is Check.BUILD
    return not {"trt_check", "ort_baseline"} & set(getattr(item, "fixturenames", ()))


def describe(outcome: Outcome) -> str:
    """What stands under a failed item."""
    how = f" ({outcome.numerics.value})" if outcome.numerics is not None else ""
    told = outcome.message.replace("; ", ";\n  ")  # a line a class or node
    head = f"{outcome.model}[{outcome.engine}] {outcome.check.value}{how}: {told}"
    return "\n".join([head, *(f"  note: {note}" for note in outcome.notes)])


def judge(runtime: Runtime, case: Case, engine: EngineSpec, check: Check) -> Outcome:
    """What *check* of *case* and *engine* comes to, the approved baseline included.

    Raises:
        TrtcheckError: The engine cannot be built or the case not evaluated.
    """
    from trtcheck import checks
    from trtcheck.baselines import store

    if check is Check.BUILD:
        from trtcheck import engine_check

        built = runtime.workbench.built(case, engine)
        return engine_check.build(case, engine, built, _beside(runtime.workbench, case, engine))
    evaluation = runtime.workbench.evaluation(case, engine)
    checks.require_known_classes(evaluation, case.gates)
    settings = runtime.settings
    find = None if settings.update_baselines else partial(store.find, settings.baselines, evaluation)
    return checks.CHECKS[check](evaluation, case.gates, find)


def _beside(workbench: Workbench, case: Case, engine: EngineSpec) -> BuiltEngine | TrtcheckError | str | None:
    """The TensorRT engine that is built besides, what speaks against the model, or why nothing was built."""
    try:
        workbench.open_beside()
    except BackendError as error:
        return " ".join(str(error).split())
    try:
        return workbench.beside(case, engine)
    except (EngineError, BackendError) as error:
        return error
