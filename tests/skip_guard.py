"""The list of skips that the test suite may make; any other one fails the test that made it."""

from __future__ import annotations

from collections.abc import Generator

import pytest

EXPECTED: dict[str, tuple[str, ...]] = {
    "test_browser_axe.py": ("chromium is not installed", "axe-core is not installed"),
    "test_browser_names.py": ("chromium is not installed",),
    "test_browser_pages.py": ("chromium is not installed",),
    "test_browser_print.py": ("chromium is not installed",),
}
"""Test file and the reasons it may skip for."""


def is_expected(nodeid: str, reason: str) -> bool:
    """Whether the test *nodeid* may be skipped for *reason*."""
    return any(
        f"/{file}::" in f"/{nodeid}" and reason.endswith(allowed) for file, allowed in EXPECTED.items()
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skip that nobody expects into a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not is_expected(item.nodeid, reason):
            report.outcome = "failed"
            report.longrepr = f"unexpected skip: {reason}\n(the expected ones are listed in {__file__})"
    return report
