"""Reports of several jobs as one, and the command that makes it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report_html import FASHION, assert_sound, document, evaluated
from test_report_latency import timed

from trtcheck import cli
from trtcheck.report import folder, html, pictures, view
from trtcheck.report.command import render
from trtcheck.report.merge import Part, merged


def job(device: str, *engines: Any, data: str = "sha256:d", **changed: Any) -> dict[str, Any]:
    made = copy.deepcopy(document(*engines))
    made["environment"]["backend"]["device"] = device
    for model in made["models"]:
        model["data"]["digest"] = data
    return {**made, **changed}


def fashion(engine: str, ruined: bool = False) -> Any:
    return evaluated("fashion", engine, FASHION, 100, {"Shirt": ("Coat", 0.8)} if ruined else {})


def test_engines_of_several_jobs_stand_in_one_report(tmp_path):
    parts = [Part("a", job("L4", fashion("fp16"))), Part("b", job("A10", fashion("int8", ruined=True)))]
    found = merged(parts)
    assert [engine["engine"] for engine in found["engines"]] == ["fp16", "int8"]
    assert found["verdict"] == "fail"
    [model] = found["models"]
    assert (model["engines"], model["verdict"]) == (["fp16", "int8"], "fail")
    assert found["false_alarm"]["tests"] == sum(part.document["false_alarm"]["tests"] for part in parts)
    assert [(own["name"], own["verdict"]) for own in found["jobs"]] == [("A10", "fail"), ("L4", "pass")]
    assert found["differences"] == []
    pages = assert_sound(found, tmp_path)
    assert {"fashion--fp16.html", "fashion--int8.html"} <= pages.keys()
    facts = {engine.engine: {fact.term: fact.text for fact in engine.facts} for engine in view.engines(found)}
    assert {engine: own["job"] for engine, own in facts.items()} == {"FP16": "L4", "INT8": "A10"}
    table = view.index(found).jobs
    assert [(row.name, row.cells[0].word, row.cells[2]) for row in table.rows] == [
        ("A10", "fail", "A10"), ("L4", "pass", "L4")
    ]  # fmt: skip


def test_the_same_engine_of_two_jobs_is_kept_twice_and_told_apart():
    slow = {**timed("int8", 8, 1.6), "model": "fashion", "speedups": {"int8": {"ratio": 1.0}}, "absent": {}}
    one = job("L4", fashion("int8"))
    one["items"].append(slow)
    found = merged([Part("a", one), Part("b", job("A10", fashion("int8", ruined=True)))])
    assert [engine["engine"] for engine in found["engines"]] == ["int8 @ A10", "int8 @ L4"]
    verdicts = {engine["engine"]: engine["verdict"] for engine in found["engines"]}
    assert verdicts == {"int8 @ A10": "fail", "int8 @ L4": "pass"}
    [item] = [item for item in found["items"] if item["check"] == "latency"]
    assert (item["engine"], list(item["speedups"])) == ("int8 @ L4", ["int8 @ L4"])
    assert view.headline(found).startswith("INT8 @ A10 fails: recall of 'Shirt' fell")


def test_jobs_of_equal_devices_are_told_apart_by_their_folders():
    parts = [Part(name, job("L4", fashion("int8"))) for name in ("north", "south", "south")]
    found = merged(parts)
    assert [own["name"] for own in found["jobs"]] == ["L4 (north)", "L4 (south)", "L4 (south) 2"]
    assert len({engine["engine"] for engine in found["engines"]}) == 3


def test_what_the_jobs_used_of_a_model_and_was_not_the_same_is_said(tmp_path):
    other = job("A10", fashion("int8"), data="sha256:0ther")
    other["models"][0]["gates"] = {"recall_drop": 0.5}
    sure = job("L4", fashion("fp16"), data="sha256:5ame")
    sure["models"][0]["gates"] = {"recall_drop": 0.01}
    found = merged(
        [Part("a", sure), Part("b", other), Part("c", job("T4", fashion("fp32"), data="sha256:5ame"))]
    )
    data, limits = found["differences"]
    assert (
        data
        == "fashion: the evaluation data are not the same in all jobs: 0ther on 'A10'; 5ame on 'L4', 'T4'"
    )
    assert limits.startswith("fashion: the limits are not the same in all jobs: ")
    page = assert_sound(found, tmp_path)["index.html"]
    assert data in page.text
    assert found["models"][0]["data"]["digest"] == "sha256:0ther"  # of the first job; the others keep theirs
    assert [own["models"][0]["data"]["digest"] for own in found["jobs"]][1:] == ["sha256:5ame"] * 2


def test_classes_that_two_jobs_list_otherwise_are_not_mixed_silently(tmp_path):
    others = ["Cat", "Dog"]
    found = merged(
        [
            Part("a", job("L4", fashion("int8"))),
            Part("b", job("A10", evaluated("fashion", "int8", others, 100, {}))),
        ]
    )
    assert found["differences"][0].startswith("fashion: the classes are not the same in all jobs: ")
    assert {e["engine"]: len(e["classes"]) for e in found["engines"]} == {"int8 @ A10": 2, "int8 @ L4": 10}
    assert_sound(found, tmp_path)


def test_a_model_that_one_job_skipped_is_told_by_the_other():
    skipped = job("A10", fashion("int8"))
    [model] = skipped["models"]
    model |= {"model": None, "data": None, "calibration": None, "classes": [], "gates": None}
    found = merged([Part("a", skipped), Part("b", job("L4", fashion("fp16")))])
    [model] = found["models"]
    assert model["data"]["digest"] == "sha256:d"
    assert model["classes"] == FASHION
    assert model["engines"] == ["fp16", "int8"]


def test_the_run_tells_what_the_jobs_have_in_common():
    ci = {"name": "GitHub Actions", "commit": "f00", "ref": "main", "url": "https://example.org/1"}
    one, two = job("L4", fashion("fp16")), job("A10", fashion("int8"))
    one["run"] |= {"started": "2026-11-02T10:00:00+00:00", "seconds": 10.5, "command": "a", "ci": ci}
    two["run"] |= {"started": "2026-11-02T09:00:00+00:00", "seconds": 1.25, "command": "b"}
    two["run"]["ci"] = {**ci, "url": "https://example.org/2"}
    run = merged([Part("a", one), Part("b", two)])["run"]
    assert (run["started"], run["seconds"], run["jobs"]) == ("2026-11-02T09:00:00+00:00", 11.75, 2)
    assert run["command"] is None
    assert run["ci"] == {**ci, "url": None}
    assert view.index(merged([Part("a", one), Part("b", two)])).run[1].term == "duration of all jobs together"


def test_an_engine_that_is_called_like_another_of_a_job_stays_itself():
    parts = [
        Part("a", job("L4", fashion("int8"), fashion("int8 @ L4", ruined=True))),
        Part("b", job("A10", fashion("int8"))),
    ]
    found = merged(parts)
    assert {e["engine"]: e["verdict"] for e in found["engines"]} == {
        "int8 @ A10": "pass", "int8 @ L4": "fail", "int8 @ L4 2": "pass"
    }  # fmt: skip
    assert len(html.render(found)) == 5


def run_of(number: int, device: str, *engines: str) -> dict[str, Any]:
    """A run of a history, as far as merging reads it."""
    rows = [{"model": "fashion", "engine": engine, "verdict": "pass"} for engine in engines]
    return {
        "id": f"{number:08x}", "started": f"2026-11-{number:02}T10:00:00+00:00",
        "environment": {"device": device}, "engines": rows,
    }  # fmt: skip


def history_of(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(run["id"][-1], sorted(e["engine"] for e in run["engines"])) for run in found["history"]["runs"]]


def test_jobs_that_share_a_history_keep_the_runs_of_each_device_apart():
    runs = [run_of(1, "L4", "int8"), run_of(2, "A10", "int8"), run_of(3, "L4", "int8", "fp16")]
    kept = {"unreadable": 1, "runs": runs}
    one = job("L4", fashion("int8"), fashion("fp16"), history=kept)
    two = job("A10", fashion("int8"), history=kept)
    found = merged([Part("a", one), Part("b", two)])
    assert history_of(found) == [("1", ["int8 @ L4"]), ("2", ["int8 @ A10"]), ("3", ["fp16", "int8 @ L4"])]
    assert found["history"]["unreadable"] == 2
    alone = merged([Part("a", one), Part("b", job("T4", fashion("fp32")))])
    assert history_of(alone) == [("1", ["int8"]), ("2", ["int8"]), ("3", ["fp16", "int8"])]


# in any order, at once or one after another

ENGINES = ("fp16", "int8", "int8-qat")


def some_job(number: int, device: str, engines: list[str], *, ruined: bool) -> Part:
    made = job(device, *(fashion(engine, ruined) for engine in engines), data=f"sha256:{ruined}")
    made["run"]["started"] = f"2026-11-02T10:{number:02}:00+00:00"
    made["items"].append(
        {
            **timed(engines[0], 8, 1.6), "model": "fashion", "absent": {},
            "contestants": {name: {} for name in engines[1:]},
            "speedups": {"reference": {"ratio": 2.0}, **{name: {"ratio": 1.5} for name in engines[1:]}},
        }
    )  # fmt: skip
    runs = [run_of(number + 1, device, *engines), run_of(30, "L4", *engines)]
    return Part(f"job-{number}", {**made, "history": {"unreadable": number, "runs": runs}})


@st.composite
def jobs(draw: st.DrawFn) -> list[Part]:
    return [
        some_job(
            number,
            draw(st.sampled_from(["L4", "A10"])),
            draw(st.lists(st.sampled_from(ENGINES), min_size=1, unique=True)),
            ruined=draw(st.booleans()),
        )
        for number in range(draw(st.integers(3, 4)))
    ]


@settings(max_examples=25, deadline=None)
@given(parts=jobs(), seed=st.randoms(use_true_random=False), cut=st.integers(1, 2))
def test_neither_the_order_of_the_jobs_nor_earlier_merging_changes_anything(parts, seed, cut):
    at_once = merged(parts)
    shuffled = list(parts)
    seed.shuffle(shuffled)
    assert merged(shuffled) == at_once
    rest, first = shuffled[cut:], shuffled[:cut]
    before = Part("before", merged(first)) if len(first) > 1 else first[0]
    again = Part("again", merged(rest))
    assert merged([again, before]) == at_once


def test_every_contestant_is_an_engine_of_the_same_job():
    parts = [some_job(k, device, list(ENGINES), ruined=False) for k, device in enumerate(["L4", "A10"])]
    found = merged(parts)
    names = {engine["engine"] for engine in found["engines"]}
    timed_items = [item for item in found["items"] if item["check"] == "latency"]
    assert len(timed_items) == 2
    for item in timed_items:
        assert set(item["contestants"]) <= names
        assert set(item["speedups"]) - {"reference"} == set(item["contestants"])
        assert {name.partition(" @ ")[2] for name in item["contestants"]} == {item["job"]}


# the command


def written(path: Path, document: dict[str, Any], drawn: dict[str, bytes] | None = None) -> Path:
    folder.write(document, path, drawn)
    return path


def told(capsys, *args: object) -> tuple[int, str, str]:
    status = cli.main(["report", *map(str, args)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_report_is_made_anew_in_its_place(tmp_path, capsys):
    source = written(tmp_path / "reports", job("L4", fashion("fp16")))
    index = (source / "index.html").read_text(encoding="utf-8")
    (source / "index.html").unlink()
    status, out, _ = told(capsys, source / "report.json")
    assert status == 0
    assert out.splitlines()[-1] == f"report: {source}/index.html"
    assert (source / "index.html").read_text(encoding="utf-8") == index


def test_two_real_runs_become_one_report_with_their_pictures(suite, capsys):
    suite.data("calibration.npz", images=suite_images() // 40)
    suite.run("--trt-engine=int8", report="one")
    suite.run("--trt-engine=fp16,fp32", report="two")
    assert told(capsys, suite.path / "one", suite.path / "two", f"--out={suite.path / 'all'}")[0] == 0
    found = suite.report("all")
    assert [engine["engine"] for engine in found["engines"]] == ["fp16", "fp32", "int8"]
    shown = pictures.referenced(found)
    assert shown == {f"pictures/{path.name}" for path in (suite.path / "all" / "pictures").iterdir()}
    assert shown == pictures.referenced(suite.report("one")) | pictures.referenced(suite.report("two"))
    assert len(found["history"]["runs"]) == 2


def suite_images():
    import suite_models

    return suite_models.images(64, seed=1)[0]


def test_other_pictures_of_the_same_name_are_both_kept(tmp_path):
    from test_report_gallery import flip, png, with_flips

    sources = []
    for number, side in enumerate((8, 9)):
        made = document(with_flips(flip(5)))
        made["environment"]["backend"]["device"] = f"GPU {number}"
        [path] = pictures.referenced(made)
        sources.append(written(tmp_path / f"job{number}", made, {path: png(side)}))
    render(sources, tmp_path / "all")
    found = json.loads((tmp_path / "all" / "report.json").read_text(encoding="utf-8"))
    names = sorted(pictures.referenced(found))
    assert names == ["pictures/fashion--0--5-2.png", "pictures/fashion--0--5.png"]
    contents = {(tmp_path / "all" / name).read_bytes() for name in names}
    assert contents == {png(8), png(9)}


def test_pictures_that_are_gone_are_told_and_paths_out_of_the_folder_are_not_followed(tmp_path, capsys):
    from test_report_gallery import flip, png, with_flips

    (tmp_path / "secret.png").write_bytes(png())
    made = document(with_flips(flip(5), flip(6, picture="../secret.png")))
    source = written(tmp_path / "reports", made, {})
    (source / "report.json").write_text(json.dumps(made), encoding="utf-8")
    status, out, _ = told(capsys, source, f"--out={tmp_path / 'out'}")
    assert status == 0
    assert out.startswith("warning: 2 pictures are left out, being not there or not ours, first ")
    assert "<img" not in (tmp_path / "out" / "fashion--int8.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no report"),
        ("{", "the report cannot be read"),
        ('{"mine": 1}', "this is no report of trtcheck"),
        ('{"schema_version": 2, "items": []}', "another version of trtcheck"),
        ('{"schema_version": 1, "items": []}', "the report"),
    ],
    ids=["missing", "damaged", "foreign", "newer", "parts missing"],
)
def test_what_cannot_be_read_is_one_clear_error(content, words, tmp_path, capsys):
    source = tmp_path / "reports"
    source.mkdir()
    if content is not None:
        (source / "report.json").write_text(content, encoding="utf-8")
    status, _, err = told(capsys, source)
    assert status == 2
    assert words in err
    assert "Traceback" not in err
    assert [path.name for path in source.iterdir()] == ([] if content is None else ["report.json"])


def test_folders_that_cannot_be_used_together(tmp_path, capsys):
    one = written(tmp_path / "one", job("L4", fashion("fp16")))
    two = written(tmp_path / "two", job("L4", fashion("int8")))
    before = (two / "report.json").read_bytes()
    for args, words in (
        ((one, two), "needs a folder of its own"),
        ((one, two, f"--out={two}"), "which is one of them"),
        ((one, one, f"--out={tmp_path / 'out'}"), "is named twice"),
    ):
        status, _, err = told(capsys, *args)
        assert (status, words in err) == (2, True), err
    assert (two / "report.json").read_bytes() == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "index.html").write_text("mine")
    status, _, err = told(capsys, one, two, f"--out={foreign}")
    assert (status, (foreign / "index.html").read_text()) == (2, "mine")
    assert "was not written by trtcheck" in err


def test_a_report_of_before_these_fields_can_be_made_anew(tmp_path, capsys):
    old = job("L4", fashion("int8", ruined=True))
    for engine in old["engines"]:
        for flip in engine["flips"]["worst"]:
            for field in ("top_before", "top_after", "picture", "file", "row"):
                flip.pop(field, None)
    source = tmp_path / "reports"
    source.mkdir()
    (source / "report.json").write_text(json.dumps(old), encoding="utf-8")
    assert told(capsys, source)[0] == 0
    assert html.render(old)["index.html"]
