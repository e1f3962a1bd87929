"""A task of one's own that trains in milliseconds: a fixed linear teacher, learned by a perceptron of two layers.

It imports by the names that such files have always used, and those have to stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from tasks.base import Batch, Model, Task, Training
from tasks.streams import integers


@dataclass(frozen=True)
class Rows:
    """Features and targets."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Small(Task[Rows]):
    """Options: the `width` of the model; `broken`: its loss raises an error."""

    version: ClassVar[int] = 1
    metric: ClassVar[str] = "loss"

    width: int = 16
    broken: bool = False

    def training(self) -> Training:
        return Training(steps=6, batch=16, lr=1e-2, eval_every=2)

    def load(self, data_dir: Path | None = None) -> Rows:
        word = torch.arange(1, 256 * 16 + 1) * 2654435761 >> 8 & 0xFFFF  # the same on every machine
        x = (word.float() / 2**14 - 2).view(256, 16)
        return Rows(x, (x[:, :4] - x[:, 4:8]) / 2)

    def model(self, data: Rows) -> nn.Module:
        return nn.Sequential(nn.Linear(16, self.width), nn.ReLU(), nn.Linear(self.width, 4))

    def exempt(self) -> tuple[str, ...]:
        return ()

    def batch(self, data: Rows, seeds: Tensor, step: Tensor, size: int) -> Batch:
        rows = integers(seeds, step, size, 192)
        return data.x[rows], data.y[rows]

    def loss(self, model: Model, batch: Batch) -> Tensor:
        if self.broken:
            raise ValueError("broken on purpose")
        x, y = batch
        return (model(x) - y).square().mean()

    def held_out(self, data: Rows) -> list[Batch]:
        return [(data.x[192:], data.y[192:])]

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        error = model(x) - y
        return {"loss": error.square().mean(), "error": error.abs().mean()}
