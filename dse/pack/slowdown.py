"""How much longer a step takes on a GPU where plain torch computes a part of a recipe: measured factors."""

from __future__ import annotations

from typing import NamedTuple

from dse.numerics.recipe import Recipe
from dse.pack.backend import Uncovered, uncovered

FACTORS: dict[str, float] = {
    "decomposition Mean": 3.0,
    "decomposition HotChannels": 2.6,
    "decomposition OutControl": 3.1,
    "decomposition LowRank": 2.5,
    "fprop.lhs derivative: a gradient through the scale": 21.9,
    "fprop.rhs derivative: a gradient through the scale": 1.7,
}
"""``Uncovered.part`` or ``str(Uncovered)`` -> time of a step / time with kernels alone: averis and chon against nvfp4,
tetrajet2_outcontrol against tetrajet2, full_stack_fp4 against full_stack_attention; gradients through scales (whole, of
the maximum) by ``tools/time_plain_operands.py``, with FP32 activations."""
MEASURED = "H200, 2026-11-30 and 2026-12-01, packs of 64, GPT 4 x 128"


class Slowdown(NamedTuple):
    """``because``: what plain torch computes of a recipe, and why; ``factor``: of a step's time, None where unknown."""

    because: tuple[Uncovered, ...]
    factor: float | None

    def __str__(self) -> str:
        much = "how much longer is not measured" if self.factor is None else f"about {self.factor:.1f} times as long"
        return f"{'; '.join(map(str, self.because))} ({much})"


def slowdown(recipe: Recipe) -> Slowdown | None:
    """What it costs that kernels leave a part of a recipe to plain torch; None where they do not."""
    because = uncovered(recipe)
    if not because:
        return None
    factors = [FACTORS.get(str(each), FACTORS.get(each.part)) for each in because]
    known = [factor for factor in factors if factor is not None]
    return Slowdown(because, 1 + sum(factor - 1 for factor in known) if len(known) == len(factors) else None)
