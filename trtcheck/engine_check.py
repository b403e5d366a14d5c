"""The check ``build``: whether the engine that was built is the engine that was asked for, and its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from trtcheck.case import Check, EngineKind, Gates, Numerics, Outcome, Precision, Verdict, worst
from trtcheck.errors import TrtcheckError
from trtcheck.names import listed

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.case import Case, EngineSpec

SHARED_PROVIDER = (
    "FP32 on the CPU runs on the same provider as the reference: this tests trtcheck's own lowering, "
    "not an engine"
)
EMULATED = "emulated: computed in FP32, rounded to the asked-for type as ONNX Runtime's CUDA kernels do"
EMULATED_TF32 = "emulated: computed in FP32, the factors of every product rounded to TF32"
RECORDED = "recorded: answers of another device, read from a file; this machine computed none of them"

_MB = 1e6
_NARROW_TYPES = {Precision.FP16: "FLOAT16", Precision.BF16: "BFLOAT16", Precision.INT8: "quantized"}


def gates_record(gates: Gates) -> dict[str, Any]:
    """The limits, JSON-ready."""
    return {name: _plain(value) for name, value in asdict(gates).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def numerics_note(
    numerics: Numerics, backend: str, precision: Precision | None, made_by: str | None
) -> tuple[str, ...]:
    """What a reader must know of how the answers came about.

    Args:
        numerics: How they did.
        backend: Name of the backend.
        precision: The precision that was asked for.
        made_by: Who lowered the model.
    """
    if numerics is Numerics.EMULATED:
        return (EMULATED_TF32 if precision is Precision.TF32 else EMULATED,)
    if numerics is Numerics.RECORDED:
        return (RECORDED,)
    own = precision is Precision.FP32 and made_by == "trtcheck" and backend == "onnxruntime-cpu"
    return (SHARED_PROVIDER,) if own else ()


def build(
    case: Case,
    engine: EngineSpec,
    built: BuiltEngine,
    beside: BuiltEngine | TrtcheckError | str | None = None,
) -> Outcome:
    """Whether the engine that was built is the engine that was asked for, and no larger than allowed.

    Args:
        case: The case.
        engine: What was asked for.
        built: The engine that runs.
        beside: The TensorRT engine that was built although it cannot run here, what failed when it was built,
            or the reason why nothing was.
    """
    # The limits are a TensorRT engine's, where there is one: the emulated graph is no measure of its size.
    also = beside if beside is not None and not isinstance(beside, TrtcheckError | str) else None
    sized = also or built
    where = f"{sized.backend}: " if also else ""
    too_large = [where + text for text in _too_large(case.gates, sized)]
    left, unplaced, not_placed = _placement(case.gates, built)
    failures = [text for text in (_not_as_asked(engine.precision, built), left, *too_large) if text]
    unknown = [*_unmeasured(case.gates, sized), *unplaced]
    told = [*unknown, _described(engine, built)]
    notes = [*built.notes, *not_placed]
    if isinstance(beside, TrtcheckError):
        failures.append(f"built for TensorRT as well: {beside}")
    if isinstance(beside, str):
        notes.append(f"not built for TensorRT as well: {beside}")
    if also is not None:
        wrong = _not_as_asked(engine.precision, also)
        if wrong:
            failures.append(f"{also.backend}: {wrong}")
        told.append(f"{_described(engine, also)}, not run on this machine")
        notes += [f"{also.backend}: {note}" for note in also.notes]
    verdict = worst(
        (Verdict.FAIL if failures else Verdict.PASS, Verdict.INCONCLUSIVE if unknown else Verdict.PASS)
    )
    return Outcome(
        model=case.name, engine=engine.name, check=Check.BUILD, verdict=verdict,
        message="; ".join(failures or told), numerics=built.numerics,
        measured={
            "backend": built.backend, "cached": built.cached, "facts": dict(built.facts),
            "lowered": dict(built.lowered),
            "gates": gates_record(case.gates),
            "beside": None
            if also is None
            else {"backend": also.backend, "cached": also.cached, "facts": dict(also.facts)},
        },
        notes=(
            *numerics_note(built.numerics, built.backend, engine.precision, built.lowered.get("made_by")),
            *built.lowered.get("notes", ()), *_exceptions(engine.precision, built), *notes,
        ),
    )  # fmt: skip


def _described(engine: EngineSpec, built: BuiltEngine) -> str:
    facts = built.facts
    if built.numerics is Numerics.RECORDED:
        return f"{engine.name}: recorded answers for {facts['images']} images"
    state = "from the cache" if built.cached else "built now"
    if engine.kind is EngineKind.ENGINE:
        state = "built elsewhere"
    size = f", {facts['engine_bytes'] / _MB:.3g} MB" if "engine_bytes" in facts else ""
    return (
        f"{engine.name} engine for {built.backend} {state}: {facts.get('nodes', 0)} {_content(built)}{size}"
    )


def _content(built: BuiltEngine) -> str:
    types: Mapping[str, int] = built.facts.get("types", {})
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(types.items()) if count)
    return f"nodes ({kinds})" if kinds else "layers"


def _products(built: BuiltEngine) -> dict[str, str]:
    """What each product computes in; what the model itself computes in FP64 nobody can ask for."""
    asked = set(Precision)
    return {node: found for node, found in built.facts.get("computes", {}).items() if found in asked}


def _not_as_asked(precision: Precision | None, built: BuiltEngine) -> str | None:
    """A sentence if what multiplies does not compute in the precision that was asked for."""
    if precision is None:
        return None
    computes = _products(built)
    if not computes:
        return _no_products(precision, built.facts.get("types", {}))
    differ = {node: found for node, found in computes.items() if found != precision.value}
    stated = _stated(differ, built.lowered)
    others = {node: found for node, found in differ.items() if node not in stated}
    if len(differ) < len(computes) and not others:
        return None
    if not others:
        why = "; ".join(_reasons(stated))
        none = f"none of {len(computes)} nodes ({_KINDS}) computes in it"
        return f"{precision.value} was asked for, but {none}: {why}"
    named = ", ".join(f"'{node}' in {found}" for node, found in list(others.items())[:_TOLD])
    more = f" and {len(others) - _TOLD} more" if len(others) > _TOLD else ""
    return (
        f"{precision.value} was asked for, but {len(others)} of {len(computes)} nodes ({_KINDS}) compute in "
        f"another precision: {named}{more}"
    )


_KINDS = "Conv, ConvTranspose, MatMul and Gemm"
_TOLD = 5


def _exceptions(precision: Precision | None, built: BuiltEngine) -> tuple[str, ...]:
    """A note on the products that compute in another precision for a stated reason."""
    if precision is None:
        return ()
    computes = _products(built)
    differ = [node for node, found in computes.items() if found != precision.value]
    reasons = _reasons(_stated(differ, built.lowered))
    if not reasons:
        return ()
    told = "; ".join(reasons)
    return (f"{len(differ)} of {len(computes)} nodes ({_KINDS}) compute in another precision: {told}",)


def _stated(nodes: Iterable[str], lowered: Mapping[str, Any]) -> dict[str, str]:
    """Why *nodes* compute in another precision, where that is stated: kept with a reason, or excluded."""
    kept = {entry["node"]: str(entry["reason"]) for entry in lowered.get("kept", ())}
    patterns = lowered.get("exclude", ())
    return {
        node: kept.get(node, "excluded")
        for node in nodes
        if node in kept or any(fnmatchcase(node, pattern) for pattern in patterns)
    }


def _reasons(stated: Mapping[str, str]) -> list[str]:
    """The stated reasons, each with some of its nodes by name."""
    nodes: dict[str, list[str]] = {}
    for node, reason in stated.items():
        nodes.setdefault(reason, []).append(node)
    told = [f"{listed(names, 3)} ({reason})" for reason, names in nodes.items()]
    return told if len(told) <= _TOLD else [*told[:_TOLD], f"{len(told) - _TOLD} more reasons"]


def _no_products(precision: Precision, types: Mapping[str, int]) -> str | None:
    """The same for an engine in which nothing multiplies: its nodes are looked at."""
    found = ", ".join(f"{count} {name}" for name, count in sorted(types.items()) if count)
    narrow = [name for name in _NARROW_TYPES.values() if types.get(name)]
    if precision in (Precision.FP32, Precision.TF32):
        return (
            f"{precision.value} was asked for, but nodes compute in a narrower type ({found})"
            if narrow
            else None
        )
    if types.get(_NARROW_TYPES[precision]):
        return None
    return f"{precision.value} was asked for, but no node of the engine computes in it (found: {found})"


_SIZES = (
    ("engine_mb", "engine_bytes", "the engine's file"),
    ("memory_mb", "memory_bytes", "its device memory"),
)


def _too_large(gates: Gates, built: BuiltEngine) -> list[str]:
    found = []
    for gate, fact, what in _SIZES:
        limit, size = getattr(gates, gate), built.facts.get(fact)
        if limit is not None and size is not None and size > limit * _MB:
            found.append(f"{what} takes {size / _MB:.3g} MB, limit {gate} = {limit:g}")
    return found


def _placement(gates: Gates, built: BuiltEngine) -> tuple[str | None, list[str], list[str]]:
    """What the limit ``cpu_nodes`` says of where nodes run.

    Returns:
        What fails, what nobody could measure, and a note where the limit does not apply.
    """
    limit, providers = gates.cpu_nodes, built.facts.get("providers")
    if limit is None:
        return None, [], []
    if providers is None:
        why = f"{built.backend} leaves no nodes to another provider, or does not tell"
        return None, [], [f"cpu_nodes = {limit} does not apply: {why}"]
    if not providers:
        return None, [f"cpu_nodes cannot be judged: this {built.backend} does not tell where nodes run"], []
    on_cpu: Mapping[str, int] = built.facts["on_cpu"]
    total = sum(on_cpu.values())
    if total <= limit:
        return None, [], []
    by_count = sorted(on_cpu.items(), key=lambda entry: (-entry[1], entry[0]))
    told = ", ".join(f"{count} {operator}" for operator, count in by_count[:_OPERATORS])
    if len(by_count) > _OPERATORS:
        told += f" and {sum(count for _, count in by_count[_OPERATORS:])} of other operators"
    return f"{total} nodes run on the CPU ({told}), limit cpu_nodes = {limit}", [], []


_OPERATORS = 8


def _unmeasured(gates: Gates, built: BuiltEngine) -> list[str]:
    """Limits that nothing could be held against: a pass would say what nobody measured."""
    return [
        f"{gate} cannot be judged: {what} is not known here ({built.backend})"
        for gate, fact, what in _SIZES
        if getattr(gates, gate) is not None and built.facts.get(fact) is None
    ]
