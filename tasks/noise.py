"""Diffusion processes: how an image is noised, and what the network is asked for.

x0 are images of mean 0 and deviation 1 [B, S, S] or [B, C, S, S], e standard Gaussian noise of the same shape, u in
(0, 1) [B] says how noisy each is: uniform u gives the process's training distribution, so evenly spaced u is an exact quadrature of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tasks.base import Model


class Process(Protocol):
    """A way of noising."""

    def level(self, u: Tensor) -> Tensor:
        """The noise level of u in (0, 1), rising with it: any shape -> the same."""

    def losses(self, model: Model, x0: Tensor, e: Tensor, level: Tensor) -> Tensor:
        """The denoising error of each image [B]."""


@dataclass(frozen=True)
class Edm:
    """Elucidating the design space (arXiv 2206.00364), in units of the data's deviation: sigma_data = 1.

    ln σ ~ N(mean, std²), D = c_skip x + c_out F(c_in x, ln σ / 4); the loss weight makes F's target of unit variance.
    The paper's mean -1.2 at its sigma_data of .5 is ln 2 more here.
    """

    mean: float = -0.507
    std: float = 1.2

    def level(self, u: Tensor) -> Tensor:
        """ln σ."""
        normal: Tensor = torch.special.ndtri(u)
        return self.mean + self.std * normal

    def losses(self, model: Model, x0: Tensor, e: Tensor, level: Tensor) -> Tensor:
        """Weighted denoising error of each image [B]: 1 for a network that answers 0."""
        sigma = _over(level.exp(), x0)
        total = (1 + sigma**2).sqrt()
        target = (sigma * x0 - e) / total  # (x0 - c_skip x) / c_out, of variance 1
        return _mean((model((x0 + sigma * e) / total, level / 4) - target).square())


@dataclass(frozen=True)
class Ddpm:
    """Denoising diffusion (arXiv 2006.11239) as in the FP4 paper: 1,000 steps, β from 1e-4 to .02; predicts noise."""

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def level(self, u: Tensor) -> Tensor:
        """The step 0 .. steps - 1, as a float."""
        return (u * self.steps).floor()

    def losses(self, model: Model, x0: Tensor, e: Tensor, level: Tensor) -> Tensor:
        """Squared error of the predicted noise, mean over pixels [B]: 1 for a network that answers 0."""
        beta = torch.linspace(self.first, self.last, self.steps, dtype=torch.float64, device=x0.device)
        kept = _over((1 - beta).cumprod(0).float()[level.long()], x0)
        x = kept.sqrt() * x0 + (1 - kept).sqrt() * e
        return _mean((model(x, level * (2 / self.steps) - 1) - e).square())


def _over(level: Tensor, images: Tensor) -> Tensor:
    """level [B] with axes for the pixels of images [B, ...]."""
    return level.view(-1, *[1] * (images.dim() - 1))


def _mean(error: Tensor) -> Tensor:
    """error [B, ...] -> its mean over pixels [B]."""
    return error.mean(tuple(range(1, error.dim())))


PROCESSES: dict[str, Process] = {"edm": Edm(), "ddpm": Ddpm()}
