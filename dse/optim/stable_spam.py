"""Stable-SPAM: AdamW with clipped and normalized gradients and periodic momentum reset."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.kernels.sqrt import sqrt
from dse.numerics.ops import Ops
from dse.optim.adam import adam, grow
from dse.optim.base import Hyper, Optimizer
from dse.optim.layout import Layout


@dataclass(frozen=True)
class StableSpam(Optimizer):
    """AdamW on a gradient that is clipped by its running maximum and rescaled by its running norm.

    For each parameter tensor g at its step t = 1, 2, ...:
    - AdaClip: M = max|g|, m <- theta m + (1 - theta) M, m_hat = m / (1 - theta^t); where |g| > m_hat, g <- g m_hat / M;
    - AdaGN: n = ||g||, a <- gamma1 a + (1 - gamma1) n, v <- gamma2 v + (1 - gamma2) n^2,
      g <- (g / n) a_hat / (sqrt(v_hat) + eps), both bias-corrected with t (a gradient of zeros stays zero);
    - MoRet: when t is a multiple of ``reset``, AdamW's moments and its own step count s return to zero (0: never);
    - AdamW on that g, s <- s + 1, bias-corrected with s.

    With ``shared_count`` the statistics of AdaClip and AdaGN are bias-corrected with s instead of t, as in the released
    code: after a reset m_hat is then too large by (1 - theta^t) / (1 - theta^s), which all but switches clipping off.
    That code also makes the update of the reset step itself from the old moments, which is not reproduced; neither is
    its optional cosine decay of beta1 and gamma1.

    State: AdamW's ``first`` and ``second`` [E, P]; per parameter tensor ``top``, ``norm`` and ``square`` [E, n];
    ``steps`` int64 [E, 1]; ``powers`` float64 [E, 5]: theta^t, gamma1^t, gamma2^t (^s if shared), beta1^s, beta2^s.
    Cost: 8 per parameter and step, two reductions.
    Source: arXiv 2502.17055 (Stable-SPAM), reset 500 there and 1000 in its code and in arXiv 2509.17791.
    Raises OptionError unless theta, gamma1 and gamma2 lie in [0, 1), eps > 0 and reset >= 0.
    """

    theta: float = 0.999
    gamma1: float = 0.7
    gamma2: float = 0.9
    eps: float = 1e-8
    reset: int = 1000
    shared_count: bool = False

    def __post_init__(self) -> None:
        for name in ("theta", "gamma1", "gamma2"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"stable_spam.{name} must lie in [0, 1), not {getattr(self, name)}")
        if not self.eps > 0:
            raise OptionError(f"stable_spam.eps must be positive, not {self.eps}")
        if self.reset < 0:
            raise OptionError(f"stable_spam.reset must be at least 0 (0: never), not {self.reset}")

    def state(self, p: Tensor, layout: Layout) -> dict[str, Tensor]:
        members, n = len(p), len(layout.names)
        scalars = {name: torch.zeros(members, n, dtype=p.dtype, device=p.device) for name in ("top", "norm", "square")}
        powers = torch.ones(members, 5, dtype=torch.float64, device=p.device)
        steps = torch.zeros(members, 1, dtype=torch.int64, device=p.device)
        moments = {"first": torch.zeros_like(p), "second": torch.zeros_like(p)}
        return {**moments, **scalars, "powers": powers, "steps": steps}

    @torch.no_grad()
    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        rates = torch.cat([self._rates(hyper.lr), hyper.beta1, hyper.beta2], 1)
        powers, steps = grow(state["powers"], rates, active), state["steps"].add_(active)
        g = self._calm(g, state, layout, active)
        if self.reset:
            due = active & (steps % self.reset == 0)
            for name in ("first", "second"):
                state[name].masked_fill_(due, 0)
            restarted = slice(0 if self.shared_count else 3, 5)
            powers[:, restarted] = torch.where(due, rates[:, restarted], powers[:, restarted])
        adam(p, g, state["first"], state["second"], powers[:, 3:], hyper, active, self.eps)

    def _rates(self, like: Tensor) -> Tensor:
        """theta, gamma1 and gamma2 as [E, 3], filled on the device for a ``like`` of [E, 1]."""
        rates = (self.theta, self.gamma1, self.gamma2)
        return torch.cat([torch.full_like(like, rate, dtype=torch.float64) for rate in rates], 1)

    def _calm(self, g: Tensor, state: dict[str, Tensor], layout: Layout, active: Tensor) -> Tensor:
        """AdaClip and AdaGN of g [E, P] by the statistics [E, n] in ``state``; g itself is left alone."""
        theta, gamma1, gamma2 = (1 - state["powers"][:, :3]).to(g.dtype).split(1, 1)
        peak = layout.peaks(g)
        top = self._follow(state["top"], peak, self.theta, active) / theta
        g = torch.where(g.abs() > layout.spread(top), g * layout.spread(top / peak), g)
        n = layout.norms(g)
        norm = self._follow(state["norm"], n, self.gamma1, active) / gamma1
        square = self._follow(state["square"], n.square(), self.gamma2, active) / gamma2
        size = torch.where(n > 0, norm / (sqrt(square) + self.eps), 1)
        return g.div_(layout.spread(torch.where(n > 0, n, 1))).mul_(layout.spread(size))

    def _follow(self, average: Tensor, x: Tensor, rate: float, active: Tensor) -> Tensor:
        """average <- rate average + (1 - rate) x for active members, in place: [E, n]."""
        return average.copy_(torch.where(active, average + (x - average) * (1 - rate), average))

    def ops(self) -> Ops:
        return Ops(element=8, reads=2, why="8/parameter, max and norm of the gradient")
