"""Suites written in Python."""

from __future__ import annotations

import pytest
import suite_models


@pytest.fixture
def python(suite):
    """Writes a test file beside the suite and runs it alone."""

    def write_and_run(text: str, *arguments: str, **given) -> pytest.RunResult:
        suite.pytester.makepyfile(test_it=text)
        return suite.run(*(arguments or ["--trt-engine=fp16"]), "test_it.py", **given)

    return write_and_run


def test_all_checks_of_the_suite_beside_the_test(suite, python):
    result = python(
        """
        def test_model(trt_check):
            built = trt_check.build()
            assert built.verdict == "pass"
            assert trt_check.outputs().measured["outputs"][0]["name"] == "scores"
            assert trt_check.accuracy().measured["after"] > 0.9
            assert trt_check.recall(drop=0.02).measured["classes"][0]["margin"] == 0.02
            precision = trt_check.precision(drop=0.02, classes={"dim": 0.5})
            assert [row["margin"] for row in precision.measured["classes"]] == [0.02, 0.02, 0.5, 0.02]
            before, after = trt_check.confusion()
            assert before.matrix.sum() == after.matrix.sum() == 240
        """,
        "--trt-engine=fp16,int8",
    )
    result.assert_outcomes(passed=2)
    assert [i["nodeid"] for i in suite.report()["items"]] == ["test_it.py::test_model[fp16]"] * 5 + [
        "test_it.py::test_model[int8]"
    ] * 5
    assert suite.item("fp16", "recall")["classes"][0]["margin"] == 0.02


def test_without_engines_it_is_skipped_with_what_to_type(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.recall()", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *no engine asked for; type: pytest --trt-engine=fp32,fp16,int8"])


def test_a_case_of_ones_own_with_arrays(suite, python):
    result = python(
        """
        import numpy as np
        import pytest
        import trtcheck

        @pytest.fixture
        def trt_case():
            stored = np.load("eval.npz")
            return trtcheck.Case(
                name="mine", onnx="model.onnx", data=(stored["images"], stored["labels"]),
                calibration=stored["images"][:50], classes=["a", "b", "c", "d"],
                input=trtcheck.InputSpec(scale=1 / 255), gates=trtcheck.Gates(recall_drop=0.05),
            )

        def test_recall(trt_check, trt_case):
            outcome = trt_check.recall()
            assert isinstance(outcome, trtcheck.Outcome)
            assert outcome.verdict is trtcheck.Verdict.PASS
            assert [row["margin"] for row in outcome.measured["classes"]] == [0.05] * 4
        """,
        "--trt-engine=fp16,int8",
    )
    result.assert_outcomes(passed=2)
    assert suite.report()["models"][0]["classes"] == ["a", "b", "c", "d"]


def test_a_regression_fails_the_test_with_the_verdict_and_no_traceback(suite, python):
    suite.model(suite_models.overflowing())
    result = python("def test_model(trt_check):\n    trt_check.recall(drop=0.01)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["tiny*fp16* recall (emulated): recall of 'left' fell from 1.000 to .000 *"])
    result.stdout.no_fnmatch_line("*def test_model*")
    assert suite.verdicts() == {"fp16 recall": "fail"}


def test_marks_change_the_gates_and_the_closest_counts(suite, python):
    result = python(
        """
        import pytest

        pytestmark = pytest.mark.trtcheck(recall_drop=0.3, accuracy_drop=0.4)

        @pytest.mark.trtcheck(recall_drop=0.1)
        def test_model(trt_check):
            assert trt_check.case.gates.recall_drop == 0.1
            assert trt_check.accuracy().measured["margin"] == 0.4
            assert trt_check.recall().measured["classes"][0]["margin"] == 0.1
            assert trt_check.recall(drop=0.2).measured["classes"][0]["margin"] == 0.2
        """,
        "--trt-engine=fp16", "--strict-markers",
    )  # fmt: skip
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("mark", "what"),
    [
        ("recal_drop=0.1", "@pytest.mark.trtcheck: unknown key recal_drop"),
        ("recall_drop=2", "@pytest.mark.trtcheck: recall_drop has a wrong value"),
        ("0.1", "@pytest.mark.trtcheck takes keywords only"),
    ],
)
def test_a_mark_that_is_no_gate_is_an_error(suite, python, mark, what):
    result = python(
        f"""
        import pytest

        @pytest.mark.trtcheck({mark})
        def test_model(trt_check):
            trt_check.recall()
        """
    )
    result.assert_outcomes(errors=1)
    assert what in result.stdout.str()


