"""How a plain layer becomes a quantized one: the same object, of another class.

So hooks, parametrizations, training mode and attributes stay, and whoever holds the layer holds the quantized one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from dse.errors import UserError
from dse.quantized_layer import QuantizedLayer
from dse.recipe import Recipe


def plain_type(module: nn.Module, kinds: Iterable[type[nn.Module]]) -> type[nn.Module] | None:
    """Which of ``kinds`` a module is, or None: subclasses are others, but for those that torch puts over a class.

    These are made by ``torch.nn.utils.parametrize`` and ``fully_shard``.
    """
    parents, wanted = type(module).__mro__, set(kinds)
    kind = next((parent for parent in parents if parent in wanted), None)
    if kind is None:
        return None
    above = [parent.__name__ for parent in parents[: parents.index(kind)]]
    parametrized = ("Parametrized",) if is_parametrized(module) else ()
    sharded = ("FSDP",) if "FSDPModule" in above else ()
    return kind if all(name.startswith(parametrized + sharded) for name in above) else None


def convert(
    module: nn.Module, kinds: Mapping[type[nn.Module], type[QuantizedLayer]], recipe: Recipe, layer: int
) -> QuantizedLayer:
    """Turns ``module``, which is one of the plain ``kinds``, into its quantized class in place, and returns it.

    Raises UserError for a sharded layer, and OptionError where the recipe's weight rule has no meaning for it; the
    layer is then as it was.
    """
    plain = plain_type(module, kinds)
    assert plain is not None
    if any(hasattr(p, "full_tensor") for p in module.parameters(recurse=False)):
        raise UserError("this model is sharded: call quantize_ before fully_shard, which then shards quantized layers")
    own: type[nn.Module] = type(module)
    made: type[nn.Module] = kinds[plain]
    if own is not plain:  # ParametrizedLinear, whose properties compute the weight
        made = type(f"Parametrized{made.__name__}", (made,), dict(own.__dict__))
    module.__class__ = made
    assert isinstance(module, QuantizedLayer)
    try:
        module.equip(recipe, layer)
    except UserError:
        module.__class__ = own  # type: ignore[assignment]
        raise
    return module


__all__ = ["convert", "plain_type"]
