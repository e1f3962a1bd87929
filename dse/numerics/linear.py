"""The numerics of one linear layer under a recipe: fprop, then dgrad and wgrad with the quantizers' own derivatives.

Shapes: X [..., M, K], W [..., N, K], G [..., M, N]; leading axes are members of a pack, which share the recipe.
Source: arXiv 2509.17791, Sec. 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dse.kernels.sqrt import sqrt
from dse.numerics.gemm import Gemm, check_widths
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe

FPROP, DGRAD, WGRAD = 0, 2, 4
"""Quantization point of each GEMM's left operand; the right operand's is the next."""


class Saved(NamedTuple):
    """What the backward pass needs: the operands, and their dequantized forward copies where the recipe uses those."""

    x: Tensor
    w: Tensor
    copies: tuple[Tensor, ...] = ()


def plain(x: Tensor) -> torch.autocast:
    """Inside, a surrounding autocast does not round operands or products to BF16."""
    return torch.autocast(x.device.type, enabled=False)


def is_plain(recipe: Recipe) -> bool:
    """Whether a recipe's three products are ordinary ones, without quantizers, rotations and models of accumulation."""
    gemms = (recipe.fprop, recipe.dgrad, recipe.wgrad)
    return all(gemm == Gemm() for gemm in gemms)


def output_dtype(x: Tensor) -> torch.dtype:
    """What a plain layer returns for an input x: autocast's dtype where that is on (it leaves FP64 alone), else x's."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def forward(recipe: Recipe, x: Tensor, w: Tensor, state: Mapping[str, Tensor], key: Key) -> tuple[Tensor, Saved]:
    """Y = X W^T [..., M, N]; ``state``: the weight rule's tensors; ``key``: of the layer and step."""
    a, b = _operands(recipe, x, w, state, key.at(FPROP))
    copies = (a.dequantize(), b.dequantize()) if recipe.backward_source == "forward" else ()
    return recipe.fprop.contract(a, b), Saved(x, w, copies)


def input_gradient(recipe: Recipe, saved: Saved, g: Tensor, key: Key) -> Tensor:
    """dX = G W [..., M, K], through the forward quantizer of X."""
    w = saved.copies[1] if saved.copies else saved.w
    dx = recipe.dgrad(g, w.mT, key.at(DGRAD))
    return _through(recipe.fprop, 0, saved.x, dx, bool(saved.copies), key.at(FPROP))


def weight_gradient(recipe: Recipe, saved: Saved, g: Tensor, key: Key) -> Tensor:
    """dW = G^T X [..., N, K], through the forward quantizer of W."""
    x = saved.copies[0] if saved.copies else saved.x
    dw = recipe.wgrad(g.mT, x.mT, key.at(WGRAD))
    return _through(recipe.fprop, 1, saved.w, dw, bool(saved.copies), key.at(FPROP))


def watched(recipe: Recipe, g: Tensor, key: Key) -> Tensor:
    """What a precision schedule looks at [..., 2]: the deviation of G, and of its noise at dgrad.lhs."""
    g = g.contiguous()
    noise = recipe.dgrad.lhs(g, replace(key.at(DGRAD), sampling=False)).dequantize() - g
    spread = g - g.mean((-2, -1), keepdim=True)  # torch.std takes another algorithm for one member than for several
    variance = spread.square().sum((-2, -1)) / max(1, g.shape[-2:].numel() - 1)
    return torch.stack([sqrt(variance), sqrt(noise.square().mean((-2, -1)))], -1)


def _operands(
    recipe: Recipe, x: Tensor, w: Tensor, state: Mapping[str, Tensor], key: Key
) -> tuple[Quantized, Quantized]:
    """The forward GEMM's quantized X and W; a weight rule has its say on W."""
    gemm = recipe.fprop
    check_widths(x, w)
    if recipe.weights is None:
        return gemm.operands(x, w, key)
    r = gemm.basis(x, key)
    b = recipe.weights.quantize(gemm.rhs, gemm.turn(w, r), dict(state), key.at(FPROP + 1))
    return gemm.lhs(gemm.turn(x, r), key), b


def _through(gemm: Gemm, side: int, x: Tensor, g: Tensor, turned: bool, key: Key) -> Tensor:
    """The vector-Jacobian product of the forward quantizer of X (side 0) or W (side 1).

    It lives in the rotated space, where ``g`` is already when it was computed from forward copies (``turned``).
    """
    quantizer = (gemm.lhs, gemm.rhs)[side]
    if quantizer.straight_through and (gemm.rotation is None or not turned):
        return g
    r = gemm.basis(x, key)
    g = g if turned else gemm.turn(g, r)
    g = quantizer.vjp(gemm.turn(x, r), g, key.at(FPROP + side))
    return g if r is None else gemm.back(g, r)[..., : x.shape[-1]]
