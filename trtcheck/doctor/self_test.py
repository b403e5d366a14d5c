"""The self-test of one backend; run as a child process, which a native library may take down.

The request names the backend (``backend``) and the precisions (``precisions``); the reply holds ``findings``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtcheck import backends
from trtcheck.backends.base import BuildPlan
from trtcheck.case import BuildSpec, LoweringSpec, Numerics, Precision, ShapeRange
from trtcheck.child import Tell, serve
from trtcheck.doctor import net
from trtcheck.doctor.findings import Finding, Status, in_one_line
from trtcheck.doctor.packages import hollow
from trtcheck.errors import BackendError, EngineError, TrtcheckError
from trtcheck.gpu import why_no_gpu
from trtcheck.precision import lower

if TYPE_CHECKING:
    from trtcheck.backends.base import Backend

_BUILD_WITHOUT_GPU = ("tensorrt-rtx", "onnxruntime-cpu")
_MAY_REFUSE = {
    "onnxruntime-cuda": (Precision.TF32, Precision.BF16),
    "tensorrt": (Precision.BF16,),
}
"""What a backend that works may refuse: ONNX Runtime has BF16 kernels of some operators only, and GPUs before
the Ampere generation have neither BF16 nor TF32."""
_SEEN = 0.5
"""Share of a rounding's effect above which it took place; without it the share is 0, with it 1."""
_THREADS = 1


