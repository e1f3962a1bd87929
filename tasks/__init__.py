"""The tasks that recipes are tried on: real data, plain models, and nothing about numerics."""

from __future__ import annotations

from typing import Any

from tasks.base import Task, Training
from tasks.diffusion import Diffusion
from tasks.image import Image
from tasks.lm import LanguageModel
from tasks.regression import Regression

TASKS: dict[str, type[Task[Any]]] = {
    "regression": Regression,
    "image": Image,
    "diffusion": Diffusion,
    "lm": LanguageModel,
}

__all__ = ["TASKS", "Diffusion", "Image", "LanguageModel", "Regression", "Task", "Training"]
