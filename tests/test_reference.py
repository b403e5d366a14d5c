"""The reference's answers: computed once, then read; kept whole or not at all."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from trtcheck import reference
from trtcheck.cache import Cache
from trtcheck.data.batches import Batch
from trtcheck.errors import EngineError, ModelError
from trtcheck.reference import CachedReference, LiveReference, open_reference

KEY = "sha256:" + "12" * 32
N, SIZE = 10, 4


class FakeSession:
    """Answers with functions of its input, and counts."""

    signature = None

    def __init__(self, **outputs) -> None:
        self.outputs = outputs or {"y": lambda x: np.sin(x) / 3, "k": lambda x: x.astype(np.int64)}
        self.batches = self.closed = 0

    def infer(self, feeds):
        self.batches += 1
        return {name: function(feeds["x"]) for name, function in self.outputs.items()}

    def close(self) -> None:
        self.closed += 1


def batches(count: int = N, padded: bool = True) -> Iterator[Batch]:
    """Images that are their own index, the last batch padded."""
    for start in range(0, count, SIZE):
        stop = min(start + SIZE, count)
        rows = np.arange(start, start + SIZE if padded else stop)
        yield Batch(start, stop - start, {"x": np.minimum(rows, stop - 1)[:, None].astype(np.float32)})


def everything(answering) -> dict[str, np.ndarray]:
    found = [answering.answers(batch) for batch in batches()]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def left(cache: Cache) -> set[str]:
    """What is in the cache folder besides locks."""
    folder = cache.root / "reference"
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"} if folder.is_dir() else set()


def open_it(cache: Cache, session: FakeSession):
    return open_reference(cache, KEY, N, lambda: session)


def test_the_second_pass_reads_what_the_first_computed(tmp_path):
    cache, session = Cache(tmp_path), FakeSession()
    with open_it(cache, session) as live:
        assert isinstance(live, LiveReference)
        first = everything(live)
    assert (session.batches, session.closed) == (3, 1)

    def never():
        raise AssertionError("loaded the model although its answers are there")

    with open_reference(cache, KEY, N, never) as cached:
        assert isinstance(cached, CachedReference)
        second = everything(cached)
    assert list(second) == list(first) == ["y", "k"]
    for name, values in first.items():
        assert second[name].dtype == values.dtype
        assert second[name].tobytes() == values.tobytes()
        assert second[name].shape == (N, 1)  # padding is not kept


def test_another_key_is_computed_anew(tmp_path):
    cache, session = Cache(tmp_path), FakeSession()
    for key in (KEY, KEY.replace("12", "34")):
        with open_reference(cache, key, N, lambda: session) as live:
            everything(live)
    assert session.batches == 6


def test_a_pass_that_breaks_off_leaves_nothing_behind(tmp_path):
    cache, session = Cache(tmp_path), FakeSession()

    def broken(error: type[BaseException]) -> None:
        with open_it(cache, session) as live:
            live.answers(next(batches()))
            raise error("stop")

    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error, match="stop"):
            broken(error)
    assert session.closed == 2
    assert left(cache) == set()
    with open_it(cache, session) as live:
        assert isinstance(live, LiveReference)


def test_a_pass_over_a_part_is_not_kept(tmp_path):
    cache = Cache(tmp_path)
    with open_it(cache, FakeSession()) as live:
        live.answers(next(batches()))
    assert left(cache) == set()


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(tmp_path):
    def broken():
        raise ModelError("no such ONNX file")

    with pytest.raises(ModelError, match="no such"), open_reference(Cache(tmp_path), KEY, N, broken):
        pass
    assert left(Cache(tmp_path)) == set()


def test_damaged_answers_are_computed_anew(tmp_path, caplog):
    cache = Cache(tmp_path)
    with open_it(cache, FakeSession()) as live:
        first = everything(live)
    [name] = left(cache)
    path = tmp_path / "reference" / name / "0.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    session = FakeSession()
    with open_it(cache, session) as live:
        assert everything(live)["y"].tobytes() == first["y"].tobytes()
    assert session.batches == 3
    assert "damaged cache entry" in caplog.text


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": lambda x: np.zeros((len(x), 1 + int(x[0, 0])), np.float32)},  # a shape that depends on the data
        {"y": lambda x: x.astype(np.float16 if x[0, 0] else np.float32)},
        {"y": lambda x: x.astype(ml_dtypes.bfloat16)},  # .npy does not know the type
        {"y": lambda x: np.array([["a"]] * len(x), object)},  # would need pickle
    ],
)
def test_what_cannot_be_kept_is_computed_every_time(outputs, tmp_path):
    cache, session = Cache(tmp_path), FakeSession(**outputs)
    for _ in range(2):
        with open_it(cache, session) as live:
            found = [live.answers(batch)["y"] for batch in batches()]
        assert [len(values) for values in found] == [4, 4, 2]
    assert session.batches == 6
    assert left(cache) == set()


def test_answers_too_large_to_keep_are_computed_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "LARGEST_KEPT", N * 12 - 1)  # y and k take 12 bytes an image
    cache, session = Cache(tmp_path), FakeSession()
    for _ in range(2):
        with open_it(cache, session) as live:
            everything(live)
    assert session.batches == 6
    assert left(cache) == set()
    monkeypatch.setattr(reference, "LARGEST_KEPT", N * 12)
    with open_it(cache, session) as live:
        everything(live)
    assert len(left(cache)) == 1


def test_an_output_of_no_elements_is_kept(tmp_path):
    cache = Cache(tmp_path)
    session = FakeSession(boxes=lambda x: np.zeros((len(x), 0), np.float32))
    for _ in range(2):
        with open_it(cache, session) as answering:
            assert everything(answering)["boxes"].shape == (N, 0)
    assert session.batches == 3


@pytest.mark.parametrize(
    "function", [lambda x: np.float32(1), lambda x: x[:1], lambda x: np.concatenate([x, x])]
)
def test_an_output_without_a_row_an_image_is_refused(function, tmp_path):
    cache = Cache(tmp_path)
    answering = open_it(cache, FakeSession(y=lambda x: np.asarray(function(x))))
    with (
        pytest.raises(EngineError, match="output 'y' of the reference has no row for each image"),
        answering as live,
    ):
        everything(live)
    assert left(cache) == set()


def test_two_passes_at_once_keep_one(tmp_path):
    cache = Cache(tmp_path)
    with open_it(cache, FakeSession()) as one, open_it(cache, FakeSession()) as other:
        assert everything(one)["y"].tobytes() == everything(other)["y"].tobytes()
    assert len(left(cache)) == 1
    with open_it(cache, FakeSession()) as cached:
        assert isinstance(cached, CachedReference)


def open_files(folder) -> list[str]:
    """Names of the files below *folder* that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this listing
            if folder in (target := link.readlink()).parents:
                found.append(target.name)
    return sorted(name for name in found if name.endswith(".npy"))


needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="lists open files by /proc")


@needs_proc
def test_no_file_is_open_when_the_folder_is_renamed(tmp_path, monkeypatch):
    """Windows renames no folder in which a file is open."""
    seen = []
    commit = Cache.commit
    monkeypatch.setattr(Cache, "commit", lambda *a: (seen.append(open_files(tmp_path)), commit(*a))[1])
    with open_it(Cache(tmp_path), FakeSession()) as live:
        everything(live)
        assert open_files(tmp_path) == ["0.npy", "1.npy"]
    assert seen == [[]]
    with open_it(Cache(tmp_path), FakeSession()) as cached:
        everything(cached)
        assert open_files(tmp_path) == ["0.npy", "1.npy"]
    assert open_files(tmp_path) == []


@needs_proc
def test_no_file_is_open_when_the_folder_of_a_broken_pass_is_removed(tmp_path, monkeypatch):
    seen = []
    rmtree = reference.shutil.rmtree
    monkeypatch.setattr(
        reference.shutil, "rmtree", lambda *a, **k: (seen.append(open_files(tmp_path)), rmtree(*a, **k))
    )
    odd = Batch(SIZE, SIZE, {"x": np.zeros((0, 1), np.float32)})
    session = FakeSession(y=lambda x: x if len(x) else np.float32(1))
    with pytest.raises(EngineError), open_it(Cache(tmp_path), session) as live:  # noqa: PT012 - one pass
        live.answers(next(batches()))
        assert open_files(tmp_path) == ["0.npy"]
        live.answers(odd)
    assert seen == [[]]


