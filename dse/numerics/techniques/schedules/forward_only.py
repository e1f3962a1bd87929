"""The last stage of training with BF16 backward GEMMs."""

from __future__ import annotations

from dataclasses import dataclass

from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.schedules.base import FORWARD, FULL, Schedule, Watch
from dse.numerics.techniques.schedules.last_stage import check_share, last_steps


@dataclass(frozen=True)
class ForwardOnly(Schedule):
    """The recipe's forward GEMM with BF16 backward GEMMs from step steps - round(share * steps) on.

    With share 1 only the forward pass is ever quantized. The trained model is evaluated with quantized GEMMs. Cost: no
    operations beyond the GEMMs; two of the three lose their FP4 speed for that share of the steps.
    Source: arXiv 2505.19115 (FP4 All the Way), its final quantization-aware phase (QAF). The paper also restarts the
    learning rate there, which is the training's affair. Raises OptionError unless 0 < share <= 1.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_share("forward_only", self.share)

    def phase(self, step: int, steps: int, watch: Watch | None, before: str) -> str:
        return FORWARD if step >= last_steps(self.share, steps) else FULL

    def shares(self) -> tuple[tuple[str, float], ...]:
        return (FULL, 1 - self.share), (FORWARD, self.share)

    def ops(self) -> Ops:
        return FREE
