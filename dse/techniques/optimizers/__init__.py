"""Optimizers by their YAML name (``training.optimizer``), on the stacked parameters of a pack."""

from dse.techniques.optimizers.adamw import AdamW
from dse.techniques.optimizers.base import Hyper, Optimizer
from dse.techniques.optimizers.sgd import SGD
from dse.techniques.optimizers.stable_spam import StableSpam

OPTIMIZERS: dict[str, Optimizer] = {"adamw": AdamW(), "sgd": SGD(), "stable_spam": StableSpam()}

__all__ = ["OPTIMIZERS", "SGD", "AdamW", "Hyper", "Optimizer", "StableSpam"]
