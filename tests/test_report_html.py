"""The report's pages: what they say, what a CI server would refuse in them, and hostile names."""

from __future__ import annotations

import copy
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtcheck.errors import ReportError
from trtcheck.names import fraction, visible
from trtcheck.report import false_alarm, html, view

FASHION = [
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
EMULATED = "emulated: computed in FP32, rounded to the asked-for type as ONNX Runtime's CUDA kernels do"
HOSTILE = [
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "\N{T-SHIRT}\N{JEANS}",
    "x" * 200,
    "a\"b'c&amp;",
    "  ",
    "\u202eright to left",
    "שמלה",
    "a; b",
    "",
]


def shares(matrix: np.ndarray) -> list[dict[str, Any]]:
    """Counts and figures of every class as the schema has them."""
    matrix = matrix.astype(int)
    classes = len(matrix)
    rows = []
    for k in range(classes):
        tp = int(matrix[k, k])
        fn, fp = int(matrix[k].sum()) - tp, int(matrix[:, k].sum()) - tp
        precision = tp / (tp + fp) if tp + fp else None
        recall = tp / (tp + fn) if tp + fn else None
        f1 = 2 * tp / (2 * tp + fp + fn) if 2 * tp + fp + fn else None
        rows.append(
            {
                "tp": tp,
                "fp": fp,
                "fn": fn,
                "tn": int(matrix.sum()) - tp - fp - fn,
                "precision": precision,
                "recall": recall,
                "f1": f1,
            }
        )
    return rows


def confusion(names: list[str], support: int, ruined: dict[str, tuple[str, float]], seed: int) -> np.ndarray:
    """A matrix (K, K + 1) of a decent classifier; *ruined* classes answer another one that often."""
    rng = np.random.default_rng(seed)
    classes = len(names)
    matrix = np.zeros((classes, classes + 1), int)
    for k, name in enumerate(names):
        wrong = rng.binomial(support, 0.09)
        likely = rng.dirichlet(np.full(classes + 1, 0.3))  # most mistakes are one of few
        likely[[k, classes]] = 0
        matrix[k] = rng.multinomial(wrong, likely / likely.sum())
        matrix[k, k] = support - wrong
        if name in ruined:
            other, share = ruined[name]
            moved = int(matrix[k, k] * share)
            matrix[k, k] -= moved
            matrix[k, names.index(other)] += moved
    return matrix


def averages(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found = {
        name: [row[name] for row in rows if row[name] is not None] for name in ("precision", "recall", "f1")
    }
    means = {name: float(np.mean(values)) if values else None for name, values in found.items()}
    return {"macro": means, "weighted": means}


def class_rows(
    names: list[str], before: list, after: list, figure: str, failed: list[str]
) -> list[dict[str, Any]]:
    rows = []
    for name, old, new in zip(names, before, after, strict=True):
        support = old["tp"] + old["fn"]
        drop = None if None in (old[figure], new[figure]) else old[figure] - new[figure]
        rows.append(
            {
                "name": name,
                "support": support,
                "before": old[figure],
                "after": new[figure],
                "drop": drop,
                "margin": 0.01,
                "floor": None,
                "key": False,
                "b": max(0, old["tp"] - new["tp"]) + 3,
                "c": 3,
                "p": 0.2,
                "p_adjusted": 1e-12 if name in failed else 1.0,
                "interval": None if drop is None else (drop - 0.012, drop + 0.018),
                "detectable": 0.027 if support >= 1000 else None,
                "blind": support < 50,
                "enough": None,
                "verdict": "skipped" if not support else "fail" if name in failed else "pass",
            }
        )
    return rows


def together(images: int, b: int, c: int, *, fails: bool) -> dict[str, Any]:
    """The pooled test."""
    return {
        "verdict": "fail" if fails else "pass",
        "images": images,
        "b": b,
        "c": c,
        "margin": 0.002,
        "p": 1e-12 if fails else 0.4,
        "alpha": 0.005,
        "detectable": 0.0031,
        "drop": (b - c) / images,
    }


def evaluated(
    model: str,
    engine: str,
    names: list[str],
    support: int,
    ruined: dict[str, tuple[str, float]],
    **extra: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An engine that ran, and its five items."""
    old = confusion(names, support, {}, 1)
    new = confusion(names, support, ruined, 1 if ruined else 2)
    before, after = shares(old), shares(new)
    images = support * len(names)
    failed = list(ruined)
    recall = class_rows(names, before, after, "recall", failed)
    precision = class_rows(names, before, after, "precision", [])
    changes = np.argsort(-np.abs(new - old), axis=None)[:50]
    places = [divmod(int(i), len(names) + 1) for i in changes]
    accuracy = {
        side: sum(row["tp"] for row in rows) / images for side, rows in (("before", before), ("after", after))
    }
    drift = {
        "name": "logits",
        "elements": images * len(names),
        "different": images,
        "nan": 0,
        "inf": 0,
        "first_bad": None,
        "max_abs": 1.25,
        "max_rel": None,
        "relative_l2": 0.031,
        "cosine": 0.999512,
        "psnr": 41.2,
    }
    agreement = {"top1": 0.913, "top_k": 0.871, "k": 5, "kl_mean": 0.0123, "kl_max": 3.4}
    lowered = {
        "made_by": "trtcheck",
        "digest": "sha256:" + "3" * 64,
        "source_digest": "sha256:" + "1" * 64,
        "calibration_digest": "sha256:" + "2" * 64,
        "calibration_images": 1000,
        "method": "entropy",
        "percentile": None,
        "rest": "fp16",
        "exclude": ["/head/Gemm"],
        "nodes": {"total": 61, "narrowed": 38, "quantized": 21, "wide": 2},
        "kept": [
            {"node": f"/features/{n}/Sigmoid", "op": "Sigmoid", "reason": "not quantized by TensorRT"}
            for n in range(70)
        ]
        + [{"node": "/head/Gemm", "op": "Gemm", "reason": "excluded"}],
        "clamped": [],
        "folded": 17,
        "notes": [],
    }
    facts = {"nodes": 148, "types": {"FLOAT": 12, "FLOAT16": 62, "quantized": 21}, "engine_bytes": 412_344}
    worst = sorted((row for row in recall if row["verdict"] == "fail"), key=lambda row: -row["drop"])
    message = "; ".join(
        f"recall of '{row['name']}' fell from {fraction(row['before'])} to {fraction(row['after'])} "
        f"(support {row['support']}: "
        f"{row['b']} newly wrong, {row['c']} newly right, p < 1e-9, limit 1.0 points)"
        for row in worst
    )
    lost = accuracy["before"] - accuracy["after"]
    common = {
        "model": model,
        "engine": engine,
        "numerics": "emulated",
        "notes": [EMULATED],
        "warnings": [],
    }
    churn = {"rate": 1 / 12, "low": 0.079, "high": 0.0899, "confidence": 0.99, "limit": None}
    pooled = together(images, 640 if failed else 90, 75, fails=bool(failed))
    rule = {"alpha": 0.01, "test": "paired"}
    shown = {
        "images": images,
        "margin": 0.01,
        "b": 640,
        "c": 75,
        "p": 1e-12 if failed else 0.4,
        "interval": (lost - 0.003, lost + 0.004),
        "detectable": 0.004,
        "enough": None,
        "floor": None,
        "target": None,
        **rule,
        **accuracy,
    }
    checks = [
        (
            "build",
            "pass",
            f"{engine} engine built now: 148 nodes",
            {"cached": False, "facts": facts, "lowered": lowered},
        ),
        (
            "outputs",
            "pass",
            "largest error 1.25 (output 'logits', relative L2 0.031, cosine 0.999512)",
            {
                "outputs": [drift],
                "agreement": agreement,
                "churn": churn,
                "problems": [],
                "limits": {"max_abs": None, "cosine": 0.99},
            },
        ),
        (
            "accuracy",
            "fail" if lost > 0.01 else "pass",
            "accuracy .912 -> .800",
            {**shown, "top_k": {"k": 5, "gated": False, "verdict": "pass", **shown}},
        ),
        (
            "recall",
            "fail" if failed else "pass",
            message or f"recall holds in {len(names)} classes",
            {
                **rule,
                "classes": recall,
                "pooled": pooled,
                "baseline": {
                    "verdict": "pass",
                    "paired": True,
                    **rule,
                    "classes": recall,
                    "pooled": pooled,
                },
            },
        ),
        (
            "precision",
            "pass",
            "precision holds",
            {**rule, "classes": precision, "pooled": together(images, 90, 75, fails=False)},
        ),
    ]
    items = [
        {
            "nodeid": f"examples/{model}/trtcheck.toml::{model}[{engine}]::{check}",
            **common,
            "check": check,
            "verdict": verdict,
            "fails": verdict == "fail",
            "message": text,
            **figures,
        }
        for check, verdict, text, figures in checks
    ]
    flips = [
        {
            "index": 97 * n,
            "truth": names[n % len(names)] if n % 9 else None,
            "before": names[n % len(names)],
            "after": None if n % 20 == 19 else names[(n + 1) % len(names)],
            "confidence_before": 0.99 - n / 200,
            "confidence_after": None if n % 20 == 19 else 0.7 - n / 200,
            "lost": 0.9 - n / 200,
        }
        for n in range(100)
    ]
    record = {
        "model": model,
        "engine": engine,
        "verdict": "fail" if failed else "pass",
        "numerics": "emulated",
        "checks": {check: verdict for check, verdict, _, _ in checks},
        "cached": False,
        "facts": facts,
        "lowered": lowered,
        "notes": [EMULATED],
        "baseline": {
            "status": "compared",
            "path": f"baselines/{model}/{engine}/onnxruntime-cpu-emulated.json",
            "message": None,
        },
        "precision": engine,
        "backend": "onnxruntime-cpu",
        "images": images,
        "labelled": images,
        "accuracy": accuracy,
        "top_k": {"k": 5, "before": 0.99, "after": 0.98},
        "averages": {"before": averages(before), "after": averages(after)},
        "classes": [
            {"name": name, "support": row["tp"] + row["fn"], "before": row, "after": late}
            for name, row, late in zip(names, before, after, strict=True)
        ],
        "confusion": {"before": old.tolist(), "after": new.tolist()} if len(names) <= 100 else None,
        "confusions": [
            {
                "truth": names[r],
                "answer": None if c == len(names) else names[c],
                "before": int(old[r, c]),
                "after": int(new[r, c]),
            }
            for r, c in places
            if r != c and new[r, c] != old[r, c]
        ],
        "outputs": [drift],
        "agreement": agreement,
        "flips": {
            "total": images // 12,
            "broken": images // 15,
            "fixed": images // 90,
            "churn": 1 / 12,
            "worst": flips[: images // 12],
        },
        "overflow": None,
        "problems": [],
        **extra,
    }
    return record, items


NOT_EVALUATED: dict[str, Any] = {
    "precision": None,
    "backend": None,
    "images": None,
    "labelled": None,
    "accuracy": None,
    "top_k": None,
    "averages": None,
    "classes": [],
    "confusion": None,
    "confusions": [],
    "outputs": [],
    "agreement": None,
    "flips": None,
    "overflow": None,
    "problems": [],
    "cached": None,
    "facts": None,
    "lowered": None,
    "notes": [],
    "baseline": None,
    "numerics": None,
}


def unbuilt(
    model: str, engine: str, verdict: str, message: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An engine of which there is nothing but a message."""
    checks = ("build", "outputs", "accuracy", "recall", "precision")
    record = {
        **NOT_EVALUATED,
        "model": model,
        "engine": engine,
        "verdict": verdict,
        "checks": dict.fromkeys(checks, verdict),
    }
    items = [
        {
            "nodeid": f"{model}/trtcheck.toml::{model}[{engine}]::{check}",
            "model": model,
            "engine": engine,
            "check": check,
            "verdict": verdict,
            "numerics": None,
            "message": message,
            "notes": [],
            "warnings": [],
            "fails": verdict == "error",
        }
        for check in checks
    ]
    return record, items


def model_entry(name: str, engines: list[str], verdict: str, classes: list[str]) -> dict[str, Any]:
    found = {"name": name, "engines": engines, "verdict": verdict, "classes": classes}
    if not classes:
        return {**found, "model": None, "data": None, "calibration": None, "gates": None}
    return {
        **found,
        "model": {
            "path": f"examples/{name}/model.onnx",
            "digest": "sha256:" + "1" * 64,
            "inputs": ["image: float32[?, 1, 28, 28]"],
            "outputs": ["logits: float32[?, 10]"],
        },
        "data": {
            "name": f"examples/{name}/eval.npz",
            "digest": "sha256:" + "4" * 64,
            "labels_digest": "sha256:" + "5" * 64,
            "images": 10_000,
        },
        "calibration": {
            "name": f"examples/{name}/calibration.npz",
            "digest": "sha256:" + "2" * 64,
            "images": 1000,
        },
        "gates": {
            "recall_drop": 0.01,
            "precision_drop": 0.01,
            "accuracy_drop": 0.01,
            "top_k_accuracy_drop": None,
            "alpha": 0.01,
            "cosine": 0.99,
            "classes": {classes[0]: {"recall_drop": 0.0, "precision_drop": None}},
        },
    }


def document(
    *engines: tuple[dict, list], models: list[dict] | None = None, items: list[dict] | None = None
) -> dict[str, Any]:
    every = [item for _, own in engines for item in own] + (items or [])
    order = list(view.STATUSES)
    by_model: dict[str, list[dict]] = {}
    for record, _ in engines:
        by_model.setdefault(record["model"], []).append(record)
    found = [
        model_entry(
            name,
            [r["engine"] for r in own],
            min((r["verdict"] for r in own), key=order.index),
            next((names for r in own if (names := [row["name"] for row in r["classes"]])), []),
        )
        for name, own in by_model.items()
    ]
    return {
        "schema_version": 1,
        "verdict": min((item["verdict"] for item in every), key=order.index, default="skipped"),
        "false_alarm": false_alarm.bound(every),
        "environment": {
            "backend": {
                "name": "onnxruntime-cpu",
                "version": "1.20.1",
                "device": "CPU, 2 threads",
                "reason": "no NVIDIA GPU was found on this machine",
            },
            "machine": "x86_64",
            "system": "Linux 6.1",
            "python": "3.11.7",
            "byteorder": "little",
            "packages": {
                "numpy": "2.1.0",
                "onnx": "1.17.0",
                "onnxruntime": "1.20.1",
                "pytest-trtcheck": "0.1.0",
            },
        },
        "run": {
            "started": "2026-01-31T12:00:00+00:00",
            "seconds": 42.5,
            "version": "0.1.0",
            "workers": 2,
            "exitstatus": 1,
            "command": "examples --trt-engine=fp32,fp16,int8",
        },
        "models": found + (models or []),
        "engines": [record for record, _ in engines],
        "items": every,
    }


OVERFLOW = "ReduceSum_12 reaches 1.9e5, FP16 ends at 65504: keep it in FP32"
BUILD_ERROR = (
    'int8 needs calibration data\n  expected: calibration = "calibration.npz"\n  found:    nothing\n'
    "  try:      add calibration to [models.birds] in birds/trtcheck.toml"
)


def skipped_model(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    item = {
        "nodeid": f"{name}/trtcheck.toml::{name}",
        "model": name,
        "engine": None,
        "check": "build",
        "verdict": "skipped",
        "numerics": None,
        "notes": [],
        "warnings": [],
        "fails": False,
        "message": "no engine was asked for: pytest --trt-engine=fp16,int8",
    }
    return model_entry(name, [], "skipped", []), item


@pytest.fixture(scope="module")
def thousand() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    names = [f"n{k:08d} some kind of bird" for k in range(1000)]
    return evaluated("imagenet", "fp16", names, 50, {names[77]: (names[78], 0.9)})


@pytest.fixture(scope="module")
def whole(thousand: tuple[dict, list]) -> dict[str, Any]:
    """Everything that a report can hold: passes, ruined classes, errors, doubts, many classes, skips."""
    ruined = {"Shirt": ("T-shirt", 0.78), "Coat": ("Pullover", 0.31), "Dress": ("Coat", 0.05)}
    int8 = evaluated("fashion", "int8", FASHION, 1000, ruined)
    fp16 = evaluated("fashion", "fp16", FASHION, 1000, {})
    tiny, tiny_items = evaluated("tiny", "fp16", ["cat", "dog"], 8, {}, overflow=OVERFLOW)
    tiny["verdict"] = "inconclusive"
    for item in tiny_items[2:]:
        item["verdict"] = "inconclusive"
        item["message"] = (
            "too few images to tell for 'cat', 'dog' (observed drops: 'cat' 12.5 points of 8 images)"
        )
    model, item = skipped_model("untested")
    return document(
        fp16,
        int8,
        unbuilt("birds", "int8", "error", BUILD_ERROR),
        (tiny, tiny_items),
        thousand,
        models=[model],
        items=[item],
    )


@pytest.fixture(scope="module")
def rendered(whole: dict[str, Any]) -> dict[str, str]:
    """The text of every file of the whole report."""
    return html.render(whole)


class Page(HTMLParser):
    """A page taken apart; a tag that is not closed where it should be is an error."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input", "col", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th"):
            self.end_cells("td", "th")
        elif tag == "tr":
            self.end_cells("td", "th", "tr")
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value))
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def end_cells(self, *tags: str) -> None:
        """Ends what HTML lets end by itself where the next cell or row begins, or the table ends."""
        while self.open and self.open[-1] in tags:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in ("tbody", "table"):
            self.end_cells("td", "th", "tr")
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def table_of(page: Any, anchor: str) -> Any:
    """The table of an engine's page with that id."""
    tables = (*page.classes, *page.accuracy, *page.compared)
    return next(table for table in tables if table.anchor == anchor)


def cells_of(table: Any, name: str) -> dict[str, Any]:
    """The cells of a row by the names of their columns."""
    row = next(row for row in (*table.rows, *table.folded) if row.name == name)
    return dict(zip((column.name for column in table.columns), row.cells, strict=True))


def pages_of(document: dict[str, Any]) -> dict[str, Page]:
    return {name: Page(text) for name, text in html.render(document).items() if name.endswith(".html")}


def assert_sound(document: dict[str, Any], folder: Path) -> dict[str, Page]:
    """Checks what holds for every report; returns its pages."""
    written = html.write(document, folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in written}
    names = {path.name for path in written}
    many = {engine["model"] for engine in document["engines"] if len(engine["classes"]) > 200}
    assert len(names) == len(document["engines"]) + len(many) + 2
    pages = {}
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"url\(|@import|https?:|data:", text.lower()) or path.suffix == ".html"
        if path.suffix != ".html":
            continue
        assert re.fullmatch(r"[a-z0-9-]+\.html", path.name)
        page = pages[path.name] = Page(text)
        assert "script" not in page.tags
        assert "style" not in page.tags
        assert page.tags.count("h1") == 1
        assert page.tags.count("caption") == page.tags.count("table")
        assert len(set(page.ids)) == len(page.ids)
        for tag, name, value in page.attributes:
            assert name != "style"
            assert not name.startswith("on")
            if name in ("href", "src"):
                assert re.fullmatch(r"([a-z0-9-]+\.(html|css|json))?(#[a-z0-9-]+)?", value or ""), (
                    tag,
                    value,
                )
        assert [value for tag, name, value in page.attributes if tag == "html" and name == "lang"] == ["en"]
        scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
        assert len(scopes) == page.tags.count("th")
        heads = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
        assert all(b - a <= 1 for a, b in pairwise(heads)), heads
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if target in ("style.css", "report.json"):
                continue
            assert (target or name) in pages, link
            assert not anchor or anchor in pages[target or name].ids, link
    return pages


def test_a_whole_report_is_sound_and_every_link_leads_somewhere(whole, tmp_path) -> None:
    pages = assert_sound(whole, tmp_path)
    assert set(pages) == {
        "index.html",
        "fashion--fp16.html",
        "fashion--int8.html",
        "birds--int8.html",
        "tiny--fp16.html",
        "imagenet---classes.html",
        "imagenet--fp16.html",
    }


def test_the_headline_names_the_worst_finding_and_counts_the_others(whole) -> None:
    without_error = {
        **whole,
        "engines": [e for e in whole["engines"] if e["model"] == "fashion"],
        "items": [i for i in whole["items"] if i["model"] == "fashion"],
    }
    said = view.headline(without_error)
    assert said.startswith("INT8 fails: recall of 'Shirt' fell from ")
    assert said.endswith("(support 1000, p < 1e-9), and 2 more classes; FP16 passes")
    assert view.headline(whole).startswith(
        "INT8 of birds cannot be judged: int8 needs calibration data; 2 engines fail;"
    )


def test_a_pass_says_what_was_checked() -> None:
    engines = [evaluated("fashion", name, FASHION, 100, {}) for name in ("fp16", "fp32")]
    model, item = skipped_model("other")
    found = document(*engines, models=[model], items=[item])
    assert view.headline(found) == "Everything passes: fashion, 2 engines, 10 checks; other was skipped"


def test_a_run_without_checks_is_never_called_a_pass(tmp_path) -> None:
    empty = document()
    assert view.headline(empty) == "Nothing was tested: the run held no checks"
    pages = assert_sound(empty, tmp_path / "empty")
    assert "No engine was tested." in pages["index.html"].text
    model, item = skipped_model("fashion")
    pages = assert_sound(document(models=[model], items=[item]), tmp_path / "skipped")
    assert "no engine was asked for: pytest --trt-engine=fp16,int8" in pages["index.html"].text
    assert "pass" not in pages["index.html"].text


def test_an_inconclusive_run_says_so() -> None:
    engine, items = evaluated("tiny", "fp16", ["cat", "dog"], 8, {})
    items[3].update(verdict="inconclusive", message="too few images to tell for 'cat', 'dog'")
    engine["verdict"] = "inconclusive"
    said = view.headline(document((engine, items)))
    assert said == "FP16 is inconclusive: too few images to tell for 'cat', 'dog'"


def test_everything_is_ordered_worst_first(whole) -> None:
    index = view.index(whole)
    assert [model.name for model in index.models] == ["birds", "fashion", "imagenet", "tiny", "untested"]
    fashion = index.models[1]
    assert [row.engine for row in fashion.rows] == ["INT8", "FP16"]
    assert [finding.status.word for finding in index.problems] == ["error"] + ["fail"] * 3
    assert index.problems[0].checks == ("build", "outputs", "accuracy", "recall", "precision")
    assert [row.rows[0].dropped for row in (fashion, index.models[2])] == [
        "Shirt",
        "n00000077 some kind of bird",
    ]
    page = next(page for page in view.engines(whole) if page.page == "fashion--int8.html")
    recall = table_of(page, "recall-classes")
    assert [row.name for row in recall.rows[:3]] == ["Shirt", "Coat", "Dress"]
    assert [finding.checks for finding in page.findings[:2]] == [("recall",), ("accuracy",)]


def test_numbers_are_printed_as_people_read_them(whole) -> None:
    page = next(page for page in view.engines(whole) if page.page == "fashion--int8.html")
    shirt = cells_of(table_of(page, "recall-classes"), "Shirt")
    assert re.fullmatch(r"\.\d{3}", shirt["before"])
    assert re.fullmatch(r"\.\d{3}", shirt["after"])
    lost = 100 * (float(shirt["before"]) - float(shirt["after"]))
    assert float(shirt["drop"]) == pytest.approx(lost, abs=0.11)
    ends = re.fullmatch(r"(\S+) to (\S+)", shirt["drop's interval"])
    assert ends is not None
    assert [float(end) for end in ends.groups()] == pytest.approx([lost - 1.2, lost + 1.8], abs=0.11)
    assert (shirt["limit"], shirt["p, Tarone-Holm"], shirt["detectable"]) == ("1.0", "< 1e-9", "2.7")
    assert page.outputs is not None
    assert page.outputs.rows[0].cells[6] is None  # max_rel was infinite
    assert page.flips[0].text == "833 of 10\N{NARROW NO-BREAK SPACE}000 images"


def test_an_undefined_figure_is_a_dash_that_is_also_spoken(rendered) -> None:
    text = rendered["fashion--int8.html"]
    assert '<td><span aria-hidden="true">\N{EN DASH}</span><span class="spoken">undefined</span>' in text


def test_a_status_is_told_by_word_and_shape(rendered) -> None:
    text = rendered["index.html"]
    for shape, word in (
        ("✗", "fail"),
        ("!", "error"),
        ("✓", "pass"),
        ("?", "inconclusive"),
        ("\N{EN DASH}", "skipped"),
    ):
        assert f'<span class="status {word}"><span aria-hidden="true">{shape}</span> {word}</span>' in text


def test_emulated_numerics_stand_in_the_table_and_on_the_page(rendered) -> None:
    for name in ("index.html", "fashion--int8.html"):
        assert '<span class="pill emulated">emulated</span>' in rendered[name]
    assert Page(rendered["fashion--int8.html"]).text.count(EMULATED) == 1


def test_the_overflow_is_told_before_the_verdicts(rendered) -> None:
    text = rendered["tiny--fp16.html"]
    assert 0 < text.index(OVERFLOW) < text.index('id="verdicts"')


def test_a_message_of_several_lines_keeps_them(rendered) -> None:
    text = Page(rendered["birds--int8.html"]).text
    assert BUILD_ERROR in text
    assert "birds/trtcheck.toml::birds[int8]::build" in text


def test_a_thousand_classes_are_folded_after_fifty_and_listed_instead_of_drawn(whole, rendered) -> None:
    page = next(page for page in view.engines(whole) if page.model == "imagenet")
    assert [len(table.rows) for table in page.classes] == [1, 50, 1, 50]
    assert [len(table.folded) for table in page.classes] == [0, 0, 0, 0]
    assert page.classes[1].caption.endswith("; 50 of 1000 classes, 1 fail")
    assert [len(order.rows) for order in page.listed.orders] == [50] * 6
    [listed] = view.class_pages(whole)
    assert (listed.page, len(listed.rows)) == ("imagenet---classes.html", 1000)
    assert [(len(table.rows), len(table.folded)) for table in page.compared] == [(1, 0), (50, 0)]
    assert page.matrices == ()
    assert page.confusions[0].rows[0].cells[0] == "n00000078 some kind of bird"
    text = rendered["imagenet--fp16.html"]
    assert '<a href="imagenet---classes.html">all 1000, engines side by side</a>' in text
    assert len(text) < 150_000


def test_a_message_of_a_thousand_clauses_leaves_the_index_small() -> None:
    names = [f"class {k}" for k in range(1000)]
    ruined = {name: (names[k - 1], 0.5) for k, name in enumerate(names)}
    rendered = html.render(document(evaluated("imagenet", "int8", names, 50, ruined)))
    assert "and 988 more findings on the page of the engine" in rendered["index.html"]
    assert len(rendered["index.html"]) < 20_000
    assert "recall of 'class 999' fell" in Page(rendered["imagenet--int8.html"]).text


@pytest.mark.parametrize(
    ("count", "total", "right", "level"),
    [
        (0, 10, True, 0),
        (0, 0, False, 0),
        (1, 1000, True, 1),
        (1000, 1000, True, 9),
        (500, 1000, True, 4),
        (1, 1000, False, 1),
        (10, 1000, False, 1),
        (250, 1000, False, 5),
        (1000, 1000, False, 9),
    ],
)
def test_heat_levels(count: int, total: int, right: bool, level: int) -> None:
    assert view.heat_level(count, total, right=right) == level


def test_confusion_matrices_show_counts_and_heat(rendered) -> None:
    text = rendered["fashion--int8.html"]
    levels = set(re.findall(r"heat-\d+", text))
    assert levels <= {f"heat-{n}" for n in range(10)}
    assert {"heat-0", "heat-1", "heat-8"} <= levels
    style = rendered["style.css"]
    assert all(f".{level} " in style for level in levels)
    assert text.count('<table class="matrix">') == 3
    assert "no answer</span></th>" not in text  # nothing was left unanswered


def test_missing_answers_get_a_column() -> None:
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    engine["confusion"]["after"][3][-1] = 12
    page = view.engines(document((engine, items)))[0]
    assert page.matrices[1].answers[-1] == "no answer"
    assert page.matrices[1].rows[3][1][-1].text == "12"


def test_twenty_one_classes_are_listed() -> None:
    names = [chr(ord("a") + k) for k in range(21)]
    assert view.engines(document(evaluated("letters", "fp16", names, 20, {})))[0].matrices == ()
    assert len(view.engines(document(evaluated("letters", "fp16", names[:20], 20, {})))[0].matrices) == 3


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_stay_names(hostile: str, tmp_path) -> None:
    names = [hostile, "b", "c"]
    engines = [evaluated(hostile, engine, names, 40, {hostile: ("b", 0.9)}) for engine in (hostile, "int8")]
    folder = tmp_path / "report"
    pages = assert_sound(document(*engines), folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert all(visible(hostile) in page.text for page in pages.values())


def test_page_names_are_unique_whatever_the_names() -> None:
    pairs = [
        ("a-b", "c"),
        ("a", "b-c"),
        ("A", "b-c"),
        ("a b", "c"),
        ("a_b", "c"),
        ("a.b", "c"),
        ("é", "c"),
        ("è", "c"),
        ("index", ""),
        ("", ""),
        ("a--b", "c"),
        ("x" * 300, "c"),
        ("x" * 301, "c"),
        ("con", "nul"),
    ]
    found = {"engines": [{"model": model, "engine": engine} for model, engine in pairs]}
    names = view.page_names(found)
    assert len(set(names.values())) == len(pairs)
    assert all(re.fullmatch(r"[a-z0-9-]{1,140}\.html", name) for name in names.values())
    assert names["a-b", "c"] == "a-b--c.html"
    digested = names["a b", "c"].removesuffix("--c.html")
    collided = view.page_names({"engines": [{"model": m, "engine": "c"} for m in ("a b", digested)]})
    assert len(set(collided.values())) == 2


def test_a_name_that_is_no_text_does_not_break_the_report(tmp_path) -> None:
    broken = "caf\udce9"
    pages = assert_sound(document(evaluated(broken, "fp16", ["a", "b"], 20, {})), tmp_path)
    assert "caf\\udce9" in pages["index.html"].text


def test_partial_engines_have_pages(tmp_path) -> None:
    alone, items = evaluated("fashion", "fp16", FASHION, 100, {})
    only_recall = [item for item in items if item["check"] == "recall"]
    bare = {**NOT_EVALUATED, "model": "bare", "engine": "fp16", "verdict": "skipped", "checks": {}}
    unlabelled = {
        **copy.deepcopy(alone),
        "model": "unlabelled",
        "verdict": "pass",
        "classes": [],
        "confusion": None,
        "confusions": [],
        "accuracy": None,
        "averages": None,
        "top_k": None,
        "flips": None,
    }
    not_judged = {**copy.deepcopy(alone), "model": "not-judged", "verdict": "skipped", "checks": {}}
    found = document(
        (alone, only_recall),
        (bare, []),
        (unlabelled, []),
        (not_judged, []),
        unbuilt("broken", "int8", "error", "boom"),
        unbuilt("later", "int8", "skipped", "no such backend"),
    )
    pages = assert_sound(found, tmp_path)
    assert "No check ran." in pages["bare--fp16.html"].text
    assert "not judged in this run" in pages["not-judged--fp16.html"].text
    assert pages["index.html"].text.count("no such backend") == 1
    assert "not run" in pages["index.html"].text


def test_a_class_without_images_is_shown_as_such(tmp_path) -> None:
    engine, items = evaluated("fashion", "fp16", ["a", "b"], 50, {})
    rows = items[3]["classes"]
    rows[0].update(
        support=0,
        before=None,
        after=None,
        drop=None,
        p=1.0,
        interval=None,
        detectable=None,
        verdict="skipped",
    )
    engine["classes"][0]["before"]["recall"] = engine["classes"][0]["after"]["recall"] = None
    assert_sound(document((engine, items)), tmp_path)
    table = table_of(view.engines(document((engine, items)))[0], "recall-classes")
    assert [row.name for row in table.rows] == ["b", "a"]
    empty = cells_of(table, "a")
    assert (empty["verdict"], empty["support"]) == (view.STATUSES["skipped"], "0")
    assert [empty[name] for name in ("before", "after", "drop", "drop's interval")] == [None] * 4


def test_two_tests_of_one_check_keep_their_own_verdicts(tmp_path) -> None:
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    strict = {
        **items[3],
        "nodeid": "test_mine.py::test_strict",
        "verdict": "fail",
        "message": "recall of 'Bag' fell",
    }
    found = document((engine, [*items, strict]))
    pages = assert_sound(found, tmp_path)
    assert {"check-recall", "check-recall-2", "recall-classes", "recall-classes-2"} <= set(
        pages["fashion--fp16.html"].ids
    )
    index = view.index(found)
    row = index.models[0].rows[0]
    cell = row.cells[index.checks.index("recall")]
    assert cell is not None
    assert cell.status.word == "fail"


def test_only_own_stale_pages_are_removed(whole, tmp_path) -> None:
    html.write(whole, tmp_path)
    foreign = {
        "notes.html": "<!doctype html><title>mine</title>",
        "about-trtcheck.html": '<p>&lt;meta name="generator" content="pytest-trtcheck"&gt;',
        "report.json": "{}",
        "Upper--Case.html": (tmp_path / "index.html").read_text(encoding="utf-8"),
    }
    for name, text in foreign.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    below = tmp_path / "old" / "a--b.html"
    below.parent.mkdir()
    shutil.copy(tmp_path / "index.html", below)
    target = tmp_path.parent / f"{tmp_path.name}-elsewhere.html"
    shutil.copy(tmp_path / "index.html", target)
    (tmp_path / "a--link.html").symlink_to(target)
    html.write(document(evaluated("fashion", "fp16", FASHION, 10, {})), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*foreign, "old", "a--link.html", "index.html", "style.css", "fashion--fp16.html"]
    )
    assert below.exists()
    assert target.exists()


@pytest.mark.parametrize("name", ["index.html", "style.css"])
def test_a_foreign_file_is_not_overwritten(name: str, tmp_path) -> None:
    (tmp_path / name).write_text("<!doctype html><title>mine</title>", encoding="utf-8")
    with pytest.raises(ReportError, match="was not written by trtcheck"):
        html.write(document(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ReportError, match="the report cannot be written"):
        html.write(document(), tmp_path / "file" / "reports")


def test_writing_twice_gives_the_same_bytes(whole, tmp_path) -> None:
    first = {path.name: path.read_bytes() for path in html.write(whole, tmp_path)}
    again = json.loads(json.dumps(whole))
    assert {path.name: path.read_bytes() for path in html.write(again, tmp_path)} == first


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""

    def luminance(color: str) -> float:
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_stands_out_from_its_ground_in_light_and_dark() -> None:
    style = html.render(document())["style.css"]
    roots = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(roots) == 2
    for root in roots:
        color = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", root))
        words = ("pass", "fail", "error", "inconclusive", "skipped")
        pairs = [("text", "page"), ("muted", "page"), ("muted", "panel"), ("link", "page")]
        pairs += [(word, ground) for word in words for ground in ("page", f"{word}-tint")]
        pairs += [(text, f"{word}-tint") for word in words for text in ("text", "muted", "link")]
        for kind in ("hit", "miss"):
            pairs += [("on-pale", f"{kind}-{n}") for n in range(1, 7)] + [
                ("on-deep", f"{kind}-{n}") for n in range(7, 10)
            ]
        weak = {pair: round(contrast(color[pair[0]], color[pair[1]]), 2) for pair in pairs}
        assert not {pair: ratio for pair, ratio in weak.items() if ratio < 4.5}
