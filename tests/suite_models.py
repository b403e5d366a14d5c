"""Tiny real models with data to evaluate them on, for the tests of the plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("left", "right", "dim", "bright")
SIZE = 8
HALVES = np.array([[0.9, 0.1], [0.1, 0.9], [0.35, 0.35], [0.9, 0.9]], np.float32)
"""Brightness of the left and the right half of an image of each class."""

FLOAT, FLOAT16, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    weights: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    """A model from nodes, inputs and outputs (element type and shape by name) and weights by name."""
    graph = helper.make_graph(
        list(nodes), "suite",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def classifier(*, batch: int | str = "N", blind: float = 0.0) -> onnx.ModelProto:
    """Tells the classes by the nearest of their mean halves: convolution, Relu, Flatten, Gemm.

    Args:
        batch: Batch size; a name leaves it open.
        blind: Taken off the score of ``bright``, which then loses recall.
    """
    return _classifier([], "halves", batch, blind)


def overflowing() -> onnx.ModelProto:
    """The same, but squares of 1000 times its features on the way: up to 8e5, beyond FP16."""
    detour = [
        helper.make_node("Mul", ["halves", "thousand"], ["boosted"], name="boost"),
        helper.make_node("Mul", ["boosted", "boosted"], ["squared"], name="square"),
        helper.make_node("Sqrt", ["squared"], ["rooted"], name="root"),
        helper.make_node("Mul", ["rooted", "thousandth"], ["calmed"], name="calm"),
    ]
    return _classifier(detour, "calmed", "N", 0.0)


def laboured(layers: int = 6, channels: int = 64) -> onnx.ModelProto:
    """The classifier's answers after much more work: convolutions whose result is nothing."""
    wide = np.zeros((channels, channels, 3, 3), np.float32)
    nodes = [helper.make_node("Conv", ["images", "first"], ["work0"], name="work0", pads=[1, 1, 1, 1])]
    nodes += [
        helper.make_node("Conv", [f"work{k}", "wide"], [f"work{k + 1}"], name=f"work{k + 1}", pads=[1] * 4)
        for k in range(layers)
    ]
    nodes += [
        helper.make_node("ReduceMean", [f"work{layers}"], ["nothing"], name="mean", axes=[1, 2, 3]),
        helper.make_node("Add", ["halves", "nothing"], ["calmed"], name="add"),
    ]
    made = _classifier(nodes, "calmed", "N", 0.0)
    extra = {"first": np.zeros((channels, 1, 3, 3), np.float32), "wide": wide}
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in extra.items())
    return made


def _classifier(
    detour: Sequence[onnx.NodeProto], features: str, batch: int | str, blind: float
) -> onnx.ModelProto:
    kernels = np.zeros((2, 1, SIZE, SIZE), np.float32)
    kernels[0, :, :, : SIZE // 2] = kernels[1, :, :, SIZE // 2 :] = 2 / SIZE**2
    bias = -0.5 * (HALVES**2).sum(axis=1)
    bias[3] -= blind
    nodes = [
        helper.make_node("Conv", ["images", "kernels"], ["means"], name="match"),
        helper.make_node("Relu", ["means"], ["halves"], name="relu"),
        *detour,
        helper.make_node("Flatten", [features], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "centres", "bias"], ["scores"], name="compare", transB=1),
    ]
    weights = {"kernels": kernels, "centres": HALVES, "bias": bias}
    if detour:
        weights |= {"thousand": np.float32(1000), "thousandth": np.float32(0.001)}
    return model(
        nodes,
        {"images": (FLOAT, [batch, 1, SIZE, SIZE])},
        {"scores": (FLOAT, [batch, len(CLASSES)])},
        weights,
    )


def images(count: int = 240, seed: int = 0, noise: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 8, 8) and labels int64 (N,), as many of every class; some are noisy beyond telling."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    halves = HALVES[labels] + rng.normal(0, 0.12, (count, 2))
    pixels = np.repeat(halves, SIZE // 2, axis=1)[:, None, :] * 255 + rng.normal(
        0, noise, (count, SIZE, SIZE)
    )
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def arrays(count: int = 240) -> dict[str, np.ndarray]:
    """The same by the names that an archive has them under."""
    return dict(zip(("images", "labels"), images(count), strict=True))


def sums(*, kind: int = TensorProto.INT64, length: int = 7) -> onnx.ModelProto:
    """Integer input (N, 7) -> scores of ``low`` and ``high``: whether the sum of the row is above 35."""
    weights = np.stack([-np.ones(length), np.ones(length)], axis=1).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["tokens"], ["numbers"], name="cast", to=FLOAT),
        helper.make_node("MatMul", ["numbers", "weights"], ["sums"], name="sum"),
        helper.make_node("Add", ["sums", "offset"], ["scores"], name="compare"),
    ]
    return model(
        nodes,
        {"tokens": (kind, ["N", length])},
        {"scores": (FLOAT, ["N", 2])},
        {"weights": weights, "offset": np.array([5.0 * length, -5.0 * length], np.float32)},
    )


def colours() -> onnx.ModelProto:
    """Images (N, 3, 8, 8) to the scores of three classes: how much there is of each channel."""
    kernels = np.zeros((3, 3, SIZE, SIZE), np.float32)
    kernels[range(3), range(3)] = 1 / SIZE**2
    nodes = [
        helper.make_node("Conv", ["images", "kernels"], ["means"], name="mean"),
        helper.make_node("Relu", ["means"], ["positive"], name="relu"),
        helper.make_node("Flatten", ["positive"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "weights"], ["scores"], name="compare"),
    ]
    return model(
        nodes, {"images": (FLOAT, ["N", 3, SIZE, SIZE])}, {"scores": (FLOAT, ["N", 3])},
        {"kernels": kernels, "weights": 4 * np.eye(3, dtype=np.float32)},
    )  # fmt: skip


def two_inputs() -> onnx.ModelProto:
    """Image and a number each -> the classifier's scores times that number."""
    base = classifier()
    base.graph.node[-1].output[0] = "plain"
    base.graph.node.append(helper.make_node("Mul", ["plain", "weight"], ["scores"], name="weigh"))
    base.graph.input.append(helper.make_tensor_value_info("weight", FLOAT, ["N", 1]))
    return base


def regressor() -> onnx.ModelProto:
    """An image to one number each: nothing that classes could be told by."""
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["sum"], name="sum"),
        helper.make_node("Flatten", ["sum"], ["level"], name="flatten"),
    ]
    kernel = np.full((1, 1, SIZE, SIZE), 1 / SIZE**2, np.float32)
    return model(
        nodes, {"images": (FLOAT, ["N", 1, SIZE, SIZE])}, {"level": (FLOAT, ["N", 1])}, {"kernel": kernel}
    )


def foreign_fp16(*, narrow: bool = True) -> onnx.ModelProto:
    """The classifier as another tool makes it FP16, with casts at both ends; FP32 inside if not *narrow*."""
    base = classifier()
    if not narrow:
        return base
    for weight in base.graph.initializer:
        weight.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name)
        )
    base.graph.node[0].input[0] = "images_fp16"
    base.graph.node[-1].output[0] = "scores_fp16"
    enter = helper.make_node("Cast", ["images"], ["images_fp16"], name="enter", to=FLOAT16)
    leave = helper.make_node("Cast", ["scores_fp16"], ["scores"], name="leave", to=FLOAT)
    nodes = [enter, *base.graph.node, leave]
    del base.graph.node[:]
    base.graph.node.extend(nodes)
    return base


def save(made: onnx.ModelProto, path: Path) -> Path:
    """Writes *made* to *path*."""
    onnx.save(made, path)
    return path
