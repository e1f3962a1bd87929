"""Searches of a trained weight's block scales, and of its grids."""

from dse.numerics.techniques.scale_searches.base import ScaleSearch
from dse.numerics.techniques.scale_searches.fitted import Fitted
from dse.numerics.techniques.scale_searches.mant import Mant
from dse.numerics.techniques.scale_searches.microscopiq import MicroScopiQ
from dse.numerics.techniques.scale_searches.shrunk import Shrunk
from dse.numerics.techniques.scale_searches.weighted_sweep import WeightedSweep

SCALE_SEARCHES: dict[str, type[ScaleSearch]] = {
    "shrunk": Shrunk,
    "weighted_sweep": WeightedSweep,
    "fitted": Fitted,
    "mant": Mant,
    "microscopiq": MicroScopiQ,
}

__all__ = ["SCALE_SEARCHES", "Fitted", "Mant", "MicroScopiQ", "ScaleSearch", "Shrunk", "WeightedSweep"]
