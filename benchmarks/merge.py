"""What the merge of shards costs past these machines: bytes, seconds and memory of the coordinator.

    python benchmarks/merge.py --json merge.json

No model runs: labels, answers and errors are drawn at random, and take the real way. Evaluations of a plan's
shards are pickled as an executor carries them; a fresh process reads and merges them and puts the whole
into a session's folder, another judges it from there, and a third writes the report. The peak of each is how
much its resident memory (VmHWM) grew over that of an idle one after its imports.

Three plans: ImageNet-22k, a million images with detections (no class scores), and a hundred models nightly.
All pairs of the nightly run are merged and reported; one is judged. The last tables are of what limits the
workers besides inference: listing an image folder, reading it for digests, and comparing outputs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import report
from merge_answers import PLANS, QUICK_PLANS, Drawn, Plan, packed
from merge_limits import compared, opened, peak, timed

from trtcheck import checks
from trtcheck.case import Check, Gates
from trtcheck.environment import processor, usable_cores
from trtcheck.evaluation_record import from_parts, to_parts
from trtcheck.report import folder as report_folder
from trtcheck.report import matrix_pictures
from trtcheck.report.document import document, item
from trtcheck.session import read_evaluations
from trtcheck.shards.plan import spans
from trtcheck.shards.sharded import joined
from trtcheck.shared import SharedResults

BATCH = 64
"""Images of a batch; every shard starts at a multiple of it."""


def answer_files(folder: Path, engine: int) -> list[Path]:
    """The answers of the shards of one engine."""
    return sorted(folder.glob(f"answer-{engine}-*"))


def draw(plan: Plan, shards: int, folder: Path) -> dict[str, float]:
    """Writes the answers of one model's shards into *folder*."""
    arrays = 0
    for engine in range(plan.engines):
        drawn = Drawn(plan, engine)
        for number, span in enumerate(spans(plan.images, BATCH, shards)):
            content, own = packed(drawn.of(span), number)
            arrays += own
            (folder / f"answer-{engine}-{number:05d}").write_bytes(content)
    sizes = [path.stat().st_size for path in folder.glob("answer-*")]
    return {
        "images a shard": -(-plan.images // shards),
        "answers": len(sizes) * plan.models,
        "MB over the network": sum(sizes) * plan.models / 1e6,
        "of these labels, MB": arrays * plan.models / 1e6,
        "largest answer, MB": max(sizes) / 1e6,
    }


def merge(plan: Plan, _shards: int, folder: Path) -> dict[str, float]:
    """Reads the answers of every model, merges them and puts the whole into the session's folder."""
    results = SharedResults(folder / "session")
    spent = {"reading answers, s": 0.0, "merging, s": 0.0, "writing the session's file, s": 0.0}
    classes = [Drawn(plan, engine).classes for engine in range(plan.engines)]
    for model in range(plan.models):
        for engine in range(plan.engines):
            with timed(spent, "reading answers, s"):
                answers = [pickle.loads(path.read_bytes()) for path in answer_files(folder, engine)]
            with timed(spent, "merging, s"):
                whole = joined(answers, len(answers), plan.images)
            del answers
            facts = report.record(whole.engine)
            whole = replace(whole, model=f"model {model:03d}", classes=classes[engine], record=facts)
            with timed(spent, "writing the session's file, s"):
                results.get_or_make(f"evaluation-{model}-{engine}", partial(to_parts, whole))
    files = [path.stat().st_size for path in (folder / "session").iterdir()]
    return {**spent, "files in the session's folder": len(files), "MB of them": sum(files) / 1e6}


def judge(_plan: Plan, _shards: int, folder: Path) -> dict[str, float]:
    """Judges one evaluation as the items of a worker do; the items stay for the report."""
    spent: dict[str, float] = {}
    with timed(spent, "reading the session's file, s"):
        evaluation = from_parts(*SharedResults(folder / "session").read("evaluation-0-0"))
    if evaluation.labels is None:
        judged = {Check.OUTPUTS: checks.outputs}
    else:
        judged = dict(checks.CHECKS)
        with timed(spent, "confusion of both, s"):
            evaluation.confusion()
    items = []
    for check, function in judged.items():
        with timed(spent, f"{check.value}, s"):
            items.append(item("", function(evaluation, Gates(), None)))
    (folder / "items.json").write_text(json.dumps(items))
    return spent


def write_report(plan: Plan, _shards: int, folder: Path) -> dict[str, float]:
    """Makes the document and writes the report's folder, as the controller does in the end."""
    items = json.loads((folder / "items.json").read_text())
    spent: dict[str, float] = {}
    with timed(spent, "reading all evaluations, s"):
        evaluations = read_evaluations(folder / "session")
    with timed(spent, "confusion pictures, s"):
        drawn = matrix_pictures.of(evaluations)
    with timed(spent, "document, s"):
        made = document(
            items=[report.named(i, e.model, e.engine) for e in evaluations for i in items],
            evaluations=evaluations, baselines={}, environment=evaluations[0].record["environment"],
            run={
                "started": "2026-01-31T12:00:00+00:00", "seconds": 1.0, "version": "1", "workers": 0,
                "exitstatus": 1, "command": plan.name,
            },
            root=folder, pictures=drawn.keys(),
        )  # fmt: skip
    with timed(spent, "pages and report.json, s"):
        report_folder.write(made, folder / "report", drawn)
    sizes = report.weigh(folder / "report")
    return {
        **spent,
        "report.json, MB": sizes["report.json"] / 1e6,
        "whole report, MB": sum(sizes.values()) / 1e6,
        "files of the report": len(sizes),
    }


def measured(function: Callable[..., dict[str, float]], *arguments: object) -> tuple[dict[str, float], float]:
    """What *function* found, and by how many MB this process's peak grew meanwhile."""
    before = peak()
    found = function(*arguments)
    return found, (peak() - before) / 1e6


def apart(
    function: Callable[..., dict[str, float]], *arguments: object, memory: str = ""
) -> dict[str, float]:
    """What *function* finds in a process of its own, with its *memory* by that name."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        found, grown = process.submit(measured, function, *arguments).result()
    return {**found, **({memory: grown} if memory else {})}


def simulate(plan: Plan) -> dict[str, Any]:
    """All figures of *plan*: those of the merge by number of shards, then those that it does not change."""
    by_shards: dict[str, dict[str, float]] = {}
    for shards in plan.shards:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            by_shards[str(shards)] = {
                **apart(draw, plan, shards, folder),
                **apart(merge, plan, shards, folder, memory="peak of the merge, MB"),
            }
            if shards == plan.shards[-1]:
                after = apart(judge, plan, shards, folder, memory="peak of judging, MB")
                after |= apart(write_report, plan, shards, folder, memory="peak of the report, MB")
    return {"plan": asdict(plan), "shards": by_shards, "after": after}


def table(head: Sequence[str], rows: Mapping[str, Sequence[float]]) -> str:
    """A table of figures by name."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    lines += [f"| {name} | {' | '.join(map(shown, values))} |" for name, values in rows.items()]
    return "\n".join(lines)


def single(figures: Mapping[str, float]) -> dict[str, list[float]]:
    """The rows of a table of one column."""
    return {name: [value] for name, value in figures.items()}


def shown(value: float) -> str:
    """A figure with three digits, a large one in full."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def main() -> None:
    """Prints the tables; the figures go into ``--json``, too."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small plans: a check that all of it runs")
    parser.add_argument("--only", default="", help="only the plans whose name holds this")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    chosen = parser.parse_args()
    machine = f"{processor()}, {usable_cores()} cores, Python {sys.version.split()[0]}"
    print(f"{machine}, NumPy {np.__version__}\n")
    plans = [plan for plan in (QUICK_PLANS if chosen.quick else PLANS) if chosen.only in plan.name]
    found = []
    for plan in plans:
        whole = simulate(plan)
        found.append(whole)
        pairs = "" if plan.models == 1 else f" of {plan.models} models x {plan.engines} engines"
        print(f"### {plan.name}: {plan.images:,} images{pairs}, {plan.classes:,} classes\n")
        columns = whole["shards"].values()
        rows = {name: [column[name] for column in columns] for name in next(iter(columns))}
        print(table(["", *(f"{shards} shards" for shards in whole["shards"])], rows) + "\n")
        print(
            table(["after the merge", ""], {name: [value] for name, value in whole["after"].items()}) + "\n"
        )
    with tempfile.TemporaryDirectory() as temporary:
        limits = apart(opened, 2_000 if chosen.quick else 100_000, Path(temporary))
    print("### Opening an image folder\n")
    print(table(["", ""], single(limits)) + "\n")
    speeds = apart(compared, chosen.quick)
    print("### Comparing outputs, without inference: images a second of a process\n")
    print(table(["", ""], single(speeds)))
    if chosen.json is not None:
        chosen.json.write_text(
            json.dumps({"machine": machine, "plans": found, "folder": limits, "comparing": speeds}, indent=1)
        )


if __name__ == "__main__":
    main()
