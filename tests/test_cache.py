"""Cache entries: made once, whole or not at all, remade where damaged."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trtcheck.cache import MANIFEST, Cache, write_atomically
from trtcheck.errors import LoweringError, OptionError

KEY = "sha256:" + "ab" * 32


class Maker:
    """Writes a file and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> dict[str, object]:
        self.calls += 1
        (folder / "model.onnx").write_bytes(b"graph")
        return {"nodes": 7}


def test_an_entry_is_made_once(tmp_path):
    make, cache = Maker(), Cache(tmp_path / "deep" / "cache")
    assert cache.get("lowered", KEY) is None
    first = cache.get_or_make("lowered", KEY, make)
    second = Cache(tmp_path / "deep" / "cache").get_or_make("lowered", KEY, make)
    assert make.calls == 1
    assert (first.fresh, second.fresh) == (True, False)
    assert first.manifest == second.manifest
    assert second.manifest["nodes"] == 7
    assert (second.folder / "model.onnx").read_bytes() == b"graph"
    assert cache.get("lowered", KEY) == second
    assert cache.get("engines", KEY) is None
    assert cache.get("lowered", KEY.replace("ab", "cd")) is None


def change(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"grapH")


def truncate(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"")


def remove(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def in_manifest(text: str):
    return lambda folder: (folder / MANIFEST).write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        change, truncate, remove, lambda folder: (folder / MANIFEST).unlink(),
        in_manifest(""), in_manifest("{"), in_manifest("[]"), in_manifest("null"), in_manifest("\x00"),
        in_manifest("{}"), in_manifest('{"files": []}'),
        in_manifest('{"files": {"model.onnx": 7}}'), in_manifest('{"files": {"../../x": "sha256:"}}'),
        in_manifest('{"files": {"a\\u0000b": ""}}'), in_manifest("[" * 100_000),
        lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_reported_and_made_anew(damage, tmp_path, caplog):
    make, cache = Maker(), Cache(tmp_path)
    folder = cache.get_or_make("lowered", KEY, make).folder
    damage(folder)
    with caplog.at_level(logging.WARNING, "trtcheck"):
        entry = cache.get_or_make("lowered", KEY, make)
    assert f"damaged cache entry {folder}" in caplog.text
    assert (make.calls, entry.fresh, entry.manifest["nodes"]) == (2, True, 7)
    assert (entry.folder / "model.onnx").read_bytes() == b"graph"
    assert cache.get("lowered", KEY) is not None


def test_a_damaged_entry_is_no_entry(tmp_path):
    cache = Cache(tmp_path)
    change(cache.get_or_make("lowered", KEY, Maker()).folder)
    assert cache.get("lowered", KEY) is None


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, LoweringError])
def test_what_was_not_finished_is_never_seen(error, tmp_path):
    cache = Cache(tmp_path)

    def fail(folder: Path) -> dict[str, object]:
        (folder / "model.onnx").write_bytes(b"half")
        assert cache.get("lowered", KEY) is None
        raise error("stop")

    with pytest.raises(error, match="stop"):
        cache.get_or_make("lowered", KEY, fail)
    assert cache.get("lowered", KEY) is None
    assert [path.suffix for path in (tmp_path / "lowered").iterdir()] == [".lock"]
    assert cache.get_or_make("lowered", KEY, Maker()).fresh


@pytest.mark.parametrize("named", [True, False])
def test_a_disk_that_fills_up_while_an_entry_is_made_names_the_option(named, tmp_path):
    def fail(folder: Path) -> dict[str, object]:
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", *([str(folder / "model.onnx")] * named))

    with pytest.raises(OptionError, match=r"No space left[\s\S]*--trt-cache=DIR") as caught:
        Cache(tmp_path).get_or_make("lowered", KEY, fail)
    assert str(tmp_path) in str(caught.value).splitlines()[0]
    assert [path.suffix for path in (tmp_path / "lowered").iterdir()] == [".lock"]


def test_a_file_elsewhere_is_not_blamed_on_the_cache_folder(tmp_path):
    def fail(folder: Path) -> dict[str, object]:
        (tmp_path / "model.onnx").read_bytes()
        return {}

    with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
        Cache(tmp_path / "cache").get_or_make("lowered", KEY, fail)


