"""Digests of ranges of images: equal rows are told alike wherever they are held, any other byte apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trtcheck import digests
from trtcheck.case import InputSpec
from trtcheck.data import folder, open_images
from trtcheck.data.ranges import digest_of_range
from trtcheck.shards.data import cut

IMAGES = np.random.default_rng(3).integers(0, 256, (40, 6, 5, 3)).astype(np.uint8)
LABELS = np.arange(40) % 4


def of(source, start=10, stop=30, **keys) -> str:
    return digest_of_range(open_images(source, **keys), start, stop)


def test_the_same_rows_have_the_same_digest_wherever_they_are(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez_compressed(tmp_path / "b.npz", images=IMAGES, labels=LABELS)
    np.save(tmp_path / "f.npy", np.asfortranarray(IMAGES))
    pairs = list(zip(IMAGES, LABELS, strict=True))
    part = cut(open_images(IMAGES), range(10, 30))
    files = [tmp_path / name for name in ("a.npy", "b.npz", "f.npy")]
    assert len({of(source) for source in (IMAGES, pairs, *files, {"images": files[0]}, part)}) == 1
    assert of(IMAGES[10:30], 0, 20) == of(IMAGES)


def test_any_changed_byte_dtype_shape_name_or_end_changes_it(tmp_path):
    found = {of(IMAGES), of(IMAGES, 10, 29), of(IMAGES, 9, 30), of(IMAGES.astype(np.int16))}
    found.add(of(IMAGES.view(np.int8)))
    found.add(of(IMAGES.reshape(40, 5, 6, 3)))
    for index in (10, 29):
        changed = IMAGES.copy()
        changed[index, -1, -1, -1] ^= 1
        found.add(of(changed))
    np.save(tmp_path / "a.npy", IMAGES)
    found.add(of({"other": tmp_path / "a.npy"}))
    found.add(of({"images": tmp_path / "a.npy", "more": tmp_path / "a.npy"}))
    assert len(found) == 10


def test_what_lies_outside_of_the_range_does_not_count():
    changed = IMAGES.copy()
    changed[[9, 30]] = 0
    assert of(changed) == of(IMAGES)


def test_the_digest_does_not_depend_on_how_much_is_read_at_once(monkeypatch):
    usual = of(IMAGES)
    for chunk in (1, 200, 10**9):
        monkeypatch.setattr(digests, "_CHUNK", chunk)
        assert of(IMAGES) == usual


def test_no_more_than_a_few_megabytes_are_read_at_once(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (64, 1 << 20)).flush()
    opened, read = open_images(tmp_path / "x.npy"), []

    class Watched:
        def __getattr__(self, name):
            return getattr(opened, name)

        def read(self, start, stop):
            read.append((start, stop))
            return opened.read(start, stop)

    assert digest_of_range(Watched(), 3, 64) == of(tmp_path / "x.npy", 3, 64)
    assert max(stop - start for start, stop in read) == 4
    assert [start for start, _ in read[1:]] == [stop for _, stop in read[:-1]]
    assert (read[0][0], read[-1][1]) == (3, 64)


@pytest.fixture
def pictures(tmp_path):
    for index in range(8):
        file = tmp_path / "set" / ("cat" if index < 4 else "dog") / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[index]).save(file)
    return tmp_path / "set"


def test_pictures_are_told_by_their_files_and_not_decoded(pictures, monkeypatch):
    def never(*args):
        raise AssertionError("decoded an image for its digest")

    monkeypatch.setattr(folder, "decode", never)
    before = of(pictures, 2, 6)
    assert of(pictures, 2, 6) == before
    found = {before, of(pictures, 2, 5), of(pictures, 3, 6)}
    found |= {
        of(pictures, 2, 6, spec=InputSpec(**key)) for key in ({"resize": 4}, {"crop": 4}, {"color": "L"})
    }
    (pictures / "cat" / "0.png").write_bytes(b"outside of the range")
    assert of(pictures, 2, 6) == before
    content = (pictures / "dog" / "5.png").read_bytes()
    (pictures / "dog" / "5.png").write_bytes(content[:-1] + b"\0")
    found.add(of(pictures, 2, 6))
    (pictures / "dog" / "5.png").write_bytes(content)
    (pictures / "dog" / "5.png").rename(pictures / "dog" / "55.png")
    found.add(of(pictures, 2, 6))
    assert len(found) == 8


def test_pictures_elsewhere_have_the_same_digest(pictures, tmp_path):
    before = of(pictures, 2, 6)
    assert of(pictures.rename(tmp_path / "moved"), 2, 6) == before


def test_all_of_a_folder_has_the_digest_that_the_folder_has(pictures):
    assert of(pictures, 0, 8) == open_images(pictures).digest()
