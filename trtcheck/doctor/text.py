"""The doctor's document as plain text that can be pasted into an issue."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from trtcheck.doctor.findings import Finding

WIDTH = 100
_LABEL = 20
_LONGEST = 300
"""Characters of a reason that are shown; the JSON has the rest."""
FENCE = "```"
"""First and last line: an issue tracker shows what is between them as it is."""


def render(document: Mapping[str, Any]) -> str:
    """The text of `Diagnosis.document`, fenced, of at most 100 columns where words allow it."""
    lines = [f"{FENCE}text", *_machine(document), "", *_packages(document["packages"])]
    if document["self_test"] is not None:
        lines += ["", *_self_test([Finding.from_record(record) for record in document["self_test"]])]
    return "\n".join([*lines, "", *_problems(document["problems"]), FENCE, ""])


def _row(label: str, text: str, *, indent: int = 0, width: int = _LABEL) -> Iterator[str]:
    start = f"{' ' * indent}{label:<{width}} "
    wrapped = textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    yield from wrapped or [start.rstrip()]


def _machine(document: Mapping[str, Any]) -> Iterator[str]:
    machine, cache = document["machine"], document["cache"]
    yield from _row("Python", machine["python"])
    yield from _row("platform", machine["platform"])
    yield from _row("processor", machine["processor"])
    if machine["no_gpu"] is not None:
        yield from _row("GPU", f"none: {machine['no_gpu']}")
    for number, gpu in enumerate(machine["gpus"]):
        capability = f"compute capability {gpu['compute_capability']}"
        yield from _row(f"GPU {number}", f"{gpu['name']}, {capability}, {gpu['memory_gib']} GiB")
    driver = machine["driver"] or ("version unknown" if machine["cuda"] else "none")
    supports = f", supports CUDA {machine['cuda']} and older" if machine["cuda"] else ""
    yield from _row("NVIDIA driver", driver + supports)
    runtime = machine["onnxruntime"]
    yield from _row("ONNX Runtime can use", runtime["fault"] or ", ".join(runtime["providers"]) or "nothing")
    size = f"{cache['bytes'] / 1e6:.1f} MB"
    yield from _row("cache", cache["fault"] or f"{cache['folder']}, writable, {size}")


def _packages(packages: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for label, versions in packages.items():
        if versions:
            yield from _row(label, ", ".join(f"{name} {version}" for name, version in versions.items()))
    absent = [label for label, versions in packages.items() if not versions]
    yield from _row("not installed", ", ".join(absent) or "-")


def _self_test(findings: Sequence[Finding]) -> Iterator[str]:
    yield "self-test: a convolutional net, built and where possible run at every precision, against numpy"
    for backend, group in groupby(findings, key=lambda finding: finding.backend):
        yield from _backend(backend, list(group))


def _backend(name: str, findings: Sequence[Finding]) -> Iterator[str]:
    whole = [finding for finding in findings if finding.precision is None]
    if whole:
        yield from _row(name, _cut(whole[0].verdict), indent=2, width=_LABEL - 2)
        return
    opened = next((finding for finding in findings if finding.library), None)
    yield from _row(
        name, f"{opened.library} on {opened.device}" if opened else "", indent=2, width=_LABEL - 2
    )
    for finding in findings:
        figures = ""
        if finding.error is not None and not finding.bad:
            figures = f"; largest error {finding.error:.1e}, allowed {finding.allowed:.1e}"
        yield from _row(str(finding.precision), _cut(finding.verdict) + figures, indent=4, width=_LABEL - 4)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} …"


def _problems(problems: Sequence[str]) -> Iterator[str]:
    if not problems:
        yield "no problems found"
        return
    yield "1 problem found:" if len(problems) == 1 else f"{len(problems)} problems found:"
    for problem in problems:
        yield from _row("  -", _cut(problem), width=3)
