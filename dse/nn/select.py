"""Which layers and attentions of a model a recipe quantizes, which stay as they are and why, and their replacement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

from torch import nn

from dse.errors import UserError, nearest
from dse.nn.kinds import gemms, is_first, is_quantized, kind_of, matrices, refusal
from dse.nn.places import core_places, places, refuse_idle
from dse.nn.weight_readers import readers
from dse.numerics.recipe import LayerPlace, Recipe, Rule
from dse.text import noun

Plain = nn.Linear | nn.Conv2d
"""What packs quantize, too; below, 'a linear' is either."""

Where = Callable[[str, Any], bool]

OTHERS = 1 << 22
"""Layers of the other kinds draw their random bits as layers OTHERS and the next, apart from linears and attentions."""


@dataclass(frozen=True)
class LayerChoice:
    """What a recipe does with a model's layers.

    ``kept``: what is quantized, with the numbers of its random streams; ``recipes``: its numerics; ``left``: by name,
    why a layer that could be quantized is not; ``refused``: by name, why a layer cannot be; ``doubtful``: by name, the
    method that reads the weight of a layer that its class also calls. ``cores``: the numerics of the attentions whose
    products are quantized; ``ruled``: by name, the rule that decides about a layer or an attention.
    """

    kept: Mapping[Any, int]
    recipes: Mapping[Any, Recipe] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    doubtful: Mapping[str, str] = field(default_factory=dict)
    cores: Mapping[nn.Module, Recipe] = field(default_factory=dict)
    ruled: Mapping[str, Rule] = field(default_factory=dict)


def linears(model: nn.Module) -> dict[Plain, int]:
    """The model's ``nn.Linear`` and ``nn.Conv2d`` modules (no subclasses) with their numbers in the model's order.

    A convolution in groups, or padded with anything but zeros, is of another kind. Raises UserError when the model has
    none of them, or is itself one.
    """
    if isinstance(model, Plain):
        raise UserError("quantize_ replaces linears inside a model; wrap a single one in nn.Sequential")
    numbered = _numbered(model)
    found: dict[Plain, int] = {module: i for module, i in numbered.items() if is_first(module)}
    if not found:
        raise UserError(f"{type(model).__name__} has no nn.Linear or nn.Conv2d to quantize")
    return found


def chosen(model: nn.Module, recipe: Recipe, where: Where | None = None, exempt: Sequence[str] = ()) -> dict[Any, int]:
    """The layers that ``recipe`` quantizes, with their numbers; see ``quantize_`` for the arguments."""
    return dict(choice(model, recipe, where, exempt).kept)


def choice(model: nn.Module, recipe: Recipe, where: Where | None = None, exempt: Sequence[str] = ()) -> LayerChoice:
    """What ``recipe`` does with each layer; see ``quantize_`` for the arguments.

    A recipe's ``exempt.first`` and ``exempt.last`` count all layers that are quantized, of whatever kind, in the
    model's order, after those that ``exempt`` and ``where`` leave out; so do those of its rules, which look at the
    first of a layer's names. Raises UserError for a rule that decides about no layer and is not optional.
    """
    if kind_of(model):
        raise UserError("quantize_ replaces layers inside a model; wrap a single one in nn.Sequential")
    named = {name: m for name, m in holders(model) if kind_of(m)}
    left: dict[str, str] = {}
    for name, module in named.items():
        if pattern := match(name, exempt):
            left[name] = f"exempt {pattern!r}"
        elif where is not None and not where(name, module):
            left[name] = "where"
    read = {name: how for name, how in readers(model).items() if name in named and name not in left}
    refused = {
        name: f"{method} reads its weight instead of calling it" for name, (method, calls) in read.items() if not calls
    }
    out = {named[name] for name in (*left, *refused)}
    rank = {module: i for i, module in enumerate(dict.fromkeys(m for m in named.values() if m not in out))}
    for name, module in named.items():
        if module in rank and recipe.exempt.covers(rank[module], len(rank), name):
            left[name] = f"exempt by the recipe: {recipe.exempt.reason(rank[module], len(rank), name)}"
    out |= {named[name] for name in left}
    layers = places(model, {name: m for name, m in named.items() if m in rank}) if recipe.layers else {}
    ruled: dict[str, Rule] = {}
    recipes: dict[Any, Recipe] = {}
    for name, module in named.items():
        if module in out or module in recipes:
            continue
        rule = recipe.rule(layers[name]) if recipe.layers else None
        own = recipe.under(rule) if recipe.layers else recipe
        ruled |= {name: rule} if rule else {}
        if own is None:
            left[name] = f"left by the rule {rule.name!r}" if rule else ""
            out.add(module)
        else:
            recipes[module] = own
    numbers = _numbered(model)
    kept = {module: numbers[module] for module in recipes}
    weights = [id(p) for module in kept if recipes[module].weights for _, p in matrices(module, inside=True)]
    if len(set(weights)) < len(weights):
        raise UserError("two linears share one weight: the recipe's weight rule would act on it twice")
    refused |= {name: why for name, m in holders(model) if (why := refusal(m)) and not match(name, exempt)}
    doubtful = {name: method for name, (method, calls) in read.items() if calls}
    seats = core_places(layers, _attentions(model)) if recipe.layers else {}
    found = LayerChoice(kept, recipes, left, refused, doubtful, ruled=ruled)
    cores = _cores(model, recipe, exempt, found, seats)
    if recipe.layers:
        refuse_idle(model, recipe, [*layers.values(), *seats.values()], ruled.values())
    return replace(found, cores=cores)


def _cores(
    model: nn.Module, recipe: Recipe, exempt: Sequence[str], found: LayerChoice, seats: Mapping[str, LayerPlace]
) -> dict[nn.Module, Recipe]:
    """The numerics of every attention whose products are quantized; rules are added to ``found.ruled``.

    Left alone are those whose names match a pattern, and those beside linears (in the module that holds it, at any
    depth) of which none is quantized.
    """
    cores: dict[nn.Module, Recipe] = {}
    left_out = set()
    for name, module in _attentions(model).items() if any(own.attention for own in recipe.numerics) else ():
        rule = recipe.rule(seats[name]) if recipe.layers else None
        own = recipe.under(rule) if recipe.layers else recipe
        beside = [m for _, m in holders(model.get_submodule(name.rpartition(".")[0])) if kind_of(m)]
        named = match(name, exempt) or recipe.exempt.named(name)
        if named or (beside and not any(linear in found.kept for linear in beside)):
            left_out.add(module)
        elif module not in cores and own is not None and own.attention is not None:
            cores[module] = own
        if rule:
            found.ruled[name] = rule  # type: ignore[index]
    return {module: own for module, own in cores.items() if module not in left_out}


def holders(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules, under all of their names, that hold matrix weights or may; not the parts of a layer."""
    inside: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if any(name.startswith(owner) for owner in inside):
            continue
        if kind_of(module) or is_quantized(module) or hasattr(module, "parametrizations"):
            inside.append(f"{name}." if name else "")
        elif not (refusal(module) or any(True for _ in matrices(module))):
            continue
        yield name, module


