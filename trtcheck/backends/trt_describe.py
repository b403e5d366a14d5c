"""What a serialized engine is: inputs, outputs, profiles, memory and layers, asked in a child process."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtcheck.backends.trt_flavour import Flavour
from trtcheck.backends.trt_runtime import deserialize

NUMPY = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "INT32": "int32",
    "INT64": "int64", "BOOL": "bool", "UINT8": "uint8",
}  # fmt: skip
"""Names of numpy's types (and of ml_dtypes' bfloat16) by TensorRT's, for inputs and outputs."""

LINEAR = "LINEAR"
"""TensorRT's name of the layout that numpy's arrays have; lean runtimes have no names of layouts."""

NAMES_ONLY = "the engine holds the names of its layers alone (build it with profilingVerbosity=detailed)"
NO_INSPECTOR = "these bindings of TensorRT have no engine inspector"

_TYPE_KEYS = ("Format/Datatype", "DataType", "Datatype", "Format")
_TYPE_NAMES = (  # in this order: "bfloat16" holds "float", "uint8" holds "int8"
    ("BFLOAT16", r"bf16|bfloat16"), ("FLOAT8E4M3FN", r"fp8|float8"), ("FLOAT16", r"fp16|half|float16"),
    ("FLOAT", r"fp32|float"), ("UINT8", r"uint8"), ("INT8", r"int8"), ("INT4", r"int4"), ("INT64", r"int64"),
    ("INT32", r"int32"), ("BOOL", r"bool"),
)  # fmt: skip


def describe(flavour: Flavour, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine of *request* (``engine``, ``plugins``, ``host_code``) is, JSON-ready.

    Returns:
        ``inputs`` and ``outputs`` (``name``, ``dtype``, ``shape`` with None for open dimensions,
        ``format``, ``shape_tensor``), ``profiles`` (by input ``min``, ``opt``, ``max``), ``memory_bytes``
        (of the largest profile), ``nodes`` (layers after fusion), ``inspector`` (layers by type of their
        first result, or None) and ``inspector_note`` (why None).

    Raises:
        BackendError: The library cannot be loaded.
        EngineError: The engine cannot be read here.
    """
    opened = deserialize(
        flavour, Path(request["engine"]), request["plugins"], host_code=request["host_code"]
    )  # fmt: skip
    engine, library = opened.engine, opened.library
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT]
    layers, note = _inspected(library, engine)
    # What would crash in the process of the tests crashes here first.
    engine.create_execution_context()
    return {
        "inputs": [_tensor(library, engine, name) for name in inputs],
        "outputs": [_tensor(library, engine, name) for name in names if name not in inputs],
        "profiles": [
            {name: _profile(engine, name, index) for name in inputs if not engine.is_shape_inference_io(name)}
            for index in range(engine.num_optimization_profiles)
        ],
        "memory_bytes": int(engine.device_memory_size_v2),
        "nodes": int(engine.num_layers),
        "inspector": layers,
        "inspector_note": note,
    }


def _tensor(library: Any, engine: Any, name: str) -> dict[str, Any]:
    kind = engine.get_tensor_dtype(name).name
    return {
        "name": name,
        "dtype": NUMPY.get(kind, kind.lower()),
        "shape": [size if size >= 0 else None for size in engine.get_tensor_shape(name)],
        "format": engine.get_tensor_format(name).name if hasattr(library, "TensorFormat") else LINEAR,
        "shape_tensor": bool(engine.is_shape_inference_io(name)),
    }


def _profile(engine: Any, name: str, index: int) -> dict[str, list[int]]:
    shapes = engine.get_tensor_profile_shape(name, index)
    return {key: list(shape) for key, shape in zip(("min", "opt", "max"), shapes, strict=True)}


def _inspected(library: Any, engine: Any) -> tuple[dict[str, int] | None, str | None]:
    if not hasattr(library, "EngineInspector"):  # lean runtimes have none
        return None, NO_INSPECTOR
    inspector = engine.create_engine_inspector()
    return layers_by_type(inspector.get_engine_information(library.LayerInformationFormat.JSON))


def layers_by_type(text: str) -> tuple[dict[str, int] | None, str | None]:
    """Layers by the type of their first result, from the engine inspector's JSON, or why there are none.

    TensorRT 10 states ``Format/Datatype`` of every result, 11 states ``Format`` and ``DataType``.
    """
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return None, "the engine inspector's answer cannot be read"
    if not layers or any(isinstance(layer, str) for layer in layers):
        return None, NAMES_ONLY
    kinds = Counter(_result_type(layer) for layer in layers if isinstance(layer, dict))
    return dict(sorted(kinds.items())), None


def _result_type(layer: Mapping[str, Any]) -> str:
    results = [result for result in layer.get("Outputs") or () if isinstance(result, dict)]
    stated = " ".join(str(results[0][key]) for key in _TYPE_KEYS if key in results[0]) if results else ""
    return next((name for name, mark in _TYPE_NAMES if re.search(mark, stated.lower())), "unknown")
