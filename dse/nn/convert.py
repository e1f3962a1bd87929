"""How a plain layer becomes a quantized one: the same object, of another class.

So hooks, parametrizations, training mode and attributes stay, and whoever holds the layer holds the quantized one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from dse.errors import UserError
from dse.nn.kinds import plain_class
from dse.numerics.recipe import Recipe


def convert(module: nn.Module, made: type[Any], recipe: Recipe, layer: int) -> Any:
    """Turns ``module`` into its quantized class ``made`` in place, and returns it.

    ``made`` has a method ``equip(recipe, layer)``. Raises UserError for a sharded layer, and OptionError where the
    recipe's weight rule has no meaning for it; the layer is then as it was.
    """
    if any(hasattr(p, "full_tensor") for p in module.parameters()):
        raise UserError("this model is sharded: call quantize_ before fully_shard, which then shards quantized layers")
    own: type[Any] = type(module)
    if own is not plain_class(module):  # ParametrizedLinear, whose properties compute the weight
        made = type(f"Parametrized{made.__name__}", (made,), dict(own.__dict__))
    module.__class__ = made
    try:
        with _at_rest(module):
            module.equip(recipe, layer)  # type: ignore[operator]
    except UserError:
        module.__class__ = own
        raise
    return module


_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)
"""Where torch keeps the hooks of a module's passes."""


def carry_hooks(made: Mapping[Any, nn.Module]) -> None:
    """Gives each module that takes the place of another the other's hooks, whose handles remove them as before.

    Not those by which torch's old ``weight_norm``, ``spectral_norm`` and pruning compute a weight before each call.
    """
    for plain, own in made.items():
        for key, hook in list(plain._forward_pre_hooks.items()):
            if isinstance(hook, (WeightNorm, SpectralNorm, BasePruningMethod)):
                del plain._forward_pre_hooks[key]
        for name in _HOOKS:
            own.__dict__[name] = plain.__dict__[name]


@contextmanager
def _at_rest(module: nn.Module) -> Iterator[None]:
    """Inside, parametrizations compute the weight as in evaluation: a spectral norm's vectors stay as they are."""
    inner = {m: m.training for origin in getattr(module, "parametrizations", {}).values() for m in origin.modules()}
    for m in inner:
        m.training = False
    try:
        yield
    finally:
        for m, training in inner.items():
            m.training = training


__all__ = ["carry_hooks", "convert"]
