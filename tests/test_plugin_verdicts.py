"""Engines that are not as good as the reference, and what brings them back."""

from __future__ import annotations

import pytest
import suite_models


def test_a_badly_calibrated_int8_fails_the_classes_that_it_ruins(suite):
    images, _ = suite_models.images(64, seed=1)
    suite.data("calibration.npz", images=(images * 0.6).astype("uint8"))
    result = suite.run("--trt-engine=fp16,int8")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    recall = suite.item("int8", "recall")
    failed = {row["name"] for row in recall["classes"] if row["verdict"] == "fail"}
    assert failed == {"left", "right", "bright"}
    for name in failed:
        assert f"recall of '{name}' fell from " in recall["message"]
    assert "recall of 'dim'" not in recall["message"]
    assert {check for check, verdict in suite.verdicts().items() if verdict == "fail"} == {
        "int8 accuracy", "int8 recall", "int8 precision",
    }  # fmt: skip
    summary = result.stdout.str().split("= trtcheck =")[1]
    assert summary.index("FAIL ") < summary.index("PASS ")
    assert "FAIL         tiny[int8] (rest fp16) emulated: accuracy .992 -> " in summary


def test_fp16_that_overflows_names_the_node(suite):
    suite.model(suite_models.overflowing())
    suite.run("--trt-engine=fp16")
    for check in ("outputs", "accuracy", "recall"):
        item = suite.item("fp16", check)
        assert item["verdict"] == "fail"
        assert "square reaches 9.6e5, FP16 ends at 65504: keep it in FP32" in item["message"]
    assert "infinite of 960 values, first in image 0" in suite.item("fp16", "outputs")["message"]
    [engine] = suite.report()["engines"]
    assert engine["overflow"].startswith("square reaches")


def test_excluding_the_nodes_mends_it(suite):
    suite.model(suite_models.overflowing())
    suite.toml('[models.tiny.fp16]\nexclude = ["square", "ro*"]')
    suite.run("--trt-engine=fp16").assert_outcomes(passed=5)
    kept = {row["node"]: row["reason"] for row in suite.item("fp16", "build")["lowered"]["kept"]}
    assert (kept["square"], kept["root"]) == ("excluded", "excluded")


def test_excluding_a_node_that_is_not_there_is_an_error(suite):
    suite.toml('[models.tiny.fp16]\nexclude = ["sqare"]')
    suite.run("--trt-engine=fp16").assert_outcomes(failed=1, errors=4)
    assert "sqare" in suite.item("fp16", "build")["message"]


def test_int8_leaves_the_rest_in_fp16_unless_told(suite):
    suite.model(suite_models.overflowing())
    suite.run("--trt-engine=int8", "-k", "build or recall")
    assert suite.item("int8", "build")["lowered"]["rest"] == "fp16"
    assert suite.verdicts()["int8 recall"] == "fail"
    suite.toml('[models.tiny.int8]\nrest = "fp32"')
    result = suite.run("--trt-engine=int8")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["PASS *tiny[[]int8[]] (rest fp32) emulated: *"])


@pytest.mark.parametrize("method", ["entropy", "minmax", "percentile"])
def test_every_calibration_method(suite, method):
    suite.toml(f'[models.tiny.int8]\nmethod = "{method}"')
    suite.run("--trt-engine=int8").assert_outcomes(passed=5)
    assert suite.item("int8", "build")["lowered"]["method"] == method


def test_a_foreign_fp16_file_is_taken_as_it_is(suite):
    suite.model(suite_models.foreign_fp16(), "half.onnx")
    suite.toml('[models.tiny.lowered]\nfp16 = "half.onnx"')
    suite.run("--trt-engine=fp16").assert_outcomes(passed=5)
    lowered = suite.item("fp16", "build")["lowered"]
    assert (lowered["made_by"], lowered["file"]) == ("elsewhere", "half.onnx")
    assert suite.item("fp16", "recall")["numerics"] == "emulated"


def test_an_fp16_engine_that_is_fp32_inside_fails_its_build(suite):
    suite.model(suite_models.foreign_fp16(narrow=False), "half.onnx")
    suite.toml('[models.tiny.lowered]\nfp16 = "half.onnx"')
    result = suite.run("--trt-engine=fp16")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert suite.verdicts()["fp16 build"] == "fail"
    assert (
        "fp16 was asked for, but 2 of 2 nodes (Conv, ConvTranspose, MatMul and Gemm) compute in another"
        in suite.item("fp16", "build")["message"]
    )


def test_a_file_is_an_engine_under_its_stem(suite):
    suite.model(suite_models.foreign_fp16(), "half-v2.onnx")
    result = suite.run("--trt-engine=half-v2.onnx,fp32")
    result.assert_outcomes(passed=10)
    assert suite.item("half-v2", "recall")["nodeid"] == "trtcheck.toml::tiny[half-v2]::recall"
    assert suite.item("half-v2", "recall")["numerics"] == "emulated"
    result.stdout.fnmatch_lines(["trtcheck: *; half-v2 as its types ask; fp32 native"])


def test_a_file_with_other_outputs_fails_the_outputs(suite):
    made = suite_models.classifier()
    made.graph.node[-1].output[0] = made.graph.output[0].name = "logits"
    suite.model(made, "renamed.onnx")
    suite.run("--trt-engine=renamed.onnx")
    outputs = suite.item("renamed", "outputs")
    assert outputs["verdict"] == "fail"
    assert "output 'scores' is missing; the engine gives: logits" in outputs["message"]
    assert "output 'logits' is extra" in outputs["message"]
    assert suite.verdicts()["renamed recall"] in ("error", "fail")


def test_limits_of_outputs_are_gates_of_the_toml(suite):
    suite.toml("[models.tiny.gates]\nmax_abs = 1e-9\ncosine = 0.9")
    suite.run("--trt-engine=fp16").assert_outcomes(passed=4, failed=1)
    assert "max_abs of output 'scores' is " in suite.item("fp16", "outputs")["message"]
    assert suite.item("fp16", "outputs")["limits"]["max_abs"] == 1e-9


def test_a_wide_margin_lets_a_worse_engine_pass(suite):
    images, _ = suite_models.images(64, seed=1)
    suite.data("calibration.npz", images=(images * 0.6).astype("uint8"))
    suite.toml("[models.tiny.gates]\nrecall_drop = 1.0\n[models.tiny.gates.classes.left]\nrecall_drop = 0.2")
    suite.run("--trt-engine=int8", "-k", "recall").assert_outcomes(failed=1)
    recall = suite.item("int8", "recall")
    assert {row["name"] for row in recall["classes"] if row["verdict"] == "fail"} == {"left"}


def test_one_more_engine_file_with_another_batch_is_padded(suite):
    suite.model(suite_models.classifier(batch=7), "seven.onnx")
    suite.run("--trt-engine=seven.onnx").assert_outcomes(passed=5)
    [engine] = suite.report()["engines"]
    assert (engine["images"], sum(map(sum, engine["confusion"]["after"]))) == (240, 240)
