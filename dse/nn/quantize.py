"""``quantize_`` turns a plain model's layers into quantized ones; the other functions are called in a training loop."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from dse.errors import UserError
from dse.nn.attention import QuantizedAttention
from dse.nn.convert import carry_hooks, convert
from dse.nn.coverage import coverage, note
from dse.nn.distributed import agree
from dse.nn.kinds import is_first
from dse.nn.layers.classes import made
from dse.nn.layers.encoder import keep_from_fusing
from dse.nn.linear import QuantizedConv2d, QuantizedLinear
from dse.nn.quantized_layer import QuantizedLayer
from dse.nn.select import Where, attentions, checked, choice, doubts, refuse, require_some, swap
from dse.nn.skipped_steps import Sampled, finite_gradients
from dse.numerics.points import Point
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.schedules.base import PHASES, Watch
from dse.recipes import find_recipe


def quantize_(
    model: nn.Module,
    recipe: Recipe | str,
    where: Where | None = None,
    exempt: Sequence[str] | str = (),
    *,
    unsupported: Literal["raise", "leave"] = "raise",
    verbose: bool = False,
) -> nn.Module:
    """Replaces, in place, each layer of ``model`` that multiplies by a weight by one that computes under ``recipe``.

    ``recipe``: a recipe, or the name of one of the gallery (``dse.RECIPES``).

    Returns the model; ``dse.nn.coverage.coverage(model)`` says layer by layer what is quantized, what is left and why,
    and ``verbose`` prints it. These kinds of layers are quantized: ``nn.Linear``, ``nn.Conv1d`` to ``nn.Conv3d``,
    ``nn.ConvTranspose1d`` and ``2d``, the projections of ``nn.MultiheadAttention``, GPT-2's ``Conv1D``, and experts
    that ``transformers`` holds as 3-D parameters; where the recipe says so, the products of attention too
    (``dse.nn.select.attentions``). Left without a word are lookup tables (``nn.Embedding``) and parameters that are no
    weights by their shape and name, such as positions; left, and named in the table, are routers of experts.

    - ``where(name, layer)`` chooses among the layers that can be quantized (default: all);
    - ``exempt`` holds name patterns (``head``, ``blocks.0.*``; one may stand alone) of layers that stay as they are;
      the recipe's own ``exempt`` counts among what is left, of which ``first`` and ``last`` count layers of all kinds;
    - ``unsupported``: what becomes of layers that hold weights and cannot be quantized (``nn.LSTM``, subclasses of
      ``nn.Linear``, unknown stacks of matrices, layers whose weight is read where they should be called as in Mamba's
      fused kernels): 'raise' refuses the model, 'leave' leaves them, named in the table.

    Parameters keep their identity and names, so optimizers and checkpoints are unaffected. A linear's or plain 2-D
    convolution's random stream is its index among all of these, whether or not others are exempt; the other kinds
    follow from ``dse.nn.select.OTHERS``, one number for each of their GEMMs. A layer that is reachable by two names
    stays one layer, exempt if one of them is. A second call quantizes what is still plain.

    Raises UserError for an unknown recipe and for one with a post-training method, when nothing would be quantized,
    when the model is itself a layer (wrap it), holds layers that cannot be quantized, or ties two weights under a
    recipe with a weight rule, and for a pattern that matches no layer, and for one of the recipe's rules (``layers``)
    that decides about none and is not optional.

    >>> from torch import nn
    >>> quantize_(nn.Sequential(nn.Linear(64, 32)), "nvfp4")
    Sequential(
      (0): QuantizedLinear(in_features=64, out_features=32, bias=True, recipe='nvfp4')
    )
    """
    if unsupported not in ("raise", "leave"):
        raise UserError(f"unsupported must be 'raise' or 'leave', not {unsupported!r}")
    recipe = find_recipe(recipe)
    if recipe.post is not None:
        raise UserError(f"recipe {recipe.name!r} quantizes after training (post): quantize_post(model, ...) applies it")
    exempt = checked(model, exempt)
    found, order = choice(model, recipe, where, exempt), attentions(model)
    if unsupported == "raise":
        refuse(model, found.refused, "exempt them with exempt={patterns}, or leave them with unsupported='leave'")
    require_some(model, found)
    for plain, index in found.kept.items():
        convert(plain, _class_of(plain), found.recipes[plain], index)
    device = next(model.parameters()).device
    cores = {plain: QuantizedAttention(plain, own, order[plain]).to(device) for plain, own in found.cores.items()}
    carry_hooks(cores)
    swap(model, cores)
    keep_from_fusing(model)
    for text in doubts(model, recipe, found):
        warnings.warn(text, stacklevel=2)
    note(model, {**found.left, **found.refused}, {name: rule.name for name, rule in found.ruled.items()})
    if verbose:
        print(coverage(model).table())
    return model


KINDS: dict[type[nn.Module], type[QuantizedLayer]] = {nn.Linear: QuantizedLinear, nn.Conv2d: QuantizedConv2d}
"""The quantized class of each plain one; those of the other kinds are in ``dse.nn.layers.classes``."""


def _class_of(plain: Any) -> type[Any]:
    """The quantized class of a plain layer."""
    return next(ours for theirs, ours in KINDS.items() if isinstance(plain, theirs)) if is_first(plain) else made(plain)


def quantized_layers(model: nn.Module) -> list[QuantizedLayer]:
    """The quantized layers of a model, each once, in order."""
    return [module for module in model.modules() if isinstance(module, QuantizedLayer)]


def set_clock(model: nn.Module, seed: int, step: int, steps: int | None = None, rank: int = 0) -> None:
    """Sets the seed and step of all quantized layers' random bits; call it at the start of each training step.

    Within a step, each forward call of a layer in training draws bits of its own: micro-batches whose gradients are
    accumulated, and the uses of a layer that a model calls twice. They are numbered from the last ``set_clock``, so a
    step that is made again draws the same; recomputation under activation checkpointing repeats the original's bits.
    Without ``set_clock`` a layer takes each call in training for a step, and a resumed training then repeats the
    beginning's bits.

    With ``steps``, the length of the training, precision schedules decide the layers' phases too. ``rank`` (below 2048)
    gives the processes of a data-parallel training bits of their own, while weight rules draw the same on all. Held
    tensor scales and what schedules watch are then agreed upon (``dse.nn.distributed``): hand this the module that
    ``DistributedDataParallel`` made, on every process.
    """
    agree(model)
    for layer in quantized_layers(model):
        layer.refresh(step)
        layer.sampled = Sampled.of(*layer.held)
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
    """Applies weight rules to gradients; call it after the backward pass (and unscaling), before ``optimizer.step()``.

    Where a gradient of the model is not finite, the step counts as skipped, as ``torch.amp.GradScaler.step`` skips it:
    no rule acts, here or in ``after_step``, and what the step's passes have sampled (held tensor scales, what precision
    schedules look at) is what it was at ``set_clock``. Without this call a held scale still takes no sample that is not
    finite, but keeps the finite ones of a skipped step.
    """
    layers = [layer for layer in quantized_layers(model) if layer.rule or layer.sampled.kept]
    skipped = bool(layers) and not finite_gradients(model)
    for layer in layers:
        layer.sampled = layer.sampled.skip(*layer.held) if skipped else layer.sampled.take()
    _apply_rules(model, "before_step")


def after_step(model: nn.Module) -> None:
    """Applies weight rules to weights; call it after ``optimizer.step()``, also after a step that was skipped."""
    _apply_rules(model, "after_step")


def _apply_rules(model: nn.Module, method: str) -> None:
    for layer in quantized_layers(model):
        if not layer.sampled.skipped:
            layer.apply_rule(method, layer.key.at(Point.FPROP_RHS))
