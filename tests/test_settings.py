from __future__ import annotations

from pathlib import Path

import pytest

from trtcheck.case import EngineSpec, Precision
from trtcheck.errors import OptionError
from trtcheck.settings import Settings, cache_folder, parse_backend, parse_engines, parse_size, read_settings

NOTHING = {"engine": "", "backend": "", "baselines": "", "report": "", "cache": ""}


def settings(tmp_path: Path, options: dict | None = None, **ini: str) -> Settings:
    (tmp_path / "here").mkdir(exist_ok=True)
    return read_settings(options or {}, NOTHING | ini, invoked_in=tmp_path / "here", root=tmp_path)


def test_nothing_given_leaves_engines_to_the_suite(tmp_path):
    found = settings(tmp_path)
    assert found.engines is None
    assert found.backend == "auto"
    assert (found.baselines, found.report) == (tmp_path / "baselines", tmp_path / "reports")
    assert found.cache is None
    assert not found.update_baselines


def test_paths_of_options_are_relative_to_where_one_is_and_those_of_the_ini_to_the_root(tmp_path):
    found = settings(tmp_path, {"report": "out", "cache": "~/kept"}, report="never", baselines="good")
    assert found.report == tmp_path / "here" / "out"
    assert found.baselines == tmp_path / "good"
    assert found.cache == Path("~/kept").expanduser()


def test_the_python_of_modelopt_is_a_path_like_any_other_or_a_name_for_the_path(tmp_path):
    def python(option: str | None = None, ini: str = "") -> str | None:
        return settings(tmp_path, {"modelopt_python": option}, modelopt_python=ini).modelopt_python

    assert python() is None
    assert python("") is None
    assert python("env/bin/python") == str(tmp_path / "here" / "env/bin/python")
    assert python(ini="env/bin/python") == str(tmp_path / "env/bin/python")
    assert python("~/env/bin/python", "never/used") == str(Path("~/env/bin/python").expanduser())
    assert python("python3.12") == "python3.12"


def test_a_link_to_the_python_of_an_environment_is_not_followed(tmp_path):
    (tmp_path / "python").symlink_to("/usr/bin/env")
    given = str(tmp_path / "python")
    assert settings(tmp_path, {"modelopt_python": given}).modelopt_python == given


def test_what_only_builds_approves_nothing(tmp_path):
    with pytest.raises(OptionError, match="--trt-build-only runs no engine"):
        settings(tmp_path, {"build_only": True, "update_baselines": True})


def test_inconclusive_items_fail_only_where_asked(tmp_path):
    assert not settings(tmp_path).strict
    assert settings(tmp_path, {"strict": True}).strict


def test_the_command_line_comes_before_the_ini(tmp_path):
    assert settings(tmp_path, engine="int8").engines == (EngineSpec("int8", Precision.INT8),)
    found = settings(tmp_path, {"engine": "fp16", "backend": "onnxruntime"}, engine="int8", backend="auto")
    assert found.engines == (EngineSpec("fp16", Precision.FP16),)
    assert found.backend == "onnxruntime"


def test_where_the_reference_runs_is_an_option_before_it_is_a_key(tmp_path):
    assert settings(tmp_path).reference == "auto"
    assert settings(tmp_path, reference="cpu").reference == "cpu"
    assert settings(tmp_path, {"reference": "cuda"}, reference="cpu").reference == "cuda"
    with pytest.raises(OptionError, match=r"--trt-reference=cudo is not known \(did you mean cuda\?\)"):
        settings(tmp_path, reference="cudo")


@pytest.mark.parametrize(
    "name", ["auto", "tensorrt", "tensorrt-rtx", "onnxruntime", "onnxruntime-cuda", "onnxruntime-cpu"]
)
def test_backends_of_this_version(name):
    assert parse_backend(name) == name


def test_an_unknown_backend_gets_a_proposal():
    with pytest.raises(OptionError, match=r"onxruntime is not known \(did you mean onnxruntime\?\)"):
        parse_backend("onxruntime")


