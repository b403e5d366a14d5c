"""Fixtures for suites written in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.case import Case, Check, EngineSpec, Gates, Outcome, Verdict
from trtcheck.errors import TrtcheckError
from trtcheck.runtime import RUNTIME, Runtime, add_outcome

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.evaluation import ReferenceResult
    from trtcheck.metrics.confusion import Confusion


@pytest.fixture
def trt_case(request: pytest.FixtureRequest) -> Case:
    """The case under test; override it to return a `trtcheck.Case` of your own.

    As it is, it takes the model of the ``trtcheck.toml`` beside the test file; where that names several,
    ``@pytest.mark.trtcheck(model="NAME")`` says which.
    """
    from trtcheck.suite import read_suite

    path = request.path.parent / "trtcheck.toml"
    if not path.is_file():
        pytest.fail(
            f"there is no trtcheck.toml beside {request.path.name}, so the test has no case\n"
            "  expected: a fixture trt_case that returns a trtcheck.Case, or a suite file beside the test",
            pytrace=False,
        )
    try:
        cases = {case.name: case for case in read_suite(path)}
    except TrtcheckError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    wanted = _mark_keywords(request.node).get("model") or next(iter(cases))
    if wanted not in cases or (len(cases) > 1 and not _mark_keywords(request.node).get("model")):
        pytest.fail(
            f"{path}: which model is meant?\n"
            f"  expected: @pytest.mark.trtcheck(model=…) with one of: {', '.join(cases)}\n"
            f"  found:    {_mark_keywords(request.node).get('model') or 'none'}",
            pytrace=False,
        )
    return cases[wanted]


@pytest.fixture(scope="session")
def trt_precision(request: pytest.FixtureRequest) -> EngineSpec:
    """The engine that was asked for by ``--trt-engine``, one test run each (`trtcheck.EngineSpec`)."""
    engine: EngineSpec = request.param
    return engine


@pytest.fixture
def trt_engine(trt_check: TrtCheck) -> BuiltEngine:
    """The built engine of `trt_case` at `trt_precision`; built once a session."""
    return trt_check.engine()


@pytest.fixture
def ort_baseline(request: pytest.FixtureRequest, trt_case: Case) -> ReferenceResult:
    """What ONNX Runtime's FP32 reference answers on the case: answers, confusion and accuracy."""
    try:
        return request.config.stash[RUNTIME].workbench.reference(trt_case)
    except TrtcheckError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture
def trt_check(request: pytest.FixtureRequest, trt_case: Case, trt_precision: EngineSpec) -> TrtCheck:
    """Checks of `trt_case` at `trt_precision`; each fails the test when its gate does."""
    return TrtCheck(request, trt_case, trt_precision)


class TrtCheck:
    """The checks of one case and engine.

    Args:
        request: The test's request.
        case: The case.
        engine: The engine.
    """

    def __init__(self, request: pytest.FixtureRequest, case: Case, engine: EngineSpec) -> None:
        self._item: pytest.Item = request.node
        self._runtime: Runtime = request.config.stash[RUNTIME]
        self._engine = engine
        self.case = replace(case, gates=marked_gates(case.gates, request.node))

    def engine(self) -> BuiltEngine:
        """The built engine; fails the test if it cannot be built."""
        try:
            return self._runtime.workbench.built(self.case, self._engine)
        except TrtcheckError as error:
            raise self._failure(Check.BUILD, error) from None

    def build(self) -> Outcome:
        """Whether the engine was built, and is what was asked for."""
        return self._judge(Check.BUILD, {})

    def outputs(self, **limits: float) -> Outcome:
        """Whether every output is there, finite and within *limits* (as the gates of the toml).

        Args:
            **limits: ``max_abs``, ``max_rel``, ``relative_l2``, ``cosine``, ``kl``, ``top1_agreement``.
        """
        return self._judge(Check.OUTPUTS, limits)

    def accuracy(self, *, drop: float | None = None) -> Outcome:
        """Whether accuracy fell by *drop* (a fraction) or more."""
        return self._judge(Check.ACCURACY, {"accuracy_drop": drop})

    def recall(self, *, drop: float | None = None, classes: Mapping[str, float] | None = None) -> Outcome:
        """Whether any class's recall fell by *drop* (a fraction) or more; *classes* have their own."""
        own = {name: {"recall_drop": value} for name, value in (classes or {}).items()}
        return self._judge(Check.RECALL, {"recall_drop": drop, "classes": own or None})

    def precision(self, *, drop: float | None = None, classes: Mapping[str, float] | None = None) -> Outcome:
        """Whether any class's precision fell by *drop* (a fraction) or more; see `recall`."""
        own = {name: {"precision_drop": value} for name, value in (classes or {}).items()}
        return self._judge(Check.PRECISION, {"precision_drop": drop, "classes": own or None})

    def confusion(self) -> tuple[Confusion, Confusion]:
        """Confusion of the reference and of the engine."""
        try:
            return self._runtime.workbench.evaluation(self.case, self._engine).confusion()
        except TrtcheckError as error:
            raise self._failure(Check.RECALL, error) from None

    def _judge(self, check: Check, limits: Mapping[str, Any]) -> Outcome:
        from trtcheck.items import describe, judge

        given = {name: value for name, value in limits.items() if value is not None}
        case = replace(self.case, gates=_changed(self.case.gates, given, f"trt_check.{check.value}()"))
        try:
            outcome = judge(self._runtime, case, self._engine, check)
        except TrtcheckError as error:
            raise self._failure(check, error) from None
        add_outcome(self._item, outcome)
        if outcome.verdict in (Verdict.FAIL, Verdict.ERROR):
            pytest.fail(describe(outcome), pytrace=False)
        return outcome

    def _failure(self, check: Check, error: TrtcheckError) -> BaseException:
        """Records that *check* could not be made; what it returns fails the test."""
        add_outcome(
            self._item,
            Outcome(
                model=self.case.name, engine=self._engine.name, check=check, verdict=Verdict.ERROR,
                message=str(error),
            ),
        )  # fmt: skip
        return pytest.fail.Exception(str(error), pytrace=False)


def _mark_keywords(node: pytest.Item) -> dict[str, Any]:
    """Keywords of all ``trtcheck`` marks of *node*; the closest mark counts."""
    found: dict[str, Any] = {}
    for mark in node.iter_markers("trtcheck"):
        if mark.args:
            pytest.fail("@pytest.mark.trtcheck takes keywords only, such as recall_drop=0.02", pytrace=False)
        found = {**mark.kwargs, **found}
    return found


def marked_gates(gates: Gates, node: pytest.Item) -> Gates:
    """The *gates* changed by the ``trtcheck`` marks of *node*; a keyword that is no gate fails the test."""
    keywords = {name: value for name, value in _mark_keywords(node).items() if name != "model"}
    return _changed(gates, keywords, "@pytest.mark.trtcheck")


def _changed(gates: Gates, changes: Mapping[str, Any], where: str) -> Gates:
    from trtcheck.suite import changed_gates

    try:
        return changed_gates(gates, changes, where)
    except TrtcheckError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
