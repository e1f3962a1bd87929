"""Base classes of tasks. A task is a data set, a model in plain PyTorch, a training loss and fixed held-out metrics.

A task does not know which recipe trains it. The same (task, seed) gives the same initialization and the same batches
under every recipe, so that trials can be compared in pairs. Its loss is a pure function of (seed, step).
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.tasks import options
from dse.tasks.pictures import Pictures

D = TypeVar("D")  # the task's data: a small frozen dataclass of tensors
Model = Callable[..., Tensor]  # an nn.Module, or torch.func.functional_call bound to stacked parameters
Batch = tuple[Tensor, ...]

MOST_STEPS = 100_000_000
"""Of one training. Losses and rates of all steps are held in memory: 12 bytes a step for a trial alone."""
_CHUNK = 1 << 16
SCHEDULES = ("cosine", "linear", "constant")
DECAYED = ("all", "matrices")
ACTIVATIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Training:
    """Settings of one training: steps, batch, learning rate, optimizer, schedule.

    `warmup` and `final_lr` are shares (of the steps, of `lr`), so they scale with the run. `decayed`: which parameters
    weight decay acts on: all, or those with two axes or more (not scales of norms, biases). `activations`: format of
    what the layers hand each other, and of its gradients: fp32, or bf16 as real FP4 training has them.

    `first_moment`, `second_moment`: formats in which the optimizer's moments are kept between steps
    (`dse.optim.moments`). `muon_lr`: the rate of the matrices that Muon trains, in place of `lr`; 0: `lr`.
    `distillation`: share of the loss that is the divergence from the predictions of the trained model that a trial
    starts from, in place of the data's answers (1: of the teacher alone, arXiv 2601.20088).

    Raises `UserError` for a value out of range. The names of optimizers are checked by the trial.
    """

    steps: int
    batch: int
    lr: float
    optimizer: str = "adamw"
    loss_scaling: str = "none"
    weight_decay: float = 0.0
    decayed: str = "all"
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.1
    schedule: str = "cosine"
    final_lr: float = 0.1
    clip: float = 1.0  # largest norm of the whole gradient; 0: no clipping
    eval_every: int = 0  # steps between held-out evaluations; 0: only before the first step and after the last
    activations: str = "fp32"
    first_moment: str = "fp32"
    second_moment: str = "fp32"
    muon_lr: float = 0.0
    distillation: float = 0.0

    def __post_init__(self) -> None:
        options.pair("training", "betas", self.betas)
        object.__setattr__(self, "betas", tuple(self.betas))  # YAML gives lists
        options.integer("training", "steps", self.steps, 1, MOST_STEPS)
        options.integer("training", "batch", self.batch, 1)
        options.integer("training", "eval_every", self.eval_every, 0)
        options.choice("training", "schedule", self.schedule, SCHEDULES)
        options.choice("training", "decayed", self.decayed, DECAYED)
        options.choice("training", "activations", self.activations, ACTIVATIONS)
        for name in ("lr", "weight_decay", "clip", "muon_lr"):
            options.number("training", name, getattr(self, name))
        for name in ("warmup", "final_lr", "distillation"):
            options.number("training", name, getattr(self, name), 0.0, 1.0)

    def grown(self, width: float, steps: int, batch: int) -> Training:
        """The same for a model `width` times as wide: the rate falls as 1 / width (arXiv 2203.03466)."""
        return replace(
            self, steps=self.steps * steps, batch=self.batch * batch, lr=self.lr / width, muon_lr=self.muon_lr / width
        )

    def lr_at(self, step: int) -> float:
        """The learning rate of step 0 .. steps - 1: linear warm-up to `lr`, then the schedule down to final_lr * lr."""
        rising = self.warmup * self.steps
        if step < rising:
            return self.lr * min(1.0, (step + 1) / rising)
        if self.schedule == "constant":
            return self.lr
        done = (step - rising) / max(1.0, self.steps - 1 - rising)
        fall = 1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.lr * (self.final_lr + (1 - self.final_lr) * min(1.0, max(0.0, fall)))

    def course(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The learning rates of all steps as shares of `lr`, float64 [steps]: `lr * course()[step] == lr_at(step)`.

        The same roundings as one step at a time, cosines included, in a hundredth of the memory.
        """
        shares = np.ones(self.steps)
        rising = self.warmup * self.steps
        for first in range(0, self.steps, _CHUNK):
            step = np.arange(first, min(first + _CHUNK, self.steps), dtype=np.float64)
            if self.schedule != "constant":
                done = (step - rising) / max(1.0, self.steps - 1 - rising)
                fall = 1 - done
                if self.schedule == "cosine":  # NumPy's cosine is another one on every processor
                    fall = 0.5 * (1 + np.fromiter(map(math.cos, (math.pi * done).tolist()), np.float64, len(done)))
                falling = self.final_lr + (1 - self.final_lr) * np.minimum(1.0, np.maximum(0.0, fall))
                shares[first : first + _CHUNK] = falling
            if first < rising:
                early = step < rising
                shares[first : first + _CHUNK][early] = np.minimum(1.0, (step[early] + 1) / rising)
        return shares


