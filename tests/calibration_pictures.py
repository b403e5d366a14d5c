"""Real pictures, copies of them, and the overlap of two sets: for the tests of the calibration check."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from trtcheck.calibration.overlap import CalibrationSide, Overlap, compare
from trtcheck.data.batches import Batch

DEMO = Path(__file__).parents[1] / "examples" / "fashion_mnist"
MISCALIBRATED = DEMO.parent / "fashion_mnist_miscalibrated"
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def clothes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of the demo's evaluation data, uint8 (N, 28, 28), and their labels."""
    with np.load(DEMO / "eval.npz") as file:
        return file["images"][:count], file["labels"][:count]


def training(count: int) -> np.ndarray:
    """Images of the demo's calibration data, uint8 (N, 28, 28), none of which is an evaluation image."""
    with np.load(DEMO / "calibration.npz") as file:
        images: np.ndarray = file["images"]
    return images[:: len(images) // count][:count]


def resized(picture: np.ndarray, factor: float, kind: Image.Resampling) -> np.ndarray:
    """*picture* scaled by *factor* and back."""
    image = Image.fromarray(picture)
    width, height = image.size
    small = image.resize((round(width * factor), round(height * factor)), kind)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    """*picture* through JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def fed(pictures: np.ndarray) -> np.ndarray:
    """Grey pictures (N, H, W) as a model is fed them: float32 (N, 1, H, W) in 0..1."""
    return pictures[:, np.newaxis].astype(np.float32) / 255


def in_batches(feeds: dict[str, np.ndarray], size: int = 64) -> Iterator[Batch]:
    count = len(next(iter(feeds.values())))
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield Batch(start, stop - start, {name: feed[start:stop] for name, feed in feeds.items()})


def overlap(calibration: np.ndarray, evaluation: np.ndarray) -> Overlap:
    """What two sets of fed images have in common."""
    return overlap_of({"x": calibration}, {"x": evaluation})


def overlap_of(calibration: dict[str, np.ndarray], evaluation: dict[str, np.ndarray]) -> Overlap:
    """The same for images of several inputs."""

    def reader(feeds: dict[str, np.ndarray]):
        return lambda index: {name: feed[index : index + 1] for name, feed in feeds.items()}

    side = CalibrationSide()
    for batch in in_batches(calibration):
        side.add(batch)
    return compare(
        side, in_batches(evaluation), calibration=reader(calibration), evaluation=reader(evaluation),
        advance=lambda _count: None,
    )  # fmt: skip
