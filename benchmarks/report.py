"""How long a large report takes and what it weighs: 50 models of 3 engines and 1000 classes.

    python benchmarks/report.py --folder=/tmp/report

Labels, answers and scores are drawn at random and judged by trtcheck's own checks; the document, its pictures
and its pages are made as at the end of a run. Every third model also has the times of the documentation's
example report, measured on an H100. So that the checks do not take longer than what is measured, a few kinds
of engines are judged and stand for all models. Exits with 1 where a bound is broken; that of time is meant
for two cores.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trtcheck import checks, environment, samples
from trtcheck.backends.base import BackendInfo
from trtcheck.case import Check, Gates
from trtcheck.environment import processor, usable_cores
from trtcheck.evaluation import Evaluation, Labels
from trtcheck.metrics.drift import OutputDrift
from trtcheck.metrics.flips import KEPT, Flips
from trtcheck.metrics.scores import ScoreDrift
from trtcheck.report import history, html, matrix_pictures, pictures
from trtcheck.report.document import document, item

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "example-report" / "report.json"
SEED = 2024
SECONDS, BYTES, FILES, INDEX = 20.0, 30e6, 2000, 1e6
"""What the report of 50 models, 3 engines and 1000 classes must stay below; report.json apart."""
KINDS, QUICK_KINDS = 4, 2
"""Models that are judged; the others are the same by other names."""
CHURN = (0.0005, 0.004, 0.04)
"""Answers that change, as shares, of the first, second and third engine of a model; and so on in turn."""
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Size:
    """What the report is made of."""

    models: int
    engines: int
    classes: int
    images: int
    runs: int
    kinds: int


def near(rng: np.random.Generator, labels: np.ndarray, classes: int) -> np.ndarray:
    """Answers that are mistaken for *labels*: mostly one of few classes beside them."""
    return (labels + 1 + rng.geometric(0.5, len(labels)) % min(5, classes - 1)) % classes


def answers(rng: np.random.Generator, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) of a model's images and the answers (N,) of its reference."""
    truth = np.repeat(np.arange(size.classes), size.images)
    wrong = rng.random(len(truth)) < rng.beta(2, 8, size.classes)[truth]
    return truth, np.where(wrong, near(rng, truth, size.classes), truth)


def answered(
    rng: np.random.Generator, truth: np.ndarray, reference: np.ndarray, churn: float, ruined: int | None
) -> Labels:
    """The same with those of an engine that differ on a share *churn*, for better or worse."""
    classes = int(truth.max()) + 1
    changed = rng.random(len(truth)) < churn
    lost = (truth == ruined) & (rng.random(len(truth)) < 0.6)
    mended = (reference != truth) & (rng.random(len(truth)) < 0.8)
    labels = Labels.blank(truth)
    labels.reference[:] = reference
    labels.candidate[:] = np.where(changed & mended, truth, reference)
    broken = (changed & ~mended) | lost
    labels.candidate[broken] = near(rng, truth[broken], classes)
    for side in ("reference", "candidate"):
        hit = getattr(labels, side) == truth
        getattr(labels, f"{side}_top_k")[:] = hit | (rng.random(len(truth)) < 0.8)
    return labels


def scores(rng: np.random.Generator, labels: np.ndarray, classes: int) -> np.ndarray:
    """Logits (N, C) whose largest is that of the *labels*."""
    found = rng.normal(0, 2, (len(labels), classes)).astype(np.float32)
    found[np.arange(len(labels)), labels] = found.max(axis=1) + rng.exponential(2, len(labels))
    return found


def thumbnails(rng: np.random.Generator) -> list[bytes]:
    """Pictures as grainy as photographs are."""
    found = []
    for _ in range(32):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((224, 224))
        pixels = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (224, 224, 3))
        found.append(samples.png(samples.thumbnail(np.clip(pixels, 0, 255).astype(np.uint8))))
    return found