def match(name: str, patterns: Sequence[str]) -> str | None:
    """The first of the patterns that the name matches."""
    return next((p for p in patterns if fnmatchcase(name, p)), None)


def checked(model: nn.Module, exempt: Sequence[str] | str) -> tuple[str, ...]:
    """The patterns of ``exempt``, one for a string. Raises UserError for one that matches no layer and no attention."""
    patterns = (exempt,) if isinstance(exempt, str) else tuple(exempt)
    names = layer_names(model)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            inside = next((name for name in names if name.startswith(f"{pattern}.")), None)
            hint = f"; its layers are {pattern + '.*'!r}" if inside else nearest(pattern, names)
            raise UserError(f"exempt={pattern!r} matches no layer of {type(model).__name__}{hint}")
    return patterns


def layer_names(model: nn.Module) -> list[str]:
    """The names of all layers and attentions, quantized or not."""
    return [*(name for name, _ in holders(model)), *_attentions(model)]


def refuse(model: nn.Module, refused: Mapping[str, str], remedy: str) -> None:
    """Raises UserError, in one line, when layers are refused: which, how much of the model, why, and the remedy."""
    if not refused:
        return
    named = dict(holders(model))
    total = {id(p): p.numel() for m in named.values() for _, p in matrices(m, inside=True)}
    lost = {id(p): p.numel() for name in refused for _, p in matrices(named[name], inside=True)}
    groups: dict[tuple[str, str], list[str]] = {}
    for name, why in refused.items():
        groups.setdefault((starred(name), f"{type(named[name]).__name__}: {why}"), []).append(name)
    shown = [
        f"{name or 'the model itself'}{f' ({len(all_)} times)' if len(all_) > 1 else ''} ({why})"
        for (name, why), all_ in groups.items()
    ]
    more = f"; and {len(shown) - 4} kinds of layers more" if len(shown) > 4 else ""
    some = f" ({sum(lost.values()):,} of {sum(total.values()):,} matrix weights)" if lost else ""
    patterns = list(dict.fromkeys(p for (name, _), all_ in groups.items() for p in (all_ if name == "*" else [name])))
    advice = f"; {remedy.format(patterns=patterns)}" if "" not in refused else ""  # a model that is all of it: none
    raise UserError(
        f"{len(refused)} {noun(len(refused), 'layer')} of {type(model).__name__}{some} cannot be quantized: "
        f"{'; '.join(shown[:4])}{more}{advice}"
    )


