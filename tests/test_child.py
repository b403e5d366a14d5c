"""Work in child processes: however they end, the parent gets a reply or an error in words."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from trtcheck import child
from trtcheck.errors import BackendError, EngineError


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a module of that content where children find it; returns its name."""

    def put(content: str) -> str:
        (tmp_path / "a_child.py").write_text(content)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return "a_child"

    return put


def serving(body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    head = "import os, sys\nfrom trtcheck.child import serve\nfrom trtcheck.errors import EngineError\n"
    return f"{head}def answer(request, tell):\n{lines}\nserve(answer)\n"


def test_a_child_tells_its_steps_and_replies_whatever_its_libraries_print(program):
    steps: list[int] = []
    module = program(
        serving("print('noise')\nos.system('echo noise')\ntell(2)\nreturn {'n': request['n'] + 1}")
    )
    assert child.call(module, {"n": 1}, what="counting", advance=steps.append) == {"n": 2}
    assert steps == [2]


def test_what_is_printed_before_a_child_serves_is_no_reply(program):
    module = program("print('5')\nprint('{')\n" + serving("return {'n': request['n'] + 1}"))
    assert child.call(module, {"n": 1}, what="counting") == {"n": 2}


def test_a_child_ends_with_its_parent_however_that_ends(program, tmp_path):
    note = tmp_path / "pid"
    body = f"open({str(note)!r}, 'w').write(str(os.getpid()))\ntell(1)\nimport time\ntime.sleep(60)"
    module = program(serving(body))
    killed = (
        "import os, signal\nfrom trtcheck import child\n"
        "end = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"child.call({module!r}, {{}}, what='waiting', advance=end)"
    )
    done = subprocess.run([sys.executable, "-c", killed], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    for _ in range(100):
        if not Path("/proc", note.read_text()).exists():
            break
        time.sleep(0.05)
    assert not Path("/proc", note.read_text()).exists()


def test_an_error_of_a_child_is_raised_as_what_it_was(program):
    module = program(serving("raise EngineError('no', found='this')"))
    with pytest.raises(EngineError, match=r"^no\n  found:    this$"):
        child.call(module, {}, what="trying")


@pytest.mark.parametrize(
    ("content", "request_size", "found"),
    [
        (
            "import os\nos.write(1, b'trtcheck-child: {\"reply\": {')\nos.abort()",
            1,
            "ended by signal SIGABRT",
        ),
        ("import sys\nsys.exit('gone')", 2**20, "exit status 1; it said:\n    gone"),
    ],
)
def test_a_child_that_ends_while_it_writes_or_before_it_reads_is_told_and_leaves_no_open_pipe(
    program, content, request_size, found
):
    module = program(content)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(BackendError) as caught:
            child.call(module, {"much": "x" * request_size}, what="trying")
        assert str(caught.value).startswith(f"trying ended without an answer\n  found:    {found}\n  try:")
        del caught
        gc.collect()
    assert [str(warning.message) for warning in warned] == []


def test_a_child_is_ended_where_the_parent_gives_up(program, tmp_path):
    note = tmp_path / "pid"
    body = f"open({str(note)!r}, 'w').write(str(os.getpid()))\ntell(1)\nimport time\ntime.sleep(60)"
    module = program(serving(body))

    def give_up(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.call(module, {}, what="waiting", advance=give_up)
    assert not Path("/proc", note.read_text()).exists()
