"""How faithfully the CPU lane's emulated engines foretell a GPU's: answer by answer, on four models.

    python benchmarks/fidelity.py prepare --out DIR              # without a GPU: models, inputs, CPU answers
    python benchmarks/fidelity.py run --data DIR --json FILE     # on a GPU, without a network: 4 minutes
    python benchmarks/fidelity.py floor --data DIR --json FILE   # without a GPU: 10 minutes on 4 cores
    python benchmarks/fidelity.py table FILE                     # the Markdown table of docs/performance.md

Models: the demo; a ResNet-50 with random weights and a fitted last layer; two of PyPI packages that nobody
here made (see fidelity_models.py). Precisions: TF32, FP16, BF16, and INT8 as Q/DQ with an FP32 and with an
FP16 rest. Both sides load one lowered file: the CPU emulates it, ONNX Runtime CUDA computes it.

Goals: the same top-1 answer for at least 99.9 % of the inputs, and a recall within .1 point in every class of
at least 100 inputs. One input is more than .1 point of a class of fewer than 1000, so what one input weighs
stands beside it, and a difference of one input is let pass.

`floor` adds to each row how far the CPU is from itself when it adds up in other orders (fidelity_floor.py):
two machines that are both right differ by as much. A goal that is missed by no more is missed all the same,
and the sentence that says so names the floor.

Needs numpy, onnx and onnxruntime; `run` needs onnxruntime-gpu, `prepare` pip and Pillow. The files of the
demo and of ResNet-50 are made again where they run, from seeds, the fitted layer and the scales that travel;
where that gives another file than `prepare` had, the CPU's answers are computed there, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import fidelity_inputs as inputs
import fidelity_models as models
import numpy as np
import onnx
from fidelity_floor import reordered
from fidelity_metrics import compared, floor, goals, table
from fidelity_models import BATCH, PRECISIONS, Subject

from trtcheck.backends import open_backend
from trtcheck.backends.base import BuildPlan
from trtcheck.case import BuildSpec, Precision
from trtcheck.errors import TrtcheckError

CPU, CUDA = "onnxruntime-cpu", "onnxruntime-cuda"
ORDERS = 3
"""In how many other orders the floor adds up."""


def answers(
    backend: Any,
    subject: Subject,
    lowered: Path,
    precision: str,
    change: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda engine: engine,
) -> np.ndarray:
    """First output of *backend*'s engine for all inputs of *subject*, float32 (N, classes).

    Args:
        backend: What builds and runs.
        subject: The inputs.
        lowered: The model's file in *precision*.
        precision: Its name.
        change: What is done to the engine, an ONNX model, before it is loaded.
    """
    plan = BuildPlan(lowered, Precision(precision.partition("-")[0]), {}, BuildSpec())
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / f"engine{backend.suffix}"
        backend.build(plan, built, lambda _steps: None)
        onnx.save(change(onnx.load(built)), built)
        found = []
        with closing(backend.load(built, plan)) as engine:
            for k in range(0, len(subject.images), BATCH):
                feeds = {subject.feed: inputs.scaled(subject.scaling, subject.images[k : k + BATCH])}
                found.append(next(iter(engine.infer(feeds).values())).astype(np.float32))
    return np.concatenate(found)


def prepare(out: Path, wheels: Path | None, counts: Mapping[str, int], only: Sequence[str]) -> None:
    """Writes everything that `run` needs into *out*."""
    out.mkdir(parents=True, exist_ok=True)
    backend = open_backend(CPU, threads=0, cache=out / "cache")
    made = {
        "demo": lambda: models.demo(counts["demo"]),
        "resnet50": lambda: models.resnet50(out, counts["resnet50"]),
        "orientation": lambda: models.orientation(out, wheels, counts["orientation"]),
        "magika": lambda: models.magika(out, wheels, counts["magika"]),
    }
    for name in only:
        began, subject = time.perf_counter(), made[name]()
        arrays = {"labels": subject.labels.astype(np.int16)}
        arrays |= {f"fitted.{key}": value for key, value in subject.fitted.items()}
        if not subject.bare:
            arrays["images"] = subject.images
        entry: dict[str, Any] = {
            "name": name, "about": subject.about, "feed": subject.feed, "scaling": subject.scaling,
            "images": len(subject.images), "bare": subject.bare, "files": {},
        }  # fmt: skip
        for precision in ("fp32", *PRECISIONS):
            file = subject.lowered(precision, out / f"{name}.{precision}.onnx")
            scores = answers(backend, subject, file, precision)
            arrays[f"cpu.{precision}"] = scores
            entry["files"][precision] = models.digest(file)
            for key, value in models.scales_of(onnx.load(file)).items():
                arrays[f"scale.{precision}.{key}"] = value
            right = float(np.mean(scores.argmax(1) == subject.labels))
            print(f"{name:12} {precision:10} {len(scores)} inputs, accuracy {right:.4f}", flush=True)
            if subject.bare or precision == "tf32":  # the file of TF32 is that of FP32
                file.unlink()
        np.savez_compressed(out / f"{name}.npz", **arrays)
        (out / f"{name}.json").write_text(json.dumps(entry, indent=1))
        for left in out.glob(f"{name}.source.*"):
            left.unlink()
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)


def _subject(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray], data: Path, folder: Path) -> Subject:
    """The subject that was prepared."""
    name, count = entry["name"], entry["images"]
    if name == "demo":
        return models.demo(count)
    if name == "resnet50":
        fitted = {key.removeprefix("fitted."): v for key, v in arrays.items() if key.startswith("fitted.")}
        return models.resnet50(folder, count, fitted)
    return Subject(
        name, data / f"{name}.fp32.onnx", entry["feed"], arrays["images"], arrays["labels"].astype(np.int64),
        arrays["images"][:0], entry["scaling"], entry["about"],
    )  # fmt: skip


def measure(data: Path, lane: str, only: Sequence[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Compares every model and precision; yields a row each.

    Args:
        data: What `prepare` wrote.
        lane: Name of the backend that plays the GPU.
        only: Which models.
        seconds: No model or precision is begun after so many.
    """
    began = time.perf_counter()
    gpu, cpu = (open_backend(name, threads=0, cache=data / "cache") for name in (lane, CPU))
    for name in only:
        entry = json.loads((data / f"{name}.json").read_text())
        with np.load(data / f"{name}.npz") as file:
            arrays = dict(file)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            subject = _subject(entry, arrays, data, folder)
            reference = None
            for precision in ("fp32", *PRECISIONS):
                row = {"model": name, "about": entry["about"], "precision": precision}
                if time.perf_counter() - began > seconds:
                    yield row | {"refused": f"not run: {seconds:.0f} s had passed"}
                    continue
                file = _file(subject, precision, arrays, data, folder)
                again = models.digest(file) != entry["files"][precision]
                try:
                    emulated = answers(cpu, subject, file, precision) if again else arrays[f"cpu.{precision}"]
                    native = answers(gpu, subject, file, precision)
                except TrtcheckError as error:
                    yield row | {"refused": " ".join(str(error).split())}
                    continue
                reference = emulated if reference is None else reference
                yield row | {"remade": again} | compared(emulated, native, reference, subject.labels)


