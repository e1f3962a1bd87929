"""Quantized layers and ``quantize_``, which puts them in the place of a model's plain ones."""

from dse.nn.distributed import sync_held_scales
from dse.nn.linear import QuantizedConv2d, QuantizedLinear, quantized_linear
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.nn.quantized_layer import QuantizedLayer, in_phase
from dse.numerics.linear_gemms import LinearContext

__all__ = [
    "LinearContext",
    "QuantizedConv2d",
    "QuantizedLayer",
    "QuantizedLinear",
    "after_step",
    "before_step",
    "in_phase",
    "quantize_",
    "quantized_layers",
    "quantized_linear",
    "set_clock",
    "sync_held_scales",
]
