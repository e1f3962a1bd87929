"""Members of a pack with any mix of recipes, whose operands are quantized by one program per quantization point."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dse.numerics import linear_gemms
from dse.numerics.gemm import Gemm, check_widths
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.matmul import contract, finished, scaled
from dse.numerics.points import Point
from dse.numerics.quantizer import Identity, Quantized
from dse.numerics.random import Key
from dse.numerics.techniques.accumulations import Accumulation
from dse.pack.backend import OwnDerivative
from dse.pack.operand_programs import PointProgram, TwoOperands
from dse.pack.segments import Held, LayerOperands, Segment, wide
from dse.pack.shared_operands import Both, SharedOperands


@dataclass(frozen=True, eq=False)
class Kernel(Segment):
    """Members with equal ``dse.pack.backend.Backend``: one launch or one call quantizes an operand of all of them.

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
    derivatives: tuple[OwnDerivative | None, OwnDerivative | None] = (None, None)
    watched: PointProgram | None = None

    def forward(self, operands: LayerOperands, context: LinearContext, needs: tuple[bool, bool]) -> tuple[Tensor, Held]:
        x, w, bias = operands.x, operands.w, operands.bias
        check_widths(x, w)
        again = not self.copies
        a, at = self._shared(x, context, needs[1] and again, operands.shared)
        b, bt = self.w.both(w, context) if needs[0] and again else (self.w.first(w, context), None)
        if self.copies:
            at, bt = a if needs[1] else None, b if needs[0] else None
        kept = [t for q in (at, bt) if q is not None for t in _pair(q)]
        for tensor, derivative, need in zip((x, w), self.derivatives, needs, strict=True):
            if need and derivative is not None and derivative.quantizer is not None:
                kept.append(tensor)
        return self._product(0, a, b, bias, x.dtype), Held(tuple(kept), x.shape[-1])

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        kept, key = list(held.tensors), context.key
        at = _quantized(kept) if needs[1] else None
        bt = _quantized(kept) if needs[0] else None
        if self.copies:
            at = None if at is None else self.x.second(_decoded(at).mT, context)
            bt = None if bt is None else self.w.second(_decoded(bt).mT, context)
        rows = columns = dx = dw = None
        if self.watched is not self.g.rows:
            self._watch(g, None, context)
        if at is not None and bt is not None:
            rows, columns = self.g.both(g, context)
        elif bt is not None:
            rows = self.g.first(g, context)
        elif at is not None:
            columns = self.g.second(g.mT, context)
        if self.watched is self.g.rows:
            self._watch(g, rows, context)
        if rows is not None and bt is not None:
            own = self.derivatives[0]
            dx = self._product(1, rows, bt, None, g.dtype if own is None else torch.float32)
            if own is not None:
                tensor = kept.pop(0) if own.quantizer is not None else None
                dx = self._through(own, Point.FPROP_LHS, tensor, dx, key, held.columns).to(g.dtype)
        if columns is not None and at is not None:
            own = self.derivatives[1]
            dw = self._product(2, columns, at, None, torch.float32)
            if own is not None:
                tensor = kept.pop(0) if own.quantizer is not None else None
                dw = self._through(own, Point.FPROP_RHS, tensor, dw, key, held.columns)
        return dx, dw

    def _shared(self, x: Tensor, context: LinearContext, both: bool, shared: SharedOperands | None) -> Both:
        """The operands of X, from the last layer that has quantized it where they are the same."""

        def compute() -> Both:
            return Both(*self.x.both(x, context)) if both else Both(self.x.first(x, context), None)

        return compute() if shared is None else shared.take(self.members, x, self.x, both, compute)

    def _product(self, gemm: int, a: Quantized, b: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """a b^T + bias of fprop (0), dgrad (1) or wgrad (2), rounded once to ``dtype``."""
        accumulation = self.accumulations[gemm]
        if accumulation is None:
            return contract(a, b, bias, dtype)
        return finished(scaled(accumulation.product(wide(a.values), wide(b.values)), a, b), bias, dtype)

    def _through(self, own: OwnDerivative, point: Point, x: Tensor | None, g: Tensor, key: Key, columns: int) -> Tensor:
        """The gradient ``g`` on its way back through the forward quantizer of X or of W."""
        quantizer = own.quantizer or Identity()
        gemm = Gemm(quantizer, quantizer, own.rotation)
        like = g[..., :columns] if x is None else wide(x)
        return linear_gemms.through(gemm, point, like, g, self.copies, key)

    def _watch(self, g: Tensor, quantized: Quantized | None, context: LinearContext) -> None:
        """Fills what the precision schedule looks at; ``quantized``: G of its program, where it is known already."""
        if context.watch is None or self.watched is None:
            return
        if quantized is None:
            reading = context._replace(key=replace(context.key, sampling=False))
            quantized = self.watched(g, reading, torch.float32)
        g = wide(g).contiguous()
        context.watch.copy_(linear_gemms.deviations(g, _decoded(quantized) - g))


def _decoded(q: Quantized) -> Tensor:
    """f(X): BF16 where that is exact."""
    return q.values if q.alpha is None else q.values.float() * q.alpha


def _pair(q: Quantized) -> tuple[Tensor, Tensor]:
    return q.values, q.values.new_empty(0) if q.alpha is None else q.alpha


def _quantized(tensors: list[Tensor]) -> Quantized:
    """The first of the operands that ``_pair`` took apart; it is taken from the list."""
    values, alpha = tensors.pop(0), tensors.pop(0)
    return Quantized(values, alpha if alpha.numel() else None)
