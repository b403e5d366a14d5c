"""What the machine is: Python, system, GPUs, driver, ONNX Runtime's providers, cache folder."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from trtcheck import backends, child
from trtcheck.doctor.findings import in_one_line
from trtcheck.environment import processor, usable_cores
from trtcheck.errors import BackendError, OptionError, TrtcheckError
from trtcheck.settings import cache_folder, read_settings


def describe() -> dict[str, Any]:
    """Python, system, processor and GPUs; JSON-ready."""
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "processor": f"{processor()}, {usable_cores()} cores usable",
        **_gpus(),
        "onnxruntime": _providers(),
    }


def _gpus() -> dict[str, Any]:
    from trtcheck.gpu import all_gpus, driver_version

    try:
        gpus = all_gpus()
    except BackendError as error:
        return {"gpus": [], "no_gpu": in_one_line(error), "driver": driver_version() or None, "cuda": None}
    listed = [
        {
            "name": gpu.name,
            "compute_capability": ".".join(map(str, gpu.compute_capability)),
            "memory_gib": round(gpu.memory_bytes / 2**30, 1),
        }
        for gpu in gpus
    ]
    return {"gpus": listed, "no_gpu": None, "driver": gpus[0].driver or None, "cuda": gpus[0].cuda}


def _providers() -> dict[str, Any]:
    """ONNX Runtime's providers; asked in a child process, where a broken library does no harm."""
    absent = backends.missing("onnxruntime-cpu")
    if absent is not None:
        return {"providers": [], "fault": None}
    try:
        reply = child.call("trtcheck.doctor.providers", {}, what="loading ONNX Runtime")
    except TrtcheckError as error:
        return {"providers": [], "fault": in_one_line(error)}
    return {"providers": list(reply["providers"]), "fault": None}


def describe_cache(folder: str | None) -> dict[str, Any]:
    """The cache *folder*, or the user's: where it is, its size, whether it can be written; JSON-ready."""
    here = Path.cwd()
    try:
        path = cache_folder(read_settings({"cache": folder}, {}, invoked_in=here, root=here))
    except OptionError as error:
        return {"folder": None, "bytes": 0, "fault": in_one_line(error)}
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    fault = None if writable else f"{existing} cannot be written: pytest --trt-cache=DIR names another folder"
    return {"folder": str(path), "bytes": sum(_sizes(path)), "fault": fault}


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process removed it
            if path.is_file():
                yield path.stat().st_size
