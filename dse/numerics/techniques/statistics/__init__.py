"""Block statistics Z: the number a block's scale is computed from."""

from dse.numerics.techniques.statistics.absmax import AbsMax
from dse.numerics.techniques.statistics.base import BLOCK, GRADIENTS, TENSOR, Statistic, measure
from dse.numerics.techniques.statistics.quest import Quest
from dse.numerics.techniques.statistics.soft import HardSoft, SoftSoft

ABSMAX = AbsMax()

STATISTICS: dict[str, type[Statistic]] = {
    "absmax": AbsMax,
    "hard_soft": HardSoft,
    "soft_soft": SoftSoft,
    "quest": Quest,
}

__all__ = [
    "ABSMAX",
    "BLOCK",
    "GRADIENTS",
    "STATISTICS",
    "TENSOR",
    "AbsMax",
    "HardSoft",
    "Quest",
    "SoftSoft",
    "Statistic",
    "measure",
]
