"""Tensor scales: a second, FP32 level above the block scales."""

from dse.numerics.techniques.tensor_scales.base import TensorScale
from dse.numerics.techniques.tensor_scales.current import Current
from dse.numerics.techniques.tensor_scales.delayed import Delayed
from dse.numerics.techniques.tensor_scales.outer import Outer

TENSOR_SCALES: dict[str, type[TensorScale]] = {"current": Current, "delayed": Delayed, "outer": Outer}

__all__ = ["TENSOR_SCALES", "Current", "Delayed", "Outer", "TensorScale"]
