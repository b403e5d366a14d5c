"""The latency suite on a GPU, end to end, and its medians against bare timing loops in one process.

    python benchmarks/latency_gpu.py --out=results          # ONNX Runtime CUDA, ResNet-50: about 8 minutes
    python benchmarks/latency_gpu.py --out=results --cpu    # ONNX Runtime on the processor, a tiny network

1. A suite with ResNet-50 (random weights) with and without CUDA graph is run and approved.
2. It is run again: the same engines against the approved ones, which must not fail (A/A).
3. The network gets one more residual block, which leaves its answers as they were: that must fail.
4. In this process, trtcheck's timers and bare loops take turns on the same engines: medians within 1 %.

Needs pytest and onnxruntime-gpu; the reports are left in OUT/first, OUT/report (the second) and OUT/slower.
The loops come last, since this process then is another one on the GPU. `--only` runs one half.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import resnet
from bare_loops import loop

from trtcheck.backends import open_backend
from trtcheck.backends.base import BuildPlan
from trtcheck.case import BuildSpec, LoweringSpec, Precision
from trtcheck.precision import lower

ROOT = Path(__file__).resolve().parent.parent
AGREEMENT = 0.01
"""Largest accepted difference between a timer's median and a bare loop's."""
BLOCK_MS, TURNS_S = 8.0, 5.0
"""What a turn of timer or loop takes, and all turns of an engine: short turns, since the pace at which a host
launches kernels drifts within a tenth of a second."""
ROUNDS = 15
"""Fewest rounds of timer, loop, loop, timer."""
IMAGES = 64
BAD = ("fail", "error", "skipped")
"""Verdicts that an engine timed against itself must not get."""
MODEL = """\
[models.{name}]
onnx = "resnet.onnx"
data = "eval.npz"
batch = {batch}
checks = ["build", "outputs", "accuracy", "latency"]

[models.{name}.input]
scale = {scale!r}
mean = {mean}
std = {std}

[models.{name}.latency]
batches = {batches}
cuda_graph = {graph}

