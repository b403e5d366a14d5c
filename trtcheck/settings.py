"""Options and ini keys, read once into one frozen `Settings`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtcheck.backends import KNOWN as BACKENDS
from trtcheck.backends import PLANNED as LATER_BACKENDS
from trtcheck.case import EngineSpec, Precision
from trtcheck.errors import OptionError

LATER_PRECISIONS = ("tf32", "fp8")
HOW_TO_ASK = "no engine asked for; type: pytest --trt-engine=fp32,fp16,int8"
"""Why engine tests are skipped where nothing names an engine."""


@dataclass(frozen=True)
class Settings:
    """What the user asked for on the command line and in the ini file.

    Attributes:
        engines: Engines asked for; None where neither names any, so that the suite's default counts.
        backend: Name as for ``--trt-backend``.
        baselines: Folder of the approved results.
        update_baselines: Whether this run's results are approved.
        report: Folder of the report.
        cache: Folder of reference answers, lowered models and engines; None for the user's cache folder.
        root: Root folder of the test run.
    """

    engines: tuple[EngineSpec, ...] | None
    backend: str
    baselines: Path
    update_baselines: bool
    report: Path
    cache: Path | None
    root: Path


def read_settings(
    options: Mapping[str, Any], ini: Mapping[str, str], *, invoked_in: Path, root: Path
) -> Settings:
    """Settings from command-line *options* and *ini* keys; the command line comes first.

    Args:
        options: ``engine``, ``backend``, ``baselines``, ``report``, ``cache`` (None where not given) and
            ``update_baselines``.
        ini: The same names, empty where not given.
        invoked_in: Folder against which paths on the command line are resolved.
        root: Folder against which paths in the ini file are resolved.

    Raises:
        OptionError: An engine or backend is unknown or not part of this version.
    """

    def folder(name: str, default: Path | None) -> Path | None:
        if options.get(name):
            return (invoked_in / at_home(options[name], f"--trt-{name}")).absolute()
        return (root / at_home(ini[name], f"ini key trt_{name}")).absolute() if ini.get(name) else default

    engines = None
    if options.get("engine") is not None:
        engines = parse_engines(options["engine"].split(","), base=invoked_in, where="--trt-engine")
    elif ini.get("engine"):
        engines = parse_engines(ini["engine"].split(","), base=root, where="ini key trt_engine")
    baselines = folder("baselines", root / "baselines")
    report = folder("report", root / "reports")
    if baselines is None or report is None:
        raise OptionError("the folders of baselines and report cannot be empty")
    for name, path in (("report", report), ("baselines", baselines)):
        # A default folder is no wish: a project that merely has the plugin may have such a file.
        if (options.get(name) or ini.get(name)) and path.exists() and not path.is_dir():
            raise OptionError(
                f"--trt-{name} needs a folder", where=path, expected="a folder, or nothing yet",
                found="a file",
            )  # fmt: skip
    return Settings(
        engines=engines,
        backend=parse_backend(options.get("backend") or ini.get("backend") or "auto"),
        baselines=baselines,
        update_baselines=bool(options.get("update_baselines")),
        report=report,
        cache=folder("cache", None),
        root=root,
    )


def at_home(path: str | Path, name: str) -> Path:
    """The *path* with a leading ``~`` or ``~user`` resolved.

    Args:
        path: The path.
        name: Option or key that messages name.

    Raises:
        OptionError: There is no such user, or no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise OptionError(
            f"{name} names a home folder that is not there", expected="a path", found=path,
            hint="write the whole path",
        ) from error  # fmt: skip


def parse_backend(name: str) -> str:
    """The backend's *name* if this version has it.

    Raises:
        OptionError: It is unknown or not part of this version.
    """
    if name in BACKENDS:
        return name
    if name in LATER_BACKENDS:
        raise OptionError(
            f"--trt-backend={name} is not part of this version of trtcheck",
            expected=", ".join(BACKENDS), found=name,
            hint="--trt-backend=auto runs FP32 natively and emulates FP16, BF16 and INT8 on the CPU",
        )  # fmt: skip
    raise OptionError(
        f"--trt-backend={name} is not known{_meant(name, (*BACKENDS, *LATER_BACKENDS))}",
        expected=", ".join(BACKENDS), found=name,
    )  # fmt: skip


def parse_engines(entries: Sequence[str], *, base: Path, where: str) -> tuple[EngineSpec, ...]:
    """Engines from the entries of a list: precisions, or paths of models that were made elsewhere.

    Args:
        entries: The entries; spaces around them do not count.
        base: Folder against which paths are resolved.
        where: Option or key that messages name.

    Raises:
        OptionError: An entry is empty, unknown, not part of this version, missing or named twice.
    """
    found: list[EngineSpec] = []
    for entry in entries:
        engine = _engine(entry.strip(), base, where)
        if any(engine.name == other.name for other in found):
            raise OptionError(
                f"{where} names engine '{engine.name}' twice", expected="every engine once, by name",
                found=", ".join(entries),
            )  # fmt: skip
        found.append(engine)
    return tuple(found)


def _engine(text: str, base: Path, where: str) -> EngineSpec:
    known = [precision.value for precision in Precision]
    if text in known:
        return EngineSpec(text, Precision(text))
    if text in LATER_PRECISIONS:
        raise OptionError(
            f"{where}: {text} is not part of this version of trtcheck", expected=", ".join(known), found=text
        )
    path = at_home(text, where)
    if not text or (len(path.parts) == 1 and not path.suffix):
        raise OptionError(
            f"{where}: '{text}' is no precision{_meant(text, known)}",
            expected=f"{', '.join(known)}, or the path of an .onnx file", found=f"'{text}'",
            hint="pytest --trt-engine=fp32,fp16,int8",
        )  # fmt: skip
    if path.suffix.lower() != ".onnx":
        raise OptionError(
            f"{where}: '{text}' cannot be run by this version of trtcheck",
            expected="the path of an .onnx file (TensorRT files come with the TensorRT backend)", found=text,
        )  # fmt: skip
    absolute = (base / path).absolute()
    if not absolute.is_file():
        raise OptionError(f"{where}: no such file", where=absolute, hint="build it first, or check the path")
    name = path.stem
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise OptionError(
            f"{where}: the file's name becomes part of test ids", where=absolute,
            expected="letters, digits, '-', '_' and '.'", found=name, hint="rename the file",
        )  # fmt: skip
    return EngineSpec(name, None, absolute)


def _meant(text: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def cache_folder(settings: Settings) -> Path:
    """The cache folder that was asked for, or the user's.

    Raises:
        OptionError: Nothing was asked for and there is no home folder.
    """
    if settings.cache is not None:
        return settings.cache
    from platformdirs import user_cache_path

    try:
        return user_cache_path("trtcheck", appauthor=False)
    except RuntimeError as error:
        raise OptionError(
            "there is no home folder for the cache", found=error, hint="pytest --trt-cache=DIR"
        ) from error