def evaluation(
    rng: np.random.Generator, size: Size, engine: str, labels: Labels, drawn: list[bytes]
) -> Evaluation:
    """The evaluation of an engine that answers so; the scores are those of the first images that changed."""
    changed = np.flatnonzero(labels.reference != labels.candidate)
    scored = changed[: 2 * KEPT] if len(changed) else np.arange(KEPT)
    old = scores(rng, labels.reference[scored], size.classes)
    new = old + rng.normal(0, 0.05, old.shape).astype(np.float32)
    moved = labels.candidate[scored]
    new[np.arange(len(scored)), moved] = new.max(axis=1) + 0.5
    flips = Flips.of(labels.truth[scored], old, new)
    places = {position: int(index) for position, index in enumerate(scored)}
    right, now = labels.reference == labels.truth, labels.candidate == labels.truth
    flips = replace(
        flips, total=len(changed), broken=int((right & ~now).sum()), fixed=int((~right & now).sum()),
        images=len(labels.truth), worst=tuple(replace(f, index=places[f.index]) for f in flips.worst),
    )  # fmt: skip
    count = len(labels.truth)
    drift = replace(
        ScoreDrift.of(old, new, 5), images=count, top1_same=count - len(changed), top_k_kept=count
    )
    shown = sorted(flip.index for flip in flips.worst[: samples.SHOWN])
    names = tuple(f"n{k:08d} {'some kind of bird' if k % 2 else 'tool'} {k}" for k in range(size.classes))
    return Evaluation(
        model="", engine=engine, classes=names, images=len(labels.truth), top_k=5, labels=labels,
        outputs=(OutputDrift.of("logits", old, new),), scores=drift, flips=flips,
        samples=tuple(
            samples.Sample(index, f"eval/{names[labels.truth[index]]}/{index}.jpg", drawn[index % len(drawn)])
            for index in shown
        ),
        record=record(engine),
    )  # fmt: skip


def record(engine: str) -> dict[str, Any]:
    """Facts as a session records them."""
    kept = [
        {"node": f"/stage{k % 4}/block{k}/Sigmoid", "op": "Sigmoid", "reason": "stays wide"}
        for k in range(40)
    ]
    lowered = {
        "made_by": "trtcheck", "digest": "sha256:" + "3" * 64, "source_digest": "sha256:" + "1" * 64,
        "calibration_digest": "sha256:" + "2" * 64, "calibration_images": 1000, "method": "entropy",
        "percentile": None, "rest": "fp16", "exclude": [], "kept": kept, "clamped": [],
        "folded": 17, "notes": [],
        "nodes": {"total": 161, "narrowed": 38, "quantized": 83, "wide": 40},
    }  # fmt: skip
    return {
        "precision": PRECISIONS[int(engine.removeprefix("e")) % 3], "kind": "precision", "numerics": "native",
        "cached": True, "lowered": lowered, "notes": [], "checks": [check.value for check in Check],
        "facts": {"nodes": 148, "types": {"FLOAT16": 62, "quantized": 83}, "engine_bytes": 25_412_344},
        "environment": environment.fingerprint(BackendInfo("tensorrt", "10.16", "NVIDIA H100", "")),
        "reference": {
            "provider": "onnxruntime-cuda", "version": "1.31.1", "device": "NVIDIA H100", "reason": "auto",
        },
        "model": {
            "path": "model.onnx", "digest": "sha256:" + "1" * 64,
            "inputs": ["images: float32[?, 3, 224, 224]"], "outputs": ["logits: float32[?, 1000]"],
        },
        "data": {"name": "eval", "digest": "sha256:" + "4" * 64, "labels_digest": "sha256:" + "5" * 64},
        "calibration": {"name": "calibration", "digest": "sha256:" + "2" * 64, "images": 1000},
    }  # fmt: skip


def judged(size: Size) -> list[list[tuple[Evaluation, list[dict[str, Any]]]]]:
    """By kind of model, its engines with the items of their checks."""
    rng = np.random.default_rng(SEED)
    drawn = thumbnails(rng)
    kinds = []
    for kind in range(min(size.kinds, size.models)):
        engines = []
        truth, reference = answers(rng, size)
        for number in range(size.engines):
            ruined = 7 if kind % 2 and number == size.engines - 1 else None
            labels = answered(rng, truth, reference, CHURN[number % len(CHURN)], ruined)
            found = evaluation(rng, size, f"e{number}", labels, drawn)
            outcomes = [judge(found, Gates(), None) for judge in checks.CHECKS.values()]
            engines.append((found, [item("", outcome) for outcome in outcomes]))
        kinds.append(engines)
    return kinds


def everything(size: Size) -> tuple[list[Evaluation], list[dict[str, Any]]]:
    """The evaluations and items of all models."""
    kinds = judged(size)
    evaluations, items = [], []
    for number in range(size.models):
        model = f"model {number:03d}"
        for own, outcomes in kinds[number % len(kinds)]:
            evaluations.append(replace(own, model=model))
            items += [named(each, model, own.engine) for each in outcomes]
            if number % 3 == 0:
                items += [named(each, model, own.engine) for each in times(own.engine)]
    return evaluations, items


def named(found: dict[str, Any], model: str, engine: str) -> dict[str, Any]:
    """The item as that of another model and engine."""
    nodeid = f"suites/{model}/trtcheck.toml::{model}[{engine}]::{found['check']}"
    return {**found, "nodeid": nodeid, "model": model, "engine": engine}