"""


@dataclass(frozen=True)
class Plan:
    """What is timed, and on what.

    Attributes:
        backend: Name of the backend.
        net: The network.
        engines: Precisions.
        batches: Batch sizes.
        graphs: Whether a CUDA graph is replayed, by model.
    """

    backend: str
    net: resnet.Net
    engines: tuple[str, ...]
    batches: tuple[int, ...]
    graphs: Mapping[str, bool]


ON_GPU = Plan(
    "onnxruntime-cuda", resnet.RESNET50, ("fp32", "tf32", "fp16"), (1, 8, 64),
    {"resnet50": False, "resnet50_graph": True},
)  # fmt: skip
ON_CPU = Plan("onnxruntime-cpu", resnet.TINY, ("fp32",), (1, 8), {"tiny": False})


def write_suite(plan: Plan, folder: Path) -> resnet.Written:
    """Network, data and toml in *folder*."""
    written = resnet.write(plan.net, folder, IMAGES)
    text = "".join(
        MODEL.format(
            name=name, batch=max(plan.batches), batches=list(plan.batches), graph=str(graph).lower(),
            scale=resnet.SCALE, mean=resnet.MEAN, std=resnet.STD,
        )
        for name, graph in plan.graphs.items()
    )  # fmt: skip
    (folder / "trtcheck.toml").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return written


def run_suite(plan: Plan, folder: Path, report: Path, budget: float, *options: str) -> list[dict[str, Any]]:
    """Runs pytest; returns the records of the latency items."""
    installed = any(entry.name == "trtcheck" for entry in metadata.entry_points(group="pytest11"))
    command = [
        sys.executable, "-m", "pytest", str(folder), "-q", "-p", "no:cacheprovider",
        *([] if installed else ["-p", "trtcheck.plugin"]),
        f"--trt-backend={plan.backend}", f"--trt-engine={','.join(plan.engines)}",
        f"--trt-cache={folder / 'cache'}", f"--trt-baselines={folder / 'baselines'}",
        f"--trt-report={report}", f"--trt-latency-budget={budget:g}", *options,
    ]  # fmt: skip
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-3000:], sep="\n", flush=True)
    print(f"(pytest took {time.perf_counter() - began:.0f} s, exit status {done.returncode})\n", flush=True)
    found = json.loads((report / "report.json").read_text())["items"]
    return [item for item in found if item["check"] == "latency"]


def print_items(title: str, items: Sequence[Mapping[str, Any]]) -> None:
    """The latency items as a Markdown table."""
    print(f"### {title}\n")
    print("| engine | batch | verdict | rule | slower by (99 % bounds) | median ms | p95 ms | images/s "
          "| mJ/image | x reference | rounds |")  # fmt: skip
    print("|---" * 11 + "|")
    for item in items:
        print(f"| {item['model']}[{item['engine']}] | {' | '.join(_cells(item))} |")
    for item in items:
        if item["verdict"] != "pass":
            print(f"\n{item['nodeid']}: {item['verdict']}: {item['message']}")
    print(flush=True)


def _cells(item: Mapping[str, Any]) -> Iterator[str]:
    if item.get("latency") is None:
        yield from ("", item["verdict"], *[""] * 8)
        return
    median = next(row for row in item["judged"] if row["what"] == "median")
    effect = median["effect"]
    yield str(item["batch"])
    yield item["verdict"]
    yield median["rule"]
    yield "" if effect is None else f"{effect:+.2%} ({median['low']:+.2%} to {median['high']:+.2%})"
    figures, energy = item["latency"], item["energy_mj"]
    reference = item["speedups"].get("reference")
    yield from (f"{figures['median_ms']:.4f}", f"{figures['p95_ms']:.4f}", f"{item['throughput']:.0f}")
    yield "" if energy is None else f"{energy:.1f}"
    yield "" if reference is None else f"{reference['ratio']:.2f}"
    yield str(figures["rounds"])


def compare_loops(plan: Plan, written: resnet.Written, folder: Path) -> float:
    """Timers and bare loops in turns, on the same engines; returns the largest difference of medians."""
    backend = open_backend(plan.backend, threads=0, cache=folder / "loops")
    print("### trtcheck's timer / bare loop, medians in one process\n")
    print(
        "| engine | graph | batch | clock | timer ms | loop ms | ratio | wall: timer ms | loop ms | ratio |"
    )
    print("|---" * 10 + "|")
    with np.load(written.data) as data:
        pixels = (data["images"].astype(np.float32) * resnet.SCALE - resnet.MEAN) / resnet.STD
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
    worst = 0.0
    for engine in plan.engines:
        precision = Precision(engine)
        lowered, built = folder / f"{engine}.lowered.onnx", folder / f"{engine}{backend.suffix}"
        lower(written.onnx, precision, LoweringSpec(), target=lowered)
        for graph in sorted(set(plan.graphs.values())):
            build = BuildPlan(lowered, precision, {}, BuildSpec(cuda_graph=graph))
            backend.build(build, built, lambda _steps: None)
            with closing(backend.load(built, build)) as loaded:
                for batch in plan.batches:
                    feeds = {"images": images[:batch]}
                    timer = loaded.timer(feeds, transfers=False, spin_wait=False)
                    bare = loop(loaded, images[:batch], gpu=plan.backend == ON_GPU.backend, cuda_graph=graph)
                    row = _in_turns(timer, bare)
                    worst = max(worst, abs(row[0] / row[1] - 1))
                    how = f"{'on' if timer.mode.cuda_graph else 'off'} | {batch} | {timer.mode.clock}"
                    times = " | ".join(
                        f"{own:.4f} | {other:.4f} | {own / other:.4f}" for own, other in (row[:2], row[2:])
                    )
                    print(f"| {engine} | {how} | {times} |", flush=True)
    return worst


def _in_turns(timer: Any, bare: Any) -> tuple[float, float, float, float]:
    """Medians of the timer and of the loop by their own clocks, and per query by the host's, in ms."""
    for _ in range(3):
        warm = timer.block(10)
        bare.sample(10)
    query_ms = warm.seconds * 1e3 / 10
    queries = int(np.clip(BLOCK_MS / query_ms, 3, 200))
    rounds = max(ROUNDS, round(TURNS_S * 1e3 / (4 * queries * query_ms)))
    own, walls, theirs, their_walls = [], [], [], []
    for _ in range(rounds):
        for turn in (0, 1, 1, 0):
            if turn == 0:
                block = timer.block(queries)
                own.append(block.samples_ms)
                walls.append(block.seconds * 1e3 / queries)
            else:
                sampled = bare.sample(queries)
                theirs.append(sampled.samples_ms)
                their_walls.append(float(sampled.wall_ms.mean()))
    medians = [float(np.median(np.concatenate(samples))) for samples in (own, theirs)]
    return medians[0], medians[1], float(np.median(walls)), float(np.median(their_walls))


