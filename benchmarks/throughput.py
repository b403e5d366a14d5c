"""Images a second of a whole comparison, as a share of what the sessions alone could do.

    python benchmarks/throughput.py                    # ONNX Runtime on the processor: about 5 minutes
    python benchmarks/throughput.py --gpu              # ONNX Runtime CUDA, FP16 against FP32: about 4 minutes

A comparison reads .npy files, preprocesses, runs the reference and the engine, and counts labels, changed
answers and errors of all outputs; opening the sessions is left out on both sides. The limit is two bare
loops, one after the other: the sessions that trtcheck opened run over the same preprocessed batches, which
lie in memory before the clock starts, and nobody looks at their answers. Both take turns, and the median of
the ratios counts.

On a GPU there are two limits. ``device``: every batch is in the GPU's memory already, answers stay there
(with a CUDA graph one and the same batch, since a graph has its addresses). ``host``: the batches are numpy
arrays, which ONNX Runtime copies there and back.

Polygraphy, where it is installed, does the same work on the processor with its `Comparator.run` and
`compare_accuracy`, on fewer images, since it keeps all outputs; it opens its sessions itself, which is not
counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from throughput_models import NETWORKS, TINY, Network, written

from trtcheck.backends import ON_GPU, timing_reference
from trtcheck.case import BuildSpec, Case, EngineSpec, Precision
from trtcheck.comparison import Subject, batching
from trtcheck.data.batches import batches
from trtcheck.environment import processor, runtime_version, usable_cores
from trtcheck.library import open_workbench
from trtcheck.reference import LiveReference
from trtcheck.session import Workbench
from trtcheck.streaming import stream

KEPT_BYTES = 4 << 30
"""What the preprocessed batches of the limit may take; they are run again and again where there are fewer."""
POLYGRAPHY_IMAGES = {"tiny": 4096}
GPU_BATCHES = (8, 64, 256)


@dataclass(frozen=True)
class Row:
    """What one network came to.

    Attributes:
        network: Its name.
        batch: Images a batch.
        data: ``uint8`` with preprocessing, or ``float32`` that is fed as it is.
        mode: ``cpu``, ``gpu``, ``gpu graph``.
        images: Images compared.
        per_second: Images a second of the comparison, median.
        limits: Images a second of the limits, by their names.
        shares: Median, lowest and highest share of each limit.
        polygraphy: Images a second of Polygraphy, or None.
    """

    network: str
    batch: int
    data: str
    mode: str
    images: int
    per_second: float
    limits: dict[str, float]
    shares: dict[str, tuple[float, float, float]]
    polygraphy: float | None = None


class Bench:
    """The sessions of one case, and the loops over them.

    Args:
        bench: Builds and loads.
        case: The case.
        engine: The engine.
    """

    def __init__(self, bench: Workbench, case: Case, engine: EngineSpec) -> None:
        self.subject = Subject.of(bench, case, engine)
        self.images = len(self.subject.resolved.images)
        self.engine: Any = bench.load(case, engine, self.subject.built, self.subject.resolved)
        self.reference: Any = timing_reference(
            case.onnx, self.subject.built.backend, threads=bench.threads, cuda_graph=case.build.cuda_graph,
            spin_wait=False,
        )[0]  # fmt: skip
        self._signature, self._size = batching(
            case, self.subject.resolved.signature, self.engine.signature, self.subject.built
        )

    def batches(self) -> Iterator[Any]:
        """What the comparison is fed."""
        case, resolved = self.subject.case, self.subject.resolved
        pad = self.subject.built.backend in ON_GPU
        return batches(resolved.images, self._signature, case.input, self._size, pad=pad)

    def compare(self) -> None:
        """A whole comparison."""
        case, resolved = self.subject.case, self.subject.resolved
        found = stream(
            case, engine_name="engine", classes=resolved.classes, scores=resolved.scores,
            truth=resolved.truth, batches=self.batches(), engine=self.engine,
            reference=LiveReference(self.reference, range(self.images), self.images, None),
            advance=lambda _: None,
        )  # fmt: skip
        if found.labels is None or (found.labels.candidate < 0).any():
            raise SystemExit(f"{case.name}: images without an answer")

    def feeds(self) -> list[dict[str, np.ndarray]]:
        """Preprocessed batches in memory, as many as there is room for; full ones."""
        source = self.batches()
        first = next(source)
        size = sum(feed.nbytes for feed in first.feeds.values())
        kept = [first.feeds, *(batch.feeds for batch in islice(source, max(0, KEPT_BYTES // size - 1)))]
        source.close()  # type: ignore[attr-defined]
        return [feeds for feeds in kept if len(next(iter(feeds.values()))) == self._size] or kept[:1]

    def queries(self) -> int:
        """Batches of a pass."""
        return -(-self.images // self._size)

    def close(self) -> None:
        """Closes both sessions."""
        self.engine.close()
        self.reference.close()


def on_host(bench: Bench, feeds: Sequence[dict[str, np.ndarray]]) -> Callable[[], None]:
    """Both sessions, one after the other, over arrays in the host's memory."""
    fitted = [
        (side._session, [side._fitted(one) for one in feeds]) for side in (bench.reference, bench.engine)
    ]

    def loops() -> None:
        for session, given in fitted:
            for query in range(bench.queries()):
                session.run(None, given[query % len(given)])

    return loops


