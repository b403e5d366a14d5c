"""What a person is shown of an evaluation input."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from trtcheck import samples
from trtcheck.case import InputSpec
from trtcheck.data import open_images
from trtcheck.data.folder import FolderImages
from trtcheck.report import pictures

PLAIN = InputSpec()
RED = np.zeros((16, 16, 3), np.uint8)
RED[..., 0] = 255


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


@pytest.mark.parametrize(
    ("image", "spec"),
    [
        (RED, PLAIN),
        (np.moveaxis(RED, 2, 0), PLAIN),
        (np.moveaxis(RED, 2, 0), InputSpec(layout="NCHW")),
        (RED[..., ::-1], InputSpec(color="BGR")),
        (RED / np.float32(255), PLAIN),
        (RED.astype(np.int64), PLAIN),
        (np.concatenate([RED, np.full((16, 16, 1), 255, np.uint8)], axis=2), PLAIN),
    ],
    ids=["NHWC", "NCHW guessed", "NCHW said", "BGR", "floats to 1", "integers", "opaque alpha"],
)
def test_red_is_red_however_it_is_held(image, spec):
    np.testing.assert_array_equal(samples.as_pixels(image, spec), RED)
    small = opened(samples.png(samples.thumbnail(samples.as_pixels(image, spec))))
    assert small.size == (112, 112)
    assert small.convert("RGB").getpixel((50, 50)) == (255, 0, 0)


def test_floats_beyond_a_usual_range_are_stretched_and_nan_is_dark():
    image = np.linspace(-2, 3, 64).reshape(8, 8).astype(np.float32)
    image[0, 5] = np.nan
    pixels = samples.as_pixels(image, PLAIN)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert pixels[7, 7] == 255
    assert samples.as_pixels(np.full((8, 8), np.nan), PLAIN).max() == 0
    assert samples.as_pixels(np.full((8, 8), np.inf), PLAIN).shape == (8, 8)
    widest = samples.as_pixels(np.array([[-1e308, 1e308] * 8] * 8), PLAIN)
    assert widest[0, :2].tolist() == [0, 255]


def test_other_numbers_of_channels_show_the_first():
    image = np.stack([np.full((9, 9), k, np.uint8) for k in (7, 90, 3, 4, 5)])
    assert set(samples.as_pixels(image, PLAIN).ravel().tolist()) == {7}


@pytest.mark.parametrize(
    "array",
    [np.zeros(64, np.float32), np.zeros((4, 64)), np.zeros((2, 9, 9, 9), np.uint8), np.array(["a"])],
    ids=["vector", "low", "four axes", "text"],
)  # fmt: skip
def test_what_is_no_image_has_no_picture(array):
    assert samples.as_pixels(array, PLAIN) is None


@given(npst.arrays(
    st.sampled_from([np.uint8, np.float32, np.float16, np.int32, np.bool_]),
    st.tuples(st.integers(8, 300), st.integers(8, 300), st.integers(1, 5)),
    fill=st.just(1),
))  # fmt: skip
def test_a_thumbnail_is_small_whatever_the_image(array):
    found = opened(samples.png(samples.thumbnail(samples.as_pixels(array, InputSpec(layout="NHWC")))))
    assert max(found.size) <= 112
    assert found.format == "PNG"


def test_the_noisiest_photograph_weighs_little_and_bears_our_mark():
    noise = np.random.default_rng(0).integers(0, 256, (500, 375, 3)).astype(np.uint8)
    content = samples.png(samples.thumbnail(noise))
    assert len(content) < 12_000
    assert pictures.is_own(content)
    plain = io.BytesIO()
    Image.fromarray(noise).save(plain, "PNG")
    assert not pictures.is_own(plain.getvalue())
    assert not pictures.is_own(b"pytest-trtcheck")


def test_samples_are_read_one_by_one_in_order_and_bounded():
    data = np.zeros((100, 12, 12), np.uint8)
    asked = []

    class Watched:
        name, labels, class_names = "watched", None, None

        def __len__(self):
            return 100

        def read(self, start, stop):
            asked.append((start, stop))
            return {"images": data[start:stop]}

        def digest(self):
            return "sha256:0"

    found = samples.of(Watched(), PLAIN, [70, 3, 3, *range(99, 9, -1)])
    assert len(found) == samples.SHOWN
    assert asked == sorted(asked)
    assert asked[:2] == [(3, 4), (53, 54)]
    assert all(stop - start == 1 for start, stop in asked)


def test_an_image_of_a_folder_has_its_file_and_one_that_vanished_is_left_out(tmp_path, caplog):
    for name in ("a.png", "b.png"):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.fromarray(RED).save(tmp_path / "cat" / name)
    images = open_images(tmp_path, classes=["cat"], spec=InputSpec())
    assert isinstance(images, FolderImages)
    images.read(0, 1)
    (tmp_path / "cat" / "b.png").unlink()
    [shown] = samples.of(images, InputSpec(), [1, 0])
    assert (shown.index, shown.file) == (0, str(tmp_path / "cat" / "a.png"))
    assert "image 1 of" in caplog.text


def test_inputs_that_are_no_image_are_told_by_their_first_values():
    vectors = np.array([[0.25, 3.0, -1e-9, *range(40)]], np.float32)
    [found] = samples.of(open_images((vectors, np.zeros(1, int))), PLAIN, [0])
    assert (found.index, found.png) == (0, None)
    assert found.row.startswith("images (43): 0.25, 3, -1e-09, 0, 1, 2")
    assert found.row.endswith("…")
    assert samples.as_text({"n": np.array(7), "t": np.array(["<b>", "x"])}) == "n: 7; t (2): <b>, x"
    many = samples.as_text({f"input{k}": np.zeros(50) for k in range(40)})
    assert len(many) <= 200
