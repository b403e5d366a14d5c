"""Inconclusive items: told, or failed where ``--trt-strict`` or ``on_inconclusive`` asks for it."""

from __future__ import annotations

import pytest
import suite_models

JUDGED = ["outputs", "accuracy", "recall"]
FAILING = "[models.tiny.gates]\non_inconclusive = 'fail'"


@pytest.fixture
def few(suite):
    """A suite whose twelve images are too few to tell."""
    suite.data(**suite_models.arrays(12))
    suite.toml(checks=JUDGED)
    return suite


def test_without_it_what_cannot_be_told_does_not_fail(few):
    result = few.run("--trt-engine=fp16")
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes()["inconclusive"] >= 1
    assert few.item("fp16", "recall")["fails"] is False


def test_with_it_the_item_fails_and_says_why(few):
    result = few.run("--trt-engine=fp16", "--trt-strict", "-k", "recall")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"failed": 1, "deselected": 2}
    result.stdout.fnmatch_lines(
        [
            "trtcheck.toml F*",
            "tiny*fp16* recall (emulated): inconclusive, which fails here: --trt-strict;",
            "  *images of class *",
            "  note: emulated: *",
            "INCONCLUSIVE trtcheck.toml::tiny*fp16*::recall*: *images of class *",
        ]
    )
    item = few.item("fp16", "recall")
    assert (item["verdict"], item["fails"]) == ("inconclusive", True)
    assert "--trt-strict" not in item["message"]


def test_one_model_can_ask_for_it(few):
    few.toml(FAILING, checks=JUDGED)
    few.toml(name="other", file="other.trtcheck.toml", checks=JUDGED)
    result = few.run("--trt-engine=fp16", "-k", "recall", "-v")
    assert result.parseoutcomes() == {"failed": 1, "inconclusive": 1, "deselected": 4}
    result.stdout.fnmatch_lines(
        ["*other[[]fp16[]]::recall INCONCLUSIVE*", "trtcheck.toml::tiny[[]fp16[]]::recall FAILED*"]
    )
    result.stdout.fnmatch_lines(
        ['tiny*fp16* recall (emulated): inconclusive, which fails here: on_inconclusive = "fail";']
    )


def test_it_changes_nothing_where_everything_could_be_told(suite):
    suite.toml(checks=JUDGED)
    suite.run("--trt-engine=fp16,int8", "--trt-strict").assert_outcomes(passed=6)


def test_a_limit_that_nobody_could_measure_fails_the_build(suite):
    suite.toml("[models.tiny.gates]\nmemory_mb = 10", checks=["build"])
    suite.run("--trt-engine=fp16").stdout.fnmatch_lines(["*1 inconclusive*"])
    result = suite.run("--trt-engine=fp16", "--trt-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["tiny*fp16* build *inconclusive, which fails here: --trt-strict;", "  memory_mb cannot be judged*"]
    )


def test_workers_see_it_too(few):
    told = {}
    for workers, plugins in (([], []), (["-n2"], ["xdist"])):
        for strict in ([], ["--trt-strict"]):
            result = few.run("--trt-engine=fp16", *strict, *workers, plugins=plugins, process=True)
            told[bool(workers), bool(strict)] = (result.ret, result.parseoutcomes(), few.verdicts())
    assert told[True, True] == told[False, True]
    assert told[True, False] == told[False, False]
    assert (told[True, True][0], told[True, False][0]) == (1, 0)


def test_what_fails_for_it_is_not_approved(few):
    result = few.run("--trt-engine=fp16", "--trt-strict", "--trt-update-baselines")
    result.stdout.fnmatch_lines(["baseline of tiny*fp16* not written: *recall failed"])
    assert not list(few.path.glob("baselines/**/*.json"))
    few.run("--trt-engine=fp16", "--trt-update-baselines")
    assert len(list(few.path.glob("baselines/**/*.json"))) == 1


def test_what_fails_for_the_suites_word_is_not_approved_while_others_are(few):
    few.toml(FAILING, checks=JUDGED)
    few.toml(name="other", file="other.trtcheck.toml", checks=JUDGED)
    few.run("--trt-engine=fp16", "--trt-update-baselines")
    assert [path.parts[-3] for path in few.path.glob("baselines/**/*.json")] == ["other"]


PYTHON = """
import pytest

def test_told(trt_check):
    assert trt_check.recall().verdict == "inconclusive"

@pytest.mark.trtcheck(on_inconclusive="fail")
def test_marked(trt_check):
    trt_check.recall()
"""


@pytest.mark.parametrize(
    ("option", "outcomes", "why"),
    [
        ([], {"inconclusive": 1, "failed": 1}, 'on_inconclusive = "fail"'),
        (["--trt-strict"], {"failed": 2}, "--trt-strict"),
    ],
)
def test_checks_of_a_test_follow_it(few, option, outcomes, why):
    few.pytester.makepyfile(test_it=PYTHON)
    result = few.run("--trt-engine=fp16", *option, "test_it.py")
    assert result.parseoutcomes() == outcomes
    assert result.stdout.str().count(f"inconclusive, which fails here: {why};") == outcomes["failed"]
    assert {i["verdict"] for i in few.report()["items"]} == {"inconclusive"}


def test_what_strict_fails_is_not_proposed_for_approval(few):
    assert "no baseline yet: tiny[fp16]; approve:" in few.run("--trt-engine=fp16").stdout.str()
    strict = few.run("--trt-engine=fp16", "--trt-strict").stdout.str()
    assert "fails here: --trt-strict" in strict
    assert "; approve:" not in strict