def answer(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Findings on the backend that *request* names.

    Args:
        request: ``backend``, and ``precisions`` by name.
        tell: Told of every precision that is done.
    """
    precisions = [Precision(name) for name in request["precisions"]]
    with tempfile.TemporaryDirectory(prefix="trtcheck-doctor-", ignore_cleanup_errors=True) as folder:
        found = []
        for finding in _examine(str(request["backend"]), precisions, Path(folder)):
            found.append(asdict(finding))
            tell(1)
    return {"findings": found}


def _examine(name: str, precisions: Sequence[Precision], folder: Path) -> list[Finding]:
    if name.startswith("onnxruntime") and (leftover := hollow("onnxruntime")) is not None:
        return [Finding(name, None, Status.FAILED, leftover)]
    try:
        backend = backends.open_backend(name, threads=_THREADS, cache=folder)
    except BackendError as error:
        # What is installed has to load; it may then miss a GPU.
        status = Status.REFUSED if _needs_gpu(error, name, why_no_gpu()) else Status.FAILED
        return [Finding(name, None, status, in_one_line(error))]
    found = [examine(backend, name, precision, folder) for precision in precisions]
    # Where the test keeps its files tells a reader nothing.
    return [replace(finding, reason=finding.reason.replace(f"{folder}{os.sep}", "")) for finding in found]


def _needs_gpu(error: TrtcheckError, name: str, lack: str | None) -> bool:
    """Whether *error* tells of the *lack* of a GPU that backend *name* needs, not of a broken library."""
    return name not in _BUILD_WITHOUT_GPU and lack is not None and lack in str(error)


def examine(backend: Backend, name: str, precision: Precision, folder: Path) -> Finding:
    """Builds the net at *precision* on *backend*, runs it where that is possible, and judges the answers.

    Args:
        backend: The backend.
        name: The name that it was asked for by.
        precision: The precision.
        folder: Where models and engines are put.
    """
    blank = Finding(name, precision, Status.OK, library=backend.info.version, device=backend.info.device)
    small = net.net(precision)
    try:
        plan = _lowered(small, folder)
    except BackendError as error:  # calibration runs on ONNX Runtime, whichever backend is tested
        return replace(blank, status=Status.UNTESTED, reason=in_one_line(error))
    except TrtcheckError as error:
        return replace(blank, status=Status.FAILED, reason=f"cannot be lowered: {in_one_line(error)}")
    engine = folder / f"{precision}{backend.suffix}"
    why_not = backend.cannot_run
    try:
        facts = backend.build(plan, engine, lambda _count: None)
    except TrtcheckError as error:
        if _is_refusal(error, name, precision, why_not):
            return replace(blank, status=Status.REFUSED, reason=in_one_line(error))
        return replace(blank, status=Status.FAILED, reason=f"cannot be built: {in_one_line(error)}")
    if other := _built_otherwise(precision, facts):
        return replace(blank, status=Status.WRONG, reason=other)
    if why_not is not None:
        return replace(blank, status=Status.BUILDS, reason=why_not)
    try:
        answers = _run(backend, engine, plan, small)
        numerics = backend.numerics(plan)
    except TrtcheckError as error:
        return replace(blank, status=Status.FAILED, reason=f"cannot be run: {in_one_line(error)}")
    return judge(blank, small, answers, numerics)


def _is_refusal(error: TrtcheckError, name: str, precision: Precision, why_not: str | None) -> bool:
    """Whether *error* of a build is no fault of a backend that works."""
    if isinstance(error, EngineError):
        return precision in _MAY_REFUSE.get(name, ())
    return _needs_gpu(error, name, why_not)


def _lowered(small: net.Net, folder: Path) -> BuildPlan:
    source, target = folder / f"{small.precision}.source.onnx", folder / f"{small.precision}.onnx"
    source.write_bytes(small.model().SerializeToString())
    lower(
        source, small.precision, LoweringSpec(method="minmax"), target=target,
        calibration=[({net.INPUT: batch}, len(batch)) for batch in small.batches()], threads=_THREADS,
    )  # fmt: skip
    shapes = [(size, *small.images.shape[1:]) for size in sorted(net.BATCHES)]
    profile = ShapeRange(min=shapes[0], opt=shapes[len(shapes) // 2], max=shapes[-1])
    return BuildPlan(target, small.precision, {net.INPUT: profile}, BuildSpec())


def _built_otherwise(precision: Precision, facts: Mapping[str, Any]) -> str | None:
    """What is not of the *precision* that was asked for, by the facts of the build."""
    computes = facts.get("computes", {})
    other = [f"{node} as {kind}" for node, kind in computes.items() if kind != precision]
    if other:
        return f"asked for {precision}, built {', '.join(other)}"
    if len(computes) != len(net.PRODUCTS):
        return f"expected {len(net.PRODUCTS)} nodes that compute in {precision}, found {len(computes)}"
    return None


def _run(backend: Backend, engine: Path, plan: BuildPlan, small: net.Net) -> list[dict[str, np.ndarray]]:
    loaded = backend.load(engine, plan)
    try:
        return [loaded.infer({net.INPUT: batch}) for batch in small.batches()]
    finally:
        loaded.close()


def judge(
    blank: Finding, small: net.Net, batches: Sequence[Mapping[str, np.ndarray]], numerics: Numerics
) -> Finding:
    """The verdict on the answers to all of the net's batches.

    Args:
        blank: The finding to fill in.
        small: The net.
        batches: The answers, batch by batch.
        numerics: How they came about.
    """
    expected, allowed = small.answers(), small.allowed()
    blank = replace(blank, numerics=numerics.value, allowed=allowed)
    answers = [np.asarray(batch[net.OUTPUT], np.float64) for batch in batches if set(batch) == {net.OUTPUT}]
    shapes = [array.shape for array in answers]
    if shapes != [(size, *expected.shape[1:]) for size in net.BATCHES]:
        return replace(blank, status=Status.WRONG, reason=f"answers of other names or shapes: {shapes}")
    found = np.concatenate(answers)
    error = float(np.abs(found - expected).max())
    blank = replace(blank, error=error if np.isfinite(error) else None)
    if not error <= allowed:
        reason = f"largest error {error:.2g}, allowed {allowed:.2g}"
        return replace(blank, status=Status.WRONG, reason=reason)
    return replace(blank, **_digits(small, found, numerics))


def _digits(small: net.Net, found: np.ndarray, numerics: Numerics) -> dict[str, Any]:
    """What changes in a finding whose answers carry more digits than the precision has."""
    precision, emulated = small.precision, numerics is Numerics.EMULATED
    if precision is Precision.FP32:
        return {}  # fewer digits are an error beyond what is allowed
    weights = small.answers(weights=True)
    seen = net.share_of(found, small.answers(), weights)
    if precision is Precision.TF32 and not emulated:
        # TF32 is a permission: a library may compute small products in FP32 all the same.
        return {} if seen >= _SEEN else {"reason": "computed in FP32, which TF32 permits"}
    if not seen >= _SEEN:
        return _too_exact(precision, seen, "the rounding of its weights")
    if emulated and precision is not Precision.INT8:
        # A GPU may keep the inside of a fused group wider; the emulation rounds between these nodes.
        between = net.share_of(found, weights, small.answers(weights=True, values=True))
        if not between >= _SEEN:
            return _too_exact(precision, between, "the rounding between its nodes")
    return {}


def _too_exact(precision: Precision, share: float, what: str) -> dict[str, Any]:
    reason = f"closer to FP32 than {precision} can be: {round(100 * share)} % of {what} is seen"
    return {"status": Status.WRONG, "reason": reason}


if __name__ == "__main__":
    serve(answer)
