"""What ``--trt-shards`` and ``--trt-executor``, or their ini keys, say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtcheck.environment import is_installed
from trtcheck.errors import OptionError
from trtcheck.settings import at_home

FILE = "dask+file:"
"""Stands before the path of a scheduler file."""
INSTALL = 'pip install "pytest-trtcheck[dask]"'


def shards(options: Mapping[str, Any], ini: Mapping[str, str]) -> int | None:
    """How many were asked for; None where nothing was said.

    Raises:
        OptionError: It is no number of 1 or more.
    """
    for text, where in ((options.get("shards"), "--trt-shards"), (ini.get("shards"), "ini key trt_shards")):
        if text:
            if re.fullmatch("[0-9]{1,6}", text.strip()) is None or int(text) < 1:
                raise OptionError(
                    f"{where} is no number of processes", expected="a whole number, 1 or more", found=text,
                    hint="pytest --trt-shards=4",
                )  # fmt: skip
            return int(text)
    return None


def executor(options: Mapping[str, Any], ini: Mapping[str, str], invoked_in: Path, root: Path) -> str | None:
    """The scheduler that was named; None where none was.

    Returns:
        ``dask://HOST:PORT`` (or ``tcp``, ``tls``), or `FILE` and an absolute path.

    Raises:
        OptionError: It is neither an address nor a scheduler file, or Dask is not installed.
    """
    for text, base, where in (
        (options.get("executor"), invoked_in, "--trt-executor"),
        (ini.get("executor"), root, "ini key trt_executor"),
    ):  # fmt: skip
        if text:
            named = _named(text, base, where)
            if not is_installed("distributed"):
                raise OptionError(f"{where}={text} needs Dask, which is not installed", hint=INSTALL)
            return named
    return None


def _named(text: str, base: Path, where: str) -> str:
    if text.startswith(FILE) and text != FILE:
        path = (base / at_home(text.removeprefix(FILE), where)).absolute()
        if not path.is_file():  # Dask would wait for it
            raise OptionError(
                f"{where}: no such scheduler file", where=path, expected="what dask scheduler writes",
                hint=f"dask scheduler --scheduler-file {path}",
            )  # fmt: skip
        return f"{FILE}{path}"
    if re.fullmatch(r"(?:dask|tcp|tls)://[^/\s]+:[0-9]{1,5}", text) is None:
        raise OptionError(
            f"{where} names no scheduler", expected=f"dask://HOST:PORT, or {FILE}PATH of a scheduler file",
            found=text, hint="pytest --trt-executor=dask://localhost:8786",
        )  # fmt: skip
    return text


def require_one_way(shards: int | None, executor: str | None, workers: bool) -> None:
    """Refuses to cut evaluations over processes in every worker of pytest-xdist.

    Args:
        shards: As of `trtcheck.settings.Settings`.
        executor: As of `trtcheck.settings.Settings`.
        workers: Whether pytest-xdist has workers.

    Raises:
        OptionError: It was asked for.
    """
    if shards is not None and executor is None and workers:
        raise OptionError(
            f"--trt-shards={shards} and pytest-xdist's -n cannot share the cores and GPUs of one machine",
            expected="-n for many models and engines, --trt-shards for one large data set", found="both",
            hint="leave -n out, or name an executor, which workers of pytest-xdist may share",
        )  # fmt: skip
