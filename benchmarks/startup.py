"""What the plugin costs before any test runs: ``pytest --help``, and collecting a large suite.

    python benchmarks/startup.py

``pytest --help`` and ``pytest --help -p no:trtcheck`` take turns, each in a process of its own in an empty
folder: beside all plugins that are installed, and with every other one blocked (``-p no:NAME``); pytest looks
for plugins in all of these runs. The cost is the median of the differences of neighbouring runs, by the clock
and in processor time, which other work on the machine hardly moves; the interval is that of the median
(binomial, 95 %). Bytecode is compiled before, as an installation does.

``pytest --collect-only -q`` reads one trtcheck.toml of 1000 models with gates, preprocessing, several inputs,
limits of classes and three engines each; beside it stand as many parametrized Python tests, which is what
pytest itself takes for so many items. A last collection tells what it imported. Exits with 1 where a goal is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points, version
from pathlib import Path

from trtcheck.environment import processor, usable_cores

GOAL_MS, GOAL_S = 10.0, 2.0
"""What the plugin may add to ``pytest --help``, and what collecting 1000 models may take."""
HEAVY = ("numpy", "onnx", "onnxruntime", "scipy", "PIL", "tensorrt")
"""What no collection imports."""
_WARM = 2
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

MODEL = """
[models.model-{number}]
onnx = "{number}.onnx"
data = {{image = "image.npy", tabular = "tabular.npy", labels = "labels.npy"}}
calibration = "calibration.npz"
classes = {classes}
batch = 64
engines = ["fp32", "fp16", "int8"]

[models.model-{number}.input]
layout = "NHWC"
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[models.model-{number}.gates]
recall_drop = 0.02
accuracy_floor = 0.7
key_classes = ["class 3"]
latency_ms = {{1 = 2.5, 8 = 12}}

[models.model-{number}.gates.classes."class 1*"]
recall_drop = 0.05

[models.model-{number}.int8]
method = "percentile"
percentile = 99.99

[models.model-{number}.latency]
batches = [1, 8]
"""


@dataclass(frozen=True)
class Cost:
    """What the plugin adds to a command.

    Attributes:
        plugins: How many other plugins are there.
        runs: Pairs of runs.
        with_ms: Median with the plugin, ms.
        without_ms: Median without it, ms.
        added_ms: Median of the differences of pairs, ms.
        low_ms: Lower end of its interval at 95 %, ms.
        high_ms: Upper end, ms.
        spread_ms: Half of the differences lie in an interval of this width, ms.
        added_cpu_ms: Median of the differences in processor time, ms.
    """

    plugins: int
    runs: int
    with_ms: float
    without_ms: float
    added_ms: float
    low_ms: float
    high_ms: float
    spread_ms: float
    added_cpu_ms: float


@dataclass(frozen=True)
class Collection:
    """What collecting takes.

    Attributes:
        models: Models of the toml.
        items: Items that were collected.
        seconds: Median of whole runs, s.
        fastest: The fastest one, s.
        python_seconds: Median of as many parametrized Python tests, s.
        heavy: What it imported of `HEAVY`.
    """

    models: int
    items: int
    seconds: float
    fastest: float
    python_seconds: float
    heavy: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One process: its seconds by the clock, those of processors, and what it printed."""

    seconds: float
    cpu: float
    text: str


