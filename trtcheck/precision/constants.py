"""Rounds constants to a narrow type without turning finite numbers into infinity or divisors into zero."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper, numpy_helper

# Largest and smallest positive value of each type: IEEE 754 binary16, and bfloat16 with its 8 bits.
_TYPES: dict[int, tuple[np.dtype, float, float]] = {
    TensorProto.FLOAT16: (np.dtype(np.float16), 65504.0, 2.0**-24),
    TensorProto.BFLOAT16: (np.dtype(ml_dtypes.bfloat16), (2 - 2.0**-7) * 2.0**127, 2.0**-133),
}


def round_array(array: np.ndarray, narrow: int) -> tuple[np.ndarray, bool]:
    """Rounds an FP32 *array* to nearest even in the type *narrow*.

    Finite values beyond its range (an attention mask of -3.4e38) become its largest finite value, and a
    single number that would vanish (an epsilon of 1e-12) its smallest one. Infinities and NaN stay.

    Returns:
        The rounded array and whether a value was changed by more than rounding.
    """
    dtype, greatest, smallest = _TYPES[narrow]
    with np.errstate(over="ignore"):
        rounded = array.astype(dtype)
    beyond = np.isfinite(array) & ~np.isfinite(rounded.astype(np.float32))
    if beyond.any():
        return np.where(beyond, np.copysign(greatest, array).astype(dtype), rounded), True
    if array.size == 1 and np.all(array != 0) and np.all(rounded == 0):
        return np.copysign(smallest, array).astype(dtype), True
    return rounded, False


def round_tensor(tensor: TensorProto, narrow: int, name: str) -> tuple[TensorProto, bool]:
    """The FP32 *tensor* in the type *narrow* under the given *name*; see `round_array`."""
    rounded, changed = round_array(numpy_helper.to_array(tensor), narrow)
    # Not numpy_helper.from_array, which knows ml_dtypes' bfloat16 only in later versions of onnx.
    return helper.make_tensor(name, narrow, tensor.dims, rounded.tobytes(), raw=True), changed
