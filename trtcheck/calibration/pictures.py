"""Whether two pictures are one: the same picture at another size or compressed again, not one that is alike.

Two steps, since most pairs are nothing alike. First every pair is compared on a coarse grid by its tangent
distance (Simard, LeCun, Denker, "Efficient pattern recognition using a new transformation distance",
NIPS 1992): the share of one picture that neither the other nor its first changes under shift and blur
explain. It is a product of matrices. Then the few pairs that stand out are compared at the model's own
resolution: resampling and compression can be undone by a small shift and blur, another picture of the same
kind cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

LEAST_SIDE = 16
"""Pictures with fewer rows or columns have too little detail to be told from others of their kind."""
_BASE = 32
_FINE = 64
_AT_ONCE = 1000
_TINY = 1e-9
_PLAIN = 1e-3
"""A smaller deviation, as a part of the largest value, is rounding."""
_BLURS = (0.6, 1.0, 1.6)
"""In pixels: what resampling by up to a half, or compression, takes off a picture."""
_SHIFTS = (0.5, 1.0)
"""Blurs, in pixels, of the gradients that stand for a small shift."""


def as_channels(feed: np.ndarray) -> np.ndarray:
    """A batch of pictures as float32 (N, C, H, W).

    Args:
        feed: What a model's input is fed: (N, C, H, W) or (N, H, W, C).
    """
    last = feed.shape[3] in (1, 3, 4) and feed.shape[1] not in (1, 3, 4)
    return np.asarray(feed.transpose(0, 3, 1, 2) if last else feed, np.float32)


def coarse(pixels: np.ndarray) -> np.ndarray:
    """The blurred brightness of *pixels* (N, C, H, W) on a grid of at most 32 x 32, float32 (N, h, w)."""
    height, width = pixels.shape[2:]
    rows, columns = (_area(size, min(size, _BASE)) for size in (height, width))
    grid = rows @ pixels.mean(axis=1) @ columns.T
    return np.asarray(_blurred(grid, 1.0))


def vectors(grid: np.ndarray) -> np.ndarray:
    """What of *grid* (N, h, w) is compared: unit vectors (N, P); 0 for a picture of one colour."""
    return _unit(_halved(grid))


def tangents(grid: np.ndarray) -> np.ndarray:
    """An orthonormal basis (5, N, P) of each picture of *grid* (N, h, w) and its shifts and blurs."""
    # In parts: QR keeps several copies in float64.
    parts = [_bases(grid[start : start + _AT_ONCE]) for start in range(0, len(grid), _AT_ONCE)]
    return np.concatenate(parts, axis=1)


def _bases(grid: np.ndarray) -> np.ndarray:
    down, across = np.gradient(grid, axis=(1, 2))
    curved = (np.gradient(down, axis=1), np.gradient(across, axis=2))
    parts = [_unit(_halved(part)) for part in (grid, down, across, *curved)]
    basis = np.linalg.qr(np.stack(parts, axis=2).astype(np.float64))[0]
    return np.ascontiguousarray(basis.transpose(2, 0, 1), dtype=np.float32)


def distances(own: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """The share of each of *own* (N, P) that each of *bases* (5, M, P) does not explain, float32 (N, M)."""
    explained = np.square(own @ bases.reshape(-1, bases.shape[2]).T)
    return np.asarray(np.maximum(1 - explained.reshape(len(own), *bases.shape[:2]).sum(axis=1), 0))


def unexplained(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The share of a picture that its partner, shifted by a little and blurred, does not explain.

    Either may be the sharper one; the smaller share counts.

    Args:
        one: Pictures (N, C, H, W).
        other: Their partners (N, C, H', W').

    Returns:
        float64 (N,): 0 for a copy, 1 for pictures that have nothing in common.
    """
    size = tuple(map(min, one.shape[2:], other.shape[2:], (_FINE, _FINE)))
    a, b = _fine(one, size), _fine(other, size)
    return np.asarray(np.minimum(_residual(a, b), _residual(b, a)))


def _fine(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """*pixels* (N, C, H, W) on a grid of *size*; beyond four channels their mean."""
    pixels = pixels if pixels.shape[1] <= 4 else pixels.mean(axis=1, keepdims=True)
    rows, columns = (_area(old, new) for old, new in zip(pixels.shape[2:], size, strict=True))
    return np.asarray(rows @ pixels @ columns.T)


def _residual(soft: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """The share of *soft* that a combination of *sharp*, its blurs and its shifts does not explain."""
    parts = [sharp, *(_blurred(sharp, sigma) for sigma in _BLURS)]
    for sigma in _SHIFTS:
        parts += np.gradient(_blurred(sharp, sigma), axis=(-2, -1))
    basis = np.stack([_unit(part) for part in parts], axis=1).astype(np.float64)
    target = _unit(soft).astype(np.float64)[..., np.newaxis]
    gram = basis @ basis.transpose(0, 2, 1) + 1e-7 * np.eye(basis.shape[1])
    weights = np.linalg.solve(gram, basis @ target)
    return np.asarray(np.square(target - basis.transpose(0, 2, 1) @ weights).sum(axis=(1, 2)))


def has_detail(grid: np.ndarray) -> np.ndarray:
    """Whether each of *grid* (N, h, w) differs from one colour by more than the rounding of its numbers."""
    flat = grid.reshape(len(grid), -1).astype(np.float64)
    return np.asarray(flat.std(axis=1) > _PLAIN * np.abs(flat).max(axis=1, initial=0) + _TINY)


def _halved(grid: np.ndarray) -> np.ndarray:
    rows, columns = (_area(size, size // 2) for size in grid.shape[1:])
    return np.asarray(rows @ grid @ columns.T)


def _blurred(grid: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(_blur(grid.shape[-2], sigma) @ grid @ _blur(grid.shape[-1], sigma).T)


def _unit(parts: np.ndarray) -> np.ndarray:
    """Each of *parts* (N, ...) as a vector of mean 0 and length 1."""
    flat = parts.reshape(len(parts), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), _TINY))


@lru_cache(maxsize=64)
def _area(size: int, cells: int) -> np.ndarray:
    """The matrix (cells, size) that averages *size* pixels over *cells* of equal width."""
    edges = np.linspace(0, size, cells + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.maximum(overlap, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


@lru_cache(maxsize=64)
def _blur(size: int, sigma: float) -> np.ndarray:
    """The matrix (size, size) of a Gaussian blur whose border repeats the outermost pixel."""
    reach = int(4 * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * np.square(steps / sigma))
    matrix = np.zeros((size, size))
    for row in range(size):
        np.add.at(matrix[row], np.clip(row + steps, 0, size - 1), kernel / kernel.sum())
    return matrix.astype(np.float32)