def timed(arguments: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> Run:
    """Python with *arguments* in *folder*."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**environment, **(variables or {})}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, cpu, done.stdout)


def cost_of_help(folder: Path, runs: int, others: Sequence[str], blocked: Sequence[str]) -> Cost:
    """What the plugin adds to ``pytest --help`` beside the *others*, with the *blocked* ones left out."""
    command = ["-m", "pytest", "--help", *(part for name in blocked for part in ("-p", f"no:{name}"))]
    # Both sides name a plugin that they block: looking that up is no cost of ours.
    sides = ([*command, "-p", "no:no_such_plugin"], [*command, "-p", "no:trtcheck"])
    taken: tuple[list[Run], list[Run]] = ([], [])
    for run in range(_WARM + runs):
        # Whoever comes second finds a warmer machine: they take turns in that, too.
        for side in (0, 1) if run % 2 else (1, 0):
            found = timed(sides[side], folder)
            if run >= _WARM:
                taken[side].append(found)
    added = sorted(1e3 * (one.seconds - other.seconds) for one, other in zip(*taken, strict=True))
    low, high = of_median(len(added))
    quarter = len(added) // 4
    return Cost(
        len(others), runs, *(1e3 * statistics.median(run.seconds for run in side) for side in taken),
        statistics.median(added), added[low], added[high], added[-1 - quarter] - added[quarter],
        1e3 * statistics.median(one.cpu - other.cpu for one, other in zip(*taken, strict=True)),
    )  # fmt: skip


def of_median(count: int) -> tuple[int, int]:
    """Positions in *count* sorted values between which their median lies at 95 % (normal approximation)."""
    half = round(0.98 * count**0.5)
    return max(0, (count - 1) // 2 - half), min(count - 1, count // 2 + half)


def write_suite(folder: Path, models: int) -> None:
    """Writes a toml of *models* with the files that it names, which are empty."""
    classes = json.dumps([f"class {number}" for number in range(20)])
    tables = (MODEL.format(number=number, classes=classes) for number in range(models))
    (folder / "trtcheck.toml").write_text("".join(tables), encoding="utf-8")
    files = ("image.npy", "tabular.npy", "labels.npy", "calibration.npz")
    for name in (*files, *(f"{number}.onnx" for number in range(models))):
        (folder / name).touch()


def collection(folder: Path, runs: int, models: int) -> Collection:
    """What collecting *models* takes, and as many Python tests, in turns."""
    collect = ["-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    write_suite(folder, models)
    suite = [*collect, "-p", "trtcheck", "trtcheck.toml"]
    items = sum("::" in line for line in timed(suite, folder, ALONE).text.splitlines())
    test = f"@pytest.mark.parametrize('k', range({items}))\ndef test_nothing(k):\n    pass\n"
    (folder / "test_plain.py").write_text(f"import pytest\n\n{test}", encoding="utf-8")
    plain = [*collect, "-p", "no:trtcheck", "test_plain.py"]
    timed(plain, folder, ALONE)
    ours, python = [], []
    for _ in range(runs):
        ours.append(timed(suite, folder, ALONE).seconds)
        python.append(timed(plain, folder, ALONE).seconds)
    arguments = suite[2:]
    told = (
        f"import pytest, sys; pytest.main({arguments!r}); "
        f"print('imported', *({{name.partition('.')[0] for name in sys.modules}} & {set(HEAVY)!r}))"
    )
    imported = timed(["-c", told], folder, ALONE).text.splitlines()[-1].split()[1:]
    return Collection(
        models, items, statistics.median(ours), min(ours), statistics.median(python), tuple(sorted(imported))
    )


def lines(costs: Sequence[Cost], found: Collection) -> list[str]:
    """The figures as tables."""
    rows = [
        f"pytest {version('pytest')}, Python {sys.version.split()[0]}; {processor()}, {usable_cores()} cores",
        "",
        "| other plugins | pairs of runs | with the plugin | without | added | at 95 % | half within | ratio "
        "| processor time added |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {cost.plugins} | {cost.runs} | {cost.with_ms:.1f} ms | {cost.without_ms:.1f} ms | "
        f"{cost.added_ms:.1f} ms | {cost.low_ms:.1f} to {cost.high_ms:.1f} ms | "
        f"{cost.spread_ms:.1f} ms | {cost.with_ms / cost.without_ms:.3f} | {cost.added_cpu_ms:.1f} ms |"
        for cost in costs
    ]
    imports = ", ".join(found.heavy) or f"none of {', '.join(HEAVY)}"
    return [
        *rows, "",
        "| models | items | seconds | fastest | as many Python tests | ratio | imports |",
        "|---:|---:|---:|---:|---:|---:|---|",
        f"| {found.models} | {found.items} | {found.seconds:.2f} s | {found.fastest:.2f} s | "
        f"{found.python_seconds:.2f} s | {found.seconds / found.python_seconds:.2f} | {imports} |",
    ]  # fmt: skip


def main() -> int:
    """Measures, prints, and says whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="pairs of runs of --help (default: 40)")
    parser.add_argument("--models", type=int, default=1000, help="models of the toml (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="3 pairs and 50 models: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there, too")
    options = parser.parse_args()
    runs, models = (3, 50) if options.quick else (options.runs, options.models)
    installed = tuple(sorted({entry.name for entry in entry_points(group="pytest11")} - {"trtcheck"}))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        (folder / "empty").mkdir()
        costs = [
            cost_of_help(folder / "empty", runs, () if blocked else installed, blocked)
            for blocked in dict.fromkeys(((), installed))
        ]
        (folder / "suite").mkdir()
        found = collection(folder / "suite", 3 if options.quick else 7, models)
    print("\n".join(lines(costs, found)))
    if options.json:
        options.json.write_text(
            json.dumps({"help": [asdict(cost) for cost in costs], "collection": asdict(found)}, indent=1)
        )
    missed = [
        *(
            f"--help beside {cost.plugins} plugins: {cost.added_ms:.1f} ms"
            for cost in costs
            if cost.added_ms > GOAL_MS
        ),
        *([f"collection: {found.seconds:.2f} s"] if found.seconds > GOAL_S else []),
        *([f"collection imports {', '.join(found.heavy)}"] if found.heavy else []),
    ]
    print("missed: " + "; ".join(missed) if missed else "\nevery goal is reached")
    return 0 if options.quick else int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
