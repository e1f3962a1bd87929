"""The three GEMMs of a linear whose products are written in parts: low-precision products plus correction terms.

Who quantizes the operands and multiplies them is a parameter (``Programs``), so that layers and packs share this. The
terms are plain products with FP32 accumulation; Y is the sum of the parts in FP32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from dse.numerics.matmul import finished, wide
from dse.numerics.points import GEMMS, Point
from dse.numerics.quantizer import Quantized
from dse.numerics.recipe import Recipe
from dse.numerics.recipe_fields import quantizes
from dse.numerics.techniques.decompositions import DecodedOperands, Decomposition, Kept, SplitProduct, Term
from dse.numerics.techniques.decompositions.base import decoded, times


class Programs(ABC):
    """How a linear's operands are quantized and multiplied."""

    @abstractmethod
    def operand(self, point: Point, x: Tensor) -> Quantized:
        """The operand at a point, from x [..., R, K] as its GEMM takes it, K the contraction axis."""

    @abstractmethod
    def product(
        self, gemm: int, a: Quantized, b: Quantized, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """a b^T of fprop (0), dgrad (1) or wgrad (2), [..., M, N] in FP32 at least.

        ``bias`` and ``dtype``: those of ``dse.numerics.matmul.contract``.
        """


class Decomposed:
    """A decomposition at work at one layer, in one call; ``recipe``: whose GEMMs it splits, where they quantize.

    X and G may be BF16, which counts as FP32. ``dtype``: a product is rounded to it once, None: not.
    """

    def __init__(self, recipe: Recipe, programs: Programs, kept: Kept) -> None:
        assert recipe.decomposition is not None
        if _recomputing():  # activation checkpointing repeats a forward pass that was looked at already
            kept = kept._replace(key=replace(kept.key, sampling=False))
        self._recipe, self._programs, self._kept = recipe, programs, kept
        self._own: dict[str, Decomposition | None] = {
            name: recipe.decomposition if quantizes(getattr(recipe, name)) else None for name in GEMMS
        }

    def forward(
        self, x: Tensor, w: Tensor, copies: bool, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Y [..., M, N] plus ``bias`` [..., N], and the X and W that backward GEMMs take.

        These are ``copies`` of the forward product's, or x and w.
        """
        own = self._own["fprop"]
        if own is not None and self._kept.key.sampling:
            own.observe(x, w, self._kept)
        parts = SplitProduct(x, w) if own is None else own.fprop(self._taken("fprop", x), w, self._kept)
        a, b = self._quantized(0, parts)
        y = self._sum(0, parts, (a, b), bias, dtype)
        if not copies:
            return y, (x, w)
        copied = decoded(a), decoded(b)
        return y, copied if own is None else own.copies(parts, *copied, self._kept)

    def input_gradient(self, g: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """dX = G W [..., M, K]."""
        own = self._own["dgrad"]
        parts = SplitProduct(g, w.mT) if own is None else own.dgrad(self._taken("dgrad", g), w, self._kept)
        return self._sum(1, parts, self._quantized(1, parts), None, dtype)

    def weight_gradient(self, g: Tensor, x: Tensor) -> Tensor:
        """dW = G^T X [..., N, K]."""
        own = self._own["wgrad"]
        parts = SplitProduct(g.mT, x.mT)
        if own is not None:
            parts = own.wgrad(self._taken("wgrad", g), self._taken("wgrad", x), self._kept)
        return self._sum(2, parts, self._quantized(2, parts), None, None)

    def _taken(self, gemm: str, x: Tensor) -> Tensor:
        """X or G as the decomposition takes it: BF16 stays where it is narrow, or leaves the GEMM whole."""
        own = self._own[gemm]
        return x if own is None or own.narrow or gemm not in own.splits else wide(x)

    def _quantized(self, gemm: int, parts: SplitProduct) -> tuple[Quantized, Quantized]:
        left = Point(2 * gemm)
        return self._programs.operand(left, parts.lhs), self._programs.operand(Point(left + 1), parts.rhs)

    def _sum(
        self,
        gemm: int,
        parts: SplitProduct,
        operands: tuple[Quantized, Quantized],
        bias: Tensor | None,
        dtype: torch.dtype | None,
    ) -> Tensor:
        """The product plus its terms, one after the other, and the bias; a vector that comes first is added by it."""
        a, b = operands
        terms = [*parts.terms, *self._corrections(gemm, parts, a, b)]
        first = None
        if terms and terms[0].left is None and terms[0].columns is None:
            first = terms.pop(0).right.squeeze(-1)
        elif not terms:
            first, bias = bias, None
        if not terms and bias is None:
            return self._programs.product(gemm, a, b, first, dtype)
        y = self._programs.product(gemm, a, b, first)
        for left, right, columns in terms:
            term = right.mT if left is None else times(left, right)
            if columns is None:
                y = y + term
            else:
                places = columns[..., None, :].expand_as(term)
                y = y.scatter(-1, places, y.gather(-1, places) + term)
        return finished(y, bias, dtype)

    def _corrections(self, gemm: int, parts: SplitProduct, a: Quantized, b: Quantized) -> tuple[Term, ...]:
        name, left = GEMMS[gemm], 2 * gemm
        own, rotation = self._own[name], getattr(self._recipe, name)
        if own is None or not own.corrects or name not in own.splits:
            return ()

        def turn(rows: Tensor) -> Tensor:
            turned: Tensor = rotation.turn(rows, rotation.basis(rows, self._kept.key.at(left)))
            return turned

        return own.corrections(name, parts, DecodedOperands(a, b, turn, left), self._kept)


def operand_pairs(recipe: Recipe, x: Tensor, w: Tensor, g: Tensor, kept: Kept) -> dict[str, tuple[Tensor, Tensor]]:
    """What each GEMM's quantizers take, by its name, before rotation; X and W: those that the GEMM takes."""
    own = recipe.decomposition
    pairs = {"fprop": SplitProduct(x, w), "dgrad": SplitProduct(g, w.mT), "wgrad": SplitProduct(g.mT, x.mT)}
    if own is not None:
        split = {"fprop": (own.fprop, x, w), "dgrad": (own.dgrad, g, w), "wgrad": (own.wgrad, g, x)}
        pairs |= {n: f(a, b, kept) for n, (f, a, b) in split.items() if quantizes(getattr(recipe, n))}
    return {name: (parts.lhs, parts.rhs) for name, parts in pairs.items()}


def _recomputing() -> bool:
    """Whether a forward pass repeats an earlier one inside of a backward pass (activation checkpointing)."""
    return torch._C._current_graph_task_id() != -1


__all__ = ["Decomposed", "Programs", "operand_pairs"]
