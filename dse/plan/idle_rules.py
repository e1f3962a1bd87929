"""Whether recipes fit the models of a sweep's tasks, as far as that needs a model, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from dse.numerics.recipe import Recipe
    from dse.sweep.cells.cell import Cell
    from dse.tasks.base import Task


def check_rules(cells: Iterable[Cell], file: Path, data_dir: Path | None = None) -> None:
    """Raises UserError, with the file and the cell, for a recipe that has no meaning for its task's model.

    That is a rule that decides about no layer and is not optional, and a post-training method where a layer cannot be
    quantized, or none would be. Builds one model for each task with such recipes, and nothing where there are none. A
    task whose code fails is left to its trials, whose results it is.
    """
    asked: dict[Task[Any], dict[Recipe, Cell]] = {}
    for cell in cells:
        recipe = cell.trial.recipe
        if recipe.post is not None or any(not rule.optional for rule in recipe.layers):
            asked.setdefault(cell.trial.task, {}).setdefault(recipe, cell)
    for task, recipes in asked.items():
        try:
            model = model_of(task, data_dir)
        except UserError:
            raise
        except Exception:  # noqa: BLE001 - the plan names it, and so does the record of each trial
            continue
        for recipe, cell in recipes.items():
            try:
                _check(model, recipe, task.exempt())
            except UserError as error:
                raise UserError(f"{file}: task {cell.labels['task']}, {cell.config}: {error}") from None


def _check(model: nn.Module, recipe: Recipe, exempt: tuple[str, ...]) -> None:
    from dse.nn.select import choice
    from dse.post.chosen_layers import chosen_layers

    if recipe.post is None:
        choice(model, recipe, exempt=exempt)
    else:
        chosen_layers(model, recipe, exempt)


def model_of(task: Task[Any], data_dir: Path | None = None) -> nn.Module:
    """A task's model as it begins, without a trace in torch's global generator. Raises UserError for missing data."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return task.model(task.load(data_dir))


__all__ = ["check_rules", "model_of"]
