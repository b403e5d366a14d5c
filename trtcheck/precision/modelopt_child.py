"""What runs in ModelOpt's own process, perhaps another Python: quantizes or converts one ONNX file.

Only the standard library, numpy, onnx and ModelOpt are used here: the environment is ModelOpt's.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections import deque
from importlib import metadata
from pathlib import Path
from typing import Any

from trtcheck.child import Reply, Tell, serve
from trtcheck.errors import LoweringError

DISTRIBUTIONS = {
    "modelopt": ("nvidia-modelopt",),
    "torch": ("torch",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
}
"""What decides the bytes of ModelOpt's answer, and the names under which it may be installed."""

INSTALL = 'pip install "pytest-trtcheck[modelopt]", or name a Python that has it: --trt-modelopt-python=PATH'

INSTEAD = {"int8": 'quantizer = "trtcheck"', "fp16": 'converter = "trtcheck"'}
"""By precision: what a suite says to do without ModelOpt."""

_LARGEST_RUN = 2_000_000_000
"""Bytes of activations that AutoCast may keep of its reference run; it keeps those of all images at once."""

_LINES = 12


def installed() -> dict[str, str]:
    """Versions of what this environment has of `DISTRIBUTIONS`, without importing any of it."""
    found: dict[str, str] = {}
    for name, distributions in DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                found.setdefault(name, metadata.version(distribution))
            except metadata.PackageNotFoundError:
                continue
    return found


class _Told(logging.Handler):
    """The last warnings and errors of whoever logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _answer(request: dict[str, Any], _tell: Tell) -> Reply:
    if request["work"] == "versions":
        return installed()
    folder = Path(request["folder"])
    os.chdir(folder)  # ModelOpt removes and writes some files where it stands
    told = _Told()
    logging.getLogger().addHandler(told)
    try:
        return _WORK[request["work"]](folder, request)
    except ImportError as error:
        raise LoweringError(
            "ModelOpt cannot be imported", where=request["source"], found=error, hint=INSTALL
        ) from error
    except Exception as error:  # ModelOpt, onnxruntime and torch have no common class of errors
        place = traceback.extract_tb(error.__traceback__)[-1]
        failed = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
        found = "\n    ".join([failed, *told.lines])
        raise LoweringError(
            "ModelOpt failed", where=request["source"], found=found,
            hint=f"or leave it to trtcheck: {INSTEAD[request['work']]}",
        ) from error  # fmt: skip


def _int8(folder: Path, request: dict[str, Any]) -> Reply:
    import numpy as np
    from modelopt.onnx.quantization import quantize

    # ModelOpt narrows the rest by operator type only; AutoCast does it by name.
    apart = request["rest"] == "fp16" and bool(request["exclude"])
    quantized = folder / ("quantized.onnx" if apart else request["target"])
    with np.load(folder / request["calibration"]) as arrays:
        data = dict(arrays)
    quantize(
        str(folder / request["model"]),
        quantize_mode="int8",
        calibration_data=data,
        calibration_method=request["method"],
        calibration_eps=["cpu"],
        high_precision_dtype="fp32" if apart else request["rest"],
        nodes_to_exclude=list(request["exclude"]),
        use_external_data_format=request["external"],
        output_path=str(quantized),
    )
    if apart:
        _autocast(
            quantized, folder / request["target"], request, data_max=float("inf"), init_max=float("inf")
        )
    return {"images": len(next(iter(data.values())))}


def _fp16(folder: Path, request: dict[str, Any]) -> Reply:
    import numpy as np

    model = folder / request["model"]
    with np.load(folder / request["calibration"]) as arrays:
        data = dict(arrays)
    rows = _affordable(model, data, request["batch"])
    np.savez(folder / "reference.npz", **{name: array[:rows] for name, array in data.items()})
    _autocast(model, folder / request["target"], request, calibration_data=str(folder / "reference.npz"))
    return {"images": rows}


def _affordable(model: Path, data: dict[str, Any], batch: int) -> int:
    """How many images AutoCast's reference run can take without running out of memory."""
    import numpy as np
    import onnx
    from modelopt.onnx.autocast.referencerunner import ReferenceRunner

    one = {name: array[:batch] for name, array in data.items()}
    tensors = ReferenceRunner(onnx.load(model), ["cpu"]).run(one)
    size = sum(np.asarray(array).nbytes for array in tensors.values())
    rows = len(next(iter(data.values())))
    return min(rows, max(1, _LARGEST_RUN // max(size, 1)) * batch)


def _autocast(model: Path, target: Path, request: dict[str, Any], **options: Any) -> None:
    from modelopt.onnx.autocast import convert_to_mixed_precision
    from modelopt.onnx.utils import save_onnx

    converted = convert_to_mixed_precision(
        str(model),
        low_precision_type="fp16",
        nodes_to_exclude=list(request["exclude"]),
        keep_io_types=True,
        providers=["cpu"],
        **options,
    )
    save_onnx(converted, str(target), request["external"])


_WORK = {"int8": _int8, "fp16": _fp16}


if __name__ == "__main__":
    serve(_answer)
