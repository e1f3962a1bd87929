"""Which linears, convolutions (linears over patches) and attentions a recipe quantizes, and how they are replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeGuard

from torch import nn

from dse.errors import UserError
from dse.recipe import Recipe

Plain = nn.Linear | nn.Conv2d
"""What is quantized; below, 'a linear' is either."""

Where = Callable[[str, Plain], bool]


def linears(model: nn.Module) -> dict[Plain, int]:
    """The model's ``nn.Linear`` and ``nn.Conv2d`` modules (no subclasses) with their numbers in the model's order.

    A convolution in groups, or padded with anything but zeros, is left alone. Raises UserError when the model has none
    of them, or is itself one.
    """
    if isinstance(model, Plain):
        raise UserError("quantize_ replaces linears inside a model; wrap a single one in nn.Sequential")
    found = list(dict.fromkeys(_named(model).values()))
    if not found:
        raise UserError(f"{type(model).__name__} has no nn.Linear or nn.Conv2d to quantize")
    return {linear: i for i, linear in enumerate(found)}


def chosen(
    model: nn.Module, recipe: Recipe, where: Where | None = None, exempt: Sequence[str] = ()
) -> dict[Plain, int]:
    """The linears that ``recipe`` quantizes, with their numbers among all; see ``quantize_`` for the arguments."""
    order, names = linears(model), _named(model)

    def left_out(name: str, linear: Plain) -> bool:
        return any(fnmatchcase(name, p) for p in exempt) or not (where is None or where(name, linear))

    out = {linear for name, linear in names.items() if left_out(name, linear)}
    rank = {linear: i for i, linear in enumerate(x for x in order if x not in out)}
    out |= {m for name, m in names.items() if m in rank and recipe.exempt.covers(rank[m], len(rank), name)}
    kept = {linear: order[linear] for linear in rank if linear not in out}
    if recipe.weights and len({linear.weight for linear in kept}) < len(kept):
        raise UserError("two linears share one weight: the recipe's weight rule would act on it twice")
    return kept


def attentions(model: nn.Module) -> dict[nn.Module, int]:
    """The model's attentions with their numbers in the model's order.

    These are the modules, without parameters, whose class says ``attends = True``: ``module(q, k, v, causal, mask)`` is
    softmax(q k^T / sqrt(D)) v over [B, H, T, D], each weight times ``mask`` if it is given.
    """
    return {module: i for i, module in enumerate(dict.fromkeys(_attentions(model).values()))}


def attending(
    model: nn.Module, recipe: Recipe, where: Where | None = None, exempt: Sequence[str] = ()
) -> dict[nn.Module, int]:
    """The attentions whose products ``recipe`` quantizes, with their numbers among all.

    Left alone are those whose names match a pattern, and those beside linears (in the module that holds it, at any
    depth) of which none is quantized.
    """
    if recipe.attention is None:
        return {}
    order, kept, names = attentions(model), chosen(model, recipe, where, exempt), _attentions(model)
    patterns, left_out = (*exempt, *recipe.exempt.names), set()
    for name, module in names.items():
        beside = _named(model.get_submodule(name.rpartition(".")[0])).values()
        if any(fnmatchcase(name, p) for p in patterns) or (beside and not any(linear in kept for linear in beside)):
            left_out.add(module)
    return {module: i for module, i in order.items() if module not in left_out}


def swap(model: nn.Module, made: Mapping[Any, nn.Module]) -> None:
    """Puts, in place, ``made[module]`` wherever ``module`` stood, under all of its names."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in made:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, made[module])


def _attentions(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: m
        for name, m in model.named_modules(remove_duplicate=False)
        if getattr(type(m), "attends", False) and name
    }


def _named(model: nn.Module) -> dict[str, Plain]:
    return {name: m for name, m in model.named_modules(remove_duplicate=False) if _quantizable(m)}


def _quantizable(module: nn.Module) -> TypeGuard[Plain]:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros"
    return type(module) is nn.Linear
