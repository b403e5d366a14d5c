"""Inputs of the models whose fidelity is measured: pictures, pages and files, with their classes."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import resnet

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def _fashion(images: np.ndarray) -> np.ndarray:
    return (images[:, None].astype(np.float32) / 255 - 0.286) / 0.353


def _resnet(images: np.ndarray) -> np.ndarray:
    return ((images.astype(np.float32) * resnet.SCALE - resnet.MEAN) / resnet.STD).transpose(0, 3, 1, 2)


def _page(images: np.ndarray) -> np.ndarray:
    return (images[:, None].astype(np.float32) / 255 - _MEAN) / _STD


SCALINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fashion": _fashion,
    "resnet": _resnet,
    "page": _page,
    "bytes": lambda rows: rows.astype(np.int32),
}
"""From stored inputs to a network's."""


def scaled(scaling: str, images: np.ndarray) -> np.ndarray:
    """Stored *images* as a network reads them."""
    made = SCALINGS[scaling](images)
    return np.ascontiguousarray(made, np.int32 if scaling == "bytes" else np.float32)


def kinds(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of ten kinds, uint8 (count, size, size, 3), and their kinds.

    A kind has a pattern of colours. A picture shows some of its kind's, more of a pattern of its own, and
    noise: how much of each decides how hard it is.
    """
    rng = np.random.default_rng([resnet.SEED, seed])
    patterns = np.random.default_rng(resnet.SEED).uniform(0, 255, (10, 8, 8, 3))
    labels = np.arange(count) % 10
    made = np.empty((count, size, size, 3), np.uint8)
    rows = np.arange(size) * 8 // size
    for k, label in enumerate(labels):
        share = rng.uniform(0.3, 0.8)
        mixed = share * patterns[label] + (1 - share) * rng.uniform(0, 255, (8, 8, 3))
        noise = rng.integers(-20, 21, (size, size, 3))
        made[k] = np.clip(mixed[rows][:, rows] + noise, 0, 255)
    return made, labels


def readout(features: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (classes, features) and bias (classes,) of a last layer fitted by ridge regression."""
    wide = features.astype(np.float64)
    mean, deviation = wide.mean(0), wide.std(0) + 1e-6
    x = (wide - mean) / deviation
    y = np.eye(classes)[labels] - 1 / classes
    kernel = x @ x.T + len(x) * np.eye(len(x))
    weights = (x.T @ np.linalg.solve(kernel, y)).T
    weights *= 3 / (x @ weights.T).std()
    weights /= deviation
    return weights.astype(np.float32), (-weights @ mean).astype(np.float32)


def pages(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pages of text, upright and turned, uint8 (count, 224, 224), and by how many quarters they are turned.

    The text is the source of Python's standard library, the font is Pillow's own.
    """
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng([11, seed])
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    lines = [line for file in sources[:120] for line in file.read_text(errors="replace").splitlines()]
    lines = [line.strip() for line in lines if len(line.strip()) > 20]
    fonts = {size: ImageFont.load_default(size) for size in range(14, 31)}
    made = np.empty((count, 224, 224), np.uint8)
    for k in range(count):
        width, height = int(rng.integers(500, 900)), int(rng.integers(500, 1000))
        paper = int(rng.integers(120, 256))
        ink = paper - int(rng.integers(12, 120))
        page = Image.new("L", (width, height), paper)
        draw, size = ImageDraw.Draw(page), int(rng.integers(14, 31))
        left, y = int(rng.integers(10, 60)), float(rng.integers(10, 40))
        filled = rng.uniform(0.05, 0.9)  # a page with little on it is hard to tell
        while y < height - size:
            if rng.random() < filled:
                text = lines[int(rng.integers(len(lines)))][: int(rng.integers(20, 80))]
                draw.text((left, y), text, font=fonts[size], fill=ink)
            y += size * rng.uniform(1.1, 1.5)
        made[k] = _cropped(page.rotate(-90 * (k % 4), expand=True))
    return made, np.arange(count) % 4


def _cropped(page: Any) -> np.ndarray:
    """The middle of a page (a Pillow image) whose shorter side was made 256 pixels long."""
    from PIL import Image

    scale = 256 / min(page.size)
    wide, high = (round(side * scale) for side in page.size)
    left, top = (wide - 224) // 2, (high - 224) // 2
    smaller = page.resize((wide, high), Image.Resampling.LANCZOS)
    return np.asarray(smaller.crop((left, top, left + 224, top + 224)))


_KINDS = {
    ".py": "python", ".pyc": "pythonbytecode", ".so": "elf", ".json": "json", ".html": "html",
    ".js": "javascript", ".png": "png", ".svg": "svg", ".css": "css", ".xml": "xml", ".md": "markdown",
    ".h": "c", ".c": "c", ".pl": "perl", ".gz": "gzip", ".ttf": "ttf", ".csv": "csv", ".yaml": "yaml",
}  # fmt: skip
_A_KIND = 150
"""At most so many files of a kind, so that none outweighs the others."""


def files(config: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Files of this machine as magika reads them, int16 (count, 2048), and their types by suffix.

    The first and the last 1024 bytes of a file without blanks at its ends; 256 stands for what is missing.
    """
    settings = json.loads(config.read_text())
    names, missing = settings["target_labels_space"], settings["padding_token"]
    half, block = settings["beg_size"], settings["block_size"]
    rng = np.random.default_rng(12)
    found: dict[bytes, tuple[np.ndarray, int]] = {}
    for suffix, kind in _KINDS.items():
        roots = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib")] + [Path("/usr/share")]
        listed = sorted({file for root in roots for file in root.rglob(f"*{suffix}")})
        taken = 0
        for place in rng.permutation(len(listed)):
            row = _row(listed[place], half, block, missing)
            if row is None or row.tobytes() in found:
                continue
            found[row.tobytes()] = row, names.index(kind)
            taken += 1
            if taken == _A_KIND:
                break
    rows = list(found.values())
    chosen = rng.permutation(len(rows))[:count]
    return np.stack([rows[k][0] for k in chosen]), np.array([rows[k][1] for k in chosen])


def _row(file: Path, half: int, block: int, missing: int) -> np.ndarray | None:
    """One file's bytes; None where it cannot be read or is too short for the model."""
    try:
        if not file.is_file() or file.is_symlink():
            return None
        data = file.read_bytes()
    except OSError:
        return None
    first, last = data[:block].lstrip()[:half], data[-block:].rstrip()[-half:]
    if len(first) < 8:
        return None
    row = np.full(2 * half, missing, np.int16)
    row[: len(first)] = np.frombuffer(first, np.uint8)
    row[2 * half - len(last) :] = np.frombuffer(last, np.uint8)
    return row
