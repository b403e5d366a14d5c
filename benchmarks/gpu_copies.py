"""How much of the copies between host and GPU is hidden behind the work of ONNX Runtime CUDA.

    python benchmarks/gpu_copies.py --json=gpu_copies.json          # about 1 minute

Networks in FP16, with FP32 inputs and outputs, of random weights: ResNet-50, which computes longer than it
copies, and one of five convolutions, of which little but copies and calls is left. Milliseconds a batch of

- compute: runs one behind the other, whose input and output stay on the GPU;
- copies: the input from pinned memory to the GPU and the output back;
- staging: the input from a numpy array into pinned memory, and the output out of it, both by the processor;
- infer: trtcheck's `infer`, batch by batch: all three, one after the other;
- infer_many: the same batches, the next brought to the GPU while it works on one.

They take turns in one process, and the median of the rounds counts. ``hidden`` is (infer - infer_many) /
copies: 100 % where the copies cost nothing any more, more where some staging is hidden too. ``of limit`` is
infer_many / max(compute, copies): 100 % where only the slower of both is left.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
import resnet

from trtcheck.backends.base import BuildPlan
from trtcheck.backends.cuda import Device
from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda
from trtcheck.case import BuildSpec, LoweringSpec, Precision
from trtcheck.environment import processor, usable_cores
from trtcheck.gpu import find_gpu
from trtcheck.precision import lower

NETWORKS = {"resnet50": resnet.RESNET50, "small": resnet.Net(blocks=(1,), width=16, size=32, classes=10)}
BATCHES = (8, 64, 256)
ROUNDS = 5
TURN_S = 0.08
"""What a turn takes, unless `FEWEST` batches take longer."""
FEWEST, MOST = 8, 1000
DISTINCT = 3
"""Batches that differ, so that none lies in the processor's cache because the one before was the same."""
FIRST_GRAPH = 1000
"""Where the bare loop's CUDA graphs are numbered from, by batch size: trtcheck counts its own from 1."""

Turn = Callable[[int], object]
"""Does so many batches, and waits for the last."""


@dataclass(frozen=True)
class Row:
    """Milliseconds a batch, and what follows."""

    network: str
    cuda_graph: bool
    batch: int
    megabytes: float
    compute: float
    copies: float
    staging: float
    infer: float
    infer_many: float
    hidden: float
    of_limit: float


def compute(engine: Any, images: np.ndarray) -> Turn:
    """Runs of the session that trtcheck opened, on inputs and outputs that stay on the GPU."""
    session, stream = engine._session, engine.stream
    scores = [len(images), session.get_outputs()[0].shape[1]]
    io = session.io_binding()
    io.bind_ortvalue_input("images", onnxruntime.OrtValue.ortvalue_from_numpy(images, "cuda", 0))
    io.bind_ortvalue_output(
        "scores", onnxruntime.OrtValue.ortvalue_from_shape_and_type(scores, np.float32, "cuda", 0)
    )
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry(
        "gpu_graph_id", str(FIRST_GRAPH + len(images)) if engine.cuda_graph else "-1"
    )

    def turn(batches: int) -> None:
        for _ in range(batches):
            session.run_with_iobinding(io, options)
        stream.synchronize()

    return turn


def copies(device: Device, images: np.ndarray, scores: np.ndarray) -> Turn:
    """Uploads and downloads between pinned memory and the GPU."""
    stream = device.stream()
    source, target = device.buffer(images.shape, images.dtype), device.buffer(scores.shape, scores.dtype)
    calls = source.uploading(stream), target.downloading(stream)

    def turn(batches: int) -> None:
        for _ in range(batches):
            for call in calls:
                device.checked("copy", call())
        stream.synchronize()

    return turn


def staging(device: Device, batches: list[np.ndarray], scores: np.ndarray) -> Turn:
    """What the processor copies: into pinned memory and out of it."""
    pinned = device.buffer(batches[0].shape, batches[0].dtype).host
    answers = device.buffer(scores.shape, scores.dtype).host

    def turn(count: int) -> None:
        for images in islice(cycle(batches), count):
            np.copyto(pinned, images)
            answers.copy()

    return turn


def one_by_one(engine: Any, batches: list[np.ndarray]) -> Turn:
    """The engine's `infer`, again and again."""

    def turn(count: int) -> None:
        for images in islice(cycle(batches), count):
            engine.infer({"images": images})

    return turn


