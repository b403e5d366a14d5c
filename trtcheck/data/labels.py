"""Labels of evaluation data: checked once, then int64 everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trtcheck.errors import DataError
from trtcheck.metrics.confusion import NO_LABEL


def _integers(values: np.ndarray, where: str) -> np.ndarray:
    """*values* (N,) as int64; bool, integers and floats that are whole are taken."""
    if values.dtype.kind not in "biuf":
        raise DataError("labels are no numbers", where=where, expected="integers", found=values.dtype)
    limit = np.iinfo(np.int64).max
    with np.errstate(invalid="ignore"):
        usable = values <= limit if values.dtype.kind != "f" else (np.abs(values) < 2.0**53)
        usable &= values == np.floor(values) if values.dtype.kind == "f" else True
    if not usable.all():
        first = int(np.argmin(usable))
        raise DataError(
            f"labels[{first}] is no class number", where=where, expected="whole numbers", found=values[first]
        )
    return values.astype(np.int64)


def check_labels(
    values: np.ndarray, count: int, *, classes: Sequence[str] | None, where: str, name: str = "images"
) -> np.ndarray:
    """Checks labels and returns them in the form that the rest of trtcheck relies on.

    Args:
        values: Labels (N,) or (N, 1) of any integer or bool dtype, or whole floats; -1 is "no label".
        count: The number of images N.
        classes: The class names, which bound the labels; None leaves them unbounded.
        where: What messages name as the place.
        name: What messages call the images.

    Returns:
        int64 array (N,).

    Raises:
        DataError: Shape, length, dtype or a value is wrong; the first bad index is named.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            "labels have the wrong shape",
            where=where,
            expected=f"({count},), one class number an image",
            found=values.shape,
            hint="store class numbers, not one-hot rows: labels.argmax(axis=1)" if values.ndim == 2 else None,
        )
    if len(values) != count:
        raise DataError(
            "labels and images differ in number",
            where=where,
            expected=f"{count} labels, as many as {name}",
            found=f"{len(values)} labels",
        )
    labels = _integers(values, where)
    allowed = labels >= NO_LABEL
    expected = "0 or more, or -1 for no label"
    if classes is not None:
        allowed &= labels < len(classes)
        expected = f"0 to {len(classes) - 1} ({len(classes)} classes), or -1 for no label"
    if not allowed.all():
        first = int(np.argmin(allowed))
        raise DataError(
            f"labels[{first}] is out of range", where=where, expected=expected, found=int(labels[first])
        )
    return labels
