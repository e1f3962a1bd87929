"""Whether the rules about layers of a sweep's recipes meet layers of its tasks' models, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from dse.numerics.recipe import Recipe
    from dse.tasks.base import Task
    from dse.trial import Trial


def check_rules(trials: Iterable[Trial], data_dir: Path | None = None) -> None:
    """Raises UserError, with the task, for a rule that decides about no layer of the task's model and is not optional.

    Builds one model for each task with such recipes, and nothing where there are none.
    """
    asked: dict[Task[Any], dict[Recipe, None]] = {}
    for trial in trials:
        if any(not rule.optional for rule in trial.recipe.layers):
            asked.setdefault(trial.task, {})[trial.recipe] = None
    for task, recipes in asked.items():
        from dse.nn.select import choice

        model = model_of(task, data_dir)
        for recipe in recipes:
            try:
                choice(model, recipe, exempt=task.exempt())
            except UserError as error:
                raise UserError(f"task {task.name}: {error}") from None


def model_of(task: Task[Any], data_dir: Path | None = None) -> nn.Module:
    """A task's model as it begins, without a trace in torch's global generator. Raises UserError for missing data."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return task.model(task.load(data_dir))


__all__ = ["check_rules", "model_of"]
