"""Images a second of a comparison from JPEG files, beside decoding alone and inference alone.

    python benchmarks/decoding.py                      # ONNX Runtime on the processor: about 3 minutes
    python benchmarks/decoding.py --gpu                # ONNX Runtime CUDA, FP16 against FP32: about 1 minute

The files are made on the spot: soft colours and noise, 320 x 240 to 640 x 480 pixels, quality 90; they are
resized to 256 and cropped to 224. Three works take turns, and medians count:

* ``decoding``: batches are decoded and preprocessed as for a comparison, and thrown away;
* ``inference``: the sessions of reference and engine run, one after the other, over the same batches, which
  lie in memory; nobody looks at the answers;
* ``comparison``: reference and engine are compared, from the files.

Were decoding and inference to share nothing, a comparison would take as long as the longer of both: the share
of that is told. On a processor they share its cores; so it is told, too, how the comparison compares with one
after the other (above 1 where they overlap). Beside it stand sessions that wait, as long as decoding takes in
all, instead of computing: they leave the processor alone, as a GPU does. Decoding by 1, 2, 4, … threads is
measured without anything around it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import PIL
import resnet
from PIL import Image
from throughput import Bench, measured, on_host, seconds
from throughput_models import MOBILENET, NETWORKS, TINY, Network, mobilenet, tiny

from trtcheck.case import Case, EngineSpec, InputSpec, Precision
from trtcheck.data.folder import FolderImages, decode
from trtcheck.environment import processor, runtime_version, usable_cores
from trtcheck.library import open_workbench

CLASS_FOLDERS = 10
QUALITY = 90
WAITING = "sessions that wait"


@dataclass(frozen=True)
class Row:
    """What one pair of sessions came to.

    Attributes:
        sessions: What infers.
        batch: Images a batch.
        images: Images compared.
        decoding: Images a second of decoding and preprocessing alone, median.
        inference: The same of both sessions alone.
        comparison: The same of the comparison.
        of_longer: The longer of decoding and inference as a share of the comparison's time: median, lowest,
            highest.
        of_sum: The sum of both as a multiple of the comparison's time: the same.
    """

    sessions: str
    batch: int
    images: int
    decoding: float
    inference: float
    comparison: float
    of_longer: tuple[float, float, float]
    of_sum: tuple[float, float, float]


class Waiting:
    """A session that waits instead of computing, and leaves the processor alone meanwhile.

    Args:
        real: The session that it stands for.
        per_second: Images a second.
        classes: Scores that it gives an image.
    """

    def __init__(self, real: object, per_second: float, classes: int) -> None:
        self.signature = real.signature  # type: ignore[attr-defined]
        self._per_second = per_second
        self._scores = np.arange(classes, dtype=np.float32)

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same scores for every image, when it is time."""
        images = len(next(iter(feeds.values())))
        time.sleep(images / self._per_second)
        return {"scores": np.tile(self._scores, (images, 1))}

    def close(self) -> None:
        """Nothing is open."""


def make_pictures(folder: Path, images: int) -> None:
    """Writes JPEG files into class folders."""
    rng = np.random.default_rng(resnet.SEED)
    for index in range(images):
        width, height = (int(rng.integers(side, 2 * side + 1)) for side in (320, 240))
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        noisy = soft + 8 * rng.standard_normal(soft.shape, np.float32)
        file = folder / str(index % CLASS_FOLDERS) / f"{index:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=QUALITY)


def case_of(net: Network, folder: Path, batch: int) -> Case:
    """The case of *net* on the pictures in *folder*."""
    path = folder.with_name(f"{net.name}.onnx")
    onnx.save({TINY: tiny, MOBILENET: mobilenet}[net.name](net), path)
    spec = InputSpec(
        scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
        resize=net.size * 8 // 7, crop=net.size,
    )  # fmt: skip
    return Case(
        name=f"{net.name}-{batch}", onnx=path, data=folder, batch=batch, input=spec,
        classes=tuple(map(str, range(net.classes))),
    )  # fmt: skip


def by_threads(images: FolderImages, spec: InputSpec, repetitions: int) -> dict[int, float]:
    """Images a second that so many threads decode, at best of *repetitions* turns."""
    files = [images.file(index) for index in range(len(images))]
    cores = usable_cores()
    counts = [*(1 << k for k in range(cores.bit_length()) if 1 << k < cores), cores]
    best = dict.fromkeys(counts, 0.0)
    for _ in range(repetitions):
        for threads in counts:
            with ThreadPoolExecutor(threads) as pool:
                taken = seconds(lambda: [None for _ in pool.map(lambda file: decode(file, spec), files)])
            best[threads] = max(best[threads], len(files) / taken)
    return best


