"""Optimization profiles: the shapes between which a TensorRT engine works."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trtcheck import model
from trtcheck.case import Case, ShapeRange
from trtcheck.errors import CaseError
from trtcheck.model import Shape

Batch = tuple[int, int, int]
"""Smallest, best and largest batch."""


def ranges(
    case: Case, lowered: Path, fed: Callable[[], Mapping[str, tuple[int, ...]]]
) -> dict[str, ShapeRange]:
    """The range of shapes of every input of the *lowered* model that has open dimensions.

    Args:
        case: The case; its ``build`` may state shapes or batch sizes.
        lowered: The model that is built.
        fed: The shapes that the evaluation data give; asked only where a dimension besides the batch is open.

    Raises:
        CaseError: The case states shapes for an input that is not there, or that do not fit it; or the
            lowered model has inputs that the data do not have.
    """
    inputs = {tensor.name: tensor.shape for tensor in model.read_signature(lowered).inputs}
    unknown = sorted(set(case.build.shapes) - set(inputs))
    if unknown:
        raise CaseError(
            f"{case.name}: the profile names an input that is not there: {', '.join(unknown)}",
            where=case.onnx, expected=f"one of: {', '.join(inputs)}",
        )  # fmt: skip
    timed = () if case.latency is None else case.latency.batches
    batch = case.build.batch or (1, case.batch, max(case.batch, *timed, 1))
    found = {}
    for name, shape in inputs.items():
        stated = case.build.shapes.get(name)
        if stated is not None:
            _check(case, name, shape, stated)
            if shape is None or None in shape[1:]:
                _require_inside(case, name, stated, _fed_to(name, case, lowered, fed))
            found[name] = stated
        elif shape is None or None in shape:
            known = shape is not None and None not in shape[1:]
            rest = shape[1:] if shape is not None and known else _fed_to(name, case, lowered, fed)[1:]
            found[name] = _of_batch(batch if shape is None or shape[0] is None else (shape[0],) * 3, rest)
    return found


def batch_limits(profile: Mapping[str, Mapping[str, Sequence[int]]]) -> tuple[int, int] | None:
    """The smallest and the largest batch that a *profile* allows; None where it limits none.

    Args:
        profile: ``min``, ``opt`` and ``max`` by input, as in the facts of a build.
    """
    known = [shapes for shapes in profile.values() if shapes["min"]]
    if not known:
        return None
    return max(shapes["min"][0] for shapes in known), min(shapes["max"][0] for shapes in known)


def _require_inside(case: Case, name: str, stated: ShapeRange, fed: tuple[int, ...]) -> None:
    """Refuses a profile that the evaluation data lie outside of; the batch is cut to fit.

    Raises:
        CaseError: They do.
    """
    sizes = zip(stated.min[1:], fed[1:], stated.max[1:], strict=True)
    if not all(low <= size <= high for low, size, high in sizes):
        raise CaseError(
            f"{case.name}: the evaluation data lie outside of the profile of input '{name}'",
            expected=f"{list(stated.min[1:])} to {list(stated.max[1:])} for each image",
            found=list(fed[1:]), hint="widen min and max in profile = {…}, or resize the data",
        )  # fmt: skip


def _fed_to(
    name: str, case: Case, lowered: Path, fed: Callable[[], Mapping[str, tuple[int, ...]]]
) -> tuple[int, ...]:
    """The shape that the evaluation data give to input *name*."""
    shapes = fed()
    if name not in shapes:
        raise CaseError(
            f"{case.name}: the lowered model has other inputs than the model", where=lowered,
            expected=", ".join(shapes), found=name, hint="lower the very model that the suite names as onnx",
        )  # fmt: skip
    return shapes[name]


def _of_batch(batch: Batch, rest: Shape) -> ShapeRange:
    whole = tuple(size for size in rest if size is not None)
    low, best, high = batch
    return ShapeRange((low, *whole), (best, *whole), (high, *whole))


def _check(case: Case, name: str, shape: Shape | None, stated: ShapeRange) -> None:
    fits = shape is None or all(
        len(own) == len(shape) and all(size in (None, have) for size, have in zip(shape, own, strict=True))
        for own in (stated.min, stated.opt, stated.max)
    )
    if not fits and shape is not None:
        dims = ", ".join("?" if size is None else str(size) for size in shape)
        raise CaseError(
            f"{case.name}: the profile does not fit input '{name}'", where=case.onnx,
            expected=f"shapes like [{dims}]", found=f"{list(stated.min)} to {list(stated.max)}",
        )  # fmt: skip