@pytest.mark.parametrize("value", ["'1%'", "1.5", "-0.1", "float('nan')", "True"])
def test_a_limit_that_is_no_share_is_an_error(suite, python, value):
    result = python(f"def test_model(trt_check):\n    trt_check.recall(drop={value})")
    result.assert_outcomes(failed=1)
    assert "recall_drop" in result.stdout.str()
    assert "a number from 0 to 1" in result.stdout.str()


def test_an_unknown_limit_of_outputs_is_an_error(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.outputs(maxabs=0.1)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["trt_check.outputs(): unknown key maxabs", "*try: * did you mean max_abs?"])


def test_a_class_that_is_not_there_is_an_error(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.recall(classes={'shirt': 0.1})")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*gates name a class that is not there: shirt*", "*left, right, dim, bright*"]
    )


def test_class_limits_by_pattern_and_key_classes(suite, python):
    suite.toml("[models.tiny.gates.classes.\"*ight\"]\nrecall_drop = 0.5\n[models.tiny.gates.classes.left]\n"
               "recall_drop = 0.4")  # fmt: skip
    result = python(
        """
        def margins(outcome):
            return [row["margin"] for row in outcome.measured["classes"]]

        def test_model(trt_check):
            assert margins(trt_check.recall()) == [0.4, 0.5, 0.01, 0.5]
            patterns = {"b*": 0.3, "l*": 0.2}
            assert margins(trt_check.recall(drop=0.02, classes=patterns)) == [0.4, 0.5, 0.02, 0.3]
            outcome = trt_check.recall(classes={"left": 0.1}, key_classes=["d*"], floor=0.25)
            assert margins(outcome) == [0.1, 0.5, 0.01, 0.5]
            rows = outcome.measured["classes"]
            assert [row["key"] for row in rows] == [False, False, True, False]
            assert {row["floor"] for row in rows} == {0.25}
            precision = trt_check.precision(classes={"*": 0.7}, key_classes=("dim",), floor=0.5)
            rows = precision.measured["classes"]
            assert [(row["margin"], row["key"], row["floor"]) for row in rows][2] == (0.7, True, 0.5)
        """
    )
    assert result.ret == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("recall(floor=1)", "*recall of 'bright' *"),
        ("precision(floor=1)", "*precision of *"),
        ("accuracy(floor=0.999)", "*accuracy *"),
        ("outputs(max_abs=1e-9)", "*max_abs of output 'scores' is *limit 1e-09*"),
        ("recall(test='proven')", "*recall of *"),
        ("accuracy(test='proven', drop=0)", "*accuracy *"),
    ],
)
def test_each_limit_that_a_test_gives_can_fail_it(suite, python, call, text):
    result = python(f"def test_model(trt_check):\n    trt_check.{call}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"tiny*fp16* {text}"])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("accuracy(target=0.99)", "below 99 % of the reference's"),
        ("outputs(churn=0.0)", "of the answers changed (limit 0 %,"),
    ],
)
def test_what_a_changed_answer_costs(suite, python, call, told):
    suite.data("calibration.npz", images=(suite_models.images(64)[0] * 0.6).astype("uint8"))
    text = f"def test_model(trt_check):\n    trt_check.{call}"
    result = python(text, "--trt-engine=fp16,int8")
    result.assert_outcomes(passed=1, failed=1)
    assert told in result.stdout.str()


@pytest.mark.parametrize("name", ["recall_drop", "accuracy_floor", "classes"])
def test_a_limit_that_outputs_would_not_judge_is_an_error(suite, python, name):
    result = python(f"def test_model(trt_check):\n    trt_check.outputs({name}=0)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"trt_check.outputs(): unknown key {name}", "*expected: one of: churn, cosine, kl, max_abs, *"]
    )


@pytest.mark.parametrize("classes", ["'dim'", "[('dim', 0.1)]", "0.1"])
def test_class_limits_that_are_no_mapping_are_an_error(suite, python, classes):
    result = python(f"def test_model(trt_check):\n    trt_check.recall(classes={classes})")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["trt_check.recall(): classes has a wrong value", "*expected: limits by class name or pattern"]
    )


