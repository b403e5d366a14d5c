"""The folder of a session: it goes with the session, or with the next one where that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from trtcheck import session_folder
from trtcheck.session_folder import OWNER, SessionFolder

HOLD = """
import sys, time
from trtcheck.session_folder import SessionFolder
folder = SessionFolder()
(folder.path / "evaluation.json").write_text("{}")
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of its own, in which no lock is too young to be judged."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(session_folder, "_BEGINS", 0.0)


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a session's folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    time.sleep(0.01)
    yield process, path
    process.kill()
    process.wait()
    process.stdout.close()


def test_it_goes_when_it_is_closed(tmp_path):
    with closing(SessionFolder()) as folder:
        assert folder.path.parent == tmp_path
        assert not folder.used
        (folder.path / "evaluation.json").write_text("{}")
        assert folder.used
    assert not list(tmp_path.iterdir())


def test_what_a_killed_session_left_is_removed_by_the_next(other):
    process, left = other
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (left / "evaluation.json").is_file()
    with closing(SessionFolder()) as folder:
        assert not left.exists()
        assert folder.path.is_dir()


def test_the_folder_of_a_session_at_work_stays(other):
    _, theirs = other
    with closing(SessionFolder()):
        assert (theirs / "evaluation.json").is_file()
    with closing(SessionFolder()):
        assert (theirs / "evaluation.json").is_file()


def test_a_lock_that_was_just_made_is_no_proof_of_death(tmp_path, monkeypatch):
    monkeypatch.setattr(session_folder, "_BEGINS", 60.0)
    young = tmp_path / "trtcheck-young"
    young.mkdir()
    (young / OWNER).touch()
    with closing(SessionFolder()):
        assert young.is_dir()


def test_nothing_else_is_touched(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    for name in ("trtcheck-without-lock", "other-tool", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    (tmp_path / "other-tool" / OWNER).touch()
    (elsewhere / OWNER).touch()
    (tmp_path / "trtcheck-link").symlink_to(elsewhere)
    (tmp_path / "trtcheck-timing.lock").touch()
    foreign = tmp_path / "trtcheck-foreign"
    foreign.mkdir()
    (foreign / OWNER).touch()
    real = os.getuid()
    with closing(SessionFolder()):
        assert not foreign.exists()
    foreign.mkdir()
    (foreign / OWNER).touch()
    monkeypatch.setattr(os, "getuid", lambda: real + 1)  # as if another user ran pytest
    with closing(SessionFolder()):
        assert foreign.is_dir()
    for name in ("trtcheck-without-lock", "other-tool", "elsewhere"):
        assert (tmp_path / name / "precious").exists()
    assert (tmp_path / "trtcheck-timing.lock").exists()
