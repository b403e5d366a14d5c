"""Versions of CUDA's libraries that this process has loaded, asked of the libraries themselves."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

Find = Callable[[str], Any]
"""The library of a file name if this process has loaded it.

Raises:
    OSError: It has not.
"""


def loaded(name: str) -> Any:
    """The library *name* if this process has loaded it; nothing is loaded for the question.

    Raises:
        OSError: It has not, or the system cannot tell (Windows).
    """
    if not hasattr(os, "RTLD_NOLOAD"):
        raise OSError("the system does not tell which libraries are loaded")
    return ctypes.CDLL(name, mode=os.RTLD_NOLOAD)


def library_versions(find: Find = loaded) -> dict[str, str]:
    """Versions of CUDA's runtime, cuBLAS and cuDNN by name, as far as they are loaded, like ``"9.10.2"``.

    Which kernels compute, and so the last bits of answers and their times, depends on them; the versions of
    packages do not tell which files of a machine were taken.
    """
    found: dict[str, str] = {}
    for name, files, ask in _LIBRARIES:
        for file in files:
            try:
                found[name] = ask(find(file))
            except (OSError, AttributeError):
                continue
            break
    return found


def _runtime(library: Any) -> str:
    """As ``cudaRuntimeGetVersion`` counts: 1000 times the major version, 10 times the minor one."""
    number = ctypes.c_int()
    if library.cudaRuntimeGetVersion(ctypes.byref(number)) != 0:
        raise OSError("cudaRuntimeGetVersion failed")
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _cublas(library: Any) -> str:
    ask = library.cublasLtGetVersion
    ask.restype = ctypes.c_size_t
    return _of_three(ask())


def _cudnn(library: Any) -> str:
    ask = library.cudnnGetVersion
    ask.restype = ctypes.c_size_t
    return _of_three(ask())


def _of_three(number: int) -> str:
    """As cuBLAS and, from version 9, cuDNN count: 10 000 times the major version, 100 times the minor one."""
    return f"{number // 10_000}.{number % 10_000 // 100}.{number % 100}"


_LIBRARIES: Sequence[tuple[str, tuple[str, ...], Callable[[Any], str]]] = (
    ("CUDA runtime", ("libcudart.so.13", "libcudart.so.12"), _runtime),
    ("cuBLAS", ("libcublasLt.so.13", "libcublasLt.so.12"), _cublas),
    ("cuDNN", ("libcudnn.so.9",), _cudnn),
)
