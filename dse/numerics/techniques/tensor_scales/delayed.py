"""A tensor scale that is sampled every D steps and held in between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.ops import Ops
from dse.numerics.random import Key
from dse.numerics.techniques.tensor_scales.base import TensorScale
from dse.numerics.techniques.tensor_scales.current import check_target


@dataclass(frozen=True)
class Delayed(TensorScale):
    """g_t = max |X_t| when t mod D = 0 or nothing is held yet, else the held value (no window maximum).

    One value per layer and quantization point; it lives in the layer's memory and survives a checkpoint. Evaluation
    uses what is held and never samples. Values above the held g may saturate: ``target`` T below the scale format's
    largest value leaves them headroom (UE5M3: 61440 / 448 = 137 times). Without a memory every call samples.

    A sample that is not finite is never held: the previous value stays, and is used, until a later sample is due. Where
    nothing is held yet, such a sample counts for this call alone, so the operand is NaN and the next call samples
    again. A held value that is not finite (from an older version's checkpoint) counts as nothing.

    Cost: the current tensor scale's reduction divided by D; no second read in between.
    Source: arXiv 2609.02846, Sec. 3 (D = 50, T = 448). Raises OptionError unless D >= 1 and T > 0.
    """

    every: int = 50
    target: float | None = 448.0

    def __post_init__(self) -> None:
        check_target(self.target)
        if self.every < 1:
            raise OptionError(f"delayed.every must be at least 1, not {self.every}")

    @property
    def remembers(self) -> bool:
        return True

    def reference(self, peak: Tensor, key: Key | None) -> Tensor:
        fresh = peak.detach().amax((-4, -2), keepdim=True)
        if key is None or key.memory is None:
            return fresh
        held, sample = key.memory[..., key.point], fresh.flatten(-4).squeeze(-1)
        empty, finite = (held == 0) | ~held.isfinite(), sample.isfinite()
        due = (key.clock[..., 1] % self.every == 0) if key.sampling else torch.zeros_like(held, dtype=torch.bool)
        g = torch.where(empty | (due & finite), sample, held)
        if key.sampling:
            held.copy_(torch.where(g.isfinite(), g, 0.0))
        return g[..., None, None, None, None]

    def ops(self) -> Ops:
        share = 1 / self.every
        return Ops(block=share, output=0.5, reads=share, syncs=share, why=f"1/{self.every} of a current tensor scale")
