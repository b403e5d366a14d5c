"""Lowering of an FP32 ONNX model to the precision that an engine is asked for."""

from trtcheck.precision.lower import LOWERING_VERSION, lower

__all__ = ["LOWERING_VERSION", "lower"]
