"""The quantized linear and convolution, and ``quantize_``, which turns a plain model's layers into quantized ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dse import products
from dse.attend import QuantizedAttention
from dse.convert import convert
from dse.convolution import Window, images, memory_format, patches
from dse.coverage import coverage, note
from dse.distributed import agree, sync_held_scales
from dse.errors import UserError
from dse.kinds import is_first
from dse.layers.encoder import keep_from_fusing
from dse.quantized_layer import QuantizedLayer, check_input, in_phase
from dse.recipe import Recipe
from dse.select import Where, attending, checked, choice, doubts, refuse, require_some, swap
from dse.site import Site, linear
from dse.skipping import Sampled, finite_gradients
from dse.techniques.schedules.base import PHASES, Watch
from dse.uncompiled import uncompiled


def quantized_linear(x: Tensor, w: Tensor, bias: Tensor | None, site: Site) -> Tensor:
    """Y = X W^T + bias under ``site.recipe``: x [..., K], w [N, K], bias [N] -> [..., N].

    Leading axes of x are tokens. Operands shorter than FP32 (a model in BF16) are computed in FP32, and Y returns to
    X's dtype, or autocast's. Source: arXiv 2509.17791, Sec. 2.
    """
    rows = x.reshape(-1, x.shape[-1])
    wide = torch.promote_types(torch.promote_types(x.dtype, w.dtype), torch.float32)
    y: Tensor = torch.ops.aten._unsafe_view(linear(rows.to(wide), w.to(wide), site), (*x.shape[:-1], w.shape[0]))
    return (y if bias is None else y + bias).to(products.output_dtype(x))  # no view of something, as F.linear's is none


class QuantizedLinear(QuantizedLayer, nn.Linear):
    """An ``nn.Linear`` that computes under a recipe; see ``QuantizedLayer`` for what it keeps.

    Raises RuntimeError for an input of another width, as ``nn.Linear`` does, and for one of integers.
    """

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:
            return nn.Linear.forward(self, x)
        check_input(self, x, -1, self.in_features, range(1, 65))
        return quantized_linear(x, self.matrix, self.bias, self.site(x))

    def extra_repr(self) -> str:
        return f"{nn.Linear.extra_repr(self)}, recipe={self.recipe.name!r}"


class QuantizedConv2d(QuantizedLayer, nn.Conv2d):
    """The same for an ``nn.Conv2d``: a linear over unfolded patches, [B, C, H, W] or [C, H, W] -> [(B,) O, H', W'].

    Blocks lie along the contraction axis C * kh * kw; G and dW contract over output channels and pixels of the batch.
    """

    @property
    def window(self) -> Window:
        """How the kernel moves."""
        return Window.of(self)

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:
            return nn.Conv2d.forward(self, x)
        check_input(self, x, -3, self.in_channels, (3, 4))
        batch, window = (x if x.dim() == 4 else x.unsqueeze(0)), self.window
        rows = quantized_linear(patches(batch, window), self.matrix, self.bias, self.site(x))
        y = images(rows, window.places(*x.shape[-2:])).clone(memory_format=memory_format(batch, self.weight))
        return y if x.dim() == 4 else y.squeeze(0)

    def extra_repr(self) -> str:
        return f"{nn.Conv2d.extra_repr(self)}, recipe={self.recipe.name!r}"


def quantize_(
    model: nn.Module,
    recipe: Recipe,
    where: Where | None = None,
    exempt: Sequence[str] | str = (),
    *,
    unsupported: Literal["raise", "leave"] = "raise",
    verbose: bool = False,
) -> nn.Module:
    """Replaces, in place, each layer of ``model`` that multiplies by a weight by one that computes under ``recipe``.

    Returns the model; ``dse.coverage.coverage(model)`` says layer by layer what is quantized, what is left and why, and
    ``verbose`` prints it. These kinds of layers are quantized: ``nn.Linear``, ``nn.Conv1d`` to ``nn.Conv3d``,
    ``nn.ConvTranspose1d`` and ``2d``, the projections of ``nn.MultiheadAttention``, GPT-2's ``Conv1D``, and experts
    that ``transformers`` holds as 3-D parameters; where the recipe says so, the products of attention too
    (``dse.select.attentions``). Left without a word are lookup tables (``nn.Embedding``) and parameters that are no
    weights by their shape and name, such as positions; left, and named in the table, are routers of experts.

    - ``where(name, layer)`` chooses among the layers that can be quantized (default: all);
    - ``exempt`` holds name patterns (``head``, ``blocks.0.*``; one may stand alone) of layers that stay as they are;
      the recipe's own ``exempt`` counts among what is left, of which ``first`` and ``last`` count layers of all kinds;
    - ``unsupported``: what becomes of layers that hold weights and cannot be quantized (``nn.LSTM``, subclasses of
      ``nn.Linear``, unknown stacks of matrices, layers whose weight is read where they should be called as in Mamba's
      fused kernels): 'raise' refuses the model, 'leave' leaves them, named in the table.

    Parameters keep their identity and names, so optimizers and checkpoints are unaffected. A linear's or plain 2-D
    convolution's random stream is its index among all of these, whether or not others are exempt; the other kinds
    follow from ``dse.select.OTHERS``, one number for each of their GEMMs. A layer that is reachable by two names stays
    one layer, exempt if one of them is. A second call quantizes what is still plain.

    Raises UserError when nothing would be quantized, when the model is itself a layer (wrap it), holds layers that
    cannot be quantized, or ties two weights under a recipe with a weight rule, and for a pattern that matches no layer.

    >>> from torch import nn
    >>> from dse.recipes import RECIPES
    >>> quantize_(nn.Sequential(nn.Linear(64, 32)), RECIPES["nvfp4"])
    Sequential(
      (0): QuantizedLinear(in_features=64, out_features=32, bias=True, recipe='nvfp4')
    )
    """
    if unsupported not in ("raise", "leave"):
        raise UserError(f"unsupported must be 'raise' or 'leave', not {unsupported!r}")
    exempt = checked(model, exempt)
    found, heads = choice(model, recipe, where, exempt), attending(model, recipe, where, exempt)
    if unsupported == "raise":
        refuse(model, found.refused, "exempt them with exempt={patterns}, or leave them with unsupported='leave'")
    require_some(model, found, heads)
    for plain, index in found.kept.items():
        convert(plain, _class_of(plain), recipe, index)
    device = next(model.parameters()).device
    swap(model, {plain: QuantizedAttention(plain, recipe, index).to(device) for plain, index in heads.items()})
    keep_from_fusing(model)
    for text in doubts(model, recipe, found):
        warnings.warn(text, stacklevel=2)
    note(model, {**found.left, **found.refused})
    if verbose:
        print(coverage(model).table())
    return model


KINDS: dict[type[nn.Module], type[QuantizedLayer]] = {nn.Linear: QuantizedLinear, nn.Conv2d: QuantizedConv2d}
"""The quantized class of each plain one; those of the other kinds are in ``dse.layers.made``."""


def _class_of(plain: Any) -> type[Any]:
    """The quantized class of a plain layer."""
    from dse.layers.made import made  # by parts of the classes above

    return next(ours for theirs, ours in KINDS.items() if isinstance(plain, theirs)) if is_first(plain) else made(plain)


def quantized_layers(model: nn.Module) -> list[QuantizedLayer]:
    """The quantized layers of a model, each once, in order."""
    return [module for module in model.modules() if isinstance(module, QuantizedLayer)]


def set_clock(model: nn.Module, seed: int, step: int, steps: int | None = None, rank: int = 0) -> None:
    """Tells every quantized layer which trial and training step its random bits belong to: once at each step's start.

    Within a step, each forward call of a layer in training draws bits of its own: micro-batches whose gradients are
    accumulated, and the uses of a layer that a model calls twice. They are numbered from the last ``set_clock``, so a
    step that is made again draws the same; recomputation under activation checkpointing repeats the original's bits.
    A layer that is never told the time takes each call in training for a step, and a resumed training then repeats the
    beginning's bits.

    With ``steps``, the length of the training, precision schedules decide the layers' phases too. ``rank`` (below 2048)
    gives the processes of a data-parallel training bits of their own, while weight rules draw the same on all. Held
    tensor scales and what schedules watch are then agreed upon (``dse.distributed``): hand this the module that
    ``DistributedDataParallel`` made, on every process.
    """
    agree(model)
    for layer in quantized_layers(model):
        layer.sampled = Sampled.of(layer.memory, layer.watch)
        layer.calls.set(seed, step, rank)
        schedule = layer.recipe.schedule
        if schedule is not None and layer.phase_index is not None and steps is not None:
            watch = None
            if layer.watch is not None and layer.watch.isfinite().all():
                watch = Watch(layer.watch[0], layer.watch[1])
            layer.phase_index.fill_(PHASES.index(schedule.phase(step, steps, watch, layer.phase)))
    for module in model.modules():
        if isinstance(module, QuantizedAttention):
            module.set_clock(seed, step, steps, rank)


def before_step(model: nn.Module) -> None:
    """Weight rules act on gradients: call it after the backward pass (and unscaling), before the optimizer's step.

    Where a gradient of the model is not finite, the step counts as skipped, as ``torch.amp.GradScaler.step`` skips it:
    no rule acts, here or in ``after_step``, and what the step's passes have sampled (held tensor scales, what precision
    schedules look at) is what it was at ``set_clock``. Without this call a held scale still takes no sample that is not
    finite, but keeps the finite ones of a skipped step.
    """
    layers = [layer for layer in quantized_layers(model) if layer.rule or layer.sampled.kept]
    skipped = bool(layers) and not finite_gradients(model)
    for layer in layers:
        layer.sampled = layer.sampled.skip(layer.memory, layer.watch) if skipped else layer.sampled.take()
    _apply_rules(model, "before_step")


def after_step(model: nn.Module) -> None:
    """Weight rules act on weights: call it after the optimizer's step, also after one that was skipped."""
    _apply_rules(model, "after_step")


def _apply_rules(model: nn.Module, method: str) -> None:
    for layer in quantized_layers(model):
        if not layer.sampled.skipped:
            layer.apply_rule(method, layer.key.at(products.FPROP + 1))


__all__ = [
    "QuantizedConv2d",
    "QuantizedLayer",
    "QuantizedLinear",
    "Site",
    "after_step",
    "before_step",
    "in_phase",
    "quantize_",
    "quantized_layers",
    "quantized_linear",
    "set_clock",
    "sync_held_scales",
]
