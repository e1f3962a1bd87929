"""A trial: one model, one recipe, one seed, and the identity that decides whether its result is already known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from dse.errors import UserError, nearest
from dse.numerics.recipe import Exempt, Recipe
from dse.numerics.registry import build, to_data
from dse.numerics.techniques.post import AutoQuantize
from dse.recipes import RECIPES, find_recipe
from dse.tasks import TASKS
from dse.tasks.base import Task, Training
from dse.tasks.own import is_found, is_path

ARITHMETIC = 2
"""Rises when the same recipe would give other numbers. A single technique that changes bears its own version."""


@dataclass(frozen=True)
class Trial:
    """Everything that decides a result: task with its options, training settings, recipe and seed.

    The same (task, training, seed) means the same initialization and the same batches, whatever the recipe, so trials
    are compared in pairs. ``start``: the trial, of the same seed, whose trained weights it starts from in place of the
    task's initialization; its optimizer and its schedule begin anew. With ``training.distillation`` it is the teacher.
    A recipe with a post-training method (``post``) trains nothing: the trial quantizes the weights of its baseline, the
    same trial under ``bf16``.

    ``recipe`` may be given by its name. Raises UserError for an unknown one, for a start of another seed, for one whose
    weights this task cannot go on with, for distillation without a teacher or of a model that predicts no classes, and
    for a post-training method with activations between layers in BF16.
    """

    task: Task[Any]
    training: Training
    recipe: Recipe
    seed: int
    start: Trial | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", find_recipe(self.recipe))
        reason = not_distilled(self.task, self.training, self.start) or not_after(self.training, self.recipe)
        if reason:
            raise UserError(reason)
        if self.start is None:
            return
        if self.start.seed != self.seed:
            raise UserError(f"a trial of seed {self.seed} cannot start from one of seed {self.start.seed}")
        self.task.check_start(self.start.task)

    @property
    def needs(self) -> tuple[Trial, ...]:
        """The trials whose trained weights it needs before its first step (``dse.train.weights``)."""
        if self.recipe.post is not None:
            return (self.baseline(),)
        return (self.start,) if self.start else ()

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Canonical, fully resolved content as plain data; fields at their default are left out."""
        own = {
            "arithmetic": ARITHMETIC,
            "task": self.task.name,
            "task_version": self.task.version,
            "options": to_data(self.task),
            "training": to_data(self.training),
            "recipe": to_data(self.recipe),
            "seed": self.seed,
        }
        if _budget_of_all(self.recipe):
            own["budget"] = "of all layers"  # before it was of those that are quantized
        if self.start:
            own["start"] = {key: value for key, value in self.start.spec.items() if key != "seed"}
        return own

    @cached_property
    def uid(self) -> str:
        """16 hex digits of the SHA-256 of ``spec`` as canonical JSON; display names take no part."""
        text = json.dumps(self.spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def baseline(self, recipe: Recipe = RECIPES["bf16"]) -> Trial:
        """The trial this one is compared with: the same, unquantized."""
        return replace(self, recipe=recipe)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], name: str = "") -> Trial:
        """The trial that a stored ``spec`` describes; ``name`` is the recipe's display name.

        Raises UserError for a task that is code at a path which no sweep has named: what was stored runs nothing.
        """
        if is_path(spec["task"]) and not is_found(spec["task"]):
            raise UserError(f"task {spec['task']!r} is code at a path; it is imported for a sweep that names it")
        task = make_task(spec["task"], spec["options"])
        training = build(Training, spec["training"], "training")
        recipe = replace(build(Recipe, spec["recipe"], "recipe"), name=name)
        start = spec.get("start")
        first = cls.from_spec({**start, "seed": spec["seed"]}, _name_of(start["recipe"])) if start else None
        return cls(task, training, recipe, spec["seed"], first)


def not_distilled(task: Task[Any], training: Training, start: Trial | None) -> str:
    """Why a training cannot be distilled as its settings say, or empty."""
    if not training.distillation:
        return ""
    if not task.classifies:
        able = ", ".join(name for name, cls in TASKS.items() if cls.classifies)
        return f"training.distillation: the model of {task.name} predicts no classes; those of {able} do"
    if start is None:
        return f"training.distillation: {task.name} needs a `start`, whose trained model is the teacher"
    return ""


def not_after(training: Training, recipe: Recipe) -> str:
    """Why a model of such a training cannot be quantized after it, or empty."""
    if recipe.post is None or training.activations == "fp32":
        return ""
    return "post: the quantized model is evaluated in FP32 between layers; take training.activations: fp32"


def _budget_of_all(recipe: Recipe) -> bool:
    """Whether a search of formats has a budget of bits in which layers count that the recipe leaves."""
    left = recipe.exempt != Exempt() or any(rule.recipe is None for rule in recipe.layers)
    return isinstance(recipe.post, AutoQuantize) and left


def _name_of(recipe: Any) -> str:
    """The name of a recipe of the gallery from its plain data, or empty."""
    return next((name for name, known in RECIPES.items() if to_data(known) == recipe), "")


def make_trial(
    task: Task[Any] | str,
    recipe: Recipe | str,
    seed: int = 0,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    training: Mapping[str, Any] = MappingProxyType({}),
) -> Trial:
    """A trial of a task and a recipe, both by their names or as objects.

    ``options``: of a task that is given by its name; ``training``: settings in place of the task's own. Raises
    UserError for an unknown name, option or setting, with the nearest valid one.

    >>> make_trial("lm", "nvfp4", training={"steps": 40}).training.steps
    40
    """
    own = make_task(task, options) if isinstance(task, str) else task
    known = {f.name for f in fields(Training)}
    if unknown := next((name for name in training if name not in known), None):
        raise UserError(f"unknown training setting {unknown!r}{nearest(unknown, known)}")
    return Trial(own, replace(own.training(), **training), find_recipe(recipe), seed)


def make_task(name: str, options: Mapping[str, Any]) -> Task[Any]:
    """A task by its name in ``tasks.TASKS``, or its import path, with some options set.

    Raises UserError for an unknown name or option, and for a path that leads to no task.
    """
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}{nearest(name, TASKS)}")
    known = [f.name for f in fields(TASKS[name])]
    for option in options:
        if option not in known:
            raise UserError(f"task {name} has no option {option!r}{nearest(option, known)}")
    return TASKS[name](**options)


__all__ = ["ARITHMETIC", "Trial", "make_task", "make_trial", "not_after", "not_distilled"]
