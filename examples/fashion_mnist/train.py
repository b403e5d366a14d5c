"""Train the demo classifier of trtcheck and write its model and image files.

A small MobileNet-v3-style network (inverted residual blocks with depthwise
convolutions, BatchNorm and hard-swish) learns Fashion-MNIST on the CPU.
Written to --out:

    model.onnx       "image" float32 [batch,1,28,28] -> "logits" [batch,10]
    eval.npz         the 10 000 test images (uint8) and labels, in order
    calibration.npz  1000 training images (100 a class, seeded) and labels

Preprocessing is not part of the graph: the input is (pixel/255 - 0.286)/0.353.

Needs: torch, onnx, onnxruntime, numpy.  Usage: python train.py [--epochs 12]
"""

from __future__ import annotations

import argparse
import gzip
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

SEED = 20240917
MEAN, STD = 0.286, 0.353
CALIBRATION_PER_CLASS = 100
# Expanded channels, output channels, depthwise kernel, stride. The first block is fused: one 3x3 convolution
# in place of expansion and depthwise. Over a nearly constant background a depthwise layer has channels whose
# variance is close to nothing, and their folded weights are what eight bits hold worst.
BLOCKS = [(64, 32, 3, 2), (128, 32, 3, 1), (128, 48, 5, 2), (192, 48, 5, 1), (192, 48, 5, 1)]
HEAD = 256
EPSILON = 1e-3  # of BatchNorm: bounds the folded weights of channels that hardly vary
NOISE = 0.05  # on the normalised images of the training: gain, offset and pixels; quantization is noise, too


class ConvBN(nn.Sequential):
    """Convolution, BatchNorm and (unless linear) hard-swish."""

    def __init__(
        self, cin: int, cout: int, k: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=EPSILON)
        if act:
            self.act = nn.Hardswish()


class FusedBlock(nn.Sequential):
    """Expand with a strided 3x3 convolution, project 1x1."""

    def __init__(self, cin: int, hidden: int, cout: int, k: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvBN(cin, hidden, k, stride)
        self.project = ConvBN(hidden, cout, 1, act=False)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, project 1x1; identity shortcut if shapes agree."""

    def __init__(self, cin: int, hidden: int, cout: int, k: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvBN(cin, hidden, 1)
        self.depthwise = ConvBN(hidden, hidden, k, stride, groups=hidden)
        self.project = ConvBN(hidden, cout, 1, act=False)
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """The block's answer, shortcut added."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class FashionNet(nn.Module):
    """Stem, one fused and four inverted residual blocks, 1x1 head convolution, average pool, linear."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        width = 16
        self.stem = ConvBN(1, width, 3)
        blocks: list[nn.Module] = []
        for index, (hidden, cout, k, stride) in enumerate(BLOCKS):
            block = FusedBlock if index == 0 else InvertedResidual
            blocks.append(block(width, hidden, cout, k, stride))
            width = cout
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvBN(width, HEAD, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(HEAD, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 1, 28, 28)."""
        x = self.pool(self.head(self.blocks(self.stem(image))))
        return self.classifier(self.dropout(x.flatten(1)))


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def normalise(images: Tensor) -> Tensor:
    """uint8 [n,28,28] -> float32 [n,1,28,28] as the network expects it."""
    return ((images.float() / 255.0 - MEAN) / STD).unsqueeze(1)


def disturb(x: Tensor) -> Tensor:
    """Normalised images with a gain, an offset and pixel noise of their own."""
    n = len(x)
    gain, offset = 1 + NOISE * (2 * torch.rand(n, 1, 1, 1) - 1), NOISE * torch.randn(n, 1, 1, 1)
    return x * gain + offset + NOISE * torch.randn_like(x)


def augment(images: Tensor, rng: torch.Generator, shift: int = 2) -> Tensor:
    """Flip half of the uint8 images left-right and shift each by up to `shift` pixels."""
    n, side = images.shape[0], images.shape[-1]
    flip = torch.rand(n, generator=rng) < 0.5
    images = torch.where(flip[:, None, None], images.flip(-1), images)
    padded = nn.functional.pad(images, (shift,) * 4)
    dy, dx = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=rng) + torch.arange(side)
    return padded[torch.arange(n)[:, None, None], dy[:, :, None], dx[:, None, :]]


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose arg-max is the label."""
    model.eval()
    right = sum(
        int((model(normalise(x)).argmax(1) == y).sum())
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return right / len(labels)


def train(images: Tensor, labels: Tensor, epochs: int, batch: int = 128) -> FashionNet:
    """One-cycle AdamW; no test image is looked at."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    model = FashionNet().to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    opt = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}], weight_decay=0.05)
    steps = len(images) // batch
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=6e-3, total_steps=epochs * steps, pct_start=0.25)
    loss_of = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        model.train()
        order = torch.randperm(len(images), generator=rng)
        for i in range(steps):
            pick = order[i * batch : (i + 1) * batch]
            loss = loss_of(model(disturb(normalise(augment(images[pick], rng)))), labels[pick])
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            cycle.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1:2d}/{epochs}  loss {total / steps:.4f}  {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return model.eval()


def export(model: FashionNet, path: Path, probe: Tensor) -> float:
    """Write one ONNX file, check it, and return its largest difference from torch."""
    model = model.to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the TorchScript exporter keeps module names
        torch.onnx.export(
            model, (probe,), str(path), dynamo=False, opset_version=17,
            input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
    onnx.checker.check_model(str(path), full_check=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        return float(np.abs(session.run(None, {"image": probe.numpy()})[0] - model(probe).numpy()).max())


def main() -> None:
    """Trains, exports and says how good the model is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        help="folder of the IDX .gz files",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    train_x, train_y = (
        read_idx(args.data / f"train-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")
    )
    test_x, test_y = (
        read_idx(args.data / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")
    )
    picker = np.random.RandomState(SEED)  # its stream is frozen across NumPy versions
    chosen = np.sort(np.concatenate(
        [picker.permutation(np.flatnonzero(train_y == c))[:CALIBRATION_PER_CLASS] for c in range(10)]
    ))  # fmt: skip
    np.savez_compressed(args.out / "eval.npz", images=test_x, labels=test_y.astype(np.int64))
    np.savez_compressed(
        args.out / "calibration.npz", images=train_x[chosen], labels=train_y[chosen].astype(np.int64)
    )

    start = time.perf_counter()
    model = train(torch.from_numpy(train_x.copy()), torch.from_numpy(train_y.astype(np.int64)), args.epochs)
    seconds = time.perf_counter() - start
    score = accuracy(model, torch.from_numpy(test_x.copy()), torch.from_numpy(test_y.astype(np.int64)))
    gap = export(model, args.out / "model.onnx", normalise(torch.from_numpy(test_x[:64].copy())))
    print(f"trained in {seconds:.0f} s; test accuracy {score:.4f}; largest |onnx - torch| {gap:.1e}")


if __name__ == "__main__":
    main()
