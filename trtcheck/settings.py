"""Options and ini keys, read once into one frozen `Settings`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtcheck.backends import KNOWN as BACKENDS
from trtcheck.case import ENGINE_SUFFIXES, RECORDING_SUFFIXES, EngineSpec, Precision
from trtcheck.devices import Asked, Device, read_devices
from trtcheck.errors import OptionError

LATER_PRECISIONS = ("fp8",)
CACHE_SIZE = "20GB"
LATENCY_BUDGET = "30"
REFERENCES = ("auto", "cpu", "cuda")
"""Where the reference may be asked to run."""
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
        cache_bytes: What the cache may take after the run; None for no limit.
        build_only: Whether engines are built and nothing else is checked.
        rebuild: Whether engines and lowered models of earlier sessions are made anew.
        modelopt_python: The Python that has NVIDIA's ModelOpt; None for this one.
        strict: Whether inconclusive items fail.
        history: Folder in which every run is kept for later reports; None to keep none.
        latency_budget: Seconds that the measurement of one engine at one batch size may take.
        shards: Processes of this machine that an evaluation is cut over, or with *executor* the number of
            parts; None for none, or for what the executor has workers for.
        executor: Where parts of an evaluation are sent, as `trtcheck.shards.asked` has it; None for nowhere.
        reference: Where the reference runs, one of `REFERENCES`.
        devices: The GPUs that were asked for; None where none were.
        gpus: The same, found: those of this process and what it starts (`trtcheck.devices.chosen`).
    """

    engines: tuple[EngineSpec, ...] | None
    backend: str
    baselines: Path
    update_baselines: bool
    report: Path
    cache: Path | None
    root: Path
    cache_bytes: int | None = None
    build_only: bool = False
    rebuild: bool = False
    modelopt_python: str | None = None
    strict: bool = False
    history: Path | None = None
    latency_budget: float = float(LATENCY_BUDGET)
    shards: int | None = None
    executor: str | None = None
    reference: str = "auto"
    devices: Asked | None = None
    gpus: tuple[Device, ...] = ()


def read_settings(
    options: Mapping[str, Any], ini: Mapping[str, str], *, invoked_in: Path, root: Path
) -> Settings:
    """Settings from command-line *options* and *ini* keys; the command line comes first.

    Args:
        options: ``engine``, ``backend``, ``baselines``, ``report``, ``cache``, ``cache_size``, ``shards``,
            ``executor``, ``devices``, ``reference``,
            ``modelopt_python``, ``latency_budget``, ``history`` (None where not given), ``update_baselines``,
            ``build_only``, ``rebuild`` and ``strict``.
        ini: The same names, empty where not given.
        invoked_in: Folder against which paths on the command line are resolved.
        root: Folder against which paths in the ini file are resolved.

    Raises:
        OptionError: An engine or backend is unknown or not part of this version, or options contradict each
            other.
    """
    from trtcheck.shards import asked  # which resolves paths as this module does

    if options.get("build_only") and options.get("update_baselines"):
        raise OptionError(
            "--trt-build-only runs no engine, so that --trt-update-baselines has nothing to approve",
            hint="leave one of them out",
        )

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
        if (options.get(name) or ini.get(name)) and kind_of(path) == "file":
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
        cache_bytes=parse_size(options.get("cache_size") or ini.get("cache_size") or CACHE_SIZE),
        build_only=bool(options.get("build_only")),
        rebuild=bool(options.get("rebuild")),
        modelopt_python=_program("modelopt_python", options, ini, invoked_in, root),
        strict=bool(options.get("strict")),
        history=_history(options, ini, folder, report),
        latency_budget=_budget(options, ini),
        shards=asked.shards(options, ini),
        executor=asked.executor(options, ini, invoked_in, root),
        reference=parse_reference(options.get("reference") or ini.get("reference") or "auto"),
        devices=read_devices(options.get("devices"), ini.get("devices")),
    )


def _history(
    options: Mapping[str, Any], ini: Mapping[str, str],
    folder: Callable[[str, Path | None], Path | None], report: Path,
) -> Path | None:  # fmt: skip
    """Where runs are kept: beside the report's pages unless a folder is named; None for ``none``.

    Raises:
        OptionError: What is named is a file.
    """
    given = options.get("history") or ini.get("history")
    if given == "none":
        return None
    path = folder("history", report / "history")
    if given and path is not None and kind_of(path) == "file":
        raise OptionError(
            "--trt-history needs a folder, or none", where=path, expected="a folder, or nothing yet",
            found="a file",
        )  # fmt: skip
    return path


def _program(
    name: str, options: Mapping[str, Any], ini: Mapping[str, str], invoked_in: Path, root: Path
) -> str | None:
    """The program that *options* or *ini* name: a path like that of any option, or a name for the PATH."""
    shown = name.replace("_", "-")
    for given, base, where in (
        (options.get(name), invoked_in, f"--trt-{shown}"), (ini.get(name), root, f"ini key trt_{name}"),
    ):  # fmt: skip
        if given:
            path = at_home(given, where)
            # Absolute and no more: a virtual environment's Python is a link that must not be followed.
            return str((base / path).absolute()) if len(path.parts) > 1 else given
    return None


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
    raise OptionError(
        f"--trt-backend={name} is not known{_meant(name, BACKENDS)}", expected=", ".join(BACKENDS), found=name
    )


