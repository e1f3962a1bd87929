"""Which trials can share a pack, the order of its members, and each member's recipe at each layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from dse.nn.kinds import is_first, kind_of
from dse.nn.select import Plain, attentions, choice, holders, linears, match, refuse
from dse.numerics.recipe import Recipe
from dse.numerics.registry import to_data
from dse.pack.backend import backend
from dse.pack.segmentation import PLAIN
from dse.trial import Trial

_LOCKSTEP = (
    *("steps", "batch", "optimizer", "loss_scaling", "decayed", "eval_every", "activations"),
    *("first_moment", "second_moment"),
)
"""Training settings that all members share; the others may differ: they are numbers per member."""


def signature(trial: Trial) -> str:
    """Trials of one signature can train in one pack: same task, model, data, steps, batch and optimizer, all of them
    with a teacher or none; those that quantize trained weights are packs of their own, which share calibrations."""
    data = to_data(trial.task)
    rhythm = [getattr(trial.training, name) for name in _LOCKSTEP]
    rhythm += ["distilled"] if trial.training.distillation else []
    rhythm += ["post"] if trial.recipe.post else []
    return json.dumps([trial.task.name, trial.task.version, data, rhythm], sort_keys=True, separators=(",", ":"))


def unlabeled(recipe: Recipe) -> Recipe:
    """The recipe without its texts, and those of its rules, so that equal numerics compare equal."""
    rules = tuple(replace(rule, recipe=rule.recipe and unlabeled(rule.recipe)) for rule in recipe.layers)
    return replace(recipe, name="", summary="", source="", layers=rules)


def _unlabeled(trials: Sequence[Trial]) -> list[Recipe]:
    """The members' recipes without texts; equal ones are one object, which is known sooner."""
    known: dict[Recipe, Recipe] = {}
    return [known.setdefault(recipe, recipe) for recipe in (unlabeled(trial.recipe) for trial in trials)]


def member_order(trials: Sequence[Trial], use_kernels: bool) -> list[int]:
    """The order of a pack's members: members that one kernel launch or one recipe computes are adjacent."""

    def place(i: int) -> Any:
        together, recipe = _likeness(trials[i].recipe)
        return together if use_kernels else "", recipe, trials[i].seed, i

    return sorted(range(len(trials)), key=place)


def likeness(trial: Trial) -> tuple[str, str]:
    """A key to sort trials by, so that packs of neighbors need few different kernels."""
    return _likeness(trial.recipe)


@lru_cache(4096)
def _likeness(recipe: Recipe) -> tuple[str, str]:
    """The programs of a recipe's linears, and the recipe, as texts."""
    return repr([backend(own, True) for own in recipe.numerics]), json.dumps(to_data(recipe), sort_keys=True)


def layer_recipes(trials: Sequence[Trial], model: nn.Module) -> dict[Plain, list[Recipe | None]]:
    """For each linear, in the model's order, every member's recipe there; None: left in full precision.

    Raises UserError for layers that packs do not quantize and the task does not exempt.
    """
    unpacked = "packs quantize nn.Linear and zero-padded nn.Conv2d without groups"
    others = {name: unpacked for name, m in holders(model) if kind_of(m) and not is_first(m)}
    others |= choice(model, PLAIN).refused
    left = {name: why for name, why in others.items() if not match(name, trials[0].task.exempt())}
    refuse(model, left, "name them in the task's exempt(): {patterns}")
    bare = _unlabeled(trials)
    found = {recipe: choice(model, recipe, exempt=trials[0].task.exempt()).recipes for recipe in bare}
    return {linear: [found[recipe].get(linear) for recipe in bare] for linear in linears(model)}


def attention_recipes(trials: Sequence[Trial], model: nn.Module) -> dict[nn.Module, list[Recipe | None]]:
    """For each attention that some member's recipe quantizes, every member's recipe there, or None."""
    bare = _unlabeled(trials)
    found = {recipe: choice(model, recipe, exempt=trials[0].task.exempt()).cores for recipe in bare}
    columns = {module: [found[recipe].get(module) for recipe in bare] for module in attentions(model)}
    return {module: recipes for module, recipes in columns.items() if any(recipes)}


def use_kernels(device: torch.device | str) -> bool:
    """Whether trials on a device run the Triton kernels."""
    from dse import kernels

    return torch.device(device).type == "cuda" and kernels.available()
