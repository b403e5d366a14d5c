"""Test items from a suite file: model by model, engine by engine, check by check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.case import Case, Check, EngineKind, EngineSpec, Outcome, Verdict, applies
from trtcheck.dispatch import judge, judge_latency, prepare, strict_by, timed_batches
from trtcheck.errors import BackendError, CaseError, EngineError, SuiteError, TrtcheckError
from trtcheck.item_records import OUTCOMES, PENDING, add_outcome, asides
from trtcheck.settings import HOW_TO_ASK
from trtcheck.state import runtime_of
from trtcheck.suite import default_engines, read_suite, require_timed

if TYPE_CHECKING:
    from trtcheck.runtime import Runtime


class RegressionError(Exception):
    """A check failed; its text is the whole message."""


class SuiteFile(pytest.File):
    """A ``trtcheck.toml``."""

    def collect(self) -> Iterator[pytest.Item]:
        """Items ``model[engine]::check``, or one skipped item a model where no engine was asked for.

        Raises:
            SuiteError: The file cannot be used.
        """
        runtime = runtime_of(self.config)
        for case in read_suite(self.path):
            _claim(runtime, case.name, self.path)
            engines = runtime.settings.engines
            if engines is None:
                engines = default_engines(case, self.path)
            # At which batch size a recording was timed is not known before it is read.
            if all(engine.kind is not EngineKind.RECORDING for engine in engines):
                require_timed(case, self.path)
            if not engines:
                yield SkippedModel.from_parent(self, name=case.name)
            for engine in engines:
                checks = case.checks
                if runtime.settings.build_only and Check.BUILD not in checks:
                    checks = (Check.BUILD, *checks)  # a suite that leaves it out is not meant to do nothing
                for check in checks:
                    if applies(check, engine.precision, engine.kind):
                        yield from self._items(case, engine, check)

    def _items(self, case: Case, engine: EngineSpec, check: Check) -> Iterator[CheckItem]:
        """The item of *check*; of latency one a batch size, where anything is to be timed."""
        for batch in timed_batches(case, engine) if check is Check.LATENCY else (None,):
            size = "" if batch is None else f"-b{batch}"
            name = f"{case.name}[{engine.name}]::{check.value}{size}"
            # Given as text, so that pytest compares ids as it reads them from its cache (--lf).
            nodeid = f"{self.nodeid}::{name}"
            yield CheckItem.from_parent(
                self, name=name, nodeid=nodeid, case=case, engine=engine, check=check, batch=batch
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

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line and name for messages; where an item is skipped by its mark pytest needs a line."""
        return self.path, 0, self.name


class CheckItem(pytest.Item):
    """One check of one model and engine.

    Args:
        case: The case.
        engine: The engine.
        check: The check.
        batch: The batch size that is timed; None for every other check, and for a recording's own.
    """

    def __init__(
        self, *, case: Case, engine: EngineSpec, check: Check, batch: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.engine = engine
        self.check = check
        self.batch = batch

    def setup(self) -> None:
        """Prepares, so that what is wrong with suite or data is an error, and with the engine a failure."""
        self.stash[PENDING] = Outcome(
            model=self.case.name, engine=self.engine.name, check=self.check, verdict=Verdict.ERROR, message=""
        )
        # A rerun after a failure starts from nothing.
        self.stash[OUTCOMES] = []
        if self.check is Check.BUILD or (self.check is Check.LATENCY and _off(self.config)):
            return
        try:
            runtime = runtime_of(self.config)
            prepare(runtime.workbench, runtime.settings, self.case, self.engine, self.check, self.batch)
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
        runtime = runtime_of(self.config)
        if self.check is Check.LATENCY:
            outcome = timed(self, self.case, self.engine, self.batch)
        else:
            outcome = judge(runtime.workbench, runtime.settings, self.case, self.engine, self.check)
        conclude(self, outcome, strict_by(runtime.settings, self.case.gates))

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line and name for messages; where an item is skipped by its mark pytest needs a line."""
        return self.path, 0, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """The message of a failure or of an error that is meant for people, without a traceback."""
        if isinstance(excinfo.value, RegressionError | TrtcheckError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)


def timed(item: pytest.Item, case: Case, engine: EngineSpec, batch: int | None) -> Outcome:
    """What ``latency`` comes to; pytest-benchmark is asked whether to time, and told the times.

    Args:
        item: The item, or the test that makes the check.
        case: The case.
        engine: The engine.
        batch: Images of a query; None for a recording's.

    Raises:
        TrtcheckError: The engine cannot be built or run.
    """
    from trtcheck import bench

    off = bench.timing_off(item.config)
    if off is not None:
        return Outcome(
            model=case.name, engine=engine.name, check=Check.LATENCY, verdict=Verdict.SKIPPED, message=off
        )
    runtime = runtime_of(item.config)
    outcome, samples_ms = judge_latency(runtime.workbench, runtime.settings, case, engine, batch)
    found = outcome.measured.get("batch", batch)
    if batch is not None and found != batch:
        raise CaseError(
            f"{engine.name} was recorded at another batch size", where=engine.path,
            expected=f"times at batch {batch}", found=f"batch {found}",
            hint="leave batch out: a recording has but its own",
        )  # fmt: skip
    bench.record(item, outcome, samples_ms)
    return outcome


def only_builds(item: pytest.Item) -> bool:
    """Whether *item* runs no engine: a ``build`` item, or a test of no concern to trtcheck's checks."""
    if isinstance(item, CheckItem):
        return item.check is Check.BUILD
    return not {"trt_check", "ort_baseline"} & set(getattr(item, "fixturenames", ()))


def _off(config: pytest.Config) -> bool:
    from trtcheck.bench import timing_off

    return timing_off(config) is not None


def conclude(item: pytest.Item, outcome: Outcome, strict_by: str | None) -> None:
    """Keeps *outcome* for the report, and lets *item* fail or be skipped by it.

    Args:
        item: The item, or the test that made the check.
        outcome: What the check came to.
        strict_by: What makes an inconclusive item fail, where anything does.

    Raises:
        RegressionError: The check failed.
    """
    add_outcome(item, outcome)
    if outcome.fails:
        raise RegressionError(describe(outcome, strict_by))
    if outcome.verdict is Verdict.SKIPPED:
        pytest.skip(outcome.message)


def describe(outcome: Outcome, strict_by: str | None) -> str:
    """What stands under a failed item; see `conclude`."""
    how = f" ({outcome.numerics.value})" if outcome.numerics is not None else ""
    why = ""
    if outcome.verdict is Verdict.INCONCLUSIVE:
        why = f"inconclusive, which fails here: {strict_by}; "
    told = f"{why}{outcome.message}".replace("; ", ";\n  ")  # a line a class or node
    head = f"{outcome.model}[{outcome.engine}] {outcome.check.value}{how}: {told}"
    return "\n".join([head, *(f"  {line}" for line in asides(outcome))])
