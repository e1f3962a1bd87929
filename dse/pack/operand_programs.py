"""How a segment computes its quantized operands: at one point, and of a tensor that two GEMMs take.

``x`` [E, R, K] is float32 or bfloat16, K the contraction axis; a ``LinearContext`` has the members' random key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dse import fused
from dse.fused import RuleStep, Table, Use
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.points import Point
from dse.numerics.quantizer import BFloat16, Identity, Quantized
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.statistics import AbsMax
from dse.numerics.techniques.tensor_scales import Current
from dse.numerics.techniques.weights import WeightRule


class PointProgram(ABC):
    """Computes the operand at one quantization point for all members of a segment."""

    @abstractmethod
    def __call__(self, x: Tensor, context: LinearContext, dtype: torch.dtype) -> Quantized:
        """The operand, rotated as its GEMM is; its values are of ``dtype`` and [E, R, K'], K' = K padded."""

    @abstractmethod
    def matches(self, other: PointProgram) -> bool:
        """Whether ``other`` is the same program with the same options."""


@dataclass(frozen=True, eq=False)
class KernelPoint(PointProgram):
    """One launch for any mix of options."""

    point: Point
    table: Table

    def __call__(self, x: Tensor, context: LinearContext, dtype: torch.dtype) -> Quantized:
        return fused.quantize(x, self.table, context.key.at(self.point), dtype)

    def matches(self, other: PointProgram) -> bool:
        return isinstance(other, KernelPoint) and (self.point, self.table) == (other.point, other.table)


@dataclass(frozen=True, eq=False)
class RulePoint(PointProgram):
    """W as its members' weight rule quantizes it, by kernels."""

    point: Point
    step: RuleStep

    def __call__(self, x: Tensor, context: LinearContext, dtype: torch.dtype) -> Quantized:
        return self.step.quantize(x, context.state, context.key.at(self.point), dtype)

    def matches(self, other: PointProgram) -> bool:
        return self is other


@dataclass(frozen=True)
class ReferencePoint(PointProgram):
    """Plain torch, for members with equal options.

    ``rule``: the weight rule that quantizes W, or None; it calls its quantizer, which kernels may compute.
    """

    point: Point
    use: Use
    rule: WeightRule | None = None

    def __call__(self, x: Tensor, context: LinearContext, dtype: torch.dtype) -> Quantized:
        key, gemm = context.key.at(self.point), Gemm(rotation=self.use.rotation)
        x = x.to(torch.float32)
        turned = gemm.turn(x, gemm.basis(x, context.key.at(self.point.lhs)))
        if self.rule is None:
            found = self.use.quantizer(turned, key)
        else:
            found = self.rule.quantize(self.use.quantizer, turned, dict(context.state), key)
        return found._replace(values=found.values.to(dtype))

    def matches(self, other: PointProgram) -> bool:
        return self == other

    def turns_into(self, other: ReferencePoint) -> bool:
        """Whether ``other`` makes of a transpose the transpose of what this one makes: square tiles, nothing drawn."""
        q = self.use.quantizer
        if self.use != other.use or self.use.rotation is not None or self.rule is not None:
            return False
        return type(q) in (Identity, BFloat16) or (
            type(q) is BlockQuantizer
            and q.tile == q.block
            and repeats(self.use)
            and type(q.statistic) is AbsMax
            and type(q.tensor_scale) in (type(None), Current)
            and q.outliers is None
            and q.choice is None
        )

    def laid_out(self, x: Tensor) -> Tensor:
        """The transposed values ``x`` as this program would lay them out, which a library's product depends on."""
        return x.contiguous() if isinstance(self.use.quantizer, BlockQuantizer) else x


@dataclass(frozen=True, eq=False)
class TwoOperands:
    """X, W or G, which two GEMMs take: ``rows`` as it lies, ``columns`` transposed, with values of their ``dtypes``.

    ``repeats``: nothing is drawn or remembered, so that another layer with the same programs would quantize the same
    tensor to the same values.
    """

    rows: PointProgram
    columns: PointProgram
    dtypes: tuple[torch.dtype, torch.dtype]
    repeats: bool = False

    def both(self, x: Tensor, context: LinearContext) -> tuple[Quantized, Quantized]:
        """The operand from ``x``, and the one from its transpose."""
        rows, columns, dtype = self.rows, self.columns, self.dtypes[0]
        if isinstance(rows, KernelPoint) and isinstance(columns, KernelPoint) and dtype == self.dtypes[1]:
            keys = context.key.at(rows.point), context.key.at(columns.point)
            return fused.quantize_both(x, rows.table, keys[0], columns.table, keys[1], dtype)
        if isinstance(rows, ReferencePoint) and isinstance(columns, ReferencePoint) and rows.turns_into(columns):
            first = self.first(x, context)
            return first, Quantized(columns.laid_out(first.values.mT), first.alpha)
        return self.first(x, context), self.second(x.mT, context)

    def first(self, x: Tensor, context: LinearContext) -> Quantized:
        """The operand from ``x`` alone."""
        return self.rows(x, context, self.dtypes[0])

    def second(self, x: Tensor, context: LinearContext) -> Quantized:
        """The other operand alone; ``x`` is transposed already."""
        return self.columns(x, context, self.dtypes[1])

    def matches(self, other: TwoOperands) -> bool:
        """Whether another layer's tensor is quantized by the same programs."""
        return (
            (self.dtypes, self.repeats) == (other.dtypes, other.repeats)
            and self.rows.matches(other.rows)
            and self.columns.matches(other.columns)
        )


def repeats(use: Use) -> bool:
    """Whether an operand is quantized the same at any layer and step: nothing is drawn, nothing held between steps."""
    signs = isinstance(use.rotation, Hadamard) and use.rotation.signs != "random"
    return (use.rotation is None or signs) and not (use.quantizer.random_bits or use.quantizer.remembers)
