"""What limits a large evaluation besides inference: listing files, digests, and comparing outputs."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from trtcheck import digests
from trtcheck.case import Case, InputSpec
from trtcheck.data.batches import Batch
from trtcheck.data.folder import FolderImages
from trtcheck.shards.data import span_digest
from trtcheck.streaming import stream

SEED = 2026
JPEGS = 256
"""Images that are read for their digest."""
BATCH = 64
OUTPUTS: Mapping[str, tuple[str | None, dict[str, tuple[int, ...]]]] = {
    "1,000 class scores": ("scores", {"scores": (1_000,)}),
    "21,841 class scores": ("scores", {"scores": (21_841,)}),
    "100 detections of 6 values": (None, {"boxes": (100, 4), "scores": (100,), "labels": (100,)}),
    "a raw head, 84 x 8,400 values": (None, {"head": (84, 8_400)}),
}
"""Outputs of a model, by what they are: which holds class scores, and the shapes of one image's."""


def opened(images: int, folder: Path) -> dict[str, float]:
    """What comes before the first inference on a folder of 100 classes."""
    for number in range(images):
        path = folder / "empty" / f"n{number % 100:08d}" / f"n{number % 100:08d}_{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    spent: dict[str, float] = {}
    before = peak()
    with timed(spent, "listing"):
        listed = FolderImages(folder / "empty", None, InputSpec(), "")
    held = peak() - before
    real = photographs(folder / "real")
    size = sum(path.stat().st_size for path in (folder / "real").iterdir())
    with timed(spent, "bytes"):
        digests.of_files(sorted((folder / "real").iterdir()))
    with timed(spent, "shards"):
        span_digest(real, range(len(real)))
    return {
        "listing, s a million images": spent["listing"] / len(listed) * 1e6,
        "held by each process, bytes an image": held / len(listed),
        "kB of a JPEG": size / len(real) / 1e3,
        "SHA-256 of its bytes, images/s": len(real) / spent["bytes"],
        "digest of a shard, images/s": len(real) / spent["shards"],
    }


def photographs(folder: Path) -> FolderImages:
    """JPEG files as large as photographs, to be resized and cropped."""
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    for number in range(JPEGS):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((500, 375))
        grain = rng.normal(0, 9, (375, 500, 3))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    return FolderImages(folder, None, InputSpec(resize=256, crop=224), "")


class Answers:
    """Reference and engine at once, of which neither computes anything.

    Args:
        outputs: What is answered to every batch, by name.
    """

    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        self._outputs = outputs

    def answers(self, _batch: Batch) -> dict[str, np.ndarray]:
        """What the reference answers."""
        return self._outputs

    def infer(self, _feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the engine answers."""
        return self._outputs


def compared(quick: bool) -> dict[str, float]:
    """Images a second of the comparison alone, by what is compared."""
    return {name: _speed(scores, shapes, 1 if quick else 8) for name, (scores, shapes) in OUTPUTS.items()}


def _speed(scores: str | None, shapes: dict[str, tuple[int, ...]], batches: int) -> float:
    rng = np.random.default_rng(SEED)
    old = {name: rng.normal(0, 3, (BATCH, *shape)).astype(np.float32) for name, shape in shapes.items()}
    new = {name: value + rng.normal(0, 3e-3, value.shape).astype(np.float32) for name, value in old.items()}
    count = 0 if scores is None else shapes[scores][0]
    images = batches * BATCH
    feeds = {"images": np.zeros((BATCH, 1), np.float32)}

    def once(number: int) -> float:
        start = time.perf_counter()
        stream(
            Case("model", Path("model.onnx"), "data.npz"), engine_name="e",
            classes=tuple(map(str, range(count))), scores=scores,
            truth=rng.integers(0, max(count, 1), number * BATCH),
            batches=iter([Batch(k * BATCH, BATCH, feeds) for k in range(number)]),
            reference=Answers(old), engine=Answers(new), advance=lambda _count: None,
        )  # fmt: skip
        return time.perf_counter() - start

    once(1)
    return images / min(once(batches) for _ in range(3))


@contextmanager
def timed(spent: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds of the block to *spent*."""
    start = time.perf_counter()
    yield
    spent[name] = spent.get(name, 0.0) + time.perf_counter() - start


def peak() -> int:
    """Most resident memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
