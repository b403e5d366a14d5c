"""Fixtures for suites written in Python; what they take is imported when a test asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.errors import TrtcheckError
from trtcheck.state import runtime_of

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.case import Case, EngineSpec
    from trtcheck.check_fixture import TrtCheck
    from trtcheck.evaluation import ReferenceResult


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
    named = mark_keywords(request.node).get("model")
    wanted = named or (next(iter(cases)) if len(cases) == 1 else None)
    # Compared one by one, since a mark may hold anything.
    case = next((case for name, case in cases.items() if name == wanted), None)
    if case is None:
        pytest.fail(
            f"{path}: which model is meant?\n"
            f"  expected: @pytest.mark.trtcheck(model=…) with one of: {', '.join(cases)}\n"
            f"  found:    {named or 'none'}",
            pytrace=False,
        )
    return case


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
        return runtime_of(request.config).workbench.reference(trt_case)
    except TrtcheckError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture
def trt_check(request: pytest.FixtureRequest, trt_case: Case, trt_precision: EngineSpec) -> TrtCheck:
    """Checks of `trt_case` at `trt_precision`; each fails the test when its gate does."""
    from trtcheck.check_fixture import TrtCheck

    return TrtCheck(request, trt_case, trt_precision)


def mark_keywords(node: pytest.Item) -> dict[str, Any]:
    """Keywords of all ``trtcheck`` marks of *node*; the closest mark counts."""
    found: dict[str, Any] = {}
    for mark in node.iter_markers("trtcheck"):
        if mark.args:
            pytest.fail("@pytest.mark.trtcheck takes keywords only, such as recall_drop=0.02", pytrace=False)
        found = {**mark.kwargs, **found}
    return found
