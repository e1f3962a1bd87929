"""Local slopes Q'(u): what stands in for the derivative of a cast in the backward pass."""

from dse.numerics.techniques.slopes.base import Slope
from dse.numerics.techniques.slopes.dge import DGE
from dse.numerics.techniques.slopes.sigmoid import Sigmoid
from dse.numerics.techniques.slopes.spline import Spline
from dse.numerics.techniques.slopes.straight_through import StraightThrough

STRAIGHT_THROUGH = StraightThrough()

SLOPES: dict[str, type[Slope]] = {
    "straight_through": StraightThrough,
    "dge": DGE,
    "sigmoid": Sigmoid,
    "spline": Spline,
}

__all__ = ["DGE", "SLOPES", "STRAIGHT_THROUGH", "Sigmoid", "Slope", "Spline", "StraightThrough"]