def test_a_check_with_a_limit_that_cannot_be_is_an_error_of_the_report_and_approves_nothing(suite, python):
    text = "def test_model(trt_check):\n    trt_check.accuracy()\n    trt_check.recall(drop='1%')"
    python(text, "--trt-engine=fp16", "--trt-update-baselines").assert_outcomes(failed=1)
    assert suite.verdicts() == {"fp16 accuracy": "pass", "fp16 recall": "error"}
    assert "recall_drop has a wrong value" in suite.item("fp16", "recall")["message"]
    assert not (suite.path / "baselines").exists()


def test_the_test_of_a_drop_is_one_of_three(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.recall(test='naive')")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["trt_check.recall(): test has a wrong value", '*expected: "paired" or "threshold" or "proven"']
    )


def test_a_key_class_that_is_not_there_is_an_error(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.recall(key_classes=['d*', 'shirt'])")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not there*shirt*"])


def test_a_check_that_an_engine_cannot_have_skips_the_test_and_keeps_what_came_before(suite, python):
    result = python(
        """
        def test_model(trt_check):
            trt_check.build()
            trt_check.calibration()
            assert False, "not reached"
        """,
        "--trt-engine=fp16", "-rs",
    )  # fmt: skip
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *fp16 is not made by INT8 calibration*"])
    assert suite.verdicts() == {"fp16 build": "pass", "fp16 calibration": "skipped"}


def test_the_checks_of_calibration_and_batches(suite, python):
    result = python(
        """
        def test_calibration(trt_check):
            outcome = trt_check.calibration()
            assert "64 calibration images are few" in outcome.warnings[0]
            assert outcome.verdict == "pass"

        def test_batches(trt_check):
            tolerances = [trt_check.batch_invariance(tolerance=t).measured["tolerance"] for t in (0.5, 0.25)]
            assert tolerances == [0.5, 0.25]
            assert trt_check.batch_invariance().verdict == "pass"
        """,
        "--trt-engine=int8",
    )
    result.assert_outcomes(passed=2)
    assert suite.item("int8", "calibration")["warnings"][0].startswith("64 calibration images are few")
    result.stdout.fnmatch_lines(["WARNING test_it.py::test_calibration*: 64 calibration images are few*"])


def test_findings_of_the_calibration_fail_where_asked(suite, python):
    result = python(
        """
        import pytest

        @pytest.mark.trtcheck(on_calibration="fail")
        def test_calibration(trt_check):
            trt_check.calibration()
        """,
        "--trt-engine=int8",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["tiny*int8* calibration (emulated): 64 calibration images are few*"])
    suite.toml("[models.tiny.gates]\non_calibration = 'fail'", checks=["calibration"])
    suite.run("--trt-engine=int8", "trtcheck.toml").assert_outcomes(failed=1)


TOLD = """
import trtcheck
from trtcheck.items import RegressionError, conclude

def outcome(verdict):
    return trtcheck.Outcome(
        model="tiny", engine="fp16", check=trtcheck.Check.RECALL, verdict=trtcheck.Verdict(verdict),
        message="that much", warnings=("look here", "and there"), notes=("by the way",),
    )

def test_passes(request):
    conclude(request.node, outcome("pass"), None)

def test_fails(request):
    conclude(request.node, outcome("fail"), None)
"""


def test_warnings_stand_before_notes_under_what_fails_and_what_passes(suite, python):
    result = python(TOLD, "--trt-engine=fp16", "-rP", "--tb=line")
    result.assert_outcomes(passed=1, failed=1)
    lines = ["warning: look here", "warning: and there", "note: by the way"]
    failed = ["* tiny*fp16* recall: that much", *(f"*  {line}" for line in lines)]
    result.stdout.fnmatch_lines(failed, consecutive=True)
    result.stdout.fnmatch_lines(
        ["*Captured trtcheck recall call*", "pass: that much", *lines], consecutive=True
    )


