"""Rounding of lattice coordinates, for elements and for scales."""

from dse.numerics.techniques.rounding.base import Rounding
from dse.numerics.techniques.rounding.directed import AwayFromZero, TowardZero
from dse.numerics.techniques.rounding.nearest import MantissaEven, NearestAway, NearestEven
from dse.numerics.techniques.rounding.stochastic import Stochastic

NEAREST_EVEN = NearestEven()

ROUNDINGS: dict[str, type[Rounding]] = {
    "nearest_even": NearestEven,
    "nearest_away": NearestAway,
    "mantissa_even": MantissaEven,
    "toward_zero": TowardZero,
    "up": AwayFromZero,
    "stochastic": Stochastic,
}

__all__ = [
    "NEAREST_EVEN",
    "ROUNDINGS",
    "AwayFromZero",
    "MantissaEven",
    "NearestAway",
    "NearestEven",
    "Rounding",
    "Stochastic",
    "TowardZero",
]