def many(engine: Any, batches: list[np.ndarray]) -> Turn:
    """The engine's `infer_many`."""

    def turn(count: int) -> None:
        feeds = ({"images": images} for images in islice(cycle(batches), count))
        for _ in engine.infer_many(feeds):
            pass

    return turn


def timed(turn: Turn, batches: int) -> float:
    """Milliseconds a batch."""
    began = time.perf_counter()
    turn(batches)
    return (time.perf_counter() - began) * 1e3 / batches


def measured(network: str, engine: Any, batch: int) -> Row:
    """All of a network at one batch size, in turns."""
    size = NETWORKS[network].size
    rng = np.random.default_rng(batch)
    batches = [rng.standard_normal((batch, 3, size, size), dtype=np.float32) for _ in range(DISTINCT)]
    expected = [engine.infer({"images": images})["scores"] for images in batches]
    found = engine.infer_many({"images": images} for images in batches * 3)
    if not all(np.array_equal(a["scores"], b) for a, b in zip(found, expected * 3, strict=True)):
        raise RuntimeError(f"infer_many and infer answer differently: {network}, batch {batch}")
    with Device() as device:
        turns = {
            "compute": compute(engine, batches[0]),
            "copies": copies(device, batches[0], expected[0]),
            "staging": staging(device, batches, expected[0]),
            "infer": one_by_one(engine, batches),
            "infer_many": many(engine, batches),
        }
        counts = {}
        for name, turn in turns.items():
            turn(6)  # what the first batches make and record is made
            counts[name] = int(np.clip(TURN_S * 1e3 / timed(turn, 4), FEWEST, MOST))
        rounds = [{name: timed(turn, counts[name]) for name, turn in turns.items()} for _ in range(ROUNDS)]
    ms = {name: median(figures[name] for figures in rounds) for name in turns}
    return Row(
        network, engine.cuda_graph, batch, (batches[0].nbytes + expected[0].nbytes) / 1e6, **ms,
        hidden=(ms["infer"] - ms["infer_many"]) / ms["copies"],
        of_limit=ms["infer_many"] / max(ms["compute"], ms["copies"]),
    )  # fmt: skip


def rows(networks: list[str], batches: list[int], folder: Path) -> Iterator[Row]:
    """Every network with and without CUDA graph, at every batch size."""
    backend = OnnxRuntimeCuda(threads=0)
    for network in networks:
        wide, lowered = folder / f"{network}.onnx", folder / f"{network}-fp16.onnx"
        onnx.save(resnet.network(NETWORKS[network]), wide)
        lower(wide, Precision.FP16, LoweringSpec(), target=lowered)
        for cuda_graph in (False, True):
            plan = BuildPlan(lowered, Precision.FP16, {}, BuildSpec(cuda_graph=cuda_graph))
            target = folder / f"{network}-{cuda_graph}.engine"
            backend.build(plan, target, lambda _count: None)
            with closing(backend.load(target, plan)) as engine:
                for batch in batches:
                    yield measured(network, engine, batch)


def main() -> None:
    """Measures, prints a table, and writes the figures where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), metavar="N")
    parser.add_argument("--json", type=Path, help="where the figures are written to")
    options = parser.parse_args()
    gpu = find_gpu()
    versions = f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}"
    print(f"{gpu}; {processor()}, {usable_cores()} cores; {versions}; ms a batch, FP16\n", flush=True)
    print("| network | CUDA graph | batch | MB | compute | copies | staging | infer | infer_many ", end="")
    print("| hidden | of limit |")
    print("|---" * 11 + "|")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(options.networks, options.batches, Path(folder)):
            found.append(row)
            figures = (row.compute, row.copies, row.staging, row.infer, row.infer_many)
            cells = [row.network, "yes" if row.cuda_graph else "no", row.batch, f"{row.megabytes:.2f}"]
            cells += [f"{ms:.4f}" for ms in figures] + [f"{row.hidden:.0%}", f"{row.of_limit:.0%}"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    if options.json:
        told = {"gpu": str(gpu), "processor": processor(), "cores": usable_cores(), "versions": versions}
        options.json.write_text(json.dumps({**told, "rows": [asdict(row) for row in found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
