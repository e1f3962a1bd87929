"""Regression: the paper's Gaussian teacher, or a real table, learned by a multilayer perceptron.

The paper trains a single Linear 1024 -> 1 (`net: linear`). One output makes a poor subject for quantization: practice
keeps such a layer in high precision, and one output row leaves nothing for the input gradient to contract over. So the
default model is a perceptron on the same data.

Held-out loss by learning rate (mean of 2 seeds, float32). A default is half the best: paired gaps are steadier there.

    gaussian, mlp, tiny   .001 .0103 | .002 .0052 | .004 .0025 | .008 .0013 | .016 .0010 | .032 .0014
    gaussian, mlp, small  .002 .0005 | .004 .0002 | .008 .0002 (1 seed); paper: not scanned, tiny times 128 / 1024
    gaussian, linear      .001 .249 | .002 .014 | .004, .008, .016 below .0001 | .032 .0001
    flights, mlp          .0005 .178 | .001 .165 | .002 .156 | .004 .155 | .008 .154 (1 seed, BF16)
    diabetes, mlp         .001 .5225 | .002 .5200 | .004 .5195 | .008 .5355 | .016 .5631
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from dse.tasks import options
from dse.tasks.base import Batch, Model, Task, Training
from dse.tasks.data.tables import TABLES, TabularData, gaussian, load_table, with_outliers
from dse.tasks.means import mse
from dse.tasks.nets.mlp import Mlp
from dse.tasks.streams import integers


@dataclass(frozen=True)
class RegressionSize:
    """Rows and features of the Gaussian teacher, width of the two hidden layers, default training."""

    rows: int
    features: int
    hidden: int
    training: Training


TINY = Training(steps=200, batch=128, lr=8e-3)
SIZES = {
    "tiny": RegressionSize(10_240, 128, 128, TINY),
    "small": RegressionSize(40_960, 256, 256, TINY.grown(width=2, steps=3, batch=2)),
    "paper": RegressionSize(
        100_000, 1024, 1024, TINY.grown(width=8, steps=2, batch=32)
    ),  # the paper's batch and 20 epochs
}


@dataclass(frozen=True)
class Regression(Task[TabularData]):
    """Options: `source` gaussian | diabetes | california | flights, `size` tiny | small | paper (rows and features of
    the Gaussian teacher, width of the model), `net` mlp | linear, `noise` of the Gaussian teacher in its deviations;
    `outliers`: how many features are `outlier_scale` times as large as the others.

    The loss is the mean squared error in units of the target's variance: 1 for the mean, 0 for a perfect model.
    """

    name: ClassVar[str] = "regression"
    version: ClassVar[int] = 2
    metric: ClassVar[str] = "loss"

    source: str = "gaussian"
    size: str = "tiny"
    net: str = "mlp"
    noise: float = 0.0
    outliers: int = 0
    outlier_scale: float = 30.0

    def __post_init__(self) -> None:
        options.choice(self.name, "source", self.source, TABLES)
        options.choice(self.name, "size", self.size, SIZES)
        options.choice(self.name, "net", self.net, ("mlp", "linear"))
        options.number(self.name, "noise", self.noise)
        options.integer(self.name, "outliers", self.outliers, 0)
        options.number(self.name, "outlier_scale", self.outlier_scale)
        if not self.outliers and self.outlier_scale != type(self).outlier_scale:
            options.meaningless(self.name, "outlier_scale", self.outlier_scale, "outliers is 0")

    def training(self) -> Training:
        usual = SIZES[self.size].training
        if self.source == "diabetes":  # 354 rows: more steps only learn them by heart
            return replace(usual, steps=60, batch=64, lr=2e-3)
        if self.source == "flights":
            return replace(usual, lr=usual.lr / 2)
        return replace(usual, lr=4e-3) if self.net == "linear" else usual

    def load(self, data_dir: Path | None = None) -> TabularData:
        size = SIZES[self.size]
        if self.source == "gaussian":
            table = gaussian(size.rows, size.features, self.noise)
        else:
            table = load_table(self.source, data_dir)
        return with_outliers(table, self.outliers, self.outlier_scale) if self.outliers else table

    def model(self, data: TabularData) -> nn.Module:
        features, hidden = data.x.shape[1], SIZES[self.size].hidden
        return Mlp([features] if self.net == "linear" else [features, hidden, hidden], outputs=1)

    def exempt(self) -> tuple[str, ...]:
        return () if self.net == "linear" else ("head",)

    def batch(self, data: TabularData, seeds: Tensor, step: Tensor, size: int) -> Batch:
        """Inputs [E, size, F] and targets [E, size]."""
        chosen = integers(seeds, step, size, len(data.x))
        return data.x[chosen], data.y[chosen]

    def loss(self, model: Model, batch: Batch) -> Tensor:
        x, y = batch
        return mse(model(x).squeeze(-1), y)

    def held_out(self, data: TabularData) -> list[Batch]:
        return list(zip(data.test_x.split(1024), data.test_y.split(1024), strict=True))

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.loss(model, batch)}
