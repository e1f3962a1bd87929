"""Optimizers by their YAML name (``training.optimizer``), on the stacked parameters of a pack."""

from dse.optim.adamw import AdamW
from dse.optim.base import Hyper, Optimizer
from dse.optim.sgd import SGD
from dse.optim.stable_spam import StableSpam

OPTIMIZERS: dict[str, Optimizer] = {"adamw": AdamW(), "sgd": SGD(), "stable_spam": StableSpam()}

__all__ = ["OPTIMIZERS", "SGD", "AdamW", "Hyper", "Optimizer", "StableSpam"]
