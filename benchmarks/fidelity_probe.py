"""Which formula a GPU's kernels follow, bit for bit: small graphs on ONNX Runtime CUDA against candidates.

    python benchmarks/fidelity_probe.py --json=probe.json --keep=probe    # under a minute on a GPU
    python benchmarks/fidelity_probe.py --provider=cpu                    # here, to see that it runs

`--keep` writes the demo's answers and the tensors of four images into a folder (npz, 7 MB), so that formulas
can be tried on them where there is no GPU.

Every candidate is computed in float64 from the very numbers that the kernel read, and rounded where the
candidate says. What is printed is the share of elements that are equal to the bit, and the largest distance
in steps of FP16. The best candidate stands first.

1. QuantizeLinear of all finite FP16 numbers by FP16 scales, DequantizeLinear of all integers.
2. One node at a time in FP16: convolutions, products, activations, pooling.
3. The demo (INT8, the rest FP16), node by node: each node is fed what the GPU made of the nodes before it.
4. TF32: relative L2 of convolutions and products against each way to round their factors.

Needs numpy, onnx and onnxruntime-gpu.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fidelity_models
import numpy as np
import onnx
import onnxruntime
from fidelity_cases import single_nodes
from fidelity_formulas import CANDIDATES, TF32, Arrays, conv, steps
from fidelity_inputs import scaled
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
FP16, FP32, INT8 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT8
TYPES = {np.dtype(np.float16): FP16, np.dtype(np.float32): FP32, np.dtype(np.int8): INT8}
Row = dict[str, Any]


def session(
    model: onnx.ModelProto, provider: str, *, tf32: bool = False, level: str = "ALL"
) -> onnxruntime.InferenceSession:
    """A session as trtcheck opens it: Q/DQ as written, no search for the algorithm of the day.

    Args:
        model: The graph.
        provider: ``"cuda"`` or ``"cpu"``.
        tf32: Whether FP32 products may read TF32.
        level: ``"ALL"`` optimizations of ONNX Runtime, or ``"NONE"``.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if level == "NONE" else levels.ORT_ENABLE_ALL
    cuda = {"use_tf32": str(int(tf32)), "cudnn_conv_algo_search": "HEURISTIC"}
    providers: list[Any] = ["CPUExecutionProvider"]
    if provider == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


