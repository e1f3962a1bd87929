"""Training tasks: data sets, models in plain PyTorch, and losses. They know nothing about numerics or recipes."""

from __future__ import annotations

import sys
from importlib import import_module

from dse.tasks.addition import Addition
from dse.tasks.base import Task, Training
from dse.tasks.diffusion import Diffusion
from dse.tasks.image import Image
from dse.tasks.lm import LanguageModel
from dse.tasks.own import Registry
from dse.tasks.regression import Regression

TASKS = Registry(regression=Regression, image=Image, diffusion=Diffusion, lm=LanguageModel, addition=Addition)
"""By name; an import path such as `my_module:MyTask` or `./my_task.py:MyTask` is a name, too."""

__all__ = ["TASKS", "Addition", "Diffusion", "Image", "LanguageModel", "Regression", "Task", "Training"]

if __name__ == "tasks":  # imported as a folder of the working directory: the same modules under their former name
    sys.modules[__name__] = import_module("dse.tasks")
