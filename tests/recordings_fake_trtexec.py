"""A stand-in for trtexec, which needs a GPU: its options and files, with ONNX Runtime computing.

What it writes follows samples/common/sampleReporting.cpp of TensorRT 10 and 11: numbers with six significant
digits as C++ streams print them, ``nan`` and ``inf`` included.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime


def written(number: float) -> str:
    """A number as ``std::ostream`` prints it."""
    return f"{number:g}"


def output_json(outputs: Mapping[str, np.ndarray]) -> str:
    """The text of ``--exportOutput``."""
    entries = [
        f'{{ "name" : "{name}"\n  , "dimensions" : "{"x".join(map(str, array.shape))}"\n'
        f'  , "values" : [ {", ".join(written(value) for value in array.ravel().tolist())} ]\n  }}\n'
        for name, array in outputs.items()
    ]
    return "[\n  " + ", ".join(entries) + "]\n"


def times_json(latencies: list[float], *, transfers: bool = True, version: int = 10) -> str:
    """The text of ``--exportTimes``; a fifth of the latency are transfers where they are timed."""
    lines = []
    for number, latency in enumerate(latencies):
        move = latency / 10 if transfers else 0.0
        compute = latency - 2 * move
        start = 10.0 * number
        names = ("In", "Out", "in", "out") if version == 7 else ("H2d", "D2h", "h2d", "d2h")
        values = {
            "startEnqMs": start, "endEnqMs": start, f"start{names[0]}Ms": start,
            f"end{names[0]}Ms": start + move, "startComputeMs": start + move,
            "endComputeMs": start + move + compute, f"start{names[1]}Ms": start + move + compute,
            f"end{names[1]}Ms": start + latency, f"{names[2]}Ms": move, "computeMs": compute,
            f"{names[3]}Ms": move, "latencyMs": latency,
        }  # fmt: skip
        if version < 8 or (version == 8 and transfers):
            values["endToEndMs"] = latency
        lines.append(
            "{ " + ", ".join(f'"{key}" : {written(value)}' for key, value in values.items()) + " }\n"
        )
    return "[\n  " + ", ".join(lines) + "]\n"


def pairs(text: str) -> dict[str, str]:
    """``name:value`` pairs, names in single quotes or not, separated by commas."""
    found = {}
    for pair in text.split(","):
        name, _, value = pair.rpartition(":")
        found[name.strip("'")] = value
    return found


def main(arguments: list[str]) -> int:
    """Runs the "engine", an ONNX file."""
    given = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    told = pairs(given["shapes"]) if "shapes" in given else {}
    shapes = {name: [int(size) for size in text.split("x")] for name, text in told.items()}
    session = onnxruntime.InferenceSession(given["loadEngine"], providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(float16)": np.float16}
    feeds = {}
    for value in session.get_inputs():
        shape = shapes.get(value.name, value.shape)
        data = Path(pairs(given["loadInputs"])[value.name]).read_bytes()
        if len(data) != np.dtype(kinds[value.type]).itemsize * int(np.prod(shape)):
            sys.stderr.write("Unexpected file size for input file\n")
            return 1
        feeds[value.name] = np.frombuffer(data, kinds[value.type]).reshape(shape)
    names = [value.name for value in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, feeds), strict=True))
    Path(given["exportOutput"]).write_text(output_json(outputs))
    if "exportTimes" in given:
        Path(given["exportTimes"]).write_text(times_json([2.5, 2.0, 3.0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
