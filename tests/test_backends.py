"""Which backend a name stands for, what is said of those not taken, and what broken ones lead to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trtcheck import backends
from trtcheck.backends import FASTEST_FIRST, KNOWN, choose, open_backend
from trtcheck.environment import is_installed
from trtcheck.errors import BackendError
from trtcheck.runtime import Runtime
from trtcheck.settings import read_settings

SERIAL = SimpleNamespace(option=SimpleNamespace(dist="no"))
"""The configuration of a run without pytest-xdist, as far as it is asked."""


@pytest.mark.parametrize("name", FASTEST_FIRST)
def test_a_backend_that_is_named_is_taken_whatever_works(name):
    assert choose(name) == backends.Choice(name, "asked for by name")


def test_auto_says_why_it_took_none_of_the_others():
    choice = choose("auto")
    assert choice.name == "onnxruntime-cpu"
    assert choice.reason == (
        "auto: what works here without a GPU; not tensorrt: TensorRT is not installed; "
        "not tensorrt-rtx: there is no NVIDIA driver on this machine; "
        "not onnxruntime-cuda: onnxruntime-gpu is not installed"
    )
    assert choose("onnxruntime").reason.startswith("onnxruntime: what works here without a GPU; not onnx")


def test_an_unknown_backend_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(BackendError, match="there is no backend 'cuda'") as caught:
        open_backend("cuda", threads=1, cache=tmp_path)
    assert ", ".join(KNOWN) in str(caught.value)


def test_what_is_installed_and_broken_is_passed_over_by_auto_and_told_fake(tmp_path, monkeypatch):
    """A fake of the refusal alone: a driver and a CUDA provider that then cannot be loaded."""
    monkeypatch.setattr(backends, "unusable", lambda name: None if "onnx" in name else "not there")
    real = backends._open

    def open_(choice, **more):
        if choice.name == "onnxruntime-cuda":
            raise BackendError("its libraries cannot be loaded", found="libcudnn.so.9")
        return real(choice, **more)

    monkeypatch.setattr(backends, "_open", open_)
    backend = open_backend("auto", threads=1, cache=tmp_path)
    assert backend.info.name == "onnxruntime-cpu"
    assert "not onnxruntime-cuda: its libraries cannot be loaded found: libcudnn.so.9" in backend.info.reason
    settings = read_settings({}, {}, invoked_in=tmp_path, root=tmp_path)
    told = Runtime(settings, SERIAL, None).ran_elsewhere(
        {"name": "onnxruntime-cpu", "reason": backend.info.reason}
    )
    assert told is not None
    assert told.startswith("engines ran on onnxruntime-cpu (auto: ")
    with pytest.raises(BackendError, match="its libraries cannot be loaded"):
        open_backend("onnxruntime-cuda", threads=1, cache=tmp_path)


def test_where_the_header_was_right_nothing_more_is_told(tmp_path):
    def runtime(**options: str) -> Runtime:
        return Runtime(read_settings(options, {}, invoked_in=tmp_path, root=tmp_path), SERIAL, None)

    ran = {"name": "onnxruntime-cpu", "reason": "auto"}
    assert runtime(engine="fp16").ran_elsewhere(ran) is None
    # Where the suite names the engines there is no header: nothing was asked for yet.
    assert runtime().ran_elsewhere(ran) == "engines ran on onnxruntime-cpu (auto)"
    assert runtime().ran_elsewhere({"name": "recorded", "reason": "given"}) is None
    assert runtime().ran_elsewhere(None) is None


def test_a_folder_or_a_stand_in_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "leftover").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("leftover")
    assert not is_installed("no_such_module")
    assert is_installed("onnxruntime")
    monkeypatch.setitem(__import__("sys").modules, "stand_in", type(pytest)("stand_in"))
    assert not is_installed("stand_in")
