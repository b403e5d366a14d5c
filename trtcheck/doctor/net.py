"""The self-test's net: convolution, ReLU, max pooling, Gemm; with its answers in numpy.

Its numbers are chosen so that rounding to the asked-for type always errs to the same side: averaged over the
answers, what a type does to them stands out from the noise of single roundings. So two things can be told
from the answers: that they are right, and that they were not computed with more digits than was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtcheck.case import Precision

INPUT, OUTPUT = "images", "scores"
BATCHES = (1, 3, 8)
"""Sizes of the batches that are run; smallest and largest are those of the engine's profile."""
PRODUCTS = ("conv", "dense")
"""The nodes that compute in the asked-for precision."""

_CHANNELS, _MAPS, _SIDE, _CLASSES = 3, 8, 8, 10
_FEATURES = _MAPS * (_SIDE // 2) ** 2
_TERMS = 9 * _CHANNELS + _FEATURES
_OPSET, _IR = 17, 8

_DIGITS = {Precision.FP32: 24, Precision.TF32: 11, Precision.FP16: 11, Precision.BF16: 8, Precision.INT8: 11}
"""Significant binary digits of the type; of INT8, those of what is not quantized."""
_LEVELS = 127
_OFFSET = 7 / 16
"""Steps by which numbers lie above one that the type has: rounded down, and by nearly as much as can be."""

_ROUNDINGS = 6 + 11
"""Units of error allowed: input, weights and result of two products (6); the rest for sums of 128 terms that
are kept in the narrow type, whose errors grow as the square root of the terms."""

Round = Callable[[np.ndarray], np.ndarray]


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _float_rounding(digits: int) -> Round:
    def rounded(array: np.ndarray) -> np.ndarray:
        mantissa, exponent = np.frexp(array)
        return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, digits)), exponent - digits))

    return rounded


def _steps(array: np.ndarray) -> np.ndarray:
    """One step of symmetric INT8: per output channel of a weight, or of the whole array of activations."""
    axes = tuple(range(1, array.ndim))
    return np.asarray(np.abs(array).max(axis=axes, keepdims=True) / _LEVELS)


def _quantized(array: np.ndarray, step: Any) -> np.ndarray:
    return np.asarray(np.rint(array / step) * step)


@dataclass(frozen=True)
class Net:
    """The net for one precision.

    Attributes:
        precision: What its numbers are chosen for.
        conv: Weights of the convolution, ``(8, 3, 3, 3)``, float64 as all of them, exact in FP32.
        conv_bias: Its bias, ``(8,)``.
        dense: Weights of the Gemm, ``(10, 128)``.
        dense_bias: Its bias, ``(10,)``.
        images: The inputs, ``(12, 3, 8, 8)``: one batch of each of `BATCHES`.
    """

    precision: Precision
    conv: np.ndarray
    conv_bias: np.ndarray
    dense: np.ndarray
    dense_bias: np.ndarray
    images: np.ndarray

    def model(self) -> onnx.ModelProto:
        """The net as an FP32 ONNX model with an open batch size."""
        parameters = {
            "conv_w": self.conv, "conv_b": self.conv_bias, "dense_w": self.dense, "dense_b": self.dense_bias,
        }  # fmt: skip
        graph = helper.make_graph(
            [
                helper.make_node("Conv", [INPUT, "conv_w", "conv_b"], ["maps"], "conv", pads=[1, 1, 1, 1]),
                helper.make_node("Relu", ["maps"], ["active"], "relu"),
                helper.make_node(
                    "MaxPool", ["active"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]
                ),
                helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
                helper.make_node("Gemm", ["features", "dense_w", "dense_b"], [OUTPUT], "dense", transB=1),
            ],
            "self-test",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", _CHANNELS, _SIDE, _SIDE])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", _CLASSES])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in parameters.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)

    def batches(self) -> list[np.ndarray]:
        """The inputs in FP32, batch by batch."""
        return np.split(self.images.astype(np.float32), np.cumsum(BATCHES)[:-1])

    def answers(self, *, weights: bool = False, values: bool = False) -> np.ndarray:
        """The answers to `images`, ``(12, 10)``, computed in float64.

        Args:
            weights: Whether weights are rounded to the precision first.
            values: Whether the inputs of both products are.
        """
        parameter = self._weight_rounding() if weights else _same
        value = self._value_rounding() if values else _same
        maps = _convolved(value(self.images), parameter(self.conv)) + self.conv_bias[:, None, None]
        return np.asarray(_scored(value(_pooled(maps)), parameter(self.dense)) + self.dense_bias)

    def allowed(self) -> float:
        """The largest error that an answer in this precision may have."""
        largest = float(np.abs(self.answers()).max())
        if self.precision is Precision.FP32:
            return _TERMS * 2.0**-24 * largest
        float_part = (_ROUNDINGS * 2.0 ** -_DIGITS[self.precision] + _TERMS * 2.0**-24) * largest
        return float_part + (self._quantization_error() if self.precision is Precision.INT8 else 0.0)

    def _weight_rounding(self) -> Round:
        if self.precision is Precision.INT8:
            return lambda array: _quantized(array, _steps(array))
        return _float_rounding(_DIGITS[self.precision])

    def _value_rounding(self) -> Round:
        if self.precision is Precision.INT8:
            return lambda array: _quantized(array, _steps(array).max())
        return _float_rounding(_DIGITS[self.precision])

    def _quantization_error(self) -> float:
        """What half a step in every number that is quantized can add up to."""
        maps = _convolved(self.images, self.conv) + self.conv_bias[:, None, None]
        half_pixel, half_conv = _steps(self.images).max() / 2, _steps(self.conv) / 2 * np.ones_like(self.conv)
        error = _convolved(np.full_like(self.images, half_pixel), np.abs(self.conv) + half_conv)
        error += _convolved(np.abs(self.images), half_conv)
        features = _pooled(maps)
        error = _pooled(error) + _steps(features).max() / 2
        half_dense = _steps(self.dense) / 2 * np.ones_like(self.dense)
        return float((_scored(error, np.abs(self.dense) + half_dense) + _scored(features, half_dense)).max())


