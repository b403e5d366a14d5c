"""Any sequence of (image, label) pairs as a data source: lists, PyTorch data sets and their like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtcheck import digests
from trtcheck.data.arrays import IMAGES
from trtcheck.data.labels import check_labels
from trtcheck.errors import DataError


class PairImages:
    """Images of a sequence of (image, label) pairs; the images must share shape and dtype.

    The labels are collected when it is opened, in one pass over the sequence; images are fetched anew
    by every read.

    Args:
        pairs: Has ``len()`` and yields (image, label) by position; an image is anything that numpy takes.
        classes: Class names that bound the labels, or None.
        name: What messages call it.

    Raises:
        DataError: It is empty, an element is no pair, or the labels do not fit.
    """

    def __init__(self, pairs: Sequence[Any], classes: Sequence[str] | None, name: str) -> None:
        self.name = name
        self.class_names: tuple[str, ...] | None = None
        self._pairs = pairs
        if len(pairs) == 0:
            raise DataError(
                "the data set is empty",
                where=name,
                expected="(image, label) pairs",
                found="an empty sequence",
            )
        values = np.asarray([self._pair(index)[1] for index in range(len(pairs))])
        self.labels: np.ndarray | None = check_labels(values, len(pairs), classes=classes, where=name)
        self._first = self._image(0)

    def _pair(self, index: int) -> tuple[Any, Any]:
        pair = self._pairs[index]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(
                f"element {index} is no (image, label) pair",
                where=self.name,
                expected="a tuple of image and label",
                found=type(pair).__name__,
                hint="pass images without labels as one numpy array",
            )
        label = np.asarray(pair[1])
        if label.size != 1:
            raise DataError(
                f"the label of element {index} is no class number",
                where=self.name,
                expected="one integer",
                found=f"shape {label.shape}",
            )
        return pair[0], label.reshape(()).item()

    def _image(self, index: int) -> np.ndarray:
        image = np.asarray(self._pair(index)[0])
        if image.dtype.hasobject:
            raise DataError(
                f"the image of element {index} is no array of numbers",
                where=self.name,
                expected="something that numpy.asarray takes",
                found=type(self._pairs[index][0]).__name__,
            )
        return image

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """The images *start* to *stop* (exclusive) as one array ``images``.

        Raises:
            DataError: An image differs from the first one in shape or dtype.
        """
        images = [self._image(index) for index in range(start, stop)]
        for index, image in enumerate(images, start):
            if (image.shape, image.dtype) != (self._first.shape, self._first.dtype):
                raise DataError(
                    "the images differ in shape or dtype",
                    where=self.name,
                    expected=f"{self._first.dtype} {self._first.shape}, as image 0",
                    found=f"image {index}: {image.dtype} {image.shape}",
                )
        return {IMAGES: np.stack(images)}

    def digest(self) -> str:
        """Digest of all images in their order."""
        digest = digests.of_json("pairs")
        for index in range(len(self)):
            digest = digests.of_json([digest, digests.of_array(self._image(index))])
        return digest
