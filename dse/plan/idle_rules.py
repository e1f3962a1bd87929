"""Whether recipes fit the models of a sweep's tasks, as far as that needs a model, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.numerics.layer_choice import Exempt
from dse.numerics.techniques.schedules.switch import Switch
from dse.text import plural

if TYPE_CHECKING:
    from torch import nn

    from dse.nn.select import LayerChoice
    from dse.numerics.recipe import Recipe
    from dse.sweep.cells.cell import Cell
    from dse.tasks.base import Task
    from dse.trial import Trial


def check_rules(cells: Iterable[Cell], file: Path, data_dir: Path | None = None) -> tuple[str, ...]:
    """Notes about recipes that leave out every layer of their task's model, so that they train it as BF16 does, and
    about switches of precision at a step that no training reaches.

    Raises UserError, with the file and the cell, for a recipe that has no meaning for its task's model: a rule that
    decides about no layer and is not optional, or a post-training method where a layer cannot be quantized, or none
    would be. Builds one model for each task with such recipes, and nothing where there are none. A task whose code
    fails is left to its trials, whose results it is.
    """
    asked: dict[Task[Any], dict[Recipe, Cell]] = {}
    notes: dict[str, None] = {}
    for cell in cells:
        recipe = cell.trial.recipe
        if unreached := _unreached(cell.trial):
            notes[f"task {cell.labels['task']}, {cell.config}: {unreached}"] = None
        if recipe.post is not None or recipe.layers or recipe.exempt != Exempt():
            asked.setdefault(cell.trial.task, {}).setdefault(recipe, cell)
    for task, recipes in asked.items():
        try:
            model = model_of(task, data_dir)
        except UserError:
            raise
        except Exception:  # noqa: BLE001 - the plan names it, and so does the record of each trial
            continue
        for recipe, cell in recipes.items():
            where = f"task {cell.labels['task']}, {cell.config}"
            try:
                found = _found(model, recipe, task.exempt())
            except UserError as error:
                raise UserError(f"{file}: {where}: {error}") from None
            if (recipe.quantizes or recipe.layers or recipe.attention) and not (found.kept or found.cores):
                why = ", ".join(dict.fromkeys(found.left.values()))
                left = f"all {plural(len(found.left), 'layer')} are left out ({why})"
                notes[f"{where}: nothing is quantized, {left}; it trains as BF16 does"] = None
    return tuple(notes)


def _unreached(trial: Trial) -> str:
    """Why a switch of precision has no effect; '' where it has, and where there is none."""
    schedule, steps = trial.recipe.schedule, trial.training.steps
    if isinstance(schedule, Switch) and schedule.step >= steps:
        return f"schedule.switch.step {schedule.step} is never reached, it trains for {plural(steps, 'step')}"
    return ""


def _found(model: nn.Module, recipe: Recipe, exempt: tuple[str, ...]) -> LayerChoice:
    """What the recipe does with the model's layers. Raises UserError where that has no meaning."""
    from dse.nn.select import choice
    from dse.post.chosen_layers import chosen_layers

    if recipe.post is not None:
        chosen_layers(model, recipe, exempt)
    return choice(model, recipe, exempt=exempt)


def model_of(task: Task[Any], data_dir: Path | None = None) -> nn.Module:
    """A task's model as it begins, without a trace in torch's global generator. Raises UserError for missing data."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return task.model(task.load(data_dir))


__all__ = ["check_rules", "model_of"]