def _convolved(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """3 by 3 cross-correlation with a border of zeros, as nine products."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = images.shape[2:]
    return sum(
        (
            np.einsum("ncyx,oc->noyx", padded[:, :, y : y + height, x : x + width], weights[:, :, y, x])
            for y in range(3)
            for x in range(3)
        ),
        np.zeros((len(images), len(weights), height, width)),
    )


def _pooled(maps: np.ndarray) -> np.ndarray:
    """ReLU, then the largest of every 2 by 2."""
    count, channels, height, width = maps.shape
    tiles = np.maximum(maps, 0).reshape(count, channels, height // 2, 2, width // 2, 2)
    return np.asarray(tiles.max(axis=(3, 5)))


def _scored(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(features.reshape(len(features), -1) @ weights.T)


def net(precision: Precision) -> Net:
    """The net whose numbers are chosen for *precision*.

    The images hold quarters of different brightness, from 0 to 3, and a third channel of 1. The convolution's
    results lie `_OFFSET` steps of the type above whole quarters between 2 and 16, but for two maps that ReLU
    empties. The Gemm's weights lie as far above numbers of the type, all of one sign for one class, so that
    nothing cancels out; they differ much, so that no two places, maps or classes can be mistaken.
    """
    # FP32 takes the numbers of TF32, so that TF32 in its place is found out.
    digits = _DIGITS[Precision.TF32 if precision is Precision.FP32 else precision]
    int8 = precision is Precision.INT8
    conv_step, dense_step = (
        (0.0, _OFFSET) if int8 else (_OFFSET * 2.0 ** (2 - digits), _OFFSET * 2.0 ** (1 - digits))
    )
    return Net(
        precision,
        conv=_taps(conv_step),
        conv_bias=np.where(np.arange(_MAPS) < _MAPS - 2, 2 + np.arange(_MAPS) / 2, -16.0),
        dense=_levels(dense_step) * 2.0**-11 if int8 else _binades(dense_step) * 2.0**-7,
        dense_bias=(np.arange(_CLASSES) - 4.0) / 4,
        images=_images(),
    )


def _images() -> np.ndarray:
    number, channel, row, column = np.indices((sum(BATCHES), _CHANNELS, _SIDE, _SIDE))
    quarter = row // 4 * 2 + column // 4
    brightness = (number * (number + quarter) + channel + quarter * quarter) % 3 * 3 - 3
    images = np.clip(brightness + (row * 3 + column * 5 + number) % 3, 0, 3)
    return np.where(channel < _CHANNELS - 1, images, 1).astype(np.float64)


def _taps(offset: float) -> np.ndarray:
    """Five weights of a half and a quarter for every map, and *offset* in the middle of the channel of 1."""
    weights = np.zeros((_MAPS, _CHANNELS, 3, 3))
    for number, taps in enumerate(weights[:, :-1].reshape(_MAPS, -1)):
        taps[(number * 5 + np.array([0, 4, 7, 11, 14])) % len(taps)] = (0.5, 0.25, 0.5, 0.25, 0.5)
        weights[number, :-1] = taps.reshape(weights[number, :-1].shape)
    weights[:, -1, 1, 1] = offset
    return weights


def _turns() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs by class; and by class and feature two numbers without order: 0 to 15, and 0 to 3."""
    row, column = np.indices((_CLASSES, _FEATURES))
    mixed = (column * column * 7 + column * (2 * row + 5) + row * 11) % 61
    return np.where(row % 2, -1, 1), mixed % 16, mixed // 16


def _binades(offset: float) -> np.ndarray:
    """Weights from 1 to 16, each *offset* times its binade above a number of few digits."""
    sign, fine, coarse = _turns()
    return np.asarray(sign * (1 + fine / 16 + offset) * 2.0**coarse)


def _levels(offset: float) -> np.ndarray:
    """Weights from 8 to 62 and *offset*, where the largest of each class is 127."""
    sign, fine, coarse = _turns()
    row, column = np.indices(sign.shape)
    levels = np.floor((8 + fine / 2) * 2.0 ** np.minimum(coarse, 2)) + offset
    return np.asarray(sign * np.where(column == row, _LEVELS, levels))


def share_of(answers: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """How far *answers* lie on the way from *before* to *after*: 0 there, 1 here, averaged over them all."""
    way = after - before
    return float(((answers - before) * way).sum() / (way * way).sum())
