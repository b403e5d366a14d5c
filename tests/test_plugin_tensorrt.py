"""Suites with TensorRT: real engines of TensorRT for RTX, built on the CPU, and refusals as met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import suite_models
from onnx import helper, numpy_helper

NO_DRIVER = "there is no NVIDIA driver on this machine"


def refused() -> onnx.ModelProto:
    """The classifier with a determinant as second output: an operator of ONNX Runtime, not of TensorRT."""
    made = suite_models.classifier()
    made.graph.node.append(helper.make_node("Det", ["images"], ["volume"], name="determinant"))
    made.graph.output.append(helper.make_tensor_value_info("volume", suite_models.FLOAT, ["N", 1]))
    return made


def engines(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.engine"))


def test_auto_builds_for_tensorrt_and_runs_emulated(suite):
    result = suite.run("--trt-engine=fp32,tf32,fp16,bf16,int8", "-k", "build or recall", backend="auto")
    result.assert_outcomes(passed=10)
    assert len(engines(suite.path / "cache")) == 5
    for engine in ("fp32", "tf32", "fp16", "bf16", "int8"):
        build = suite.item(engine, "build")
        assert build["numerics"] == ("native" if engine == "fp32" else "emulated")
        assert build["beside"]["backend"] == "tensorrt-rtx"
        assert build["beside"]["facts"]["computes"] == {"match": engine, "compare": engine}
        assert build["beside"]["facts"]["inspector_note"] == f"not loaded: {NO_DRIVER}"
        assert f"{engine} engine for tensorrt-rtx built now" in build["message"]
        assert "not run on this machine" in build["message"]
    result.stdout.fnmatch_lines(
        [
            "trtcheck: onnxruntime-cpu *; fp32 native; tf32, fp16, bf16, int8 emulated",
            f"trtcheck: auto: *not tensorrt: TensorRT is not installed; not tensorrt-rtx: {NO_DRIVER}; *",
            "trtcheck: tensorrt-rtx builds every engine too; it runs none here",
        ]
    )


def test_build_only_deselects_what_runs(suite):
    suite.pytester.makepyfile(
        test_mine="""
        def test_recall(trt_check):
            trt_check.recall()

        def test_engine(trt_engine):
            assert trt_engine.path.is_file()
        """
    )
    result = suite.run("--trt-engine=fp16,int8", "--trt-build-only", backend="tensorrt-rtx")
    result.assert_outcomes(passed=2, deselected=15)
    assert suite.verdicts() == {"fp16 build": "pass", "int8 build": "pass"}
    [model] = suite.report()["models"]
    assert (model["data"], model["gates"]["recall_drop"]) == (None, 0.01)


def test_a_named_backend_that_cannot_run_fails_what_runs_with_the_reason(suite):
    result = suite.run("--trt-engine=fp16", backend="tensorrt-rtx")
    result.assert_outcomes(passed=1, failed=5)
    assert suite.verdicts()["fp16 build"] == "pass"
    for check in ("outputs", "accuracy", "recall", "precision"):
        assert NO_DRIVER in suite.item("fp16", check)["message"]
    result.stdout.fnmatch_lines([f"trtcheck: tensorrt-rtx runs no engine here: {NO_DRIVER}"])


@pytest.mark.parametrize(
    ("backend", "what"),
    [
        ("tensorrt", "TensorRT is not installed"),
        ("onnxruntime-cuda", "onnxruntime-gpu is not installed"),
    ],
)
def test_a_named_backend_without_its_library_is_a_usage_error(suite, backend, what):
    result = suite.run("--trt-engine=fp16", backend=backend)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --trt-backend={backend}: {what}", "  try:      pip *install *"])


def test_a_model_that_tensorrt_does_not_take_fails_its_build_alone(suite):
    suite.model(refused())
    result = suite.run("--trt-engine=fp16", backend="auto")
    result.assert_outcomes(passed=5, failed=1)
    message = suite.item("fp16", "build")["message"]
    assert "built for TensorRT as well: " in message
    assert "parser does not take the model" in message
    assert "determinant" in message
    assert "Det" in message


def test_a_second_run_takes_the_engine_from_the_cache_and_a_damaged_one_is_built_anew(suite):
    def build(*more: str) -> dict:
        suite.run("--trt-engine=fp16", "--trt-build-only", *more, backend="tensorrt-rtx").assert_outcomes(
            passed=1, deselected=5
        )
        return suite.item("fp16", "build")

    assert "built now" in build()["message"]
    [engine] = engines(suite.path / "cache")
    first = build()
    assert "from the cache" in first["message"]
    assert first["cached"] is True
    assert "built now" in build("--trt-rebuild")["message"]
    engine.write_bytes(engine.read_bytes()[:-1])
    mended = build()
    assert "built now" in mended["message"]
    assert "the cached engine was damaged and was built anew" in mended["notes"]
    assert engines(suite.path / "cache") == [engine]


def test_workers_build_an_engine_once(suite):
    models = "".join(
        f'[models.m{k}]\nonnx = "model.onnx"\ndata = "eval.npz"\ncalibration = "calibration.npz"\n'
        for k in range(3)
    )
    (suite.path / "trtcheck.toml").write_text(models)
    result = suite.run(
        "--trt-engine=fp16,int8", "--trt-build-only", "-n", "2", backend="tensorrt-rtx",
        plugins=("xdist",),
    )  # fmt: skip
    result.assert_outcomes(passed=6)
    assert len(engines(suite.path / "cache")) == 2
    assert {i["cached"] for i in suite.report()["items"]} == {False}


def test_workers_rebuild_an_engine_once(suite):
    table = (suite.path / "trtcheck.toml").read_text()
    (suite.path / "trtcheck.toml").write_text("".join(table.replace("tiny", f"m{k}") for k in range(4)))
    run = ("--trt-engine=fp16", "--trt-build-only", "-n", "2")
    for more in ((), ("--trt-rebuild",)):
        result = suite.run(*run, *more, backend="tensorrt-rtx", plugins=("xdist",))
        result.assert_outcomes(passed=4)
        items = suite.report()["items"]
        assert {i["cached"] for i in items} == {False}
        assert len({i["facts"]["seconds"] for i in items}) == 1, "every build takes a time of its own"
    assert len(engines(suite.path / "cache")) == 1


def test_a_file_that_is_no_engine_fails_its_build_and_skips_nothing(suite):
    (suite.path / "mine.engine").write_bytes(b"not an engine at all")
    result = suite.run("--trt-engine=mine.engine", backend="auto")
    result.assert_outcomes(failed=6)
    assert "this is no TensorRT engine" in suite.item("mine", "build")["message"]


def test_an_engine_that_ships_is_refused_where_no_driver_is(suite):
    suite.run("--trt-engine=fp16", "--trt-build-only", backend="tensorrt-rtx")
    [built] = engines(suite.path / "cache")
    (suite.path / "ship.engine").write_bytes(built.read_bytes())
    suite.toml(engine="ship.engine")
    result = suite.run(backend="auto")
    result.assert_outcomes(failed=6)
    assert NO_DRIVER in suite.item("ship", "build")["message"]
    other = suite.run(backend="onnxruntime-cpu")
    other.assert_outcomes(failed=6)
    assert "expected: --trt-backend=auto or tensorrt-rtx" in suite.item("ship", "build")["message"]


def test_a_profile_that_does_not_fit_says_so(suite):
    suite.toml("[models.tiny.profile.pictures]\nmin = [1, 1, 8, 8]\nopt = [1, 1, 8, 8]\nmax = [9, 1, 8, 8]")
    result = suite.run("--trt-engine=fp16", "--trt-build-only", backend="tensorrt-rtx")
    result.assert_outcomes(failed=1)
    assert "the profile names an input that is not there: pictures" in suite.item("fp16", "build")["message"]


def test_open_dimensions_besides_the_batch_are_those_of_the_data(suite):
    made = suite_models.classifier()
    for size in made.graph.input[0].type.tensor_type.shape.dim:
        size.dim_param = "?"
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    suite.model(made)
    result = suite.run("--trt-engine=fp16", "--trt-build-only", backend="tensorrt-rtx")
    result.assert_outcomes(passed=1)
    assert suite.item("fp16", "build")["facts"]["profile"] == {
        "images": {"min": [1, 1, 8, 8], "opt": [32, 1, 8, 8], "max": [32, 1, 8, 8]}
    }


def test_a_lowered_file_with_inputs_of_another_name_is_refused_before_it_is_built(suite):
    made = suite_models.classifier()
    for size in made.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_param = "?"
    suite.model(made)
    made.graph.input[0].name = made.graph.node[0].input[0] = "pictures"
    onnx.save(made, suite.path / "lowered.onnx")
    suite.toml('[models.tiny.lowered]\nfp16 = "lowered.onnx"')
    suite.run("--trt-engine=fp16", "--trt-build-only", backend="tensorrt-rtx").assert_outcomes(failed=1)
    message = suite.item("fp16", "build")["message"]
    assert "the lowered model has other inputs than the model" in message
    assert "expected: images\n  found:    pictures" in message


def test_the_size_of_an_engine_is_gated(suite):
    suite.toml("[models.tiny.gates]\nengine_mb = 0.001\nmemory_mb = 10")
    result = suite.run("--trt-engine=fp16", "--trt-build-only", backend="tensorrt-rtx")
    result.assert_outcomes(failed=1)
    assert "limit engine_mb = 0.001" in suite.item("fp16", "build")["message"]


def test_recorded_outputs_pass_the_same_items(suite):
    from trtcheck.backends.onnxruntime import reference_session

    images, _labels = suite_models.images()
    session = reference_session(suite.path / "model.onnx", 1)
    pixels = images[:, None].astype(np.float32) * np.float32(0.00392156862745098)
    answers = session.infer({"images": pixels})
    np.savez(suite.path / "board.npz", **answers)
    result = suite.run("--trt-engine=board.npz", backend="auto")
    result.assert_outcomes(passed=5)
    assert {i["numerics"] for i in suite.report()["items"]} == {"recorded"}
    assert suite.report()["environment"]["backend"]["name"] == "recorded"
    suite.run("--trt-engine=board.npz,fp16", "-n", "2", backend="onnxruntime-cpu", plugins=("xdist",))
    assert {i["numerics"] for i in suite.report()["items"]} == {"recorded", "emulated"}
    assert suite.report()["environment"]["backend"]["name"] == "onnxruntime-cpu"
    np.savez(suite.path / "board.npz", scores=answers["scores"][:-1])
    short = suite.run("--trt-engine=board.npz", backend="auto")
    short.assert_outcomes(failed=5)
    assert "239" in suite.item("board", "build")["message"]


def test_build_only_builds_a_model_whose_checks_leave_it_out(suite):
    suite.toml(checks=["outputs"])
    result = suite.run("--trt-engine=fp16", "--trt-build-only", backend="tensorrt-rtx")
    result.assert_outcomes(passed=1, deselected=1)
    assert suite.verdicts() == {"fp16 build": "pass"}


def test_version_compatible_engines_of_tensorrt_fail_no_build_on_a_cpu(suite):
    suite.toml("[models.tiny.tensorrt]\nversion_compatible = true")
    suite.run("--trt-engine=fp16", "-k", "build", backend="auto").assert_outcomes(passed=1)
    assert suite.item("fp16", "build")["beside"]["backend"] == "tensorrt-rtx"
    suite.run("--trt-engine=fp16", "-k", "build", backend="tensorrt-rtx").assert_outcomes(failed=1)
    assert "builds no version-compatible engines" in suite.item("fp16", "build")["message"]


def test_data_outside_of_the_profile_are_refused(suite):
    made = suite_models.classifier()
    made.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    suite.model(made)
    suite.toml("[models.tiny.profile.images]\nmin = [1, 1, 8, 9]\nopt = [4, 1, 8, 16]\nmax = [8, 1, 8, 32]")
    suite.run("--trt-engine=fp16", "-k", "build", backend="auto").assert_outcomes(failed=1)
    message = suite.item("fp16", "build")["message"]
    assert "the evaluation data lie outside of the profile of input 'images'" in message
    assert "found:    [1, 8, 8]" in message


def test_what_is_inside_of_an_if_is_stated_by_name(suite):
    """The parser names such a node with its branch behind; the lowering keeps it in FP32 and says why."""
    kernel = np.full((4, 4), 0.25, np.float32)
    branch = [
        helper.make_graph(
            [helper.make_node("MatMul", ["scores", "mix"], [name], name=f"inner_{name}")], name, [],
            [helper.make_tensor_value_info(name, suite_models.FLOAT, ["N", 4])],
        )
        for name in ("yes", "no")
    ]  # fmt: skip
    made = suite_models.classifier()
    made.graph.initializer.append(numpy_helper.from_array(kernel, "mix"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "border"))
    made.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["scores"], ["top"], name="top", keepdims=0),
            helper.make_node("Greater", ["top", "border"], ["which"], name="which"),
            helper.make_node(
                "If", ["which"], ["mixed"], name="choose", then_branch=branch[0], else_branch=branch[1]
            ),
        ]
    )
    made.graph.output[0].name = "mixed"
    suite.model(made)
    result = suite.run("--trt-engine=fp16", "-k", "build", backend="auto")
    result.assert_outcomes(passed=1)
    build = suite.item("fp16", "build")
    assert build["beside"]["facts"]["computes"] == build["facts"]["computes"]
    [note] = [note for note in build["notes"] if note.startswith("2 of 4 nodes")]
    assert "'inner_no', 'inner_yes' (is inside 'choose')" in note


def test_a_stand_in_for_tensorrt_is_no_tensorrt(suite):
    """Projects put one into sys.modules to test code that imports TensorRT."""
    suite.pytester.makeconftest(
        "import sys, types\nfrom unittest.mock import MagicMock\n"
        "sys.modules['tensorrt'] = MagicMock()\n"
        "sys.modules['tensorrt_rtx'] = types.ModuleType('tensorrt_rtx')\n"
    )
    result = suite.run("--trt-engine=fp16", "-k", "build", backend="auto", process=True)
    result.assert_outcomes(passed=1)
    assert suite.item("fp16", "build")["beside"] is None
