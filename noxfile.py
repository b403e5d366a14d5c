"""Sessions: demo, engines, tests, lint, types and what needs more than a CPU. ``nox -l`` lists them."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "demo"]
nox.options.reuse_existing_virtualenvs = True

DEMO = "examples/fashion_mnist"


@nox.session
def demo(session: nox.Session) -> None:
    """The demo suite at all its precisions, with its report, on the CPU alone."""
    session.install(".[cpu]")
    session.run("pytest", DEMO, "--trt-engine=fp32,fp16,int8", *session.posargs)


@nox.session
@nox.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8"])
def engines(session: nox.Session, precision: str) -> None:
    """The demo suite at one precision: ``nox -s "engines(precision='int8')"``."""
    session.install(".[cpu]")
    report = f"--trt-report=reports/{precision}"
    session.run("pytest", DEMO, f"--trt-engine={precision}", report, *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The test suite with coverage; interpreters that are not installed are skipped."""
    session.install("-e", ".[dev]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report", "--fail-under=90")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's checks and format."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, on the package."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def tensorrt_builds(session: nox.Session) -> None:
    """Whether TensorRT for RTX takes the demo at every precision; needs no GPU."""
    session.install(".[cpu,tensorrt-rtx]")
    session.run("pytest", DEMO, "--trt-engine=fp32,tf32,fp16,bf16,int8", "--trt-build-only", *session.posargs)


@nox.session
@nox.parametrize(
    ("package", "module"),
    [
        ("tensorrt-lean-cu13==10.16.*", "tensorrt_lean"),
        ("tensorrt-lean-cu13==11.4.*", "tensorrt_lean"),
        ("tensorrt-rtx-cu13", "tensorrt_rtx"),
    ],
    ids=["10.16", "11.4", "rtx"],
)
def signatures(session: nox.Session, package: str, module: str) -> None:
    """Whether the real bindings have what trtcheck calls while an engine runs."""
    session.install(package, "numpy")
    session.run("python", "tests/signatures/check.py", module)


@nox.session
def modelopt(session: nox.Session) -> None:
    """The tests with NVIDIA's ModelOpt, which brings PyTorch along and its own onnxruntime."""
    session.install("-e", ".[modelopt,tensorrt-rtx]")
    session.run("pytest", "tests/modelopt/check_modelopt.py", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """What only a machine with an NVIDIA GPU can test, and the doctor's self-test."""
    session.install(".[gpu,tensorrt-rtx]", "hypothesis")
    session.run("pytest", *sorted(map(str, Path("tests/gpu").glob("gpu_*.py"))), *session.posargs)
    session.run("pytest-trtcheck", "doctor")