def on_device(bench: Bench, feeds: Sequence[dict[str, np.ndarray]], *, graph: bool) -> Callable[[], None]:
    """The same with inputs and outputs bound in the GPU's memory."""
    import onnxruntime

    kept = feeds[:1] if graph else feeds[:8]
    sides = []
    for number, side in enumerate((bench.reference, bench.engine)):
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(900 + number) if graph and side.cuda_graph else "-1")
        bound = []
        for one in kept:
            io = side._session.io_binding()
            for name, array in side._fitted(one).items():
                io.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
            for value in side._session.get_outputs():
                shape = [len(array), *value.shape[1:]]
                made = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    shape, _dtype(side, value.name), "cuda", 0
                )
                io.bind_ortvalue_output(value.name, made)
            bound.append(io)
        for _ in range(3):  # records the graph
            side._session.run_with_iobinding(bound[0], options)
        sides.append((side._session, bound, options))

    def loops() -> None:
        for session, bound, options in sides:
            for query in range(bench.queries()):
                session.run_with_iobinding(bound[query % len(bound)], options)

    return loops


def _dtype(side: Any, name: str) -> Any:
    return next(tensor.dtype for tensor in side.signature.outputs if tensor.name == name)


def seconds(work: Callable[[], None]) -> float:
    """How long *work* takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measured(bench: Bench, limits: dict[str, Callable[[], None]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of the comparison (``ours``) and of the limits, in turns; each ran once before."""
    works = {"ours": bench.compare, **limits}
    for work in works.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repetitions):
        names = list(works) if turn % 2 else list(reversed(works))
        for name in names:
            found[name].append(seconds(works[name]))
    return found


def row(bench: Bench, net: Network, data: str, mode: str, repetitions: int) -> Row:
    """Measures one network."""
    feeds = bench.feeds()
    limits = {"host": on_host(bench, feeds)}
    if mode != "cpu":
        graph = mode == "gpu graph"
        limits = {"device": on_device(bench, feeds, graph=graph), **({} if graph else limits)}
    times = measured(bench, limits, repetitions)
    ratios = {
        name: [limit / ours for limit, ours in zip(times[name], times["ours"], strict=True)]
        for name in limits
    }
    return Row(
        net.name, bench.subject.case.batch, data, mode, bench.images,
        per_second=bench.images / median(times["ours"]),
        limits={name: bench.images / median(times[name]) for name in limits},
        shares={name: (median(own), min(own), max(own)) for name, own in ratios.items()},
    )  # fmt: skip


