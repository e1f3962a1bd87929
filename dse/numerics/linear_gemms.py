"""The three GEMMs of one linear layer under a recipe: fprop, then dgrad and wgrad with the quantizers' own derivatives.

Shapes: X [..., M, K], W [..., N, K], G [..., M, N]; leading axes are members of a pack, which share the recipe.
Source: arXiv 2509.17791, Sec. 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse import kernels
from dse.kernels.sqrt import sqrt
from dse.numerics.decomposed_gemms import Decomposed, Programs
from dse.numerics.gemm import Gemm, check_widths
from dse.numerics.points import GEMMS, Point
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.decompositions import Kept
from dse.numerics.tree import total


class LinearContext(NamedTuple):
    """What a call of a quantized linear layer needs besides its operands and its recipe.

    ``key``: of the layer and step, at any point; ``state``: the weight rule's tensors; ``watch``: float32 [..., 2] that
    the backward pass fills for the precision schedule (see ``watched``), or None; ``parts``: the decomposition's
    tensors. In a pack all have a leading axis of members.
    """

    key: Key
    state: Mapping[str, Tensor] = MappingProxyType({})
    watch: Tensor | None = None
    parts: Mapping[str, Tensor] = MappingProxyType({})


class Saved(NamedTuple):
    """What the backward pass needs: the operands, and their dequantized forward copies where the recipe uses those."""

    x: Tensor
    w: Tensor
    copies: tuple[Tensor, ...] = ()


def is_plain(recipe: Recipe) -> bool:
    """Whether a recipe's three products are ordinary ones, without quantizers, rotations and models of accumulation."""
    gemms = (recipe.fprop, recipe.dgrad, recipe.wgrad)
    return all(gemm == Gemm() for gemm in gemms)


class _OwnPrograms(Programs):
    """A recipe's own quantizers, rotations and products."""

    def __init__(self, recipe: Recipe, key: Key) -> None:
        self._recipe, self._key = recipe, key

    def operand(self, point: Point, x: Tensor) -> Quantized:
        gemm: Gemm = getattr(self._recipe, point.gemm)
        turned = gemm.turn(x, gemm.basis(x, self._key.at(point.lhs)))
        return self._recipe.quantizer(point.path)(turned, self._key.at(point))

    def product(
        self, gemm: int, a: Quantized, b: Quantized, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        own: Gemm = getattr(self._recipe, GEMMS[gemm])
        return own.contract(a, b, bias, dtype)


def decomposed(recipe: Recipe, key: Key, parts: Mapping[str, Tensor]) -> Decomposed:
    """The GEMMs of a recipe with a decomposition, in plain torch."""
    return Decomposed(recipe, _OwnPrograms(recipe, key), Kept(parts, key))


def forward(recipe: Recipe, x: Tensor, w: Tensor, context: LinearContext) -> tuple[Tensor, Saved]:
    """Y = X W^T [..., M, N]."""
    double = recipe.backward_source == "forward"
    if recipe.decomposition is not None:
        check_widths(x, w)
        y, copied = decomposed(recipe, context.key, context.parts).forward(x, w, double)
        return y, Saved(x, w, copied if double else ())
    a, b = _operands(recipe, x, w, context.state, context.key.at(Point.FPROP_LHS))
    copies = (a.dequantize(), b.dequantize()) if double else ()
    return recipe.fprop.contract(a, b), Saved(x, w, copies)


def input_gradient(
    recipe: Recipe, saved: Saved, g: Tensor, key: Key, parts: Mapping[str, Tensor] = MappingProxyType({})
) -> Tensor:
    """dX = G W [..., M, K], through the forward quantizer of X. ``parts``: the decomposition's tensors."""
    w = saved.copies[1] if saved.copies else saved.w
    if recipe.decomposition is not None:
        return decomposed(recipe, key, parts).input_gradient(g, w)
    dx = recipe.dgrad(g, w.mT, key.at(Point.DGRAD_LHS))
    return through(recipe.fprop, Point.FPROP_LHS, saved.x, dx, bool(saved.copies), key)


def weight_gradient(
    recipe: Recipe, saved: Saved, g: Tensor, key: Key, parts: Mapping[str, Tensor] = MappingProxyType({})
) -> Tensor:
    """dW = G^T X [..., N, K], through the forward quantizer of W. ``parts``: the decomposition's tensors."""
    x = saved.copies[0] if saved.copies else saved.x
    if recipe.decomposition is not None:
        return decomposed(recipe, key, parts).weight_gradient(g, x)
    dw = recipe.wgrad(g.mT, x.mT, key.at(Point.WGRAD_LHS))
    return through(recipe.fprop, Point.FPROP_RHS, saved.w, dw, bool(saved.copies), key)


def watched(recipe: Recipe, g: Tensor, key: Key) -> Tensor:
    """What a precision schedule looks at [..., 2]: the deviation of G, and of its noise at dgrad.lhs."""
    q = recipe.dgrad.lhs(g.contiguous(), replace(key.at(Point.DGRAD_LHS), sampling=False))
    return deviations(g, q)


def deviations(g: Tensor, q: Quantized) -> Tensor:
    """[..., 2] float32: the standard deviation of G [..., M, N], and the root mean square of q - G.

    From sums in FP64 of G, G^2 and (q - G)^2, q - G in FP32, over all elements in the order of ``dse.numerics.tree``.
    """
    count, q = g.shape[-2:].numel(), q.folded()
    if g.dim() == 3 and kernels.takes(g):
        first, second, noise = kernels.moments(g, q.values, q.alpha)
    else:
        wide = g.to(torch.promote_types(g.dtype, torch.float32)).contiguous()
        decoded = q.values if q.alpha is None else q.values.to(wide.dtype) * q.alpha
        at_least = (0, int(not count))  # one element
        x, off = (pad(t.flatten(-2).double(), at_least) for t in (wide, decoded - wide))
        first, second, noise = (total(t, (-1,)).squeeze(-1) for t in (x, x.square(), off.square()))
    variance = (second - first * first * (1 / max(1, count))).clamp_min(0) * (1 / max(1, count - 1))
    return torch.stack([sqrt(variance.float()), sqrt((noise * (1 / max(1, count))).float())], -1)


def _operands(
    recipe: Recipe, x: Tensor, w: Tensor, state: Mapping[str, Tensor], key: Key
) -> tuple[Quantized, Quantized]:
    """The forward GEMM's quantized X and W; a weight rule has its say on W. ``key``: at the point of X."""
    gemm = recipe.fprop
    check_widths(x, w)
    if recipe.weights is None:
        return gemm.operands(x, w, key)
    r = gemm.basis(x, key)
    b = recipe.weights.quantize(gemm.rhs, gemm.turn(w, r), dict(state), key.at(Point.FPROP_RHS))
    return gemm.lhs(gemm.turn(x, r), key), b


def through(gemm: Gemm, point: Point, x: Tensor, g: Tensor, turned: bool, key: Key) -> Tensor:
    """The vector-Jacobian product of the forward quantizer of X (at its point) or of W.

    It lives in the rotated space, where ``g`` is already when it was computed from forward copies (``turned``).
    """
    quantizer = gemm.lhs if point == Point.FPROP_LHS else gemm.rhs
    if quantizer.straight_through and (gemm.rotation is None or not turned):
        return g
    r = gemm.basis(g, key.at(Point.FPROP_LHS))
    if not quantizer.straight_through:
        g = g if turned else gemm.turn(g, r)
        g = quantizer.vjp(gemm.turn(x, r), g, key.at(point))
    return g if r is None else gemm.back(g, r)[..., : x.shape[-1]]
