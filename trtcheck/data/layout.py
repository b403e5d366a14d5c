"""How an array of the data is laid into an input of the model: NHWC, NCHW, or as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trtcheck.case import InputSpec
from trtcheck.errors import DataError
from trtcheck.model import Shape, Tensor

_TO_NCHW = (0, 3, 1, 2)
_TO_NHWC = (0, 2, 3, 1)
_USUAL_CHANNELS = (1, 3, 4)

Arranged = tuple[np.ndarray, int | None]
"""A view (N, ...) of the data in the model's layout, and its channel axis if it has one."""


def describe(array: np.ndarray, layout: str | None = None) -> str:
    """Dtype and shape of a batch for messages, with N for the images, such as ``uint8[N, 28, 28]``."""
    dims = ", ".join(["N", *map(str, array.shape[1:])]) if array.ndim else ""
    return f"{array.dtype}[{dims}]" + (f" ({layout})" if layout and array.ndim == 4 else "")


def is_image(array: np.ndarray, tensor: Tensor) -> bool:
    """Whether *array*, (N, H, W) or of rank 4, goes into *tensor* as images."""
    rank = array.ndim if tensor.shape is None else len(tensor.shape)
    return rank == 4 and array.ndim in (3, 4)


def _fits(view: np.ndarray, dims: Shape) -> bool:
    """Whether all axes but the first are those of the model; open ones take any length."""
    return view.ndim == len(dims) and all(
        dim is None or dim == length for dim, length in zip(dims[1:], view.shape[1:], strict=True)
    )


def _fits_as_image(arranged: Arranged, dims: Shape) -> bool:
    """Whether the view fits, and its channels are not laid on an open axis beside one made for channels."""
    view, axis = arranged
    if axis is None or len(dims) != 4:
        return _fits(view, dims)
    other = dims[4 - axis]
    misplaced = dims[axis] is None and other in _USUAL_CHANNELS and view.shape[axis] not in _USUAL_CHANNELS
    return _fits(view, dims) and not misplaced


def _own_channel_axis(array: np.ndarray, spec: InputSpec) -> int:
    """The channel axis of rank-4 data that fit as they are: the one that mean and std are made for."""
    count = max(len(spec.mean), len(spec.std))
    return 3 if array.shape[3] == count and array.shape[1] != count else 1


def _candidates(array: np.ndarray, dims: Shape, spec: InputSpec) -> list[Arranged]:
    """The ways in which *array* could be meant, the likeliest first."""
    if len(dims) != 4 or array.ndim not in (3, 4):
        return [(array, None)]
    if array.ndim == 3:
        return [(array[:, np.newaxis], 1), (array[..., np.newaxis], 3)]
    if spec.layout == "NHWC":
        return [(array.transpose(_TO_NCHW), 1), (array, 3)]
    if spec.layout == "NCHW":
        return [(array, 1), (array.transpose(_TO_NHWC), 3)]
    if _fits(array, dims):
        return [(array, _own_channel_axis(array, spec))]
    return [(array.transpose(_TO_NCHW), 1), (array.transpose(_TO_NHWC), 3)]


def _model_layout(dims: Shape) -> str:
    last = dims[3] in _USUAL_CHANNELS and dims[1] not in _USUAL_CHANNELS
    return "NHWC" if last else "NCHW"


def _fitting(array: np.ndarray, dims: Shape, spec: InputSpec) -> list[Arranged]:
    if spec.layout is None and array.ndim == len(dims) and _fits(array, dims):
        return _candidates(array, dims, spec)
    return [arranged for arranged in _candidates(array, dims, spec) if _fits_as_image(arranged, dims)]


def _hint(array: np.ndarray, dims: Shape, spec: InputSpec) -> str | None:
    """What would make the data fit: the other layout, or other sizes."""
    other = {"NHWC": "NCHW", "NCHW": "NHWC"}.get(spec.layout or "")
    if other and _fitting(array, dims, replace(spec, layout=other)):
        return f'layout = "{other}" under [models.<name>.input] would fit'
    if len(dims) == 4 and array.ndim in (3, 4):
        return (
            "make images of the size and channels that the model wants (image folders: resize, crop, color)"
        )
    return None


def arrange(array: np.ndarray, name: str, tensor: Tensor, spec: InputSpec, where: str) -> Arranged:
    """Lays *array* into the layout of *tensor*.

    The layout of the data is ``spec.layout``, or else what makes them fit: as they are if that fits. The
    model's own layout is the one in which its fixed dimensions equal the data's; NCHW where both do.

    Args:
        array: Data (N, ...); images are (N, H, W), (N, H, W, C) or (N, C, H, W).
        name: Name of the array in the data.
        tensor: The model's input.
        spec: Preprocessing.
        where: What messages name as the place.

    Raises:
        DataError: The data fit in no layout, or in two of which neither can be preferred.
    """
    if spec.layout not in (None, "NHWC", "NCHW"):
        raise DataError("unknown layout", where=where, expected="NHWC or NCHW", found=repr(spec.layout))
    dims = (None,) * array.ndim if tensor.shape is None else tensor.shape
    fitting = _fitting(array, dims, spec)
    expected = f"{tensor} ({_model_layout(dims)})" if len(dims) == 4 else str(tensor)
    found = f"{name}: {describe(array, spec.layout)}"
    if not fitting:
        raise DataError(
            f"array '{name}' does not fit the model's input '{tensor.name}'",
            where=where,
            expected=expected,
            found=found,
            hint=_hint(array, dims, spec),
        )
    if len(fitting) > 1 and array.ndim == 4 and spec.layout is None:
        raise DataError(
            f"array '{name}' fits the model's input '{tensor.name}' in two layouts",
            where=where,
            expected=expected,
            found=found,
            hint='set layout = "NHWC" or "NCHW" under [models.<name>.input]',
        )
    return fitting[0]
