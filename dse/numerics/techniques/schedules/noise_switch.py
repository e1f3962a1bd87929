"""BF16 backward GEMMs where the gradient no longer stands out of its quantization noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dse.errors import OptionError
from dse.numerics.ops import Ops
from dse.numerics.techniques.schedules.base import FORWARD, FULL, Schedule, Watch


@dataclass(frozen=True)
class NoiseSwitch(Schedule):
    """A layer's backward GEMMs are BF16 for good from the step after std(G) < factor * rms(Q(G) - G).

    G is the gradient of the layer's output, Q its quantizer in dgrad. ``factor`` is sqrt(3): below it, steps along the
    quantized gradient no longer lower a quadratic loss as they should. The paper derives that for the whole gradient
    and its noise per coordinate, sigma_crit = |grad L| / sqrt(3 d), and switches the whole model once; here each layer
    is judged by the elements of its own G, at every step, and switches by itself. A G of zeros, or with a NaN, decides
    nothing.

    Cost: 6 per element of G for two deviations, and a scalar per layer that the host waits for.
    Source: arXiv 2505.19115 (FP4 All the Way), Sec. 4. Raises OptionError unless factor > 0.
    """

    arithmetic: ClassVar[int] = 2

    factor: float = math.sqrt(3)

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise OptionError(f"noise_switch.factor must be positive, not {self.factor}")

    @property
    def watches(self) -> bool:
        return True

    def phase(self, step: int, steps: int, watch: Watch | None, before: str) -> str:
        if before == FORWARD or watch is None:
            return before
        drowned = bool(watch.gradient_deviation < self.factor * watch.noise_deviation)
        return FORWARD if drowned else FULL

    @property
    def unstated(self) -> str:
        return "NoiseSwitch takes a layer's backward GEMMs to BF16 by its gradients: it is counted as if it never did"

    def ops(self) -> Ops:
        return Ops(element=6, syncs=1, why="6/element of G for two deviations")