def suite(plan: Plan, written: resnet.Written, folder: Path, out: Path, budget: float) -> Iterator[str]:
    """The three runs; yields what is not as it must be."""
    first = run_suite(plan, folder, out / "first", budget, "--trt-update-baselines")
    print_items("First run, approved", first)
    expected = len(plan.graphs) * len(plan.engines) * len(plan.batches)
    if len(first) != expected:
        yield f"{len(first)} latency items, expected {expected}"
    again = run_suite(plan, folder, out / "report", budget)
    print_items("Second run: the same engines", again)
    yield from (f"A/A: {item['nodeid']} is {item['verdict']}" for item in again if item["verdict"] in BAD)
    passed = sum(item["verdict"] == "pass" for item in again)
    print(f"A/A: {passed} of {len(again)} pass\n")
    shutil.copyfile(written.slower, folder / "resnet.onnx")
    narrow = f"--trt-engine={plan.engines[-1]}"
    slower = run_suite(plan, folder, out / "slower", budget, narrow, "-k", "build or latency")
    print_items("Third run: one more residual block in the third stage", slower)
    yield from (
        f"slower: {item['nodeid']} is {item['verdict']}" for item in slower if item["verdict"] != "fail"
    )


def main() -> int:
    """Runs everything; 1 where something is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("latency-gpu"), help="folder of the reports")
    parser.add_argument("--cpu", action="store_true", help="a tiny network on the processor")
    parser.add_argument("--budget", type=float, default=6.0, help="seconds a latency item (default: 6)")
    parser.add_argument("--engine", help="one precision alone, e.g. fp16")
    parser.add_argument("--only", choices=["suite", "loops"], help="one half alone")
    options = parser.parse_args()
    plan, out = ON_CPU if options.cpu else ON_GPU, options.out.resolve()
    if options.engine is not None:
        plan = replace(plan, engines=(options.engine,))
    out.mkdir(parents=True, exist_ok=True)
    began, wrong = time.perf_counter(), []
    print(f"Python {platform.python_version()}, {platform.platform()}")
    with tempfile.TemporaryDirectory() as folder:
        written = write_suite(plan, Path(folder))
        original = Path(folder) / "original.onnx"
        shutil.copyfile(written.onnx, original)
        print(f"network and pictures made in {time.perf_counter() - began:.0f} s\n", flush=True)
        if options.only != "loops":
            wrong += suite(plan, written, Path(folder), out, options.budget)
        if options.only != "suite":
            shutil.copyfile(original, written.onnx)
            worst = compare_loops(plan, written, Path(folder))
            print(f"\nlargest difference of medians: {worst:.2%}\n")
            if worst > AGREEMENT and not options.cpu:  # a processor is rarely that quiet
                wrong.append(f"timer and bare loop differ by {worst:.2%}, more than {AGREEMENT:.0%}")
    print("\n".join(wrong) or "all as it must be")
    print(f"({time.perf_counter() - began:.0f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
