"""The docs name every option and key that the code has, and the README's commands are what CI runs."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from trtcheck.case import BuildSpec, Check, Gates, InputSpec, LatencySpec, LoweringSpec, Precision

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def fenced_lines(text: str) -> list[str]:
    """The lines inside fences, in order."""
    return [
        line
        for block in re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)
        for line in block.splitlines()
    ]


def test_the_toml_reference_names_every_key() -> None:
    text = (ROOT / "docs" / "toml.md").read_text(encoding="utf-8")
    specs = (InputSpec, Gates, LoweringSpec, BuildSpec, LatencySpec)
    keys = {field.name for kind in specs for field in fields(kind)} - {"maker", "shapes"}
    keys |= {"quantizer", "converter", "profile", "engine"}
    keys |= {"onnx", "data", "calibration", "classes", "batch", "engines", "output", "top_k", "checks"}
    keys |= {"lowered"}
    keys |= {str(value) for kind in (Check, Precision) for value in kind}
    assert {key for key in keys if not re.search(rf"\b{key}\b", text)} == set()


def test_the_options_page_names_every_option(pytester: pytest.Pytester) -> None:
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    printed = pytester.runpytest("--help").stdout.str()
    options = set(re.findall(r"--trt-[a-z-]+", printed))
    keys = set(re.findall(r"\btrt_[a-z_]+\b", printed))
    assert "--trt-engine" in options
    assert "trt_engine" in keys
    assert {name for name in options | keys if f"`{name}" not in text} == set()


def test_the_readme_opens_with_the_demo_command_and_ci_runs_the_second_one() -> None:
    demo, tests = fenced_lines(README.read_text(encoding="utf-8"))[:2]
    assert "pytest examples/fashion_mnist --trt-engine=fp32,fp16,int8" in demo
    assert '".[cpu]"' in demo
    assert '".[dev]"' in tests
    awk = re.search(r"awk '(.*)' README", (ROOT / ".ci" / "run").read_text())
    assert awk is not None
    found = subprocess.run(["awk", awk[1], str(README)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == tests


def test_links_between_documents_resolve() -> None:
    links = [
        (page, target)
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert [str(target) for page, target in links if not (page.parent / target).exists()] == []
