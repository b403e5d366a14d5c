"""Inputs and outputs of a TensorRT engine, refused where they cannot be fed or read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from trtcheck.backends.trt_describe import LINEAR
from trtcheck.errors import EngineError
from trtcheck.model import Signature, Tensor

_INSTEAD_OF_SHAPES = {
    "input": "export the model with fixed sizes",
    "output": "mark it with mark_output instead of mark_output_for_shapes",
}


def signature_of(described: Mapping[str, Any], path: Path) -> Signature:
    """Inputs and outputs of a described engine.

    Args:
        described: What `trtcheck.backends.trt_describe.describe` found.
        path: The engine's file, for messages.

    Raises:
        EngineError: An input or output is of a type or layout that numpy does not have, or holds a shape.
    """
    for role, hint in _INSTEAD_OF_SHAPES.items():
        for tensor in described[f"{role}s"]:
            if tensor["shape_tensor"]:  # it lies on the host: an address on the GPU would end the process
                raise EngineError(
                    f"{role} '{tensor['name']}' is a shape, not data", where=path,
                    expected=f"{role}s that hold one sample a row", hint=hint,
                )  # fmt: skip
    for tensor in (*described["inputs"], *described["outputs"]):
        if tensor["format"] != LINEAR:
            raise EngineError(
                f"'{tensor['name']}' is not laid out row by row", where=path, expected=LINEAR,
                found=tensor["format"], hint="build it without inputIOFormats and outputIOFormats",
            )  # fmt: skip
    return Signature(_tensors(described["inputs"], path), _tensors(described["outputs"], path))


def _tensors(described: Sequence[Mapping[str, Any]], path: Path) -> tuple[Tensor, ...]:
    return tuple(Tensor(t["name"], _dtype(t, path), tuple(t["shape"])) for t in described)


def _dtype(tensor: Mapping[str, Any], path: Path) -> np.dtype:
    bfloat16: np.dtype = np.dtype(ml_dtypes.bfloat16)
    if tensor["dtype"] == "bfloat16":
        return bfloat16
    try:
        dtype: np.dtype = np.dtype(tensor["dtype"])
    except TypeError as error:
        raise EngineError(
            f"'{tensor['name']}' has a type that numpy does not have", where=path, found=tensor["dtype"]
        ) from error
    return dtype
