"""What computes one packed linear layer: contiguous runs of members, each a segment; and the one in plain torch.

E members; X [E, M, K], W [E, N, K], G [E, M, N]. X is float32 or bfloat16, Y and G have its dtype and so has dX; W and
dW are float32. Sums and biases are FP32, and Y and dX are rounded once, to nearest even. Slices of the stack are views,
so what a member keeps between steps is changed in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from dse.numerics import linear_gemms
from dse.numerics.linear_gemms import LinearContext, Saved
from dse.numerics.matmul import finished, wide
from dse.numerics.recipe import Recipe
from dse.pack.shared_operands import SharedOperands


class LayerOperands(NamedTuple):
    """What the layer's members compute with: X [E, M, K], W [E, N, K], and biases [E, N] or None.

    ``shared``: operands that other layers of the pack have quantized, or None.
    """

    x: Tensor
    w: Tensor
    bias: Tensor | None = None
    shared: SharedOperands | None = None

    def of(self, members: slice) -> LayerOperands:
        """Those of some members."""
        bias = None if self.bias is None else self.bias[members]
        return LayerOperands(self.x[members], self.w[members], bias, self.shared)


class Held(NamedTuple):
    """Tensors a segment saves for its backward pass; ``columns``: of X, to which the gradient of X is cut.

    ``groups``: of the factors of the operands that are saved, None of one without.
    """

    tensors: tuple[Tensor, ...]
    columns: int
    groups: tuple[int | None, ...] = ()


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
        x, w, bias = operands.x, operands.w, operands.bias
        y, saved = linear_gemms.forward(self.recipe, wide(x), w, context)
        return finished(y, bias, x.dtype), Held((x, w, *saved.copies), x.shape[-1])

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        x, w, *copies = held.tensors
        saved, dtype, g = Saved(wide(x), w, tuple(copies)), g.dtype, wide(g)
        if context.watch is not None:
            context.watch.copy_(linear_gemms.watched(self.recipe, g, context.key))
        dx = linear_gemms.input_gradient(self.recipe, saved, g, context.key, context.parts) if needs[0] else None
        dw = linear_gemms.weight_gradient(self.recipe, saved, g, context.key, context.parts) if needs[1] else None
        return None if dx is None else dx.to(dtype), dw
