"""Every skip is listed, and an unexpected one fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import skip_guard

GUARD = Path(skip_guard.__file__).read_text()


def test_an_unexpected_skip_fails_the_test_that_made_it(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(GUARD)
    pytester.makepyfile(
        """
        import pytest

        def test_skips():
            pytest.skip("no reason that anybody knows")
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unexpected skip: Skipped: no reason that anybody knows*"])


def test_an_expected_skip_stays_one(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(GUARD)
    pytester.makepyfile(
        test_browser_pages="""
        import pytest

        @pytest.mark.skip(reason="chromium is not installed")
        def test_in_chromium():
            pass
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(skipped=1)


def test_every_listed_file_exists() -> None:
    missing = [name for name in skip_guard.EXPECTED if not [*Path(__file__).parent.rglob(name)]]
    assert not missing
