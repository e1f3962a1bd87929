"""Q-EMA: the weight's moving average decides which way its elements are rounded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.rounding import AwayFromZero, TowardZero
from dse.numerics.techniques.weights.base import WeightRule
from dse.numerics.techniques.weights.movement import per_element, wide


@dataclass(frozen=True)
class QEma(WeightRule):
    """Q(w) = hi if sgn(w) w_ema >= (|lo| + |hi|) / 2, else lo: of w's two neighbors the one that is nearer to w_ema.

    lo and hi are w rounded down and up in magnitude under W's own scales; w_ema <- b w_ema + (1 - b) w after every
    optimizer step, starting from the initial weight (``decay`` is b). Until ``warmup`` steps have been made W is
    quantized as without the rule. A tie goes to hi, the larger magnitude. An average of the other sign goes to lo. A
    weight on the grid has one neighbor and stays (the released code would move it up where w_ema is half a step above).
    The midpoint is exact without a tensor scale; with one, times alpha, it is rounded once to FP32.
    The backward GEMMs see the result where ``backward_source`` is 'forward', as published, else their own casts of W.

    State: ``ema`` [..., N, K], ``steps`` int64 [...]. Cost: 3 per element for the average, and 5 for the second cast,
    the midpoint and the choice. Source: arXiv 2502.20853 (TetraJet), b = 0.998.
    Raises OptionError unless 0 <= decay < 1 and warmup >= 0, and with stochastic rounding, a block choice or a
    correction of W.
    """

    decay: float = 0.998
    warmup: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise OptionError(f"q_ema.decay must lie in [0, 1), not {self.decay}")
        if self.warmup < 0:
            raise OptionError(f"q_ema.warmup must be at least 0, not {self.warmup}")

    def check(self, quantizer: Quantizer, rotated: bool) -> None:
        super().check(quantizer, rotated)
        assert isinstance(quantizer, BlockQuantizer)
        if quantizer.rounding.random_bits:
            raise OptionError("weights: QEma decides how W is rounded, so fprop.rhs.rounding cannot be stochastic")
        if quantizer.choice is not None:
            raise OptionError("weights: QEma needs one scale per block of W, and fprop.rhs.choice tries several")
        if quantizer.correction is not None:
            raise OptionError("weights: QEma rounds W under its own scales, and fprop.rhs.correction makes new ones")
        if quantizer.scale_gradient != "constant":
            raise OptionError(
                "weights: QEma needs fprop.rhs.scale_gradient constant: the gradient knows plain rounding"
            )

    def state(self, w: Tensor) -> dict[str, Tensor]:
        return {"ema": w.detach().to(wide(w), copy=True), "steps": torch.zeros((), dtype=torch.int64, device=w.device)}

    def quantize(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> Quantized:
        self.check(quantizer, rotated=False)
        assert isinstance(quantizer, BlockQuantizer)
        plain = quantizer(w, key)
        lo, hi = (replace(quantizer, rounding=r)(w, key).values for r in (TowardZero(), AwayFromZero()))
        middle = (lo + hi) / 2 if plain.alpha is None else (lo + hi) / 2 * plain.alpha
        sign = hi.sign()
        chosen = torch.where(state["ema"] * sign >= middle * sign, hi, lo)
        active = per_element(state["steps"] >= self.warmup)
        return Quantized(torch.where(active, chosen, plain.values), plain.alpha)

    def before_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        """Nothing to do."""

    @torch.no_grad()
    def after_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        state["ema"].mul_(self.decay).add_(w, alpha=1 - self.decay)
        state["steps"].add_(1)

    def ops(self) -> Ops:
        return Ops(element=8, why="average 3/element; second cast, midpoint and choice 5/element")
