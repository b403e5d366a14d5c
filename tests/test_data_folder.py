"""Image folders with real files that Pillow wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trtcheck.case import InputSpec
from trtcheck.data.sources import open_images
from trtcheck.errors import DataError

RNG = np.random.default_rng(0)


def pixels(height: int = 6, width: int = 5, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return RNG.integers(0, 256, shape).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def message(*args, read=False, **kwargs) -> str:
    def use() -> None:
        data = open_images(*args, **kwargs)
        if read:
            data.read(0, len(data))

    with pytest.raises(DataError) as info:
        use()
    return str(info.value)


@pytest.fixture
def folder(tmp_path):
    """dog: b.png a.PNG; cat: 10.jpg 9.bmp; and things to be ignored."""
    root = tmp_path / "data"
    for name in ("dog/b.png", "dog/a.PNG", "cat/10.jpg", "cat/9.bmp", "cat/8.webp"):
        save(root / name, pixels())
    (root / "dog" / ".hidden.png").write_bytes(b"no image")
    (root / "dog" / "notes.txt").write_text("no image")
    (root / ".git").mkdir()
    return root


def test_class_folders_give_labels_by_sorted_name(folder):
    data = open_images(folder)
    assert data.class_names == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    images = data.read(0, 5)["images"]
    assert images.shape == (5, 6, 5, 3)
    assert images.dtype == np.uint8
    for index, name in enumerate(["cat/10.jpg", "cat/8.webp", "cat/9.bmp", "dog/a.PNG", "dog/b.png"]):
        np.testing.assert_array_equal(images[index], np.asarray(Image.open(folder / name).convert("RGB")))
    np.testing.assert_array_equal(data.read(3, 4)["images"], images[3:4])


def test_labels_are_positions_in_classes(folder):
    data = open_images(folder, classes=["bird", "dog", "cat"])
    assert data.labels is not None
    assert data.labels.tolist() == [2, 2, 2, 1, 1]
    assert data.class_names == ("bird", "dog", "cat")


def test_folder_that_is_no_class_is_named(folder):
    text = message(folder, classes=["cat", "bird"])
    assert text.startswith(f"{folder} (data): folder 'dog' is no class")
    assert "expected: one of cat, bird" in text
    assert "found:    dog" in text


def test_flat_folder_has_no_labels(tmp_path):
    array = pixels()
    save(tmp_path / "b.png", array)
    save(tmp_path / "a.png", pixels())
    data = open_images(tmp_path, classes=["x"])
    assert data.labels is None
    assert data.class_names is None
    np.testing.assert_array_equal(data.read(1, 2)["images"][0], array)


def test_empty_folders_are_refused(tmp_path):
    assert "found:    no image and no folder" in message(tmp_path)
    (tmp_path / "cat").mkdir()
    assert "found:    no image in 1 class folders" in message(tmp_path)


def test_images_beside_class_folders_and_nested_folders_are_refused(folder):
    stray = save(folder / "stray.png", pixels())
    assert "image 'stray.png' lies beside class folders" in message(folder)
    stray.unlink()
    save(folder / "cat" / "more" / "x.png", pixels())
    assert "class folder 'cat' holds another folder" in message(folder)
    assert "cat/more/" in message(folder)


@pytest.mark.parametrize("cut", [0, 20, 200])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_unreadable_image_is_named(tmp_path, kind, cut):
    path = save(tmp_path / "cat" / f"x.{kind}", pixels(40, 40))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError) as info:
        open_images(tmp_path).read(0, 1)
    assert str(info.value).startswith(f"{path}: cannot be read as an image")
    assert "expected: an intact image" in str(info.value)


def test_image_that_vanished_is_named(folder):
    data = open_images(folder)
    (folder / "dog" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: cannot be read"):
        data.read(4, 5)
    with pytest.raises(DataError, match=r"b\.png: cannot be read"):
        data.digest()


def test_absurdly_large_image_is_named(tmp_path, monkeypatch):
    save(tmp_path / "x.png", pixels(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "DecompressionBombError" in message(tmp_path, read=True)


def test_images_of_different_size_are_named(tmp_path):
    first = save(tmp_path / "a.png", pixels(6, 5))
    save(tmp_path / "b.png", pixels(6, 5))
    other = save(tmp_path / "c.png", pixels(7, 5))
    data = open_images(tmp_path)
    data.read(0, 2)
    with pytest.raises(DataError) as info:
        data.read(2, 3)
    text = str(info.value)
    assert text.startswith(f"{other}: the images differ in size")
    assert f"expected: 6 x 5 (height x width), as {first}" in text
    assert "found:    7 x 5" in text
    assert "set resize and crop" in text
    assert open_images(tmp_path, spec=InputSpec(resize=8, crop=8)).read(0, 3)["images"].shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    ("size", "spec", "shape"),
    [
        ((20, 30), {"resize": 10}, (10, 15)),
        ((30, 20), {"resize": 10}, (15, 10)),
        ((3, 2), {"resize": 3}, (4, 3)),
        ((20, 30), {"resize": (7, 9)}, (7, 9)),
        ((20, 30), {"crop": 8}, (8, 8)),
        ((20, 30), {"crop": (8, 9)}, (8, 9)),
        ((20, 30), {"resize": 10, "crop": (10, 12)}, (10, 12)),
    ],
)
def test_resize_and_crop_shapes(tmp_path, size, spec, shape):
    save(tmp_path / "a.png", pixels(*size))
    assert open_images(tmp_path, spec=InputSpec(**spec)).read(0, 1)["images"].shape[1:3] == shape


def test_crop_takes_the_centre_and_resize_is_bilinear(tmp_path):
    array = pixels(10, 12)
    path = save(tmp_path / "a.png", array)
    cropped = open_images(tmp_path, spec=InputSpec(crop=(4, 6))).read(0, 1)["images"][0]
    np.testing.assert_array_equal(cropped, array[3:7, 3:9])
    resized = open_images(tmp_path, spec=InputSpec(resize=(5, 6))).read(0, 1)["images"][0]
    oracle = Image.open(path).resize((6, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resized, np.asarray(oracle))


def test_crop_larger_than_the_image_is_named(tmp_path):
    path = save(tmp_path / "a.png", pixels(6, 5))
    text = message(tmp_path, spec=InputSpec(crop=6), read=True)
    assert text.startswith(f"{path}: is smaller than the crop")
    assert "expected: at least 6 x 6" in text
    assert "found:    6 x 5" in text


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (InputSpec(color="HSV"), "unknown color"),
        (InputSpec(crop=0), "crop leaves nothing"),
        (InputSpec(resize=(5, -1)), "resize leaves nothing"),
    ],
)
def test_impossible_keys(folder, spec, text):
    assert text in message(folder, spec=spec)


def test_colours(tmp_path):
    array = pixels()
    path = save(tmp_path / "a.png", array)
    rgb, bgr, grey = (
        open_images(tmp_path, spec=InputSpec(color=color)).read(0, 1)["images"]
        for color in ("RGB", "BGR", "L")
    )
    np.testing.assert_array_equal(rgb[0], array)
    np.testing.assert_array_equal(bgr[0], array[..., ::-1])
    assert grey.shape == (1, 6, 5)
    np.testing.assert_array_equal(grey[0], np.asarray(Image.open(path).convert("L")))


def test_exif_orientation_is_applied(tmp_path):
    array = np.zeros((16, 8, 3), np.uint8)
    array[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    save(tmp_path / "a.jpg", array, exif=exif, quality=95)
    image = open_images(tmp_path).read(0, 1)["images"][0]
    assert image.shape == (8, 16, 3)
    assert image[:, 9:].min() > 200
    assert image[:, :7].max() < 50


def test_transparency_is_dropped(tmp_path):
    array = pixels(channels=4)
    save(tmp_path / "a.png", array)
    np.testing.assert_array_equal(open_images(tmp_path).read(0, 1)["images"][0], array[..., :3])


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
@pytest.mark.parametrize("color", ["RGB", "L"])
def test_palette_images(tmp_path, transparency, color):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "a.png", **({} if transparency is None else {"transparency": transparency}))
    found = open_images(tmp_path, spec=InputSpec(color=color)).read(0, 1)["images"][0]
    expected = Image.fromarray(np.eye(3, dtype=np.uint8)[np.newaxis] * 255)
    np.testing.assert_array_equal(found, np.asarray(expected.convert(color)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB"])
@pytest.mark.parametrize("color", ["RGB", "L"])
def test_other_modes_with_a_transparent_colour(tmp_path, mode, color):
    image = Image.new(mode, (3, 2), "white")
    options = {} if mode == "LA" else {"transparency": (255,) * 3 if mode == "RGB" else 255}
    image.save(tmp_path / "a.png", **options)
    found = open_images(tmp_path, spec=InputSpec(color=color)).read(0, 1)["images"]
    assert found.min() == 255
    assert found.shape == ((1, 2, 3, 3) if color == "RGB" else (1, 2, 3))


@pytest.mark.parametrize("color", ["RGB", "L"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, color):
    array = np.array([[0, 257, 32896, 65535]], np.uint16)
    save(tmp_path / "a.png", array)
    found = open_images(tmp_path, spec=InputSpec(color=color)).read(0, 1)["images"][0]
    grey = found if color == "L" else found[..., 1]
    assert grey.tolist() == [[0, 1, 128, 255]]


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = open_images(tmp_path).read(0, 1)["images"][0]
    assert red[..., 0].min() > 200
    assert red[..., 1:].max() < 60


def test_digest_covers_names_contents_and_decoding(folder):
    def digest(**spec):
        return open_images(folder, spec=InputSpec(**spec)).digest()

    digests = [digest(), digest(resize=4), digest(crop=4), digest(crop=(4, 5)), digest(color="L")]
    assert digest() == digests[0]
    assert digest(scale=0.5, mean=(1.0,)) == digests[0]
    (folder / "dog" / "b.png").rename(folder / "dog" / "c.png")
    digests.append(digest())
    save(folder / "dog" / "c.png", pixels())
    digests.append(digest())
    assert len(set(digests)) == 7
    (folder / "dog" / "notes.txt").write_text("changed")
    assert digest() == digests[-1]


def test_opened_folder_can_be_opened_again(folder):
    spec = InputSpec(resize=4, crop=4)
    data = open_images(folder, spec=spec)
    assert open_images(data, spec=spec) is data
