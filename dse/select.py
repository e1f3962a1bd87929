"""Which linears of a model a recipe quantizes, and how they are replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from dse.errors import UserError
from dse.recipe import Recipe

Where = Callable[[str, nn.Linear], bool]


def linears(model: nn.Module) -> dict[nn.Linear, int]:
    """The model's ``nn.Linear`` modules (no subclasses) with their numbers in the model's order.

    Raises UserError when the model has none, or is itself one.
    """
    if isinstance(model, nn.Linear):
        raise UserError("quantize_ replaces linears inside a model; wrap a single one in nn.Sequential")
    found = list(dict.fromkeys(_named(model).values()))
    if not found:
        raise UserError(f"{type(model).__name__} has no nn.Linear to quantize")
    return {linear: i for i, linear in enumerate(found)}


def chosen(
    model: nn.Module, recipe: Recipe, where: Where | None = None, exempt: Sequence[str] = ()
) -> dict[nn.Linear, int]:
    """The linears that ``recipe`` quantizes, with their numbers among all; see ``quantize_`` for the arguments."""
    order, names = linears(model), _named(model)

    def left_out(name: str, linear: nn.Linear) -> bool:
        return any(fnmatchcase(name, p) for p in exempt) or not (where is None or where(name, linear))

    out = {linear for name, linear in names.items() if left_out(name, linear)}
    rank = {linear: i for i, linear in enumerate(x for x in order if x not in out)}
    out |= {m for name, m in names.items() if m in rank and recipe.exempt.covers(rank[m], len(rank), name)}
    kept = {linear: order[linear] for linear in rank if linear not in out}
    if recipe.weights and len({linear.weight for linear in kept}) < len(kept):
        raise UserError("two linears share one weight: the recipe's weight rule would act on it twice")
    return kept


def swap(model: nn.Module, made: Mapping[nn.Linear, nn.Module]) -> None:
    """Puts, in place, ``made[linear]`` wherever ``linear`` stood, under all of its names."""
    for name, linear in _named(model).items():
        if linear in made:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, made[linear])


def _named(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: m for name, m in model.named_modules(remove_duplicate=False) if type(m) is nn.Linear}
