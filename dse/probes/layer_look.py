"""The looks at one layer: its operands X [E, M, K], W [E, N, K], G [E, M, N] at the six points, and its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, where

from dse.numerics import linear as products
from dse.numerics.gemm import Gemm
from dse.numerics.matmul import product
from dse.numerics.quantizer import Identity, Quantizer
from dse.numerics.random import Key
from dse.numerics.recipe import POINTS, Recipe
from dse.pack.segments import SegmentContext
from dse.probes import measures
from dse.probes.anatomy import Anatomy, dissect


class Seen(NamedTuple):
    """The operands of members with one recipe, and which gradients the training computes (of X, of W)."""

    x: Tensor
    w: Tensor
    g: Tensor
    needs: tuple[bool, bool]


class Look(NamedTuple):
    """What was seen at one point: values [E] by name, per-member histograms, and elements that are to be compared."""

    point: str
    values: measures.MemberValues
    scales: list[dict[str, int]] | None = None
    elements: Tensor | None = None


def looks(recipe: Recipe, seen: Seen, site: SegmentContext) -> Iterator[Look]:
    """All points where ``recipe`` quantizes, then the gradients; ``site.key`` must not be sampling."""
    gemms = (recipe.fprop, recipe.dgrad, recipe.wgrad)
    if all(isinstance(recipe.quantizer(p), Identity) for p in POINTS) and not any(g.accumulation for g in gemms):
        return
    x, w, g, needs = seen
    saved = products.Saved(x, w)
    if recipe.backward_source == "forward":
        saved = products.forward(recipe, x, w, site.state, site.key)[1]
    copied_x, copied_w = saved.copies or (x, w)
    fprop, dgrad, wgrad = products.FPROP, products.DGRAD, products.WGRAD
    yield from _operand(recipe.fprop, 0, x, site.key.at(fprop), fprop)
    yield from _weight(recipe, w, site)
    if needs[0]:
        yield from _operand(recipe.dgrad, 0, g, site.key.at(dgrad), dgrad)
        yield from _operand(recipe.dgrad, 1, copied_w.mT, site.key.at(dgrad), dgrad)
    if needs[1]:
        yield from _operand(recipe.wgrad, 0, g.mT, site.key.at(wgrad), wgrad)
        yield from _operand(recipe.wgrad, 1, copied_x.mT, site.key.at(wgrad), wgrad)
    if needs[0]:
        dx = products.input_gradient(recipe, saved, g, site.key)
        yield Look("dgrad", measures.gradient(dx, product(g, w.mT)))
    if needs[1]:
        dw = products.weight_gradient(recipe, saved, g, site.key)
        yield Look("wgrad", measures.gradient(dw, product(g.mT, x.mT)))


def _operand(gemm: Gemm, side: int, x: Tensor, key: Key, first: int) -> Iterator[Look]:
    """One operand of a GEMM, rotated as the GEMM does; ``key``: of its left operand."""
    quantizer = (gemm.lhs, gemm.rhs)[side]
    if isinstance(quantizer, Identity):
        return
    turned = gemm.turn(x, gemm.basis(x, key))
    yield _look(POINTS[first + side], quantizer, turned, key.at(first + side))


def _weight(recipe: Recipe, w: Tensor, site: SegmentContext) -> Iterator[Look]:
    """W of the forward GEMM, where a weight rule has its say, and whose elements are compared from look to look."""
    gemm, key = recipe.fprop, site.key.at(products.FPROP)
    if isinstance(gemm.rhs, Identity):
        return
    basis, own = gemm.basis(w, key), key.at(products.FPROP + 1)
    turned = gemm.turn(w, basis)
    anatomy = dissect(gemm.rhs, turned, own)
    if recipe.weights is not None:
        quantized = recipe.weights.quantize(gemm.rhs, turned, dict(site.state), own)
        elements = quantized.values
        if anatomy.decode is not None and anatomy.elements is not None:  # in the same blocks, with the same scales
            kept = elements == anatomy.quantized.values
            elements = where(kept, anatomy.elements, elements / anatomy.decode)
        anatomy = anatomy._replace(quantized=quantized, elements=elements)
    look = _summary(POINTS[products.FPROP + 1], turned, anatomy)
    if basis is not None and basis.dim() > 1:  # drawn anew at each step: nothing to compare
        yield look
        return
    yield look._replace(elements=anatomy.quantized.values if anatomy.elements is None else anatomy.elements)


def _look(point: str, quantizer: Quantizer, x: Tensor, key: Key) -> Look:
    return _summary(point, x, dissect(quantizer, x, key))


def _summary(point: str, x: Tensor, anatomy: Anatomy) -> Look:
    scales = None if anatomy.scales is None else measures.histogram(anatomy.scales)
    return Look(point, measures.operand(x, anatomy), scales)
