"""Collecting, selecting and running items of a suite file."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
import suite_models

from trtcheck.case import Gates

CHECKS = ("build", "outputs", "batch_invariance", "accuracy", "recall", "precision")
OF_INT8 = ("build", "calibration", *CHECKS[1:])


def without_run(suite, folder: str) -> dict:
    document = suite.report(folder)
    del document["run"], document["history"]
    return document


def node(engine: str, check: str, file: str = "trtcheck.toml", model: str = "tiny") -> str:
    return f"{file}::{model}[{engine}]::{check}"


def test_every_check_is_an_item_with_an_id_of_its_own(suite):
    result = suite.run("--trt-engine=fp16,int8", "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == [
        *(node("fp16", check) for check in CHECKS),
        *(node("int8", check) for check in OF_INT8),
    ]
    assert not (suite.path / "reports").exists()
    assert not (suite.path / "cache").exists()


def collected(suite, *arguments: str) -> list[str]:
    """The ids of the items, without file and model."""
    lines = suite.run(*arguments, "--collect-only", "-q").outlines
    return [line.partition("::tiny")[2] for line in lines if "::tiny" in line]


def test_a_check_is_collected_only_for_engines_that_have_it(suite):
    for name in ("device.npz", "mine.onnx", "built.engine"):
        (suite.path / name).touch()
    found = collected(suite, "--trt-engine=int8,tf32,mine.onnx,built.engine,device.npz")
    assert [line for line in found if line.endswith("::calibration")] == ["[int8]::calibration"]
    assert [line for line in found if line.endswith("::batch_invariance")] == [
        f"[{engine}]::batch_invariance" for engine in ("int8", "tf32", "mine", "built")
    ]
    assert len([line for line in found if line.startswith("[device]")]) == 5
    suite.toml(checks=["batch_invariance", "calibration", "build"])
    assert collected(suite, "--trt-engine=fp16,int8,device.npz") == [
        "[fp16]::build", "[fp16]::batch_invariance",
        "[int8]::build", "[int8]::calibration", "[int8]::batch_invariance", "[device]::build",
    ]  # fmt: skip


def test_build_only_leaves_the_new_checks_out(suite):
    assert collected(suite, "--trt-engine=int8,fp16", "--trt-build-only") == [
        "[int8]::build",
        "[fp16]::build",
    ]


def test_all_precisions_pass_on_a_sound_model(suite):
    result = suite.run("--trt-engine=fp32,fp16,bf16,int8")
    result.assert_outcomes(passed=25)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["trtcheck: onnxruntime-cpu *; fp32 native; fp16, bf16, int8 emulated"])
    result.stdout.fnmatch_lines(
        ["*= trtcheck =*", "PASS *tiny[[]bf16[]] emulated: accuracy *", "report: reports/index.html"]
    )
    assert set(suite.verdicts().values()) == {"pass"}
    document = suite.report()
    assert document["schema_version"] == 1
    assert [i["nodeid"] for i in document["items"]] == [
        *(node(engine, check) for engine in ("bf16", "fp16", "fp32") for check in CHECKS),
        *(node("int8", check) for check in OF_INT8),
    ]
    numerics = {i["engine"]: i["numerics"] for i in document["items"]}
    assert numerics == {"fp32": "native", "fp16": "emulated", "bf16": "emulated", "int8": "emulated"}
    assert suite.report()["run"]["exitstatus"] == 0
    assert (suite.path / "reports" / "index.html").is_file()
    assert (suite.path / "reports" / "style.css").is_file()


def test_fp32_on_the_cpu_says_that_it_tests_the_lowering_alone(suite):
    suite.run("--trt-engine=fp32")
    assert "same provider as the reference" in suite.item("fp32", "recall")["notes"][0]


def test_an_item_is_selected_by_its_node_id(suite):
    result = suite.run("--trt-engine=fp16,int8", node("int8", "recall"), "-v")
    result.assert_outcomes(passed=1)
    assert suite.verdicts() == {"int8 recall": "pass"}
    assert any(line.startswith(f"{node('int8', 'recall')} PASSED") for line in result.outlines)


def test_a_models_name_in_the_node_id_selects_all_its_items(suite):
    suite.run("--trt-engine=fp16,int8", "trtcheck.toml::tiny").assert_outcomes(passed=13)


@pytest.mark.parametrize(
    ("expression", "passed"), [("recall", 2), ("int8 and not build", 6), ("tiny and fp16", 6), ("nothing", 0)]
)
def test_items_are_selected_by_k(suite, expression, passed):
    result = suite.run("--trt-engine=fp16,int8", "-k", expression)
    assert result.parseoutcomes().get("passed", 0) == passed
    assert (suite.path / "reports").exists() == bool(passed)


def test_the_last_failed_run_alone(suite):
    suite.model(suite_models.overflowing())
    first = suite.run("--trt-engine=fp32,fp16")
    assert first.parseoutcomes() == {"passed": 8, "failed": 3, "inconclusive": 1}
    again = suite.run("--trt-engine=fp32,fp16", "--lf")
    again.assert_outcomes(failed=3)
    again.stdout.fnmatch_lines(["run-last-failure: rerun previous 3 failures"])
    assert set(suite.verdicts()) == {"fp16 outputs", "fp16 accuracy", "fp16 recall"}


def test_x_stops_at_the_first_failure_and_still_reports_it(suite):
    suite.model(suite_models.overflowing())
    result = suite.run("--trt-engine=fp16", "-x")
    result.assert_outcomes(passed=1, failed=1)
    assert suite.verdicts() == {"fp16 build": "pass", "fp16 outputs": "fail"}


@pytest.mark.parametrize(
    "arguments",
    [["-p", "no:cacheprovider"], ["-W", "error"], ["--strict-markers"], ["--strict-config"], ["-s"]],
)
def test_the_usual_options_of_pytest_change_nothing(suite, arguments):
    suite.run("--trt-engine=fp16,int8", *arguments).assert_outcomes(passed=13)


def test_w_error_holds_from_a_cold_start_with_every_plugin_that_is_installed(suite, monkeypatch):
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    result = suite.pytester.runpytest_subprocess(
        "--trt-engine=fp16,int8", "-W", "error", "-p", "no:cacheprovider", "--trt-cache=cache", "-n", "0"
    )
    result.assert_outcomes(passed=13)


@pytest.mark.parametrize("plugin", ["no:terminal", "no:capture", "no:logging"])
def test_it_works_without_pytests_own_plugins(suite, plugin):
    assert suite.run("--trt-engine=fp16", "-p", plugin, process=True).ret == 0
    assert len(suite.verdicts()) == 6


def test_random_order_gives_the_same_report(suite):
    suite.model(suite_models.overflowing())
    suite.run("--trt-engine=fp16,int8", cache="a", report="one")
    shuffled = suite.run("--trt-engine=fp16,int8", "-v", cache="b", report="two", plugins=["randomly"])
    shuffled.stdout.fnmatch_lines(["Using --randomly-seed=*"])
    assert without_run(suite, "one") == without_run(suite, "two")


def test_last_attempt_of_a_rerun_counts_once(suite):
    suite.model(suite_models.overflowing())
    suite.toml(checks=["build", "recall"])
    result = suite.run("--trt-engine=fp16", "--reruns=2", plugins=["rerunfailures"])
    assert result.parseoutcomes() == {"failed": 1, "passed": 1, "rerun": 2}
    assert suite.verdicts() == {"fp16 build": "pass", "fp16 recall": "fail"}
    assert len([line for line in result.outlines if line.startswith("FAIL trtcheck.toml::")]) == 1


def test_a_rerun_that_passes_is_a_pass(suite):
    suite.pytester.makepyfile(
        """
        def test_second_time_lucky(trt_check, tmp_path_factory):
            tried = tmp_path_factory.getbasetemp() / "tried"
            trt_check.recall(drop=0.01)
            if not tried.exists():
                tried.touch()
                trt_check.outputs(max_abs=0)
            trt_check.outputs(max_abs=1)
        """
    )
    result = suite.run(
        "--trt-engine=fp16", "--reruns=1", "test_a_rerun_that_passes_is_a_pass.py", plugins=["rerunfailures"]
    )
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    assert suite.verdicts() == {"fp16 recall": "pass", "fp16 outputs": "pass"}


def test_without_engines_the_items_are_skipped_with_what_to_type(suite):
    result = suite.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *no engine asked for; type: pytest --trt-engine=fp32,fp16,int8"])
    result.stdout.no_fnmatch_line("*trtcheck: onnxruntime*")
    result.stdout.fnmatch_lines(["*= trtcheck =*", "no engine asked for; type: pytest *"])
    assert not (suite.path / "reports").exists()


def test_an_interrupted_run_keeps_the_earlier_report(suite):
    suite.run("--trt-engine=fp16")
    before = suite.report()
    suite.pytester.makeconftest(
        """
        def pytest_runtest_teardown(item):
            if item.check.value == "outputs":
                raise KeyboardInterrupt
        """
    )
    result = suite.run("--trt-engine=fp16", process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["interrupted after 2 checks: no report is written"])
    assert suite.report() == before


def test_what_was_asked_for_and_could_not_be_written_fails_the_run(suite):
    (suite.path / "blocked").write_text("")
    result = suite.run("--trt-engine=fp16", "--trt-update-baselines", "--trt-baselines=blocked/deep")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*the baseline cannot be written*", "a baseline could not be written"])


def test_a_report_is_not_replaced_by_one_that_says_nothing(suite):
    suite.run("--trt-engine=fp16")
    before = suite.report()
    suite.run()
    assert suite.report() == before


def test_command_line_then_ini_then_suite(suite):
    suite.toml(engines=["bf16"])
    suite.run("-k", "build")
    assert set(suite.verdicts()) == {"bf16 build"}
    suite.pytester.makeini("[pytest]\ntrt_engine = int8\ntrt_report = from_ini\ntrt_cache = ini_cache\n")
    suite.run("-k", "build")
    assert set(suite.verdicts()) == {"int8 build"}
    suite.run("-k", "build", "--trt-engine=fp16")
    assert set(suite.verdicts()) == {"fp16 build"}


def test_folders_of_the_ini_are_below_the_root(suite):
    suite.pytester.makeini(
        "[pytest]\ntrt_engine = fp16\ntrt_report = out/html\ntrt_cache = .cache\n"
        "trt_backend = onnxruntime-cpu\n"
    )
    (suite.path / "below").mkdir()
    result = suite.pytester.runpytest_inprocess("-p", "trtcheck", "-k", "build")
    result.assert_outcomes(passed=1)
    assert (suite.path / "out" / "html" / "report.json").is_file()
    assert (suite.path / ".cache" / "lowered").is_dir()


def test_a_model_with_engines_of_its_own_runs_beside_one_that_is_skipped(suite):
    suite.toml(name="own", file="own.trtcheck.toml", engines=["fp16"])
    result = suite.run("-k", "build or tiny", "-v")
    result.assert_outcomes(passed=1, skipped=1)
    [own, tiny] = suite.report()["items"]
    assert (own["engine"], own["verdict"]) == ("fp16", "pass")
    assert (tiny["model"], tiny["verdict"], tiny["message"]) == (
        "tiny", "skipped", "no engine asked for; type: pytest --trt-engine=fp32,fp16,int8",
    )  # fmt: skip
    assert {m["name"]: m["verdict"] for m in suite.report()["models"]} == {"own": "pass", "tiny": "skipped"}


def test_two_suites_in_two_folders_are_collected_together(suite):
    below = suite.path / "below"
    below.mkdir()
    suite.toml(
        file="below/trtcheck.toml", name="deep", onnx="../model.onnx", data="../eval.npz", calibration=None
    )
    result = suite.run("--trt-engine=fp16", "-k", "recall", "-v")
    result.assert_outcomes(passed=2)
    wanted = node("fp16", "recall", "below/trtcheck.toml", "deep")
    assert any(line.startswith(f"{wanted} PASSED") for line in result.outlines)


def test_names_with_spaces_and_dots_and_letters_of_other_alphabets(suite):
    suite.toml(name='"Gesichter Größe 1.5"')
    suite.run("--trt-engine=fp16", "-k", "recall").assert_outcomes(passed=1)
    assert suite.report()["models"][0]["name"] == "Gesichter Größe 1.5"


def test_junit_properties_are_scalars(suite):
    suite.model(suite_models.overflowing())
    suite.run("--trt-engine=fp16", "--junitxml=junit.xml").assert_outcomes(passed=2, failed=3)
    text = (suite.path / "junit.xml").read_text(encoding="utf-8")
    assert '<property name="trtcheck.tiny.fp16.recall.verdict" value="fail"' in text
    assert '<property name="trtcheck.tiny.fp16.recall.numerics" value="emulated"' in text
    assert '<property name="trtcheck.tiny.fp16.accuracy.images" value="240"' in text
    assert '<property name="trtcheck.tiny.fp16.build.cached" value="False"' in text
    for sign in ("[", "{", "object at"):
        assert not [line for line in text.split("<property ") if f'value="{sign}' in line]
    assert "recall of &#x27;left&#x27;" in text or "recall of 'left' fell" in text


def test_an_item_that_cannot_tell_is_inconclusive_and_no_failure(suite):
    images, labels = suite_models.images(12)
    suite.data(images=images, labels=labels)
    result = suite.run("--trt-engine=fp16", "-v")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["*recall INCONCLUSIVE*", "INCONCLUSIVE *recall: 3 images of class 'left': *"]
    )
    assert suite.item("fp16", "recall")["verdict"] == "inconclusive"
    assert suite.report()["verdict"] == "inconclusive"
    short = suite.run("--trt-engine=fp16", "-k", "recall")
    short.stdout.fnmatch_lines(["trtcheck.toml I*", "*1 inconclusive*"])


def test_a_failing_items_output_says_that_it_was_emulated(suite):
    suite.model(suite_models.overflowing())
    result = suite.run("--trt-engine=fp16", "-k", "recall")
    result.stdout.fnmatch_lines(
        ["tiny[[]fp16[]] recall (emulated): recall of 'left' fell from 1.000 to .000 *"]
    )
    result.stdout.fnmatch_lines(["*note: emulated: computed in FP32, rounded*"])


def test_items_hold_what_the_schema_says(suite):
    suite.run("--trt-engine=int8")
    accuracy = suite.item("int8", "accuracy")
    assert {"before", "after", "images", "margin", "b", "c", "p", "detectable", "top_k"} <= set(accuracy)
    recall = suite.item("int8", "recall")
    assert [row["name"] for row in recall["classes"]] == list(suite_models.CLASSES)
    assert {"name", "support", "before", "after", "b", "c", "p", "verdict"} <= set(recall["classes"][0])
    assert sum(row["support"] for row in recall["classes"]) == 240
    build = suite.item("int8", "build")
    assert build["lowered"]["calibration_images"] == 64
    assert build["lowered"]["rest"] == "fp16"
    assert build["facts"]["types"]["quantized"] == 2
    assert suite.item("int8", "outputs")["outputs"][0]["elements"] == 960
    [engine] = suite.report()["engines"]
    assert engine["flips"]["total"] == 240 - round(engine["agreement"]["top1"] * 240)
    assert len(engine["confusion"]["before"]) == 4
    [model] = suite.report()["models"]
    assert (model["data"]["images"], model["calibration"]["images"]) == (240, 64)
    assert model["model"]["path"] == "model.onnx"


def test_the_report_holds_every_gate(suite):
    suite.toml(
        "[models.tiny.gates]\ntest = 'threshold'\nkey_classes = ['left', '*ight']\n"
        "[models.tiny.gates.classes.'d*']\nrecall_floor = 0.5",
        checks=["build"],
    )
    suite.run("--trt-engine=fp16").assert_outcomes(passed=1)
    [model] = suite.report()["models"]
    gates = model["gates"]
    assert set(gates) == {field.name for field in fields(Gates)}
    assert (gates["test"], gates["key_classes"]) == ("threshold", ["left", "*ight"])
    assert gates["classes"]["d*"]["recall_floor"] == 0.5
    assert (gates["on_inconclusive"], gates["batch_tolerance"]) == ("tell", None)


def test_a_data_set_without_labels_is_compared_by_outputs_alone(suite):
    suite.data(images=suite_models.images()[0])
    suite.toml(checks=["build", "outputs"])
    suite.run("--trt-engine=fp16").assert_outcomes(passed=2)
    [engine] = suite.report()["engines"]
    assert engine["images"] == 240
    suite.toml(checks=["build", "outputs"], classes=None)
    suite.run("--trt-engine=fp16").assert_outcomes(passed=2)


def test_labels_are_needed_where_recall_is_checked(suite):
    suite.data(images=suite_models.images()[0])
    result = suite.run("--trt-engine=fp16")
    assert result.parseoutcomes() == {"passed": 1, "errors": 5}
    assert "there are no labels" in suite.item("fp16", "recall")["message"]


def test_images_without_a_label_are_compared_but_not_counted(suite):
    images, labels = suite_models.images()
    suite.data(images=images, labels=[-1 if k % 5 == 0 else label for k, label in enumerate(labels)])
    suite.run("--trt-engine=fp16").assert_outcomes(passed=6)
    [engine] = suite.report()["engines"]
    assert (engine["images"], engine["labelled"]) == (240, 192)
    assert suite.item("fp16", "accuracy")["images"] == 192


def test_a_class_without_images_has_no_recall(suite):
    images, labels = suite_models.images()
    suite.data(images=images[labels != 2], labels=labels[labels != 2])
    suite.run("--trt-engine=fp16").assert_outcomes(passed=6)
    recall = suite.item("fp16", "recall")
    dim = recall["classes"][2]
    assert (dim["name"], dim["support"], dim["before"], dim["after"], dim["verdict"]) == (
        "dim",
        0,
        None,
        None,
        "skipped",
    )
    assert "no images of 'dim'" in recall["message"]


def test_report_is_plain_json(suite):
    suite.model(suite_models.overflowing())
    suite.run("--trt-engine=fp16")
    text = (suite.path / "reports" / "report.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
