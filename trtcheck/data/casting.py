"""From the data's element type to the one that the model's input has, without losing a value unseen."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from trtcheck.data.layout import describe
from trtcheck.errors import DataError
from trtcheck.model import Tensor

_NUMBERS = "biuf"
_STRINGS = "US"


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether *dtype* is a floating-point type, those of ml_dtypes (bfloat16, float8) included."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def check_kind(array: np.ndarray, name: str, tensor: Tensor, where: str) -> None:
    """Checks that elements of *array* may become elements of *tensor* at all.

    Raises:
        DataError: Strings for numbers or numbers for strings, floats for integers, or a type that no
            input takes.
    """
    kind = array.dtype.kind
    if tensor.dtype.kind in "OUST":
        fits, wanted = kind in _STRINGS + "O", "strings"
    elif is_float(tensor.dtype):
        fits, wanted = kind in _NUMBERS, "numbers"
    else:
        fits, wanted = tensor.dtype.kind in "biu" and kind in "biu", "integers"
    if not fits:
        raise DataError(
            f"array '{name}' has the wrong type for the model's input '{tensor.name}'",
            where=where,
            expected=f"{wanted}, for {tensor}",
            found=f"{name}: {describe(array)}",
        )


def _first_bad(good: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """Of a bool array (N, ...) the first image with a False, and the position of its first value."""
    position = np.unravel_index(int(np.argmin(good)), good.shape)
    return int(position[0]), tuple(int(index) for index in position)


def check_finite(array: np.ndarray, name: str, where: str, start: int) -> None:
    """Checks that floating-point data (N, ...) hold neither NaN nor Inf.

    Raises:
        DataError: Names the first image that does; *start* is the index of the first in the data set.
    """
    finite = np.isfinite(array)
    if not finite.all():
        image, position = _first_bad(finite)
        bad = int((~finite[image]).sum())
        raise DataError(
            f"{name}[{start + image}] holds {'NaN' if np.isnan(array[position]) else 'Inf'}",
            where=where,
            expected="finite numbers",
            found=f"{bad} of its {finite[image].size} values are not finite",
        )


def _to_float(
    values: np.ndarray, dtype: np.dtype[Any], name: str, where: str, start: int, *, checked: bool
) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.ascontiguousarray(values, dtype)
    if checked:
        return result
    finite = np.isfinite(result)
    if not finite.all():
        image, position = _first_bad(finite)
        raise DataError(
            f"{name}[{start + image}] leaves the range of {dtype} after preprocessing",
            where=where,
            expected=f"values within {float(ml_dtypes.finfo(dtype).max):g} of zero",  # type: ignore[no-untyped-call]
            found=values[position],
        )
    return result


def _to_integer(values: np.ndarray, dtype: np.dtype[Any], name: str, where: str, start: int) -> np.ndarray:
    if not np.can_cast(values.dtype, dtype, "safe"):
        low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        fits = (values >= low) & (values <= high)
        if not fits.all():
            image, position = _first_bad(fits)
            raise DataError(
                f"{name}[{start + image}] does not fit {dtype}",
                where=where,
                expected=f"{low} to {high}",
                found=values[position],
            )
    return np.ascontiguousarray(values, dtype)


def _to_strings(values: np.ndarray, name: str, where: str) -> np.ndarray:
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"array '{name}' holds text that is not UTF-8", where=where, found=error
            ) from error
    return np.ascontiguousarray(values.astype(object))


def cast(
    values: np.ndarray, name: str, tensor: Tensor, where: str, start: int, *, finite: bool = False
) -> np.ndarray:
    """*values* (N, ...) in the element type of *tensor*, contiguous; strings become objects.

    `check_kind` has let the types pass. Whether every value fits is checked here, unless floats are known to
    stay *finite*.

    Raises:
        DataError: A value leaves the range of the input's type; the first such image is named.
    """
    if tensor.dtype.kind in "OUST":
        return _to_strings(values, name, where)
    if is_float(tensor.dtype):
        return _to_float(values, tensor.dtype, name, where, start, checked=finite)
    return _to_integer(values, tensor.dtype, name, where, start)