def test_engines_are_precisions_and_files(tmp_path):
    (tmp_path / "sub").mkdir()
    model = tmp_path / "sub" / "my-model.v2.onnx"
    model.touch()
    found = parse_engines(["fp32", " bf16 ", "sub/my-model.v2.onnx"], base=tmp_path, where="there")
    assert found == (
        EngineSpec("fp32", Precision.FP32),
        EngineSpec("bf16", Precision.BF16),
        EngineSpec("my-model.v2", None, model),
    )


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        (["fp17"], "'fp17' is no precision (did you mean fp16?)"),
        (["FP16"], "'FP16' is no precision (did you mean fp16?)"),
        (["fp8"], "fp8 is not part of this version"),
        ([""], "'' is no precision"),
        (["fp16", " "], "'' is no precision"),
        (["fp16", "fp16"], "names engine 'fp16' twice"),
        (["a.onnx", "sub/a.onnx"], "names engine 'a' twice"),
        (["gone.onnx"], "gone.onnx: there: no such file"),
        (["sub"], "'sub' is no precision"),
        (["./sub"], "'./sub' is no precision"),
        (["sub/empty"], "the folder holds no recorded outputs"),
        (["model.engin"], "'model.engin' is of no kind that can be tested"),
        (["sub/a [1].onnx"], "the file's name becomes part of test ids"),
    ],
)
def test_engines_that_cannot_be_are_refused_by_name(tmp_path, entries, what):
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    for name in ("a.onnx", "sub/a.onnx", "sub/a [1].onnx", "model.engin"):
        (tmp_path / name).touch()
    with pytest.raises(OptionError) as caught:
        parse_engines(entries, base=tmp_path, where="there")
    assert what in str(caught.value).splitlines()[0]
    assert "there" in str(caught.value)


@pytest.mark.parametrize("option", ["report", "baselines"])
def test_a_file_where_a_folder_is_wanted_is_refused(tmp_path, option):
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=f"--trt-{option} needs a folder"):
        settings(tmp_path, **{option: "file"})


def test_the_cache_is_the_users_unless_named(tmp_path, monkeypatch):
    assert cache_folder(settings(tmp_path, {"cache": "c"})) == tmp_path / "here" / "c"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(settings(tmp_path)).name == "trtcheck"


def test_no_home_folder_is_an_error_that_names_the_option(tmp_path, monkeypatch):
    def homeless(*_args, **_kwargs):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("platformdirs.user_cache_path", homeless)
    with pytest.raises(OptionError, match="--trt-cache=DIR"):
        cache_folder(settings(tmp_path))


@pytest.mark.parametrize("name", ["reports", "baselines"])
def test_a_file_in_place_of_a_default_folder_is_no_ones_mistake(tmp_path, name):
    (tmp_path / name).touch()
    assert settings(tmp_path).root == tmp_path


@pytest.mark.parametrize("option", ["report", "baselines", "cache"])
def test_a_home_folder_that_is_not_there_is_refused_by_name(tmp_path, option):
    with pytest.raises(OptionError, match=f"--trt-{option} names a home folder") as caught:
        settings(tmp_path, {option: "~nosuchuser/x"})
    assert "found:    ~nosuchuser/x" in str(caught.value)
    with pytest.raises(OptionError, match=f"ini key trt_{option} names a home folder"):
        settings(tmp_path, **{option: "~nosuchuser/x"})


def test_an_engine_in_a_home_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OptionError, match="there names a home folder that is not there"):
        parse_engines(["~nosuchuser/a.onnx"], base=tmp_path, where="there")


def test_files_are_told_by_their_suffix(tmp_path):
    for name in ("a.onnx", "b.engine", "c.PLAN", "d.trt", "e.npz", "f.json"):
        (tmp_path / name).touch()
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "0000.json").touch()
    entries = ["fp16", "a.onnx", "b.engine", "c.PLAN", "d.trt", "e.npz", "f.json", "board"]
    kinds = {
        engine.name: engine.kind.value for engine in parse_engines(entries, base=tmp_path, where="there")
    }
    assert kinds == {
        "fp16": "precision", "a": "lowered", "b": "engine", "c": "engine", "d": "engine", "e": "recording",
        "f": "recording", "board": "recording",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20_000_000_000), ("1.5 mb", 1_500_000), ("0KB", 0), ("none", None), ("2TB", 2 * 10**12)],
)
def test_sizes_have_units(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["20", "GB", "-1GB", "1e3GB", "20 Gib", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(OptionError, match="--trt-cache-size is no size") as caught:
        parse_size(text)
    assert "pytest --trt-cache-size=20GB" in str(caught.value)
