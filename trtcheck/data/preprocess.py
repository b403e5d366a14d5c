"""From arrays of the data to what the model's inputs are fed: the same for every engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtcheck.case import InputSpec
from trtcheck.data import Images
from trtcheck.data.arrays import IMAGES
from trtcheck.data.casting import cast, check_finite, check_kind, is_float
from trtcheck.data.layout import arrange, describe, is_image
from trtcheck.data.recycled import Empty
from trtcheck.errors import DataError
from trtcheck.model import Signature, Tensor

_BLOCK_BYTES = 1 << 20
"""Pixels that the whole formula is done on before the next ones: so few that they stay in a core's cache."""


def check_fit(images: Images, signature: Signature, spec: InputSpec) -> int:
    """Checks on the first image that *images* can be fed to a model with *signature*.

    Returns:
        The bytes that an image is fed as.

    Raises:
        DataError: Names, shapes, types or the preprocessing do not fit, or the batch sizes of the
            model's inputs contradict each other.
    """
    if len(images) == 0:
        raise DataError("the data set is empty", where=images.name, expected="at least one image", found=0)
    fixed = {t.shape[0] for t in signature.inputs if t.shape}
    if len(fixed) > 1:
        raise DataError(
            "the model's inputs differ in their batch size",
            where=images.name,
            expected="one batch size, or an open one, for all inputs",
            found="; ".join(str(t) for t in signature.inputs),
        )
    feeds = preprocess(images.read(0, 1), signature, spec, where=images.name, start=0)
    return sum(feed.nbytes for feed in feeds.values())


def preprocess(
    arrays: Mapping[str, np.ndarray],
    signature: Signature,
    spec: InputSpec,
    *,
    where: str,
    start: int,
    empty: Empty = np.empty,
) -> dict[str, np.ndarray]:
    """Feeds for the model: ``(pixel * scale - mean) / std`` in float32, laid out and typed as its inputs.

    A model with one input takes the array of that name, or ``images``, or the only array. A model with
    several takes arrays named as its inputs; scale, mean and std then apply to its floating-point image
    inputs alone, and everything else is fed as it is.

    Args:
        arrays: Data (N, ...) by array name.
        signature: The model's inputs.
        spec: Preprocessing.
        where: What messages name as the place.
        start: Index of the first image in the data set, for messages.
        empty: Makes the arrays that the formula is written into.

    Returns:
        Contiguous arrays (N, ...) by input name, in the inputs' dtypes (strings as objects).

    Raises:
        DataError: Names, shapes, types, values or the preprocessing do not fit.
    """
    _check_formula(spec, where)
    names = _assign(arrays, signature, where)
    pixels = _pixel_inputs(arrays, names, signature)
    if not spec.is_identity and not pixels:
        raise DataError(
            "scale, mean and std need a floating-point input",
            where=where,
            expected="no scale, mean or std for this model",
            found="; ".join(str(tensor) for tensor in signature.inputs),
            hint="remove scale, mean and std from [models.<name>.input]",
        )
    feeds = {}
    for tensor in signature.inputs:
        name = names[tensor.name]
        array = np.asarray(arrays[name])
        check_kind(array, name, tensor, where)
        view, axis = arrange(array, name, tensor, spec, where)
        if view.dtype.kind == "f":
            check_finite(view, name, where, start)
        formula = _Formula.of(view, axis, spec, name, where) if tensor.name in pixels else _Formula()
        finite = view.dtype == np.uint8 and formula.keeps_bytes_finite(tensor.dtype)
        feeds[tensor.name] = cast(formula(view, empty), name, tensor, where, start, finite=finite)
    return feeds


def _check_formula(spec: InputSpec, where: str) -> None:
    for key, values in (("scale", (spec.scale,)), ("mean", spec.mean), ("std", spec.std)):
        if not all(math.isfinite(value) for value in values) or (key == "std" and 0.0 in values):
            raise DataError(
                f"{key} cannot be used",
                where=where,
                expected="finite numbers" + (" other than 0" if key == "std" else ""),
                found=f"{key} = {list(values)}",
            )


