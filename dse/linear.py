"""The quantized linear and convolution, and ``quantize_``, which turns a plain model's layers into quantized ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dse import products
from dse.attend import QuantizedAttention
from dse.convolution import Window, images, patches
from dse.random import Key
from dse.recipe import POINTS, Recipe
from dse.recipes.bf16 import BF16, replace_gemms
from dse.select import Plain, Where, attending, chosen, swap
from dse.site import Site, linear
from dse.techniques.schedules.base import FULL, OFF, PHASES, Watch
from dse.techniques.weights import WeightRule


def quantized_linear(x: Tensor, w: Tensor, bias: Tensor | None, site: Site) -> Tensor:
    """Y = X W^T + bias under ``site.recipe``: x [..., K], w [N, K], bias [N] -> [..., N].

    Leading axes of x are tokens. Operands shorter than FP32 (a model in BF16) are computed in FP32, and Y returns to
    X's dtype. Source: arXiv 2509.17791, Sec. 2.
    """
    rows = x.reshape(-1, x.shape[-1])
    wide = torch.promote_types(torch.promote_types(x.dtype, w.dtype), torch.float32)
    y = linear(rows.to(wide), w.to(wide), site).reshape(*x.shape[:-1], w.shape[0])
    return (y if bias is None else y + bias).to(x.dtype)


class QuantizedLinear(nn.Module):
    """A linear layer that shares the parameters (and their names) of the ``nn.Linear`` it replaces.

    Buffers: ``clock`` int64 [2] (seed, step); and, only where the recipe needs them, in the state dict: ``memory``
    float32 [6] (held tensor scales), ``rule_*`` (the weight rule's tensors), ``watch`` float32 [2] and ``phase_index``
    (the precision schedule's). Raises OptionError when the weight rule has no meaning for the forward GEMM.
    """

    clock: Tensor
    memory: Tensor | None
    watch: Tensor | None
    phase_index: Tensor | None

    def __init__(self, plain: Plain, recipe: Recipe, layer: int) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.recipe, self.layer = recipe, layer
        if recipe.weights:
            recipe.weights.check(recipe.fprop.rhs, recipe.fprop.rotation is not None)
        device = plain.weight.device
        self.register_buffer("clock", torch.zeros(2, dtype=torch.int64, device=device), persistent=False)
        remembers = any(recipe.quantizer(p).remembers for p in POINTS)
        self.register_buffer("memory", torch.zeros(len(POINTS), device=device) if remembers else None)
        watches = recipe.schedule is not None and recipe.schedule.watches
        self.register_buffer("watch", torch.full((2,), torch.nan, device=device) if watches else None)
        self.register_buffer("phase_index", torch.zeros((), dtype=torch.int8) if recipe.schedule else None)
        rule = recipe.weights.state(self.matrix.detach()) if recipe.weights else {}
        self._rule_names = tuple(rule)
        for name, tensor in rule.items():
            self.register_buffer(f"rule_{name}", tensor)

    @property
    def matrix(self) -> Tensor:
        """The weight as W [N, K], with its gradient where it has one: views, so that weight rules can change both."""
        return self.weight

    @property
    def phase(self) -> str:
        """The schedule's phase of this layer."""
        return FULL if self.phase_index is None else PHASES[int(self.phase_index)]

    @property
    def rule(self) -> WeightRule | None:
        """The weight rule at work: none once the schedule has switched the forward GEMM off."""
        return None if self.phase == OFF else self.recipe.weights

    @property
    def state(self) -> dict[str, Tensor]:
        """The weight rule's tensors by name."""
        return {name: getattr(self, f"rule_{name}") for name in self._rule_names}

    @property
    def key(self) -> Key:
        """Addresses this layer's random bits and memory."""
        return Key(self.clock, self.layer, 0, 0, self.memory, self.training)

    def forward(self, x: Tensor) -> Tensor:
        site = Site(in_phase(self.recipe, self.phase), self.key, self.state, self.watch if self.training else None)
        return quantized_linear(x, self.matrix, self.bias, site)

    def extra_repr(self) -> str:
        n, k = self.weight.shape
        return f"in_features={k}, out_features={n}, bias={self.bias is not None}, recipe={self.recipe.name!r}"


class QuantizedConv2d(QuantizedLinear):
    """The same for an ``nn.Conv2d``: a linear over unfolded patches, [B, C, H, W] or [C, H, W] -> [(B,) O, H', W'].

    Blocks lie along the contraction axis C * kh * kw; G and dW contract over output channels and pixels of the batch.
    """

    def __init__(self, conv: nn.Conv2d, recipe: Recipe, layer: int) -> None:
        super().__init__(conv, recipe, layer)
        self.window, self._shape = Window.of(conv), conv.extra_repr()

    @property
    def matrix(self) -> Tensor:
        matrix = self.weight.flatten(1)
        if self.weight.grad is not None and not matrix.requires_grad:
            matrix.grad = self.weight.grad.flatten(1)
        return matrix

    def forward(self, x: Tensor) -> Tensor:
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        y = images(super().forward(patches(batch, self.window)), self.window.places(*x.shape[-2:]))
        return y if x.dim() == 4 else y.squeeze(0)

    def extra_repr(self) -> str:
        return f"{self._shape}, recipe={self.recipe.name!r}"


def in_phase(recipe: Recipe, phase: str) -> Recipe:
    """The numerics of a phase: all of the recipe, only its forward GEMM (backward from BF16 operands), or BF16."""
    if phase == FULL:
        return recipe
    return replace_gemms(recipe, BF16.fprop if phase == OFF else recipe.fprop, BF16.dgrad, BF16.wgrad)


def quantize_(
    model: nn.Module,
    recipe: Recipe,
    where: Where | None = None,
    exempt: Sequence[str] = (),
) -> nn.Module:
    """Replaces, in place, each ``nn.Linear`` and ``nn.Conv2d`` of ``model`` by one that computes under ``recipe``.

    Returns the model. Where the recipe says so, the products of attention are replaced too (``dse.select.attentions``).
    ``where(name, linear)`` chooses the layers (default: all); ``exempt`` holds name patterns (``head``, ``blocks.0.*``)
    that stay as they are; the recipe's own ``exempt`` counts among what is left. Parameters keep their identity and
    names, so optimizers and checkpoints are unaffected. A layer's random stream is its index among all linears, whether
    or not others are exempt. A linear that is reachable by two names stays one layer, exempt if one of them is.
    Subclasses of ``nn.Linear`` are left alone: their owners may read the weight and bypass them, as
    ``nn.MultiheadAttention`` does. Raises UserError when the model has no linear, is itself one (wrap it), or ties two
    linears' weights under a recipe with a weight rule.

    >>> from torch import nn
    >>> from dse.recipes import RECIPES
    >>> quantize_(nn.Sequential(nn.Linear(64, 32)), RECIPES["nvfp4"])
    Sequential(
      (0): QuantizedLinear(in_features=64, out_features=32, bias=True, recipe='nvfp4')
    )
    """
    kept, heads = chosen(model, recipe, where, exempt), attending(model, recipe, where, exempt)
    swap(model, {plain: _quantized(plain, recipe, index) for plain, index in kept.items()})
    device = next(iter(kept)).weight.device if kept else None
    swap(model, {plain: QuantizedAttention(plain, recipe, index).to(device) for plain, index in heads.items()})
    return model


def _quantized(plain: Plain, recipe: Recipe, index: int) -> QuantizedLinear:
    made = QuantizedConv2d if isinstance(plain, nn.Conv2d) else QuantizedLinear
    return made(plain, recipe, index)  # type: ignore[arg-type]


def quantized_layers(model: nn.Module) -> list[QuantizedLinear]:
    """The quantized layers of a model, each once, in order."""
    return [module for module in model.modules() if isinstance(module, QuantizedLinear)]


def set_clock(model: nn.Module, seed: int, step: int, steps: int | None = None) -> None:
    """Tells every quantized layer which trial and training step its random bits belong to.

    With ``steps``, the length of the training, precision schedules decide the layers' phases too.
    """
    for layer in quantized_layers(model):
        layer.clock[0], layer.clock[1] = seed, step
        schedule = layer.recipe.schedule
        if schedule is not None and layer.phase_index is not None and steps is not None:
            watch = None if layer.watch is None or layer.watch.isnan().any() else Watch(layer.watch[0], layer.watch[1])
            layer.phase_index.fill_(PHASES.index(schedule.phase(step, steps, watch, layer.phase)))
    for module in model.modules():
        if isinstance(module, QuantizedAttention):
            module.set_clock(seed, step, steps)


def before_step(model: nn.Module) -> None:
    """Weight rules act on gradients: call it after the backward pass, before the optimizer."""
    _apply_rules(model, "before_step")


def after_step(model: nn.Module) -> None:
    """Weight rules act on weights: call it after the optimizer's step."""
    _apply_rules(model, "after_step")


@torch.no_grad()
def _apply_rules(model: nn.Module, method: str) -> None:
    for layer in quantized_layers(model):
        if layer.rule:
            key = layer.key.at(products.FPROP + 1)
            getattr(layer.rule, method)(layer.recipe.fprop.rhs, layer.matrix, layer.state, key)


__all__ = [
    "QuantizedConv2d",
    "QuantizedLinear",
    "Site",
    "after_step",
    "before_step",
    "in_phase",
    "quantize_",
    "quantized_layers",
    "quantized_linear",
    "set_clock",
]
