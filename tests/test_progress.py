from __future__ import annotations

import io
import logging
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from trtcheck import progress
from trtcheck.progress import LoggedProgress, TerminalProgress


class Clock:
    """A clock that tests set."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Screen:
    """What a terminal was told, and what was asked of pytest on the way."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.calls: list[str] = []
        self.open = 0

    @contextmanager
    def uncaptured(self) -> Iterator[None]:
        self.open += 1
        yield
        self.open -= 1

    def fresh_line(self) -> None:
        assert self.open
        self.calls.append("fresh line")


@pytest.fixture
def screen(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(
        "rich.console.Console", lambda: Console(file=screen.text, force_terminal=True, width=80, _environ={})
    )
    return screen


def test_long_work_is_logged_every_ten_seconds_and_at_its_end(clock, caplog):
    caplog.set_level(logging.INFO, "trtcheck")
    with LoggedProgress().task("evaluating x", 100) as advance:
        for _ in range(25):
            clock.now += 1
            advance(4)
    assert [record.getMessage() for record in caplog.records] == [
        "evaluating x: 40 of 100", "evaluating x: 80 of 100", "evaluating x: done in 25.0 s",
    ]  # fmt: skip


def test_work_of_unknown_length_is_logged_without_a_total(clock, caplog):
    caplog.set_level(logging.INFO, "trtcheck")
    with LoggedProgress().task("lowering x") as advance:
        clock.now += 10
        advance(1)
    assert caplog.records[0].getMessage() == "lowering x: 1"


def test_work_that_fails_is_not_logged_as_done(clock, caplog):
    caplog.set_level(logging.INFO, "trtcheck")
    with pytest.raises(ValueError), LoggedProgress().task("evaluating x", 9):
        raise ValueError
    assert not caplog.records


def test_short_work_leaves_the_terminal_alone(clock, screen):
    with TerminalProgress(screen.uncaptured, screen.fresh_line).task("evaluating x", 10) as advance:
        for _ in range(9):
            clock.now += 0.1
            advance(1)
    assert screen.text.getvalue() == ""
    assert screen.calls == []


def test_longer_work_draws_one_line_on_a_line_of_its_own_and_removes_it(clock, screen):
    with TerminalProgress(screen.uncaptured, screen.fresh_line).task("evaluating x[fp16]", 40) as advance:
        for _ in range(30):
            clock.now += 0.1
            advance(1)
    assert screen.calls == ["fresh line"]
    assert screen.open == 0
    text = screen.text.getvalue()
    assert "evaluating x[fp16]" in text
    shown = [int(done) for done in re.findall(r"(\d+)/40", text)]
    assert shown == sorted(shown)
    assert 5 < len(set(shown)) < 15
    assert re.search(r"\x1b\[2K\s*$", text.removesuffix("\x1b[?25h")) or text.rstrip().endswith("\x1b[2K")


def test_the_line_goes_when_the_work_fails(clock, screen):
    task = TerminalProgress(screen.uncaptured, screen.fresh_line).task("evaluating x", 4)

    def fail() -> None:
        with task as advance:
            clock.now += 2
            advance(1)
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert "\x1b[?25h" in screen.text.getvalue()  # the cursor is back
    assert screen.open == 0


def on_a_terminal(command: list[str], cwd) -> str:
    """Everything that *command* writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    read = b""
    while True:
        select.select([ours], [], [], 60)
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not part:
            break
        read += part
    os.close(ours)
    assert process.wait(60) == 0
    return read.decode()


def screen_of(text: str) -> list[str]:
    """The lines that stay on the screen: cursor movements and erasures played back."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b"):
            count = int(re.sub(r"\D", "", token) or 1)
            if token.endswith("A"):
                row = max(0, row - count)
            elif token == "\x1b[2K":
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return lines


@pytest.mark.parametrize("capture", ["fd", "no"])
def test_on_a_terminal_no_line_is_garbled(suite, capture):
    suite.pytester.makeconftest(
        """
        import time

        from trtcheck import progress
        from trtcheck.backends.onnxruntime import OrtSession

        progress.SHOW_AFTER = 0.05
        progress.REDRAW_EVERY = 0.01
        plain = OrtSession.infer

        def slow(self, feeds):
            time.sleep(0.02)
            return plain(self, feeds)

        OrtSession.infer = slow
        """
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "trtcheck",
        "--trt-engine=fp16,int8",
        "--trt-cache=cache",
    ]
    text = on_a_terminal([*command, f"--capture={capture}"], suite.path)
    assert re.search(r"evaluating tiny\[fp16\].* \d+/240", text)
    left = [line.rstrip() for line in screen_of(text) if line.strip()]
    assert not [line for line in left if "evaluating" in line or "━" in line]
    start = left.index(next(line for line in left if line.startswith("trtcheck.toml")))
    end = left.index(next(line for line in left if "= trtcheck =" in line))
    for line in left[start:end]:
        assert re.fullmatch(r"(trtcheck\.toml)? ?\.* *(\[ *\d+%\])?", line)
    assert "".join(left[start:end]).replace("trtcheck.toml", "").count(".") == 13
    assert any(line.startswith("PASS         tiny[fp16]") for line in left)
