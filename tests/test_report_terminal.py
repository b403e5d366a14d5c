"""The terminal summary: what is told, in which order, and what is told once."""

from __future__ import annotations

from typing import Any

import pytest

from trtcheck.report import false_alarm, view
from trtcheck.report.terminal import summary

ENGINE: dict[str, Any] = {
    "model": "cats", "engine": "int8", "verdict": "pass", "numerics": "emulated", "accuracy": None,
    "classes": [], "flips": None, "outputs": [], "images": 100, "lowered": None, "baseline": None,
    "beside": None,
    "checks": dict.fromkeys(("build", "outputs", "accuracy", "recall", "precision"), "pass"),
}  # fmt: skip


def item(check: str, verdict: str = "pass", **more: Any) -> dict[str, Any]:
    engine = more.pop("engine", "int8")
    own = {
        "nodeid": f"suite.toml::cats[{engine}]::{check}", "model": "cats", "engine": engine, "check": check,
        "verdict": verdict, "message": f"{check} is told", "warnings": [], "notes": [],
        "fails": verdict in ("fail", "error"),
    }  # fmt: skip
    return {**own, **more}


def told(*items: dict[str, Any], engines: tuple[dict[str, Any], ...] = (ENGINE,)) -> list[str]:
    document = {
        "items": list(items), "engines": list(engines), "run": {"command": "suite"},
        "false_alarm": false_alarm.bound(items), "verdict": "pass",
    }  # fmt: skip
    return [line.text for line in summary(document)]


def test_warnings_follow_what_is_inconclusive_and_precede_the_engines():
    lines = told(
        item("calibration", warnings=["12 images are in both", "class 'Bag' is missing"]),
        item("recall", "inconclusive"),
        item("accuracy", "fail"),
    )
    assert lines == [
        "FAIL suite.toml::cats[int8]::accuracy: accuracy is told",
        "INCONCLUSIVE suite.toml::cats[int8]::recall: recall is told",
        "WARNING suite.toml::cats[int8]::calibration: 12 images are in both",
        "WARNING suite.toml::cats[int8]::calibration: class 'Bag' is missing",
        "PASS         cats[int8] emulated",
        "INT8 fails: accuracy is told",
    ]


def test_a_warning_is_yellow_and_keeps_its_further_lines():
    document = {
        "items": [item("calibration", warnings=["first\nsecond"])], "engines": [], "run": {"command": ""},
        "false_alarm": false_alarm.bound([]), "verdict": "pass",
    }  # fmt: skip
    *lines, _verdict = [(line.text, line.color) for line in summary(document)]
    assert lines == [
        ("WARNING suite.toml::cats[int8]::calibration: first", "yellow"),
        ("    second", None),
    ]


def test_what_several_engines_of_a_model_warn_of_is_told_once():
    same = {"warnings": ["the eval set holds 3 images twice"]}
    other = item("calibration", **same, model="dogs", nodeid="suite.toml::dogs[int8]::calibration")
    lines = told(item("calibration", **same), item("calibration", engine="mine", **same), other, engines=())
    assert lines[:-1] == [
        "WARNING suite.toml::cats[int8]::calibration: the eval set holds 3 images twice",
        "WARNING suite.toml::dogs[int8]::calibration: the eval set holds 3 images twice",
    ]


def test_an_inconclusive_item_that_fails_says_so():
    lines = told(item("recall", "inconclusive", fails=True), engines=())
    assert lines == [
        "INCONCLUSIVE suite.toml::cats[int8]::recall fails here: recall is told",
        "INT8 is inconclusive and fails here: recall is told",
    ]


RULE = {"alpha": 0.01, "test": "paired"}


@pytest.mark.parametrize(("items", "words"), [
    ([item("recall", **RULE)], "at most 1 % (1 test at 1 %)"),
    ([item("recall", **RULE, baseline=RULE)] * 3, "at most 6 % (6 tests at 1 %)"),
    ([item("recall", **RULE), item("accuracy", alpha=0.005, test="paired")], "at most 1.5 % (2 tests)"),
    ([item("recall", **RULE), item("accuracy", alpha=0.01, test="threshold")],
     "at most 1 % (1 test at 1 %; 1 item judged without such a bound)"),
])  # fmt: skip
def test_the_last_line_but_the_verdict_says_what_chance_can_do(items, words):
    assert told(*items)[-2] == f"chance that harmless changes fail this session: {words}"


def test_nothing_is_promised_where_nothing_was_tested():
    lines = told(item("build"), item("recall", alpha=0.01, test="threshold"))
    assert not any("chance" in line for line in lines)


def test_checks_that_only_some_engines_have_are_not_missed():
    assert told()[:-1] == ["PASS         cats[int8] emulated"]
    every = {**ENGINE, "checks": {**ENGINE["checks"], "calibration": "pass", "batch_invariance": "pass"}}
    assert told(engines=(every,))[:-1] == ["PASS         cats[int8] emulated"]
    some = {**ENGINE, "checks": {"build": "pass", "calibration": "pass"}}
    assert told(engines=(some,))[:-1] == ["PASS         cats[int8] emulated: checked: build, calibration"]


def test_the_last_line_is_the_sentence_at_the_top_of_the_report():
    failed = item("recall", "fail", message="recall of 'Bag' is .2, below the floor of .5")
    document = {
        "items": [failed, item("build")], "engines": [], "run": {"command": ""}, "verdict": "fail",
        "false_alarm": false_alarm.bound([]),
    }  # fmt: skip
    last = list(summary(document))[-1]
    assert (last.text, last.color) == (view.headline(document), "red")
    assert last.text == "INT8 fails: recall of 'Bag' is .2, below the floor of .5"


def test_a_message_of_many_classes_is_cut_to_the_three_worst_on_lines_of_their_own():
    clauses = [f"recall of 'c{number}' fell from .9 to .{number}" for number in range(8)]
    lines = told(item("recall", "fail", message="; ".join(clauses)), engines=())
    assert lines[:-1] == [
        "FAIL suite.toml::cats[int8]::recall: recall of 'c0' fell from .9 to .0;",
        "    recall of 'c1' fell from .9 to .1;",
        "    recall of 'c2' fell from .9 to .2;",
        "    and 5 more in the report",
    ]


def test_a_message_that_is_hardly_longer_is_whole():
    lines = told(item("recall", "fail", message="a; b; c; d"), engines=())
    assert lines[:-1] == ["FAIL suite.toml::cats[int8]::recall: a;", "    b;", "    c;", "    d"]


def test_the_node_that_overflows_is_told_before_what_it_does_and_in_full():
    overflow = "Exp_3 gives inf: keep it in FP32; in all 2 nodes leave the range: Exp_3, Exp_9"
    message = f"recall of 'a' fell; of 'b' fell; of 'c' fell; of 'd' fell; of 'e' fell; {overflow}"
    engine = {**ENGINE, "overflow": overflow}
    lines = told(item("recall", "fail", message=message), engines=(engine,))
    assert lines[:5] == [
        f"FAIL suite.toml::cats[int8]::recall: {overflow};",
        "    recall of 'a' fell;",
        "    of 'b' fell;",
        "    of 'c' fell;",
        "    and 2 more in the report",
    ]