@dataclass(frozen=True)
class Scale:
    """What a loss law looks at: `parameters` of the model, all but embedding and head, and `tokens` that its training
    sees, repeats among them. `family`: the task in its first size and usual length, the same for all that one law is
    about.
    """

    family: Task[Any]
    parameters: int
    tokens: int


@dataclass(frozen=True)
class Task(ABC, Generic[D]):
    """Data, a plain model, a loss and a held-out metric: a frozen dataclass whose fields are the task's options.

    Every option has a default and is checked when the task is made. `version` rises whenever the same options would
    give other numbers: it is part of a trial's identity.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    metric: ClassVar[str]  # key of the primary held-out metric in `evaluate`; lower is better
    learned: ClassVar[float | None] = None  # where a task is learned at once or never: the metric of one that has
    classifies: ClassVar[bool] = False  # whether the model's output is logits, over classes on the last axis

    @abstractmethod
    def training(self) -> Training:
        """The tuned default training for these options."""

    @abstractmethod
    def load(self, data_dir: Path | None = None) -> D:
        """The data, with a split that depends on nothing but the options. `UserError` when a file is missing."""

    @abstractmethod
    def model(self, data: D) -> nn.Module:
        """A fresh plain model; all its randomness comes from torch's global generator."""

    @abstractmethod
    def batch(self, data: D, seeds: Tensor, step: Tensor, size: int) -> Batch:
        """The training batches of a pack, stacked [E, size, ...]: seeds int64 [E], step int64 [], all on one device.

        Drawn anew each step, with replacement. A member's batch depends on its own seed and the step alone. Tensor code
        without a look at any value, so that a CUDA graph can hold it.
        """

    @abstractmethod
    def loss(self, model: Model, batch: Batch) -> Tensor:
        """The training loss of one member's batch, a differentiable scalar; calls `model` and nothing else of it, so
        that it works under vmap."""

    @abstractmethod
    def held_out(self, data: D) -> Sequence[Batch]:
        """The fixed held-out batches, the same for every seed and recipe."""

    @abstractmethod
    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        """Scalar metrics of one held-out batch, each a mean over its items; works under vmap over models."""

    def scale(self, training: Training) -> Scale | None:
        """For a task whose loss follows a law of size and data: size and tokens of one training; None for others."""
        return None

    def prompts(self, data: D) -> Batch | None:
        """The fixed inputs that `samples` are made from once training is over; None: the task makes none."""
        return None

    def samples(self, model: Model, batch: Batch) -> Tensor:
        """What one member's trained model makes of `prompts`; works under vmap over models."""
        raise NotImplementedError

    def grade(self, data: D, samples: Tensor) -> dict[str, float]:
        """Metrics of one member's samples, added to its last held-out ones."""
        return {}

    def show(self, data: D, samples: Tensor) -> Pictures | None:
        """The first few of one member's samples as its record keeps them; None: nothing to look at."""
        return None

    def real(self, data: D) -> Pictures | None:
        """Real pictures to see the samples beside; kept by unquantized trials."""
        return None

    def check_start(self, earlier: Task[Any]) -> None:
        """Raises UserError where a model that `earlier` has trained cannot go on with this task."""
        if earlier.name != self.name:
            raise UserError(f"{self.name}: it cannot start from the weights of the task {earlier.name}")

    @abstractmethod
    def exempt(self) -> tuple[str, ...]:
        """`fnmatch` patterns of the linears that current practice keeps in high precision."""

    def evaluate(self, model: Model, data: D) -> dict[str, float]:
        """`measure` averaged over every held-out item; not finite where the model diverged."""
        total: dict[str, float] = {}
        items = 0
        with torch.no_grad():
            for batch in self.held_out(data):
                count = len(batch[0])
                items += count
                for key, value in self.measure(model, batch).items():
                    total[key] = total.get(key, 0.0) + float(value) * count
        return {key: value / items for key, value in total.items()}

    def data_fingerprint(self, data: D) -> str:
        """16 hex digits of the data's content, for provenance: equal data, equal fingerprint, on any machine."""
        return fingerprint(data)


def fingerprint(data: Any) -> str:
    """16 hex digits over every field of a dataclass of tensors and plain values."""
    digest = hashlib.sha256()
    for field in fields(data):
        value = getattr(data, field.name)
        digest.update(field.name.encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()[:16]


def single(task: Task[D], data: D, seed: int, step: int, size: int) -> Batch:
    """The batch [size, ...] of a trial alone: that of a pack of one."""
    device = next(value.device for value in vars(data).values() if isinstance(value, Tensor))
    clock = torch.tensor([seed, step], device=device)
    return tuple(part[0] for part in task.batch(data, clock[:1], clock[1], size))


def to_device(data: D, device: torch.device | str) -> D:
    """The same dataclass with its tensors on `device`."""
    values = {field.name: getattr(data, field.name) for field in fields(data)}  # type: ignore[arg-type]
    moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(data, **moved)  # type: ignore[type-var]