def parse_reference(place: str) -> str:
    """Where the reference runs, if *place* is one of `REFERENCES`.

    Raises:
        OptionError: It is none.
    """
    if place in REFERENCES:
        return place
    meant = _meant("cuda" if place == "gpu" else place, REFERENCES)
    raise OptionError(
        f"--trt-reference={place} is not known{meant}", expected=", ".join(REFERENCES),
        found=place,
    )  # fmt: skip


_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str) -> int | None:
    """The bytes that *text* such as ``20GB`` stands for; None for ``none``, no limit.

    Raises:
        OptionError: It is no size.
    """
    plain = text.strip().upper()
    if plain == "NONE":
        return None
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT]B)", plain)
    if found is None:
        raise OptionError(
            "--trt-cache-size is no size", expected="a number with KB, MB, GB or TB, or none", found=text,
            hint=f"pytest --trt-cache-size={CACHE_SIZE}",
        )  # fmt: skip
    return int(float(found[1]) * _UNITS[found[2]])


def _budget(options: Mapping[str, Any], ini: Mapping[str, str]) -> float:
    """The seconds of a latency measurement, read where they were given."""
    if options.get("latency_budget"):
        return parse_seconds(options["latency_budget"], "--trt-latency-budget")
    return parse_seconds(ini.get("latency_budget") or LATENCY_BUDGET, "ini key trt_latency_budget")


_SHORTEST, _LONGEST = 5.0, 24 * 3600.0
"""A third is for warming up, in which each of four contestants needs .4 s to show that its times settled."""


def parse_seconds(text: str, where: str) -> float:
    """The seconds that *text* such as ``30`` or ``12.5s`` stands for.

    Args:
        text: The text.
        where: Option or key that messages name.

    Raises:
        OptionError: It is no time that a measurement can take.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*s?", text.strip())
    seconds = float(found[1]) if found is not None else 0.0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise OptionError(
            f"{where} is no time that a measurement can take",
            expected=f"seconds, from {_SHORTEST:g} to {_LONGEST:g}", found=text,
            hint=f"pytest --trt-latency-budget={LATENCY_BUDGET}",
        )  # fmt: skip
    return seconds


def parse_engines(entries: Sequence[str], *, base: Path, where: str) -> tuple[EngineSpec, ...]:
    """Engines from the entries of a list: precisions, or paths of what was made elsewhere.

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
    absolute = (base / path).absolute()
    recorded = bool(text) and _holds_recording(absolute)
    if not recorded and (not text or (len(path.parts) == 1 and not path.suffix)):
        raise OptionError(
            f"{where}: '{text}' is no precision{_meant(text, known)}",
            expected=f"{', '.join(known)}, or the path of {_FILES}", found=f"'{text}'",
            hint="pytest --trt-engine=fp32,fp16,int8",
        )  # fmt: skip
    kind = kind_of(absolute)
    if kind is None:
        raise OptionError(f"{where}: no such file", where=absolute, hint="build it first, or check the path")
    if kind == "folder" and not recorded:
        raise OptionError(
            f"{where}: the folder holds no recorded outputs", where=absolute,
            expected=f"files that end in {' or '.join(RECORDING_SUFFIXES)}",
        )  # fmt: skip
    if not recorded and path.suffix.lower() not in (".onnx", *ENGINE_SUFFIXES, *RECORDING_SUFFIXES):
        raise OptionError(
            f"{where}: '{text}' is of no kind that can be tested", expected=_FILES,
            found=f"suffix '{path.suffix}'" if path.suffix else "no suffix",
        )  # fmt: skip
    name = path.stem
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise OptionError(
            f"{where}: the file's name becomes part of test ids", where=absolute,
            expected="letters, digits, '-', '_' and '.'", found=name, hint="rename the file",
        )  # fmt: skip
    return EngineSpec(name, None, absolute)


def kind_of(path: Path) -> str | None:
    """``"folder"`` or ``"file"``; None where there is nothing, or nothing that this process may look at."""
    try:
        if path.is_dir():
            return "folder"
        return "file" if path.exists() else None
    except OSError:  # a folder above may not be searched, or the name is too long
        return None


def _holds_recording(path: Path) -> bool:
    try:
        return any(file.suffix.lower() in RECORDING_SUFFIXES for file in path.iterdir())
    except OSError:  # no folder, or one that cannot be read
        return False


_FILES = (
    "an .onnx model, a TensorRT engine (" + ", ".join(ENGINE_SUFFIXES) + ") or recorded outputs "
    "(" + ", ".join(RECORDING_SUFFIXES) + " or a folder)"
)


def _meant(text: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def cache_folder(settings: Settings) -> Path:
    """The cache folder that was asked for, or the user's.

    Raises:
        OptionError: Nothing was asked for and there is no home folder.
    """
    return user_cache() if settings.cache is None else settings.cache


def user_cache() -> Path:
    """The cache folder of this user.

    Raises:
        OptionError: There is no home folder.
    """
    from platformdirs import user_cache_path

    try:
        return user_cache_path("trtcheck", appauthor=False)
    except RuntimeError as error:
        raise OptionError(
            "there is no home folder for the cache", found=error, hint="pytest --trt-cache=DIR"
        ) from error
