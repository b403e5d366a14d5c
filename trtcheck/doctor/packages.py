"""Installed distributions that concern trtcheck, and what is at odds among them; nothing is imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

Distributions = Mapping[str, metadata.Distribution]
"""Distributions by normalised name."""

OURS, FOREIGN = "pytest-trtcheck", "trtcheck"
_DEVELOPMENT = "dev"
"""The extra for work on trtcheck itself, whose versions are nobody else's concern."""

GROUPS = {
    "trtcheck": r"pytest-trtcheck|trtcheck",
    "pytest": r"pytest|pytest-(benchmark|xdist|randomly|rerunfailures|cov)",
    "TensorRT": r"tensorrt(-cu\d+)?(-bindings|-libs)?",
    "TensorRT for RTX": r"tensorrt-rtx(-cu\d+)?(-bindings|-libs)?",
    "TensorRT runtimes": r"tensorrt-(lean|dispatch)(-cu\d+)?(-bindings|-libs)?",
    "ONNX Runtime": r"onnxruntime(-.+)?|ort-nightly.*",
    "ONNX": r"onnx|onnxscript|ml-dtypes|protobuf",
    "Polygraphy": r"polygraphy",
    "ModelOpt": r"nvidia-modelopt(-core)?",
    "CUDA in Python": r"cuda-(python|bindings)|nvidia-ml-py|pynvml",
    "CUDA libraries": r"nvidia-(cudnn|cublas|cuda-runtime|cufft)(-cu\d+)?",
    "numpy, scikit-learn": r"numpy|scipy|scikit-learn",
}
"""By label: the names of the distributions listed there, as regular expressions."""

_SHARED_MODULES = ("onnxruntime", "tensorrt", "tensorrt_rtx")
"""Modules that come in several distributions, of which the last one installed overwrites the others."""


def installed() -> Distributions:
    """The installed distributions; of several of one name, that which Python finds first."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        name = _name(distribution)
        if name:  # an interrupted pip leaves folders without one
            found.setdefault(canonicalize_name(name), distribution)
    return found


def _name(distribution: metadata.Distribution) -> str | None:
    """Its name; None of the leavings of one."""
    try:
        return distribution.metadata["Name"] if distribution.metadata else None
    except (FileNotFoundError, KeyError):
        # Of importlib_metadata, which takes the place of Python's own once somebody imports it.
        return None


def listed(distributions: Distributions) -> dict[str, dict[str, str]]:
    """Versions by distribution, by the labels of `GROUPS`."""
    found = {}
    for label, pattern in GROUPS.items():
        names = sorted(name for name in distributions if re.fullmatch(pattern, name))
        found[label] = {name: distributions[name].version for name in names}
    return found


def conflicts(distributions: Distributions) -> list[str]:
    """What is at odds, each in a sentence with what to do about it."""
    found = _foreign(distributions)
    for module in _SHARED_MODULES:
        found += _overwritten(distributions, module)
    return [*found, *_incomplete(distributions), *_unsupported(distributions)]


def hollow(module: str) -> str | None:
    """What to do about a *module* that is a folder without a package, which uninstalling may leave."""
    spec = find_spec(module)
    if spec is None or spec.origin is not None:
        return None
    return f"{module} is a folder without a package: pip install --force-reinstall {module}"


def _foreign(distributions: Distributions) -> list[str]:
    if FOREIGN not in distributions:
        return []
    return [
        f"the distribution '{FOREIGN}' {distributions[FOREIGN].version} is another project with a module of "
        f"this name: pip uninstall {FOREIGN}, then pip install --force-reinstall --no-deps {OURS}"
    ]


def _overwritten(distributions: Distributions, module: str) -> list[str]:
    owners = sorted(name for name, distribution in distributions.items() if _holds(distribution, module))
    if len(owners) < 2:
        return []
    names = " ".join(owners)
    return [
        f"{' and '.join(owners)} hold the same module '{module}' and overwrite each other: "
        f"pip uninstall {names}, then install one of them"
    ]


def _holds(distribution: metadata.Distribution, module: str) -> bool:
    """Whether *distribution* installs the top-level *module*."""
    top_level = distribution.read_text("top_level.txt")
    if top_level is not None:
        return module in top_level.split()
    # Not by `files`, which later versions of Python and importlib_metadata check on the disk one by one.
    record = distribution.read_text("RECORD") or ""
    return any(line.partition("/")[0] == module for line in record.splitlines())


def _incomplete(distributions: Distributions) -> list[str]:
    """Parts of TensorRT that its distributions need and that are missing, or of another version.

    PyPI's TensorRT is stubs that fetch bindings and libraries from NVIDIA's own index.
    """
    found = []
    for name, distribution in distributions.items():
        if not name.startswith("tensorrt"):
            continue
        for needed in _requirements(distribution):
            part = canonicalize_name(needed.name)
            if not part.startswith("tensorrt") or not _applies(needed, [""]):
                continue
            have = distributions[part].version if part in distributions else None
            if have is None or not needed.specifier.contains(have, prereleases=True):
                found.append(
                    f"{name} {distribution.version} needs {part}{needed.specifier}, "
                    + (f"found {have}" if have else "which is not installed")
                    + f": pip install --force-reinstall {name}"
                )
    return found


def _unsupported(distributions: Distributions) -> list[str]:
    """Installed distributions of versions that this trtcheck does not support, extras included."""
    if OURS not in distributions:
        return []
    extras = ["", *(distributions[OURS].metadata.get_all("Provides-Extra") or ())]
    asked: dict[str, str] = {}
    for needed in _requirements(distributions[OURS]):
        name = canonicalize_name(needed.name)
        have = distributions[name].version if name in distributions else None
        if have is None or needed.specifier.contains(have, prereleases=True):
            continue
        if _applies(needed, [extra for extra in extras if extra != _DEVELOPMENT]):
            asked[name] = str(needed.specifier)
    return [
        f"{name} {distributions[name].version} is not supported: pip install '{name}{specifier}'"
        for name, specifier in asked.items()
    ]


def _applies(needed: Requirement, extras: Iterable[str]) -> bool:
    """Whether *needed* counts here with one of *extras*; the empty one stands for none of them."""
    return needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)


def _requirements(distribution: metadata.Distribution) -> Iterable[Requirement]:
    for line in distribution.requires or ():
        try:
            yield Requirement(line)
        except InvalidRequirement:  # of an old distribution, whose own affair it is
            continue
