"""The check ``build``: what was asked is what was built, in numbers and names, and not too large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_evaluation import CASE

from trtcheck import engine_check
from trtcheck.backends.base import BuiltEngine
from trtcheck.case import Case, EngineSpec, Gates, Numerics, Outcome, Precision, Verdict
from trtcheck.errors import EngineError, TrtcheckError

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def built(facts: dict[str, Any], **changed: Any) -> BuiltEngine:
    known = {
        "path": Path("engine.onnx"), "lowered_path": Path("model.onnx"), "backend": "onnxruntime-cpu",
        "cached": False, "numerics": Numerics.EMULATED, "lowered": {},
    }  # fmt: skip
    return BuiltEngine(facts=facts, **{**known, **changed})


def check(
    asked: str,
    facts: dict[str, Any],
    *,
    gates: Gates | None = None,
    beside: BuiltEngine | TrtcheckError | None = None,
    **changed: Any,
) -> Outcome:
    case = Case(name=CASE.name, onnx=CASE.onnx, data=CASE.data, gates=gates or Gates())
    spec = (
        EngineSpec(asked, Precision(asked))
        if asked in list(Precision)
        else EngineSpec("x", None, Path(asked))
    )
    return engine_check.build(case, spec, built({"nodes": 9, "types": {}, **facts}, **changed), beside)


@pytest.mark.parametrize(
    ("precision", "computes", "verdict"),
    [
        ("fp16", {"a": "fp16", "b": "fp16"}, PASS),
        ("fp16", {"a": "fp16", "b": "fp32"}, FAIL),
        ("fp16", {"a": "fp32"}, FAIL),
        ("fp16", {"a": "bf16"}, FAIL),
        ("fp16", {"a": "int8"}, FAIL),
        ("bf16", {"a": "bf16"}, PASS),
        ("bf16", {"a": "fp16"}, FAIL),
        ("int8", {"a": "int8", "b": "int8"}, PASS),
        ("int8", {"a": "int8", "b": "fp16"}, FAIL),
        ("fp32", {"a": "fp32"}, PASS),
        ("fp32", {"a": "tf32"}, FAIL),
        ("fp32", {"a": "fp16", "b": "fp32"}, FAIL),
        ("tf32", {"a": "tf32"}, PASS),
        ("tf32", {"a": "fp32"}, FAIL),
    ],
)
def test_every_product_must_compute_in_what_was_asked(precision, computes, verdict):
    outcome = check(precision, {"computes": computes})
    assert outcome.verdict is verdict
    if verdict is FAIL:
        others = {node: found for node, found in computes.items() if found != precision}
        assert f"{precision} was asked for, but {len(others)} of {len(computes)} nodes" in outcome.message
        assert all(f"'{node}' in {found}" in outcome.message for node, found in others.items())


def test_what_is_stated_may_stay_wide():
    computes = {"a": "int8", "head/b": "fp16", "c[0]": "fp16"}
    kept = {"kept": [{"node": "c[0]", "op": "MatMul", "reason": "excluded"}]}
    assert check("int8", {"computes": computes}, lowered={**kept, "exclude": ["head/*"]}).verdict is PASS
    left = check("int8", {"computes": computes}, lowered=kept)
    assert left.verdict is FAIL
    assert "1 of 3 nodes" in left.message
    assert "'head/b' in fp16" in left.message


def test_what_the_model_itself_computes_in_fp64_is_not_asked_for():
    assert check("fp16", {"computes": {"a": "fp16", "b": "fp64"}}).verdict is PASS
    assert check("fp32", {"computes": {"a": "fp32", "b": "fp64"}}).verdict is PASS


def test_what_stays_wide_is_told_with_the_reason():
    kept = [{"node": name, "op": "Gemm", "reason": "is inside 'If_32'"} for name in ("b", "c")]
    computes = {"a": "fp16", "b": "fp32", "c": "fp32", "d": "fp32"}
    notes = check("fp16", {"computes": computes}, lowered={"kept": kept, "exclude": ["d"]}).notes
    assert notes[-1] == (
        "3 of 4 nodes (Conv, ConvTranspose, MatMul and Gemm) compute in another precision: "
        "'b', 'c' (is inside 'If_32'); 'd' (excluded)"
    )


def test_an_engine_of_exceptions_alone_is_not_what_was_asked():
    outcome = check("fp16", {"computes": {"a": "fp32"}}, lowered={"exclude": ["*"]})
    assert outcome.verdict is FAIL
    assert outcome.message.endswith(
        "none of 1 nodes (Conv, ConvTranspose, MatMul and Gemm) computes in it: 'a' (excluded)"
    )


def test_many_wide_nodes_are_counted_and_some_named():
    computes = {f"n{k}": "fp32" for k in range(40)} | {"last": "fp16"}
    message = check("fp16", {"computes": computes}).message
    assert "40 of 41 nodes" in message
    assert message.endswith("'n4' in fp32 and 35 more")


@pytest.mark.parametrize(
    ("precision", "types", "verdict"),
    [
        ("fp16", {"FLOAT16": 5, "FLOAT": 1}, PASS), ("fp16", {"FLOAT": 6}, FAIL), ("fp16", {}, FAIL),
        ("fp16", {"BFLOAT16": 6}, FAIL), ("bf16", {"BFLOAT16": 6}, PASS), ("bf16", {"FLOAT16": 6}, FAIL),
        ("int8", {"quantized": 3, "FLOAT16": 9}, PASS), ("int8", {"quantized": 0, "FLOAT16": 9}, FAIL),
        ("fp32", {"FLOAT": 6}, PASS), ("fp32", {"FLOAT": 6, "FLOAT16": 1}, FAIL),
        ("fp32", {"quantized": 1}, FAIL), ("tf32", {"FLOAT": 6}, PASS), ("tf32", {"BFLOAT16": 6}, FAIL),
    ],
)  # fmt: skip
def test_where_nothing_multiplies_the_nodes_decide(precision, types, verdict):
    outcome = check(precision, {"types": types})
    assert outcome.verdict is verdict
    if verdict is FAIL:
        assert f"{precision} was asked for, but" in outcome.message
        assert all(f"{count} {name}" in outcome.message for name, count in types.items() if count)


def test_a_file_is_taken_as_it_is():
    outcome = check(
        "shipped.onnx", {"nodes": 5, "types": {"FLOAT": 3, "FLOAT16": 2}, "engine_bytes": 2_500_000}
    )
    assert outcome.verdict is PASS
    assert outcome.message == ("x engine for onnxruntime-cpu built now: 5 nodes (3 FLOAT, 2 FLOAT16), 2.5 MB")


def test_how_answers_come_about_is_noted():
    notes = {"lowered": {"notes": ["2 nodes stayed wide"]}, "notes": ("slow",)}
    emulated = check("fp16", {"types": {"FLOAT16": 1}}, **notes)
    assert emulated.notes == (engine_check.EMULATED, "2 nodes stayed wide", "slow")
    assert check("tf32", {"computes": {"a": "tf32"}}).notes == (engine_check.EMULATED_TF32,)
    native, ours = {"numerics": Numerics.NATIVE}, {"lowered": {"made_by": "trtcheck"}}
    wide = {"types": {"FLOAT": 1}}
    assert check("fp32", wide, **native, **ours).notes == (engine_check.SHARED_PROVIDER,)
    assert check("fp32", wide, **native, lowered={"made_by": "elsewhere"}).notes == ()
    assert check("fp32", wide, **native, **ours, backend="tensorrt").notes == ()
    assert check("x.onnx", wide, **native).notes == ()


@pytest.mark.parametrize(("limit", "verdict"), [(2.4, FAIL), (2.5, PASS)])
def test_the_engine_s_size_is_gated(limit, verdict):
    outcome = check(
        "fp16", {"computes": {"a": "fp16"}, "engine_bytes": 2_500_000}, gates=Gates(engine_mb=limit)
    )
    assert outcome.verdict is verdict
    if verdict is FAIL:
        assert outcome.message == "the engine's file takes 2.5 MB, limit engine_mb = 2.4"


def test_memory_that_nobody_measured_passes_no_limit():
    outcome = check("fp16", {"computes": {"a": "fp16"}, "memory_bytes": None}, gates=Gates(memory_mb=5))
    assert outcome.verdict is INCONCLUSIVE
    assert (
        "memory_mb cannot be judged: its device memory is not known here (onnxruntime-cpu)" in outcome.message
    )
    known = check("fp16", {"computes": {"a": "fp16"}, "memory_bytes": 6_000_000}, gates=Gates(memory_mb=5))
    assert known.verdict is FAIL


ON_GPU = {"computes": {"a": "fp16"}, "providers": {"CUDAExecutionProvider": 9}, "on_cpu": {}}
SPLIT = {
    **ON_GPU, "on_cpu": {"Conv": 1, "NonZero": 2, "Gather": 2},
    "providers": {"CUDAExecutionProvider": 4, "CPUExecutionProvider": 5},
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "limit", "verdict"), [(ON_GPU, 0, PASS), (SPLIT, 5, PASS), (SPLIT, 4, FAIL), (SPLIT, 0, FAIL)]
)
def test_nodes_that_onnxruntime_leaves_to_the_cpu_are_gated(facts, limit, verdict):
    outcome = check("fp16", facts, gates=Gates(cpu_nodes=limit), backend="onnxruntime-cuda")
    assert outcome.verdict is verdict
    told = f"5 nodes run on the CPU (2 Gather, 2 NonZero, 1 Conv), limit cpu_nodes = {limit}"
    assert (outcome.message == told) is (verdict is FAIL)
    assert not any("cpu_nodes" in note for note in outcome.notes)
    assert check("fp16", facts, backend="onnxruntime-cuda").verdict is PASS


def test_of_many_operators_on_the_cpu_the_most_frequent_are_told():
    many = {**SPLIT, "on_cpu": {f"Op{k}": k for k in range(1, 12)}}
    outcome = check("fp16", many, gates=Gates(cpu_nodes=0), backend="onnxruntime-cuda")
    assert "66 nodes run on the CPU (11 Op11, 10 Op10, " in outcome.message
    assert "4 Op4 and 6 of other operators)" in outcome.message


def test_a_backend_without_placement_is_not_judged_by_it_and_says_so():
    facts = {"computes": {"a": "fp16"}}
    outcome = check("fp16", facts, gates=Gates(cpu_nodes=0), backend="tensorrt")
    assert outcome.verdict is PASS
    assert outcome.notes[-1].startswith("cpu_nodes = 0 does not apply: tensorrt leaves no nodes to another")


def test_a_placement_that_onnxruntime_does_not_tell_passes_no_limit():
    facts = {**ON_GPU, "providers": {}}
    outcome = check("fp16", facts, gates=Gates(cpu_nodes=0), backend="onnxruntime-cuda")
    assert outcome.verdict is INCONCLUSIVE
    assert "cpu_nodes cannot be judged: this onnxruntime-cuda does not tell" in outcome.message


def test_what_tensorrt_built_beside_is_judged_too():
    facts = {"computes": {"a": "fp16"}, "engine_bytes": 10}
    rtx = built({"nodes": 3, "computes": {"a": "fp16"}}, backend="tensorrt-rtx", notes=("rtx said",))
    outcome = check("fp16", facts, beside=rtx)
    assert outcome.verdict is PASS
    assert "fp16 engine for tensorrt-rtx built now: 3 layers, not run on this machine" in outcome.message
    assert "tensorrt-rtx: rtx said" in outcome.notes
    assert outcome.measured["beside"]["backend"] == "tensorrt-rtx"
    wide = check("fp16", facts, beside=built({"computes": {"a": "fp32"}}, backend="tensorrt-rtx"))
    assert wide.verdict is FAIL
    assert wide.message.startswith("tensorrt-rtx: fp16 was asked for, but 1 of 1 nodes")


@pytest.mark.parametrize(("limit", "verdict"), [(2.4, FAIL), (2.5, PASS)])
def test_the_size_that_counts_is_that_of_the_engine_built_beside(limit, verdict):
    facts = {"computes": {"a": "fp16"}}
    rtx = built({**facts, "engine_bytes": 2_500_000, "memory_bytes": None}, backend="tensorrt-rtx")
    emulated = {**facts, "engine_bytes": 9_000_000, "memory_bytes": 1}
    outcome = check("fp16", emulated, beside=rtx, gates=Gates(engine_mb=limit))
    assert outcome.verdict is verdict
    said = "tensorrt-rtx: the engine's file takes 2.5 MB, limit engine_mb = 2.4"
    assert (outcome.message == said) is (verdict is FAIL)
    unknown = check("fp16", emulated, beside=rtx, gates=Gates(memory_mb=5))
    assert unknown.verdict is INCONCLUSIVE
    assert "not known here (tensorrt-rtx)" in unknown.message


def test_a_model_that_tensorrt_refuses_fails():
    outcome = check("fp16", {"computes": {"a": "fp16"}}, beside=EngineError("no such operator 'Foo'"))
    assert outcome.verdict is FAIL
    assert outcome.message == "built for TensorRT as well: no such operator 'Foo'"


def test_a_broken_tensorrt_besides_is_a_note():
    outcome = check("fp16", {"computes": {"a": "fp16"}}, beside="TensorRT for RTX cannot be loaded")
    assert outcome.verdict is PASS
    assert outcome.notes[-1] == "not built for TensorRT as well: TensorRT for RTX cannot be loaded"
