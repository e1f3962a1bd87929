"""Optimizers by their YAML name (``training.optimizer``): ``OPTIMIZERS[name](parameters, training)``."""

from dse.techniques.optimizers.adamw import AdamW
from dse.techniques.optimizers.base import Optimizer, Settings
from dse.techniques.optimizers.sgd import SGD
from dse.techniques.optimizers.stable_spam import StableSpam

OPTIMIZERS: dict[str, Optimizer] = {"adamw": AdamW(), "sgd": SGD(), "stable_spam": StableSpam()}

__all__ = ["OPTIMIZERS", "SGD", "AdamW", "Optimizer", "Settings", "StableSpam"]
