"""Members of a pack under one recipe with a decomposition: low-precision products by the programs of a segment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.decomposed_gemms import Decomposed, Programs
from dse.numerics.gemm import check_widths
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.points import Point
from dse.numerics.quantizer import Quantized
from dse.numerics.recipe import Recipe
from dse.numerics.recipe_fields import quantizes
from dse.numerics.techniques.decompositions import Kept, Shared
from dse.pack.point_segment import PointSegment
from dse.pack.segments import Held, LayerOperands, Segment


@dataclass(frozen=True, eq=False)
class DecomposedSegment(Segment):
    """Computes what ``dse.numerics.decomposed_gemms`` does, bit for bit, from operands that ``inner`` quantizes.

    ``recipe``: whose GEMMs are split, the members'.
    """

    inner: PointSegment
    recipe: Recipe

    def forward(self, operands: LayerOperands, context: LinearContext, needs: tuple[bool, bool]) -> tuple[Tensor, Held]:
        x, w, bias = operands.x, operands.w, operands.bias
        check_widths(x, w)
        y, (own_x, own_w) = self._gemms(context, False).forward(x, w, self.inner.copies, bias, x.dtype)
        kept = [t for t, need in ((own_w, needs[0]), (own_x, needs[1])) if need]
        return y, Held(tuple(kept), x.shape[-1])

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        kept, gemms, dx, dw = list(held.tensors), self._gemms(context, all(needs)), None, None
        self.inner.watch(g, context)
        if needs[0]:
            dx = gemms.input_gradient(g, kept.pop(0), g.dtype)
        if needs[1]:
            dw = gemms.weight_gradient(g, kept.pop(0))
        return dx, dw

    def _gemms(self, context: LinearContext, both: bool) -> Decomposed:
        recipe = self.recipe
        assert recipe.decomposition is not None
        alike = recipe.decomposition.pairs and quantizes(recipe.dgrad) == quantizes(recipe.wgrad)
        programs = _SegmentPrograms(self.inner, context, both and alike)
        return Decomposed(self.recipe, programs, Kept(context.parts, context.key, Shared()))


class _SegmentPrograms(Programs):
    """The programs of a segment, for one call; ``both``: its G at dgrad is wgrad's, and both gradients are wanted."""

    def __init__(self, segment: PointSegment, context: LinearContext, both: bool) -> None:
        self._segment, self._context, self._both = segment, context, both
        self._columns: tuple[Tensor, Quantized] | None = None

    def operand(self, point: Point, x: Tensor) -> Quantized:
        own, context = self._segment, self._context
        if point == Point.DGRAD_LHS and self._both:
            rows, columns = own.g.both(x, context)
            self._columns = x, columns
            return rows
        if point == Point.WGRAD_LHS and self._columns is not None:
            of, columns = self._columns
            assert (x.shape, x.stride(), x.dtype) == (of.mT.shape, of.mT.stride(), of.dtype)
            return columns
        tensors = {Point.FPROP_LHS: own.x, Point.FPROP_RHS: own.w, Point.DGRAD_LHS: own.g}
        if point in tensors:
            return tensors[point].first(x, context)
        return {Point.DGRAD_RHS: own.w, Point.WGRAD_LHS: own.g, Point.WGRAD_RHS: own.x}[point].second(x, context)

    def product(
        self, gemm: int, a: Quantized, b: Quantized, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self._segment.product(gemm, a, b, bias, torch.float32 if dtype is None else dtype)
