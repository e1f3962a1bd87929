"""Layers with quantized weights, for inference: what post-training quantization makes of linears and convolutions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from dse.nn.unfold import Window, images, patches
from dse.numerics.autocast import output_dtype, without_autocast
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.matmul import contract
from dse.numerics.points import Point
from dse.numerics.quantizer import BFloat16, Quantized
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.stored_bits import stored_bits
from dse.numerics.techniques.branches.base import FACTOR_BITS
from dse.numerics.techniques.post import PostOperands, PostTraining, StaticInput


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight on its grid, and what X goes through before the product.

    ``made``: of W [N, K], balanced and rotated; ``balance``: s, float32 [K], that X is divided by, or None; ``basis``:
    of the rotation, or None.
    """

    made: PostOperands
    balance: Tensor | None
    basis: Tensor | None


def quantize_weight(
    w: Tensor, gemm: Gemm, method: PostTraining, inputs: InputStatistics | None, key: Key
) -> QuantizedWeight:
    """W [N, K] under the forward GEMM of a recipe: balanced, rotated, and rounded by a method.

    ``inputs``: statistics of X, where the method calibrates; ``key``: of the layer.
    """
    w, balance = w.detach().float(), None
    if method.balance is not None:
        assert inputs is not None
        s = method.balance.factors(gemm.rhs, w, inputs)  # type: ignore[arg-type]
        balance = s.to(w.dtype)
        w, inputs = w * balance, inputs.scaled(balance)
    basis = gemm.basis(w, key.at(Point.FPROP_LHS))
    if basis is not None:
        assert gemm.rotation is not None
        w = gemm.turn(w, basis)
        inputs = None if inputs is None else inputs.turned(gemm.rotation, basis)
    return QuantizedWeight(method.make(gemm, w, inputs, key.at(Point.FPROP_RHS)), balance, basis)


class PostQuantizedLayer(nn.Module):
    """Y = Q(X / s R) W^T + BF16(X / s R) (up down)^T + bias, with W on its grid, balanced and rotated; no gradients.

    Made from a plain ``nn.Linear`` or ``nn.Conv2d``; ``recipe`` and ``layer``, the number of its random stream, as any
    quantized layer has them. Buffers: ``weight`` [N, K] (K padded to whole rotations), and
    where there are some ``alpha`` [1, 1], ``balance`` [K], ``basis``, the branch ``up`` [N, r] and ``down`` [r, K], and
    of X's static quantization ``scale`` [1, 1] and ``shift`` [K]; the bias is the plain layer's. ``format``: the number
    of the candidate that a search has chosen, 0 for the recipe's own numerics.
    """

    quantized_layer: ClassVar[bool] = True
    recipe: Recipe
    layer: int
    weight: Tensor
    alpha: Tensor | None
    balance: Tensor | None
    basis: Tensor | None
    up: Tensor | None
    down: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    format: int

    def __init__(self, plain: nn.Linear | nn.Conv2d, quantized: QuantizedWeight, gemm: Gemm, key: Key) -> None:
        super().__init__()
        made, static = quantized.made, quantized.made.static
        self.gemm, self.key, self._bits, self.format = gemm, key, made.bits, 0
        if made.element is not None and isinstance(gemm.rhs, BlockQuantizer):
            self.gemm = replace(gemm, rhs=replace(gemm.rhs, element=made.element))
        self.bias, self.element = plain.bias, None if static is None else static.element
        buffers = {
            "weight": made.weight.values,
            "alpha": made.weight.alpha,
            "balance": quantized.balance,
            "basis": quantized.basis,
            "up": None if made.low_rank is None else made.low_rank.up,
            "down": None if made.low_rank is None else made.low_rank.down,
            "scale": None if static is None else static.scale,
            "shift": None if static is None else static.shift,
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    @property
    def beside(self) -> int:
        """Bits beside the weight's elements and scales: a branch in BF16, a byte per shifted exponent, grids."""
        branch = 0 if self.up is None or self.down is None else FACTOR_BITS * (self.up.numel() + self.down.numel())
        return self._bits + branch + (0 if self.shift is None or (self.shift == 1).all() else 8 * self.shift.numel())

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """[N, K] of its GEMM."""
        n, k = self.weight.shape
        return [(n, k)]

    @property
    def left(self) -> str:
        """Why its weight is not quantized, where a search has left it so; else empty."""
        return "" if isinstance(self.gemm.rhs, BlockQuantizer) else "in BF16 by the search of formats"

    @property
    def bits(self) -> float:
        """All bits of the weight, with what it keeps beside itself."""
        return stored_bits(self.gemm.rhs, *self.weight.shape) * self.weight.numel() + self.beside

    def widen_inputs(self) -> None:
        """Lets activations stay in BF16 from now on."""
        self.gemm, self.element = replace(self.gemm, lhs=BFloat16()), None

    def rows(self, x: Tensor) -> Tensor:
        """Y [M, N] from X [M, K]."""
        with torch.no_grad(), without_autocast(x):
            wide = x.to(self.weight.dtype)
            wide = wide if self.balance is None else wide / self.balance
            wide = self.gemm.turn(wide, self.basis)
            y = self.gemm.contract(self._quantized(wide), Quantized(self.weight, self.alpha))
            if self.up is not None and self.down is not None:
                thin = contract(BFloat16()(wide), Quantized(self.down))
                y = y + contract(BFloat16()(thin), Quantized(self.up))
            return (y if self.bias is None else y + self.bias.to(y.dtype)).to(output_dtype(x))

    def _quantized(self, x: Tensor) -> Quantized:
        """f(X)."""
        if self.element is None or self.scale is None or self.shift is None:
            return self.gemm.lhs(x, self.key.at(Point.FPROP_LHS))
        return StaticInput(self.element, self.scale, self.shift)(x)

    def _apply(self, fn: object, recurse: bool = True) -> PostQuantizedLayer:
        """Moves with the model, and keeps FP32: values of the grid would not survive another rounding."""
        before = {name: tensor for name, tensor in self._buffers.items() if tensor is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in before.items():
            self._buffers[name] = tensor.to(self._buffers[name].device)  # type: ignore[union-attr]
        return self


class PostQuantizedLinear(PostQuantizedLayer):
    """The same in place of an ``nn.Linear``."""

    def __init__(self, plain: nn.Linear, quantized: QuantizedWeight, gemm: Gemm, key: Key) -> None:
        super().__init__(plain, quantized, gemm, key)
        self.in_features, self.out_features = plain.in_features, plain.out_features

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the plain layer's keyword
        y = self.rows(input.reshape(-1, input.shape[-1]))
        return y.reshape(*input.shape[:-1], y.shape[-1])

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class PostQuantizedConv2d(PostQuantizedLayer):
    """The same in place of an ``nn.Conv2d`` without groups that is padded with zeros."""

    def __init__(self, plain: nn.Conv2d, quantized: QuantizedWeight, gemm: Gemm, key: Key) -> None:
        super().__init__(plain, quantized, gemm, key)
        self.window = Window.of(plain)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the plain layer's keyword
        x = input
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        columns = patches(batch, self.window)
        rows = self.rows(columns.flatten(0, 1)).unflatten(0, columns.shape[:2])
        y = images(rows, self.window.places(*x.shape[-2:])).contiguous()
        return y if x.dim() == 4 else y.squeeze(0)

    def extra_repr(self) -> str:
        return f"kernel={self.window.kernel}"


__all__ = ["PostQuantizedConv2d", "PostQuantizedLayer", "PostQuantizedLinear", "QuantizedWeight", "quantize_weight"]
