"""What several GPUs of one machine are worth: 16 pairs of model and precision, and one data set in shards.

    python benchmarks/devices.py --devices 0,1 --json devices.json

Makes a suite of 8 residual networks of mixed size with random weights, at two precisions each. pytest runs
it as users do: serially, and with 1, 2, … workers of which each has a GPU (``-n 2 --trt-devices=0,1``). The
first run fills the cache (lowered models, the reference's answers) and compiles modules (told as "cold").
In the others the candidates alone infer. The same pairs on a few images tell what start-up costs. Last, one
engine on a data set five times as large, whole and with ``--trt-shards``.

Counts (who answered what, elements that differ) must be the same in all runs: exits with 1 where they are
not. Meant for 5 minutes on 2 GPUs; ``--images`` makes it shorter or longer. With ``--cpu`` the CPU backend
runs the engines, and a core stands for a GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from devices_suite import FEW, NETS, PRECISIONS, SMALL_NETS, Bed, Run, run, write_suites

from trtcheck.environment import processor, usable_cores

GOALS = {2: 1.9, 4: 3.6}
"""Speed-up over one worker by number of GPUs."""


def differing(first: Run, others: Sequence[Run]) -> list[str]:
    """The pairs that were counted differently from the *first* run, by run."""
    return [
        f"{other.name}: {pair}"
        for other in others
        for pair, counts in first.counts.items()
        if other.counts.get(pair) != counts
    ]


def row(own: Run, base: Run, devices: int) -> str:
    """A line of the table of runs."""
    speedup = base.wall_s / own.wall_s
    busiest, longest = max(own.workers.values()), max(own.pairs.values())
    cells = (
        own.name, f"{own.wall_s:.1f}", f"{speedup:.2f}", f"{100 * speedup / devices:.0f} %",
        f"{own.first_s:.1f}", f"{sum(own.pairs.values()):.1f}", f"{busiest:.1f}", f"{longest:.1f}",
        f"{own.wall_s - own.last_s:.1f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| run | wall, s | speed-up | efficiency | first item after, s | all items, s | busiest worker, s "
    "| longest pair, s | after the last item, s |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def bound(one: Run, own: Run, few: Run, devices: int) -> str:
    """What keeps *own*, with a worker a device, from being *devices* times as fast as *one*."""
    share = sum(own.pairs.values()) / devices
    longest, idle = max(own.pairs.values()), max(own.workers.values()) - share
    slower = sum(own.pairs.values()) / sum(one.pairs.values())
    around = own.wall_s - share - idle
    return (
        f"{devices} devices: {own.wall_s:.1f} s = {share:.1f} s of items for each + {idle:.1f} s since the "
        f"busiest has more + {around:.1f} s around them (start of pytest and workers, report). The "
        f"longest pair alone takes {longest:.1f} s; all items take {slower:.2f} times as long as with one "
        f"worker (cores, memory and disk are shared); the same pairs on {FEW} images each take "
        f"{few.wall_s:.1f} s, which no GPU makes shorter."
    )


def reached(one: Run, own: Run, few: Run, devices: int) -> str:
    """Whether the goal is reached, and how much work it needs where start-up costs as much as here."""
    goal, found = GOALS[devices], one.wall_s / own.wall_s
    least = few.wall_s * (goal - 1) / (1 - goal / devices)
    return (
        f"Goal {goal} on {devices}: {'reached' if found >= goal else 'missed'} ({found:.2f}); with such a "
        f"start-up no suite of less than {least:.0f} s on one device reaches it."
    )


def of_pairs(bed: Bed) -> tuple[dict[str, Run], list[str]]:
    """The suite of all pairs, cold and warm, by 1, 2, … workers; and what was counted differently."""
    most = len(bed.devices)
    counts = [n for n in (1, 2, 4, 8) if n <= most]
    runs = {"cold": run(bed, f"cold, -n {most}", "all", most)}
    run(bed, "warming", "few", most)
    for n in reversed(counts):
        runs[f"few{n}"] = run(bed, f"{FEW} images each, -n {n}", "few", n)
        runs[f"n{n}"] = run(bed, f"-n {n}", "all", n)
    runs["serial"] = run(bed, "serial", "all", 0)
    print(HEAD)
    for name, own in runs.items():
        base = runs["few1"] if name.startswith("few") else runs["n1"]
        devices = int(name[-1]) if name[-1].isdigit() else most if name == "cold" else 1
        print(row(own, base, devices))
    print()
    for n in counts[1:]:
        print(bound(runs["n1"], runs[f"n{n}"], runs[f"few{n}"], n))
        if n in GOALS:
            print(reached(runs["n1"], runs[f"n{n}"], runs[f"few{n}"], n))
    others = [own for name, own in runs.items() if not name.startswith("few") and name != "serial"]
    return runs, differing(runs["serial"], others)


def of_shards(bed: Bed) -> tuple[dict[str, Run], list[str]]:
    """One engine on one large data set, whole and in processes; and what was counted differently."""
    most = len(bed.devices)
    counts = [n for n in (1, 2, 4, 8) if n <= most]
    run(bed, "large, cold", "large", 0, f"--trt-shards={most}", spread=most)
    runs = {"whole": run(bed, "whole", "large", 0)}
    for n in counts:
        runs[f"shards{n}"] = run(bed, f"--trt-shards={n}", "large", 0, f"--trt-shards={n}", spread=n)
    print("\n" + HEAD)
    for name, found in runs.items():
        print(row(found, runs["whole"], 1 if name == "whole" else int(name.removeprefix("shards"))))
    return runs, differing(runs["whole"], list(runs.values())[1:])


def gpus(count: int) -> str:
    """What the devices are called, by the driver."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{count} GPUs ({error})"
    return f"{count} of {'; '.join(found.splitlines())}"


