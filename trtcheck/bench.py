"""What pytest-benchmark shows of latency checks; no other module touches it.

It knows benchmarks by the fixture of that name, which items of a toml cannot have, and offers no other way
in: `counted` lets items that time pass for its own while it looks at what was collected, and `record` adds a
row to its session. Its table, JSON, comparison and histogram are made from these rows. Under pytest-xdist it
turns itself off; then there are no rows, and everything is timed as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest

from trtcheck.case import Check, Outcome

_log = logging.getLogger("trtcheck")


def timing_off(config: pytest.Config) -> str | None:
    """Why nothing is to be timed, in a sentence: the user told pytest-benchmark so; None where it is.

    That pytest-benchmark turned itself off, as it does under pytest-xdist, is no reason.
    """

    def given(flag: str) -> bool:
        return bool(config.getoption(f"--benchmark-{flag}", default=False))

    if given("skip") and not given("only"):
        return "nothing is timed: --benchmark-skip"
    if given("disable") and not given("enable"):
        return "nothing is timed: --benchmark-disable"
    return None


def times(item: pytest.Item) -> bool:
    """Whether *item* is a latency check, or a test whose own code asks ``trt_check`` for ``latency``."""
    if _is_check(item):
        return getattr(item, "check", None) is Check.LATENCY
    code = getattr(getattr(item, "function", None), "__code__", None)
    return "trt_check" in getattr(item, "fixturenames", ()) and "latency" in getattr(code, "co_names", ())


def _is_check(item: pytest.Item) -> bool:
    """Whether *item* comes from a toml; its class is not imported here, with all that it brings."""
    return isinstance(getattr(item, "check", None), Check)


@contextmanager
def counted(config: pytest.Config, items: Iterable[pytest.Item]) -> Iterator[None]:
    """Lets those of *items* that time pass for benchmarks, for ``--benchmark-only`` and ``--benchmark-skip``.

    To be held while the hooks ``pytest_collection_modifyitems`` run; nothing of it stays.
    """
    session = getattr(config, "_benchmarksession", None)
    # Where pytest-benchmark turned itself off it selects nothing, and would warn of every benchmark it finds.
    idle = session is None or (getattr(session, "disabled", False) and timing_off(config) is None)
    with ExitStack() as stack:
        for item in items:
            if not idle and times(item):
                stack.enter_context(_named(item))
        yield


@contextmanager
def _named(item: Any) -> Iterator[None]:
    """Gives *item* the name of the fixture, without the fixture."""
    before = getattr(item, "fixturenames", None)
    item.fixturenames = [*(before or ()), "benchmark"]
    try:
        yield
    finally:
        if before is None:
            del item.fixturenames
        else:
            item.fixturenames = before


@dataclass(frozen=True)
class _Source:
    """What pytest-benchmark's row asks of its fixture; its names."""

    name: str
    fullname: str
    group: str
    param: str
    params: Mapping[str, Any]
    extra_info: Mapping[str, Any]
    cprofile_stats: None = None
    has_error: bool = False


def record(item: pytest.Item, outcome: Outcome, samples_ms: Iterable[float]) -> None:
    """Adds what a latency check measured to pytest-benchmark's rows, where it is there and turned on.

    A slower engine was measured as well as any: its row is there, too. A test that is run again has one row.

    Args:
        item: The item, or the test that made the check.
        outcome: What the check came to; one without times, such as a skipped one, makes no row.
        samples_ms: Times of single queries of the engine, milliseconds.
    """
    session = getattr(item.config, "_benchmarksession", None)
    if session is None or "latency" not in outcome.measured:
        return
    try:
        if session.disabled:
            return
        row = _row(_source(item, outcome), outcome.measured["timing"], samples_ms)
        session.benchmarks[:] = [own for own in session.benchmarks if own.fullname != row.fullname] + [row]
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        _log.warning(
            "no latency in pytest-benchmark's table: this version of it is unknown to trtcheck (%s: %s)",
            type(error).__name__, error,
        )  # fmt: skip


def _row(source: _Source, timing: Mapping[str, Any], samples_ms: Iterable[float]) -> Any:
    """A row of pytest-benchmark's session, each query a round."""
    stats: Any = import_module("pytest_benchmark.stats")
    row = stats.Metadata(source, iterations=1, options=dict(timing))
    for sample in samples_ms:
        row.update(float(sample) / 1e3)
    row.as_dict()  # fails here, where it harms nobody, and not when the session ends
    return row


def _source(item: pytest.Item, outcome: Outcome) -> _Source:
    measured = outcome.measured
    what = f"{Check.LATENCY.value}-b{measured['batch']}"
    # A test may time several batch sizes; an item of a toml has but its one.
    name = item.name if _is_check(item) else f"{item.name}::{what}"
    return _Source(
        name=name,
        fullname=f"{item.nodeid.removesuffix(item.name)}{name}",
        group=f"{outcome.model} {what}",
        param=outcome.engine,
        params={"engine": outcome.engine, "batch": measured["batch"]},
        extra_info={
            "model": outcome.model,
            "engine": outcome.engine,
            "precision": measured.get("precision"),
            "batch": measured["batch"],
            "backend": measured["backend"],
            "environment": measured["environment_digest"],
            "clock": str(measured["timing"]["clock"]),
        },
    )
