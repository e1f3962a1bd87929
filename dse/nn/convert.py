"""How a plain layer becomes a quantized one: the same object, of another class.

So hooks, parametrizations, training mode and attributes stay, and whoever holds the layer holds the quantized one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

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


__all__ = ["convert"]
