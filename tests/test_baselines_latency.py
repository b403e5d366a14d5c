"""Approved times: what a file holds, when it may be compared, how sessions add up, which engine is kept."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_baselines import evaluated

from trtcheck import approved_engines, digests
from trtcheck.backends.base import BackendInfo
from trtcheck.baselines import approve, latency_approve, latency_schema, latency_store, store
from trtcheck.baselines.latency_schema import LatencyBaseline, LatencyRun, StoredSession
from trtcheck.cache import Cache
from trtcheck.errors import BaselineError, EngineError, OptionError
from trtcheck.latency.environment import file_part, latency_environment
from trtcheck.latency.timing import Clock, TimingMode

HOST = TimingMode(Clock.HOST, transfers=False)
CPU = BackendInfo("onnxruntime-cpu", "1.31.1", "Some Processor", "")
HERE = latency_environment(CPU, HOST, gpu=None, threads=4)
THREADS = latency_environment(CPU, HOST, gpu=None, threads=8)
OTHER = latency_environment(
    replace(CPU, version="1.20.0"), replace(HOST, clock=Clock.DEVICE, transfers=True), gpu=None, threads=8
)
DIGEST = "sha256:" + "ab" * 32
WHERE = Path("baselines/cats/fp16/latency-b8-somewhere.json")


def session(number: int = 1, **changed: Any) -> StoredSession:
    made = StoredSession(
        id=f"s{number}", started=f"2025-11-{number:02}T10:00:00+00:00", engine_digest=DIGEST, rounds=12,
        median_ms=1.5 + number / 1000, p95_ms=1.75, throughput=5333.25, ratio=-0.8375, ratio_p95=-0.75,
        ratio_seconds=-0.8125, ratio_se=0.0012, reference="sha256:reference",
    )  # fmt: skip
    return replace(made, **changed)


def baseline(*sessions: StoredSession, **changed: Any) -> LatencyBaseline:
    made = LatencyBaseline(
        model="cats", engine="fp16", batch=8, environment=HERE, lowered="sha256:lowered",
        engine_digest=DIGEST, engine_suffix=".onnx", sessions=sessions or (session(1), session(2)),
    )  # fmt: skip
    return replace(made, **changed)


def run(number: int = 1, **changed: Any) -> LatencyRun:
    made = LatencyRun(
        model="cats", engine="fp16", batch=8, environment=HERE, lowered="sha256:lowered", engine_path=None,
        engine_suffix="", session=session(number),
    )  # fmt: skip
    return replace(made, **changed)


TEXT = latency_schema.dump(baseline())


def document(**changed: Any) -> str:
    return json.dumps({**json.loads(TEXT), **changed})


def with_session(**changed: Any) -> str:
    first, second = json.loads(TEXT)["sessions"]
    return document(sessions=[first, {**second, **changed}])


# the file


def test_a_baseline_comes_back_as_it_was():
    assert latency_schema.parse(TEXT, WHERE) == baseline()
    none = dict.fromkeys(("ratio", "ratio_p95", "ratio_seconds", "ratio_se", "reference"))
    bare = baseline(session(**none))
    assert latency_schema.parse(latency_schema.dump(bare), WHERE) == bare


def test_a_file_is_sorted_and_has_one_value_a_line_with_seven_digits():
    assert json.dumps(json.loads(TEXT), indent=1, sort_keys=True, ensure_ascii=False) + "\n" == TEXT
    text = latency_schema.dump(baseline(session(median_ms=1 / 3, ratio=-2 / 3)))
    assert '   "median_ms": 0.3333333,\n' in text
    assert '   "ratio": -0.6666667,\n' in text
    assert latency_schema.dump(latency_schema.parse(text, WHERE)) == text


def test_git_shows_a_session_more_as_lines_added(tmp_path):
    (tmp_path / "old").write_text(TEXT)
    (tmp_path / "new").write_text(latency_schema.dump(baseline(session(1), session(2), session(3))))
    command = ["git", "diff", "--no-index", "--numstat", str(tmp_path / "old"), str(tmp_path / "new")]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    added, removed = map(int, told.split()[:2])
    assert (added, removed) == (14, 0)


def damaged(text: str) -> str:
    with pytest.raises(BaselineError) as caught:
        latency_schema.parse(text, WHERE)
    assert str(WHERE) in str(caught.value).splitlines()[0]
    return str(caught.value)


def test_a_newer_schema_asks_for_an_upgrade():
    for text in (document(schema_version=2), '{"schema_version": 99}'):
        message = damaged(text)
        assert "written by a newer trtcheck" in message
        assert "pip install --upgrade pytest-trtcheck" in message


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "[" * 100_000, '{"schema_version": 1}', document(schema_version=True)]
)
def test_what_is_no_baseline_is_damage(text):
    message = damaged(text)
    assert "the baseline is damaged" in message
    assert f"git checkout -- {WHERE}" in message
    assert "--trt-update-baselines" in message


@pytest.mark.parametrize(
    "changed",
    [
        {"sessions": []}, {"sessions": None}, {"sessions": [{}]}, {"sessions": {"a": 1}}, {"sessions": [7]},
        {"sessions": json.loads(TEXT)["sessions"][:1] * 2}, {"batch": 0}, {"batch": "8"}, {"batch": True},
        {"batch": 8.0}, {"model": None}, {"engine": 1}, {"lowered": None}, {"engine_digest": 5},
        {"engine_suffix": None}, {"environment": []}, {"environment": None},
    ],
)  # fmt: skip
def test_fields_that_cannot_be_are_damage(changed):
    assert "the baseline is damaged" in damaged(document(**changed))


@pytest.mark.parametrize("name", ["median_ms", "p95_ms", "throughput"])
@pytest.mark.parametrize(
    "value", [0, -1.5, None, True, "1", float("nan"), float("inf"), 1e13, 1e-300, 10**400, []]
)
def test_times_that_cannot_be_are_damage(name, value):
    assert "the baseline is damaged" in damaged(with_session(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("rounds", 0), ("rounds", 1.5), ("id", 1), ("started", None), ("engine_digest", None),
     ("ratio", float("inf")), ("ratio", "0"), ("ratio", False), ("ratio_p95", float("nan")),
     ("ratio_seconds", 1000), ("ratio_se", -0.1), ("reference", 1)],
)  # fmt: skip
def test_sessions_that_cannot_be_are_damage(name, value):
    assert "the baseline is damaged" in damaged(with_session(**{name: value}))


def test_every_truncation_is_damage():
    for end in range(len(TEXT) - 2):
        damaged(TEXT[:end])


SCRAPS = st.one_of(
    st.text(max_size=6), st.sampled_from(["9" * 40, "null", "[]", "{}", "-1", "1e999", "NaN", "true"])
)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_change_is_read_or_refused_and_never_breaks(tmp_path_factory, data):
    start = data.draw(st.integers(0, len(TEXT) - 1))
    stop = data.draw(st.integers(start, min(len(TEXT), start + 40)))
    text = TEXT[:start] + data.draw(SCRAPS) + TEXT[stop:]
    root = tmp_path_factory.getbasetemp() / "mutated"
    place(root, run(), text)
    place(root, run(environment=THREADS), text)  # there it is of another environment
    there = [latency_approve.state(root, run()), latency_approve.state(root, run(environment=OTHER))]
    assert there[0]["status"] in ("compared", "refused")
    assert there[1]["status"] == "missing"
    written = latency_approve.write(root, root, run(3), [], interrupted=False)
    assert written["status"] == "written"
    assert latency_approve.state(root, run())["status"] == "compared"


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(sorted(json.loads(TEXT))),
)
def test_any_value_in_a_field_is_read_or_refused(tmp_path_factory, value, name):
    root = tmp_path_factory.getbasetemp() / "fields"
    place(root, run(), document(**{name: value}))
    assert latency_approve.state(root, run())["status"] in ("compared", "refused")
    assert latency_approve.state(root, run(environment=OTHER))["status"] == "missing"


# where it is, and whether it may be compared


def path_of(root: Path, of: LatencyRun) -> Path:
    return latency_store.path_of(root, of.model, of.engine, of.batch, of.environment)


def place(root: Path, of: LatencyRun, text: str) -> Path:
    path = path_of(root, of)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def find(root: Path, of: LatencyRun) -> latency_store.ApprovedLatency:
    return latency_store.find(root, of.model, of.engine, of.batch, of.environment, of.lowered)


def test_the_path_is_model_engine_batch_and_environment(tmp_path):
    expected = tmp_path / "cats" / "fp16" / f"latency-b8-{file_part(HERE)}.json"
    assert path_of(tmp_path, run()) == expected
    places = {path_of(tmp_path, run(environment=each)) for each in (HERE, THREADS, OTHER)}
    assert len(places) == 3
    assert path_of(tmp_path, run(batch=64)).name.startswith("latency-b64-")


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "😀", "a\\b", "x" * 300, "a\nb"])
def test_hostile_names_stay_below_the_folder(name, tmp_path):
    root = tmp_path / "deep" / "baselines"
    of = run(model=name, engine=name)
    assert latency_approve.write(root, tmp_path, of, [], interrupted=False)["status"] == "written"
    assert path_of(root, of).resolve().parents[2] == root.resolve()
    assert find(root, of).baseline.model == name


def test_a_missing_baseline_names_the_command(tmp_path):
    found = find(tmp_path / "none", run())
    assert (found.baseline, found.elsewhere) == (None, None)
    assert found.notes == (
        f"no latency baseline yet: none/cats/fp16/latency-b8-{file_part(HERE)}.json; "
        "what makes it: the same command with --trt-update-baselines",
    )


def test_another_environment_is_never_compared_and_the_closest_is_shown(tmp_path):
    for environment in (OTHER, THREADS):
        made = baseline(environment=environment)
        place(tmp_path, run(environment=environment), latency_schema.dump(made))
    found = find(tmp_path, run())
    assert found.baseline is None
    assert found.elsewhere == THREADS  # one difference; the other has several
    beside = found.notes[1]
    assert f"latency-b8-{file_part(THREADS)}.json" in beside
    assert "is not compared" in beside
    assert "threads: approved with 8, here 4" in beside


@pytest.mark.parametrize(
    "changed", [{"model": "dogs"}, {"engine": "int8"}, {"batch": 9}], ids=["model", "engine", "batch"]
)
def test_what_is_no_baseline_of_this_engine_is_no_neighbour(changed, tmp_path):
    place(tmp_path, run(environment=OTHER), latency_schema.dump(baseline(environment=OTHER, **changed)))
    place(tmp_path, run(environment=THREADS), "{")
    place(tmp_path, run(batch=80, environment=THREADS), latency_schema.dump(baseline(batch=80)))
    assert find(tmp_path, run()).elsewhere is None


def test_a_file_that_was_renamed_to_another_environment_is_refused(tmp_path):
    place(tmp_path, run(), latency_schema.dump(baseline(environment=THREADS)))
    with pytest.raises(BaselineError, match="was made elsewhere, and times of two environments are never"):
        find(tmp_path, run())
    state = latency_approve.state(tmp_path, run())
    assert (state["status"], state["sessions"]) == ("refused", 0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "dogs"}, r"dogs\[fp16\] at batch 8"),
        ({"engine": "int8"}, r"cats\[int8\] at batch 8"),
        ({"batch": 1}, r"cats\[fp16\] at batch 1"),
    ],
)
def test_a_file_of_something_else_is_refused(changed, words, tmp_path):
    place(tmp_path, run(), latency_schema.dump(baseline(**changed)))
    with pytest.raises(BaselineError, match=rf"expected: cats\[fp16\] at batch 8\n  found:    {words}"):
        find(tmp_path, run())


def test_a_changed_model_is_compared_and_said(tmp_path):
    place(tmp_path, run(), TEXT)
    assert find(tmp_path, run()).notes == ()
    found = find(tmp_path, run(lowered="sha256:else"))
    assert len(found.baseline.sessions) == 2
    assert "changed since the baseline was approved (lowered -> else)" in found.notes[0]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_a_damaged_file_is_refused_with_its_path(content, tmp_path):
    path = place(tmp_path, run(), "")
    path.write_bytes(content)
    with pytest.raises(BaselineError, match=r"the baseline (is damaged|cannot be read)") as caught:
        find(tmp_path, run())
    assert str(path) in str(caught.value).splitlines()[0]


def test_latency_files_are_no_accuracy_baselines_of_another_environment(tmp_path):
    latency_approve.write(tmp_path, tmp_path, run(), [], interrupted=False)
    assert "there is one for" not in store.find(tmp_path, evaluated()).notes[0]


# sessions add up


def approved_ids(root: Path) -> list[str]:
    return [session.id for session in find(root, run()).baseline.sessions]


def write(root: Path, of: LatencyRun, items=(), *, interrupted: bool = False) -> dict[str, Any]:
    return latency_approve.write(root, root.parent / "cache", of, items, interrupted=interrupted)


def test_every_approval_adds_a_session_and_the_newest_is_last(tmp_path):
    root = tmp_path / "baselines"
    states = [write(root, run(number)) for number in range(1, 7)]
    assert {state["status"] for state in states} == {"written"}
    assert [state["sessions"] for state in states] == [1, 2, 3, 4, 5, 6]
    assert approved_ids(root) == ["s1", "s2", "s3", "s4", "s5", "s6"]
    path = f"baselines/cats/fp16/latency-b8-{file_part(HERE)}.json"
    assert states[0]["path"] == path
    assert states[0]["message"] == (f"written: {path} (1 session; a comparison needs 5)")
    assert states[4]["message"] == f"written: {path} (5 sessions)"
    assert latency_approve.state(root, run())["sessions"] == 6


def test_a_session_counts_once_however_often_it_is_approved(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path, run(number))
    path = path_of(tmp_path, run())
    before = path.stat().st_mtime_ns, path.read_bytes()
    again = write(tmp_path, run(2))
    assert (again["status"], again["sessions"]) == ("unchanged", 3)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    rerun = write(tmp_path, run(session=session(3, median_ms=1.25)))
    assert (rerun["status"], rerun["sessions"]) == ("written", 3)
    assert find(tmp_path, run()).baseline.sessions[-1].median_ms == 1.25
    assert approved_ids(tmp_path) == ["s1", "s2", "s3"]


def test_the_oldest_sessions_go(tmp_path):
    many = [session(k, id=str(k)) for k in range(latency_store.MOST_SESSIONS)]
    place(tmp_path, run(), latency_schema.dump(baseline(*many)))
    write(tmp_path, run(1))
    ids = approved_ids(tmp_path)
    assert (len(ids), ids[0], ids[-1]) == (latency_store.MOST_SESSIONS, "1", "s1")


def test_sessions_of_another_model_do_not_stay(tmp_path):
    for number in (1, 2):
        write(tmp_path, run(number))
    state = write(tmp_path, run(3, lowered="sha256:else"))
    assert state["sessions"] == 1
    assert "begun anew, since the lowered model or its build changed: dropped 2 sessions" in state["message"]
    found = find(tmp_path, run(lowered="sha256:else"))
    assert ([s.id for s in found.baseline.sessions], found.notes) == (["s3"], ())


def test_sessions_of_a_rebuilt_engine_stay_and_the_last_engine_is_the_approved_one(tmp_path):
    write(tmp_path, run(1))
    other = "sha256:" + "cd" * 32
    write(tmp_path, run(session=session(2, engine_digest=other), engine_suffix=".engine"))
    found = find(tmp_path, run()).baseline
    assert (found.engine_digest, found.engine_suffix, len(found.sessions)) == (other, ".engine", 2)


@pytest.mark.parametrize("content", ["{", latency_schema.dump(baseline(model="dogs"))])
def test_a_file_that_may_not_be_compared_is_replaced_and_that_is_said(content, tmp_path):
    place(tmp_path, run(), content)
    state = write(tmp_path, run())
    assert (state["status"], state["sessions"]) == ("written", 1)
    assert "what was there is replaced" in state["message"]
    assert approved_ids(tmp_path) == ["s1"]


def item(check: str, verdict: str, *, strict: bool = False) -> dict[str, Any]:
    fails = verdict in ("fail", "error") or (strict and verdict == "inconclusive")
    name = "latency-b8" if check == "latency" else check
    return {"check": check, "verdict": verdict, "fails": fails, "nodeid": f"t.toml::cats[fp16]::{name}"}


@pytest.mark.parametrize(
    ("of", "items", "interrupted", "reason"),
    [
        (run(unhealthy=("the GPU throttled", "it is hot")), (), False, "the GPU throttled; it is hot"),
        (run(), [item("recall", "fail"), item("latency", "pass")], False, "recall failed"),
        (run(), [item("latency", "fail")], False, "latency failed"),
        (run(), [item("latency", "error")], False, "latency failed"),
        (run(), [item("outputs", "inconclusive", strict=True)], False, "outputs failed"),
        (run(), (), True, "the run was interrupted"),
        (
            run(session=session(median_ms=float("nan"))),
            (),
            False,
            "a figure is none: nan is no finite number",
        ),
        (run(session=session(throughput=0.0)), (), False, "a figure is none: 0.0 is not above 0"),
    ],
)
def test_an_unhealthy_run_approves_nothing(of, items, interrupted, reason, tmp_path):
    root = tmp_path / "baselines"
    state = write(root, of, items, interrupted=interrupted)
    assert (state["status"], state["sessions"]) == ("not written", 0)
    assert state["message"] == f"not written: {reason}"
    assert list(tmp_path.iterdir()) == []
    write(root, run(1))
    state = write(root, replace(of, session=replace(of.session, id="s2")), items, interrupted=interrupted)
    assert (state["status"], state["sessions"]) == ("not written", 1)
    assert approved_ids(root) == ["s1"]


def test_a_first_session_can_be_approved_where_inconclusive_fails(tmp_path):
    items = [item("build", "pass"), item("latency", "inconclusive", strict=True)]
    assert write(tmp_path, run(), items)["status"] == "written"


def test_times_are_approved_without_answers(tmp_path):
    assert write(tmp_path, run(), [item("latency", "pass")])["status"] == "written"


ANSWERS = ("build", "outputs", "batch_invariance", "accuracy", "recall", "precision")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], "written"),
        ([item("latency", "skipped")], "written"),
        ([item("latency", "inconclusive", strict=True)], "written"),
        ([item("latency", "pass")], "written"),
        ([item("latency", "fail")], "not written: latency failed"),
        ([item("latency", "error")], "not written: latency failed"),
    ],
)
def test_answers_are_approved_without_times_but_not_of_an_engine_that_failed(times, expected, tmp_path):
    evaluation = evaluated()
    evaluation.record["checks"] = [*ANSWERS, "latency"]
    items = [item(check, "pass") for check in ANSWERS] + times
    state = approve.write(tmp_path / "baselines", evaluation, items, interrupted=False)
    assert state["message"].startswith(expected)
    lacking = approve.write(tmp_path / "baselines", evaluation, items[1:], interrupted=False)
    assert lacking["status"] == "not written"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "baselines").write_text("")
    state = write(tmp_path / "baselines", run())
    assert state["status"] == "failed"
    assert "the baseline cannot be written" in state["message"]


def test_an_ordinary_run_says_how_the_baseline_stands(tmp_path):
    root = tmp_path / "baselines"
    missing = latency_approve.state(root, run())
    assert (missing["status"], missing["sessions"]) == ("missing", 0)
    assert "no latency baseline yet" in missing["message"]
    write(root, run())
    compared = latency_approve.state(root, run())
    assert compared == {
        "status": "compared", "path": missing["path"], "message": "the approved baseline was compared",
        "sessions": 1,
    }  # fmt: skip
    changed = latency_approve.state(root, run(lowered="sha256:else"))
    assert changed["status"] == "compared"
    assert "the lowered model, or how it is built, changed" in changed["message"]
    elsewhere = latency_approve.state(root, run(environment=THREADS))
    assert elsewhere["status"] == "missing"
    assert "is not compared" in elsewhere["message"]


# the approved engine's file


def made_engine(folder: Path, content: bytes = b"engine", name: str = "model.onnx") -> tuple[Path, str]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path, digests.of_files([path])


def test_the_engine_that_was_timed_is_kept_by_its_digest(tmp_path):
    root, cache = tmp_path / "baselines", tmp_path / "cache"
    engine, digest = made_engine(tmp_path)
    of = run(session=session(engine_digest=digest), engine_path=str(engine), engine_suffix=".onnx")
    assert write(root, of)["status"] == "written"
    engine.write_bytes(b"built anew")
    there = find(root, of).baseline
    kept = approved_engines.find(cache, there.engine_digest, there.engine_suffix)
    assert kept.read_bytes() == b"engine"
    assert kept.suffix == ".onnx"
    assert approved_engines.find(cache, DIGEST, ".onnx") is None


def test_an_engine_that_was_lost_is_kept_again_though_the_baseline_does_not_change(tmp_path):
    root, cache = tmp_path / "baselines", tmp_path / "cache"
    engine, digest = made_engine(tmp_path)
    of = run(session=session(engine_digest=digest), engine_path=str(engine), engine_suffix=".onnx")
    write(root, of)
    approved_engines.find(cache, digest, ".onnx").unlink()
    assert write(root, of)["status"] == "unchanged"
    assert approved_engines.find(cache, digest, ".onnx") is not None


@pytest.mark.parametrize("state", ["changed", "gone"])
def test_an_engine_that_is_not_the_timed_one_is_not_approved(state, tmp_path):
    engine, digest = made_engine(tmp_path)
    of = run(session=session(engine_digest=digest), engine_path=str(engine), engine_suffix=".onnx")
    if state == "changed":
        engine.write_bytes(b"other")
    else:
        engine.unlink()
    found = write(tmp_path / "baselines", of)
    assert found["status"] == "failed"
    assert str(engine) in found["message"]
    assert not (tmp_path / "baselines").exists()
    assert approved_engines.find(tmp_path / "cache", digest, ".onnx") is None


def test_a_cache_that_cannot_be_written_is_told_and_nothing_approved(tmp_path):
    (tmp_path / "cache").write_text("")
    engine, digest = made_engine(tmp_path)
    of = run(session=session(engine_digest=digest), engine_path=str(engine), engine_suffix=".onnx")
    found = write(tmp_path / "baselines", of)
    assert found["status"] == "failed"
    assert "--trt-cache=DIR" in found["message"]
    assert not (tmp_path / "baselines").exists()


def test_a_damaged_engine_is_reported_and_none(tmp_path, caplog):
    engine, digest = made_engine(tmp_path)
    kept = approved_engines.keep(tmp_path / "cache", engine, digest)
    kept.write_bytes(b"enginf")
    assert approved_engines.find(tmp_path / "cache", digest, ".onnx") is None
    assert f"the approved engine {kept} is damaged" in caplog.text
    kept.write_bytes(b"enginf")
    approved_engines.keep(tmp_path / "cache", engine, digest)  # one that is damaged is not taken for kept
    assert approved_engines.find(tmp_path / "cache", digest, ".onnx").read_bytes() == b"engine"


def test_an_engine_of_the_cache_takes_no_more_room_and_outlives_its_entry(tmp_path):
    cache = Cache(tmp_path / "cache")
    entry = cache.get_or_make("engines", DIGEST, lambda folder: made_engine(folder) and {})
    engine = entry.folder / "model.onnx"
    digest = digests.of_files([engine])
    kept = approved_engines.keep(cache.root, engine, digest)
    assert kept.samefile(engine)
    cache.get_or_make(
        "engines", DIGEST, lambda folder: made_engine(folder, b"new") and {}, stale=lambda: True
    )
    assert approved_engines.find(cache.root, digest, ".onnx").read_bytes() == b"engine"


def test_an_engine_that_is_kept_already_is_not_asked_for_again(tmp_path):
    engine, digest = made_engine(tmp_path)
    kept = approved_engines.keep(tmp_path / "cache", engine, digest)
    engine.unlink()
    os.utime(kept, (1000.0, 1000.0))
    assert approved_engines.keep(tmp_path / "cache", engine, digest) == kept
    assert kept.stat().st_mtime > 1000.0  # used now


def test_a_users_own_file_is_copied_since_it_may_be_written_again(tmp_path):
    engine, digest = made_engine(tmp_path, name="net.plan")
    kept = approved_engines.keep(tmp_path / "cache", engine, digest)
    with engine.open("r+b") as file:  # as trtexec --saveEngine does
        file.write(b"ENGINE")
    assert approved_engines.find(tmp_path / "cache", digest, ".plan") == kept


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../../secret", "sha256:" + "A" * 64, "x" * 64])
def test_a_digest_that_is_none_leads_nowhere(digest, tmp_path):
    engine, _ = made_engine(tmp_path)
    assert approved_engines.find(tmp_path, digest, ".onnx") is None
    with pytest.raises(EngineError, match="no digest"):
        approved_engines.keep(tmp_path, engine, digest)


@pytest.mark.parametrize("suffix", ["/../../secret", ".a/b", "..", ".lock", ".cache", ".a b", "\n", "." * 50])
def test_a_suffix_never_leads_out_of_the_folder(suffix, tmp_path):
    engine, digest = made_engine(tmp_path, name="model")
    kept = approved_engines.keep(tmp_path / "cache", engine, digest)
    assert approved_engines.find(tmp_path / "cache", digest, suffix) == kept


def test_a_disk_that_fills_up_leaves_no_part_of_an_engine(tmp_path, monkeypatch):
    engine, digest = made_engine(tmp_path)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OptionError, match="--trt-cache=DIR"):
        approved_engines.keep(tmp_path / "cache", engine, digest)
    assert [path.suffix for path in (tmp_path / "cache" / "approved").iterdir()] == [".lock"]


# what is kept is bounded

DAY = 24 * 3600.0
SIZE = 10_000


def kept_engine(root: Path, number: int, days: float) -> Path:
    engine, digest = made_engine(root.parent / "own", bytes([number]) * SIZE)
    kept = approved_engines.keep(root, engine, digest)
    os.utime(kept, (time.time() - days * DAY,) * 2)
    return kept


def entry(root: Path, number: int, days: float) -> Path:
    def make(folder: Path) -> dict[str, Any]:
        made_engine(folder, bytes([number]) * SIZE)
        return {}

    folder = Cache(root).get_or_make("engines", "sha256:" + f"{number:02}" * 32, make).folder
    os.utime(folder / "manifest.json", (time.time() - days * DAY,) * 2)
    return folder


def test_an_approved_engine_counts_and_goes_a_month_later_than_an_entry(tmp_path):
    root = tmp_path / "cache"
    old, recent = kept_engine(root, 1, days=45), kept_engine(root, 2, days=20)
    entries = [entry(root, 3, days=16), entry(root, 4, days=1)]
    everything, left = [old, recent, *entries], []
    for limit in (4.5 * SIZE, 3.5 * SIZE, 2.5 * SIZE, 1.5 * SIZE, 0):
        Cache(root).trim(int(limit), unused_since=time.time())
        left.append([place for place in everything if place.exists()])
    # 45 days are as 15 of an entry: younger than 16, older than 1.
    assert left == [everything, [old, recent, entries[1]], [recent, entries[1]], [recent], []]


def test_an_approved_engine_that_was_just_used_stays_however_large(tmp_path):
    root, started = tmp_path / "cache", time.time() - 60
    kept = kept_engine(root, 1, days=300)
    assert approved_engines.find(root, digests.of_files([kept]), kept.suffix) == kept
    unused = kept_engine(root, 2, days=1)
    assert Cache(root).trim(0, unused_since=started) == 1
    assert (kept.exists(), unused.exists()) == (True, False)


def test_an_engine_that_is_linked_counts_once(tmp_path):
    root = tmp_path / "cache"
    folder = entry(root, 1, days=2)
    engine = folder / "model.onnx"
    approved_engines.keep(root, engine, digests.of_files([engine]))
    room = SIZE + 1000  # of the engine and the entry's manifest
    assert Cache(root).trim(room, unused_since=time.time() + 60) == 0
    assert folder.exists()
