"""What a run costs whose cache is warm: beside the inference of its engines alone, and part by part.

    python benchmarks/warm.py
    python benchmarks/warm.py --suite=path/to/trtcheck.toml --engines=fp32,fp16

First the demo is run once with an empty cache. Then, in one process and in turns: the engines from the cache
over batches that lie in memory (bare inference), and warm evaluations of the same engines, each with a
workbench and a session folder of its own, as a new run has. Their ratio is what evaluating costs beside the
candidates' own inference. Last the whole ``pytest`` of the suite, warm, each part's time its own
(`warm_probe.py`): what else it does, and what stands for it in counts. Exits with 1 where a warm evaluation
takes more than 1.10 of bare inference, or builds an engine or asks the reference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime

from trtcheck.backends import onnxruntime as onnxruntime_backend
from trtcheck.case import Case, Check, EngineSpec, applies
from trtcheck.comparison import batching
from trtcheck.data.batches import batches
from trtcheck.environment import processor, usable_cores
from trtcheck.progress import LoggedProgress
from trtcheck.session import Workbench
from trtcheck.settings import parse_engines
from trtcheck.suite import read_suite

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "examples" / "fashion_mnist" / "trtcheck.toml"
GOAL = 1.10
"""Warm evaluations over bare inference, at most."""


@dataclass
class Turns:
    """Seconds of each round, by engine: of bare inference, and of a warm evaluation."""

    bare: dict[str, list[float]] = field(default_factory=dict)
    warm: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self) -> float:
        """Of all engines together: the median over rounds of what evaluating costs over inference."""
        rounds = zip(
            zip(*self.warm.values(), strict=True), zip(*self.bare.values(), strict=True), strict=True
        )
        return statistics.median(sum(warm) / sum(bare) for warm, bare in rounds)


@contextmanager
def workbench(cache: Path, backend: str) -> Iterator[Workbench]:
    """A new session's workbench on *cache*."""
    with tempfile.TemporaryDirectory() as shared:
        made = Workbench(
            cache=cache, shared=Path(shared), backend=backend, threads=usable_cores(),
            progress=LoggedProgress(),
        )  # fmt: skip
        try:
            yield made
        finally:
            made.close()


@contextmanager
def seconds(into: list[float]) -> Iterator[None]:
    """Appends the seconds that pass within to *into*."""
    start = time.perf_counter()
    yield
    into.append(time.perf_counter() - start)


def bare(
    cache: Path, backend: str, case: Case, engines: Sequence[EngineSpec], stack: ExitStack
) -> dict[str, Callable[[], None]]:
    """By engine, what runs it over all batches, which lie in memory, and does nothing with the answers."""
    bench = stack.enter_context(workbench(cache, backend))
    resolved, found = bench.resolve(case), {}
    for engine in engines:
        built = bench.built(case, engine)
        loaded = stack.enter_context(closing(bench.load(case, engine, built, resolved)))
        signature, size = batching(case, resolved.signature, loaded.signature, built)
        feeds = [batch.feeds for batch in batches(resolved.images, signature, case.input, size)]

        def loop(loaded: Any = loaded, feeds: Any = feeds) -> None:
            for one in feeds:
                loaded.infer(one)

        found[engine.name] = loop
    return found


def in_turns(cache: Path, backend: str, case: Case, engines: Sequence[EngineSpec], rounds: int) -> Turns:
    """Bare inference and warm evaluations, engine by engine, in turns."""
    turns = Turns({engine.name: [] for engine in engines}, {engine.name: [] for engine in engines})
    with ExitStack() as stack:
        loops = bare(cache, backend, case, engines, stack)
        for loop in loops.values():
            loop()
        for _ in range(rounds):
            with workbench(cache, backend) as bench:
                for engine in engines:
                    with seconds(turns.bare[engine.name]):
                        loops[engine.name]()
                    with seconds(turns.warm[engine.name]):
                        bench.evaluation(case, engine)
    return turns


def needless(cache: Path, backend: str, case: Case, engines: Sequence[EngineSpec]) -> dict[str, int]:
    """What a warm session lowers and builds, and how many sessions it opens for the reference."""
    opened = 0
    original = onnxruntime_backend.reference_session

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal opened
        opened += 1
        return original(*args, **kwargs)

    onnxruntime_backend.reference_session = counted
    try:
        with workbench(cache, backend) as bench:
            for engine in engines:
                bench.evaluation(case, engine)
                if applies(Check.CALIBRATION, engine.precision, engine.kind):
                    bench.calibration(case, engine)
            made = [len(list(bench.shared_folder.glob(f"made-{kind}-*"))) for kind in ("lowered", "engines")]
    finally:
        onnxruntime_backend.reference_session = original
    return {"models lowered": made[0], "engines built": made[1], "reference sessions opened": opened}