def main() -> int:
    """Prints both tables; 1 where two runs counted differently."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", default="0,1", help="GPU numbers, comma-separated (default: 0,1)")
    parser.add_argument("--images", type=int, help="images of each model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--cpu", action="store_true", help="the CPU backend, a core for a GPU")
    parser.add_argument("--quick", action="store_true", help="2 tiny models: a check that all of it runs")
    parser.add_argument("--part", choices=("pairs", "shards"), help="only one of both")
    parser.add_argument("--folder", type=Path, help="where models and data are written (about 10 GB)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--pytest", default="", help="more options of pytest, for example --trt-reference=…")
    chosen = parser.parse_args()
    small = chosen.cpu or chosen.quick
    nets = (SMALL_NETS[:2] if chosen.quick else SMALL_NETS) if small else NETS
    images = chosen.images or (96 if chosen.quick else 1500 if small else 6000)
    devices = tuple(map(int, chosen.devices.split(",")))
    machine = {
        "devices": f"{len(devices)} cores" if chosen.cpu else gpus(len(devices)),
        "processor": f"{processor()}, {usable_cores()} cores",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu", "numpy", "pytest-xdist")},
    }
    print("; ".join(f"{name} {value}" for name, value in machine.items() if value))
    print(f"{len(nets)} models x {len(PRECISIONS)} precisions, {images} images each, batch {chosen.batch}\n")
    found: dict[str, Any] = {"machine": machine, "images": images, "batch": chosen.batch}
    differ: list[str] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as temporary:
        bed = Bed(Path(temporary), devices, chosen.cpu, extra=tuple(chosen.pytest.split()))
        start = time.time()
        write_suites(bed, nets, images, chosen.batch)
        found["written_s"] = time.time() - start
        for name, part in (("pairs", of_pairs), ("shards", of_shards)):
            if chosen.part in (None, name):
                runs, differing_ones = part(bed)
                differ += differing_ones
                found[name] = {key: _figures(own) for key, own in runs.items()}
    found["differing"] = differ
    print("\n" + ("\n".join(["Counted differently:", *differ]) if differ else "All runs count the same."))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=1))
    return 1 if differ else 0


def _figures(own: Run) -> dict[str, Any]:
    return {name: value for name, value in vars(own).items() if name != "counts"}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
