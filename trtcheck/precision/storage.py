"""Writes ONNX models, byte for byte the same for the same model."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

_LARGEST_FILE = 1_800_000_000


def save(model: ModelProto, path: Path) -> bool:
    """Writes *model* to *path*; weights that protobuf cannot hold go to ``<stem>.weights`` beside it.

    Returns:
        Whether weights were written beside it.
    """
    if sum(len(t.raw_data) for t in model.graph.initializer) < _LARGEST_FILE:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return False
    beside = path.with_name(f"{path.stem}.weights")
    beside.unlink(missing_ok=True)  # onnx appends to a file that is there
    copy = ModelProto()
    copy.CopyFrom(model)
    onnx.save_model(copy, path, save_as_external_data=True, location=beside.name, size_threshold=1024)
    return True
