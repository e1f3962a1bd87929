"""The mean over tokens, split off as a rank-one term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError, nearest
from dse.kernels.centered import centered, takes_centered
from dse.numerics.ops import Ops
from dse.numerics.quantizer import BFloat16, Quantizer
from dse.numerics.techniques.decompositions.base import DecodedOperands, Decomposition, Kept, SplitProduct, Term, times
from dse.numerics.tree import total

OF = ("both", "activations", "gradients")
BF16 = BFloat16()
_DRAW = 7
"""Sets the random bits of means apart from those of the operands at their point."""


@dataclass(frozen=True)
class Mean(Decomposition):
    """X = 1 mu_X^T + X_R and G = 1 mu_G^T + G_R, with the means over tokens; the residuals are quantized.

    - Y = Q(X_R) Q(W)^T + 1 (Q(W) P(mu_X))^T; dX = Q(G_R) Q(W) + 1 (Q(W)^T P(mu_G))^T;
    - dW = Q(G_R)^T Q(X_R) + (Q(G_R)^T 1) P(mu_X)^T + P(mu_G) (Q(X_R)^T 1)^T + M P(mu_G) P(mu_X)^T, M tokens: the
      quantized residuals do not add up to zero, so no term is left out.

    ``of``: 'both', or the mean of 'activations' (X) or of 'gradients' (G) alone; ``outer``: the quantizer P of means,
    one row each. Means are sums in FP32, in the order of ``dse.numerics.tree``, times 1/M.

    Cost: a mean (1 per element, one pass and a grid-wide dependency) and a subtraction at each use; vectors with W, and
    products of rank one and two. Source: arXiv 2603.10444 (Averis), Eq. 11 and 12 of version 1, which quantizes means
    as it does the residuals; known from its abstract and a secondary summary. Raises OptionError for an unknown word,
    and for an outer quantizer that holds something.
    """

    corrects: ClassVar[bool] = True
    narrow: ClassVar[bool] = True
    pairs: ClassVar[bool] = True

    of: str = "both"
    outer: Quantizer = BF16

    def __post_init__(self) -> None:
        if self.of not in OF:
            raise OptionError(f"mean.of cannot be {self.of!r}{nearest(self.of, OF)}")
        if self.outer.remembers or not self.outer.straight_through:
            raise OptionError("mean.outer must be straight-through and hold nothing")

    def fprop(self, x: Tensor, w: Tensor, kept: Kept) -> SplitProduct:
        mu = _mean(x) if self._splits_x else None
        return SplitProduct(x, w) if mu is None else SplitProduct(_rest(x, mu), w, aside=(mu,))

    def dgrad(self, g: Tensor, w: Tensor, kept: Kept) -> SplitProduct:
        if not self._splits_g:
            return SplitProduct(g, w.mT)
        rest, mu = self._apart(g, kept)
        return SplitProduct(rest, w.mT, aside=(mu,))

    def wgrad(self, g: Tensor, x: Tensor, kept: Kept) -> SplitProduct:
        rest_g, mu_g = self._apart(g, kept) if self._splits_g else (g, _none(g))
        mu_x = _mean(x) if self._splits_x else _none(x)
        rest_x = _rest(x, mu_x) if self._splits_x else x
        return SplitProduct(rest_g.mT, rest_x.mT, aside=(mu_g, mu_x))

    def corrections(self, gemm: str, parts: SplitProduct, operands: DecodedOperands, kept: Kept) -> tuple[Term, ...]:
        if gemm != "wgrad":
            return tuple(
                Term(None, times(operands.b, self._outer(operands.turn(mu), operands.left, kept))) for mu in parts.aside
            )
        mu_g, mu_x = parts.aside
        one = mu_g.new_ones(*mu_g.shape[:-2], 1, parts.lhs.shape[-1])
        ones = operands.turn(one)
        sum_g, sum_x = (times(q, ones) for q in (operands.a, operands.b))
        p_g, p_x = (
            self._outer(mu, operands.left + i, kept).mT if mu.shape[-2] else None for i, mu in enumerate((mu_g, mu_x))
        )
        terms = []
        if p_x is not None:
            terms.append(Term(sum_g if p_g is None else sum_g + one.shape[-1] * p_g, p_x))
        if p_g is not None:
            terms.append(Term(p_g, sum_x))
        return tuple(terms)

    def copies(self, parts: SplitProduct, x: Tensor, w: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
        return (x + self._outer(parts.aside[0], 0, kept) if parts.aside else x), w

    def point_ops(self, point: str) -> Ops | None:
        x, g = self._splits_x, self._splits_g
        if not {"fprop.lhs": x, "dgrad.lhs": g, "wgrad.lhs": g, "wgrad.rhs": x}.get(point, False):
            return None
        if point.startswith("wgrad"):
            return Ops(element=1, why="the mean subtracted, 1/element")
        return Ops(element=2, output=1, reads=1, syncs=1, why="a mean and a subtraction, 2/element; 1 added per output")

    def term_flop(self, gemm: str, m: int, k: int, n: int) -> float:
        if gemm != "wgrad":
            return 2.0 * n * k if (self._splits_x if gemm == "fprop" else self._splits_g) else 0.0
        both = self._splits_x + self._splits_g
        return 2.0 * both * n * k + 2.0 * m * (n * self._splits_x + k * self._splits_g)

    @property
    def _splits_x(self) -> bool:
        return self.of != "gradients"

    @property
    def _splits_g(self) -> bool:
        return self.of != "activations"

    def _apart(self, g: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
        """G without its mean, and the mean; both backward GEMMs take them."""
        mu = kept.once("mean of G", g, lambda: _mean(g))
        return kept.once("G without its mean", g, lambda: _rest(g, mu)), mu

    def _outer(self, mu: Tensor, point: int, kept: Kept) -> Tensor:
        return self.outer(mu, kept.key.at(point).fork(_DRAW)).dequantize()


def _mean(x: Tensor) -> Tensor:
    """The mean over the rows of [..., M, K], in FP32 at least: [..., 1, K]."""
    return total(x, (-2,)) * (1 / x.shape[-2]) if x.shape[-2] else _none(x).new_zeros(*x.shape[:-2], 1, x.shape[-1])


def _rest(x: Tensor, mu: Tensor) -> Tensor:
    """x without its mean row, in FP32 at least."""
    return centered(x, mu) if takes_centered(x, mu) else x - mu


def _none(x: Tensor) -> Tensor:
    """No rows of [..., M, K], in FP32 at least."""
    return x[..., :0, :].to(torch.promote_types(x.dtype, torch.float32))


__all__ = ["OF", "Mean"]
