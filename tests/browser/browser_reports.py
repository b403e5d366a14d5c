"""Reports for a browser: one that a real run wrote, and one that holds everything at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import suite_models
from test_report_html import BUILD_ERROR, FASHION, OVERFLOW, document, evaluated, skipped_model, unbuilt
from test_report_latency import FASTER, JUDGED, LIMIT, THROTTLED, UNSURE, timed

from trtcheck import samples
from trtcheck.report import history, pictures

RIGHT_TO_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}txet desrever"
INJECTION = "<script>alert(1)</script>"
HOSTILE_CLASSES = [
    f'"><img src=x onerror=alert(1)>{INJECTION}',
    f"../../{RIGHT_TO_LEFT} & 'co' \"co\" &amp; \N{T-SHIRT}\N{JEANS}",
    "x" * 300,
    "שמלה, تي شيرت",
]
HOSTILE_MODELS = [
    f"</title>{INJECTION}",
    f"../../{RIGHT_TO_LEFT} \N{T-SHIRT}",
    "m" * 200,
    "a & b '\"; {{ 7*7 }}",
]
STRANGE_MODELS = ["-.._", "Model " * 24 + "M", "con"]
"""What a suite file takes as names of models."""
HOSTILE_FOLDER = f"<b>&amp; '\" {RIGHT_TO_LEFT} \N{T-SHIRT}"
LONG_ENGINE = f"_{'Engine.' * 16}onnx"
"""Names of engine files are refused unless they are harmless."""


def suite(folder: Path, models: list[str], classes: list[str]) -> None:
    """A suite of the tiny classifier in *folder*, once by each name of *models*."""
    folder.mkdir(parents=True)
    suite_models.save(suite_models.classifier(), folder / "model.onnx")
    np.savez(folder / "eval.npz", **suite_models.arrays())
    np.savez(folder / "calibration.npz", images=suite_models.images(64, seed=1)[0])
    keys = {
        "onnx": "model.onnx",
        "data": "eval.npz",
        "calibration": "calibration.npz",
        "classes": classes,
    }
    tables = []
    for model in models:
        lines = [f"[models.{_toml(model)}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
        lines += [f"[models.{_toml(model)}.input]", "scale = 0.00392156862745098"]
        tables.append("\n".join(lines))
    (folder / "trtcheck.toml").write_text("\n".join(tables), encoding="utf-8")


def _toml(value: str | list[str]) -> str:
    """Text or texts as TOML, which has JSON's escapes but no pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False)


def run(root: Path, *arguments: str) -> Path:
    """Runs pytest in *root* in a process of its own; the folder of the report that it wrote."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "trtcheck",
        "--trt-backend=onnxruntime-cpu", "--trt-cache=cache", "--trt-report=reports", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return root / "reports"


def everything() -> tuple[dict[str, Any], dict[str, bytes]]:
    """Whatever a report can hold: passes, ruined classes, errors, doubts, many classes, times, skips.

    Returns:
        The document, and its pictures by their path.
    """
    ruined = {"Shirt": ("T-shirt", 0.78), "Coat": ("Pullover", 0.31), "Dress": ("Coat", 0.05)}
    fp16, fp16_items = evaluated("fashion", "fp16", FASHION, 1000, {})
    int8, int8_items = evaluated("fashion", "int8", FASHION, 1000, ruined)
    tiny, tiny_items = evaluated("tiny", "fp16", ["cat", "dog"], 8, {}, overflow=OVERFLOW)
    for item in tiny_items[2:]:
        item.update(verdict="inconclusive", message="too few images to tell for 'cat', 'dog'")
    names = [f"n{k:08d} some kind of bird" for k in range(1000)]
    model, skipped = skipped_model("untested")
    fast = [timed("fp16", batch, 0.7 * batch**0.8, model="fashion") for batch in (1, 8, 32)]
    slow = timed(
        "int8", 1, 1.649, model="fashion", verdict="fail", fails=True, judged=[JUDGED, UNSURE],
        limits=[LIMIT], health={**fast[0]["health"], **THROTTLED},
        speedups={"reference": {"ratio": 2.3, **FASTER}},
    )  # fmt: skip
    imagenet, imagenet_items = evaluated("imagenet", "fp16", names, 50, {names[77]: (names[78], 0.9)})
    sides = ("before", "after", "difference")
    imagenet["confusion_pictures"] = {side: f"pictures/confusion-{side}.png" for side in sides}
    told(tiny, picture=None, row="x (16): 0.25, 3, -0.125, 1e-7, …", file=None)
    told(int8, picture="pictures/image.png", row=None, file="eval/some folder/image <b> & 1.png")
    noise = np.random.default_rng(1).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    drawn = samples.png(samples.thumbnail(noise))
    made = document(
        (fp16, [*fp16_items, *fast]),
        (int8, [*int8_items, slow]),
        unbuilt("birds", "int8", "error", BUILD_ERROR),
        ({**tiny, "verdict": "inconclusive"}, tiny_items),
        (imagenet, imagenet_items),
        models=[model],
        items=[skipped],
    )
    runs = [
        {**history.record_of(made), "id": f"{day:08x}", "started": f"2026-01-{day:02}T12:00:00+00:00"}
        for day in range(1, 5)
    ]
    made["history"] = {"folder": "history", **history.joined(made, runs, unreadable=1)}
    return made, dict.fromkeys(pictures.referenced(made), drawn)


def told(engine: dict[str, Any], **shown: Any) -> None:
    """Adds to the changed answers of *engine* what is *shown* of the images and the best classes."""
    names = [row["name"] for row in engine["classes"]]
    best = [[name, 0.9 / (k + 1)] for k, name in enumerate(names[:5])]
    for flip in engine["flips"]["worst"]:
        flip.update(shown, top_before=best, top_after=best[::-1])


def real(root: Path) -> Path:
    """Runs a suite twice, so that there is a history: FP16, INT8 and an engine that is blind to a class."""
    suite(root / "suite", ["tiny"], ["left", "right", "dim", "bright"])
    suite_models.save(suite_models.classifier(blind=0.6), root / "blind.onnx")
    run(root, "suite", "--trt-engine=int8")
    return run(root, "suite", "--trt-engine=fp16,int8,blind.onnx")


def hostile(root: Path) -> Path:
    """Runs a suite in which names of models, classes and folders are hostile."""
    below = root / HOSTILE_FOLDER
    suite(below, STRANGE_MODELS, HOSTILE_CLASSES)
    suite_models.save(suite_models.classifier(blind=0.6), below / LONG_ENGINE)
    return run(root, below.name, "--trt-engine", f"fp16,{below.name}/{LONG_ENGINE}")
