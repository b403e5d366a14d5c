"""The fingerprint of machine and libraries that a figure belongs to."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from dataclasses import asdict
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtcheck.backends.base import BackendInfo
    from trtcheck.case import Numerics

PACKAGES = (
    "pytest-trtcheck", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "polygraphy", "cuda-bindings",
    "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13",
)  # fmt: skip


PREPROCESSING = ("pytest-trtcheck", "numpy", "Pillow")
"""What decodes and preprocesses: with another version of one, an engine may be fed other numbers."""


def preprocessing() -> dict[str, str]:
    """Versions of what decodes and preprocesses, for keys of what was found out about data."""
    found = {name: _version(name) for name in PREPROCESSING}
    return {name: version for name, version in found.items() if version is not None}


def is_distributed(name: str) -> bool:
    """Whether the distribution *name* is installed."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def versions() -> dict[str, str]:
    """Versions of the installed packages that can move a figure, by distribution name."""
    found = {name: _version(name) for name in PACKAGES}
    return {name: version for name, version in found.items() if version is not None}


@cache
def _version(name: str) -> str | None:
    """Version of the distribution *name*, looked up once in a process; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def is_installed(module: str) -> bool:
    """Whether *module* is there to be imported, without importing it.

    A stand-in that tests put into ``sys.modules``, or a folder that an uninstalled package left, is none.
    """
    try:
        spec = find_spec(module)
    except ValueError:  # a module in sys.modules without a specification
        return False
    return spec is not None and spec.origin is not None


def fingerprint(backend: BackendInfo) -> dict[str, Any]:
    """What a report says of the place where it was made; JSON-ready."""
    return {**bare_fingerprint(), "backend": asdict(backend)}


def bare_fingerprint() -> dict[str, Any]:
    """The same where no backend was opened."""
    return {
        "backend": None,
        "machine": platform.machine(),
        "packages": versions(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "byteorder": sys.byteorder,
    }


def accuracy_environment(backend: Mapping[str, Any], numerics: Numerics) -> str:
    """The name of the environment that an accuracy baseline belongs to.

    Backend and numerics decide, and where a GPU computes its model and the runtime's major version; not the
    processor: a hosted CPU runner changes its processor daily.

    Args:
        backend: The record of a `BackendInfo`.
        numerics: How the answers come about.
    """
    name = str(backend["name"])
    if name == "onnxruntime-cpu":
        return f"{name}-{numerics.value}"
    device = _as_part(str(backend["device"]))
    if name == numerics.value:  # a recording: where it was made is all that is known of it
        return f"{name}-{device}"
    return f"{name}-{str(backend['version']).partition('.')[0]}-{device}-{numerics.value}"


def _as_part(device: str) -> str:
    """A device's name as part of a file's, made unique by a digest where signs were left out."""
    plain = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")[:60]
    if re.fullmatch(r"[A-Za-z0-9]+( [A-Za-z0-9]+)*", device) and len(device) <= 60:
        return plain
    return f"{plain or 'device'}-{hashlib.sha256(device.encode()).hexdigest()[:8]}"


def runtime_version() -> str | None:
    """Version of the installed ONNX Runtime, of whichever distribution, without importing it."""
    found = versions()
    return found.get("onnxruntime-gpu") or found.get("onnxruntime")


def processor() -> str:
    """The name of this machine's processor."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "CPU"


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
