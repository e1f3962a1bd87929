"""Distillation: the training loss of members that learn from the predictions of a trained model, their teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dse.tasks.base import Batch, Model, Task
from dse.tasks.means import mean
from dse.trial import Trial


@dataclass(frozen=True, eq=False)
class Teacher:
    """The teachers of a pack's members: parameters ``flat`` [E, P] that stay as they were when the members began.

    A member's loss is (1 - share) L + share KL(teacher, member): L is the task's own loss, ``shares`` float32 [E] are
    ``training.distillation``. The task's model is called once by its loss, and what it returns are the logits.
    Cost: a forward pass more in each step, at the baseline's precision, and a copy of the parameters.
    Source: quantization-aware distillation, arXiv 2601.20088 (share 1, temperature 1, straight-through).
    """

    task: Task[Any]
    flat: Tensor
    shares: Tensor

    @classmethod
    def of(cls, trials: Sequence[Trial], task: Task[Any], flat: Tensor) -> Teacher | None:
        """The teachers of trials whose parameters ``flat`` [E, P] are those that they begin with; None without any."""
        shares = [trial.training.distillation for trial in trials]
        return cls(task, flat.clone(), torch.tensor(shares, device=flat.device)) if any(shares) else None

    def logits(self, model: Model, batch: Batch) -> Tensor:
        """What the model returns for one member's batch, [..., classes]."""
        recorded: list[Tensor] = []
        self.task.loss(_recording(model, recorded), batch)
        return recorded[0]

    def loss(self, model: Model, batch: Batch) -> Tensor:
        """One member's loss []; the last two parts of its batch are the teacher's logits and the member's share."""
        *own, logits, share = batch
        recorded: list[Tensor] = []
        loss = self.task.loss(_recording(model, recorded), tuple(own))
        return (1 - share) * loss + share * divergence(logits, recorded[0])


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(p, q) = sum_c p_c (log p_c - log q_c) in nats, p and q the softmax of logits [..., classes].

    The mean over all leading axes, so that it has the unit of a mean cross-entropy. Its derivative by the student's
    logits is (q - p) / items.
    """
    log_p, log_q = (F.log_softmax(logits, -1) for logits in (teacher, student))
    return mean((log_p.exp() * (log_p - log_q)).sum(-1))


def _recording(model: Model, into: list[Tensor]) -> Callable[..., Tensor]:
    """The model, which also keeps what it returns."""

    def call(*inputs: Tensor) -> Tensor:
        into.append(model(*inputs))
        return into[-1]

    return call


__all__ = ["Teacher", "divergence"]
