"""Q-Ramping: weights that oscillate are updated less often, by larger steps from averaged gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.weights.base import WeightRule
from dse.numerics.techniques.weights.movement import movement, nobody, per_element, wide


@dataclass(frozen=True)
class QRamping(WeightRule):
    """Each weight is updated every N steps, by N times the optimizer's update from the mean of its N gradients.

    N = min(floor(R / k1) k2 + 1, every), R = Dist_Q / Dist_W (0 where Dist_W = 0), with Dist_W = sum |w_t - w_t-1| and
    Dist_Q = sum |Q(w_t) - Q(w_t-1)| over the first ``track`` optimizer steps of every period of ``every`` steps, during
    which all N are 1. Gradients that are still held when a period ends are released by its successor's first step.

    Around any optimizer: ``before_step`` adds up each weight's gradients and shows the optimizer the mean of the last N
    in every step until the next N are together; ``after_step`` puts a held weight back where it was and multiplies a
    released one's change (decoupled weight decay included) by N. A weight with N = 1 is trained bit for bit as without
    the rule. What differs from the paper's modified AdamW:
    - its moments of a held weight stand still; here they see the mean gradient N times, so that their memory is the
      same number of steps for every weight, not of releases (no difference for SGD without momentum, nor in the mean
      step for stationary gradients);
    - it decays held weights in every step; here by N times the decay on release, equal to first order;
    - it tracks on a copy of the training that it then throws away (30 extra steps); here on the training itself;
    - a gradient is clipped before it is added up (the released code has no clipping).

    State: ``before``, ``total``, ``shown``, ``latent``, ``quantized``, int32 ``count`` and ``period``, each
    [..., N, K]; ``steps`` int64 [...]. Cost: 8 per element; while tracking 6 more and two quantizations of W (4 each).
    Source: arXiv 2502.20853 (TetraJet): k1 = 16, k2 = 5, track 30, every one epoch (1,251 steps).
    Raises OptionError unless 1 <= track < every, k1 > 0 and k2 >= 1.
    """

    every: int = 200
    track: int = 30
    k1: float = 16.0
    k2: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.track < self.every:
            raise OptionError(f"q_ramping needs 1 <= track < every, not {self.track} and {self.every}")
        if not self.k1 > 0 or self.k2 < 1:
            raise OptionError(f"q_ramping needs k1 > 0 and k2 >= 1, not {self.k1} and {self.k2}")

    @property
    def quantizes(self) -> bool:
        return False

    def state(self, w: Tensor) -> dict[str, Tensor]:
        zeros = {
            name: torch.zeros_like(w, dtype=wide(w)) for name in ("before", "total", "shown", "latent", "quantized")
        }
        count = torch.zeros_like(w, dtype=torch.int32)
        steps = torch.zeros((), dtype=torch.int64, device=w.device)
        return {**zeros, "count": count, "period": torch.ones_like(count), "steps": steps}

    def quantize(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> Quantized:
        return quantizer(w, key)

    @torch.no_grad()
    def before_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        state["before"].copy_(w)
        if w.grad is None:  # nothing to add, and nothing that the optimizer would change
            return
        total, count, shown = state["total"].add_(w.grad), state["count"].add_(1), state["shown"]
        shown.copy_(torch.where(count >= state["period"], total / count, shown))
        w.grad.copy_(shown)

    @torch.no_grad()
    def after_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        before, count = state["before"], state["count"]
        due = count >= state["period"]
        now = w.to(before.dtype)
        scaled = torch.where(count > 1, before + count * (now - before), now)
        w.copy_(torch.where(due, scaled, before))
        for name in ("total", "count"):
            state[name].masked_fill_(due, 0)
        self._adapt(quantizer, w, state, key)

    def _adapt(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        """Tracks movements, and sets the periods N at the end of the tracked steps and of all steps of a period."""
        position = state["steps"] % self.every
        state["steps"].add_(1)
        state["period"].masked_fill_(per_element(position == self.every - 1), 1)
        tracking = position < self.track
        if nobody(tracking):
            return
        move = movement(quantizer, state["before"], w, key)
        move.add_to(state, per_element(position == 0), per_element(tracking))
        r = torch.where(state["latent"] > 0, state["quantized"] / state["latent"], 0)
        k1 = torch.full((), self.k1, dtype=r.dtype, device=r.device)  # CUDA multiplies by 1 / k1 for a number
        period = ((r / k1).floor() * self.k2 + 1).clamp_max(self.every).to(torch.int32)
        known = per_element(position == self.track - 1)
        state["period"].copy_(torch.where(known, period, state["period"]))

    def ops(self) -> Ops:
        share = self.track / self.every
        return Ops(element=8 + 14 * share, reads=2 * share, why=f"8/element, and 14/element in {share:g} of the steps")
