"""OsciReset: weights that oscillate between two grid values are put onto the one they are at."""

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
class OsciReset(WeightRule):
    """w <- Q(w) where Dist_Q(w) >= ratio * Dist_W(w) > 0, once per period.

    Dist_W = sum |w_t - w_t-1| and Dist_Q = sum |Q(w_t) - Q(w_t-1)| over the first ``track`` optimizer steps of every
    period of ``every`` steps, counted from step ``start`` on; the reset follows the last tracked step directly (the
    released code lets one more step pass). Q is the forward quantizer of W. Published runs start late, at 0.6 to 0.7 of
    the training. Optimizer moments of a reset weight are left alone.

    State: ``before``, ``latent`` (Dist_W), ``quantized`` (Dist_Q), each [..., N, K]; ``steps`` int64 [...].
    Cost: while tracking 6 per element and two quantizations of W (4 each), a share track / every of all steps.
    Source: arXiv 2510.27527 (TetraJet-v2): every 200 or 400, track 50, ratio 8 (the code's default is 16). AMD's ALTO
    (AMD-AGI/ALTO) tracks whole periods: every 200, track 200, ratio 4, from step 2000 (start 1800: reset at 2000).
    Raises OptionError unless 1 <= track <= every, ratio > 0 and start >= 0.
    """

    every: int = 200
    track: int = 50
    ratio: float = 8.0
    start: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.track <= self.every:
            raise OptionError(f"osci_reset needs 1 <= track <= every, not {self.track} and {self.every}")
        if not self.ratio > 0:
            raise OptionError(f"osci_reset.ratio must be positive, not {self.ratio}")
        if self.start < 0:
            raise OptionError(f"osci_reset.start must be at least 0, not {self.start}")

    @property
    def quantizes(self) -> bool:
        return False

    def state(self, w: Tensor) -> dict[str, Tensor]:
        zeros = {name: torch.zeros_like(w, dtype=wide(w)) for name in ("before", "latent", "quantized")}
        return {**zeros, "steps": torch.zeros((), dtype=torch.int64, device=w.device)}

    def quantize(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> Quantized:
        return quantizer(w, key)

    @torch.no_grad()
    def before_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        state["before"].copy_(w)

    @torch.no_grad()
    def after_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        position = (state["steps"] - self.start) % self.every
        tracking = (state["steps"] >= self.start) & (position < self.track)
        state["steps"].add_(1)
        if nobody(tracking):
            return
        move = movement(quantizer, state["before"], w, key)
        move.add_to(state, per_element(position == 0), per_element(tracking))
        oscillates = (state["latent"] > 0) & (state["quantized"] >= self.ratio * state["latent"])
        due = per_element(tracking & (position == self.track - 1))
        w.copy_(torch.where(due & oscillates, move.value, w.to(move.value.dtype)))

    def ops(self) -> Ops:
        share = self.track / self.every
        return Ops(element=14 * share, reads=2 * share, why=f"14/element in {share:g} of the steps")
