"""TensorRT and TensorRT for RTX: what tells them apart, their versions and their engine files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import final

from trtcheck.errors import BackendError, EngineError

_RTX_VERSION_AT = 24
_RTX_SIZE_AT = 16
_RTX_INNER_MAGIC_AT = 28


@final
@dataclass(frozen=True)
class Flavour:
    """One of the two libraries.

    Attributes:
        name: Name of the backend, for example ``"tensorrt-rtx"``.
        label: What people call it.
        module: The Python module.
        extra: The extra of pytest-trtcheck that installs it.
        versions: The versions that trtcheck drives, in words.
        oldest: The first of them.
        first_foreign: The first major version that is none of them.
        magics: What its engine files begin with.
        is_rtx: Whether it is TensorRT for RTX.
    """

    name: str
    label: str
    module: str
    extra: str
    versions: str
    oldest: tuple[int, int]
    first_foreign: int
    magics: tuple[bytes, ...]
    is_rtx: bool

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f'pip install "pytest-trtcheck[{self.extra}]"'

    @property
    def environment(self) -> dict[str, str]:
        """What makes Polygraphy take this library and no other; it reads this once a process."""
        return {"POLYGRAPHY_USE_TENSORRT_RTX": "1" if self.is_rtx else "0"}

    @property
    def cuda(self) -> str | None:
        """The CUDA that the installed package was made with, by its name; None where it does not tell."""
        for name in metadata.packages_distributions().get(self.module, ()):
            found = re.search(r"[-_]cu(\d+)$", name)
            if found:
                return f"{found.group(1)}.0"
        return None

    def require_version(self, version: str) -> None:
        """Refuses a version that trtcheck does not drive.

        Raises:
            BackendError: It is older or newer.
        """
        number = parsed(version)
        if number < self.oldest or number[0] >= self.first_foreign:
            raise BackendError(
                f"this version of {self.label} cannot be used",
                expected=self.versions, found=version or "a package without a version", hint=self.install,
            )  # fmt: skip


TENSORRT = Flavour(
    "tensorrt", "TensorRT", "tensorrt", "tensorrt", "10.12 or newer, or 11", (10, 12), 12,
    (b"ftrt", b"ptrt"), is_rtx=False,
)  # fmt: skip
RTX = Flavour(
    "tensorrt-rtx", "TensorRT for RTX", "tensorrt_rtx", "tensorrt-rtx", "1.7 or newer", (1, 7), 2,
    (b"vtrt",), is_rtx=True,
)  # fmt: skip
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, RTX)}
"""Both, by the name of their backend."""


def parsed(version: str) -> tuple[int, ...]:
    """The leading numbers of *version*; ``(0,)`` where there are none."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else (0,)


def flavour_of(path: Path) -> str:
    """Name of the backend whose engine the file at *path* is, by its first bytes.

    Raises:
        EngineError: The file is missing, or no engine.
    """
    head = _head(path)
    for flavour in FLAVOURS.values():
        if head.startswith(flavour.magics):
            return flavour.name
    raise EngineError(
        "this is no TensorRT engine", where=path,
        expected="a file that begins with 'ftrt' (TensorRT) or 'vtrt' (TensorRT for RTX)",
        found=f"{path.stat().st_size} bytes that begin with {head[:4]!r}" if head else "an empty file",
        hint="trtexec --onnx=model.onnx --saveEngine=model.engine writes one",
    )  # fmt: skip


def require_readable(path: Path, flavour: Flavour, version: str) -> None:
    """Refuses a file that *flavour* in this *version* cannot read, as far as its header tells.

    Neither GPU nor driver is needed. TensorRT's own files do not tell their version without its runtime.

    Raises:
        EngineError: The file is missing, truncated, of the other flavour, or of another version of RTX.
    """
    owner = FLAVOURS[flavour_of(path)]
    if owner is not flavour:
        raise EngineError(
            "the engine was built for another library", where=path, expected=flavour.label,
            found=owner.label, hint=f"pytest --trt-backend={owner.name}",
        )  # fmt: skip
    if not flavour.is_rtx:
        return
    head = _head(path)
    stated = int.from_bytes(head[_RTX_SIZE_AT:_RTX_VERSION_AT], "little")
    size = path.stat().st_size
    if len(head) < _RTX_INNER_MAGIC_AT or 0 < size < stated:
        raise EngineError(
            "the engine's file is truncated", where=path, found=f"{size:,} bytes",
            expected=f"{stated:,} bytes" if len(head) >= _RTX_VERSION_AT else "a whole header",
            hint="copy or build it again",
        )  # fmt: skip
    built = rtx_version(path)
    if built is not None and parsed(built) != parsed(version):
        raise EngineError(
            f"the engine was built by another version of {flavour.label}, and runs on that one alone",
            where=path, expected=f"{version}, which is installed", found=built,
            hint=f"build it anew, or: pip install {flavour.name}-cu13=={built}",
        )  # fmt: skip


def rtx_version(path: Path) -> str | None:
    """The version of RTX that built the engine at *path*, for example ``"1.7.1.116"``, if it tells."""
    head = _head(path)
    if not head.startswith(RTX.magics) or head[_RTX_INNER_MAGIC_AT:][:4] not in RTX.magics:
        return None
    return ".".join(str(part) for part in head[_RTX_VERSION_AT:_RTX_INNER_MAGIC_AT])


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise EngineError("no such engine file", where=path)
    try:
        with path.open("rb") as file:
            return file.read(_RTX_INNER_MAGIC_AT + 4)
    except OSError as error:
        raise EngineError("the engine's file cannot be read", where=path, found=error) from error
