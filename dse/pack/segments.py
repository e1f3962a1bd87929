"""How one packed linear layer is computed: contiguous runs of members, each by the reference or by the kernels.

E members; X [E, M, K], W [E, N, K], G [E, M, N]. X is float32 or bfloat16, Y and G have its dtype and so has dX; W and
dW are float32. Sums and biases are FP32, and Y and dX are rounded once, to nearest even. Slices of the stack are views,
so what a member keeps between steps is changed in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dse import fused
from dse.fused import RecipeTable, Use
from dse.numerics import linear_gemms
from dse.numerics.gemm import check_widths
from dse.numerics.linear_gemms import LinearContext, Saved
from dse.numerics.matmul import contract, finished
from dse.numerics.points import POINTS, Point
from dse.numerics.quantizer import Identity, Quantized
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.recipes import RECIPES


class LayerOperands(NamedTuple):
    """What the layer's members compute with: X [E, M, K], W [E, N, K], and biases [E, N] or None."""

    x: Tensor
    w: Tensor
    bias: Tensor | None = None

    def of(self, members: slice) -> LayerOperands:
        """Those of some members."""
        return LayerOperands(self.x[members], self.w[members], None if self.bias is None else self.bias[members])


class Held(NamedTuple):
    """Tensors a segment saves for its backward pass; ``columns``: of X, to which the gradient of X is cut."""

    tensors: tuple[Tensor, ...]
    columns: int


@dataclass(frozen=True)
class Segment(ABC):
    """Members ``start`` to ``stop`` (excluded) of a layer."""

    start: int
    stop: int

    @property
    def members(self) -> slice:
        return slice(self.start, self.stop)

    @abstractmethod
    def forward(self, operands: LayerOperands, context: LinearContext, needs: tuple[bool, bool]) -> tuple[Tensor, Held]:
        """Y with the bias, and the tensors saved for the backward pass; ``needs``: whether X and W get a gradient."""

    @abstractmethod
    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """dX and dW where they are needed."""


@dataclass(frozen=True)
class Reference(Segment):
    """The specification: one recipe for all members of the run, in plain torch."""

    recipe: Recipe

    def forward(self, operands: LayerOperands, context: LinearContext, needs: tuple[bool, bool]) -> tuple[Tensor, Held]:
        x, w, bias = operands
        y, saved = linear_gemms.forward(self.recipe, wide(x), w, context)
        return finished(y, bias, x.dtype), Held((x, w, *saved.copies), x.shape[-1])

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        x, w, *copies = held.tensors
        saved, dtype, g = Saved(wide(x), w, tuple(copies)), g.dtype, wide(g)
        if context.watch is not None:
            context.watch.copy_(linear_gemms.watched(self.recipe, g, context.key))
        dx = linear_gemms.input_gradient(self.recipe, saved, g, context.key) if needs[0] else None
        dw = linear_gemms.weight_gradient(self.recipe, saved, g, context.key) if needs[1] else None
        return None if dx is None else dx.to(dtype), dw


@dataclass(frozen=True)
class Kernel(Segment):
    """Members with any mix of recipes that the kernels cover: one launch quantizes an operand of all of them.

    ``tables``: the six quantization points, in order; ``dtype``: of the quantized operands; ``copies``: the backward
    GEMMs quantize the forward copies of X and W, not X and W.
    """

    tables: tuple[RecipeTable, ...]
    dtype: torch.dtype
    copies: bool = False

    def forward(self, operands: LayerOperands, context: LinearContext, needs: tuple[bool, bool]) -> tuple[Tensor, Held]:
        x, w, bias = operands
        check_widths(x, w)
        a, at = self._both(x, Point.FPROP_LHS, Point.WGRAD_RHS, context.key, needs[1] and not self.copies)
        b, bt = self._both(w, Point.FPROP_RHS, Point.DGRAD_RHS, context.key, needs[0] and not self.copies)
        if self.copies:
            at, bt = a if needs[1] else None, b if needs[0] else None
        kept = [_pair(q) for q in (at, bt) if q is not None]
        return contract(a, b, bias, x.dtype), Held(tuple(t for pair in kept for t in pair), x.shape[-1])

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        kept = [Quantized(v, a if a.numel() else None) for v, a in zip(*[iter(held.tensors)] * 2, strict=True)]
        if self.copies:
            points = [point for point, need in ((Point.WGRAD_RHS, needs[1]), (Point.DGRAD_RHS, needs[0])) if need]
            kept = [self._one(_decoded(q).mT, p, context.key) for q, p in zip(kept, points, strict=True)]
        dx = dw = None
        if all(needs):
            rows, columns = self._both(g, Point.DGRAD_LHS, Point.WGRAD_LHS, context.key, True)
            assert columns is not None
            dx, dw = contract(rows, kept[1], dtype=g.dtype), contract(columns, kept[0])
        elif needs[0]:
            dx = contract(self._one(g, Point.DGRAD_LHS, context.key), kept[0], dtype=g.dtype)
        elif needs[1]:
            dw = contract(self._one(g.mT, Point.WGRAD_LHS, context.key), kept[0])
        return dx, dw

    def _one(self, x: Tensor, point: Point, key: Key) -> Quantized:
        return fused.quantize(x, self.tables[point], key.at(point), self.dtype)

    def _both(self, x: Tensor, rows: Point, columns: Point, key: Key, both: bool) -> tuple[Quantized, Quantized | None]:
        """``x`` at the point ``rows``, and transposed at the point ``columns`` where that is needed."""
        if not both:
            return self._one(x, rows, key), None
        return fused.quantize_both(
            x, self.tables[rows], key.at(rows), self.tables[columns], key.at(columns), self.dtype
        )


