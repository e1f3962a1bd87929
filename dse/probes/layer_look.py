"""The looks at one layer: its operands X [E, M, K], W [E, N, K], G [E, M, N] at the six points, and its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, where

from dse.numerics import linear_gemms
from dse.numerics.decomposed_gemms import operand_pairs
from dse.numerics.gemm import Gemm
from dse.numerics.linear_gemms import LinearContext, Saved
from dse.numerics.matmul import product
from dse.numerics.points import POINTS, Point
from dse.numerics.quantizer import Identity
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.decompositions import Kept
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


def looks(recipe: Recipe, seen: Seen, context: LinearContext) -> Iterator[Look]:
    """All points where ``recipe`` quantizes, then the gradients; ``context.key`` must not be sampling."""
    gemms = (recipe.fprop, recipe.dgrad, recipe.wgrad)
    if all(isinstance(recipe.quantizer(p), Identity) for p in POINTS) and not any(g.accumulation for g in gemms):
        return
    (x, w, g, needs), key = seen, context.key
    saved = Saved(x, w)
    if recipe.backward_source == "forward":
        saved = linear_gemms.forward(recipe, x, w, context)[1]
    kept = Kept(context.parts, key)
    forward = operand_pairs(recipe, x, w, g, kept)["fprop"]
    copied_x, copied_w = saved.copies or (x, w)
    backward = operand_pairs(recipe, copied_x, copied_w, g, kept)
    yield from _operand(recipe, Point.FPROP_LHS, forward[0], key)
    yield from _weight(recipe, forward[1], context)
    for gemm, left, need in (("dgrad", Point.DGRAD_LHS, needs[0]), ("wgrad", Point.WGRAD_LHS, needs[1])):
        if need:
            yield from _operand(recipe, left, backward[gemm][0], key)
            yield from _operand(recipe, Point(left + 1), backward[gemm][1], key)
    if needs[0]:
        dx = linear_gemms.input_gradient(recipe, saved, g, key, context.parts)
        yield Look("dgrad", measures.gradient(dx, product(g, w.mT)))
    if needs[1]:
        dw = linear_gemms.weight_gradient(recipe, saved, g, key, context.parts)
        yield Look("wgrad", measures.gradient(dw, product(g.mT, x.mT)))


def _operand(recipe: Recipe, point: Point, x: Tensor, key: Key) -> Iterator[Look]:
    """The operand ``x`` of the GEMM that a point belongs to, rotated as the GEMM does."""
    quantizer = recipe.quantizer(point.path)
    if isinstance(quantizer, Identity):
        return
    turned = _turned(recipe, point, x, key)[0]
    yield _summary(point, turned, dissect(quantizer, turned, key.at(point)))


def _weight(recipe: Recipe, w: Tensor, context: LinearContext) -> Iterator[Look]:
    """W of the forward GEMM, where a weight rule has its say, and whose elements are compared from look to look."""
    quantizer, key = recipe.fprop.rhs, context.key.at(Point.FPROP_RHS)
    if isinstance(quantizer, Identity):
        return
    turned, basis = _turned(recipe, Point.FPROP_RHS, w, key)
    anatomy = dissect(quantizer, turned, key)
    if recipe.weights is not None:
        quantized = recipe.weights.quantize(quantizer, turned, dict(context.state), key)
        elements = quantized.values
        if anatomy.decode is not None and anatomy.elements is not None:  # in the same blocks, with the same scales
            kept = elements == anatomy.quantized.values
            elements = where(kept, anatomy.elements, elements / anatomy.decode)
        anatomy = anatomy._replace(quantized=quantized, elements=elements)
    look = _summary(Point.FPROP_RHS, turned, anatomy)
    if basis is not None and basis.dim() > 1:  # drawn anew at each step: nothing to compare
        yield look
        return
    yield look._replace(elements=anatomy.quantized.values if anatomy.elements is None else anatomy.elements)


def _turned(recipe: Recipe, point: Point, x: Tensor, key: Key) -> tuple[Tensor, Tensor | None]:
    """The operand after its GEMM's rotation, and what that depends on."""
    gemm: Gemm = getattr(recipe, point.gemm)
    basis = gemm.basis(x, key.at(point.lhs))
    return gemm.turn(x, basis), basis


def _summary(point: Point, x: Tensor, anatomy: Anatomy) -> Look:
    scales = None if anatomy.scales is None else measures.histogram(anatomy.scales)
    return Look(point.path, measures.operand(x, anatomy), scales)
