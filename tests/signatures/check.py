"""Holds the bindings of a TensorRT flavour against what trtcheck calls: ``python check.py tensorrt_lean``.

Exits with 1 and a list of what is missing. Needs nothing but the bindings, and no GPU.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from types import ModuleType

ATTRIBUTE = -1

RUN = {
    "Runtime": {"__init__": 1, "deserialize_cuda_engine": 1, "engine_host_code_allowed": ATTRIBUTE},
    "ILogger": {"__init__": 0, "log": 2},
    "ICudaEngine": {
        "num_io_tensors": ATTRIBUTE,
        "num_layers": ATTRIBUTE,
        "num_optimization_profiles": ATTRIBUTE,
        "device_memory_size_v2": ATTRIBUTE,
        "get_tensor_name": 1,
        "get_tensor_mode": 1,
        "get_tensor_dtype": 1,
        "get_tensor_shape": 1,
        "get_tensor_profile_shape": 2,
        "is_shape_inference_io": 1,
        "create_execution_context": 0,
    },
    "IExecutionContext": {
        "set_input_shape": 2,
        "infer_shapes": 0,
        "get_tensor_shape": 1,
        "set_tensor_address": 2,
        "execute_async_v3": 1,
    },
    "TensorIOMode": {"INPUT": ATTRIBUTE},
    "DataType": dict.fromkeys(
        ("FLOAT", "HALF", "BF16", "INT8", "INT32", "INT64", "BOOL", "UINT8"), ATTRIBUTE
    ),
}
"""What running an engine takes, by class: the arguments of methods, in number."""

LAYOUTS = {"ICudaEngine": {"get_tensor_format": 1}, "TensorFormat": {"LINEAR": ATTRIBUTE}}
"""What bindings with names of layouts have besides."""

INSPECT = {
    "EngineInspector": {"get_engine_information": 1},
    "ICudaEngine": {"create_engine_inspector": 0},
    "LayerInformationFormat": {"JSON": ATTRIBUTE},
}
"""What bindings with an engine inspector have besides."""

RTX = {
    "Runtime": {"get_engine_validity": 1, "engine_header_size": ATTRIBUTE},
    "EngineInvalidityDiagnostics": {"__members__": ATTRIBUTE},
    "ICudaEngine": {"create_runtime_config": 0, "create_execution_context": 1},
    "IExecutionContext": {"is_stream_capturable": 1},
    "IRuntimeConfig": {
        "cuda_graph_strategy": ATTRIBUTE,
        "dynamic_shapes_kernel_specialization_strategy": ATTRIBUTE,
        "create_runtime_cache": 0,
        "set_runtime_cache": 1,
    },
    "IRuntimeCache": {"serialize": 0, "deserialize": 1},
    "CudaGraphStrategy": {"WHOLE_GRAPH_CAPTURE": ATTRIBUTE, "DISABLED": ATTRIBUTE},
    "DynamicShapesKernelSpecializationStrategy": {"EAGER": ATTRIBUTE},
}
"""What TensorRT for RTX has besides."""

BUILD = {
    "OnnxParser": {"parse_from_file": 1, "num_errors": ATTRIBUTE, "get_error": 1},
    "ParserError": {"desc": 0, "code": 0, "node_name": 0, "node_operator": 0},
    "IProgressMonitor": {"phase_start": 3, "step_complete": 2, "phase_finish": 1},
    "MemoryPoolType": {"WORKSPACE": ATTRIBUTE},
    "HardwareCompatibilityLevel": {"AMPERE_PLUS": ATTRIBUTE},
    "BuilderFlag": {"TF32": ATTRIBUTE, "VERSION_COMPATIBLE": ATTRIBUTE},
    "ILayer": {
        "name": ATTRIBUTE,
        "type": ATTRIBUTE,
        "metadata": ATTRIBUTE,
        "num_inputs": ATTRIBUTE,
        "num_outputs": ATTRIBUTE,
        "get_input": 1,
        "get_output": 1,
    },
    "ITensor": {"name": ATTRIBUTE, "dtype": ATTRIBUTE, "shape": ATTRIBUTE},
    "LayerType": dict.fromkeys(
        (
            "CONSTANT", "CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "DEQUANTIZE", "SHUFFLE",
            "IDENTITY", "SQUEEZE", "UNSQUEEZE",
        ),
        ATTRIBUTE,
    ),
}  # fmt: skip
"""What bindings with a builder have besides."""

_SIGNATURE = re.compile(r"^(?:\d+\. )?\w+\((?P<arguments>.*)\) -> ", re.MULTILINE)


def missing(library: ModuleType) -> list[str]:
    """What trtcheck calls and *library* does not have, or has with another number of arguments."""
    tables = [RUN]
    if hasattr(library, "TensorFormat"):
        tables.append(LAYOUTS)
    if hasattr(library, "EngineInspector"):
        tables.append(INSPECT)
    if hasattr(library, "CudaGraphStrategy"):
        tables.append(RTX)
    if hasattr(library, "Builder"):
        tables.append(BUILD)
    return [
        f"{kind}.{member}: {wrong}"
        for table in tables
        for kind, members in table.items()
        for member, count in members.items()
        if (wrong := _wrong(library, kind, member, count)) is not None
    ]


def _wrong(library: ModuleType, kind: str, member: str, count: int) -> str | None:
    found = getattr(library, kind, None)
    if found is None or not hasattr(found, member):
        return "is not there"
    if count == ATTRIBUTE:
        return None
    text = getattr(found, member).__doc__ or ""
    taken = list(_counts(text))
    if taken and not any(least <= count <= most for least, most in taken):
        return f"is called with {count} arguments, takes {taken}"
    return None


def _counts(doc: str) -> Iterator[tuple[int, int]]:
    """The least and the largest number of arguments besides ``self``, of every overload that *doc* states."""
    for signature in _SIGNATURE.finditer(doc):
        arguments = _split(signature["arguments"])
        if any(argument.startswith("*") for argument in arguments):
            continue
        own = arguments[1:]
        yield sum("=" not in argument for argument in own), len(own)


def _split(arguments: str) -> list[str]:
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def main() -> int:
    library = importlib.import_module(sys.argv[1])
    wrong = missing(library)
    told = f"{sys.argv[1]} {library.__version__}"
    sys.stdout.write(
        "\n".join([f"{told}: {'misses' if wrong else 'has all that trtcheck calls'}", *wrong, ""])
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
