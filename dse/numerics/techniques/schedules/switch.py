"""Other numerics for the last stage of training: healing."""

from __future__ import annotations

from dataclasses import dataclass

from dse.errors import OptionError
from dse.numerics.attention import Product
from dse.numerics.gemm import Gemm
from dse.numerics.ops import FREE, Ops
from dse.numerics.quantizer import BFloat16
from dse.numerics.techniques.schedules.base import FULL, SWITCHED, Schedule, Watch
from dse.numerics.techniques.schedules.last_stage import check_share, last_steps

_BF16 = Gemm(BFloat16(), BFloat16())
BF16_GEMMS = Product(_BF16, _BF16, _BF16)


@dataclass(frozen=True)
class Switch(Schedule):
    """Every layer that the recipe quantizes has the GEMMs ``to`` from a step on, where healing begins.

    From ``step`` on where it is above 0, else for the last ``share`` of the steps. ``to`` holds three GEMMs and their
    backward source; sweep files may name a recipe of the gallery there, whose GEMMs they then are. The weight rule
    ends there, and attention's products are in high precision from then on. Weights, optimizer and held tensor scales
    go on as they are; the trained model is evaluated with the last GEMMs.

    Cost: no operations beyond the GEMMs, those of the last stage at their own rate.
    Sources: arXiv 2509.25149 (another precision late in the training); AMD's MLPerf Training 6.0 of Llama 2 70B LoRA,
    AMD-AGI/Primus #877 (MXFP4, then FP8 from step 340 of 550).
    Raises OptionError unless 0 < share <= 1 and step >= 0, and for a share of one's own beside a step.
    """

    to: Product = BF16_GEMMS
    step: int = 0
    share: float = 0.1

    def __post_init__(self) -> None:
        check_share("switch", self.share)
        if self.step < 0:
            raise OptionError(f"switch.step must be at least 0 (0: by share), not {self.step}")
        if self.step and self.share != 0.1:
            raise OptionError(f"switch has a step, {self.step}, or a share, {self.share}, not both")

    def phase(self, step: int, steps: int, watch: Watch | None, before: str) -> str:
        return SWITCHED if step >= (self.step or last_steps(self.share, steps)) else FULL

    def shares(self) -> tuple[tuple[str, float], ...]:
        return ((FULL, 1.0),) if self.step else ((FULL, 1 - self.share), (SWITCHED, self.share))

    @property
    def unstated(self) -> str:
        if not self.step:
            return ""
        return f"Switch acts from step {self.step} on, of a number that no recipe states: it is counted as if never"

    def ops(self) -> Ops:
        return FREE
