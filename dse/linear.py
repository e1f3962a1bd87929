"""The quantized linear layer, and ``quantize_``, which turns a plain model's linears into quantized ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.random import Key
from dse.recipe import Recipe
from dse.techniques.rotations import rotate

_FPROP, _DGRAD, _WGRAD = 0, 2, 4
"""Quantization point of each GEMM's left operand; the right operand's is the next."""


class _Linear(torch.autograd.Function):
    """Y = X W^T under a recipe: forward fprop; backward dgrad and wgrad, then the quantizers' own derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, clock: Tensor, recipe: Recipe, layer: int) -> Tensor:
        ctx.recipe, ctx.layer = recipe, layer
        ctx.save_for_backward(x, w, clock.clone())  # the clock moves on between forward and a later backward
        return recipe.fprop(x, w, Key(clock, layer, _FPROP))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (g,), (x, w, clock), recipe = grads, ctx.saved_tensors, ctx.recipe
        key = Key(clock, ctx.layer)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = recipe.dgrad(g, w.mT, key.at(_DGRAD))
            dx = _through(recipe, 0, x, dx, key.at(_FPROP))
        if ctx.needs_input_grad[1]:
            dw = recipe.wgrad(g.mT, x.mT, key.at(_WGRAD))
            dw = _through(recipe, 1, w, dw, key.at(_FPROP))
        return dx, dw, None, None, None


def _through(recipe: Recipe, side: int, x: Tensor, g: Tensor, key: Key) -> Tensor:
    """The vector-Jacobian product of the forward quantizer of X (side 0) or W (side 1), in the rotated space."""
    gemm = recipe.fprop
    quantizer = (gemm.lhs, gemm.rhs)[side]
    if quantizer.straight_through:
        return g
    r = gemm.basis(x, key)
    turned = quantizer.vjp(gemm.turn(x, r), gemm.turn(g, r), key.at(key.point + side))
    return turned if r is None else rotate(turned, r.mT)[..., : x.shape[-1]]


def quantized_linear(
    x: Tensor, w: Tensor, bias: Tensor | None, clock: Tensor, recipe: Recipe, layer: int = 0
) -> Tensor:
    """Y = X W^T + bias under ``recipe``: x [..., K], w [N, K], bias [N] -> [..., N].

    ``clock`` is int64 [2], (seed, step). Leading axes of x are tokens. Source: arXiv 2509.17791, Sec. 2.
    """
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _Linear.apply(rows, w, clock, recipe, layer)  # type: ignore[no-untyped-call]
    y = y.reshape(*x.shape[:-1], w.shape[0])
    return y if bias is None else y + bias


class QuantizedLinear(nn.Module):
    """A linear layer that shares the parameters (and their names) of the ``nn.Linear`` it replaces."""

    clock: Tensor

    def __init__(self, linear: nn.Linear, recipe: Recipe, layer: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.recipe, self.layer = recipe, layer
        clock = torch.zeros(2, dtype=torch.int64, device=linear.weight.device)
        self.register_buffer("clock", clock, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return quantized_linear(x, self.weight, self.bias, self.clock, self.recipe, self.layer)

    def extra_repr(self) -> str:
        n, k = self.weight.shape
        return f"in_features={k}, out_features={n}, bias={self.bias is not None}, recipe={self.recipe.name!r}"


def quantize_(
    model: nn.Module,
    recipe: Recipe,
    where: Callable[[str, nn.Linear], bool] | None = None,
    exempt: Sequence[str] = (),
) -> nn.Module:
    """Replaces, in place, each ``nn.Linear`` of ``model`` by one that computes under ``recipe``; returns the model.

    ``where(name, linear)`` chooses the layers (default: all); ``exempt`` holds name patterns (``head``, ``blocks.0.*``)
    that stay as they are. Parameters keep their identity and names, so optimizers and checkpoints are unaffected. A
    layer's random stream is its index among all linears, whether or not others are exempt. A linear that is reachable
    by two names stays one layer. Raises UserError when the model has no linear, or is itself one (wrap it).

    >>> from torch import nn
    >>> from dse.recipes import RECIPES
    >>> quantize_(nn.Sequential(nn.Linear(64, 32)), RECIPES["nvfp4"])
    Sequential(
      (0): QuantizedLinear(in_features=64, out_features=32, bias=True, recipe='nvfp4')
    )
    """
    if isinstance(model, nn.Linear):
        raise UserError("quantize_ replaces linears inside a model; wrap a single one in nn.Sequential")
    linears = {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, nn.Linear)}
    if not linears:
        raise UserError(f"{type(model).__name__} has no nn.Linear to quantize")
    made: dict[nn.Linear, QuantizedLinear] = {}
    order = {linear: i for i, linear in enumerate(dict.fromkeys(linears.values()))}
    for name, linear in linears.items():
        if any(fnmatchcase(name, pattern) for pattern in exempt) or (where and not where(name, linear)):
            continue
        if linear not in made:
            made[linear] = QuantizedLinear(linear, recipe, order[linear])
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, made[linear])
    return model


def set_clock(model: nn.Module, seed: int, step: int) -> None:
    """Tells every quantized layer which trial and training step its random bits belong to."""
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            module.clock[0], module.clock[1] = seed, step
