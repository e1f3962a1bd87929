"""Which class takes the place of which kind of layer, besides linears and 2-D convolutions."""

from __future__ import annotations

from typing import Any

from dse.nn.kinds import EXPERTS, TRANSPOSED_LINEAR, class_name, kind_of, plain_class
from dse.nn.layers.convolutions import (
    QuantizedConv1d,
    QuantizedConv3d,
    QuantizedConvTranspose1d,
    QuantizedConvTranspose2d,
    QuantizedGroupedConv2d,
)
from dse.nn.layers.experts import experts_class
from dse.nn.layers.multihead import QuantizedMultiheadAttention
from dse.nn.linear import QuantizedLinear

MADE: dict[str, type[Any]] = {
    "torch.nn.modules.conv.Conv1d": QuantizedConv1d,
    "torch.nn.modules.conv.Conv2d": QuantizedGroupedConv2d,
    "torch.nn.modules.conv.Conv3d": QuantizedConv3d,
    "torch.nn.modules.conv.ConvTranspose1d": QuantizedConvTranspose1d,
    "torch.nn.modules.conv.ConvTranspose2d": QuantizedConvTranspose2d,
    "torch.nn.modules.activation.MultiheadAttention": QuantizedMultiheadAttention,
    "transformers.models.falcon.modeling_falcon.FalconLinear": QuantizedLinear,
}
"""The quantized class of each plain one."""


def made(plain: Any) -> type[Any]:
    """The quantized class for a layer of one of these kinds; ``transformers`` is imported only if the layer is its."""
    kind = kind_of(plain)
    if kind is EXPERTS:
        return experts_class(plain_class(plain))
    if kind is TRANSPOSED_LINEAR:
        from dse.nn.layers.transposed import QuantizedConv1D

        return QuantizedConv1D
    return MADE[class_name(plain)]


__all__ = ["MADE", "made"]
