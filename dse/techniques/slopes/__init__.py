"""Local slopes Q'(u): what stands in for the derivative of a cast in the backward pass."""

from dse.techniques.slopes.base import Slope
from dse.techniques.slopes.straight_through import StraightThrough

STRAIGHT_THROUGH = StraightThrough()

SLOPES: dict[str, type[Slope]] = {"straight_through": StraightThrough}

__all__ = ["SLOPES", "STRAIGHT_THROUGH", "Slope", "StraightThrough"]
