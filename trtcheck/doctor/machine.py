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
    try:
        here = Path.cwd()
        path = cache_folder(read_settings({"cache": folder}, {}, invoked_in=here, root=here))
    except OptionError as error:
        return {"folder": None, "bytes": 0, "fault": in_one_line(error)}
    except OSError as error:
        return {"folder": None, "bytes": 0, "fault": f"there is no working directory any more: {error}"}
    return {"folder": str(path), "bytes": sum(_sizes(path)), "fault": _fault(path)}


def _fault(folder: Path) -> str | None:
    """Why the cache *folder* cannot be written, or None where it can, if it has to be made first."""
    hint = "pytest --trt-cache=DIR names another folder"
    try:
        folder.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long, a folder that must not be entered
        return f"{error.strerror}: {folder} cannot be written: {hint}"
    # Not Path.exists, which raises for a folder that must not be entered.
    existing = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))  # noqa: PTH110
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return None if writable else f"{existing} cannot be written: {hint}"


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):  # passes over what it must not enter
        for name in names:
            with suppress(OSError):  # another process removed it
                yield Path(parent, name).stat().st_size
