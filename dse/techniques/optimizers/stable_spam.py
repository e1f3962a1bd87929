"""Stable-SPAM: AdamW with clipped and normalized gradients and periodic momentum reset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.ops import Ops
from dse.techniques.optimizers.base import Optimizer, Settings


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

    State per parameter: AdamW's moments, three scalars, two counts. Cost: 8 per parameter and step, two reductions.
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

    def __call__(self, parameters: Iterable[Tensor], training: Settings) -> torch.optim.Optimizer:
        beta1, beta2 = training.betas
        return StableSpamOptimizer(parameters, self, training.lr, (beta1, beta2), training.weight_decay)

    def ops(self) -> Ops:
        return Ops(element=8, reads=2, why="8/parameter, max and norm of the gradient")


class StableSpamOptimizer(torch.optim.Optimizer):
    """The optimizer that ``StableSpam`` describes; gradients are read and left alone."""

    def __init__(
        self, parameters: Iterable[Tensor], how: StableSpam, lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        self.how = how
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, self.state[p], group)
        return loss

    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            scalars = {name: torch.zeros((), dtype=p.dtype, device=p.device) for name in ("top", "norm", "square")}
            moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            state.update(step=0, since_reset=0, **scalars, **moments)
        state["step"] += 1
        state["since_reset"] += 1
        g = self._calm(g, state, state["since_reset"] if self.how.shared_count else state["step"])
        m, v = state["exp_avg"], state["exp_avg_sq"]
        if self.how.reset and state["step"] % self.how.reset == 0:
            m.zero_()
            v.zero_()
            state["since_reset"] = 1
        beta1, beta2 = group["betas"]
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        m_hat = m / (1 - beta1 ** state["since_reset"])
        v_hat = v / (1 - beta2 ** state["since_reset"])
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * m_hat / (v_hat.sqrt() + self.how.eps))

    def _calm(self, g: Tensor, state: dict[str, Any], t: int) -> Tensor:
        """AdaClip and AdaGN: g of any shape, its statistics in ``state``, bias-corrected with ``t``."""
        how = self.how
        peak = g.abs().amax()
        top = state["top"].lerp_(peak, 1 - how.theta) / (1 - how.theta**t)
        g = torch.where(g.abs() > top, g * (top / peak), g)
        n = g.norm()
        norm = state["norm"].lerp_(n, 1 - how.gamma1) / (1 - how.gamma1**t)
        square = state["square"].lerp_(n.square(), 1 - how.gamma2) / (1 - how.gamma2**t)
        return torch.where(n > 0, g / n * (norm / (square.sqrt() + how.eps)), g)