def wide(x: Tensor) -> Tensor:
    """``x`` in FP32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _decoded(q: Quantized) -> Tensor:
    """f(X): BF16 where that is exact."""
    return q.values if q.alpha is None else q.values.float() * q.alpha


def _pair(q: Quantized) -> tuple[Tensor, Tensor]:
    return q.values, q.values.new_empty(0) if q.alpha is None else q.alpha


def uncovered(recipe: Recipe) -> str:
    """Why the kernels cannot compute a recipe; '' when they can."""
    if recipe.weights is not None:
        return f"weight rule {type(recipe.weights).__name__}"
    if recipe.backward_source != "original" and recipe.fprop.rotation is not None:
        return "backward from rotated forward copies"
    if recipe.schedule is not None and recipe.schedule.watches:
        return "a precision schedule that watches gradients"
    gemms = (recipe.fprop, recipe.dgrad, recipe.wgrad)
    if any(g.accumulation is not None for g in gemms):
        return "an accumulation model"
    for quantizer in (recipe.fprop.lhs, recipe.fprop.rhs):
        if not quantizer.straight_through:
            return "a quantizer with a derivative of its own"
    return next(filter(None, map(fused.uncovered, uses(recipe))), "")


def uses(recipe: Recipe) -> list[Use]:
    """The recipe's six quantizers with their GEMM's rotation."""
    gemms = (recipe.fprop, recipe.fprop, recipe.dgrad, recipe.dgrad, recipe.wgrad, recipe.wgrad)
    return [Use(recipe.quantizer(p), g.rotation) for p, g in zip(POINTS, gemms, strict=True)]


def backend(recipe: Recipe, use_kernels: bool) -> tuple[str, str]:
    """The backend of a recipe: 'reference' and why not the kernels, or the kind of operands that the kernels take.

    These are 'bf16' or 'float32', from the original X and W or from their 'forward' copies.
    """
    if not use_kernels or all(isinstance(recipe.quantizer(p), Identity) for p in POINTS):
        return "reference", ""
    if reason := uncovered(recipe):
        return "reference", reason
    return f"{'bf16' if all(map(fused.exact_in_bf16, uses(recipe))) else 'float32'} {recipe.backward_source}", ""


def partition(
    recipes: Sequence[Recipe], owners: Sequence[int | None], device: torch.device, use_kernels: bool
) -> tuple[Segment, ...]:
    """Segments of a layer whose members compute under ``recipes``; ``owners`` tell apart members that keep state."""

    def kind(i: int) -> Any:
        name, _ = backend(recipes[i], use_kernels)
        return name, owners[i], recipes[i] if name == "reference" else None

    segments: list[Segment] = []
    for (name, _, recipe), run in groupby(range(len(recipes)), kind):
        members = list(run)
        start, stop = members[0], members[-1] + 1
        if recipe is not None:
            segments.append(Reference(start, stop, recipe))
            continue
        points = zip(*(uses(recipes[i]) for i in members), strict=True)
        dtype = torch.bfloat16 if name.startswith("bf16") else torch.float32
        tables = tuple(fused.table(list(p), device) for p in points)
        segments.append(Kernel(start, stop, tables, dtype, name.endswith("forward")))
    return tuple(segments)


PLAIN = RECIPES["fp32"]
"""The recipe of a member at a layer that its own recipe, or the task, does not quantize."""