def polygraphy(
    case: Case, engine: Path, images: int, batch: int, feeds: Sequence[dict[str, np.ndarray]]
) -> float | None:
    """Images a second of Polygraphy's comparison; None where it is not installed."""
    try:
        from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
        from polygraphy.comparator import Comparator
        from polygraphy.logger import G_LOGGER
    except ImportError:
        return None
    try:
        from polygraphy.comparator import SimpleCompareFunc

        compare = SimpleCompareFunc(check_error_stat="mean")
    except ImportError:  # older than .53
        from polygraphy.comparator import CompareFunc

        compare = CompareFunc.simple(check_error_stat="mean")
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    runners = [
        OnnxrtRunner(SessionFromOnnx(str(path)), name=name)
        for name, path in (("a", case.onnx), ("b", engine))
    ]
    given = [feeds[k % len(feeds)] for k in range(-(-images // batch))]

    def work() -> None:
        results = Comparator.run(runners, data_loader=given)
        Comparator.compare_accuracy(results, compare_func=compare)

    return len(given) * batch / seconds(work)


def rows(
    folder: Path,
    networks: Sequence[Network],
    *,
    gpu: bool,
    precision: Precision,
    quick: bool,
    repetitions: int,
) -> Iterator[Row]:
    """Measures *networks* one by one."""
    backend = "onnxruntime-cuda" if gpu else "onnxruntime-cpu"
    engine = EngineSpec(precision.value, precision)
    with open_workbench(backend, folder / "cache") as workbench:
        for net in networks:
            images = 64 if quick else net.images[gpu]
            for batch in GPU_BATCHES if gpu else (net.batch,):
                for mode in ("gpu", "gpu graph") if gpu else ("cpu",):
                    for data in ("uint8",) if gpu else ("uint8", "float32"):
                        case = written(net, folder, images, batch, floats=data == "float32")
                        if mode == "gpu graph":
                            case = _with_graph(case)
                        with closing(Bench(workbench, case, engine)) as bench:
                            found = row(bench, net, data, mode, repetitions)
                            beside = None
                            if mode == "cpu" and data == "uint8" and precision is Precision.FP32:
                                count = min(images, POLYGRAPHY_IMAGES.get(net.name, images))
                                path = bench.subject.built.path
                                beside = polygraphy(case, path, count, batch, bench.feeds())
                        yield Row(**{**asdict(found), "polygraphy": beside})


def _with_graph(case: Case) -> Case:
    return replace(case, name=f"{case.name}-graph", build=BuildSpec(cuda_graph=True))


def told(found: Row) -> str:
    """A line of the Markdown table."""
    shares = "; ".join(
        f"{name} {share:.3f} ({low:.2f} to {high:.2f})" for name, (share, low, high) in found.shares.items()
    )
    limits = "; ".join(f"{name} {value:,.0f}" for name, value in found.limits.items())
    beside = "" if found.polygraphy is None else f"{found.polygraphy / found.limits['host']:.3f}"
    return (
        f"| {found.network} | {found.batch} | {found.data} | {found.mode} | {found.images:,} | "
        f"{found.per_second:,.0f} | {limits} | {shares} | {beside} |"
    )


def main() -> None:
    """Prints a table; see above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", action="store_true", help="ONNX Runtime CUDA, batches 8, 64 and 256")
    parser.add_argument("--precision", default=None, help="of the engine (default: fp32, on a GPU fp16)")
    parser.add_argument("--only", default="", help="networks, comma-separated: tiny, mobilenet, resnet50")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="64 images of the tiny network: that it runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    wanted = args.only.split(",") if args.only else [TINY] if args.quick else [net.name for net in NETWORKS]
    networks = [net for net in NETWORKS if net.name in wanted]
    precision = Precision(args.precision or ("fp16" if args.gpu else "fp32"))
    print(f"{processor()}, {usable_cores()} cores; ONNX Runtime {runtime_version()}, numpy {np.__version__}")
    print(f"engine: {precision.value}; {args.repetitions} turns; shares are median (lowest to highest)\n")
    columns = (
        "network", "batch", "data", "mode", "images", "images/s", "limits, images/s", "share of the limit",
        "Polygraphy, share",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "gpu": args.gpu,
            "precision": precision,
            "quick": args.quick,
            "repetitions": args.repetitions,
        }
        for one in rows(Path(folder), networks, **options):
            print(told(one), flush=True)
            found.append(one)
            if args.json:
                args.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()