def test_errors_for_people_pass_unchanged(tmp_path):
    def fail(folder: Path) -> dict[str, object]:
        raise LoweringError("cannot be lowered")

    with pytest.raises(LoweringError, match=r"^cannot be lowered$"):
        Cache(tmp_path).get_or_make("lowered", KEY, fail)


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    cache = Cache(tmp_path)
    killed, writing, begun = (cache.temporary("lowered") for _ in range(3))
    for folder in (killed, writing):
        (folder / "0.npy").write_bytes(b"half")
    long_ago = time.time() - 25 * 3600
    os.utime(killed / "0.npy", (long_ago, long_ago))
    for folder in (killed, writing):
        os.utime(folder, (long_ago, long_ago))
    cache.get_or_make("lowered", KEY, Maker())
    assert not killed.exists()
    assert (writing / "0.npy").exists()  # still written to
    assert begun.exists()


def test_a_cache_folder_that_cannot_be_used_names_the_option(tmp_path):
    blocked = tmp_path / "cache"
    blocked.write_text("a file stands here")
    for use in (
        lambda cache: cache.get_or_make("lowered", KEY, Maker()),
        lambda cache: cache.temporary("reference"),
        lambda cache: cache.locked("reference", KEY).__enter__(),
    ):
        with pytest.raises(OptionError, match="--trt-cache=DIR") as caught:
            use(Cache(blocked))
        assert str(blocked) in str(caught.value).splitlines()[0]
    assert Cache(blocked).get("lowered", KEY) is None


def test_lock_files_stay(tmp_path):
    entry = Cache(tmp_path).get_or_make("lowered", KEY, Maker())
    Cache(tmp_path).get_or_make("lowered", KEY, Maker())
    assert entry.folder.with_suffix(".lock").is_file()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_others_may_read_an_entry(tmp_path):
    umask = os.umask(0o022)
    try:
        entry = Cache(tmp_path).get_or_make("lowered", KEY, Maker())
    finally:
        os.umask(umask)
    assert entry.folder.stat().st_mode & 0o777 == 0o755


RACE = """
import sys, time
from pathlib import Path
from trtcheck.cache import Cache

def make(folder):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    (folder / "half").write_text("1")
    time.sleep(0.3)
    (folder / "whole").write_text("2")
    return {}

print("ready", flush=True)
sys.stdin.readline()
entry = Cache(Path(sys.argv[1])).get_or_make("engines", "k" * 40, make)
print(sorted(p.name for p in entry.folder.iterdir()))
"""


def test_processes_that_come_at_once_make_an_entry_once(tmp_path):
    log = tmp_path / "log"
    arguments = [sys.executable, "-c", RACE, str(tmp_path / "cache"), str(log)]
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
    assert found == ["['half', 'manifest.json', 'whole']\n"] * 3
    assert log.read_text() == "made\n"


