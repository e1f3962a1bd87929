"""Members of a pack with any mix of recipes, whose operands are quantized by one program per quantization point."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dse.kernels import SumFactors
from dse.numerics import linear_gemms
from dse.numerics.gemm import check_widths
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.matmul import contract
from dse.numerics.points import Point
from dse.numerics.quantizer import Quantized
from dse.numerics.techniques.accumulations import Accumulation
from dse.pack.derivatives import Derivative
from dse.pack.operand_programs import PointProgram, TwoOperands
from dse.pack.segments import Held, LayerOperands, Segment
from dse.pack.shared_operands import Both, SharedOperands


@dataclass(frozen=True, eq=False)
class PointSegment(Segment):
    """Members with equal ``dse.pack.backend.Backend``: one launch or one call quantizes an operand of all of them.

    It computes what ``dse.numerics.linear_gemms`` does, bit for bit, from operands that each is quantized once.

    ``x``, ``w``, ``g``: the programs of the three tensors; ``copies``: the backward GEMMs quantize the forward copies
    of X and W, not X and W; ``accumulations``: of fprop, dgrad and wgrad; ``derivatives``: of the forward quantizers of
    X and W; ``watched``: the quantization of G whose noise a precision schedule looks at; the last three None where
    there is nothing to do.
    """

    x: TwoOperands
    w: TwoOperands
    g: TwoOperands
    copies: bool = False
    accumulations: tuple[Accumulation | None, ...] = (None, None, None)
    derivatives: tuple[Derivative | None, Derivative | None] = (None, None)
    watched: PointProgram | None = None

    def forward(self, operands: LayerOperands, context: LinearContext, needs: tuple[bool, bool]) -> tuple[Tensor, Held]:
        x, w, bias = operands.x, operands.w, operands.bias
        check_widths(x, w)
        again = not self.copies
        a, at = self._shared(x, context, needs[1] and again, operands.shared)
        b, bt = self.w.both(w, context) if needs[0] and again else (self.w.first(w, context), None)
        if self.copies:
            at, bt = a if needs[1] else None, b if needs[0] else None
        saved = [q for q in (at, bt) if q is not None]
        kept = [t for q in saved for t in _apart(q)]
        groups = tuple(None if q.factors is None else q.factors.group for q in saved)
        for tensor, derivative, need in zip((x, w), self.derivatives, needs, strict=True):
            if need and derivative is not None and derivative.saves:
                kept.append(tensor)
        return self.product(0, a, b, bias, x.dtype), Held(tuple(kept), x.shape[-1], groups)

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        kept, groups = list(held.tensors), list(held.groups)
        at = _quantized(kept, groups.pop(0)) if needs[1] else None
        bt = _quantized(kept, groups.pop(0)) if needs[0] else None
        if self.copies:
            at = None if at is None else self.x.second(_decoded(at).mT, context)
            bt = None if bt is None else self.w.second(_decoded(bt).mT, context)
        rows = columns = dx = dw = None
        if self.watched is not self.g.rows:
            self.watch(g, context)
        if at is not None and bt is not None:
            rows, columns = self.g.both(g, context)
        elif bt is not None:
            rows = self.g.first(g, context)
        elif at is not None:
            columns = self.g.second(g.mT, context)
        if self.watched is self.g.rows:
            self.watch(g, context, rows)
        if rows is not None and bt is not None:
            dx = self._gradient(Point.FPROP_LHS, (rows, bt), kept, context, (held.columns, g.dtype))
        if columns is not None and at is not None:
            dw = self._gradient(Point.FPROP_RHS, (columns, at), kept, context, (held.columns, torch.float32))
        return dx, dw

    def _shared(self, x: Tensor, context: LinearContext, both: bool, shared: SharedOperands | None) -> Both:
        """The operands of X, from the last layer that has quantized it where they are the same."""

        def compute() -> Both:
            return Both(*self.x.both(x, context)) if both else Both(self.x.first(x, context), None)

        return compute() if shared is None else shared.take(self.members, x, self.x, both, compute)

    def product(self, gemm: int, a: Quantized, b: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """a b^T + bias of fprop (0), dgrad (1) or wgrad (2), rounded once to ``dtype``."""
        accumulation = self.accumulations[gemm]
        return (accumulation.contract if accumulation else contract)(a, b, bias, dtype)

    def _gradient(
        self,
        of: Point,
        operands: tuple[Quantized, Quantized],
        kept: list[Tensor],
        context: LinearContext,
        shape: tuple[int, torch.dtype],
    ) -> Tensor:
        """The gradient of X or of W (at its point), from its product and through its forward quantizer.

        ``kept``: begins with X or W where the derivative needs it, which is taken; ``shape``: columns and dtype.
        """
        gemm, (columns, dtype) = 1 + of, shape
        derivative = self.derivatives[of]
        if derivative is None:
            return self.product(gemm, *operands, None, dtype)
        product = self.product(gemm, *operands, None, torch.float32)
        return derivative(kept.pop(0) if derivative.saves else None, product, context.key, columns, dtype)

    def watch(self, g: Tensor, context: LinearContext, quantized: Quantized | None = None) -> None:
        """Fills what the precision schedule looks at; ``quantized``: G of its program, where it is known already."""
        if context.watch is None or self.watched is None:
            return
        if quantized is None:
            reading = context._replace(key=replace(context.key, sampling=False))
            quantized = self.watched(g, reading, torch.float32)
        context.watch.copy_(linear_gemms.deviations(g, quantized))


def _decoded(q: Quantized) -> Tensor:
    """f(X): BF16 where that is exact."""
    q = q.folded()
    return q.values if q.alpha is None else q.values.float() * q.alpha


def _apart(q: Quantized) -> list[Tensor]:
    nothing = q.values.new_empty(0)
    return [q.values, nothing if q.alpha is None else q.alpha, nothing if q.factors is None else q.factors.scales]


def _quantized(tensors: list[Tensor], group: int | None) -> Quantized:
    """The first of the operands that ``_apart`` took apart; it is taken from the list. ``group``: of its factors."""
    values, alpha, scales = (tensors.pop(0) for _ in range(3))
    return Quantized(values, alpha if alpha.numel() else None, None if group is None else SumFactors(scales, group))
