"""Runs of pytest over residual networks of mixed size: what `devices.py` times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import resnet
from resnet import Net

PRECISIONS = ("fp16", "tf32")
FEW = 64
"""Images of the runs that tell what start-up costs."""
BASE = 512
"""Pictures that are drawn; more are the same ones, shifted."""
LARGER = 5
"""How many times as many images the data set has that is cut into shards."""
LABELS = 20
"""Labels go from 0 to below this."""
NETS = (
    Net(),
    Net(size=160),
    Net(blocks=(2, 2, 2, 2)),
    Net(blocks=(3, 4, 23, 3), size=160),
    Net(width=48),
    Net(blocks=(3, 4, 23, 3), size=128),
    Net(blocks=(2, 2, 2, 2), width=80),
    Net(width=80, size=128),
)
SMALL_BLOCKS = (
    (1, 1, 1, 1), (1, 1, 2, 1), (2, 1, 1, 1), (1, 2, 1, 1),
    (1, 1, 1, 2), (2, 2, 1, 1), (1, 2, 2, 1), (2, 1, 1, 2),
)  # fmt: skip
SMALL_NETS = tuple(Net(blocks, width=8, size=64, classes=LABELS) for blocks in SMALL_BLOCKS)
"""For a processor."""

CONFTEST = '''
"""Writes down when every item ran, and on which worker."""
import json, os

LOG = open(os.environ["ITEMS_LOG"], "a") if "PYTEST_XDIST_WORKER" not in os.environ else None


def pytest_runtest_logreport(report):
    if LOG is not None:
        row = [report.nodeid, getattr(report, "worker_id", ""), report.start, report.stop]
        LOG.write(json.dumps(row) + "\\n")
        LOG.flush()
'''


@dataclass(frozen=True)
class Bed:
    """What is run where.

    Attributes:
        folder: Suites, cache and reports.
        devices: GPU numbers; with *cpu* cores.
        cpu: Whether the CPU backend runs the engines.
        extra: Further options of pytest.
    """

    folder: Path
    devices: tuple[int, ...]
    cpu: bool
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of pytest.

    Attributes:
        name: How it is told.
        wall_s: Seconds from its start to its end.
        first_s: Until the first item began.
        last_s: Until the last item was done.
        pairs: Seconds of the items of every pair of model and engine, by name.
        workers: Seconds of the items of every worker, by name.
        counts: What was counted of every pair, by name.
    """

    name: str
    wall_s: float
    first_s: float
    last_s: float
    pairs: Mapping[str, float]
    workers: Mapping[str, float]
    counts: Mapping[str, Any] = field(repr=False)


def model(net: Net) -> onnx.ModelProto:
    """The network, its last layer scaled on a few pictures so that answers depend on the picture."""
    raw = resnet.answers(resnet.network(net), resnet.pictures(32, net.size))
    features = 4 * net.width * 2 ** (len(net.blocks) - 1)
    weights = resnet.random("head", net.classes, features, scale=features**-0.5)
    deviation = raw.std(axis=0) + 1e-6
    return resnet.network(net, (weights / deviation[:, None], -raw.mean(axis=0) / deviation))


def write_pictures(folder: Path, size: int, images: int, name: str) -> None:
    """Writes uint8 pictures and labels as ``.npy``."""
    base = resnet.pictures(min(BASE, images), size)
    shape = (images, *base.shape[1:])
    file = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
    for shift, start in enumerate(range(0, images, len(base))):
        rows = file[start : start + len(base)]
        rows[:] = np.roll(base, 7 * shift, axis=2)[: len(rows)]
    file.flush()
    rng = np.random.default_rng(resnet.SEED)
    np.save(folder / f"{name}-labels.npy", rng.integers(0, LABELS, images))


def table_of(name: str, onnx_file: str, data: str, batch: int) -> str:
    """A model's tables in the suite."""
    return (
        f"[models.{name}]\n"
        f'onnx = "{onnx_file}"\n'
        f'data = {{ images = "{data}.npy", labels = "{data}-labels.npy" }}\n'
        f'batch = {batch}\nchecks = ["outputs", "accuracy", "recall"]\n'
        f"[models.{name}.input]\n"
        f'layout = "NHWC"\nscale = {resnet.SCALE}\nmean = [{resnet.MEAN}]\nstd = [{resnet.STD}]\n\n'
    )


