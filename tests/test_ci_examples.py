"""The examples in docs/ci: valid for their servers as far as schemas tell, and their commands do run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from trtcheck import cli

FOLDER = Path(__file__).parents[1] / "docs" / "ci"
FILES = ("github-actions.yml", "gitlab-ci.yml", "Jenkinsfile")


def commands(name: str) -> list[str]:
    """The shell lines of an example, with the values of its matrix filled in."""
    source = (FOLDER / name).read_text(encoding="utf-8")
    if name == "Jenkinsfile":
        scripts = re.findall(r"\bsh '([^'\n]*)'", source)
    else:
        scripts = list(texts(YAML(typ="safe").load(source), ("run", "script")))
    lines = [line.strip() for script in scripts for line in script.splitlines()]
    return [re.sub(r"\$\{\{ matrix\.precision \}\}|\$PRECISION", "fp16", line) for line in lines]


def texts(found: Any, keys: tuple[str, ...], wanted: bool = False) -> Iterator[str]:
    """The strings under *keys*, at any depth."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from texts(value, keys, wanted or key in keys)
    elif isinstance(found, list):
        for value in found:
            yield from texts(value, keys, wanted)
    elif wanted and isinstance(found, str):
        yield found


def of_program(name: str, program: str) -> list[list[str]]:
    """The arguments of every call of *program* in an example."""
    words = [shlex.split(line) for line in commands(name)]
    return [line[1:] for line in words if line and Path(line[0]).name == program]


@pytest.mark.parametrize(("name", "schema"), [
    ("github-actions.yml", "vendor.github-workflows"), ("gitlab-ci.yml", "vendor.gitlab-ci"),
])  # fmt: skip
def test_an_example_is_what_its_server_reads(name, schema, tmp_path):
    def check(path: Path) -> int:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode

    assert check(FOLDER / name) == 0
    broken = tmp_path / name
    broken.write_text("jobs: 3\nstages: 3\n", encoding="utf-8")
    assert check(broken) != 0, "this schema would take anything"


def test_the_blocks_of_the_jenkinsfile_are_closed():
    source = (FOLDER / "Jenkinsfile").read_text(encoding="utf-8")
    bare = re.sub(r"'[^'\n]*'|//[^\n]*", "", source)
    assert "'" not in bare
    depth: list[str] = []
    for sign in re.findall(r"[][(){}]", bare):
        if sign in "([{":
            depth.append(sign)
        else:
            assert depth.pop() + sign in ("()", "[]", "{}")
    assert depth == []
    assert bare.split()[:2] == ["pipeline", "{"]


@pytest.mark.parametrize("name", FILES)
def test_only_options_that_there_are_are_used(name, pytester):
    known = {"--junitxml", *re.findall(r"--[a-z][a-z-]+", pytester.runpytest("--help").stdout.str())}
    used = {
        word.partition("=")[0]
        for line in of_program(name, "pytest")
        for word in line
        if word.startswith("--")
    }
    assert "--trt-update-baselines" in used
    assert used <= known


@pytest.mark.parametrize("name", FILES)
def test_the_commands_run_and_leave_what_the_next_ones_read(name, suite, monkeypatch):
    (suite.path / "tests" / "engines").mkdir(parents=True)
    for file in ("trtcheck.toml", "model.onnx", "eval.npz", "calibration.npz"):
        (suite.path / file).rename(suite.path / "tests" / "engines" / file)
    runs = of_program(name, "pytest")
    assert len(runs) == 3
    for arguments in runs:
        # There is no GPU here; everything else is as in the example.
        here = [word for word in arguments if word != "--trt-backend=tensorrt"]
        assert here[0] == "$SUITE"
        assert suite.run("tests/engines", *here[1:]).ret == 0
        folder = next((w.partition("=")[2] for w in here if w.startswith("--trt-report=")), "reports")
        assert (suite.path / folder / "index.html").exists()
    assert list((suite.path / "baselines").rglob("*.json")), "the last one approves"
    (suite.path / "reports" / "report.json").rename(suite.path / "approve.json")
    [merge] = of_program(name, "pytest-trtcheck")
    monkeypatch.chdir(suite.path)
    folders = sorted(path.name for path in suite.path.glob(merge[1]))
    assert len(folders) == 2
    assert cli.main([merge[0], *folders, *merge[2:]]) == 0
    assert (suite.path / "reports" / "index.html").exists()


def test_the_readme_names_every_example_and_its_links_lead_somewhere():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([^)#]+)[^)]*\)", text))
    assert set(FILES) <= links
    assert [link for link in links if not (FOLDER / link).exists()] == []
