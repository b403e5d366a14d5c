from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from trtcheck.case import (
    BuildSpec,
    Check,
    ClassGates,
    DropTest,
    EngineSpec,
    Gates,
    InputSpec,
    LatencySpec,
    LoweringSpec,
    OnFinding,
    Precision,
    ShapeRange,
)
from trtcheck.errors import SuiteError
from trtcheck.suite import changed_gates, default_engines, is_suite, read_suite

HEAD = '[models.tiny]\nonnx = "model.onnx"\ndata = "eval.npz"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.onnx", "eval.npz", "other.npz", "images.npy", "labels.npy"):
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, text: str) -> tuple:
    path = folder / "trtcheck.toml"
    path.write_text(text, encoding="utf-8")
    return read_suite(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SuiteError) as caught:
        read(folder, text)
    assert str(caught.value).startswith(f"{folder / 'trtcheck.toml'}: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("trtcheck.toml", True),
        ("faces.trtcheck.toml", True),
        ("pyproject.toml", False),
        ("mytrtcheck.toml", False),
        ("trtcheck.toml.bak", False),
    ],
)
def test_suites_are_told_by_their_names(name, answer):
    assert is_suite(Path("folder") / name) is answer


def test_two_keys_are_enough(folder):
    [case] = read(folder, HEAD)
    assert (case.name, case.onnx, case.data) == ("tiny", folder / "model.onnx", folder / "eval.npz")
    assert (case.classes, case.calibration, case.batch, case.top_k) == (None, None, 32, 5)
    assert case.checks == tuple(Check)
    assert case.gates == Gates()
    assert case.input == InputSpec()
    assert case.engines == ()