def model_of(nodes: Sequence[onnx.NodeProto], feeds: Arrays, constants: Arrays, made: int) -> onnx.ModelProto:
    """A graph that makes ``y`` of element type *made*; opset 20."""
    inputs = [helper.make_tensor_value_info(k, TYPES[v.dtype], v.shape) for k, v in feeds.items()]
    outputs = [helper.make_tensor_value_info("y", made, None)]
    weights = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph(list(nodes), "probe", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def row(kind: str, name: str, found: np.ndarray, candidates: Mapping[str, np.ndarray]) -> Row:
    """How *found* compares with each candidate, the best first."""
    scores = {}
    for label, expected in candidates.items():
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        far = steps(found, expected) if found.dtype == np.float16 else np.abs(found - expected.astype(int))
        scores[label] = {"equal": float(np.mean(same)), "steps": int(np.max(far, initial=0))}
    best = dict(sorted(scores.items(), key=lambda item: -item[1]["equal"]))
    return {"part": kind, "what": name, "elements": int(found.size), "candidates": best}


def show(one: Row) -> None:
    """Prints a row."""
    told = ", ".join(f"{k} {v['equal']:.6f} ({v['steps']})" for k, v in one["candidates"].items())
    print(f"{one['part']:8} {one['what']:34} {one['elements']:>8}  {told}", flush=True)


def quantizers(provider: str) -> list[Row]:
    """QuantizeLinear and DequantizeLinear of every number there is."""
    rng = np.random.default_rng(1)
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = every[np.isfinite(every)]
    scales = np.unique(np.abs(rng.lognormal(-3, 2, 40)).astype(np.float16))
    rows = []
    integers = np.arange(-128, 128, dtype=np.int8)
    for element in (np.float16, np.float32):
        found, quotient, back, product = [], [], [], []
        for scale in scales:
            own = {"s": np.array(scale, element), "z": np.array(0, np.int8)}
            node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
            feeds = {"x": x.astype(element)}
            found.append(session(model_of([node], feeds, own, INT8), provider).run(None, feeds)[0])
            quotient.append(CANDIDATES["QuantizeLinear"]([feeds["x"], own["s"], own["z"]], {}))
            node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"])
            feeds = {"x": integers}
            made = TYPES[np.dtype(element)]
            back.append(session(model_of([node], feeds, own, made), provider).run(None, feeds)[0])
            product.append(CANDIDATES["DequantizeLinear"]([feeds["x"], own["s"], own["z"]], {}))
        label = np.dtype(element).name
        for name, got, wanted in (("QuantizeLinear", found, quotient), ("DequantizeLinear", back, product)):
            joined = {key: np.concatenate([one[key] for one in wanted]) for key in wanted[0]}
            rows.append(row("q/dq", f"{name} {label}", np.concatenate(got), joined))
    return rows


def nodes(provider: str) -> list[Row]:
    """One node, or a few that may be fused, against the candidates."""
    rows = []
    for name, (graph, feeds, constants, own) in single_nodes().items():
        attributes = {a.name: helper.get_attribute_value(a) for a in graph[0].attribute}
        try:
            found = session(model_of(graph, feeds, constants, FP16), provider).run(None, feeds)[0]
        except Exception as error:  # noqa: BLE001 (a kernel that is missing is a finding too)
            print(f"node     {name:34} not run: {str(error).splitlines()[0][:90]}")
            continue
        candidates = (own or CANDIDATES[graph[0].op_type])([*feeds.values(), *constants.values()], attributes)
        rows.append(row("node", name, found, candidates))
    return rows


def demo(provider: str, folder: Path) -> list[Row]:
    """The demo in INT8 with an FP16 rest: every node fed with what the provider made of those before it."""
    model = onnx.load(fidelity_models.demo().lowered("int8-fp16", folder / "demo.onnx"))
    images = _images(16)
    values = images | {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    values |= exposed(model, images, provider)
    plain = session(model, provider).run(None, images)[0]
    name = model.graph.output[0].name
    print(f"the demo's answers with all tensors exposed are the same: {np.array_equal(plain, values[name])}")
    rows = []
    for node in model.graph.node:
        inputs = [values[name] for name in node.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in CANDIDATES and np.dtype(np.float32) not in {value.dtype for value in inputs}:
            candidates = CANDIDATES[node.op_type](inputs, attributes)
            rows.append(row("demo", f"{node.op_type} {node.name}"[-34:], values[node.output[0]], candidates))
    return rows


def exposed(model: onnx.ModelProto, feeds: Arrays, provider: str) -> Arrays:
    """Every tensor that *model* computes from *feeds*."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: value for value in inferred.graph.value_info}
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.graph.output.extend(known[n] for node in model.graph.node for n in node.output if n in known)
    names = [value.name for value in copy.graph.output]
    return dict(zip(names, session(copy, provider).run(names, feeds), strict=True))


def keep(provider: str, folder: Path) -> None:
    """Writes the demo's answers in each precision, and all tensors of four images, into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    images = _images(10_000)
    answers, tensors = {}, {}
    variants = {"": "ALL", "unoptimized": "NONE"}
    for precision in ("fp32", "tf32", "fp16", "int8-fp16", "int8-fp32"):
        with tempfile.TemporaryDirectory() as place:
            model = onnx.load(fidelity_models.demo().lowered(precision, Path(place) / "demo.onnx"))
        if precision.startswith("int8"):
            onnx.save(model, folder / f"demo.{precision}.onnx")
        for label, level in variants.items():
            opened = session(model, provider, tf32=precision == "tf32", level=level)
            answers[f"{precision}.{label}" if label else precision] = batched(opened, images)
        if precision in ("fp16", "int8-fp16"):
            few = {key: value[:4] for key, value in images.items()}
            tensors |= {f"{precision}:{key}": value for key, value in exposed(model, few, provider).items()}
    np.savez_compressed(folder / "answers.npz", **answers)
    np.savez_compressed(folder / "tensors.npz", **tensors)
    for precision in ("fp16", "int8-fp16"):
        same = np.array_equal(answers[precision], answers[f"{precision}.unoptimized"])
        print(f"the demo in {precision} answers the same without optimizations: {same}")


def _images(count: int) -> Arrays:
    """The demo's first images, as its network reads them."""
    subject = fidelity_models.demo()
    return {subject.feed: scaled(subject.scaling, subject.images[:count])}


def batched(opened: onnxruntime.InferenceSession, images: Arrays) -> np.ndarray:
    """The first output for all *images*, a hundred at a time."""
    ((name, array),) = images.items()
    return np.concatenate(
        [opened.run(None, {name: array[k : k + 100]})[0] for k in range(0, len(array), 100)]
    )


def tf32(provider: str) -> list[Row]:
    """Relative L2 of FP32 products with TF32 switched on against products of rounded factors."""
    rng = np.random.default_rng(3)
    rows = []
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "Gemm 128": ((100, 128), (128, 10), {}),
        "Gemm 2048": ((64, 2048), (2048, 1000), {}),
        "Conv 1x1 64": ((16, 64, 14, 14), (96, 64, 1, 1), {}),
        "Conv 3x3 64": ((16, 64, 14, 14), (64, 64, 3, 3), {"pads": [1] * 4}),
        "Conv 3x3 256": ((4, 256, 14, 14), (256, 256, 3, 3), {"pads": [1] * 4}),
        "Conv 7x7 3": ((4, 3, 64, 64), (64, 3, 7, 7), {"pads": [3] * 4, "strides": [2, 2]}),
        "Conv depthwise 96": ((16, 96, 14, 14), (96, 1, 3, 3), {"pads": [1] * 4, "group": 96}),
    }
    for name, (x, w, attributes) in shapes.items():
        feeds = {"x": rng.standard_normal(x).astype(np.float32)}
        own = {"w": rng.standard_normal(w).astype(np.float32)}
        node = helper.make_node(name.split()[0], ["x", "w"], ["y"], **attributes)
        found = session(model_of([node], feeds, own, FP32), provider, tf32=True).run(None, feeds)[0]
        distances = {}
        for label, rounding in TF32.items():
            a, b = rounding(feeds["x"]).astype(np.float64), rounding(own["w"]).astype(np.float64)
            expected = a @ b if node.op_type == "Gemm" else conv(a, b, **attributes)
            distances[label] = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        best = dict(sorted(distances.items(), key=lambda item: item[1]))
        print(f"tf32     {name:34} {found.size:>8}  " + ", ".join(f"{k} {v:.1e}" for k, v in best.items()))
        rows.append({"part": "tf32", "what": name, "relative_l2": best})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all parts; a part that breaks is told and does not take the others along."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    given = parser.parse_args(argv)
    if given.provider == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    started, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        parts = (quantizers, nodes, lambda provider: demo(provider, Path(folder)), tf32)
        for part in parts:
            made = part(given.provider)
            for one in made:
                if one["part"] != "tf32":
                    show(one)
            rows += made
    if given.keep:
        keep(given.provider, given.keep)
    print(f"{time.perf_counter() - started:.0f} s, onnxruntime {onnxruntime.__version__}, {given.provider}")
    if given.json:
        given.json.write_text(json.dumps({"onnxruntime": onnxruntime.__version__, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
