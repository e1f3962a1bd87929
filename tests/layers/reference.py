"""Layers of other kinds than linears, written out as plain functions of one linear per GEMM, and how they are run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.nn.linear import quantized_linear
from dse.nn.select import OTHERS
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe

Linear = Callable[[int, Tensor, Tensor, Tensor | None], Tensor]
"""(number of the GEMM, x [..., K], W [N, K], bias) -> [..., N]."""


def quantized(recipe: Recipe, seed: int, step: int) -> Linear:
    """Linears under a recipe, with the random streams of a model's first layer of another kind."""

    def linear(number: int, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        return quantized_linear(x, w, bias, recipe, LinearContext(Key(torch.tensor([seed, step]), OTHERS + number)))

    return linear


def convolution(layer: Any, linear: Linear, x: Tensor) -> Tensor:
    """One or two dimensions, padded with zeros: groups of unfolded patches."""
    two = (lambda t: (1, *t)) if len(layer.kernel_size) == 1 else tuple  # a signal is an image of one row
    kernel, stride, dilation = two(layer.kernel_size), two(layer.stride), two(layer.dilation)
    padding = (0, *layer.padding) if len(layer.kernel_size) == 1 else layer.padding
    image = x.unsqueeze(2) if len(layer.kernel_size) == 1 else x
    n, biases = layer.out_channels // layer.groups, layer.bias
    out = []
    for g, part in enumerate(image.chunk(layer.groups, 1)):
        rows = F.unfold(part, kernel, dilation, padding, stride).mT
        w, b = layer.weight[g * n : (g + 1) * n].flatten(1), None if biases is None else biases[g * n : (g + 1) * n]
        out.append(linear(g, rows, w, b).mT)
    y = torch.cat(out, 1)
    return y.view(len(x), layer.out_channels, *layer_output(layer, x))


def layer_output(layer: Any, x: Tensor) -> torch.Size:
    """The sizes of the plain layer's output."""
    with torch.no_grad():
        size: torch.Size = type(layer).forward(layer, x).shape[2:]
    return size


def transposed(layer: Any, linear: Linear, x: Tensor) -> Tensor:
    """The columns of each input pixel, added up where they overlap."""
    one = len(layer.kernel_size) == 1
    two = (lambda t: (1, *t)) if one else tuple
    kernel, stride, dilation = two(layer.kernel_size), two(layer.stride), two(layer.dilation)
    padding = (0, *layer.padding) if one else layer.padding
    size = layer_output(layer, x)
    k = layer.in_channels // layer.groups
    out = []
    for g, part in enumerate(x.chunk(layer.groups, 1)):
        columns = linear(g, part.flatten(2).mT, layer.weight[g * k : (g + 1) * k].flatten(1).mT, None).mT
        out.append(F.fold(columns, two(size), kernel, dilation, padding, stride))
    y = torch.cat(out, 1)
    if layer.bias is not None:
        y = y + layer.bias.view(1, -1, 1, 1)
    return y.squeeze(2) if one else y


def heads(layer: nn.MultiheadAttention, linear: Linear, x: Tensor) -> Tensor:
    """Self-attention of x [B, T, E], packed projections, no mask."""
    assert layer.in_proj_weight is not None
    w, b = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    q, k, v = (linear(i, x.transpose(0, 1), w[i], b[i]) for i in range(3))
    q, k, v = (t.unflatten(-1, (layer.num_heads, -1)).permute(1, 2, 0, 3) for t in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).flatten(0, 1).flatten(-2)
    out = linear(3, y, layer.out_proj.weight, layer.out_proj.bias)
    return out.view(x.shape[1], x.shape[0], -1).transpose(0, 1)


def conv1d(layer: Any, linear: Linear, x: Tensor) -> Tensor:
    """GPT-2's."""
    return linear(0, x, layer.weight.mT, layer.bias)


def experts(layer: Any, linear: Linear, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Expert by expert, the tokens that the router sends it."""
    y = torch.zeros_like(x)
    for e in range(layer.num_experts):
        token, place = (index == e).nonzero(as_tuple=True)
        if not len(token):
            continue
        up, down = (layer.gate_up_proj if layer.has_gate else layer.up_proj)[e], layer.down_proj[e]
        bias = (layer.gate_up_proj_bias[e], layer.down_proj_bias[e]) if layer.has_bias else (None, None)
        if layer.is_transposed:
            up, down = up.mT, down.mT
        h = linear(e, x[token], up, bias[0])
        h = layer._apply_gate(h) if layer.has_gate else layer.act_fn(h)
        out = linear(layer.num_experts + e, h, down, bias[1])
        y = y.index_add(0, token, out * weights[token, place, None])
    return y


def run(function: Callable[..., Tensor], module: nn.Module, inputs: tuple[Any, ...], seed: int = 7) -> list[Tensor]:
    """Y, the gradient of the first input, and those of the parameters."""
    module.zero_grad()
    x = inputs[0].detach().clone().requires_grad_()
    y = function(x, *inputs[1:])
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y.dtype)
    y.backward(g)
    assert x.grad is not None
    return [y.detach(), x.grad, *(torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters())]


def copied(module: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy in another dtype."""
    return copy.deepcopy(module).to(dtype)
