"""Optimizers by their YAML name (``training.optimizer``)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tasks.base import Training


def _adamw(parameters: Iterable[Tensor], t: Training) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101)."""
    beta1, beta2 = t.betas
    return torch.optim.AdamW(parameters, lr=t.lr, betas=(beta1, beta2), weight_decay=t.weight_decay)


def _sgd(parameters: Iterable[Tensor], t: Training) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum beta1."""
    return torch.optim.SGD(parameters, lr=t.lr, momentum=t.betas[0], weight_decay=t.weight_decay)


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], Training], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}