def test_every_key_is_read(folder):
    [case] = read(
        folder,
        HEAD
        + """
calibration = "other.npz"
classes = ["a", "b c"]
batch = 7
output = "scores"
top_k = 2
engines = ["fp16", "int8"]
engine = "build/tiny.engine"
profile = {min = 1, opt = 3, max = 9}
checks = ["recall", "build"]
[models.tiny.input]
layout = "NHWC"
scale = 0.5
mean = 3
std = [1, 2.5]
resize = 9
crop = [4, 5]
color = "BGR"
[models.tiny.gates]
recall_drop = 0
precision_drop = 0.02
accuracy_drop = 1
top_k_accuracy_drop = 0.03
alpha = 0.05
max_abs = 3
max_rel = 0.1
relative_l2 = 0.2
cosine = 0.99
kl = 0.5
top1_agreement = 0.98
engine_mb = 12
memory_mb = 34.5
cpu_nodes = 3
test = "proven"
key_classes = ["a", "b*"]
pooled_drop = 0.004
must_see = 0.7
recall_floor = 0.8
precision_floor = 0.75
accuracy_floor = 0.9
accuracy_target = 0.999
churn = 0.06
batch_tolerance = 0.001
saturation = 0.05
latency_slowdown = 0.03
latency_p95_slowdown = 0.1
throughput_drop = 0.04
latency_ms = {1 = 2.5, 64 = 40}
latency_p95_ms = 3
throughput = 100
energy_mj = {8 = 0.5}
speedup = 2
faster_than = "fp16"
on_calibration = "fail"
on_inconclusive = "fail"
[models.tiny.gates.classes."b c"]
recall_drop = 0.1
[models.tiny.gates.classes."b*"]
recall_drop = 0.3
precision_drop = 0.4
recall_floor = 0.5
precision_floor = 0.6
[models.tiny.fp16]
exclude = ["Pow*"]
converter = "modelopt"
[models.tiny.bf16]
exclude = []
[models.tiny.int8]
exclude = ["first"]
method = "percentile"
percentile = 99
rest = "fp32"
quantizer = "modelopt"
[models.tiny.tensorrt]
workspace_mb = 64
optimization_level = 0
tf32 = true
version_compatible = true
hardware_compatible = true
plugins = ["model.onnx"]
cuda_graph = true
[models.tiny.latency]
batches = [8, 1]
transfers = true
cuda_graph = false
spin_wait = true
rounds = 20
[models.tiny.lowered]
int8 = "model.onnx"
fp32 = "model.onnx"
""",
    )
    assert (case.classes, case.batch, case.output, case.top_k) == (("a", "b c"), 7, "scores", 2)
    assert case.calibration == folder / "other.npz"
    assert case.engines == ("fp16", "int8", "build/tiny.engine")
    assert case.checks == (Check.BUILD, Check.RECALL)
    assert case.input == InputSpec("NHWC", 0.5, (3.0,), (1.0, 2.5), 9, (4, 5), "BGR")
    assert case.gates == Gates(
        recall_drop=0, precision_drop=0.02, accuracy_drop=1, top_k_accuracy_drop=0.03, alpha=0.05,
        classes={"b c": ClassGates(recall_drop=0.1), "b*": ClassGates(0.3, 0.4, 0.5, 0.6)},
        max_abs=3, max_rel=0.1, relative_l2=0.2, cosine=0.99,
        kl=0.5, top1_agreement=0.98, engine_mb=12, memory_mb=34.5, cpu_nodes=3, test=DropTest.PROVEN,
        key_classes=("a", "b*"), pooled_drop=0.004, must_see=0.7, recall_floor=0.8, precision_floor=0.75,
        accuracy_floor=0.9, accuracy_target=0.999, churn=0.06, batch_tolerance=0.001, saturation=0.05,
        latency_slowdown=0.03, latency_p95_slowdown=0.1, throughput_drop=0.04,
        latency_ms={1: 2.5, 64: 40.0}, latency_p95_ms=3.0, throughput=100.0, energy_mj={8: 0.5}, speedup=2.0,
        faster_than="fp16", on_calibration=OnFinding.FAIL, on_inconclusive=OnFinding.FAIL,
    )  # fmt: skip
    assert [case.gates.at_batch("latency_ms", batch) for batch in (1, 2, 64)] == [2.5, None, 40.0]
    assert case.gates.at_batch("throughput", 2) == 100.0
    assert case.latency == LatencySpec((1, 8), transfers=True, cuda_graph=False, spin_wait=True, rounds=20)
    same_as_default = [
        f.name for f in fields(Gates) if getattr(case.gates, f.name) == getattr(Gates(), f.name)
    ]
    assert same_as_default == []
    assert case.gates.of_classes(("a", "b c")) == (
        ClassGates(0.0, 0.02, 0.8, 0.75),
        ClassGates(0.1, 0.4, 0.5, 0.6),
    )
    assert case.lowering == {
        Precision.FP16: LoweringSpec(exclude=("Pow*",), maker="modelopt"),
        Precision.BF16: LoweringSpec(),
        Precision.INT8: LoweringSpec(("first",), "percentile", 99.0, "fp32", "modelopt"),
    }
    assert case.build == BuildSpec(
        batch=(1, 3, 9), workspace_mb=64.0, optimization_level=0, tf32=True, version_compatible=True,
        hardware_compatible=True, plugins=(folder / "model.onnx",), cuda_graph=True,
    )  # fmt: skip
    assert case.lowered == {Precision.INT8: folder / "model.onnx", Precision.FP32: folder / "model.onnx"}


def test_a_profile_may_give_full_shapes(folder):
    [case] = read(
        folder,
        HEAD + "profile = {image = {min = [1, 3, 8, 8], opt = [2, 3, 16, 16], max = [4, 3, 32, 16]}}",
    )
    assert case.build.batch is None
    assert case.build.shapes == {"image": ShapeRange((1, 3, 8, 8), (2, 3, 16, 16), (4, 3, 32, 16))}


def test_models_keep_their_order(folder):
    second = HEAD.replace("tiny", "A")
    assert [case.name for case in read(folder, HEAD + second)] == ["tiny", "A"]