def require_some(model: nn.Module, found: LayerChoice) -> None:
    """Raises UserError when nothing of the model would be quantized, and says why."""
    if found.kept or found.cores:
        return
    name = type(model).__name__
    done: list[Any] = [m for _, m in holders(model) if is_quantized(m)]
    if done:
        raise UserError(f"{name} is quantized already ({len(done)} layers, recipe {done[0].recipe.name!r})")
    if found.left:
        reasons = ", ".join(dict.fromkeys(found.left.values()))
        raise UserError(f"nothing of {name} would be quantized: all {len(found.left)} layers are left out ({reasons})")
    raise UserError(f"{name} has no layer to quantize, such as nn.Linear")


def doubts(model: nn.Module, recipe: Recipe, found: LayerChoice) -> Iterator[str]:
    """What a user should look at, though nothing is wrong for sure."""
    name = type(model).__name__
    if recipe.exempt.names and not any(recipe.exempt.named(layer) for layer in layer_names(model)):
        patterns = ", ".join(map(repr, recipe.exempt.names))
        yield f"recipe {recipe.name!r} leaves out layers named {patterns}, and {name} has none"
    if found.doubtful:
        some = ", ".join(dict.fromkeys(f"{starred(layer)} ({how})" for layer, how in found.doubtful.items()))
        yield (
            f"layers of {name} are called, and in places their weights are read: {some}; "
            "dse.nn.bypass.bypassed(model, ...) tells which of both happens"
        )


def starred(name: str) -> str:
    """The name with its numbers as stars: ``blocks.0.fc`` -> ``blocks.*.fc``."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def ranged(names: Sequence[str]) -> str:
    """Names that differ in one number with its ranges, others with stars: ``blocks.0-2,5.fc``."""
    columns = [sorted(set(parts)) for parts in zip(*(name.split(".") for name in names), strict=True)]
    wide = [i for i, column in enumerate(columns) if len(column) > 1]
    if len(wide) > 1:
        return starred(names[0])
    parts = [column[0] for column in columns]
    for i in wide:
        numbers = sorted(map(int, columns[i]))
        runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
        parts[i] = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return ".".join(parts)


def attentions(model: nn.Module) -> dict[nn.Module, int]:
    """The model's attentions with their numbers in the model's order.

    These are the modules, without parameters, whose class says ``attends = True``: ``module(q, k, v, causal, mask)`` is
    softmax(q k^T / sqrt(D)) v over [B, H, T, D], each weight times ``mask`` if it is given.
    """
    return {module: i for i, module in enumerate(dict.fromkeys(_attentions(model).values()))}


def attending(
    model: nn.Module, recipe: Recipe, where: Where | None = None, exempt: Sequence[str] = ()
) -> dict[nn.Module, int]:
    """The attentions whose products ``recipe`` quantizes, with their numbers among all."""
    cores = choice(model, recipe, where, exempt).cores
    return {module: i for module, i in attentions(model).items() if module in cores}


def swap(model: nn.Module, made: Mapping[Any, nn.Module]) -> None:
    """Puts, in place, ``made[module]`` wherever ``module`` stood, under all of its names."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in made:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, made[module])


def _numbered(model: nn.Module) -> dict[Any, int]:
    """The numbers of layers in the model's order: linears and zero-padded convolutions without groups from 0.

    All other kinds are numbered from OTHERS, as many numbers as they have GEMMs, so that a kind that is known one day
    changes no number of another. A layer that is already quantized keeps its place.
    """
    numbers: dict[Any, int] = {}
    modules: dict[Any, None] = dict.fromkeys(m for _, m in holders(model))
    first, other = 0, OTHERS
    for module in modules:
        if is_quantized(module):
            first, other = first + (module.layer < OTHERS), other + len(gemms(module)) * (module.layer >= OTHERS)
        elif is_first(module):
            numbers[module], first = first, first + 1
        elif parts := gemms(module):
            numbers[module], other = other, other + len(parts)
    return numbers


def _attentions(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: m
        for name, m in model.named_modules(remove_duplicate=False)
        if getattr(type(m), "attends", False) and name
    }
