"""Loss scaling by its YAML name (``training.loss_scaling``); 'none' is None: the loss as it is, no step skipped."""

from dse.optim.loss_scaling.base import LossScaling
from dse.optim.loss_scaling.dynamic import Dynamic
from dse.optim.loss_scaling.static import Static

LOSS_SCALINGS: dict[str, type[LossScaling] | None] = {"none": None, "static": Static, "dynamic": Dynamic}

__all__ = ["LOSS_SCALINGS", "Dynamic", "LossScaling", "Static"]
