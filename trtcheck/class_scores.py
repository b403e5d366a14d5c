"""The output that holds the class scores: which it is, and its values as (N, C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtcheck.errors import CaseError

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.case import Case
    from trtcheck.model import Signature


def scores_output(signature: Signature, case: Case, classes: int | None) -> str:
    """The name of the output that holds the class scores.

    Args:
        signature: Inputs and outputs of the reference.
        case: The case; its ``output`` decides where it is given.
        classes: Number of classes, None where the model decides.

    Raises:
        CaseError: No output fits, or several do.
    """
    names = [tensor.name for tensor in signature.outputs]
    listing = "; ".join(str(tensor) for tensor in signature.outputs)
    if case.output is not None:
        if case.output not in names:
            raise CaseError(
                f"{case.name}: output = {case.output!r} is not an output of the model", where=case.onnx,
                expected=f"one of: {', '.join(names)}", found=case.output,
            )  # fmt: skip
        return case.output
    fitting = [
        tensor.name
        for tensor in signature.outputs
        if tensor.dtype.kind not in "iubOUS" and _width_may_be(tensor.shape, classes)
    ]
    if len(fitting) == 1:
        return fitting[0]
    wanted = "class scores (N, C)" if classes is None else f"class scores (N, {classes})"
    if not fitting:
        raise CaseError(
            f"{case.name}: no output of the model can hold the class scores", where=case.onnx,
            expected=f"an output with {wanted}" + (f" for the {classes} classes" if classes else ""),
            found=listing, hint='set classes = […], or checks = ["build", "outputs"] for other models',
        )  # fmt: skip
    raise CaseError(
        f"{case.name}: several outputs could hold the class scores", where=case.onnx,
        expected=f'one {wanted}, or output = "…" in the suite', found=listing,
    )  # fmt: skip


def _width_may_be(shape: tuple[int | None, ...] | None, classes: int | None) -> bool:
    """Whether a tensor of *shape* may hold (N, classes) scores; axes of 1 behind the classes are fine."""
    if shape is None:
        return True
    if len(shape) < 2 or any(size not in (1, None) for size in shape[2:]):
        return False
    return shape[1] is None or (shape[1] > 1 if classes is None else shape[1] == classes)


def as_scores(values: np.ndarray, classes: int, case: Case, name: str) -> np.ndarray:
    """Class scores (N, C) from an output whose axes behind the classes are 1.

    Raises:
        CaseError: The output holds no numbers or has another shape.
    """
    if values.dtype.kind in "bOUS":
        raise CaseError(
            f"{case.name}: output '{name}' holds no class scores", where=case.onnx,
            expected="numbers", found=f"type {values.dtype}", hint="name another output",
        )  # fmt: skip
    flat = values.reshape(len(values), -1) if values.ndim > 2 and values[0].size == classes else values
    if flat.ndim != 2 or flat.shape[1] != classes:
        raise CaseError(
            f"{case.name}: output '{name}' does not fit the classes", where=case.onnx,
            expected=f"shape (N, {classes}) for {classes} classes", found=f"shape {values.shape}",
            hint="list as many classes as the model has scores, or name another output",
        )  # fmt: skip
    return flat
