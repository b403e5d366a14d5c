"""Everything that the doctor finds, gathered into one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtcheck.doctor import machine, packages, trial
from trtcheck.doctor.findings import Finding

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Diagnosis:
    """What is here, what is at odds, and how the self-test went.

    Attributes:
        machine: See `machine.describe`.
        cache: See `machine.describe_cache`.
        packages: Versions by distribution, by label.
        conflicts: What is at odds, in sentences.
        findings: Verdicts of the self-test; None where it was left out.
    """

    machine: dict[str, Any]
    cache: dict[str, Any]
    packages: dict[str, dict[str, str]]
    conflicts: tuple[str, ...]
    findings: tuple[Finding, ...] | None

    @property
    def problems(self) -> list[str]:
        """Everything that makes the exit status non-zero, in sentences."""
        faults = (self.machine["onnxruntime"]["fault"], self.cache["fault"])
        bad = [finding for finding in self.findings or () if finding.bad]
        return [
            *self.conflicts,
            *(fault for fault in faults if fault),
            *(" ".join(filter(None, (f.backend, f.precision, f.verdict))) for f in bad),
        ]

    def document(self) -> dict[str, Any]:
        """The diagnosis, JSON-ready."""
        findings = self.findings
        whole: dict[str, Any] = _tidy(
            {
                "schema_version": SCHEMA_VERSION,
                "machine": self.machine,
                "cache": self.cache,
                "packages": self.packages,
                "conflicts": list(self.conflicts),
                "self_test": None if findings is None else [asdict(finding) for finding in findings],
                "problems": self.problems,
            }
        )
        return whole


def diagnose(names: Sequence[str], *, cache: str | None, said: Callable[[str], None]) -> Diagnosis:
    """Looks around, and puts the backends *names* to the self-test.

    Args:
        names: Backends to test; none leaves the self-test out.
        cache: The cache folder to look at; None for the user's.
        said: Told of every backend that is about to be tested.
    """
    distributions = packages.installed()
    return Diagnosis(
        machine=machine.describe(),
        cache=machine.describe_cache(cache),
        packages=packages.listed(distributions),
        conflicts=tuple(packages.conflicts(distributions)),
        findings=trial.examine(names, said) if names else None,
    )


def _tidy(value: Any) -> Any:
    """*value* with the home folder, and so the user's name, written as ``~``."""
    if isinstance(value, str):
        try:
            home = str(Path.home())
        except RuntimeError:  # there is none
            return value
        return value if home in ("/", "") else value.replace(home, "~")
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items()}
    return [_tidy(inner) for inner in value] if isinstance(value, list) else value
