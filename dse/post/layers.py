"""Layers with quantized weights, for inference: what post-training quantization makes of linears and convolutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dse.nn.unfold import Window, images, patches
from dse.numerics.autocast import output_dtype, without_autocast
from dse.numerics.gemm import Gemm
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.points import Point
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.techniques.post import PostTraining


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight on its grid, and what X goes through before the product.

    ``operand``: W [N, K], balanced and rotated; ``balance``: s, float32 [K], that X is divided by, or None; ``basis``:
    of the rotation, or None.
    """

    operand: Quantized
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
    return QuantizedWeight(method.quantize(gemm.rhs, w, inputs, key.at(Point.FPROP_RHS)), balance, basis)


class PostQuantizedLayer(nn.Module):
    """Y = Q(X / s R) W^T + bias, with W on its grid, balanced and rotated; no gradients.

    Made from a plain ``nn.Linear`` or ``nn.Conv2d``. Buffers: ``weight`` [N, K] (K padded to whole rotations), and
    where there are some ``alpha`` [1, 1], ``balance`` [K] and ``basis``; the bias is the plain layer's.
    """

    weight: Tensor
    alpha: Tensor | None
    balance: Tensor | None
    basis: Tensor | None

    def __init__(self, plain: nn.Linear | nn.Conv2d, made: QuantizedWeight, gemm: Gemm, key: Key) -> None:
        super().__init__()
        self.gemm, self.key = gemm, key
        self.bias = plain.bias
        self.register_buffer("weight", made.operand.values)
        self.register_buffer("alpha", made.operand.alpha)
        self.register_buffer("balance", made.balance)
        self.register_buffer("basis", made.basis)

    def rows(self, x: Tensor) -> Tensor:
        """Y [M, N] from X [M, K]."""
        with torch.no_grad(), without_autocast(x):
            wide = x.to(self.weight.dtype)
            wide = wide if self.balance is None else wide / self.balance
            a = self.gemm.lhs(self.gemm.turn(wide, self.basis), self.key.at(Point.FPROP_LHS))
            y = self.gemm.contract(a, Quantized(self.weight, self.alpha))
            return (y if self.bias is None else y + self.bias.to(y.dtype)).to(output_dtype(x))

    def _apply(self, fn: object, recurse: bool = True) -> PostQuantizedLayer:
        """Moves with the model, and keeps FP32: values of the grid would not survive another rounding."""
        before = {name: tensor.dtype for name, tensor in self._buffers.items() if tensor is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, dtype in before.items():
            self._buffers[name] = self._buffers[name].to(dtype)  # type: ignore[union-attr]
        return self


class PostQuantizedLinear(PostQuantizedLayer):
    """The same in place of an ``nn.Linear``."""

    def __init__(self, plain: nn.Linear, made: QuantizedWeight, gemm: Gemm, key: Key) -> None:
        super().__init__(plain, made, gemm, key)
        self.in_features, self.out_features = plain.in_features, plain.out_features

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rows(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class PostQuantizedConv2d(PostQuantizedLayer):
    """The same in place of an ``nn.Conv2d`` without groups that is padded with zeros."""

    def __init__(self, plain: nn.Conv2d, made: QuantizedWeight, gemm: Gemm, key: Key) -> None:
        super().__init__(plain, made, gemm, key)
        self.window = Window.of(plain)

    def forward(self, x: Tensor) -> Tensor:
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        columns = patches(batch, self.window)
        rows = self.rows(columns.flatten(0, 1)).unflatten(0, columns.shape[:2])
        y = images(rows, self.window.places(*x.shape[-2:])).contiguous()
        return y if x.dim() == 4 else y.squeeze(0)

    def extra_repr(self) -> str:
        return f"kernel={self.window.kernel}"


__all__ = ["PostQuantizedConv2d", "PostQuantizedLayer", "PostQuantizedLinear", "QuantizedWeight", "quantize_weight"]
