"""What an optimizer technique is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dse.numerics.ops import Ops
from dse.optim.layout import Layout


class Hyper(NamedTuple):
    """What an optimizer reads of E members' training settings, on the parameters' device.

    The numbers are float64 [E, 1]: coefficients are computed in double precision and rounded once to the parameters'
    dtype, as torch.optim does with Python numbers.
    """

    lr: Tensor
    """Learning rate of this step."""
    beta1: Tensor
    """Decay rate of the first moment; SGD's momentum."""
    beta2: Tensor
    """Decay rate of the second moment."""
    weight_decay: Tensor
    """Decoupled weight decay, a share of ``lr`` (coupled for SGD)."""
    step: Tensor
    """int64 [], from 0: the training's step. Bias corrections count a member's own steps, which may be fewer."""
    matrix_lr: Tensor
    """Learning rate of this step for the matrices that Muon trains."""


class Optimizer(ABC):
    """Updates the parameters of E members, rows of one flat buffer [E, P]; no row depends on another.

    Only tensor operations whose every element is rounded like its neighbors, on any device: the CPU gives a member the
    same bits alone and in any pack. Nothing waits for the device, so a step can be captured in a CUDA graph.
    """

    @abstractmethod
    def state(self, p: Tensor, layout: Layout) -> dict[str, Tensor]:
        """The initial state for parameters p [E, P], by name: tensors with leading axis E, all of a checkpoint."""

    @abstractmethod
    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        """One step of p [E, P] from the gradient g [E, P], which is left alone; p and ``state`` change in place.

        Members that are not ``active`` (bool [E, 1]) keep parameters and state bit for bit, and their step does not
        count in their bias corrections, whatever their gradient is.
        """

    def moments(self, layout: Layout) -> dict[str, tuple[str, Layout]]:
        """The moments in the state by name: 'first' or 'second', and the layout of their columns."""
        return {"first": ("first", layout), "second": ("second", layout)}

    def decay(
        self, p: Tensor, g: Tensor, hyper: Hyper, layout: Layout, active: Tensor, columns: Iterable[tuple[int, int]]
    ) -> Hyper:
        """Weight decay of some columns of p [E, P] alone, before ``update``, for which no decay is left.

        Decoupled: w <- (1 - lr wd) w. The bits are those of an update that decays everything.
        """
        keep = torch.where(active, 1 - hyper.lr * hyper.weight_decay, 1).to(p.dtype)
        for start, end in columns:
            p[:, start:end].mul_(keep)
        return hyper._replace(weight_decay=torch.zeros_like(hyper.weight_decay))

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per parameter and step (not per token) beyond AdamW."""