@needs_proc
def test_neither_writing_nor_reading_maps_a_file(tmp_path):
    for _ in range(2):
        with open_it(Cache(tmp_path), FakeSession()) as answering:
            everything(answering)
            assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_what_is_kept_is_what_numpy_would_save(tmp_path):
    cache, session = Cache(tmp_path), FakeSession()
    with open_it(cache, session) as live:
        found = everything(live)
    [name] = left(cache)
    for k, values in enumerate(found.values()):
        np.save(tmp_path / "saved.npy", values)
        kept = tmp_path / "reference" / name / f"{k}.npy"
        assert kept.read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_batches_may_come_in_any_order(tmp_path):
    cache = Cache(tmp_path)
    with open_it(cache, FakeSession()) as live:
        for batch in reversed(list(batches())):
            live.answers(batch)
    with open_it(cache, FakeSession()) as cached:
        whole = cached.answers(Batch(0, N, {}))
        part = cached.answers(Batch(3, 2, {}))
    assert whole["k"].ravel().tolist() == list(range(N))
    assert part["k"].ravel().tolist() == [3, 4]


@needs_proc
def test_answers_that_are_removed_meanwhile_can_still_be_read(tmp_path):
    cache = Cache(tmp_path)
    with open_it(cache, FakeSession()) as live:
        first = everything(live)
    with open_it(cache, FakeSession()) as cached:
        reference.shutil.rmtree(tmp_path / "reference")
        assert everything(cached)["y"].tobytes() == first["y"].tobytes()


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_full_disk_keeps_nothing_and_fails_nothing(when, tmp_path, monkeypatch, caplog):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    name = "_reserve" if when == "at once" else "write"
    monkeypatch.setattr(reference._Kept, name, full)
    cache, session = Cache(tmp_path), FakeSession()
    for _ in range(2):
        with open_it(cache, session) as live:
            assert everything(live)["k"].ravel().tolist() == list(range(N))
    assert session.batches == 6
    assert left(cache) == set()
    assert caplog.text.count("the reference's answers are not kept: [Errno 28] No space left") == 2


def test_a_file_takes_its_room_before_the_first_answer(tmp_path):
    with open_it(Cache(tmp_path), FakeSession(y=lambda x: np.zeros((len(x), 1000), np.float32))) as live:
        live.answers(next(batches()))
        [file] = tmp_path.glob("reference/.making-*/0.npy")
        assert file.stat().st_size > N * 4000


@pytest.mark.parametrize("span", [range(4), range(8, 10)])
def test_a_part_is_kept_as_an_entry_of_its_own(span, tmp_path):
    cache, session = Cache(tmp_path), FakeSession()
    own = [batch for batch in batches() if batch.start in span]
    for _ in range(2):
        with open_reference(cache, KEY, N, lambda: session, span) as answering:
            found = [answering.answers(batch)["k"].ravel().tolist() for batch in own]
        assert found == [list(span)]
    assert session.batches == 1
    assert len(left(cache)) == 1


def test_parts_of_answers_that_are_too_many_together_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "LARGEST_KEPT", N * 12 - 1)
    cache = Cache(tmp_path)
    with open_reference(cache, KEY, N, FakeSession, range(SIZE)) as live:
        live.answers(next(batches()))
    assert left(cache) == set()
