"""Memory of an evaluation by the number of images: it should not grow with the data set.

    python benchmarks/memory.py

A tiny CNN (32 x 32 x 3 uint8) is evaluated on 1,000, 10,000 and 100,000 images of an .npy file by
`trtcheck.evaluate`, as FP32 on the CPU against the reference, each time in a process of its own: cold, with
an empty cache, so that the reference is computed and its answers are written down; and warm, so that they are
read. Once with 10 scores an image and once with 1,000, whose answers take 400 MB. The process tells what it
held at most (``VmHWM``) and in the end (``VmRSS``, both of Linux's /proc). Peaks of many images are compared
with those of the fewest. Exits with 1 where one exceeds them by more than 50 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from trtcheck import Case, evaluate
from trtcheck.case import InputSpec
from trtcheck.environment import processor, usable_cores

GOAL_MB = 50.0
"""What more images may add to the peak."""
SHAPE = (32, 32, 3)
_SEED = 7
_BATCH = 64
_PIECE = 5_000


@dataclass(frozen=True)
class Held:
    """What one process held.

    Attributes:
        scores: Scores an image.
        images: Images that were evaluated.
        cache: ``"cold"`` or ``"warm"``.
        peak_mb: Resident memory at its most, in MB (10^6 bytes).
        end_mb: Resident memory in the end, in MB.
        seconds: What the evaluation took.
    """

    scores: int
    images: int
    cache: str
    peak_mb: float
    end_mb: float
    seconds: float


def make_model(path: Path, scores: int) -> None:
    """Writes a CNN of two layers with *scores* classes."""
    rng = np.random.default_rng(_SEED)
    shapes = {"w": (8, 3, 3, 3), "fc": (8, scores)}
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "fc"], ["scores"]),
    ]
    height, width, channels = SHAPE
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", channels, height, width])
    answer = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", scores])
    graph = helper.make_graph(nodes, "tiny", [image], [answer], weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def make_data(folder: Path, images: int, scores: int) -> None:
    """Writes random *images* and labels, a piece at a time."""
    rng = np.random.default_rng(_SEED)
    with (folder / "images.npy").open("wb") as file:
        told = {"descr": "|u1", "fortran_order": False, "shape": (images, *SHAPE)}
        np.lib.format.write_array_header_1_0(file, told)
        for start in range(0, images, _PIECE):
            rows = min(_PIECE, images - start)
            file.write(rng.integers(0, 256, (rows, *SHAPE), dtype=np.uint8).tobytes())
    np.save(folder / "labels.npy", rng.integers(0, scores, images))


def resident_mb(key: str) -> float:
    """What /proc says this process holds (``"VmRSS"``) or held at most (``"VmHWM"``), in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [line] = [line for line in lines if line.startswith(f"{key}:")]
    return int(line.split()[1]) * 1024 / 1e6


def evaluated(folder: Path) -> dict[str, float]:
    """Evaluates the model and the data in *folder* with the cache there, in this process."""
    case = Case(
        "tiny", folder / "model.onnx", {"images": folder / "images.npy", "labels": folder / "labels.npy"},
        batch=_BATCH, input=InputSpec(layout="NHWC", scale=1 / 255),
    )  # fmt: skip
    start = time.perf_counter()
    evaluate(case, "fp32", backend="onnxruntime", cache=folder / "cache")
    seconds = time.perf_counter() - start
    return {"peak_mb": resident_mb("VmHWM"), "end_mb": resident_mb("VmRSS"), "seconds": seconds}


def measured(scores: int, images: int) -> list[Held]:
    """What two processes held that evaluate the same images one after the other, on one cache."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name) / "model.onnx", scores)
        make_data(Path(name), images, scores)
        for cache in ("cold", "warm"):
            command = [sys.executable, __file__, "--child", name]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append(Held(scores, images, cache, **json.loads(told)))
    return found


def beyond(found: Held, all_found: Sequence[Held]) -> float:
    """How far the peak lies above that of the fewest images with as many scores and such a cache, in MB."""
    alike = [held for held in all_found if (held.scores, held.cache) == (found.scores, found.cache)]
    return found.peak_mb - min(alike, key=lambda held: held.images).peak_mb


def table(found: Sequence[Held]) -> list[str]:
    """A row a process."""
    head = [
        "| scores | images | cache | peak, MB | beyond the fewest images, MB | in the end, MB | time |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    rows = (
        f"| {held.scores:,} | {held.images:,} | {held.cache} | {held.peak_mb:.0f} | "
        f"{beyond(held, found):+.1f} | {held.end_mb:.0f} | {held.seconds:.1f} s |"
        for held in found
    )
    return [*head, *rows]


def numbers(text: str) -> list[int]:
    """``"1000,100000"`` as numbers."""
    return [int(part) for part in text.split(",")]


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=numbers, default=[1_000, 10_000, 100_000], help="numbers of images")
    parser.add_argument("--scores", type=numbers, default=[10, 1_000], help="numbers of scores an image")
    parser.add_argument("--quick", action="store_true", help="2,000 and 40,000 images of 10 scores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there, too")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(evaluated(options.child)))
        return 0
    scores, images = ([10], [2_000, 40_000]) if options.quick else (options.scores, options.images)
    print(f"onnxruntime {onnxruntime.__version__} on {processor()}, {usable_cores()} cores\n", flush=True)
    found = [held for many in scores for count in images for held in measured(many, count)]
    worst = max(beyond(held, found) for held in found)
    print("\n".join([*table(found), "", f"at most {worst:.1f} MB more (goal: {GOAL_MB:.0f} MB)"]))
    if options.json:
        options.json.write_text(json.dumps([asdict(held) for held in found], indent=1), encoding="utf-8")
    return int(worst > GOAL_MB)


if __name__ == "__main__":
    sys.exit(main())
