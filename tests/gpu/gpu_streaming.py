"""Many batches on a real GPU, copied while it works: run with ``pytest tests/gpu/gpu_streaming.py``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FLOAT, FP16, branches, cnn, graph, save, weight
from onnx import TensorProto, helper

from trtcheck.backends.base import BuildPlan
from trtcheck.backends.onnxruntime_cuda import OnnxRuntimeCuda
from trtcheck.backends.onnxruntime_cuda_session import OrtCudaSession
from trtcheck.case import BuildSpec, Precision
from trtcheck.errors import EngineError

Feeds = Mapping[str, np.ndarray]
INT64 = int(TensorProto.INT64)
PRECISIONS = [Precision.FP32, Precision.TF32, Precision.FP16]


@pytest.fixture(scope="module")
def backend() -> OnnxRuntimeCuda:
    return OnnxRuntimeCuda(threads=4)


Open = Callable[..., OrtCudaSession]


@pytest.fixture
def opened(backend: OnnxRuntimeCuda, tmp_path: Path) -> Iterator[Open]:
    sessions: list[OrtCudaSession] = []

    def made(
        model: onnx.ModelProto, precision: Precision = Precision.FP32, *, cuda_graph: bool = False
    ) -> OrtCudaSession:
        path = save(model, tmp_path / f"{len(sessions)}.onnx")
        plan = BuildPlan(path, precision, {}, BuildSpec(cuda_graph=cuda_graph))
        backend.build(plan, path.with_suffix(".engine"), lambda _count: None)
        sessions.append(backend.load(path.with_suffix(".engine"), plan))
        return sessions[-1]

    yield made
    for session in sessions:
        session.close()


def residual(element: int, channels: int = 64, size: int = 28) -> onnx.ModelProto:
    """FP32 in and out, convolutions and a product between in *element*: work for the GPU to be late with."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Cast", ["x"], ["c0"], name="enter", to=element)]
    weights = [weight("w0", rng.standard_normal((channels, 3, 3, 3)) * 0.2, element)]
    for layer in range(6):
        nodes += [
            helper.make_node(
                "Conv", [f"c{layer}", f"w{layer}"], [f"r{layer}"], name=f"conv{layer}", pads=[1] * 4
            ),
            helper.make_node("Relu", [f"r{layer}"], [f"c{layer + 1}"], name=f"relu{layer}"),
        ]
        kernel = rng.standard_normal((channels, channels, 3, 3)) * 0.05
        weights.append(weight(f"w{layer + 1}", kernel, element))
    nodes += [
        helper.make_node("GlobalAveragePool", ["c6"], ["pool"], name="pool"),
        helper.make_node("Cast", ["pool"], ["wide"], name="leave", to=FLOAT),
        helper.make_node("Flatten", ["wide"], ["y"], name="flatten"),
    ]
    del weights[-1]
    return graph(nodes, [("x", FLOAT, ["N", 3, size, size])], [("y", FLOAT, ["N", channels])], weights)


