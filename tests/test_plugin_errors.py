"""What a user meets who made a mistake: one clear error, the right exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import suite_models

GATES = "[models.tiny.gates]\n"


SUITE_ERRORS: dict[str, tuple[Callable, str, str, str]] = {
    "unknown key": (lambda s: s.toml(bacth=3), "unknown key models.tiny.bacth", "batch", "bacth"),
    "unknown nested key": (
        lambda s: s.toml(GATES + "recall = 0.1"),
        "unknown key models.tiny.gates.recall",
        "recall_drop",
        "recall",
    ),
    "missing file": (
        lambda s: s.toml(onnx="gone.onnx"),
        "models.tiny.onnx names a file",
        "gone.onnx",
        "no such file",
    ),
    "missing calibration": (
        lambda s: s.toml(calibration="c.npz"),
        "models.tiny.calibration names a file",
        "c.npz",
        "no such file",
    ),
    "wrong type": (
        lambda s: s.toml(batch="8"),
        "models.tiny.batch has a wrong value",
        "a whole number",
        "'8' (str)",
    ),
    "percentage": (
        lambda s: s.toml(GATES + "recall_drop = 1.5"),
        "models.tiny.gates.recall_drop",
        "0 to 1",
        "1.5 (float)",
    ),
    "slash in name": (lambda s: s.toml(name='"a/b"'), "the model name 'a/b'", "letters, digits", "a/b"),
    "model twice": (
        lambda s: s.path.joinpath("trtcheck.toml").write_text(s.toml().read_text() * 2),
        "is no valid TOML",
        "",
        "Cannot declare",
    ),
    "gates of another class": (
        lambda s: s.toml(GATES + "[models.tiny.gates.classes.shirt]\nrecall_drop = 0.1"),
        "models.tiny.gates.classes names a class that is not there: 'shirt'",
        "left, right, dim, bright",
        "'shirt'",
    ),
    "key class that is not there": (
        lambda s: s.toml(GATES + "key_classes = ['bright', 'lift']"),
        "models.tiny.gates.key_classes names a class that is not there: 'lift'",
        "left, right, dim, bright",
        "did you mean left?",
    ),
    "no TOML": (
        lambda s: s.path.joinpath("trtcheck.toml").write_text("[models"),
        "is no valid TOML",
        "",
        "Expected ']'",
    ),
    "no model": (
        lambda s: s.path.joinpath("trtcheck.toml").write_text(""),
        "names no model",
        "[models.NAME]",
        "none",
    ),
    "engines of the suite": (
        lambda s: s.toml(engines=["fp17"]),
        "models.tiny.engines: 'fp17' is no precision (did you mean fp16?)",
        "fp32, tf32, fp16, bf16, int8",
        "'fp17'",
    ),
    "engine of a later version": (
        lambda s: s.toml(engines=["fp8"]),
        "models.tiny.engines: fp8 is not part of this version",
        "fp32",
        "fp8",
    ),
}


@pytest.mark.parametrize("case", SUITE_ERRORS)
def test_a_bad_suite_is_one_collection_error(suite, case):
    spoil, what, expected, found = SUITE_ERRORS[case]
    spoil(suite)
    asked = [] if "engine" in case else ["--trt-engine=fp16"]
    result = suite.run(*asked)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert result.parseoutcomes() == {"errors": 1} | (
        {"error": 1} if "error" in result.parseoutcomes() else {}
    )
    text = result.stdout.str()
    assert text.count(what) == 1
    [head] = [line for line in result.outlines if what in line]
    assert head.startswith(f"{suite.path / 'trtcheck.toml'}: ")
    assert expected in text
    assert found in text
    assert not (suite.path / "reports").exists()


def test_a_bad_suite_under_xdist_is_exit_1(suite):
    suite.toml(bacth=3)
    result = suite.run("--trt-engine=fp16", "-n2", process=True, plugins=["xdist"])
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*unknown key models.tiny.bacth"])


def test_one_name_in_two_suites_is_an_error_of_the_second(suite):
    suite.toml(file="other.trtcheck.toml")
    result = suite.run("--trt-engine=fp16")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = result.stdout.str()
    assert text.count("models.tiny is named in another suite too") == 1
    assert str(suite.path / "other.trtcheck.toml") in text
    assert str(suite.path / "trtcheck.toml") in text


def test_one_file_named_twice_is_no_name_twice(suite):
    suite.run(
        "--trt-engine=fp16", "trtcheck.toml::tiny[fp16]::recall", "trtcheck.toml::tiny[fp16]::build"
    ).assert_outcomes(passed=2)


def other(s, **arrays):
    s.data(**(suite_models.arrays() | arrays))


def nan(s):
    images = suite_models.arrays()["images"].astype(np.float32)
    images[7, 3, 3] = np.nan
    other(s, images=images)


def beyond(s):
    labels = suite_models.arrays()["labels"]
    labels[5] = 4
    other(s, labels=labels)


def corrupt(s):
    s.path.joinpath("model.onnx").write_bytes(b"this is no model" * 9)


def without_weights(s):
    made = suite_models.classifier()
    onnx.save(
        made, s.path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    s.path.joinpath("weights.bin").unlink()


DATA_ERRORS: dict[str, tuple[Callable, str, str, str]] = {
    "wrong shape": (
        lambda s: other(s, images=np.zeros((240, 9, 9), np.uint8)),
        "array 'images' does not fit the model's input 'images'",
        "images: float32[?, 1, 8, 8]",
        "uint8[N, 9, 9]",
    ),
    "labels out of range": (beyond, "labels[5] is out of range", "0 to 3 (4 classes)", "4"),
    "labels of fractions": (
        lambda s: other(s, labels=np.full(240, 0.5)),
        "labels[0] is no class number",
        "whole numbers",
        "0.5",
    ),
    "labels too few": (
        lambda s: other(s, labels=np.zeros(7, int)),
        "labels and images differ in number",
        "240 labels",
        "7 labels",
    ),
    "too many classes": (
        lambda s: s.toml(classes=["a", "b", "c", "d", "e"]),
        "no output of the model can hold the class scores",
        "(N, 5)",
        "scores: float32[?, 4]",
    ),
    "empty": (
        lambda s: s.data(images=np.zeros((0, 8, 8), np.uint8), labels=np.zeros(0, int)),
        "the data set is empty",
        "at least one image",
        "images (0, 8, 8)",
    ),
    "pickle": (
        lambda s: other(s, labels=np.array([{}] * 240)),
        "array 'labels' would need pickle",
        "numbers",
        "dtype object",
    ),
    "damaged archive": (
        lambda s: s.path.joinpath("eval.npz").write_bytes(b"PK nothing"),
        "cannot be read",
        "numpy.savez",
        "BadZipFile",
    ),
    "other kind of file": (
        lambda s: s.toml(data="model.onnx"),
        "is no known kind of data",
        "an .npz archive",
        "'.onnx'",
    ),
    "other output": (
        lambda s: s.toml(output="logits"),
        "output = 'logits' is not an output of the model",
        "scores",
        "logits",
    ),
    "mean for three channels": (
        lambda s: s.toml("[models.tiny.input]\nmean = [1, 2, 3]", scaled=False),
        "mean does not fit the channels",
        "1 number",
        "3 numbers",
    ),
}


@pytest.mark.parametrize("case", DATA_ERRORS)
def test_bad_data_are_an_error_of_the_items_that_need_them(suite, case):
    spoil, what, expected, found = DATA_ERRORS[case]
    spoil(suite)
    result = suite.run("--trt-engine=fp16,bf16")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"passed": 2, "errors": 10}
    check_told_once(suite, result, what, expected, found)
    assert {item for item, verdict in suite.verdicts().items() if verdict == "pass"} == {
        "fp16 build",
        "bf16 build",
    }
    assert {verdict for item, verdict in suite.verdicts().items() if "build" not in item} == {"error"}


def test_one_bad_image_is_an_error_of_the_items_that_read_it(suite):
    nan(suite)
    result = suite.run("--trt-engine=fp16,bf16")
    # The items of batch invariance take a sample of the images; they may well pass.
    judged = ("outputs", "accuracy", "recall", "precision")
    assert {suite.verdicts()[f"{engine} {check}"] for engine in ("fp16", "bf16") for check in judged} == {
        "error"
    }
    check_told_once(suite, result, "images[7] holds NaN", "finite numbers", "1 of its 64 values")


def check_told_once(suite, result, what, expected, found):
    """The message stands under each item, and once in the summary before its verdict, with the file."""
    *_, summary = result.stdout.str().split("= trtcheck =")
    ours = summary.split("short test summary info")[0]
    assert expected in ours
    assert found in ours
    [head] = [line for line in ours.splitlines() if what in line and line.startswith("ERROR ")]
    assert str(suite.path) in head or "tiny" in head
    messages = {i["message"] for i in suite.report()["items"] if i["verdict"] == "error"}
    assert len(messages) == 1


MODEL_ERRORS: dict[str, tuple[Callable, str, str, str]] = {
    "corrupt model": (corrupt, "cannot be read as an ONNX model", "", "model.onnx"),
    "external weights missing": (without_weights, "its external weights", "weights.bin", ""),
}


@pytest.mark.parametrize("case", MODEL_ERRORS)
def test_a_bad_model_is_an_error_of_every_item(suite, case):
    spoil, what, expected, found = MODEL_ERRORS[case]
    spoil(suite)
    result = suite.run("--trt-engine=fp16")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert set(suite.verdicts().values()) == {"error"}
    assert len(suite.verdicts()) == 6
    check_told_once(suite, result, what, expected, found)


def test_int8_without_calibration_is_refused(suite):
    suite.toml(calibration=None)
    result = suite.run("--trt-engine=int8,fp16")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {k: v for k, v in suite.verdicts().items() if v == "pass"} == {
        f"fp16 {check}": "pass"
        for check in ("build", "outputs", "batch_invariance", "accuracy", "recall", "precision")
    }
    check_told_once(suite, result, "INT8 needs calibration data", 'calibration = "…"', "none")


def test_calibration_that_does_not_fit_is_an_error_that_names_it(suite):
    suite.data("calibration.npz", images=np.zeros((8, 9, 9), np.uint8))
    result = suite.run("--trt-engine=int8")
    check_told_once(suite, result, "does not fit the model's input", "[?, 1, 8, 8]", "uint8[N, 9, 9]")
    assert "calibration.npz" in suite.item("int8", "build")["message"]


OPTION_ERRORS = {
    "unknown precision": (["--trt-engine=fp17"], "'fp17' is no precision (did you mean fp16?)"),
    "fp8": (["--trt-engine=fp8"], "fp8 is not part of this version"),
    "empty list": (["--trt-engine="], "'' is no precision"),
    "empty entry": (["--trt-engine=fp16,,int8"], "'' is no precision"),
    "twice": (["--trt-engine=fp16,fp16"], "names engine 'fp16' twice"),
    "missing file": (["--trt-engine=build/gone.onnx"], "build/gone.onnx: --trt-engine: no such file"),
    "missing engine": (["--trt-engine=build/a.engine"], "build/a.engine: --trt-engine: no such file"),
    "foreign file": (["--trt-engine=./trtcheck.toml"], "'./trtcheck.toml' is of no kind that can be tested"),
    "unknown backend": (
        ["--trt-backend=tensort"],
        "--trt-backend=tensort is not known (did you mean tensorrt?)",
    ),
    "backend without library": (
        ["--trt-backend=tensorrt"],
        "--trt-backend=tensorrt: TensorRT is not installed",
    ),
    "cache of what size": (["--trt-cache-size=big"], "--trt-cache-size is no size"),
    "home of nobody": (["--trt-cache=~nosuchuser/x"], "--trt-cache names a home folder that is not there"),
    "engine of nobody": (
        ["--trt-engine=~nosuchuser/a.onnx"],
        "--trt-engine names a home folder that is not there",
    ),
    "report is a file": (["--trt-report=model.onnx"], "--trt-report needs a folder"),
    "baselines is a file": (["--trt-baselines=model.onnx"], "--trt-baselines needs a folder"),
}


@pytest.mark.parametrize("case", OPTION_ERRORS)
@pytest.mark.parametrize("more", [[], ["--collect-only"]])
def test_a_bad_option_is_a_usage_error(suite, case, more):
    arguments, what = OPTION_ERRORS[case]
    result = suite.run(*arguments, *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stderr.str() + result.stdout.str()
    assert text.count(what) == 1
    assert "expected:" in text or "try:" in text


def test_a_bad_ini_key_is_a_usage_error_that_names_it(suite):
    suite.pytester.makeini("[pytest]\ntrt_engine = fp17\n")
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: ini key trt_engine: 'fp17' is no precision *"])


def test_a_cache_that_is_a_file_is_an_error_that_names_the_option(suite):
    suite.path.joinpath("cache").touch()
    result = suite.run("--trt-engine=fp16")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert set(suite.verdicts().values()) == {"error"}
    assert "--trt-cache=DIR" in suite.item("fp16", "build")["message"]


def test_a_report_that_cannot_be_written_is_told_and_changes_no_verdict(suite):
    suite.path.joinpath("blocked").touch()
    result = suite.run("--trt-engine=fp16", "-k", "build", report="blocked/reports")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["the report could not be written: *blocked*"])


def test_an_unforeseen_error_in_a_check_keeps_its_traceback_and_is_recorded(suite):
    suite.pytester.makeconftest(
        """
        def pytest_collection_modifyitems(items):
            for item in items:
                item.case = None if item.check.value == "recall" else item.case
        """
    )
    result = suite.pytester.runpytest_inprocess(
        "-p", "trtcheck", "--trt-engine=fp16", "--trt-cache=cache", "--trt-report=reports"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*AttributeError*"])


def test_files_named_like_the_default_folders_stop_no_one(suite):
    for name in ("reports", "baselines"):
        (suite.path / name).touch()
    suite.pytester.makepyfile(test_plain="def test_plain():\n    pass")
    result = suite.pytester.runpytest_inprocess("-p", "trtcheck", "test_plain.py")
    assert result.ret == 0
    result = suite.pytester.runpytest_inprocess(
        "-p", "trtcheck", "--trt-engine=fp16", "--trt-cache=cache", "-k", "build",
        "--trt-backend=onnxruntime-cpu",
    )  # fmt: skip
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["the report could not be written: *reports*"])


@pytest.mark.parametrize("text", ['{"mine": 1}', "[1]", "no json", '{"schema_version": 1}'])
def test_a_report_of_another_tool_is_not_replaced(suite, text):
    (suite.path / "reports").mkdir()
    path = suite.path / "reports" / "report.json"
    path.write_text(text)
    result = suite.run("--trt-engine=fp16", "-k", "build")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*report.json: this file was not written by trtcheck and would be lost", "*--trt-report=DIR"]
    )
    assert path.read_text() == text
    assert [found.name for found in path.parent.iterdir()] == ["report.json"]


def test_no_report_json_is_left_beside_a_page_of_another_tool(suite):
    (suite.path / "reports").mkdir()
    (suite.path / "reports" / "index.html").write_text("mine")
    suite.run("--trt-engine=fp16", "-k", "build").assert_outcomes(passed=1)
    assert [found.name for found in (suite.path / "reports").iterdir()] == ["index.html"]
