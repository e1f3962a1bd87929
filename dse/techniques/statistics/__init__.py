"""Block statistics Z: the number a block's scale is computed from."""

from dse.techniques.statistics.absmax import AbsMax
from dse.techniques.statistics.base import Statistic

ABSMAX = AbsMax()

STATISTICS: dict[str, type[Statistic]] = {"absmax": AbsMax}

__all__ = ["ABSMAX", "STATISTICS", "AbsMax", "Statistic"]
