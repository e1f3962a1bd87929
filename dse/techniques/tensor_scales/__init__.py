"""Tensor scales: a second, FP32 scale for the whole operand."""

from dse.techniques.tensor_scales.base import TensorScale
from dse.techniques.tensor_scales.current import Current

TENSOR_SCALES: dict[str, type[TensorScale]] = {"current": Current}

__all__ = ["TENSOR_SCALES", "Current", "TensorScale"]