def whole(suite: Path, engines: str, backend: str, cache: Path, folder: Path) -> dict[str, Any]:
    """What `warm_probe` tells of ``pytest SUITE``."""
    found = folder / "probe.json"
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    command = [
        sys.executable, "-m", "pytest", str(suite), f"--trt-engine={engines}", f"--trt-cache={cache}",
        f"--trt-backend={backend}", f"--trt-report={folder / 'report'}", "-p", "no:cacheprovider",
        "-p", "warm_probe", "-p", "trtcheck", "-q",
    ]  # fmt: skip
    variables = {"PYTHONPATH": paths, "WARM_PROBE": str(found), "WARM_BEGAN": str(time.time())}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    report = folder / "report" / "report.json"
    # Verdicts may fail; an error means that the run did not do all that it is timed for.
    if done.returncode not in (0, 1) or json.loads(report.read_text(encoding="utf-8"))["verdict"] == "error":
        raise SystemExit(f"{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return result


def of_turns(turns: Turns) -> list[str]:
    """The ratio of evaluations to inference, as a table."""
    rows = ["| engine | bare inference | warm evaluation | ratio |", "|---|---:|---:|---:|"]
    for name, bare_s in turns.bare.items():
        ratio = statistics.median(w / b for w, b in zip(turns.warm[name], bare_s, strict=True))
        rows.append(
            f"| {name} | {statistics.median(bare_s):.2f} s | {statistics.median(turns.warm[name]):.2f} s | "
            f"{ratio:.2f} |"
        )
    return [*rows, f"| all | | | {turns.ratio():.3f} (goal: at most {GOAL:.2f}) |"]


def of_run(runs: Sequence[dict[str, Any]], turns: Turns) -> list[str]:
    """Where the time of the whole run went (the median of each part), and what was done how often."""
    parts = {
        name: statistics.median(run["seconds"].get(name, 0.0) for run in runs) for name in runs[0]["seconds"]
    }
    total = parts.pop("whole")
    inference = sum(statistics.median(own) for own in turns.bare.values())
    rest = total - sum(parts.values())
    rows = ["| part of the run | seconds | share |", "|---|---:|---:|"]
    for name, own in sorted([*parts.items(), ("the rest of pytest", rest)], key=lambda part: -part[1]):
        rows.append(f"| {name} | {own:.3f} | {100 * own / total:.1f} % |")
    rows += [
        f"| **whole run** | {total:.3f} | 100 % |",
        f"| bare inference of the engines | {inference:.3f} | {100 * inference / total:.1f} % |",
        "",
        *(f"{name}: {count}" for name, count in sorted(runs[0]["counts"].items())),
    ]
    return rows


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--suite", type=Path, default=SUITE, help="a trtcheck.toml of one model (default: the demo)"
    )
    parser.add_argument("--engines", default="fp32,fp16,int8")
    parser.add_argument("--backend", default="auto", help="as --trt-backend (default: auto)")
    parser.add_argument("--cache", type=Path, help="a cache folder to keep (default: a new one)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="turns of inference and evaluation (default: 5)"
    )
    parser.add_argument("--runs", type=int, default=3, help="whole warm runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round and one run: shows that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there, too")
    options = parser.parse_args()
    rounds, runs = (1, 1) if options.quick else (options.rounds, options.runs)
    suite = options.suite.resolve()
    case = read_suite(suite)[0]
    engines = parse_engines(options.engines.split(","), base=suite.parent, where="--engines")
    with tempfile.TemporaryDirectory() as name:
        cache = options.cache or Path(name) / "cache"
        cold = whole(suite, options.engines, options.backend, cache, Path(name))["seconds"]["whole"]
        turns = in_turns(cache, options.backend, case, engines, rounds)
        counts = needless(cache, options.backend, case, engines)
        found = [whole(suite, options.engines, options.backend, cache, Path(name)) for _ in range(runs)]
    told = ", ".join(f"{number} {what}" for what, number in counts.items())
    print(
        f"onnxruntime {onnxruntime.__version__} on {processor()}, {usable_cores()} cores; {suite.parent.name}"
    )
    print("\n".join(["", *of_turns(turns), "", f"a warm session: {told}", "", *of_run(found, turns), ""]))
    print(f"the first run, with an empty cache: {cold:.1f} s")
    if options.json:
        options.json.write_text(
            json.dumps({"bare": turns.bare, "warm": turns.warm, "ratio": turns.ratio(), "cold": cold,
                        "needless": counts, "runs": found}, indent=1)
        )  # fmt: skip
    return 0 if options.quick else int(turns.ratio() > GOAL or any(counts.values()))


if __name__ == "__main__":
    sys.exit(main())
