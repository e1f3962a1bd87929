"""Smooth relatives of the block maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.kernels.exp_log import exp, log
from dse.numerics.ops import Ops
from dse.numerics.techniques.statistics.base import Statistic
from dse.numerics.tree import total


def _softmax(x: Tensor, beta: float, dims: tuple[int, ...]) -> Tensor:
    """softmax(beta |X|) over ``dims``."""
    v = beta * x.abs()
    return exp(v - _log_sum_exp(v, dims))


def _log_sum_exp(v: Tensor, dims: tuple[int, ...]) -> Tensor:
    """max V + log sum_i exp(V_i - max V), the sum in the order of ``dse.numerics.tree``; infinite where V is."""
    peak = v.amax(dims, keepdim=True)
    peak = torch.where(peak == torch.inf, 0.0, peak)
    return log(total(exp(v - peak), dims)) + peak


def _check(beta: float) -> None:
    if not beta > 0:
        raise OptionError(f"beta must be positive, not {beta}")


@dataclass(frozen=True)
class HardSoft(Statistic):
    """Z = max_i |X_i| forward; dZ/dX_k = softmax_k(beta |X|) sign(X_k) backward (``hardsoftmax``).

    ``beta`` is in units of 1/X, as published. Cost: the statistic's 2 per element, 12 + 3/b backward.
    Source: arXiv 2509.17791, Sec. 5. Raises OptionError unless beta > 0.
    """

    arithmetic: ClassVar[int] = 3

    beta: float = 80.0

    def __post_init__(self) -> None:
        _check(self.beta)

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x.abs().amax(dims, keepdim=True)

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        return _softmax(x, self.beta, dims) * x.sign()

    def ops(self) -> Ops:
        return Ops(element=2, why="abs and max, 2/element")

    def slope_ops(self) -> Ops:
        return Ops(element=12, block=3, why="12/element + 3/block for softmax and dot product")


@dataclass(frozen=True)
class SoftSoft(Statistic):
    """Z = (1/beta) log sum_i exp(beta |X_i|), always >= max, with its exact derivative (``softsoftmax``).

    A block of zeros keeps Z = 0, so that it is quantized to zeros.
    Cost: 8 per element forward, 12 + 3/b backward.
    Source: arXiv 2509.17791, Sec. 5. Raises OptionError unless beta > 0.
    """

    arithmetic: ClassVar[int] = 3

    beta: float = 80.0

    def __post_init__(self) -> None:
        _check(self.beta)

    def value(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        beta = torch.full((), self.beta, dtype=x.dtype, device=x.device)  # CUDA multiplies by 1 / beta for a number
        z = _log_sum_exp(self.beta * x.abs(), dims) / beta
        return torch.where(x.abs().amax(dims, keepdim=True) == 0, 0.0, z)

    def slope(self, x: Tensor, z: Tensor, dims: tuple[int, ...]) -> Tensor:
        return _softmax(x, self.beta, dims) * x.sign()

    def ops(self) -> Ops:
        return Ops(element=8, why="abs, max and log-sum-exp, 8/element")

    def slope_ops(self) -> Ops:
        return Ops(element=12, block=3, why="12/element + 3/block for softmax and dot product")