def floors(data: Path, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Adds to *rows* of `measure` how far the CPU is from itself in other orders; yields them again.

    Args:
        data: What `prepare` wrote.
        rows: Rows of one model follow each other.
    """
    cpu = open_backend(CPU, threads=0, cache=data / "cache")
    for name, group in groupby(rows, key=lambda row: row["model"]):
        entry = json.loads((data / f"{name}.json").read_text())
        with np.load(data / f"{name}.npz") as file, tempfile.TemporaryDirectory() as place:
            arrays, folder = dict(file), Path(place)
            subject = _subject(entry, arrays, data, folder)
            for row in group:
                if "refused" in row:
                    yield row
                    continue
                precision = row["precision"]
                file = _file(subject, precision, arrays, data, folder)
                plain = answers(cpu, subject, file, precision)
                others = [
                    answers(cpu, subject, file, precision, partial(reordered, seed=seed))
                    for seed in range(ORDERS)
                ]
                yield row | {"floor": floor(plain, others, subject.labels)}


def _file(
    subject: Subject, precision: str, arrays: Mapping[str, np.ndarray], data: Path, folder: Path
) -> Path:
    """The lowered file: the one that travelled, or made again with the scales that did."""
    kind = "fp32" if precision == "tf32" else precision
    if not subject.bare:
        return data / f"{subject.name}.{kind}.onnx"
    target = folder / f"lowered.{precision}.onnx"
    prefix = f"scale.{precision}."
    scales = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
    return subject.lowered(precision, target, scales)


def main(argv: Sequence[str] | None = None) -> int:
    """Prepares, runs or prints; `run` ends with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare")
    first.add_argument("--out", type=Path, required=True)
    first.add_argument(
        "--wheels", type=Path, help="a folder that has the packages' wheels; else pip downloads"
    )
    counts = {"demo": 10_000, "resnet50": 5000, "orientation": 1000, "magika": 3000}
    for name, count in counts.items():
        first.add_argument(f"--{name}", type=int, default=count, help=f"how many inputs (default: {count})")
    second = commands.add_parser("run")
    second.add_argument("--data", type=Path, required=True)
    second.add_argument("--json", type=Path, required=True)
    second.add_argument("--backend", default=CUDA, help="another backend in the GPU's place, to try this out")
    second.add_argument("--seconds", type=float, default=210, help="nothing is begun later (default: 210)")
    for one in (first, second):
        one.add_argument("--only", nargs="+", choices=counts, default=list(counts))
    third = commands.add_parser("floor")
    third.add_argument("--data", type=Path, required=True)
    third.add_argument("--json", type=Path, required=True, help="what `run` wrote; floors are added to it")
    commands.add_parser("table").add_argument("json", type=Path)
    given = parser.parse_args(argv)
    if given.command == "table":
        print(table(json.loads(given.json.read_text())))
        return 0
    if given.command == "floor":
        return _add_floors(given.data, given.json)
    if given.command == "prepare":
        prepare(given.out, given.wheels, {name: getattr(given, name) for name in counts}, given.only)
        return 0
    began, rows = time.perf_counter(), []
    for row in measure(given.data, given.backend, given.only, given.seconds):
        rows.append(row)
        print(json.dumps({k: v for k, v in row.items() if k != "about"}), flush=True)
        document = {"machine": _machine(given.backend), "rows": rows}
        given.json.write_text(json.dumps(document, indent=1))
    print(table(document), f"\n{time.perf_counter() - began:.0f} s")
    missed = goals(rows)
    print("\n".join(missed) or "all goals are met")
    return 1 if missed else 0


def _add_floors(data: Path, target: Path) -> int:
    """Adds the floors to the rows of *target*; 1 where a goal is missed."""
    document = json.loads(target.read_text())
    for k, row in enumerate(floors(data, list(document["rows"]))):
        document["rows"][k] = row
        print(json.dumps({key: row.get(key) for key in ("model", "precision", "floor")}), flush=True)
        target.write_text(json.dumps(document | {"floor_machine": _machine(CPU)}, indent=1))
    missed = goals(document["rows"])
    print("\n".join(missed) or "all goals are met")
    return 1 if missed else 0


def _machine(lane: str) -> str:
    info = open_backend(lane, threads=0, cache=Path(tempfile.gettempdir())).info
    return f"{info.device}, {info.name} {info.version}; Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
