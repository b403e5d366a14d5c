"""Results that the processes of one session share."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from trtcheck import errors
from trtcheck.shared import SharedResults


class Maker:
    """Gives what it was given, or raises it, and counts how often."""

    def __init__(self, record=None, arrays=None, error=None) -> None:
        self.record, self.arrays, self.error, self.calls = record or {}, arrays or {}, error, 0

    def __call__(self):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.record, self.arrays


def test_a_result_is_made_once_and_comes_back_as_it_was(tmp_path):
    record = {"a": [1, 2.5, None, True], "nan": math.nan, "inf": -math.inf, "ä": {"b": "😀"}}
    arrays = {
        "x": np.array([[1, -2]], np.int32),
        "y": np.array([], bool),
        "z": np.array([math.nan, math.inf], np.float16),
    }
    make = Maker(record, arrays)
    for results in (SharedResults(tmp_path / "new"), SharedResults(tmp_path / "new")):
        found, found_arrays = results.get_or_make("key", make)
        assert repr(found) == repr(record)
        assert found_arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found_arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(found_arrays[name], array)
    assert make.calls == 1
    assert SharedResults(tmp_path / "other").get_or_make("key", make)[0]["a"] == [1, 2.5, None, True]
    assert make.calls == 2  # nothing outlives a session's folder


def test_a_result_without_arrays(tmp_path):
    assert SharedResults(tmp_path).get_or_make("key", Maker({"a": 1})) == ({"a": 1}, {})


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.TrtcheckError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_a_result_too(kind, tmp_path):
    error = kind("no ä", where="file.toml", expected="a", found="b\nc", hint="type this")
    make = Maker(error=error)
    texts = []
    for _ in range(3):
        with pytest.raises(kind) as caught:
            SharedResults(tmp_path).get_or_make("key", make)
        assert type(caught.value) is kind
        texts.append((str(caught.value), str(caught.value).splitlines()[0]))
    assert texts == [(str(error), "file.toml: no ä")] * 3
    assert make.calls == 1
    with pytest.raises(kind, match="type this"):
        SharedResults(tmp_path).read("key")


def test_a_bug_is_no_result(tmp_path):
    with pytest.raises(ZeroDivisionError):
        SharedResults(tmp_path).get_or_make("key", Maker(error=ZeroDivisionError()))
    assert SharedResults(tmp_path).get_or_make("key", Maker({"a": 1}))[0] == {"a": 1}


def test_what_is_no_plain_data_is_refused_and_never_half_there(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        SharedResults(tmp_path).get_or_make("key", Maker({"a": np.float32(1)}, {"x": np.zeros(2)}))
    assert not (tmp_path / "key.json").exists()


RACE = """
import sys, time
from pathlib import Path
from trtcheck.shared import SharedResults

def make():
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    time.sleep(0.3)
    return {"answer": 42}, {}

print("ready", flush=True)
sys.stdin.readline()
print(SharedResults(Path(sys.argv[1])).get_or_make("key", make))
"""


def test_processes_that_ask_at_once_share_one_result(tmp_path):
    log = tmp_path / "log"
    arguments = [sys.executable, "-c", RACE, str(tmp_path / "shared"), str(log)]
    racers = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    found = [racer.communicate(timeout=60)[0] for racer in racers]
    assert found == ["({'answer': 42}, {})\n"] * 3
    assert log.read_text() == "made\n"
