"""Diffusion processes: how noise is added to an image, and what the network predicts.

x0 are images of mean 0 and deviation 1 [B, S, S] or [B, C, S, S], e standard Gaussian noise of the same shape, u in
(0, 1) [B] says how noisy each is: uniform u gives the process's training distribution, so evenly spaced u is an exact
quadrature of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from dse.kernels.sqrt import sqrt
from dse.tasks.base import Model
from dse.tasks.means import mean


class Process(Protocol):
    """A way of noising."""

    def level(self, u: Tensor) -> Tensor:
        """The noise level of u in (0, 1), rising with it: any shape -> the same."""

    def losses(self, model: Model, x0: Tensor, e: Tensor, level: Tensor) -> Tensor:
        """The denoising error of each image [B]."""

    def sample(self, model: Model, e: Tensor, steps: int, low: Tensor, high: Tensor) -> Tensor:
        """Images from noise e [B, ...], without further randomness; `low`, `high` []: the range of real pixels."""


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
        total = sqrt(1 + sigma**2)
        target = (sigma * x0 - e) / total  # (x0 - c_skip x) / c_out, of variance 1
        return mean((model((x0 + sigma * e) / total, level / 4) - target).square(), keep=1)

    def sample(self, model: Model, e: Tensor, steps: int, low: Tensor, high: Tensor) -> Tensor:
        """Heun's method from σ = 160 down to .004 along σ^(1/7), then 0 (EDM, algorithm 1, sigma_data = 1)."""
        ladder = torch.linspace(160 ** (1 / 7), 0.004 ** (1 / 7), steps, dtype=torch.float64) ** 7
        sigmas: list[float] = [*ladder.tolist(), 0.0]

        def slope(x: Tensor, sigma: float) -> Tensor:
            total = math.sqrt(1 + sigma**2)
            level = torch.full((len(x),), math.log(sigma) / 4, device=x.device)
            clean = x * (1 / total**2) + model(x * (1 / total), level) * (sigma / total)
            toward: Tensor = (x - clean.clamp(low, high)) * (1 / sigma)
            return toward

        x = e * sigmas[0]
        for now, then in pairwise(sigmas):
            first = slope(x, now)
            moved = x + first * (then - now)
            x = moved if then == 0 else x + (first + slope(moved, then)) * ((then - now) / 2)
        return x


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
        x = sqrt(kept) * x0 + sqrt(1 - kept) * e
        return mean((model(x, level * (2 / self.steps) - 1) - e).square(), keep=1)

    def sample(self, model: Model, e: Tensor, steps: int, low: Tensor, high: Tensor) -> Tensor:
        """DDIM without noise (arXiv 2010.02502) over evenly spaced steps, the estimate of x0 clipped to the range."""
        beta = torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)
        kept = (1 - beta).cumprod(0).tolist()
        times = [round(i * (self.steps - 1) / (steps - 1)) for i in range(steps - 1, -1, -1)]
        x = e
        for now, then in pairwise([*times, -1]):
            a, b = kept[now], kept[then] if then >= 0 else 1.0
            level = torch.full((len(x),), now * (2 / self.steps) - 1, device=x.device)
            clean = ((x - model(x, level) * math.sqrt(1 - a)) * (1 / math.sqrt(a))).clamp(low, high)
            noise = (x - clean * math.sqrt(a)) * (1 / math.sqrt(1 - a))
            x = clean * math.sqrt(b) + noise * math.sqrt(1 - b)
        return x


def _over(level: Tensor, images: Tensor) -> Tensor:
    """level [B] with axes for the pixels of images [B, ...]."""
    return level.view(-1, *[1] * (images.dim() - 1))


PROCESSES: dict[str, Process] = {"edm": Edm(), "ddpm": Ddpm()}