def _assign(arrays: Mapping[str, np.ndarray], signature: Signature, where: str) -> dict[str, str]:
    """The array's name by input name."""
    inputs = [tensor.name for tensor in signature.inputs]
    if len(inputs) == 1:
        for name in (inputs[0], IMAGES):
            if name in arrays:
                return {inputs[0]: name}
        if len(arrays) == 1:
            return {inputs[0]: next(iter(arrays))}
    elif set(inputs) == set(arrays):
        return {name: name for name in inputs}
    raise DataError(
        "the arrays are not those of the model's inputs",
        where=where,
        expected=", ".join(inputs) + (f" (or {IMAGES})" if len(inputs) == 1 else ""),
        found=", ".join(arrays) or "no array",
        hint="name the arrays as the model's inputs",
    )


def _pixel_inputs(
    arrays: Mapping[str, np.ndarray], names: Mapping[str, str], signature: Signature
) -> set[str]:
    """Names of the inputs that scale, mean and std apply to."""
    single = len(signature.inputs) == 1

    def takes_pixels(tensor: Tensor) -> bool:
        return is_float(tensor.dtype) and (single or is_image(arrays[names[tensor.name]], tensor))

    return {tensor.name for tensor in signature.inputs if takes_pixels(tensor)}


@dataclass(frozen=True, eq=False)
class _Formula:
    """``(pixel * scale - mean) / std`` in float32.

    Attributes:
        scale: The factor.
        mean: float32, shaped to meet the channels; None for none.
        std: The same.
    """

    scale: float = 1.0
    mean: np.ndarray | None = None
    std: np.ndarray | None = None

    @classmethod
    def of(cls, view: np.ndarray, axis: int | None, spec: InputSpec, name: str, where: str) -> _Formula:
        """That of *spec* for *view*, whose channel axis is *axis*, None where it has none."""
        return cls(
            spec.scale,
            _per_channel("mean", spec.mean, view, axis, name, where) if spec.mean else None,
            _per_channel("std", spec.std, view, axis, name, where) if spec.std else None,
        )

    def __call__(self, view: np.ndarray, empty: Empty = np.empty) -> np.ndarray:
        """The formula's values for *view*, contiguous; *view* itself where the formula changes nothing."""
        if self.scale == 1.0 and self.mean is None and self.std is None:
            return view
        pixels = empty(view.shape, np.dtype(np.float32))
        rows = max(1, _BLOCK_BYTES // max(1, pixels[:1].nbytes))
        # Values beyond float32 become infinite here and are reported by the cast that follows.
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(view), rows):
                block = pixels[start : start + rows]
                # Bytes are quicker to lay out than the floats that become of them.
                block[...] = np.ascontiguousarray(view[start : start + rows])
                if self.scale != 1.0:
                    block *= np.float32(self.scale)
                if self.mean is not None:
                    block -= self.mean
                if self.std is not None:
                    block /= self.std
        return pixels

    def keeps_bytes_finite(self, dtype: np.dtype[Any]) -> bool:
        """Whether all values of a byte stay finite in *dtype*, a float: then no pixel need be looked at."""
        if not is_float(dtype):
            return False
        shapes = [(1,), *(part.shape for part in (self.mean, self.std) if part is not None)]
        channels = np.broadcast_shapes(*shapes)
        values = np.arange(256, dtype=np.uint8).reshape(256, *[1] * (len(channels) - 1))
        with np.errstate(over="ignore", invalid="ignore"):
            made = self(np.broadcast_to(values, (256, *channels[1:]))).astype(dtype)
        return bool(np.isfinite(made).all())


def _per_channel(
    key: str, values: tuple[float, ...], view: np.ndarray, axis: int | None, name: str, where: str
) -> np.ndarray:
    """*values* as float32, shaped to meet the channel axis of *view*."""
    channels = 1 if axis is None else view.shape[axis]
    if len(values) not in (1, channels):
        raise DataError(
            f"{key} does not fit the channels of '{name}'",
            where=where,
            expected=f"1 or {channels} numbers" if channels > 1 else "1 number",
            found=f"{len(values)} numbers for {describe(view)} in the model's layout",
        )
    shape = [1] * view.ndim
    if axis is not None:
        shape[axis] = len(values)
    return np.array(values, np.float32).reshape(shape)
