"""The eager variant: one trial as an ordinary PyTorch model with autograd and torch.optim, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from dse.bench.models import BenchModel
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.recipes import RECIPES
from dse.tasks.base import Task, single, to_device

RECIPE = "nvfp4"
"""Recipe of the eager trial."""
_BATCHES = 16

Alter = Callable[[nn.Module, BenchModel], nn.Module]
"""Changes a plain model's linears, in place."""


@lru_cache(maxsize=8)
def load(task: Task[Any], device: str) -> Any:
    """The task's data on a device, kept for the next measurements."""
    return to_device(task.load(), device)


def emulated(model: nn.Module, subject: BenchModel) -> nn.Module:
    """The plain-torch emulation of this project."""
    return quantize_(model, RECIPES[RECIPE], exempt=subject.task.exempt())


class Solo:
    """One trial of ``subject`` on ``device``, its linears changed by ``alter``. ``step()`` trains once.

    The batches are drawn before: a tenth of a small model's eager step would be their drawing.
    """

    def __init__(self, subject: BenchModel, device: str, alter: Alter = emulated) -> None:
        data, training = load(subject.task, device), subject.training
        torch.manual_seed(0)
        self.model = alter(subject.task.model(data).to(device), subject)
        self._subject, self._steps, self._quantized = subject, 0, bool(quantized_layers(self.model))
        self._batches = [single(subject.task, data, 0, i, training.batch) for i in range(_BATCHES)]
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), training.lr, training.betas, weight_decay=training.weight_decay
        )

    def step(self) -> None:
        """Forward, backward, clipping, AdamW."""
        if self._quantized:
            set_clock(self.model, 0, self._steps)
        loss = self._subject.task.loss(self.model, self._batches[self._steps % _BATCHES])
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self._subject.training.clip)
        if self._quantized:
            before_step(self.model)
        self._optimizer.step()
        if self._quantized:
            after_step(self.model)
        self._steps += 1
