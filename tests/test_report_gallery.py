"""The gallery of changed answers: real suites, the pages, and the picture files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_models
from PIL import Image
from test_evaluation import judged, record
from test_report_html import FASHION, HOSTILE, assert_sound, document, evaluated

import trtcheck
from trtcheck import samples
from trtcheck.errors import ReportError
from trtcheck.metrics.flips import Flip, Flips
from trtcheck.report import html, pictures, view
from trtcheck.samples import Sample


def flip(index=5, truth="Shirt", before="Shirt", after="Coat", **more):
    return {
        "index": index, "truth": truth, "before": before, "after": after, "confidence_before": 0.9,
        "confidence_after": None if after is None else 0.6, "lost": 0.5, "file": None, "row": None,
        "picture": f"pictures/fashion--0--{index}.png", "top_after": [["Coat", 0.6]],
        "top_before": [["Shirt", 0.9], ["Coat", 0.08], ["Bag", 1e-6]], **more,
    }  # fmt: skip


def with_flips(*flips: dict, total: int | None = None):
    engine, items = evaluated("fashion", "int8", FASHION, 100, {})
    counts = {"total": len(flips) if total is None else total, "broken": 0, "fixed": 0, "churn": 0.1}
    return {**engine, "flips": {**counts, "worst": list(flips)}}, items


def png(side: int = 8) -> bytes:
    return samples.png(Image.new("L", (side, side)))


def test_cards_are_grouped_by_class_the_one_with_most_broken_answers_first():
    flips = [
        flip(1, "Bag", "Coat", "Bag", lost=0.9), flip(2, "Shirt", lost=0.8), flip(3, None, lost=0.7),
        flip(4, "Shirt", lost=0.6), flip(6, "Bag", "Coat", "Shirt"), flip(7, "Coat", "Coat", None),
    ]  # fmt: skip
    [page] = view.engines(document(with_flips(*flips)))
    groups = page.gallery.groups
    told = [(group.name, [(card.place, card.kind.word) for card in group.cards]) for group in groups]
    assert told == [
        ("Shirt", [("image 2", "broken"), ("image 4", "broken")]),
        ("Coat", [("image 7", "broken")]),
        ("Bag", [("image 1", "fixed"), ("image 6", "wrong both times")]),
        ("no label", [("image 3", "changed")]),
    ]
    assert page.gallery.groups[1].cards[0].after.name == "no answer"
    assert page.gallery.sentence.startswith("All, by true class")
    assert page.gallery.rest is None


def test_the_best_classes_stand_side_by_side(tmp_path):
    found = document(with_flips(flip(5)))
    pages = _written(found, tmp_path)
    [card] = view.engines(found)[0].gallery.groups[0].cards
    assert card.best == (
        (("Shirt", ".900"), ("Coat", ".600")), (("Coat", ".080"), ("", "")), (("Bag", "< .001"), ("", "")),
    )  # fmt: skip
    assert 'alt="image 5, a &#39;Shirt&#39;"' in pages
    assert 'id="image-5"' in pages


def _written(found: dict, folder: Path) -> str:
    """The page of the engine, written with all its pictures, after it was found to be sound."""
    assert_sound(found, folder)
    html.write(found, folder, dict.fromkeys(pictures.referenced(found), png()))
    return (folder / "fashion--int8.html").read_text(encoding="utf-8")


def test_pages_without_flips_say_so_in_a_sentence(tmp_path):
    page = _written(document(with_flips()), tmp_path)
    assert "No answer changed." in page


def test_cards_are_bounded_and_the_rest_is_a_table():
    [page] = view.engines(document(with_flips(*(flip(k) for k in range(100)), total=3000)))
    assert sum(len(group.cards) for group in page.gallery.groups) == 48
    assert page.gallery.sentence.startswith("The worst 48 of 3000")
    assert (len(page.gallery.rest.rows), len(page.gallery.rest.folded)) == (0, 52)
    many = [evaluated("fashion", f"engine{k}", FASHION, 10, {}) for k in range(150)]
    first = with_flips(*(flip(k) for k in range(100)))
    pages = view.engines(document(first, *many))
    assert sum(len(group.cards) for group in pages[0].gallery.groups) == 8


def test_inputs_that_are_no_images_are_told_by_their_values(tmp_path):
    page = _written(document(with_flips(flip(5, picture=None, row="x (3): 1, <b>2</b>, 3"))), tmp_path)
    assert "x (3): 1, &lt;b&gt;2&lt;/b&gt;, 3" in page
    assert "<img" not in page


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_classes_and_files_stay_names(name: str, tmp_path):
    found = document(with_flips(flip(5, name, name, name, file=name, top_before=[[name, 1.0]])))
    _written(found, tmp_path)


def test_pictures_are_shared_by_engines_bounded_and_the_worst_come_first():
    def evaluation(engine: str, indices: list[int]):
        worst = tuple(Flip(k, 0, 0, 1, 0.9, 0.9, 0.5) for k in indices)
        shown = tuple(Sample(k, None, png=b"x" * (1 << 20)) for k in sorted(indices))
        made = judged([0, 1], [0, 1], [0, 1])
        return replace(made, engine=engine, flips=Flips(worst=worst), samples=shown, record=record())

    found = pictures.thumbnails([evaluation("a", [9, 1, 2, 3, 4]), evaluation("b", [9, 7, 1, 6, 5, 8])])
    assert [path.rpartition("--")[2] for path in found] == [f"{k}.png" for k in (9, 1, 7, 2, 3)]


def test_pictures_that_are_gone_are_removed_and_foreign_ones_are_not(tmp_path):
    found = document(with_flips(flip(5)))
    [path] = pictures.referenced(found)
    html.write(found, tmp_path, {path: png(), "pictures/more.png": png()})
    assert not (tmp_path / "pictures/more.png").exists()  # written, and not shown by any page
    (tmp_path / "pictures/foreign.png").write_bytes(b"\x89PNG\r\n\x1a\n of somebody")
    (tmp_path / "pictures/old.png").write_bytes(png())
    (tmp_path / "elsewhere.png").write_bytes(png())
    (tmp_path / "pictures/link.png").symlink_to(tmp_path / "elsewhere.png")
    html.write(found, tmp_path)  # made again from report.json alone
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == [
        "fashion--0--5.png", "foreign.png", "link.png"
    ]  # fmt: skip
    assert f'src="{path}"' in (tmp_path / "fashion--int8.html").read_text()
    (tmp_path / path).write_bytes(b"somebody else's")
    with pytest.raises(ReportError, match="was not written by trtcheck"):
        html.write(found, tmp_path, {path: png()})
    html.write(found, tmp_path)
    assert "<img" not in (tmp_path / "fashion--int8.html").read_text()


def _changing(suite) -> None:
    """Makes the engine of the suite answer otherwise: its calibration data leave out most of the range."""
    suite.data("calibration.npz", images=suite_models.images(64, seed=1)[0] // 40)


def _flipped(suite, *args: str) -> list[dict[str, Any]]:
    """The changed answers of the suite's INT8 engine, worst first."""
    suite.run("--trt-engine=int8", *args)
    [engine] = suite.report()["engines"]
    worst: list[dict[str, Any]] = engine["flips"]["worst"]
    assert worst, "the miscalibrated engine changes answers"
    return worst


