"""Activation ranges: right at the edges that break other calibrators, in bounded memory."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from graphs import FLOAT, cnn, graph, weight
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import counted
from onnx import ModelProto, TensorProto, helper

from trtcheck.environment import usable_cores
from trtcheck.errors import BackendError, LoweringError
from trtcheck.precision.calibrate import Feeds, Histogram, largest

SOURCE = Path("model.onnx")


def ranges(
    model: ModelProto,
    tensors: list[str],
    batches: list[Feeds],
    method: str = "minmax",
    percentile: float = 99.9,
) -> dict[str, float]:
    return largest(model, tensors, counted(batches), method=method, percentile=percentile, source=SOURCE)


def relu(batch: int | str = "N") -> ModelProto:
    return graph(
        [
            helper.make_node("Relu", ["x"], ["r"], name="relu"),
            helper.make_node("Neg", ["r"], ["y"], name="neg"),
        ],
        [("x", FLOAT, [batch, 1000])],
        [("y", FLOAT, [batch, 1000])],
    )  # fmt: skip


def heavy_tails() -> np.ndarray:
    return np.random.default_rng(0).standard_t(3, size=(200, 1000)).astype(np.float32)


def test_minmax_is_the_largest_magnitude_over_all_batches() -> None:
    x = heavy_tails()
    found = ranges(relu(), ["x", "r"], [{"x": x[:90]}, {"x": x[90:]}])
    assert found == {"x": np.abs(x).max(), "r": np.maximum(x, 0).max()}


def test_methods_cut_heavy_tails_as_they_should() -> None:
    x = heavy_tails()
    found = {m: ranges(relu(), ["x"], [{"x": x}], m)["x"] for m in ("minmax", "percentile", "entropy")}
    exact = float(np.percentile(np.abs(x), 99.9))
    assert found["percentile"] == pytest.approx(exact, abs=found["minmax"] / 2048)
    assert exact < found["minmax"] / 4
    assert 2 < found["entropy"] < found["minmax"] / 2
    everything = ranges(relu(), ["x"], [{"x": x}], "percentile", 100.0)["x"]
    assert everything == found["minmax"]


def test_entropy_keeps_what_is_evenly_spread() -> None:
    x = np.random.default_rng(0).uniform(-3, 3, (50, 1000)).astype(np.float32)
    assert ranges(relu(), ["x"], [{"x": x}], "entropy")["x"] == pytest.approx(3, rel=0.01)


def test_entropy_does_not_cut_the_ones_of_binary_data() -> None:
    x = (np.random.default_rng(0).random((20, 1000)) < 0.01).astype(np.float32)
    assert ranges(relu(), ["x"], [{"x": x}], "entropy")["x"] == 1


def test_entropy_is_not_drawn_to_the_spikes_of_a_constant_background() -> None:
    # Half of all values are 0.3, as where a convolution saw nothing but background; the rest reaches 9.5.
    # The divergence is least just above the spike, at 0.6: the picture itself would be cut off.
    rng = np.random.default_rng(0)
    x = np.full((40, 1000), 0.3, np.float32)
    x[::2] = rng.exponential(1.5, (20, 1000))
    assert np.percentile(x, 99.9) < ranges(relu(), ["x"], [{"x": x}], "entropy")["x"] <= x.max()


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(0, 2.0**100, width=32)),
    st.integers(1, 50),
    st.floats(1, 100),
)
def test_histogram_forgets_nothing_and_bounds_its_percentile(
    values: np.ndarray, step: int, percent: float
) -> None:
    histogram = Histogram()
    for start in range(0, len(values), step):
        histogram.add(values[start : start + step])
    assert histogram.counts.size == 4096
    assert histogram.counts.sum() == len(values)
    assert histogram.largest == values.max()
    cut = histogram.percentile(percent)
    assert np.count_nonzero(values <= cut * (1 + 1e-5)) >= percent / 100 * len(values) - 1e-6
    assert cut <= values.max()
    assert histogram.entropy() <= values.max()


@pytest.mark.parametrize(("method", "tolerance"), [("percentile", 0.01), ("entropy", 0.3)])
def test_a_first_batch_of_tiny_values_costs_no_memory_and_no_precision(method: str, tolerance: float) -> None:
    x = heavy_tails()
    tiny = np.full((1, 1000), 1e-20, np.float32)  # onnxruntime's histogram would want 1e22 bins
    zero = np.zeros((1, 1000), np.float32)
    plain = ranges(relu(), ["x"], [{"x": x}], method)["x"]
    found = ranges(relu(), ["x"], [{"x": zero}, {"x": tiny}, {"x": x}], method)["x"]
    assert found == pytest.approx(plain, rel=tolerance)


def test_constant_zero_is_zero() -> None:
    zero = np.zeros((2, 1000), np.float32)
    for method in ("minmax", "percentile", "entropy"):
        assert ranges(relu(), ["x", "r"], [{"x": zero}], method) == {"x": 0, "r": 0}


def test_batches_of_unequal_and_fixed_size() -> None:
    x = heavy_tails()
    found = ranges(relu(), ["r"], [{"x": x[:64]}, {"x": x[64:71]}, {"x": x[71:72]}], "percentile")["r"]
    assert found == pytest.approx(ranges(relu(), ["r"], [{"x": x[:72]}], "percentile")["r"], rel=0.02)
    fixed = [{"x": x[start : start + 40]} for start in range(0, 200, 40)]
    assert ranges(relu(40), ["r"], fixed) == {"r": x.max()}


def test_open_batch_may_be_written_as_minus_one_and_an_input_may_have_none() -> None:
    model = graph(
        [
            helper.make_node("Mul", ["x", "gain"], ["m"], name="amplify"),
            helper.make_node("Neg", ["m"], ["y"], name="neg"),
        ],
        [("x", FLOAT, [-1, 1000]), ("gain", FLOAT, [])],
        [("y", FLOAT, [-1, 1000])],
    )
    x = heavy_tails()
    found = ranges(model, ["m"], [{"x": x, "gain": np.array(2, np.float32)}])
    assert found == {"m": 2 * np.abs(x).max()}
    bad = heavy_tails()
    bad[100, 5] = np.nan
    model.graph.input.pop()
    model.graph.initializer.append(weight("gain", np.float32(2)))
    with pytest.raises(LoweringError, match="images 96 to 111"):
        ranges(model, ["m"], [{"x": bad}])


@pytest.mark.parametrize("batch", ["N", 64])
@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_padding_never_counts(batch: int | str, method: str) -> None:
    # One loud image among 65: counted 64 times it would be half of all there is.
    x = heavy_tails()[:65]
    x[64] = np.abs(x[64]) * 50
    padded = np.concatenate([x, np.repeat(x[64:], 63, axis=0)])
    found = largest(
        relu(batch), ["x", "r"], [({"x": padded[:64]}, 64), ({"x": padded[64:]}, 1)],
        method=method, percentile=98, source=SOURCE,
    )  # fmt: skip
    assert found == pytest.approx(ranges(relu(), ["x", "r"], [{"x": x}], method, 98), rel=0.02)


def test_an_activation_without_a_row_an_image_counts_as_a_whole() -> None:
    model = graph(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], name="most", keepdims=0),
            helper.make_node("Mul", ["most", "table"], ["y"], name="scale"),
        ],
        [("x", FLOAT, [4, 2])],
        [("y", FLOAT, [3])],
        [weight("table", np.float32([1, 2, 3]))],
    )
    found = largest(
        model, ["most", "y"], [({"x": np.ones((4, 2), np.float32)}, 1)],
        method="minmax", percentile=100, source=SOURCE,
    )  # fmt: skip
    assert found == {"most": 1, "y": 3}


def test_a_model_that_onnx_runtime_does_not_take_is_an_error_in_words() -> None:
    model = graph(
        [helper.make_node("Mystery", ["x"], ["r"], name="riddle", domain="acme"),
         helper.make_node("Relu", ["r"], ["y"], name="relu")],
        [("x", FLOAT, ["N", 1000])], [("y", FLOAT, ["N", 1000])], domains={"acme": 1},
    )  # fmt: skip
    with pytest.raises(LoweringError, match=r"model\.onnx: ONNX Runtime does not take the model[\s\S]*acme"):
        ranges(model, ["r"], [{"x": heavy_tails()}])


def test_without_onnxruntime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r'not installed[\s\S]*pip install "pytest-trtcheck\[cpu\]"'):
        ranges(relu(), ["r"], [{"x": heavy_tails()}])


def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trtcheck.precision.calibrate.save", full)
    with pytest.raises(LoweringError, match=r"temporary folder[\s\S]*No space left[\s\S]*TMPDIR"):
        ranges(relu(), ["r"], [{"x": heavy_tails()}])


@pytest.mark.parametrize(("asked", "taken"), [(3, 3), (0, usable_cores())])
def test_threads_are_bounded(monkeypatch: pytest.MonkeyPatch, asked: int, taken: int) -> None:
    seen = []
    session = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        seen.append((options.intra_op_num_threads, options.inter_op_num_threads))
        return session(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    x = heavy_tails()
    largest(relu(), ["r"], counted([{"x": x}]), method="minmax", percentile=100, source=SOURCE, threads=asked)
    assert seen == [(taken, 1)]


def test_batches_are_taken_one_at_a_time() -> None:
    alive: list[int] = []

    def batches() -> Iterator[Feeds]:
        for index in range(5):
            alive.append(index)
            yield {"x": np.full((3, 1000), index, np.float32)}
            assert alive == list(range(index + 1))

    found = largest(relu(), ["r"], counted(batches()), method="minmax", percentile=100, source=SOURCE)
    assert found == {"r": 4}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite_name_tensor_node_and_images(bad: float) -> None:
    x = np.ones((40, 1000), np.float32)
    model = graph(
        [helper.make_node("Div", ["x", "d"], ["q"], name="divide"), helper.make_node("Neg", ["q"], ["y"])],
        [("x", FLOAT, ["N", 1000]), ("d", FLOAT, ["N", 1000])],
        [("y", FLOAT, ["N", 1000])],
    )
    divisor = np.ones_like(x)
    divisor[35, 7] = 0
    x[35, 7] = 0 if np.isnan(bad) else 1
    with pytest.raises(
        LoweringError, match=r"model\.onnx: tensor 'q'[\s\S]*images 32 to 39, made by node 'divide'"
    ):
        ranges(model, ["x", "q"], [{"x": x, "d": divisor}])
    x[35, 7] = bad
    with pytest.raises(LoweringError, match=r"tensor 'x' has NaN[\s\S]*made by the data themselves"):
        ranges(model, ["x", "q"], [{"x": x, "d": divisor}])


def test_integer_inputs_are_fed_as_they_are() -> None:
    model = graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["e"], name="embed"),
            helper.make_node("Neg", ["e"], ["y"], name="neg"),
        ],
        [("ids", int(TensorProto.INT32), ["N"])],
        [("y", FLOAT, ["N", 2])],
        [weight("table", np.float32([[1, 2], [3, -4]]))],
    )
    assert ranges(model, ["e"], [{"ids": np.array([0, 0], np.int32)}]) == {"e": 2}
    assert ranges(model, ["e"], [{"ids": np.array([0, 1], np.int32)}]) == {"e": 4}


def test_data_that_do_not_fit_are_an_error_in_words() -> None:
    with pytest.raises(LoweringError, match=r"model\.onnx: the calibration data cannot be fed to the model"):
        ranges(relu(), ["r"], [{"x": np.ones((2, 3), np.float32)}])


def test_nothing_is_printed_and_nothing_is_left_behind(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    x = np.random.default_rng(0).standard_normal((4, 1, 12, 12)).astype(np.float32)
    for method in ("minmax", "percentile", "entropy"):
        ranges(cnn(), ["x", "r0", "h1", "flat"], [{"x": x}], method)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
