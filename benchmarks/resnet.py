"""ResNets with random weights, and pictures that they tell apart: models to time where none is at hand."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SEED = 7
EXTRA = "extra"
"""Name of the block that makes a slower network: its answers stay, its time does not."""


@dataclass(frozen=True)
class Net:
    """A residual network of bottleneck blocks (He et al. 2016, arXiv:1512.03385, table 1).

    Attributes:
        blocks: Blocks of each stage; (3, 4, 6, 3) is ResNet-50.
        width: Channels of the first convolution.
        size: Height and width of an image, in pixels.
        classes: Number of classes.
        extra: Whether the third stage has one block more.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    size: int = 224
    classes: int = 1000
    extra: bool = False


RESNET50 = Net()
TINY = Net(blocks=(1, 1, 2, 1), width=16, size=64, classes=20)


def random(name: str, *shape: int, scale: float) -> np.ndarray:
    """Normal numbers, float32, the same for one name every time."""
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


class _Graph:
    """Nodes and weights, layer by layer."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolution(
        self, x: str, name: str, channels: tuple[int, int], kernel: int, stride: int = 1, scale: float = 1.0
    ) -> str:
        """A convolution by He's initialization with its normalization, whose scale is *scale*."""
        before, after = channels
        he = float(np.sqrt(2 / (before * kernel**2)))
        kernels = self.weight(f"{name}.w", random(name, after, before, kernel, kernel, scale=he))
        pads = [kernel // 2] * 4
        y = self.node("Conv", [x, kernels], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        units = [np.full(after, scale), np.zeros(after), np.zeros(after), np.ones(after)]
        norm = [self.weight(f"{name}.bn{k}", own) for k, own in enumerate(units)]
        return self.node("BatchNormalization", [y, *norm], f"{name}.bn")

    def block(self, x: str, name: str, before: int, inner: int, stride: int, scale: float) -> str:
        """A bottleneck: 1x1, 3x3, 1x1, with a shortcut."""
        after = 4 * inner
        y = self.node("Relu", [self.convolution(x, f"{name}.a", (before, inner), 1)], f"{name}.a.relu")
        y = self.node("Relu", [self.convolution(y, f"{name}.b", (inner, inner), 3, stride)], f"{name}.b.relu")
        y = self.convolution(y, f"{name}.c", (inner, after), 1, scale=scale)
        if (before, stride) != (after, 1):
            x = self.convolution(x, f"{name}.s", (before, after), 1, stride)
        return self.node("Relu", [self.node("Add", [y, x], f"{name}.add")], f"{name}.relu")


def network(net: Net, head: tuple[np.ndarray, np.ndarray] | None = None) -> onnx.ModelProto:
    """The network, of any batch size: ``images`` (N, 3, size, size) to ``scores`` (N, classes).

    Args:
        net: Its shape.
        head: Weights (classes, features) and bias (classes,) of the last layer; None for random ones.
    """
    graph, width = _Graph(), net.width
    x = graph.node("Relu", [graph.convolution("images", "stem", (3, width), 7, 2)], "stem.relu")
    x = graph.node("MaxPool", [x], "stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    before = width
    for stage, blocks in enumerate(net.blocks):
        inner = width * 2**stage
        for number in range(blocks):
            stride = 2 if number == 0 and stage > 0 else 1
            x = graph.block(x, f"{stage}.{number}", before, inner, stride, 0.5)
            before = 4 * inner
        if stage == 2 and net.extra:
            # So little is added that every answer stays: slower, and nothing else.
            x = graph.block(x, EXTRA, before, inner, 1, 0.001)
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x], "pool")], "features")
    weights, bias = head or (random("head", net.classes, before, scale=before**-0.5), np.zeros(net.classes))
    graph.node("Gemm", [x, graph.weight("head.w", weights), graph.weight("head.b", bias)], "scores", transB=1)
    image, scores = ["N", 3, net.size, net.size], ["N", net.classes]
    made = helper.make_graph(
        graph.nodes, "resnet",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores)],
        graph.weights,
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures(count: int, size: int) -> np.ndarray:
    """Patches of colour of every coarseness, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(SEED)
    made = np.empty((count, size, size, 3), np.uint8)
    for k in range(count):
        cells = int(rng.integers(1, 17))
        patch = rng.normal(rng.uniform(60, 200, 3), rng.uniform(10, 90, 3), (cells, cells, 3))
        rows = np.arange(size) * cells // size
        made[k] = np.clip(patch[rows][:, rows], 0, 255)
    return made


SCALE, MEAN, STD = 1 / 255, 0.5, 0.25
"""How the pictures become inputs: ``(pixel * SCALE - MEAN) / STD``."""


@dataclass(frozen=True)
class Written:
    """Files of a network with its evaluation data.

    Attributes:
        onnx: The network.
        slower: The same with one block more in its third stage.
        data: ``images`` uint8 and ``labels``, which are the network's own answers.
    """

    onnx: Path
    slower: Path
    data: Path


def write(net: Net, folder: Path, images: int) -> Written:
    """Writes a network that tells pictures apart, a slower one that answers the same, and pictures.

    Random features hardly depend on the picture, so the last layer is scaled to have mean 0 and deviation 1
    in every class over four times as many pictures; those are kept whose answer is the clearest.
    """
    candidates = pictures(4 * images, net.size)
    raw = answers(network(net), candidates)
    mean, deviation = raw.mean(axis=0), raw.std(axis=0)
    features = 4 * net.width * 2 ** (len(net.blocks) - 1)
    weights = random("head", net.classes, features, scale=features**-0.5)
    head = weights / deviation[:, None], -mean / deviation
    scores = (raw - mean) / deviation
    ordered = np.sort(scores, axis=1)
    kept = np.sort(np.argsort(ordered[:, -2] - ordered[:, -1])[:images])
    written = Written(folder / "resnet.onnx", folder / "slower.onnx", folder / "eval.npz")
    onnx.save(network(net, head), written.onnx)
    onnx.save(network(replace(net, extra=True), head), written.slower)
    labels = scores[kept].argmax(axis=1)
    np.savez_compressed(written.data, images=candidates[kept], labels=labels)
    return written


def answers(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Scores (N, classes) of *images* in ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = []
    for start in range(0, len(images), 32):
        batch = (images[start : start + 32].astype(np.float32) * SCALE - MEAN) / STD
        found.append(session.run(None, {"images": batch.transpose(0, 3, 1, 2).astype(np.float32)})[0])
    return np.concatenate(found)
