"""Quantized projections of ``nn.MultiheadAttention``; attention itself is torch's own code."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dse.nn.layers.parts import Parted
from dse.nn.uncompiled import uncompiled
from dse.numerics.recipe import Recipe


class QuantizedMultiheadAttention(Parted, nn.MultiheadAttention):
    """Takes the place of ``nn.MultiheadAttention``: Q, K, V and the output are four quantized linears, parts 0 to 3.

    Each projects its own input, so that a packed ``in_proj_weight`` has the numerics of three linears. Arguments and
    results are those of the plain module, and so is attention, unquantized. Its fused evaluation, which multiplies by
    the weights itself, is not used.
    """

    def equip(self, recipe: Recipe, layer: int) -> None:
        super().equip(recipe, layer)
        self._qkv_same_embed_dim = False  # nn.TransformerEncoderLayer asks before its fused evaluation

    def sliced(self) -> list[tuple[str, Any]]:
        e, whole = self.embed_dim, slice(None)
        packed = [("in_proj_weight", slice(i * e, (i + 1) * e)) for i in range(3)]
        apart = [(f"{name}_proj_weight", whole) for name in "qkv"]
        return [*(packed if self._qkv_same_embed_dim else apart), ("out_proj.weight", whole)]

    @uncompiled
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See ``nn.MultiheadAttention.forward``."""
        turned = self.batch_first and query.dim() == 3
        if turned:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        y, weights = _attention(
            query, key, value, self.embed_dim, self.num_heads, self, self.in_proj_bias, self.bias_k, self.bias_v,
            self.add_zero_attn, self.dropout, self, self.out_proj.bias, self.training, key_padding_mask, need_weights,
            attn_mask, self.in_proj_weight is None, self, self, self, average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )  # fmt: skip
        return y.transpose(0, 1) if turned else y, weights


def _project(
    query: Tensor, key: Tensor, value: Tensor, layer: QuantizedMultiheadAttention, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """In the place of torch's projection by ``in_proj_weight``."""
    biases = (None, None, None) if bias is None else bias.chunk(3)
    packed: Tensor | None = layer.in_proj_weight
    apart = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    weights = apart if packed is None else packed.chunk(3)
    operands = zip((query, key, value), weights, biases, strict=True)
    q, k, v = (layer.parts[i](*each) for i, each in enumerate(operands))
    return q, k, v


def _project_apart(
    query: Tensor, key: Tensor, value: Tensor, layer: QuantizedMultiheadAttention, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """In the place of torch's projection by ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight``."""
    return _project(query, key, value, layer, layer.in_proj_bias)


def _project_out(x: Tensor, layer: QuantizedMultiheadAttention, bias: Tensor | None) -> Tensor:
    """In the place of ``F.linear`` by the output's weight."""
    y: Tensor = layer.parts[3](x, layer.out_proj.weight, bias)
    return y


_attention: Any = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "_in_projection_packed": _project, "_in_projection": _project_apart, "linear": _project_out},
    "multi_head_attention_forward",
    F.multi_head_attention_forward.__defaults__,
)
"""torch's own function, which calls the functions above, with the layer in the place of its weights."""


__all__ = ["QuantizedMultiheadAttention"]
