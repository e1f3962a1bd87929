"""Rounding of lattice coordinates, for elements and for scales."""

from dse.techniques.rounding.base import Rounding
from dse.techniques.rounding.directed import TowardZero, Up
from dse.techniques.rounding.nearest import NearestEven
from dse.techniques.rounding.stochastic import Stochastic

NEAREST_EVEN = NearestEven()

ROUNDINGS: dict[str, type[Rounding]] = {
    "nearest_even": NearestEven,
    "toward_zero": TowardZero,
    "up": Up,
    "stochastic": Stochastic,
}

__all__ = ["NEAREST_EVEN", "ROUNDINGS", "NearestEven", "Rounding", "Stochastic", "TowardZero", "Up"]
