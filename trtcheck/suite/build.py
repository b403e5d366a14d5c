"""How TensorRT builds and runs the engines of a model: ``profile`` and the table ``tensorrt``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtcheck.case import BuildSpec, ShapeRange
from trtcheck.errors import SuiteError
from trtcheck.given import LARGEST, ascends
from trtcheck.suite.table import Table, number, whole


def read_build(table: Table) -> BuildSpec:
    """The profile, and the table ``tensorrt``."""
    default = BuildSpec()
    batch, shapes = _profile(
        table.get("profile", {}, _PROFILE, lambda v: v if isinstance(v, dict) else None), table
    )
    own = table.table("tensorrt")
    if own is None:
        return BuildSpec(batch=batch, shapes=shapes)

    def flag(name: str) -> bool:
        return own.get(name, False, "true or false", lambda v: v if isinstance(v, bool) else None)

    spec = BuildSpec(
        batch=batch,
        shapes=shapes,
        workspace_mb=own.get(
            "workspace_mb", default.workspace_mb, "a number above 0, in MiB",
            lambda v: float(v) if number(v) and 0 < v <= LARGEST else None,
        ),
        optimization_level=own.get(
            "optimization_level", default.optimization_level, "a whole number from 0 to 5",
            lambda v: v if whole(v, least=0) and v <= 5 else None,
        ),
        tf32=flag("tf32"),
        version_compatible=flag("version_compatible"),
        hardware_compatible=flag("hardware_compatible"),
        plugins=tuple(own.existing("plugins", text) for text in own.texts("plugins", ())),
        cuda_graph=flag("cuda_graph"),
    )  # fmt: skip
    own.finish()
    return spec


_PROFILE = (
    "batch sizes {min = 1, opt = 8, max = 64}, or full shapes by input: "
    "{image = {min = [1, 3, 224, 224], opt = [8, 3, 224, 224], max = [64, 3, 224, 224]}}"
)


def _profile(
    given: Mapping[str, Any], table: Table
) -> tuple[tuple[int, int, int] | None, dict[str, ShapeRange]]:
    """The range of batch sizes, or the shapes by input, that ``profile`` holds."""
    ends = ("min", "opt", "max")
    if not given:
        return None, {}
    if any(whole(value) for value in given.values()):
        complete = set(given) == set(ends) and all(map(whole, given.values()))
        if not complete or not given["min"] <= given["opt"] <= given["max"]:
            raise table.wrong("profile", f"{_PROFILE}; min <= opt <= max")
        return (given["min"], given["opt"], given["max"]), {}
    shapes = {}
    for name, own in given.items():
        read = (
            [_shape(own.get(end)) for end in ends] if isinstance(own, dict) and set(own) == set(ends) else []
        )
        found = [shape for shape in read if shape is not None]
        if len(found) < len(ends) or not ascends(*found):
            raise SuiteError(
                f"{table.at('profile')}.{name} has a wrong value", where=table.path,
                expected=f"{_PROFILE}; min <= opt <= max in every dimension", found=own,
            )  # fmt: skip
        shapes[name] = ShapeRange(*found)
    return None, shapes


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, list) and value and all(map(whole, value)) else None
