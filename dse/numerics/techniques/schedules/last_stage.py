"""The last stage of training in BF16."""

from __future__ import annotations

from dataclasses import dataclass

from dse.errors import OptionError
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.schedules.base import FULL, OFF, Schedule, Watch


def last_steps(share: float, steps: int) -> int:
    """The first step of the last ``share`` of ``steps``, rounded to the nearest number of steps, but at least one."""
    return steps - max(1, round(share * steps))


def check_share(name: str, share: float) -> None:
    """Raises OptionError unless 0 < share <= 1."""
    if not 0 < share <= 1:
        raise OptionError(f"{name}.share must lie in (0, 1], not {share}")


@dataclass(frozen=True)
class LastStage(Schedule):
    """Every GEMM in BF16 from step steps - round(share * steps) on: the target precision training schedule.

    The trained model is then evaluated in BF16 too. Cost: no operations beyond the GEMMs, which lose their FP4 speed
    for that share of the steps. Sources: arXiv 2502.11458 (Zhou et al.); arXiv 2509.25149 (from 82 % of the tokens on).
    Raises OptionError unless 0 < share <= 1.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_share("last_stage", self.share)

    def phase(self, step: int, steps: int, watch: Watch | None, before: str) -> str:
        return OFF if step >= last_steps(self.share, steps) else FULL

    def shares(self) -> tuple[tuple[str, float], ...]:
        return (FULL, 1 - self.share), (OFF, self.share)

    def ops(self) -> Ops:
        return FREE