def write_suites(bed: Bed, nets: Sequence[Net], images: int, batch: int) -> None:
    """Writes ``all``, ``few`` and ``large``: all pairs, the same on a few images, and one on many images."""
    folder = bed.folder
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    for size in sorted({net.size for net in nets}):
        write_pictures(folder, size, images, f"all{size}")
        write_pictures(folder, size, FEW, f"few{size}")
    write_pictures(folder, nets[0].size, LARGER * images, "large")
    suites: dict[str, str] = defaultdict(str)
    for number, net in enumerate(nets):
        onnx.save(model(net), folder / f"net{number}.onnx")
        for kind in ("all", "few"):
            suites[kind] += table_of(f"net{number}", f"net{number}.onnx", f"{kind}{net.size}", batch)
    suites["large"] = table_of("net0", "net0.onnx", "large", batch)
    for kind, text in suites.items():
        (folder / f"{kind}.trtcheck.toml").write_text(text)


def run(bed: Bed, name: str, kind: str, workers: int, *options: str, spread: int = 0) -> Run:
    """Runs a suite by pytest.

    Args:
        bed: What is run where.
        name: How the run is told.
        kind: Name of the suite.
        workers: Workers of pytest-xdist, each with a device of its own; 0 runs serially.
        options: More of pytest's options.
        spread: How many devices a serial run has; 0 for one.

    Raises:
        SystemExit: An item could not be judged, or pytest did not run to its end.
    """
    log, report = bed.folder / "items.log", bed.folder / "report"
    log.unlink(missing_ok=True)
    pin: Callable[[], None] | None = None
    if bed.cpu and hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))[: max(workers, spread, 1)]
        pin = partial(os.sched_setaffinity, 0, own)
    command = [*_command(bed, kind, workers, spread), f"--trt-report={report}", *options]
    began = time.time()
    ran = subprocess.run(
        command, cwd=bed.folder, env=_environment(bed, log), preexec_fn=pin,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall = time.time() - began
    # 1: the verdicts of random networks are of no concern, as long as there is one for every item.
    document = report / "report.json"
    if ran.returncode not in (0, 1) or not document.is_file():
        raise SystemExit(f"{name}: pytest exits with {ran.returncode}\n{ran.stdout}{ran.stderr}")
    made = json.loads(document.read_text(encoding="utf-8"))
    document.unlink()
    errors = [item["message"] for item in made["items"] if item["verdict"] in ("error", "skipped")]
    if errors:
        raise SystemExit(f"{name}: {len(errors)} items could not be judged: {errors[0]}")
    return Run(name, wall, *_spent(log, began), _counts(made))


def _environment(bed: Bed, log: Path) -> dict[str, str]:
    """This process's variables, with compiled modules kept from the first run on.

    Those of a worker of pytest-xdist, which this process may be itself, are left out.
    """
    left = ("PYTHONDONTWRITEBYTECODE", "PYTEST_XDIST")
    own = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    return {**own, "ITEMS_LOG": str(log), "PYTHONPYCACHEPREFIX": str(bed.folder / "compiled")}


def _command(bed: Bed, kind: str, workers: int, spread: int) -> list[str]:
    """What is typed."""
    engines = PRECISIONS[:1] if kind == "large" else PRECISIONS
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
        "-p", "no:hypothesispytest", "-W", "ignore",
        f"{kind}.trtcheck.toml", f"--trt-cache={bed.folder / 'cache'}", "--trt-history=none",
        f"--trt-engine={','.join(engines)}", *bed.extra,
        f"--trt-backend={'onnxruntime-cpu' if bed.cpu else 'onnxruntime-cuda'}",
    ]  # fmt: skip
    if not bed.cpu:
        command.append(f"--trt-devices={','.join(map(str, bed.devices[: max(workers, spread, 1)]))}")
    return [*command, *(["-n", str(workers)] if workers else ["-p", "no:xdist"])]


def _spent(log: Path, began: float) -> tuple[float, float, dict[str, float], dict[str, float]]:
    """When the first item began and the last one ended, and the seconds by pair and by worker."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    pairs: dict[str, float] = defaultdict(float)
    workers: dict[str, float] = defaultdict(float)
    for nodeid, worker, start, stop in rows:
        pairs[nodeid.split("::")[1]] += stop - start
        workers[worker or "serial"] += stop - start
    first, last = min(row[2] for row in rows), max(row[3] for row in rows)
    return first - began, last - began, dict(pairs), dict(workers)


def _counts(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the report counts of every pair, without sums of floats: they depend on the order of summation."""
    whole = ("images", "labelled", "accuracy", "top_k", "classes", "confusions", "changed_confusions")
    found = {}
    for engine in document["engines"]:
        outputs = [
            {**{name: output[name] for name in ("name", "elements", "different", "nan", "inf", "max_abs")},
             "errors": output["errors"]}
            for output in engine["outputs"]
        ]  # fmt: skip
        flips = {name: engine["flips"][name] for name in ("total", "broken", "fixed")}
        own = {**{name: engine[name] for name in whole}, "outputs": outputs, "flips": flips}
        found[f"{engine['model']}[{engine['engine']}]"] = own
    return found
