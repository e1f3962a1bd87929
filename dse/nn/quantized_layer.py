"""What every quantized layer keeps besides its parameters: its recipe, the clock of its random bits, and state."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.nn.clock import Calls, Clocked
from dse.nn.sharded import is_sharded, whole, write
from dse.nn.skipped_steps import Sampled
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.numerics.recipe import POINTS, Recipe
from dse.numerics.techniques.schedules import Switch
from dse.numerics.techniques.schedules.base import FULL, OFF, PHASES, SWITCHED
from dse.numerics.techniques.weights import WeightRule
from dse.recipes.bf16 import BF16, replace_gemms

_OWN = ("memory", "watch", "phase_index")
_RULE, _PARTS = "rule_", "parts_"


class QuantizedLayer(Clocked):
    """Base of the layers that compute under a recipe; a subclass adds the ``torch.nn`` class that it stands for.

    Made from a plain layer by ``dse.nn.convert.convert``, or built like one: ``QuantizedLinear(64, 32, recipe=...)``.

    - ``recipe``; ``layer``: the number of its random stream;
    - ``clock`` int64 [2]: seed and step, no part of the state dict (``dse.nn.clock``);
    - buffers in the state dict, only where the recipe needs them: ``memory`` float32 [6] (held tensor scales),
      ``rule_*`` (the weight rule's tensors), ``parts_*`` (the decomposition's), ``watch`` float32 [2] and
      ``phase_index`` (the precision schedule's).
      They keep their dtype when the model changes its own (``.to(torch.bfloat16)``), and start anew with
      ``reset_parameters``, from a state dict that has none of them, and when a layer made on ``meta`` gets its memory.
      Parameters drawn anew by other means (``nn.init``) leave a weight rule's tensors as they are: call ``restart``.

    What the passes of a step change is kept as it was at ``set_clock`` (``sampled``), for steps that are skipped.
    Raises OptionError when the weight rule has no meaning for the forward GEMM.
    """

    quantized_layer: ClassVar[bool] = True

    weight: Tensor
    recipe: Recipe
    layer: int
    memory: Tensor | None
    watch: Tensor | None
    phase_index: Tensor | None

    def __init__(self, *args: Any, recipe: Recipe, layer: int = 0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.equip(recipe, layer)

    @torch.inference_mode(False)
    def equip(self, recipe: Recipe, layer: int) -> None:
        """Adds what a plain layer lacks; its class is this one already."""
        if recipe.weights:
            recipe.weights.check(recipe.fprop.rhs, recipe.fprop.rotation is not None)
            self.recipe = recipe
            self.check_trained()
        self.recipe, self.layer, self.sampled = recipe, layer, Sampled()
        device = self.device
        self.calls = Calls(device)
        self._counts = draws(recipe) or holds(recipe) or recipe.decomposition is not None
        remembers = holds(recipe)
        self.register_buffer("memory", torch.zeros(len(POINTS), device=device) if remembers else None)
        watches = recipe.schedule is not None and recipe.schedule.watches
        self.register_buffer("watch", torch.full((2,), torch.nan, device=device) if watches else None)
        self.register_buffer("phase_index", torch.zeros((), dtype=torch.int8) if recipe.schedule else None)
        rule = recipe.weights.state(self.matrix.detach()) if recipe.weights else {}
        self._rule_names, self._pending = tuple(rule), device.type == "meta"
        for name, tensor in rule.items():
            self.register_buffer(f"{_RULE}{name}", tensor)
        parts = self._first_parts()
        self._part_names = tuple(parts)
        for name, tensor in parts.items():
            self.register_buffer(f"{_PARTS}{name}", tensor)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """A tensor in the shape of the weight as [N, K], K the contraction axis of the forward GEMM."""
        return weight.flatten(1)

    def as_weight(self, matrix: Tensor) -> Tensor:
        """The inverse of ``as_matrix``."""
        return matrix.reshape(self.weight.shape)

    @property
    def device(self) -> torch.device:
        """Where the parameters are; a weight that is computed from others is not computed to tell."""
        return next(self.parameters()).device

    @property
    def matrix(self) -> Tensor:
        """The weight as W [N, K], gathered where it is sharded."""
        return self.as_matrix(whole(self.weight))

    @property
    def phase(self) -> str:
        """The schedule's phase of this layer."""
        return FULL if self.phase_index is None else PHASES[int(self.phase_index)]

    @property
    def rule(self) -> WeightRule | None:
        """The weight rule at work: none once the schedule has switched the forward GEMM off."""
        return None if self.phase in (OFF, SWITCHED) else self.recipe.weights

    @property
    def state(self) -> dict[str, Tensor]:
        """The weight rule's tensors by name."""
        return {name: self._buffers[f"{_RULE}{name}"] for name in self._rule_names}  # type: ignore[misc]

    @property
    def parts(self) -> dict[str, Tensor]:
        """The decomposition's tensors by name."""
        return {name: self._buffers[f"{_PARTS}{name}"] for name in self._part_names}  # type: ignore[misc]

    @property
    def measured(self) -> tuple[Tensor, ...]:
        """Those of them that come from data, not from the weight."""
        own = self.recipe.decomposition
        return tuple(self.parts.values()) if own is not None and own.measures else ()

    @property
    def held(self) -> tuple[Tensor | None, ...]:
        """What the passes of a training step change."""
        return self.memory, self.watch, *self.parts.values()

    @torch.no_grad()
    def refresh(self, step: int) -> None:
        """Lets the decomposition look at the weight before a training step."""
        if self.recipe.decomposition is not None and not self.weight.is_meta:
            self.recipe.decomposition.refresh(self.matrix.detach(), self.parts, step)

    def _first_parts(self) -> dict[str, Tensor]:
        own = self.recipe.decomposition
        return {} if own is None else own.state(self.matrix.detach())

    @property
    def key(self) -> Key:
        """Addresses this layer's random bits of the step, and its memory."""
        self.calls.to(self.device)  # fully_shard moves parameters by itself
        return Key(self.clock, self.layer, 0, 0, self.memory, self.training)

    @property
    def active_recipe(self) -> Recipe:
        """The recipe as the precision schedule's phase leaves it."""
        return in_phase(self.recipe, self.phase)

    def context(self, x: Tensor) -> LinearContext:
        """What the forward call on ``x`` needs besides operands and recipe; in training, the call is counted."""
        self._settle()
        watch, key = self.watch if self.training else None, self.key
        if self.training and self._counts:
            key = replace(key, clock=self.calls.address([x]))
        return LinearContext(key, self.state, watch, self.parts)

    @torch.no_grad()
    def apply_rule(self, method: str, key: Key) -> None:
        """The weight rule's ``before_step`` or ``after_step``, on this layer's weight and gradient.

        The rule works on whole matrices; where these are no views (a kernel in channels_last, sharded parameters) what
        it changed is copied back.
        """
        rule = self.rule
        if rule is None:
            return
        self.check_trained()
        self._settle()
        weight, gradient = whole(self.weight), whole(self.weight.grad)
        w = self.as_matrix(weight).detach()
        w.grad = None if gradient is None else self.as_matrix(gradient)
        getattr(rule, method)(self.recipe.fprop.rhs, w, self.state, key)
        for target, changed in ((self.weight, w), (self.weight.grad, w.grad)):
            if target is None or changed is None:
                continue
            if is_sharded(target) or target.data_ptr() != changed.data_ptr():
                write(target, self.as_weight(changed))

    @torch.no_grad()
    def _settle(self) -> None:
        """Begins a weight rule's tensors where the weight was empty (``to_empty``) when they were made."""
        if self._pending and self.recipe.weights is not None and not self.weight.is_meta:
            for name, tensor in self.recipe.weights.state(self.matrix.detach()).items():
                self.state[name].copy_(tensor)
            self._pending = False

    def check_trained(self) -> None:
        """Raises OptionError where a weight rule would act on a weight that is computed from other parameters."""
        if "weight" not in self._parameters:
            raise untrained(self)

    def restart(self) -> None:
        """All that is kept between steps as it was at first."""
        self.sampled = Sampled()
        device = self.device
        self.calls.to(device)
        for name, tensor in self._kept().items():
            if tensor.is_meta:
                self._buffers[name] = torch.empty_like(tensor, device=device)
        for name, value in (("memory", 0), ("watch", torch.nan), ("phase_index", 0)):
            kept = self._buffers.get(name)
            if kept is not None:
                kept.fill_(value)
        for name, tensor in self._first_parts().items():
            self.parts[name].copy_(tensor)
        self._pending = True
        self._settle()

    def reset_parameters(self) -> None:
        """Draws the parameters as the plain layer does, and forgets what was kept between steps."""
        super().reset_parameters()  # type: ignore[misc]
        if "recipe" in self.__dict__:  # the plain class calls this before there is anything to keep
            self.restart()

    def _kept(self) -> dict[str, Tensor]:
        """The numerics' buffers by name."""
        names = (*_OWN, *(f"{_RULE}{n}" for n in self._rule_names), *(f"{_PARTS}{n}" for n in self._part_names))
        return {name: t for name in names if (t := self._buffers.get(name)) is not None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves the numerics with the layer, and leaves their dtypes: a rule's sums are FP32, or as wide as W."""
        before, empty = self._kept(), self.clock.is_meta
        super()._apply(fn, recurse)
        for name, old in before.items():
            moved = _moved(old, self._buffers[name])  # type: ignore[arg-type]
            if name.startswith(_RULE) and moved.is_floating_point():
                moved = moved.to(torch.promote_types(torch.float32, self.weight.dtype))
            self._buffers[name] = moved
        if empty and not self.clock.is_meta:
            self.restart()
            self._pending = True  # the weight itself is empty still
        return self

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """A state dict with none of the numerics' tensors is a plain layer's: they start anew."""
        kept = [prefix + name for name in self._kept()]
        found = [key for key in kept if key in state_dict]
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self._pending, self.sampled = self._pending and not found, Sampled()
        if kept and not found:
            missing_keys[:] = [key for key in missing_keys if key not in kept]
            self.restart()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._pending and not is_sharded(self.weight):  # all processes would have to be here
            self._settle()
        super()._save_to_state_dict(destination, prefix, keep_vars)


def _moved(old: Tensor, new: Tensor) -> Tensor:
    """``old`` on the device of ``new``, which may be rounded, or (``to_empty``) hold nothing."""
    if new is old or new.is_meta:
        return new.to(old.dtype)
    return torch.empty_like(old, device=new.device) if old.is_meta else old.to(new.device)


def untrained(layer: Any) -> OptionError:
    """The error of a weight rule where the weight is computed from other parameters."""
    return OptionError(
        f"weights: {type(layer.recipe.weights).__name__} acts on trained weights, and {type(layer).__name__} computes "
        "its own from others (spectral_norm, weight_norm, prune, parametrize); exempt the layer, or take a recipe "
        "without the rule"
    )


def check_input(layer: nn.Module, x: Tensor, axis: int, width: int, dims: Container[int]) -> None:
    """Raises RuntimeError unless x has ``width`` at ``axis``, as many axes as one of ``dims``, and is of real floats.

    It has to be said here: a rotation would pad a narrow input with zeros, and numbers of any kind become FP32. Refused
    too are layouts other than dense, transforms of ``torch.func``, and tracing.
    """
    name = type(layer).__name__
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(
            f"{name} does not run under torch.func transforms (grad, vmap, jvp): use autograd's backward"
        )
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(f"{name} cannot be traced by torch.jit: use torch.export with strict=False")
    if x.layout is not torch.strided:
        raise RuntimeError(f"{name} got an input of layout {x.layout}, and takes dense tensors")
    if x.dim() not in dims or x.shape[axis] != width:
        raise RuntimeError(f"{name} got an input of shape {list(x.shape)}, and axis {axis} has to be {width}")
    if not x.is_floating_point():
        raise RuntimeError(f"{name} got an input of {x.dtype}, and takes floating-point numbers")


def draws(recipe: Recipe) -> bool:
    """Whether a linear under ``recipe`` draws random bits, for rounding or for a rotation's signs, in any phase."""
    stages = _stages(recipe)
    rotations = [gemm.rotation for stage in stages for gemm in (stage.fprop, stage.dgrad, stage.wgrad)]
    return any(rotations) or any(stage.quantizer(p).random_bits for stage in stages for p in POINTS)


def holds(recipe: Recipe) -> bool:
    """Whether a linear under ``recipe`` holds tensor scales between steps, in any phase."""
    return any(stage.quantizer(p).remembers for stage in _stages(recipe) for p in POINTS)


def _stages(recipe: Recipe) -> tuple[Recipe, ...]:
    return (recipe, in_phase(recipe, SWITCHED)) if isinstance(recipe.schedule, Switch) else (recipe,)


def in_phase(recipe: Recipe, phase: str) -> Recipe:
    """The numerics of a phase: all of the recipe, only its forward GEMM (backward from BF16 operands), or BF16.

    Where its schedule has switched: that schedule's GEMMs, without the weight rule.
    """
    if phase == FULL:
        return recipe
    if phase == SWITCHED:
        assert isinstance(recipe.schedule, Switch)
        to = recipe.schedule.to
        other = replace_gemms(recipe, to.fprop, to.dgrad, to.wgrad)
        return replace(other, backward_source=to.backward_source, weights=None)
    return replace_gemms(recipe, BF16.fprop if phase == OFF else recipe.fprop, BF16.dgrad, BF16.wgrad)


__all__ = ["QuantizedLayer", "check_input", "draws", "holds", "in_phase", "untrained"]
