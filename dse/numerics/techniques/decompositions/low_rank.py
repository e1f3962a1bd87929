"""Low-rank branch: the leading singular directions of W are multiplied in BF16, and only the rest is quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.matmul import product
from dse.numerics.ops import Ops
from dse.numerics.quantizer import BFloat16
from dse.numerics.techniques.decompositions.base import Decomposition, Kept, SplitProduct, Term, times

_BF16 = BFloat16()


@dataclass(frozen=True)
class LowRank(Decomposition):
    """W = A B + R: Y = Q(X) Q(R)^T + (X B^T) A^T and dX = Q(G) Q(R) + (G A) B, with A [N, r] and B [r, K] in BF16.

    A B is the best approximation of W of rank r = min(``rank``, N, K), before A and B are rounded; it is computed from
    the weight at the beginning of steps 0, ``every``, 2 ``every`` ... and held in between, while R follows the weight.
    X, G and the inner products X B^T and G A are rounded to BF16. dW is left whole: its gradient is that of W.

    State: ``a`` and ``b``, FP32 tensors of BF16 numbers. Cost: a subtraction of A B from W (1 per element and a pass at
    each use), four thin products of 2 r operations per element of X, Y, G and dX, one of 2 r per element of W at each
    use; a decomposition every so many steps, not counted. Source: arXiv 2607.04422 (Full-Stack FP4), LoRA-SVD, anew
    every 4,000 steps; known from its abstract and secondary summaries: the rank is ours, the decomposition is exact
    where theirs is randomized. Raises OptionError unless rank >= 1 and every >= 1.
    """

    splits: ClassVar[tuple[str, ...]] = ("fprop", "dgrad")
    measures: ClassVar[bool] = False

    rank: int = 32
    every: int = 4000

    def __post_init__(self) -> None:
        if self.rank < 1 or self.every < 1:
            raise OptionError(f"low_rank needs rank >= 1 and every >= 1, not {self.rank} and {self.every}")

    def state(self, w: Tensor) -> dict[str, Tensor]:
        a, b = self._factors(w)
        return {"a": a, "b": b}

    def refresh(self, w: Tensor, tensors: Mapping[str, Tensor], step: int) -> None:
        if step % self.every or w.is_meta:
            return
        flat, a, b = (t.view(-1, *t.shape[-2:]) for t in (w, tensors["a"], tensors["b"]))
        for one, own_a, own_b in zip(flat, a, b, strict=True):
            if bool(one.isfinite().all()):
                for own, fresh in zip((own_a, own_b), self._factors(one), strict=True):
                    own.copy_(fresh)

    def fprop(self, x: Tensor, w: Tensor, kept: Kept) -> SplitProduct:
        a, b = (kept.tensors[name].to(w.dtype) for name in ("a", "b"))
        branch = times(a, b.mT)
        return SplitProduct(x, w - branch, (Term(_rounded(times(_rounded(x), b)), a),), (branch,))

    def dgrad(self, g: Tensor, w: Tensor, kept: Kept) -> SplitProduct:
        a, b = (kept.tensors[name].to(w.dtype) for name in ("a", "b"))
        term = Term(_rounded(times(_rounded(g), a.mT)), b.mT)
        return SplitProduct(g, (w - times(a, b.mT)).mT, (term,))

    def copies(self, parts: SplitProduct, x: Tensor, w: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
        return x, w + parts.aside[0]

    def point_ops(self, point: str) -> Ops | None:
        if point not in ("fprop.rhs", "dgrad.rhs"):
            return None
        return Ops(element=1, reads=1, why="A B subtracted, 1/element and a pass")

    def term_flop(self, gemm: str, m: int, k: int, n: int) -> float:
        return 2.0 * min(self.rank, n, k) * (m * k + m * n + n * k) if gemm != "wgrad" else 0.0

    def _factors(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """A [N, r] and B [r, K] of one weight [N, K]: eigenvectors of W W^T or W^T W, the smaller of both, in FP64."""
        rank = min(self.rank, *w.shape)
        if w.is_meta:
            return w.new_zeros(w.shape[0], rank), w.new_zeros(rank, w.shape[1])
        wide = w.detach().double().clone()
        tall = wide.shape[0] > wide.shape[1]
        side = wide.mT.contiguous() if tall else wide
        vectors = torch.linalg.eigh(product(side, side)).eigenvectors[:, -rank:].contiguous()
        other = product(side.mT.contiguous(), vectors.mT.contiguous())
        a, b = (other, vectors.mT) if tall else (vectors, other.mT)
        return _rounded(a.float()).contiguous(), _rounded(b.float()).contiguous()


def _rounded(t: Tensor) -> Tensor:
    return _BF16(t).dequantize()


__all__ = ["LowRank"]
