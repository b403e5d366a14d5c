"""One measurement at a time on a device, among real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from trtcheck.latency.gpu_lock import timing_lock, using

GPU = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
OTHER = "GPU-ffffffff-0405-0607-0809-0a0b0c0d0e0f"

HOLD = """
import sys
from trtcheck.latency.gpu_lock import timing_lock, using
with {lock}({uuid!r}, lambda text: print("waits:", text, flush=True)):
    print("holds", flush=True)
    sys.stdin.readline()
"""

FORK = f"""
import os, signal
from trtcheck.latency.gpu_lock import timing_lock
with timing_lock({GPU!r}):
    child = os.fork()
    if child == 0:
        signal.pause()
with timing_lock({GPU!r}, print):
    print("free")
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


class Holder:
    """Another process that takes the lock, says so, and holds it until it is told to end."""

    def __init__(self, uuid: str | None, lock: str = "timing_lock") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(uuid=uuid, lock=lock)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Lets it go on, once it holds the lock."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def rest(self) -> str:
        """What it said until it ended."""
        return self.process.communicate(timeout=60)[0].strip()

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("uuid", [GPU, None], ids=["gpu", "processor"])
def test_a_second_process_waits_says_so_once_and_comes_next(uuid: str | None) -> None:
    with Holder(uuid) as first, Holder(uuid) as second:
        told = {first.line(), second.line()}
        assert "holds" in told
        [waiting] = told - {"holds"}
        device = "the processor" if uuid is None else f"the GPU {uuid}"
        assert waiting.startswith(f"waits: another process works on {device}")
        for holder in (first, second):  # whichever holds it ends now
            holder.end()
        assert {first.rest(), second.rest()} == {"", "holds"}


def test_other_gpus_and_the_processor_do_not_wait() -> None:
    with Holder(GPU) as holder:
        assert holder.line() == "holds"
        told: list[str] = []
        with timing_lock(OTHER, told.append), timing_lock(None, told.append):
            assert told == []


def test_a_process_that_is_killed_holds_nothing() -> None:
    with Holder(GPU) as holder:
        assert holder.line() == "holds"
    told: list[str] = []
    with timing_lock(GPU, told.append):
        assert told == []


def test_threads_of_one_process_exclude_each_other() -> None:
    inside, waits = threading.Event(), threading.Event()

    def later() -> None:
        with timing_lock(GPU, lambda _: waits.set()):
            inside.set()

    with timing_lock(GPU):
        thread = threading.Thread(target=later)
        thread.start()
        assert waits.wait(60)
        assert not inside.is_set()
    thread.join(60)
    assert inside.is_set()


def test_it_is_free_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), timing_lock(GPU):
        _ = 1 / 0
    told: list[str] = []
    with timing_lock(GPU, told.append):
        assert told == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_the_file_stays_and_may_be_locked_by_every_user(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with timing_lock(GPU):
            pass
    finally:
        os.umask(before)
    files = {file.name: file.stat().st_mode & 0o666 for file in folder.iterdir()}
    assert files == {f"trtcheck-timing-{GPU}.lock": 0o666, f"trtcheck-timing-{GPU}.gate": 0o666}


def test_where_it_cannot_be_locked_the_measurement_goes_on_and_says_so(folder: Path) -> None:
    (folder / f"trtcheck-timing-{GPU}.lock").mkdir()  # nothing that can be opened to be written, even by root
    told: list[str] = []
    with timing_lock(GPU, told.append) as unlocked:
        assert unlocked is not None
        assert unlocked.startswith(f"the GPU {GPU} is timed without keeping others from computing there: ")
    with using(GPU, told.append):
        pass
    assert told == []


def test_a_name_with_odd_signs_stays_in_the_folder(folder: Path) -> None:
    with timing_lock("GPU/../../x"):
        pass
    names = {file.name for file in folder.iterdir()}
    assert names == {"trtcheck-timing-GPU-x.lock", "trtcheck-timing-GPU-x.gate"}


shared_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shared locks")


@shared_locks
def test_those_who_compute_do_not_wait_for_each_other() -> None:
    told: list[str] = []
    with Holder(GPU, "using") as first, Holder(GPU, "using") as second:
        assert (first.line(), second.line()) == ("holds", "holds")
        with using(GPU, told.append), using(GPU, told.append):
            assert told == []


@shared_locks
@pytest.mark.parametrize("uuid", [GPU, None], ids=["gpu", "processor"])
def test_a_timing_waits_for_those_who_compute_and_they_for_the_timing(uuid: str | None) -> None:
    with Holder(uuid, "using") as computes, Holder(uuid) as times:
        told = {computes.line(), times.line()}
        assert "holds" in told
        [waiting] = told - {"holds"}
        assert waiting.startswith("waits: another process works on ")
        for holder in (computes, times):  # whichever holds it ends now
            holder.end()
        assert {computes.rest(), times.rest()} == {"", "holds"}


@shared_locks
def test_a_timing_comes_before_those_who_begin_to_compute_later() -> None:
    with Holder(GPU, "using") as early:
        assert early.line() == "holds"
        with Holder(GPU) as timing:
            assert timing.line().startswith("waits: ")
            with Holder(GPU, "using") as late:
                assert late.line().startswith("waits: ")  # although one that computes is there already
                early.end()
                assert timing.line() == "holds"
                timing.end()
                assert late.line() == "holds"


@shared_locks
def test_a_child_that_was_forked_meanwhile_holds_nothing() -> None:
    # In a process without threads, since Python warns of forking one that has some.
    done = subprocess.run(
        [sys.executable, "-c", FORK], timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("free\n", "")