def test_write_atomically_replaces_the_whole_file(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_atomically(path, "ä\n" * 3)
    write_atomically(path, "b\n")
    assert path.read_bytes() == b"b\n"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize("moment", ["replace", "chmod"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(moment, tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def fail(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, moment, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]  # noqa: PTH208 - Path is what fails here


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_written_file_is_readable_for_those_whom_umask_lets(tmp_path):
    umask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file.json", "{}")
        assert os.umask(0o027) == 0o027  # untouched
    finally:
        os.umask(umask)
    assert (tmp_path / "file.json").stat().st_mode & 0o777 == 0o640


def test_manifests_are_json_for_people(tmp_path):
    folder = Cache(tmp_path).get_or_make("lowered", KEY, Maker()).folder
    text = (folder / MANIFEST).read_text()
    assert json.loads(text)["files"]["model.onnx"].startswith("sha256:")
    assert "\n" in text


def used_at(cache: Cache, key: str, when: float) -> Path:
    folder = cache.get_or_make("engines", key, Maker()).folder
    os.utime(folder / MANIFEST, (when, when))
    return folder


def test_what_was_used_longest_ago_is_removed_first(tmp_path):
    cache, now = Cache(tmp_path), time.time()
    old, middle, new = (used_at(cache, KEY.replace("ab", part), now - age) for part, age in
                        (("01", 300), ("02", 200), ("03", 100)))  # fmt: skip
    size = sum(path.stat().st_size for path in new.iterdir())
    assert cache.trim(3 * size, unused_since=now) == 0
    assert cache.trim(2 * size, unused_since=now) == 1
    assert (old.exists(), middle.exists(), new.exists()) == (False, True, True)
    assert cache.get("engines", KEY.replace("ab", "02")) is not None  # used now, so the newest
    assert cache.trim(size, unused_since=time.time() + 1) == 1
    assert (middle.exists(), new.exists()) == (True, False)
    assert not list(tmp_path.rglob(".making-*"))


def test_what_this_run_used_stays_however_large(tmp_path):
    cache, started = Cache(tmp_path), time.time() - 1
    entry = cache.get_or_make("engines", KEY, Maker())
    assert cache.trim(0, unused_since=started) == 0
    assert entry.folder.exists()


def test_an_entry_that_is_being_used_by_another_is_not_removed(tmp_path):
    cache = Cache(tmp_path)
    folder = used_at(cache, KEY, 1000.0)
    with cache.locked("engines", KEY):
        assert cache.trim(0, unused_since=time.time()) == 0
    assert folder.exists()
    assert cache.trim(0, unused_since=time.time()) == 1
    assert not folder.exists()


def test_what_another_session_at_work_used_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("trtcheck.cache._BEGINS", 0.0)
    cache, later = Cache(tmp_path), time.time() + 100
    unused = used_at(cache, KEY.replace("ab", "01"), 1000.0)
    end = cache.begin_session()
    used = cache.get_or_make("engines", KEY, Maker()).folder
    assert cache.trim(0, unused_since=later) == 1
    assert (unused.exists(), used.exists()) == (False, True)
    end()
    assert cache.trim(0, unused_since=later) == 1
    assert not used.exists()
    assert not list((tmp_path / "sessions").iterdir())


def test_a_session_that_has_just_begun_counts_before_it_holds_its_lock(tmp_path):
    cache = Cache(tmp_path)
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / f"{int(time.time())}-begins.lock").touch()
    used = cache.get_or_make("engines", KEY, Maker()).folder
    assert cache.trim(0, unused_since=time.time() + 100) == 0
    assert used.exists()


def test_a_session_that_ended_keeps_nothing(tmp_path):
    cache = Cache(tmp_path)
    end = cache.begin_session()
    used = cache.get_or_make("engines", KEY, Maker()).folder
    end()
    assert cache.trim(0, unused_since=time.time() + 100) == 1
    assert not used.exists()


def test_a_cache_that_can_only_be_read_is_read_fake(tmp_path, monkeypatch):
    """A fake for the system's refusal alone: nothing is refused to root."""
    cache = Cache(tmp_path)
    made = cache.get_or_make("engines", KEY, Maker())

    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr("os.utime", refuse)
    cache.begin_session()()
    assert cache.get_or_make("engines", KEY, Maker()).folder == made.folder
    with pytest.raises(OptionError, match="the cache folder cannot be used"):
        cache.get_or_make("lowered", KEY, Maker())


def test_files_that_backends_keep_count_and_are_removed_too(tmp_path):
    cache = Cache(tmp_path)
    (tmp_path / "timing").mkdir()
    kept = tmp_path / "timing" / "gpu.cache"
    kept.write_bytes(bytes(1000))
    os.utime(kept, (1000.0, 1000.0))
    entry = used_at(cache, KEY, 2000.0)
    assert cache.trim(900, unused_since=time.time()) == 1
    assert (kept.exists(), entry.exists()) == (False, True)


@pytest.mark.parametrize("change", [{"facts": {}}, {"nodes": None}, {}])
def test_a_manifest_that_says_something_else_is_damaged(tmp_path, change):
    cache, make = Cache(tmp_path), Maker()
    folder = cache.get_or_make("engines", KEY, make).folder
    told = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({"files": told["files"], **change}))
    assert cache.get_or_make("engines", KEY, make).repaired
    assert make.calls == 2


def test_what_is_made_anew_replaces_what_was_there_in_one_step(tmp_path):
    cache, make = Cache(tmp_path), Maker()
    old = cache.get_or_make("engines", KEY, make)

    def look(folder):
        assert (old.folder / "model.onnx").is_file()  # whoever reads it meanwhile still can
        return make(folder)

    new = cache.get_or_make("engines", KEY, look, stale=lambda: True)
    assert (new.folder, make.calls, new.repaired) == (old.folder, 2, False)
    assert not list(tmp_path.rglob(".making-*"))


def test_an_entry_can_be_made_anew_although_it_is_whole(tmp_path):
    cache, make = Cache(tmp_path), Maker()
    cache.get_or_make("engines", KEY, make)
    again = cache.get_or_make("engines", KEY, make, stale=lambda: True)
    assert (make.calls, again.fresh, again.repaired) == (2, True, False)


def test_a_remade_entry_says_that_it_was_damaged(tmp_path):
    cache, make = Cache(tmp_path), Maker()
    first = cache.get_or_make("engines", KEY, make)
    change(first.folder)
    again = cache.get_or_make("engines", KEY, make)
    assert (first.repaired, again.repaired, make.calls) == (False, True, 2)
