"""Copies of evaluation images in the calibration data: found where they are, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from calibration_pictures import (
    clothes,
    compressed,
    fed,
    in_batches,
    overlap,
    overlap_of,
    resized,
    training,
)
from PIL import Image

from trtcheck.calibration.overlap import CalibrationSide, Match
from trtcheck.case import InputSpec
from trtcheck.data.batches import batches
from trtcheck.data.sources import open_images
from trtcheck.model import Signature, Tensor

KINDS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
PICTURES = Signature((Tensor("x", np.dtype(np.float32), (None, 1, 28, 28)),), ())


def test_two_sets_of_alike_clothes_have_nothing_in_common() -> None:
    found = overlap(fed(training(1000)), fed(clothes(10_000)[0]))
    assert (found.exact, found.resized) == ((), ())
    assert (found.images, found.distinct, found.evaluated, found.compared) == (1000, 1000, 10_000, 1000)
    assert found.unsearched is None


def test_exact_copies_are_found_wherever_they_stand() -> None:
    images, _ = clothes(2000)
    calibration = np.concatenate([training(100), images[[1999, 3, 3, 700]]])
    found = overlap(fed(calibration), fed(images))
    assert found.exact == (Match(101, 3), Match(103, 700), Match(100, 1999))
    assert found.resized == ()
    assert (found.images, found.distinct) == (104, 103)


def test_how_the_numbers_are_stored_makes_no_difference() -> None:
    images, _ = clothes(40)
    spec = InputSpec(scale=1 / 255, mean=(0.3,), std=(0.35,))
    side = CalibrationSide()
    for batch in batches(open_images(images[30:].astype(np.float64)), PICTURES, spec, 4):
        side.add(batch)
    other = CalibrationSide()
    for batch in batches(open_images(images[30:, :, :, None]), PICTURES, spec, 7):
        other.add(batch)
    assert list(side.first) == list(other.first)


@pytest.mark.parametrize(
    ("factor", "least"), [(0.5, 0.75), (0.75, 0.9), (1.5, 0.95), (2.0, 0.95)], ids=lambda value: str(value)
)
def test_resized_copies_of_small_pictures_are_found(factor: float, least: float) -> None:
    images, _ = clothes(3000)
    copies = [resized(images[k], factor, KINDS[k % 3]) for k in range(0, 3000, 60)]
    found = overlap(fed(np.concatenate([copies, training(500)])), fed(images))
    right = {Match(row, 60 * row) for row in range(50)}
    assert set(found.resized) <= right, "a picture that is only alike was called a copy"
    assert len(found.resized) >= least * 50


@pytest.mark.parametrize(("quality", "least"), [(50, 0.8), (75, 0.9), (95, 0.95)])
def test_copies_that_were_compressed_again_are_found(quality: int, least: float) -> None:
    images, _ = clothes(3000)
    copies = [compressed(images[k], quality) for k in range(0, 3000, 60)]
    found = overlap(fed(np.concatenate([training(500), copies])), fed(images))
    right = {Match(500 + row, 60 * row) for row in range(50)}
    assert set(found.resized) <= right
    assert len(found.resized) >= least * 50


def test_copies_in_another_scale_are_found() -> None:
    # The commonest mistake: divided by 255 once too often.
    images, _ = clothes(1000)
    found = overlap(fed(np.concatenate([images[:30] / 255, training(200)])), fed(images))
    assert [match.evaluation for match in found.resized] == list(range(30))


def test_all_of_the_evaluation_data_as_calibration_data_is_found() -> None:
    images, _ = clothes(400)
    found = overlap(fed(np.stack([compressed(image, 90) for image in images])), fed(images))
    assert len(found.resized) > 380
    assert all(match.calibration == match.evaluation for match in found.resized)


def test_several_copies_of_one_picture_do_not_hide_each_other() -> None:
    images, _ = clothes(1000)
    copies = [compressed(images[500], quality) for quality in (75, 80, 85, 90)]
    found = overlap(fed(np.concatenate([training(300), copies])), fed(images))
    assert [match.evaluation for match in found.resized] == [500]


def test_pictures_that_differ_in_the_place_of_a_blob_are_not_called_copies() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] / 31

    def blobs(count: int) -> np.ndarray:
        at = rng.uniform(0.1, 0.9, (2, count, 1, 1))
        width = rng.uniform(0.05, 0.2, (count, 1, 1))
        return np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / width**2)[:, None].astype(np.float32)

    assert overlap(blobs(300), blobs(3000)).resized == ()


def test_parts_before_one_background_are_not_called_copies() -> None:
    # A fixed camera: all pictures are nearly one, but for a scratch here or there and the sensor's noise.
    rng = np.random.default_rng(1)
    background = np.kron(rng.uniform(0.2, 0.8, (8, 8)), np.ones((8, 8)))

    def parts(count: int) -> np.ndarray:
        found = background + rng.normal(0, 0.01, (count, 64, 64))
        for part in found:
            top, left = rng.integers(0, 50, 2)
            height, width = rng.integers(2, 14, 2)
            part[top : top + height, left : left + width] += rng.uniform(-0.4, 0.4)
        return np.clip(found, 0, 1)[:, None].astype(np.float32)

    assert overlap(parts(200), parts(1500)).resized == ()


def test_pictures_of_one_colour_are_copies_only_if_they_are_equal() -> None:
    shades = np.linspace(0, 1, 40, dtype=np.float32)
    plain = np.broadcast_to(shades[:, None, None, None], (40, 1, 32, 32))
    found = overlap(np.ascontiguousarray(plain[::2]), np.ascontiguousarray(plain[1:]))
    assert len(found.exact) == 19
    assert found.resized == ()
    assert found.plain == 20


def test_whole_batches_may_be_copies_or_of_one_colour() -> None:
    images, _ = clothes(64)
    calibration = np.concatenate([images, images, np.full_like(images, 7)])
    evaluation = np.concatenate([np.full_like(images, 9), np.stack([compressed(i, 95) for i in images[:9]])])
    found = overlap(fed(calibration), fed(evaluation))
    assert (found.images, found.distinct, found.compared, found.plain) == (192, 65, 64, 1)
    assert [(m.calibration, m.evaluation) for m in found.resized] == [(k, 64 + k) for k in range(9)]


def test_small_pictures_are_compared_exactly_and_that_is_said() -> None:
    digits = np.random.default_rng(0).integers(0, 17, (50, 1, 8, 8)).astype(np.float32)
    found = overlap(digits[:20], digits[19:])
    assert found.exact == (Match(19, 0),)
    assert found.unsearched is not None
    assert "under 16 pixels" in found.unsearched


@pytest.mark.parametrize(
    "feeds",
    [
        {"ids": np.arange(60).reshape(20, 3)},
        {"words": np.array([[f"word {k}"] for k in range(20)], object)},
        {"x": np.arange(20 * 28 * 28, dtype=np.float32).reshape(20, 1, 28, 28), "n": np.arange(20)},
    ],
    ids=["integers", "strings", "two inputs"],
)
def test_what_is_no_picture_is_compared_exactly_over_all_inputs(feeds: dict[str, np.ndarray]) -> None:
    found = overlap_of({k: v[:10] for k, v in feeds.items()}, {k: v[8:] for k, v in feeds.items()})
    assert found.exact == (Match(8, 0), Match(9, 1))
    assert found.unsearched is not None
    name = list(feeds)[-1]
    other = {**feeds, name: feeds[name][::-1].copy()}
    assert overlap_of({k: v[:10] for k, v in feeds.items()}, other).exact == () or len(feeds) == 1


def test_padding_is_no_image() -> None:
    fixed = Signature((Tensor("x", np.dtype(np.float32), (16, 1, 28, 28)),), ())
    side = CalibrationSide()
    for batch in batches(open_images(training(21)), fixed, InputSpec(), 1):
        side.add(batch)
    assert (side.images, len(side.first)) == (21, 21)


def test_colour_pictures_in_either_layout(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (60, 6, 6, 3), np.uint8)
    photos = [Image.fromarray(image).resize((48, 40), Image.Resampling.BICUBIC) for image in small]
    evaluation = np.stack([np.asarray(photo, np.float32) for photo in photos])
    copies = np.stack(
        [np.asarray(photo.resize((24, 20)).resize((48, 40)), np.float32) for photo in photos[50:]]
    )
    for axes in ((0, 1, 2, 3), (0, 3, 1, 2)):
        found = overlap(copies.transpose(axes), evaluation[:57].transpose(axes))
        assert set(found.resized) == {Match(k, 50 + k) for k in range(7)}


def test_batches_may_be_of_any_size() -> None:
    images, _ = clothes(300)
    feeds = {"x": fed(np.concatenate([images[:3], training(50)]))}
    sides = []
    for size in (1, 53):
        side = CalibrationSide()
        for batch in in_batches(feeds, size):
            side.add(batch)
        sides.append(side)
    assert sides[0].first == sides[1].first


def test_of_very_many_calibration_pictures_some_are_compared_and_all_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trtcheck.calibration.overlap.MOST_COMPARED", 100)
    images, _ = clothes(600)
    found = overlap(fed(np.concatenate([training(400), images[::50]])), fed(images))
    assert (found.compared, found.distinct, len(found.exact)) == (100, 412, 12)