def row(bench: Bench, sessions: str, inference: Callable[[], None], repetitions: int) -> Row:
    """Measures one pair of sessions."""

    def decoding() -> None:
        for _ in bench.batches():
            pass

    times = measured(bench, {"decoding": decoding, "inference": inference}, repetitions)
    turns = list(zip(times["decoding"], times["inference"], times["ours"], strict=True))
    longer = [max(one, other) / whole for one, other, whole in turns]
    both = [(one + other) / whole for one, other, whole in turns]
    return Row(
        sessions, bench.subject.case.batch, bench.images,
        *(bench.images / median(times[name]) for name in ("decoding", "inference", "ours")),
        of_longer=(median(longer), min(longer), max(longer)), of_sum=(median(both), min(both), max(both)),
    )  # fmt: skip


def waiting_row(bench: Bench, classes: int, repetitions: int) -> Row:
    """The same with sessions that wait, together as long as decoding takes."""
    per_second = bench.images / min(seconds(lambda: [None for _ in bench.batches()]) for _ in range(2))
    real = bench.reference, bench.engine
    bench.reference, bench.engine = (Waiting(session, 2 * per_second, classes) for session in real)
    feeds = bench.feeds()

    def inference() -> None:
        for session in (bench.reference, bench.engine):
            for query in range(bench.queries()):
                session.infer(feeds[query % len(feeds)])

    try:
        return row(bench, WAITING, inference, repetitions)
    finally:
        bench.reference, bench.engine = real


def rows(folder: Path, net: Network, batches: Sequence[int], *, gpu: bool, repetitions: int) -> Iterator[Row]:
    """Measures *net* on the pictures in *folder*, and sessions that wait."""
    backend = "onnxruntime-cuda" if gpu else "onnxruntime-cpu"
    precision = Precision.FP16 if gpu else Precision.FP32
    with open_workbench(backend, folder.with_name("cache")) as workbench:
        for batch in batches:
            case = case_of(net, folder, batch)
            with closing(Bench(workbench, case, EngineSpec(precision.value, precision))) as bench:
                yield row(bench, net.name, on_host(bench, bench.feeds()), repetitions)
                yield waiting_row(bench, net.classes, repetitions)


def told(found: Row) -> str:
    """A line of the Markdown table."""
    shares = (
        f"{share:.2f} ({low:.2f} to {high:.2f})" for share, low, high in (found.of_longer, found.of_sum)
    )
    speeds = (f"{speed:,.0f}" for speed in (found.decoding, found.inference, found.comparison))
    cells = (found.sessions, str(found.batch), f"{found.images:,}", *speeds, *shares)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints two tables; see above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", action="store_true", help="ONNX Runtime CUDA; batches 64 and 256")
    parser.add_argument("--images", type=int, default=None, help="files (default: 384, on a GPU 2,048)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="32 files, the tiny network: that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there, too")
    args = parser.parse_args()
    images = args.images or (32 if args.quick else 2048 if args.gpu else 384)
    repetitions = 2 if args.quick else args.repetitions
    [net] = [net for net in NETWORKS if net.name == (TINY if args.quick else MOBILENET)]
    print(
        f"{processor()}, {usable_cores()} cores; ONNX Runtime {runtime_version()}, Pillow {PIL.__version__}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        make_pictures(folder, images)
        listed = FolderImages(folder, None, InputSpec(), "")
        size = sum(listed.file(index).stat().st_size for index in range(images)) / images
        print(f"{images:,} JPEG files of {size / 1e3:.0f} kB; {repetitions} turns\n")
        spec = InputSpec(resize=net.size * 8 // 7, crop=net.size)
        speeds = by_threads(listed, spec, repetitions)
        print("| threads | decoded, images/s |\n|---:|---:|")
        print("\n".join(f"| {threads} | {speed:,.0f} |" for threads, speed in speeds.items()), flush=True)
        columns = (
            "sessions", "batch", "images", "decoding, images/s", "inference, images/s",
            "comparison, images/s", "of the longer of both", "of one after the other",
        )  # fmt: skip
        print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        found = []
        for one in rows(
            folder, net, (64, 256) if args.gpu else (8, 64), gpu=args.gpu, repetitions=repetitions
        ):
            print(told(one), flush=True)
            found.append(one)
    if args.json:
        figures = {"decoding_by_threads": speeds, "rows": [asdict(one) for one in found]}
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
