"""The tasks that recipes are tried on: real data, plain models, and nothing about numerics."""

from __future__ import annotations

from tasks.base import Task, Training
from tasks.diffusion import Diffusion
from tasks.image import Image
from tasks.lm import LanguageModel
from tasks.own import Registry
from tasks.regression import Regression

TASKS = Registry(regression=Regression, image=Image, diffusion=Diffusion, lm=LanguageModel)
"""By name; an import path such as `my_module:MyTask` or `./my_task.py:MyTask` is a name, too."""

__all__ = ["TASKS", "Diffusion", "Image", "LanguageModel", "Regression", "Task", "Training"]