def test_limits_of_outputs(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.outputs(max_abs=1e-9)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*max_abs of output 'scores' is *limit 1e-09*"])


def test_the_mark_says_which_model_of_several(suite, python):
    path = suite.path / "trtcheck.toml"
    path.write_text(path.read_text() + path.read_text().replace("tiny", "second"))
    text = """
        import pytest

        {mark}
        def test_model(trt_check):
            trt_check.recall()
    """
    python(text.format(mark="@pytest.mark.trtcheck(model='second')")).assert_outcomes(passed=1)
    assert suite.report()["items"][0]["model"] == "second"
    for mark in ("", "@pytest.mark.trtcheck(model='third')"):
        result = python(text.format(mark=mark))
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*which model is meant*", "*one of: tiny, second"])


def test_no_suite_and_no_case_says_what_to_do(suite, python):
    (suite.path / "trtcheck.toml").unlink()
    result = python("def test_model(trt_check):\n    trt_check.recall()")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*there is no trtcheck.toml beside test_it.py*"])


def test_a_bad_suite_beside_the_test_is_its_error(suite, python):
    suite.toml(bacth=3)
    result = python("def test_model(trt_check):\n    trt_check.recall()")
    result.assert_outcomes(errors=1)
    assert result.stdout.str().count("unknown key models.tiny.bacth") == 1


def test_engine_and_reference(suite, python):
    result = python(
        """
        def test_engine(trt_engine, trt_precision):
            assert trt_engine.path.is_file()
            assert trt_engine.numerics == "emulated"
            assert trt_precision.name == "fp16"

        def test_reference(ort_baseline):
            assert ort_baseline.confusion.accuracy > 0.9
            assert ort_baseline.classes == ("left", "right", "dim", "bright")
            assert len(ort_baseline.predicted) == 240
        """
    )
    result.assert_outcomes(passed=2)


def test_the_reference_needs_no_engine(suite, python):
    python(
        "def test_reference(ort_baseline):\n    assert ort_baseline.confusion.accuracy > 0.9", "-q"
    ).assert_outcomes(passed=1)


def test_an_engine_that_cannot_be_built_is_an_error_in_words(suite, python):
    suite.toml(calibration=None)
    result = python(
        "def test_engine(trt_engine):\n    pass\n\ndef test_recall(trt_check):\n    trt_check.recall()\n"
        "def test_confusion(trt_check):\n    trt_check.confusion()",
        "--trt-engine=int8",
    )
    result.assert_outcomes(errors=1, failed=2)
    assert "INT8 needs calibration data" in suite.item("int8", "build")["message"]
    assert {i["verdict"] for i in suite.report()["items"]} == {"error"}


def test_data_that_cannot_be_used_are_an_error_of_the_reference_too(suite, python):
    suite.data(**(suite_models.arrays() | {"labels": [9] * 240}))
    result = python("def test_reference(ort_baseline):\n    pass", "-q")
    result.assert_outcomes(errors=1)
    assert "labels[0] is out of range" in result.stdout.str()


def test_two_tests_of_one_check_are_two_items(suite, python):
    suite.data("calibration.npz", images=(suite_models.images(64)[0] * 0.6).astype("uint8"))
    result = python(
        """
        import pytest

        def test_strict(trt_check):
            trt_check.recall(drop=0.01)

        @pytest.mark.trtcheck(pooled_drop=1)
        def test_lenient(trt_check):
            trt_check.recall(drop=0.99)
        """,
        "--trt-engine=int8",
    )
    assert result.parseoutcomes() == {"failed": 1, "passed": 1}
    assert [i["verdict"] for i in suite.report()["items"]] == ["pass", "fail"]
    assert suite.report()["engines"][0]["checks"] == {"recall": "fail"}


def test_an_inconclusive_check_is_no_failure_and_shown_as_such(suite, python):
    suite.data(**suite_models.arrays(8))
    result = python(
        "def test_model(trt_check):\n    assert trt_check.recall().verdict == 'inconclusive'",
        "--trt-engine=fp16",
        "-v",
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*"])


def test_a_test_that_fails_for_its_own_reason_keeps_its_traceback(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.recall()\n    assert 1 == 2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*assert 1 == 2"])
    assert suite.verdicts() == {"fp16 recall": "pass"}


def test_workers_and_fixtures_of_other_scopes(suite, python):
    result = python(
        """
        import pytest

        class TestModel:
            @pytest.mark.parametrize("drop", [0.01, 0.02])
            def test_recall(self, trt_check, drop):
                assert trt_check.recall(drop=drop).measured["classes"][0]["margin"] == drop
        """,
        "--trt-engine=fp16,int8", "-n2", plugins=["xdist"], process=True,
    )  # fmt: skip
    result.assert_outcomes(passed=4)
    assert len(suite.report()["items"]) == 4


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_a_limit_of_numpy_is_taken(suite, python, kind):
    result = python(
        f"""
        import numpy as np

        def test_model(trt_check):
            limit = np.{kind}(0.25)
            trt_check.recall(drop=limit, classes={{"dim": limit}})
            trt_check.outputs(max_abs=limit)
        """
    )
    result.assert_outcomes(passed=1)
    assert suite.item("fp16", "recall")["classes"][0]["margin"] == 0.25
    assert suite.item("fp16", "outputs")["limits"]["max_abs"] == 0.25


def test_a_result_that_cannot_be_recorded_is_an_error_record_and_does_not_end_the_session(suite, python):
    result = python(
        """
        import trtcheck
        from trtcheck.item_records import add_outcome

        def test_first(request, trt_check):
            strange = {"figure": object()}
            add_outcome(request.node, trtcheck.Outcome(
                model="tiny", engine="fp16", check=trtcheck.Check.RECALL, verdict=trtcheck.Verdict.PASS,
                message="", measured=strange,
            ))

        def test_second(trt_check):
            trt_check.build()
        """
    )
    result.assert_outcomes(passed=2)
    assert suite.verdicts() == {"fp16 build": "pass", "fp16 recall": "error"}
    assert "does not belong in a report" in suite.item("fp16", "recall")["message"]


def test_a_class_limit_that_is_no_share_is_an_error(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.recall(classes={'dim': 2})")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["trt_check.recall(): classes.dim.recall_drop has a wrong value"])


def test_one_check_made_twice_in_a_test_is_two_items(suite, python):
    result = python(
        """
        def test_model(trt_check):
            for drop in (0.3, 0.4):
                trt_check.recall(drop=drop)
        """
    )
    result.assert_outcomes(passed=1)
    assert [i["classes"][0]["margin"] for i in suite.report()["items"]] == [0.3, 0.4]


def test_reruns_give_each_property_and_section_once_and_the_last_attempt_counts(suite, python):
    result = python(
        """
        tried = []

        def test_model(trt_check):
            tried.append(1)
            trt_check.recall(drop=0.1 * len(tried))
            if len(tried) == 1:
                trt_check.accuracy()
                trt_check.recall(drop=0.9)
            assert len(tried) == 3
        """,
        "--trt-engine=fp16", "--reruns=2", "--junitxml=junit.xml", "-rP", plugins=["rerunfailures"],
    )  # fmt: skip
    assert result.parseoutcomes() == {"passed": 1, "rerun": 2}
    text = (suite.path / "junit.xml").read_text(encoding="utf-8")
    # JUnit has one testcase for every attempt.
    attempts = text.split("<testcase ")[1:]
    assert [part.count('name="trtcheck.tiny.fp16.recall.verdict"') for part in attempts] == [2, 1, 1]
    assert ["fp16.accuracy" in part for part in attempts] == [True, False, False]
    assert result.stdout.str().count("Captured trtcheck recall call") == 1
    [item] = suite.report()["items"]
    assert item["classes"][0]["margin"] == pytest.approx(0.3)


def test_what_is_inconclusive_for_the_same_reason_is_told_for_every_check(suite, python):
    suite.data(**suite_models.arrays(8))
    result = python("def test_model(trt_check):\n    trt_check.recall()\n    trt_check.precision()")
    ours = [line for line in result.outlines if line.startswith("INCONCLUSIVE test_it.py")]
    assert len(ours) == 2


def test_an_engine_line_says_which_checks_ran_unless_all_did(suite, python):
    result = python("def test_model(trt_check):\n    trt_check.outputs()")
    result.stdout.fnmatch_lines(["PASS *tiny[[]fp16[]]*, checked: outputs"])
    suite.run("--trt-engine=fp16", "trtcheck.toml").stdout.no_fnmatch_line("*checked:*")


def test_engines_of_the_suite_beside_the_test_count_where_nothing_else_names_any(suite, python):
    suite.toml(engines=["fp16", "bf16"])
    test = "def test_model(trt_check):\n    trt_check.build()"
    python(test, "-v").assert_outcomes(passed=2)
    assert set(suite.verdicts()) == {"fp16 build", "bf16 build"}
    python(test, "--trt-engine=fp32").assert_outcomes(passed=1)
    assert set(suite.verdicts()) == {"fp32 build"}


@pytest.mark.parametrize("engines", [["fp17"], ["int8"]])
def test_engines_that_are_unknown_or_differ_by_model_are_not_taken(suite, python, engines):
    path = suite.path / "trtcheck.toml"
    second = suite.toml(name="second", engines=engines).read_text()
    path.write_text(suite.toml(engines=["fp16"]).read_text() + second)
    result = python("def test_model(trt_check):\n    trt_check.build()", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *no engine asked for*"])
