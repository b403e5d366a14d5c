"""How evaluation activations fill the ranges of a Q/DQ graph: counted by ONNX Runtime, checked by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FLOAT, FP16, graph, save, weight
from onnx import helper

from trtcheck.calibration.saturation import Probes, Saturation, sample
from trtcheck.case import InputSpec
from trtcheck.data.batches import batches
from trtcheck.data.sources import open_images
from trtcheck.errors import EngineError
from trtcheck.model import signature_of

RELU = helper.make_node("Relu", ["x"], ["r"], name="relu")


def pair(tensor: str, scale: str, zero: str | None, **attributes: int) -> list[onnx.NodeProto]:
    """Q and DQ of *tensor*, ending in ``<tensor>_dq``."""
    inputs = [scale, *([zero] if zero else [])]
    return [
        helper.make_node(
            "QuantizeLinear", [tensor, *inputs], [f"{tensor}_q"], name=f"q_{tensor}", **attributes
        ),
        helper.make_node("DequantizeLinear", [f"{tensor}_q", *inputs], [f"{tensor}_dq"], **attributes),
    ]


def quantized(
    scale: np.ndarray, zero: np.ndarray | None, batch: int | str = "N", opset: int = 17, **attributes: int
) -> onnx.ModelProto:
    """Relu, a quantizer of what it makes, and a quantized weight, which is no activation."""
    nodes = [
        RELU,
        *pair("r", "scale", None if zero is None else "zero", **attributes),
        *pair("w", "w_scale", "w_zero"),
        helper.make_node("MatMul", ["r_dq", "w_dq"], ["y"], name="matmul"),
    ]
    weights = [
        weight("scale", scale), weight("w", np.ones((6, 2), np.float32)),
        weight("w_scale", np.float32(0.001)), weight("w_zero", np.int8(0)),
        *([] if zero is None else [weight("zero", zero)]),
    ]  # fmt: skip
    return graph(nodes, [("x", FLOAT, [batch, 6])], [("y", FLOAT, [batch, 2])], weights, opset=opset)


def look(model: onnx.ModelProto, images: np.ndarray, folder: Path, size: int = 16) -> Saturation:
    path = save(model, folder / "model.onnx")
    probes = Probes(path, threads=1)
    assert list(folder.iterdir()) == [path]
    data = open_images(images)
    return probes.run(
        batches(data, signature_of(model, path), InputSpec(), size), advance=lambda _count: None
    )


def numbers(count: int = 100) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (count, 6)).astype(np.float32)


@pytest.mark.parametrize("opset", [10, 13, 17, 21])
def test_the_share_outside_is_what_numpy_counts(opset: int, tmp_path: Path) -> None:
    x = numbers()
    found = look(quantized(np.float32(0.02), np.int8(0), opset=opset), x, tmp_path)
    (row,) = found.rows
    r = np.maximum(x, 0)
    assert row.outside == np.count_nonzero(r > 127.5 * np.float32(0.02)) > 20
    assert (row.elements, row.nan, found.images, found.unknown) == (600, 0, 100, 0)
    assert row.share == row.outside / 600
    assert (row.tensor, row.node) == ("r", "relu")
    assert (row.low, row.high) == (pytest.approx(-2.56), pytest.approx(2.54))
    assert (row.smallest, row.largest) == (0, r.max())


def test_a_zero_point_moves_the_range(tmp_path: Path) -> None:
    model = quantized(np.float32(0.01), np.uint8(30))
    model.graph.node[0].op_type = "Identity"
    x = numbers()
    (row,) = look(model, x, tmp_path).rows
    assert (row.low, row.high) == (pytest.approx(-0.30), pytest.approx(2.25))
    assert row.outside == np.count_nonzero((x > 2.255) | (x < -0.305))


def test_without_a_zero_point_it_is_uint8(tmp_path: Path) -> None:
    (row,) = look(quantized(np.float32(0.01), None), numbers(), tmp_path).rows
    assert (row.low, row.high) == (0, pytest.approx(2.55))


def test_channels_may_have_ranges_of_their_own(tmp_path: Path) -> None:
    x = numbers()
    scale = np.array([1, 1, 0.001, 1, 1, 1], np.float32)
    (row,) = look(quantized(scale, np.zeros(6, np.int8), axis=1), x, tmp_path).rows
    assert row.outside == np.count_nonzero(x[:, 2] > 0.1275)
    assert (row.channels, row.used) == (6, None)


def test_padding_never_counts(tmp_path: Path) -> None:
    x = np.full((17, 6), 0.5, np.float32)
    x[16] = 100  # the last image, which padding repeats
    found = look(quantized(np.float32(0.01), np.int8(0), batch=16), x, tmp_path)
    assert (found.images, found.rows[0].elements, found.rows[0].outside) == (17, 17 * 6, 6)


def test_nan_is_counted_apart_and_infinity_is_outside(tmp_path: Path) -> None:
    model = quantized(np.float32(1), np.int8(0))
    model.graph.node[0].op_type = "Log"
    x = np.array([[-1, 0, 1, 1, 1, 1]] * 4, np.float32)
    (row,) = look(model, x, tmp_path).rows
    assert (row.elements, row.nan, row.outside, row.share) == (24, 4, 4, 0.2)


def test_a_range_that_is_far_too_large_is_told_by_what_is_used(tmp_path: Path) -> None:
    (row,) = look(quantized(np.float32(2), np.int8(0)), np.full((5, 6), 12.7, np.float32), tmp_path).rows
    assert row.outside == 0
    assert row.used == pytest.approx(0.05)


def test_what_is_always_zero_uses_no_range(tmp_path: Path) -> None:
    (row,) = look(quantized(np.float32(1), np.int8(0)), np.full((5, 6), -1, np.float32), tmp_path).rows
    assert (row.used, row.share) == (None, 0)


def test_an_activation_with_several_rows_an_image(tmp_path: Path) -> None:
    model = quantized(np.float32(0.01), np.int8(0), batch=4)
    model.graph.node[0].op_type = "Identity"
    model.graph.node[0].output[0] = "whole"
    model.graph.initializer.append(weight("windows", np.array([8, 3], np.int64)))
    cut = helper.make_node("Reshape", ["whole", "windows"], ["r"], name="cut")
    model.graph.initializer[1].CopyFrom(weight("w", np.ones((3, 2), np.float32)))
    nodes = [model.graph.node[0], cut, *model.graph.node[1:]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, [8, 2]))
    x = np.zeros((5, 6), np.float32)
    x[4] = 9
    (row,) = look(model, x, tmp_path).rows
    assert (row.elements, row.outside) == (30, 6)


def test_a_scale_that_the_model_computes_is_left_out_and_counted(tmp_path: Path) -> None:
    model = quantized(np.float32(1), np.int8(0))
    peak = helper.make_node("ReduceMax", ["x"], ["peak"], name="peak", keepdims=0)
    model.graph.node[1].input[1] = model.graph.node[2].input[1] = "peak"
    nodes = [peak, *[onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = look(model, numbers(), tmp_path)
    assert (found.rows, found.unknown) == ((), 1)


@pytest.mark.parametrize("scale", [0, -0.1, np.nan, np.inf])
def test_a_scale_that_is_no_step_is_left_out_and_counted(scale: float, tmp_path: Path) -> None:
    found = look(quantized(np.float32(scale), np.int8(0)), numbers(), tmp_path)
    assert (found.rows, found.unknown) == ((), 1)


@pytest.mark.parametrize("element", ["INT16", "UINT16", "INT4", "UINT4", "FLOAT8E4M3FN"])
def test_types_of_other_than_eight_bits_are_left_out_and_counted(element: str, tmp_path: Path) -> None:
    # 1/16 of 65536 values is more than all of INT8: that such a range is hardly used means nothing.
    model = quantized(np.float32(0.1), None, opset=21)
    model.graph.initializer.append(helper.make_tensor("zero", getattr(onnx.TensorProto, element), [], [0]))
    for node in model.graph.node[1:3]:
        node.input.append("zero")
    found = look(model, numbers(), tmp_path)
    assert (found.rows, found.unknown) == ((), 1)


def test_activations_count_as_the_engine_sees_them(tmp_path: Path) -> None:
    # 1.0004 is no FP16 number; rounded to it (1.0), it lies within the range.
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], name="enter", to=FP16),
        *pair("narrow", "scale", "zero"),
        helper.make_node("Cast", ["narrow_dq"], ["y"], name="leave", to=FLOAT),
    ]
    scale = weight("scale", np.float16(1 / 128))
    weights = [scale, weight("zero", np.int8(0))]
    model = graph(nodes, [("x", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 6])], weights, opset=19)
    (row,) = look(model, np.full((3, 6), 127.5 / 128 + 0.0002, np.float32), tmp_path).rows
    assert (row.outside, row.node, row.tensor) == (0, None, "narrow")
    (row,) = look(model, np.full((3, 6), 127.5 / 128 + 0.0008, np.float32), tmp_path).rows
    assert row.outside == 18


def test_the_worst_tensor_comes_first_and_one_range_once(tmp_path: Path) -> None:
    nodes = [
        RELU, *pair("x", "fine", "zero"), *pair("r", "coarse", "zero"),
        helper.make_node("QuantizeLinear", ["r", "coarse", "zero"], ["again"], name="again"),
        helper.make_node("DequantizeLinear", ["again", "coarse", "zero"], ["again_dq"]),
        helper.make_node("Sum", ["x_dq", "r_dq", "again_dq"], ["y"], name="sum"),
    ]  # fmt: skip
    weights = [
        weight("fine", np.float32(0.001)),
        weight("coarse", np.float32(0.05)),
        weight("zero", np.int8(0)),
    ]
    model = graph(nodes, [("x", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 6])], weights)
    found = look(model, numbers(), tmp_path)
    assert [row.tensor for row in found.rows] == ["x", "r"]
    assert found.rows[0].share > 0.9


def test_an_activation_without_values_is_no_crash(tmp_path: Path) -> None:
    model = quantized(np.float32(0.01), np.int8(0))
    model.graph.initializer.extend([weight("start", np.array([0])), weight("axis", np.array([1]))])
    model.graph.node[0].CopyFrom(
        helper.make_node("Slice", ["x", "start", "start", "axis"], ["r"], name="none")
    )
    model.graph.initializer[1].CopyFrom(weight("w", np.ones((0, 2), np.float32)))
    (row,) = look(model, numbers(), tmp_path).rows
    assert (row.elements, row.outside, row.share, row.used) == (0, 0, 0, None)


def test_a_model_without_quantizers_is_not_run(tmp_path: Path) -> None:
    model = graph([RELU], [("x", FLOAT, ["N", 6])], [("r", FLOAT, ["N", 6])])
    found = look(model, numbers(), tmp_path)
    assert (found.rows, found.unknown, found.images) == ((), 0, 0)


def test_a_model_that_onnx_runtime_does_not_take_is_an_error_in_words(tmp_path: Path) -> None:
    model = quantized(np.float32(1), np.int8(0))
    model.graph.node[0].op_type = "Mystery"
    model.graph.node[0].domain = "acme"
    model.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(EngineError, match="acme::Mystery"):
        look(model, numbers(), tmp_path)


@pytest.mark.parametrize(("fixed", "count"), [(None, 1000), (64, 960), (4000, 1000)])
def test_the_sample_is_spread_evenly_over_all_images(fixed: int | None, count: int) -> None:
    images = np.arange(2500, dtype=np.float32)[:, None]
    taken = sample(open_images(images), fixed)
    values = taken.read(0, len(taken))["images"][:, 0]
    assert len(values) == count
    assert (values[0], values[-1] >= 2490) == (0, True)
    assert set(np.diff(values)) <= {2, 3}
    assert len(sample(open_images(images[:300]), None)) == 300