def times(engine: str) -> Iterator[dict[str, Any]]:
    """Measured latency items, of every batch size of one engine of the example."""
    found = [
        i for i in json.loads(EXAMPLE.read_text(encoding="utf-8"))["items"] if i["check"] == Check.LATENCY
    ]
    pairs = sorted({(i["model"], i["engine"]) for i in found})
    chosen = pairs[int(engine.removeprefix("e")) % len(pairs)]
    yield from (i for i in found if (i["model"], i["engine"]) == chosen)


def earlier(made: dict[str, Any], runs: int) -> list[dict[str, Any]]:
    """The *runs* that led here, a day apart, with recall that varies a little."""
    rng = np.random.default_rng(SEED)
    own = history.record_of(made)
    started = datetime.fromisoformat(own["started"])

    def engine(found: dict[str, Any]) -> dict[str, Any]:
        varied = rng.normal(0, 0.01, len(found["recall"]))
        recall = {
            name: None if value is None else float(np.clip(value + change, 0, 1))
            for (name, value), change in zip(found["recall"].items(), varied, strict=True)
        }
        return {**found, "recall": recall}

    return [
        {
            **own, "id": f"{day:08x}", "started": (started - timedelta(days=day)).isoformat(),
            "engines": [engine(found) for found in own["engines"]],
        }
        for day in range(runs)
    ]  # fmt: skip


def weigh(folder: Path) -> dict[str, int]:
    """Bytes of the files in *folder* by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(size: Size, folder: Path, *, profile: bool) -> dict[str, float]:
    """Makes the report in *folder*; seconds and bytes by name."""
    evaluations, items = everything(size)
    start = time.perf_counter()
    thumbnails = pictures.thumbnails(evaluations)
    drawn = {**thumbnails, **matrix_pictures.of(evaluations)}
    drawn_at = time.perf_counter()
    made = document(
        items=items, evaluations=evaluations, baselines={}, environment=evaluations[0].record["environment"],
        run={
            "started": "2026-01-31T12:00:00+00:00", "seconds": 3600.0, "version": "1", "workers": 0,
            "exitstatus": 1, "command": "suites",
        },
        root=folder, pictures=drawn.keys(),
    )  # fmt: skip
    made["history"] = {"folder": "history", **history.joined(made, earlier(made, size.runs), 0)}
    made_at = time.perf_counter()
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    html.write(made, folder, drawn)
    profiler.disable()
    written_at = time.perf_counter()
    if profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)
    files = weigh(folder)
    text = json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False)
    shown = {end: sum(n for name, n in files.items() if name.endswith(end)) for end in ("html", "css", "png")}
    return {
        "pictures, s": drawn_at - start,
        "document, s": made_at - drawn_at,
        "pages, s": written_at - made_at,
        "files": len(files),
        "thumbnails": len(thumbnails),
        "bytes": sum(shown.values()),
        **{f"bytes of {suffix}": n for suffix, n in shown.items()},
        "bytes of thumbnails": sum(map(len, thumbnails.values())),
        "bytes of index.html": files["index.html"],
        "bytes of the largest page": max(n for name, n in files.items() if name.endswith("html")),
        "bytes of report.json": len(text.encode()),
    }


def broken(found: dict[str, float]) -> list[str]:
    """The bounds that are broken, in sentences."""
    bounds = (("pages, s", SECONDS), ("bytes", BYTES), ("files", FILES), ("bytes of index.html", INDEX))
    return [
        f"{name}: {found[name]:.0f} of at most {most:.0f}" for name, most in bounds if found[name] >= most
    ]


def main() -> int:
    """Prints the table; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--engines", type=int, default=3)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=50, help="of each class")
    parser.add_argument("--runs", type=int, default=20, help="in the history")
    parser.add_argument("--quick", action="store_true", help="5 models, whatever is said above")
    parser.add_argument("--folder", type=Path, help="keep the report here")
    parser.add_argument("--profile", action="store_true", help="tell where the time of the pages goes")
    chosen = parser.parse_args()
    models = 5 if chosen.quick else chosen.models
    kinds = QUICK_KINDS if chosen.quick else KINDS
    size = Size(models, chosen.engines, chosen.classes, chosen.images, chosen.runs, kinds)
    print(f"{processor()}, {usable_cores()} cores, Python {sys.version.split()[0]}; {size}\n")
    with tempfile.TemporaryDirectory() as temporary:
        found = run(size, chosen.folder or Path(temporary), profile=chosen.profile)
    print("| what | how much |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} |" if isinstance(value, float) else f"| {name} | {value} |")
    problems = broken(found)
    print("\n" + ("\n".join(problems) or "Every bound holds."))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