def separable(element: int) -> onnx.ModelProto:
    """Convolutions by channel and by point in turns, as a MobileNet has them."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Cast", ["x"], ["c0"], name="enter", to=element)]
    weights, before = [], 3
    for layer, after in enumerate((32, 96, 144, 192)):
        for kind, shape, more in (
            ("d", (before, 1, 3, 3), {"group": before, "pads": [1] * 4}),
            ("p", (after, before, 1, 1), {}),
        ):
            entry = f"c{layer}" if kind == "d" else f"d{layer}r"
            leaves = f"d{layer}r" if kind == "d" else f"c{layer + 1}"
            for part in "wb":
                values = rng.standard_normal(shape if part == "w" else shape[:1]) * 0.3
                weights.append(weight(f"{kind}{layer}{part}", values, element))
            inputs = [entry, f"{kind}{layer}w", f"{kind}{layer}b"]
            nodes += [
                helper.make_node("Conv", inputs, [f"{kind}{layer}y"], name=f"{kind}{layer}", **more),
                helper.make_node("Relu", [f"{kind}{layer}y"], [leaves], name=f"{kind}{layer}relu"),
            ]
        before = after
    nodes += [
        helper.make_node("GlobalAveragePool", ["c4"], ["pool"], name="pool"),
        helper.make_node("Cast", ["pool"], ["wide"], name="leave", to=FLOAT),
        helper.make_node("Flatten", ["wide"], ["y"], name="flatten"),
    ]
    return graph(nodes, [("x", FLOAT, ["N", 3, 56, 56])], [("y", FLOAT, ["N", before])], weights)


def split(x: np.ndarray, batch: int) -> list[Feeds]:
    """Batches of *x*; the last one is what is left."""
    return [{"x": x[start : start + batch]} for start in range(0, len(x), batch)]


def one_by_one(session: OrtCudaSession, batches: Iterable[Feeds]) -> list[dict[str, np.ndarray]]:
    return [session.infer(feeds) for feeds in batches]


def assert_same(found: Sequence[Feeds], expected: Sequence[Feeds]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name in other:
            np.testing.assert_array_equal(one[name], other[name])


def images(count: int, size: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, size, size)).astype(np.float32)


# The same answers.


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["launches", "graph"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 8, 64])
def test_answers_are_those_of_infer(opened: Open, precision: Precision, batch: int, cuda_graph: bool) -> None:
    """Fifteen batches and a smaller one, twice: made and recorded, then all in flight."""
    session = opened(
        residual(FP16 if precision is Precision.FP16 else FLOAT), precision, cuda_graph=cuda_graph
    )
    assert session.cuda_graph == cuda_graph
    batches = split(images(15 * batch + (batch + 1) // 2), batch)
    expected = one_by_one(session, batches)
    assert len({answers["y"].tobytes() for answers in expected}) == len(expected)
    for _ in range(2):
        assert_same(list(session.infer_many(batches)), expected)
    assert_same(one_by_one(session, batches), expected)


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["launches", "graph"])
def test_two_inputs_and_two_outputs(opened: Open, cuda_graph: bool) -> None:
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["product"], name="product"),
        helper.make_node("Add", ["product", "b"], ["sum"], name="sum"),
        helper.make_node("Sub", ["product", "b"], ["difference"], name="difference"),
    ]
    w = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    ends: list[int | str] = ["N", 512]
    outputs = [("sum", FLOAT, ends), ("difference", FLOAT, ends)]
    model = graph(nodes, [("a", FLOAT, ends), ("b", FLOAT, ends)], outputs, [weight("w", w)])
    session = opened(model, cuda_graph=cuda_graph)
    rng = np.random.default_rng(1)
    batches = [
        {name: rng.standard_normal((count, 512)).astype(np.float32) for name in "ba"}
        for count in [256] * 12 + [7]
    ]
    assert_same(list(session.infer_many(batches)), one_by_one(session, batches))


def test_large_batches_change_while_they_are_copied(opened: Open) -> None:
    """77 MB a batch, all in one array that is filled anew for every batch: what is given is taken at once."""
    node = helper.make_node("Neg", ["x"], ["y"], name="neg")
    ends: list[int | str] = ["N", 3, 224, 224]
    session = opened(graph([node], [("x", FLOAT, ends)], [("y", FLOAT, ends)]))
    array = np.empty((128, 3, 224, 224), np.float32)

    def filled() -> Iterator[Feeds]:
        for value in range(10):
            array.fill(value)
            yield {"x": array}

    for value, answers in enumerate(session.infer_many(filled())):
        assert answers["y"].min() == answers["y"].max() == -value


def test_answers_stay_as_they_are(opened: Open) -> None:
    session = opened(residual(FLOAT))
    batches = split(images(80), 8)
    kept = list(session.infer_many(batches))
    copies = [{name: array.copy() for name, array in answers.items()} for answers in kept]
    list(session.infer_many(split(images(80, seed=1), 8)))
    assert_same(kept, copies)


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["launches", "graph"])
def test_outputs_of_unknown_shape(opened: Open, cuda_graph: bool) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="nonzero"),
        helper.make_node("Neg", ["x"], ["y"], name="neg"),
    ]
    ends: list[int | str] = ["N", 64]
    outputs = [("places", INT64, [2, None]), ("y", FLOAT, ends)]
    session = opened(graph(nodes, [("x", FLOAT, ends)], outputs), cuda_graph=cuda_graph)
    rng = np.random.default_rng(0)
    batches = [
        {"x": (rng.random((16, 64)) < share).astype(np.float32)} for share in (0.5, 0.9, 0.0, 0.2, 0.7)
    ]
    for feeds, answers in zip(batches, session.infer_many(batches), strict=True):
        np.testing.assert_array_equal(answers["places"], np.stack(np.nonzero(feeds["x"])))
        np.testing.assert_array_equal(answers["y"], -feeds["x"])


def test_inputs_that_are_read_on_the_cpu(opened: Open) -> None:
    session = opened(branches(FLOAT), cuda_graph=True)
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    batches = [{"x": x + k, "b": np.array(k % 2 == 0)} for k in range(6)]
    assert_same(list(session.infer_many(batches)), one_by_one(session, batches))


def test_shapes_kept_and_shapes_that_make_room(opened: Open) -> None:
    session = opened(cnn(), cuda_graph=True)
    x = np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)
    batches = [{"x": x[:size]} for size in (8, 8, 8, 3, 8, 8, 8, 3, 3, 3, 8, 1, 2, 4, 5, 6, 8, 8, 8, 8)]
    assert_same(list(session.infer_many(batches)), one_by_one(session, batches))


def test_a_graph_outlives_batches_of_other_shapes(opened: Open) -> None:
    """cuDNN compiles kernels for some convolutions; those of a recorded graph must not be thrown away."""
    session = opened(separable(FP16), Precision.FP16, cuda_graph=True)
    without = opened(separable(FP16), Precision.FP16)
    x = images(64, size=56)
    batches = [{"x": x[:size]} for size in (64, 64, 64, 48, 64, 64, 1, 64, 48, 48, 64, 64)]
    timers = [session.timer(batches[0]), session.timer(batches[3])]
    for _ in range(2):
        assert_same(list(session.infer_many(batches)), one_by_one(without, batches))
        for timer in timers:
            assert timer.mode.cuda_graph
            timer.block(5)


# What goes wrong, and what stops early.


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["launches", "graph"])
def test_an_error_is_raised_in_its_place(opened: Open, cuda_graph: bool) -> None:
    session = opened(residual(FLOAT), cuda_graph=cuda_graph)
    good = split(images(80), 8)
    expected = one_by_one(session, good)
    for place in (1, 6):
        bad = {"x": np.zeros((8, 3, 28, 27), np.float32)}
        answers = session.infer_many([*good[:place], bad, *good[place:]])
        assert_same([next(answers) for _ in range(place)], expected[:place])
        with pytest.raises(EngineError, match=r"(?s)does not fit.*28, 27"):
            next(answers)
        assert list(answers) == []
    assert_same(list(session.infer_many(good)), expected)


def test_what_fails_while_the_batches_are_made_comes_after_earlier_answers(opened: Open) -> None:
    session = opened(residual(FLOAT))

    def failing() -> Iterator[Feeds]:
        yield from split(images(56), 8)
        raise OSError("the image is gone")

    answers = session.infer_many(failing())
    assert len([next(answers) for _ in range(7)]) == 7
    with pytest.raises(OSError, match="the image is gone"):
        next(answers)


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["launches", "graph"])
def test_who_stops_early_goes_on_with_infer(opened: Open, cuda_graph: bool) -> None:
    session = opened(residual(FLOAT), cuda_graph=cuda_graph)
    batches = split(images(128), 8)
    expected = one_by_one(session, batches)
    for stop in (1, 2, 5, 9):
        answers = session.infer_many(batches)
        assert_same([next(answers) for _ in range(stop)], expected[:stop])
        assert_same([session.infer(batches[-1])], expected[-1:])  # beside a batch in flight
        answers.close()
        assert_same(one_by_one(session, batches[:3]), expected[:3])
    suspended = session.infer_many(batches)
    for _ in range(6):
        next(suspended)
    session.close()
    with pytest.raises(EngineError, match="closed"):
        next(suspended)


def test_memory_does_not_grow(opened: Open) -> None:
    from trtcheck.backends.cuda import Device

    session = opened(residual(FLOAT), cuda_graph=True)
    batches = split(images(15 * 64 + 20), 64)
    with Device() as device:
        list(session.infer_many(batches))
        list(session.infer_many(batches))
        free, _ = device.memory()
        for _ in range(10):
            list(session.infer_many(batches))
        assert free - device.memory()[0] < 16 * 2**20


# Threads.


def test_two_sessions_in_two_threads(opened: Open) -> None:
    """Reference and candidate, side by side from the first batch on, while the latter records its graphs."""
    batches = split(images(25 * 8 + 3), 8)
    for _ in range(6):
        pair = opened(residual(FLOAT)), opened(residual(FP16), Precision.FP16, cuda_graph=True)
        barrier = threading.Barrier(2)

        def run(session: OrtCudaSession, barrier: threading.Barrier = barrier) -> list[dict[str, np.ndarray]]:
            barrier.wait()
            return list(session.infer_many(batches))

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(run, pair))
        for session, answers in zip(pair, found, strict=True):
            assert_same(answers, one_by_one(session, batches))


def test_two_recordings_at_once_while_memory_is_made(opened: Open) -> None:
    x = np.random.default_rng(5).standard_normal((16, 1, 12, 12)).astype(np.float32)
    batches = [{"x": x[:size]} for size in range(1, 17) for _ in range(4)]
    pair = opened(cnn(), cuda_graph=True), opened(cnn(), cuda_graph=True)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda session: list(session.infer_many(batches)), pair))
    for session, answers in zip(pair, found, strict=True):
        assert_same(answers, one_by_one(session, batches))


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["launches", "graph"])
def test_a_session_goes_from_thread_to_thread(opened: Open, cuda_graph: bool) -> None:
    """Every answer is asked for by another thread; ONNX Runtime keeps graphs by thread."""
    session = opened(residual(FP16), Precision.FP16, cuda_graph=cuda_graph)
    batches = split(images(100), 8)
    expected = one_by_one(session, batches)
    answers = session.infer_many(batches)
    pools = [ThreadPoolExecutor(1) for _ in range(3)]
    found = [pools[k % 3].submit(next, answers).result() for k in range(len(batches))]
    for pool in pools:
        pool.shutdown()
    assert_same(found, expected)
