"""The numerics that a precision schedule runs through, each with its share of a training's steps."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from dse.nn.attention import at_work
from dse.nn.quantized_layer import in_phase
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.schedules.switch import Switch

_SAME = 1e-12
"""Shares of a training that are taken as none."""


class TrainingPhase(NamedTuple):
    """A recipe whose layers stay in one phase of their schedules, from ``start`` to ``end`` of a training (0 to 1)."""

    start: float
    end: float
    recipe: Recipe

    @property
    def share(self) -> float:
        """Of the steps."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"from {100 * self.start:.3g} to {100 * self.end:.3g} % of the steps"


@lru_cache(maxsize=4096)
def training_phases(recipe: Recipe) -> tuple[TrainingPhase, ...]:
    """What a recipe computes with in the course of a training; itself alone without a schedule, and after training.

    The shares are those that its schedules state (``Schedule.shares``); the layers of a rule with a schedule of their
    own change at its steps. The recipes keep their schedules, for what these cost beside the GEMMs: they are to be
    counted as they stand.
    """
    if recipe.post is not None or not any(own.schedule for own in recipe.numerics):
        return (TrainingPhase(0.0, 1.0, recipe),)
    ends = {1.0}
    for own in recipe.numerics:
        total = 0.0
        for _, share in own.schedule.shares() if own.schedule else ():
            total += share
            ends.add(total)
    bounds = [0.0]
    for end in sorted(ends):
        if end - bounds[-1] > _SAME and (end == 1.0 or 1 - end > _SAME):
            bounds.append(end)
    return tuple(TrainingPhase(a, b, _whole(recipe, (a + b) / 2)) for a, b in pairwise(bounds))


def stated(recipe: Recipe, steps: int) -> Recipe:
    """The recipe of a training of so many steps: a switch at a step acts for its share of them, or never."""
    rules = tuple(
        rule if rule.recipe is None else replace(rule, recipe=stated(rule.recipe, steps)) for rule in recipe.layers
    )
    schedule = recipe.schedule
    if isinstance(schedule, Switch) and schedule.step:
        left = steps - schedule.step
        schedule = Switch(to=schedule.to, share=left / steps) if left > 0 else None
    if (schedule, rules) == (recipe.schedule, recipe.layers):
        return recipe
    return replace(recipe, schedule=schedule, layers=rules)


def unstated(recipe: Recipe) -> tuple[str, ...]:
    """What the costs of a recipe's schedules depend on beside the recipe, and how they are counted; in sentences."""
    if recipe.post is not None:
        return ()
    found = (own.schedule.unstated for own in recipe.numerics if own.schedule)
    return tuple(dict.fromkeys(text for text in found if text))


def _whole(recipe: Recipe, at: float) -> Recipe:
    """All layers in the phases of one point of the training."""
    base = recipe.under(None)
    assert base is not None
    rules = tuple(replace(rule, recipe=_at(recipe.under(rule), at), origin=None) for rule in recipe.layers)
    return replace(_alone(base, at), layers=rules, exempt=recipe.exempt)


def _at(recipe: Recipe | None, at: float) -> Recipe | None:
    return None if recipe is None else _alone(recipe, at)


def _alone(recipe: Recipe, at: float) -> Recipe:
    """Numerics without rules at one point of the training."""
    total = 0.0
    for phase, share in recipe.schedule.shares() if recipe.schedule else ():
        total += share
        if at < total:
            return replace(in_phase(recipe, phase), attention=at_work(recipe, phase))
    return recipe


__all__ = ["TrainingPhase", "stated", "training_phases", "unstated"]