def test_arrays_may_be_files_of_their_own(folder):
    [case] = read(folder, HEAD.replace('"eval.npz"', '{ images = "images.npy", labels = "labels.npy" }'))
    assert case.data == {"images": folder / "images.npy", "labels": folder / "labels.npy"}


def test_file_in_another_folder_is_taken_from_the_suite(folder):
    (folder / "sub").mkdir()
    path = folder / "sub" / "x.trtcheck.toml"
    path.write_text(HEAD.replace("model.onnx", "../model.onnx").replace("eval.npz", "../eval.npz"))
    [case] = read_suite(path)
    assert case.onnx.resolve() == folder / "model.onnx"


WRONG = {
    "unknown model key": ("bacth = 3", "unknown key models.tiny.bacth", "batch", "bacth"),
    "unknown input key": (
        "[models.tiny.input]\nmeans = 1",
        "unknown key models.tiny.input.means",
        "mean",
        "",
    ),
    "unknown gate": (
        "[models.tiny.gates]\nrecal = 0.1",
        "unknown key models.tiny.gates.recal",
        "recall_drop",
        "",
    ),
    "unknown class gate": (
        '[models.tiny.gates.classes."a b"]\ndrop = 0.1',
        "unknown key models.tiny.gates.classes.a b.drop",
        "precision_drop, precision_floor, recall_drop, recall_floor",
        "drop",
    ),
    "unknown int8 key": (
        "[models.tiny.int8]\nexcludes = []",
        "unknown key models.tiny.int8.excludes",
        "exclude",
        "",
    ),
    "int8 key at fp16": (
        "[models.tiny.fp16]\nmethod = 'minmax'",
        "unknown key models.tiny.fp16.method",
        "exclude",
        "",
    ),
    "unknown precision": (
        "[models.tiny.lowered]\nfp8 = 'model.onnx'",
        "unknown key models.tiny.lowered.fp8",
        "int8",
        "",
    ),
    "batch of text": (
        "batch = '3'",
        "models.tiny.batch has a wrong value",
        "a whole number, 1 or more",
        "'3' (str)",
    ),
    "batch of bool": ("batch = true", "models.tiny.batch has a wrong value", "a whole number", "True (bool)"),
    "batch of none": ("batch = 0", "models.tiny.batch has a wrong value", "1 or more", "0 (int)"),
    "top-k of fraction": (
        "top_k = 1.5",
        "models.tiny.top_k has a wrong value",
        "a whole number",
        "1.5 (float)",
    ),
    "classes of one text": (
        "classes = 'a'",
        "models.tiny.classes has a wrong value",
        "a list of strings",
        "'a' (str)",
    ),
    "classes of numbers": (
        "classes = [1]",
        "models.tiny.classes has a wrong value",
        "a list of strings",
        "[1] (list)",
    ),
    "no classes": (
        "classes = []",
        "models.tiny.classes has a wrong value",
        "different class names",
        "0 names",
    ),
    "class without a name": (
        "classes = ['a', '']",
        "models.tiny.classes has a wrong value",
        "without control characters",
        "''",
    ),
    "class that would colour the terminal": (
        'classes = ["a", "\\u001b[31mred"]',
        "models.tiny.classes has a wrong value",
        "without control characters",
        r"'\x1b[31mred'",
    ),
    "class twice": (
        "classes = ['a', 'a']",
        "models.tiny.classes has a wrong value",
        "different",
        "'a' more than once",
    ),
    "recall of percent": (
        "[models.tiny.gates]\nrecall_drop = 1.5",
        "models.tiny.gates.recall_drop",
        "0 to 1",
        "1.5",
    ),
    "recall of text": (
        "[models.tiny.gates]\nrecall_drop = '1%'",
        "models.tiny.gates.recall_drop",
        "0 to 1",
        "'1%'",
    ),
    "negative drop": (
        "[models.tiny.gates]\naccuracy_drop = -0.1",
        "models.tiny.gates.accuracy_drop",
        "0 to 1",
        "-0.1",
    ),
    "drop is nan": (
        "[models.tiny.gates]\naccuracy_drop = nan",
        "models.tiny.gates.accuracy_drop",
        "0 to 1",
        "nan",
    ),
    "class drop of percent": (
        "[models.tiny.gates.classes.a]\nrecall_drop = 5",
        "models.tiny.gates.classes.a.recall_drop",
        "0 to 1",
        "5",
    ),
    "alpha of zero": (
        "[models.tiny.gates]\nalpha = 0",
        "models.tiny.gates.alpha",
        "from 1e-9 to 0.5",
        "0 (int)",
    ),
    "alpha too small to compute with": (
        "[models.tiny.gates]\nalpha = 1e-300",
        "models.tiny.gates.alpha",
        "from 1e-9 to 0.5",
        "1e-300",
    ),
    "alpha that promises nothing": (
        "[models.tiny.gates]\nalpha = 0.99",
        "models.tiny.gates.alpha",
        "from 1e-9 to 0.5",
        "0.99",
    ),
    "negative error": ("[models.tiny.gates]\nmax_abs = -1", "models.tiny.gates.max_abs", "0 or more", "-1"),
    "infinite error": ("[models.tiny.gates]\nkl = inf", "models.tiny.gates.kl", "0 or more", "inf"),
    "gates of text": (
        "gates = 'strict'",
        "models.tiny.gates has a wrong value",
        "a table [models.tiny.gates]",
        "strict",
    ),
    "layout": (
        "[models.tiny.input]\nlayout = 'HWC'",
        "models.tiny.input.layout",
        '"NHWC" or "NCHW"',
        "'HWC'",
    ),
    "layout list": (
        "[models.tiny.input]\nlayout = ['HWC']",
        "models.tiny.input.layout",
        '"NHWC" or "NCHW"',
        "['HWC']",
    ),
    "scale of zero": ("[models.tiny.input]\nscale = 0", "models.tiny.input.scale", "other than 0", "0 (int)"),
    "std of zero": ("[models.tiny.input]\nstd = [1, 0]", "models.tiny.input.std", "other than 0", "[1, 0]"),
    "mean of text": ("[models.tiny.input]\nmean = ['1']", "models.tiny.input.mean", "one a channel", "['1']"),
    "size of three": (
        "[models.tiny.input]\nresize = [1, 2, 3]",
        "models.tiny.input.resize",
        "[height, width]",
        "",
    ),
    "method": (
        "[models.tiny.int8]\nmethod = 'kl'",
        "models.tiny.int8.method",
        '"entropy" or "minmax"',
        "'kl'",
    ),
    "percentile": (
        "[models.tiny.int8]\npercentile = 0.99",
        "models.tiny.int8.percentile",
        "above 50",
        "0.99",
    ),
    "rest": ("[models.tiny.int8]\nrest = 'int8'", "models.tiny.int8.rest", '"fp16" or "fp32"', "'int8'"),
    "check": (
        "checks = ['recal']",
        "models.tiny.checks",
        "build, calibration, outputs, batch_invariance, accuracy, recall, precision",
        "recal",
    ),
    "no checks": ("checks = []", "models.tiny.checks", "some of", "[] (list)"),
    "calibration missing": (
        "calibration = 'c.npz'",
        "models.tiny.calibration names a file",
        "c.npz",
        "no such file",
    ),
    "lowered missing": (
        "[models.tiny.lowered]\nint8 = 'q.onnx'",
        "models.tiny.lowered.int8 names a file",
        "q.onnx",
        "",
    ),
    "array missing": (
        "calibration = {images = 'c.npy'}",
        "models.tiny.calibration.images names a file",
        "c.npy",
        "",
    ),
    "array of number": (
        "calibration = {images = 3}",
        "models.tiny.calibration.images has a wrong value",
        "a string",
        "3",
    ),
    "data of number": ("calibration = 3", "models.tiny.calibration has a wrong value", "a string", "3 (int)"),
    "empty text": ("output = ''", "models.tiny.output has a wrong value", "a string", "''"),
    "engines of text": (
        "engines = 'fp16'",
        "models.tiny.engines has a wrong value",
        "a list of strings",
        "'fp16'",
    ),
    "profile of two": ("profile = {min = 1, max = 3}", "models.tiny.profile", "min = 1, opt = 8", "'max': 3"),
    "profile that falls": (
        "profile = {min = 4, opt = 2, max = 8}",
        "models.tiny.profile",
        "min <= opt <= max",
        "'opt': 2",
    ),
    "profile of text": ("profile = '1-8'", "models.tiny.profile", "batch sizes", "'1-8'"),
    "profile of two ranks": (
        "profile = {image = {min = [1, 3], opt = [2, 3], max = [4]}}",
        "models.tiny.profile",
        "every dimension",
        "'max': [4]",
    ),
    "workspace": (
        "[models.tiny.tensorrt]\nworkspace_mb = 0",
        "models.tiny.tensorrt.workspace_mb",
        "above 0",
        "0 (int)",
    ),
    "optimization level": (
        "[models.tiny.tensorrt]\noptimization_level = 6",
        "models.tiny.tensorrt.optimization_level",
        "0 to 5",
        "6 (int)",
    ),
    "flag of number": (
        "[models.tiny.tensorrt]\ntf32 = 1",
        "models.tiny.tensorrt.tf32",
        "true or false",
        "1 (int)",
    ),
    "plugin missing": (
        "[models.tiny.tensorrt]\nplugins = ['a.so']",
        "models.tiny.tensorrt.plugins names a file",
        "a.so",
        "",
    ),
    "quantizer": (
        "[models.tiny.int8]\nquantizer = 'nvidia'",
        "models.tiny.int8.quantizer",
        '"trtcheck" or "modelopt"',
        "'nvidia'",
    ),
    "engine size": (
        "[models.tiny.gates]\nengine_mb = -1",
        "models.tiny.gates.engine_mb",
        "0 or more",
        "-1 (int)",
    ),
    "nodes on the CPU": (
        "[models.tiny.gates]\ncpu_nodes = 1.5",
        "models.tiny.gates.cpu_nodes",
        "a whole number, 0 or more",
        "1.5 (float)",
    ),
    "test": (
        "[models.tiny.gates]\ntest = 'naive'",
        "models.tiny.gates.test has a wrong value",
        '"paired" or "threshold" or "proven"',
        "'naive' (str)",
    ),
    "test of list": (
        "[models.tiny.gates]\ntest = ['paired']",
        "models.tiny.gates.test has a wrong value",
        '"paired" or',
        "['paired'] (list)",
    ),
    "key classes of text": (
        "[models.tiny.gates]\nkey_classes = 'crack'",
        "models.tiny.gates.key_classes has a wrong value",
        "a list of strings",
        "'crack' (str)",
    ),
    "key classes of numbers": (
        "[models.tiny.gates]\nkey_classes = [6]",
        "models.tiny.gates.key_classes has a wrong value",
        "a list of strings",
        "[6] (list)",
    ),
    "floor of percent": (
        "[models.tiny.gates]\nrecall_floor = 90",
        "models.tiny.gates.recall_floor has a wrong value",
        "0 to 1",
        "90 (int)",
    ),
    "class floor of percent": (
        "[models.tiny.gates.classes.a]\nprecision_floor = 90",
        "models.tiny.gates.classes.a.precision_floor has a wrong value",
        "0 to 1",
        "90 (int)",
    ),
    "target above the reference": (
        "[models.tiny.gates]\naccuracy_target = 1.01",
        "models.tiny.gates.accuracy_target has a wrong value",
        "0 to 1",
        "1.01 (float)",
    ),
    "pooled drop": (
        "[models.tiny.gates]\npooled_drop = true",
        "models.tiny.gates.pooled_drop has a wrong value",
        "0 to 1",
        "True (bool)",
    ),
    "must see": (
        "[models.tiny.gates]\nmust_see = 60",
        "models.tiny.gates.must_see has a wrong value",
        "0 to 1",
        "60 (int)",
    ),
    "churn of percent": (
        "[models.tiny.gates]\nchurn = 5",
        "models.tiny.gates.churn has a wrong value",
        "0 to 1",
        "5 (int)",
    ),
    "saturation of text": (
        "[models.tiny.gates]\nsaturation = '1%'",
        "models.tiny.gates.saturation has a wrong value",
        "0 to 1",
        "'1%' (str)",
    ),
    "negative tolerance": (
        "[models.tiny.gates]\nbatch_tolerance = -1e-3",
        "models.tiny.gates.batch_tolerance has a wrong value",
        "0 or more",
        "-0.001 (float)",
    ),
    "on inconclusive": (
        "[models.tiny.gates]\non_inconclusive = 'error'",
        "models.tiny.gates.on_inconclusive has a wrong value",
        '"tell" or "fail"',
        "'error' (str)",
    ),
    "on calibration": (
        "[models.tiny.gates]\non_calibration = true",
        "models.tiny.gates.on_calibration has a wrong value",
        '"tell" or "fail"',
        "True (bool)",
    ),
    "gates of another class": (
        "classes = ['crack', 'scratch', 'dent']\n[models.tiny.gates.classes.cracks]\nrecall_drop = 0",
        "models.tiny.gates.classes names a class that is not there: 'cracks'",
        "one of the model's classes, or a pattern that fits some: crack, scratch, dent",
        "did you mean crack?",
    ),
    "pattern that fits no class": (
        "classes = ['crack', 'scratch']\n[models.tiny.gates.classes.\"d*\"]\nrecall_drop = 0",
        "models.tiny.gates.classes names a class that is not there: 'd*'",
        "a pattern that fits some: crack, scratch",
        "'d*'",
    ),
    "key class that is not there": (
        "classes = ['crack', 'scratch']\n[models.tiny.gates]\nkey_classes = ['crack', 'Scratch']",
        "models.tiny.gates.key_classes names a class that is not there: 'Scratch'",
        "crack, scratch",
        "did you mean scratch?",
    ),
    "key class without a name": (
        "classes = ['crack', 'scratch']\n[models.tiny.gates]\nkey_classes = ['']",
        "models.tiny.gates.key_classes names a class that is not there: ''",
        "crack, scratch",
        "''",
    ),
    "unknown table": ("[model.other]\nonnx = ''", "unknown key model", "models", "did you mean models?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_key_is_one_sentence_with_what_was_expected_and_found(folder, case):
    text, what, expected, found = WRONG[case]
    message = refusal(folder, HEAD + text)
    assert what in message.splitlines()[0]
    [wanted] = [line for line in message.splitlines() if line.startswith("  expected: ")]
    assert expected in wanted
    assert found in message
    assert len(message.splitlines()) <= 4


def test_a_spelling_mistake_gets_a_proposal(folder):
    assert "did you mean batch?" in refusal(folder, HEAD + "bacth = 3")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "names no model"),
        ("[models]", "names no model"),
        ("models = 3", "models has a wrong value"),
        ("[models]\ntiny = 3", "models.tiny has a wrong value"),
        ('[models.tiny]\ndata = "eval.npz"', "models.tiny.onnx is missing"),
        ('[models.tiny]\nonnx = "model.onnx"', "models.tiny.data is missing"),
        ('[models.tiny]\nonnx = "m.onnx"', "models.tiny.onnx names a file that is not there"),
        (HEAD.replace("eval", "evil"), "models.tiny.data names a file that is not there"),
        (HEAD + HEAD, "is no valid TOML"),
        ("[models.tiny", "is no valid TOML"),
        (HEAD.replace("models.tiny", 'models."a/b"'), "cannot be part of test ids"),
        (HEAD.replace("models.tiny", 'models."a::b"'), "cannot be part of test ids"),
        (HEAD.replace("models.tiny", 'models."a[b]"'), "cannot be part of test ids"),
        (HEAD.replace("models.tiny", 'models.""'), "cannot be part of test ids"),
        (HEAD.replace("models.tiny", 'models." a"'), "cannot be part of test ids"),
        (HEAD.replace("models.tiny", 'models."a\\nb"'), "cannot be part of test ids"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(folder, text, what):
    assert what in refusal(folder, text).splitlines()[0]


def test_a_file_that_is_no_text_is_refused(folder):
    path = folder / "trtcheck.toml"
    path.write_bytes(b"\xff\xfe[models]")
    with pytest.raises(SuiteError, match="is no valid TOML"):
        read_suite(path)


def test_a_folder_of_that_name_cannot_be_read(folder):
    (folder / "trtcheck.toml").mkdir()
    with pytest.raises(SuiteError, match="cannot be read"):
        read_suite(folder / "trtcheck.toml")


def test_engines_of_the_suite_are_precisions_and_files_beside_it(folder):
    [case] = read(folder, HEAD + 'engines = ["fp16", "model.onnx"]')
    assert default_engines(case, folder / "trtcheck.toml") == (
        EngineSpec("fp16", Precision.FP16),
        EngineSpec("model", None, folder / "model.onnx"),
    )


@pytest.mark.parametrize(
    ("entries", "what"), [('["fp17"]', "fp17"), ('["fp16", "fp16"]', "twice"), ('[""]', "''")]
)
def test_engines_of_the_suite_that_cannot_be_are_refused_with_file_and_key(folder, entries, what):
    [case] = read(folder, HEAD + f"engines = {entries}")
    with pytest.raises(SuiteError, match=what) as caught:
        default_engines(case, folder / "trtcheck.toml")
    assert str(caught.value).startswith(f"{folder / 'trtcheck.toml'}: models.tiny.engines")


def test_gates_of_python_are_checked_like_those_of_the_file():
    gates = Gates(recall_drop=0.1, max_abs=3, classes={"a": ClassGates(recall_drop=0.2)})
    changes = {
        "recall_drop": 0.3, "classes": {"b": ClassGates(precision_drop=0.4)}, "test": "proven",
        "key_classes": ("b",), "churn": 0.02, "on_inconclusive": OnFinding.FAIL,
    }  # fmt: skip
    assert changed_gates(gates, changes, "there") == Gates(
        recall_drop=0.3, max_abs=3, test=DropTest.PROVEN, key_classes=("b",), churn=0.02,
        on_inconclusive=OnFinding.FAIL,
        classes={"a": ClassGates(recall_drop=0.2), "b": ClassGates(precision_drop=0.4)},
    )  # fmt: skip
    for changes in (
        {"recall_drop": 3},
        {"recal_drop": 0.3},
        {"classes": {"b": {"recall_drop": 3}}},
        {"classes": 3},
        {"classes": {"b": ClassGates(recall_drop=0.1), "c": 3}},
        {"key_classes": "b"},
        {"test": "naive"},
        {"on_inconclusive": True},
        {"churn": None},
    ):
        with pytest.raises(SuiteError, match=r"^there: "):
            changed_gates(gates, changes, "there")


def test_class_limits_given_in_a_test_come_before_the_suites():
    suite = Gates(
        recall_drop=0.01,
        classes={
            "crack": ClassGates(recall_floor=0.9),
            "c*": ClassGates(recall_drop=0.1, precision_drop=0.2),
        },
    )
    names = ("crack", "corner", "dent")

    def drops(changes):
        changed = changed_gates(suite, {"classes": changes}, "there")
        return [own.recall_drop for own in changed.of_classes(names)]

    assert drops({}) == [0.1, 0.1, 0.01]
    # Of two patterns that fit, the test's counts; a name counts before any pattern, whoever gives it.
    assert drops({"*": {"recall_drop": 0.3}}) == [0.3, 0.3, 0.3]
    assert drops({"crack": {"recall_drop": 0.4}, "*": {"recall_drop": 0.3}}) == [0.4, 0.3, 0.3]
    # An entry that both have keeps what the test leaves out.
    changed = changed_gates(suite, {"classes": {"crack": {"recall_drop": 0.4}, "c*": {"recall_drop": 0}}}, "")
    assert changed.of_classes(names)[:2] == (
        ClassGates(0.4, 0.2, 0.9, None),
        ClassGates(0.0, 0.2, None, None),
    )


def test_classes_by_pattern_are_read_where_the_names_are_given(folder):
    [case] = read(
        folder,
        HEAD
        + """
classes = ["crack long", "crack short", "dent", "[old]"]
[models.tiny.gates]
key_classes = ["crack *", "[old]"]
[models.tiny.gates.classes."*short"]
recall_floor = 0.5
""",
    )
    assert case.gates.key_among(case.classes) == ("crack long", "crack short", "[old]")
    floors = [own.recall_floor for own in case.gates.of_classes(case.classes)]
    assert floors == [None, 0.5, None, None]


def test_class_names_that_only_the_data_know_are_left_to_the_run(folder):
    [case] = read(
        folder,
        HEAD + "[models.tiny.gates]\nkey_classes = ['97']\n[models.tiny.gates.classes.'3*']\nrecall_drop = 0",
    )
    assert case.gates.unmatched(["1", "2"]) == ("3*", "97")


def test_of_thousands_of_classes_some_are_named(folder):
    classes = ", ".join(f"'class {k}'" for k in range(5000))
    message = refusal(folder, HEAD + f"classes = [{classes}]\n[models.tiny.gates]\nkey_classes = ['klass 7']")
    assert len(message) < 1000
    assert "class 19 …" in message
    assert "did you mean class 7?" in message


@pytest.mark.parametrize("key", ["onnx", "data", "calibration"])
def test_a_home_folder_that_is_not_there_is_refused_by_name(folder, key):
    keys = {"onnx": "model.onnx", "data": "eval.npz", key: "~nosuchuser/x"}
    text = "[models.tiny]\n" + "".join(f'{name} = "{value}"\n' for name, value in keys.items())
    message = refusal(folder, text)
    assert f"models.tiny.{key} names a home folder that is not there" in message
    assert "found:    ~nosuchuser/x" in message


@pytest.mark.parametrize("key", ["max_abs", "recall_drop", "alpha"])
def test_a_number_of_400_digits_is_refused(folder, key):
    text = HEAD + f"[models.tiny.gates]\n{key} = 1{'0' * 400}"
    assert f"models.tiny.gates.{key} has a wrong value" in refusal(folder, text)


def test_numbers_and_nesting_beyond_what_python_reads_are_refused(folder):
    assert "is no valid TOML" in refusal(folder, f"a = 1{'0' * 5000}")
    assert "is nested too deeply" in refusal(folder, "a = " + "[" * 5000 + "]" * 5000)


def test_numbers_that_python_does_not_print_are_refused(folder):
    told = refusal(folder, HEAD + f"[models.tiny.gates]\nrecall_drop = 0x{'f' * 5000}")
    assert "models.tiny.gates.recall_drop has a wrong value" in told
    assert "found:    a whole number of too many digits (int)" in told


def test_long_values_are_shown_by_their_beginning(folder):
    told = refusal(folder, HEAD + f"[models.tiny.gates]\nkey_classes = '{'x' * 5000}'")
    assert len(told) < 500
    assert f"found:    '{'x' * 50}" in told
    assert told.endswith("… (str)")


def test_changed_gates_become_builtins():
    numpy = pytest.importorskip("numpy")
    for number in (numpy.float64(0.25), numpy.float32(0.25)):
        gates = changed_gates(
            Gates(), {"recall_drop": number, "alpha": number, "max_abs": number, "classes": {
                "a": {"recall_drop": number}}}, "there",
        )  # fmt: skip
        values = (gates.recall_drop, gates.alpha, gates.max_abs, gates.classes["a"].recall_drop)
        assert values == (0.25,) * 4
        assert {type(value) for value in values} == {float}
