"""Attention's weights softmax(factor S), S masked: one pass on a GPU, plain torch elsewhere."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dse.kernels.availability import takes

_LONGEST = 8192
"""Columns that one program holds."""
_ELEMENTS = 2048
"""Of a program with short rows."""


def attention_weights(scores: Tensor, factor: float, causal: bool) -> Tensor:
    """softmax(factor S) over the columns of S [..., T, T']; with ``causal`` row i sees the columns up to i, T = T'."""
    if takes(scores) and scores.dtype == torch.float32 and scores.shape[-1] <= _LONGEST:
        weights: Tensor = _Softmax.apply(scores, factor, causal)  # type: ignore[no-untyped-call]
        return weights
    scores = scores * factor
    if causal:
        tokens = scores.shape[-1]
        hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores.softmax(-1)


class _Softmax(torch.autograd.Function):
    """The kernels as a node of autograd, whose gradient has none."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, factor: float, causal: bool) -> Tensor:
        weights = softmax(scores, factor, causal)
        ctx.factor, ctx.causal = factor, causal
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weights,) = ctx.saved_tensors
        return softmax_gradient(weights, grads[0], ctx.factor, ctx.causal), None, None


def softmax(scores: Tensor, factor: float, causal: bool) -> Tensor:
    """The weights by the kernel; ``scores`` float32 [..., T, T']."""
    from dse.kernels.device.softmax import softmax_kernel

    scores = scores.contiguous()
    weights = torch.empty_like(scores)
    if scores.numel():
        grid, numbers, tile = _launch(scores, factor)
        softmax_kernel[grid](scores, weights, *numbers, **tile, CAUSAL=causal)
    return weights


def softmax_gradient(weights: Tensor, grad: Tensor, factor: float, causal: bool) -> Tensor:
    """The gradient of the scores by the kernel, from the weights and their gradient."""
    from dse.kernels.device.softmax import softmax_backward_kernel

    out = torch.empty_like(weights)
    if weights.numel():
        grid, numbers, tile = _launch(weights, factor)
        softmax_backward_kernel[grid](weights, grad.contiguous(), out, *numbers, **tile, CAUSAL=causal)
    return out


def _launch(x: Tensor, factor: float) -> tuple[tuple[int], tuple[int, int, float], dict[str, int]]:
    """Grid, numbers and tile for x [..., T, T']."""
    rows, columns = x.shape[-2:]
    matrices = x.numel() // (rows * columns)
    width = 1 << max(columns - 1, 15).bit_length()
    height = max(1, min(_ELEMENTS // width, 1 << (rows - 1).bit_length()))
    tile = {"BR": height, "BC": width, "num_warps": 4 if width <= 2048 else 8}
    return (matrices * -(-rows // height),), (rows, columns, factor), tile


__all__ = ["attention_weights", "softmax", "softmax_gradient"]