def test_a_real_run_shows_what_changed(suite):
    _changing(suite)
    worst = _flipped(suite)
    assert all(row["picture"] and (suite.path / "reports" / row["picture"]).is_file() for row in worst[:48])
    assert worst[0]["top_before"][0][0] == worst[0]["before"]
    assert worst[0]["top_before"][0][1] == pytest.approx(worst[0]["confidence_before"])
    with np.load(suite.path / "eval.npz") as data:
        original = data["images"][worst[0]["index"]]
    shown = np.asarray(Image.open(suite.path / "reports" / worst[0]["picture"]).convert("RGB"))
    factor = shown.shape[0] // original.shape[0]
    again = shown[::factor, ::factor].astype(int)
    expected = original.reshape(*original.shape[:2], -1)[..., :1]
    assert np.abs(again - expected).mean() < 12  # of 255: sixty-four colours


BGR = {"b": (30, 60, 220), "g": (60, 220, 30), "r": (220, 30, 60)}
"""Class -> colour (R, G, B): the class is the channel that there is most of."""


def _colourful(suite, names: Sequence[bytes]) -> dict[str, tuple[int, ...]]:
    """Makes the suite one of an image folder in BGR whose INT8 engine tells no colours apart.

    Args:
        names: Of the files in every class folder.

    Returns:
        The colour of every file, whose path is relative to the suite.
    """
    colours = {}
    for folder, colour in BGR.items():
        (suite.path / "photos" / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            path = Path("photos", folder, os.fsdecode(name))
            colours[path.as_posix()] = tuple(min(255, level + number) for level in colour)
            with (suite.path / path).open("wb") as file:
                Image.new("RGB", (8, 8), colours[path.as_posix()]).save(file, "PNG")
    suite.model(suite_models.colours())
    dark = np.random.default_rng(0).integers(0, 6, (64, 8, 8, 3)).astype(np.uint8)
    suite.data("calibration.npz", images=dark)
    suite.toml(
        data="photos", classes=list(BGR), scaled=False,
        tables='[models.tiny.input]\nscale = 0.00392156862745098\ncolor = "BGR"',
    )  # fmt: skip
    return colours


def test_photographs_have_their_colours_and_their_files(suite):
    colours = _colourful(suite, [f"{number}.png".encode() for number in range(8)])
    for row in _flipped(suite):
        shown = Image.open(suite.path / "reports" / row["picture"]).convert("RGB")
        assert shown.size == (112, 112)
        assert shown.getpixel((50, 50)) == colours[row["file"]]
        assert row["file"].startswith(f"photos/{row['truth']}/")


def test_hostile_names_of_files_neither_break_nor_inject(suite):
    names = [
        b"<script>alert(1)<>.png", "\N{T-SHIRT}.png".encode(), "\u202eright to left.png".encode(),
        b"x" * 200 + b".png", b"..png", b"a\"b'&amp;.png", b"no \xff utf-8.png", b"..%2f..%2fetc.png",
    ]  # fmt: skip
    _colourful(suite, names)
    rows = _flipped(suite)
    readable = {name.decode("utf-8", "surrogateescape") for name in names if not name.startswith(b".")}
    found = {row["file"].rpartition("/")[2] for row in rows}
    assert found
    assert {name.replace("\\udcff", "\udcff") for name in found} <= readable
    assert "no \\udcff utf-8.png" in found
    for path in (suite.path / "reports").rglob("*"):
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z]+)?", path.name)
    page = (suite.path / "reports" / "tiny--int8.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;&gt;.png" in page


def test_an_image_that_cannot_be_read_again_breaks_nothing(tmp_path, caplog):
    class Once:
        """Images of a source that gives whole batches and fails in its own way when asked for one."""

        name, class_names = "once", None

        def __init__(self):
            self.images, self.labels = suite_models.images(64)

        def __len__(self):
            return 64

        def read(self, start, stop):
            if start and stop - start == 1:
                raise AssertionError("the tape is gone")
            return {"images": self.images[start:stop]}

        def digest(self):
            return "sha256:once"

    case = trtcheck.Case(
        name="once", onnx=suite_models.save(suite_models.overflowing(), tmp_path / "model.onnx"), data=Once(),
        classes=suite_models.CLASSES, input=trtcheck.InputSpec(scale=1 / 255),
    )  # fmt: skip
    found = trtcheck.evaluate(case, "fp16", cache=tmp_path)
    assert found.flips.total
    assert [sample.index for sample in found.samples if sample.index] == []
    assert caplog.text.count("cannot be shown: the tape is gone") == 1


def test_floats_look_like_the_bytes_they_were_made_of(suite):
    images, labels = suite_models.images(240)
    floats = images.astype(np.float32) / 255
    suite.data("eval.npz", images=floats, labels=labels)
    suite.data("calibration.npz", images=floats[100:160] / 40)
    suite.toml(scaled=False)
    rows = _flipped(suite)
    assert all(row["picture"] for row in rows[:48])
    shown = np.asarray(Image.open(suite.path / "reports" / rows[0]["picture"]))
    np.testing.assert_array_equal(shown[::14, ::14], images[rows[0]["index"]])


def test_vectors_are_told_by_their_values(suite):
    tokens = np.random.default_rng(0).integers(0, 11, (240, 7))
    suite.model(suite_models.sums())
    suite.data("eval.npz", tokens=tokens, labels=(tokens.sum(axis=1) > 35).astype(np.int64))
    suite.data("calibration.npz", tokens=tokens[:64] // 10)
    suite.toml(classes=["low", "high"], scaled=False)
    rows = _flipped(suite)
    assert not (suite.path / "reports" / "pictures").exists()
    first = rows[0]
    assert first["row"] == f"tokens (7): {', '.join(map(str, tokens[first['index']]))}"
    assert (first["picture"], first["file"]) == (None, None)
    page = (suite.path / "reports" / "tiny--int8.html").read_text(encoding="utf-8")
    assert first["row"] in page
    assert f'id="image-{first["index"]}"' in page


def test_pictures_behind_a_link_are_left_alone(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "report"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "old.png").write_bytes(png())
    (folder / "pictures").symlink_to(elsewhere)
    html.write(document(with_flips(flip(5))), folder)
    assert (elsewhere / "old.png").exists()


def test_workers_write_the_same_pictures(suite):
    _changing(suite)
    suite.run("--trt-engine=int8,fp16", report="serial")
    suite.run("--trt-engine=int8,fp16", "-n2", report="parallel", plugins=["xdist"], process=True)
    assert _files(suite.path / "serial") == _files(suite.path / "parallel")
    one, other = (suite.report(folder)["engines"] for folder in ("serial", "parallel"))
    assert [engine["flips"] for engine in one] == [engine["flips"] for engine in other]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "pictures").iterdir()}
