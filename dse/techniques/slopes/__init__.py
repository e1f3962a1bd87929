"""Local slopes Q'(u): what stands in for the derivative of a cast in the backward pass."""

from dse.techniques.slopes.base import Slope
from dse.techniques.slopes.dge import DGE
from dse.techniques.slopes.sigmoid import Sigmoid
from dse.techniques.slopes.spline import Spline
from dse.techniques.slopes.straight_through import StraightThrough

STRAIGHT_THROUGH = StraightThrough()

SLOPES: dict[str, type[Slope]] = {
    "straight_through": StraightThrough,
    "dge": DGE,
    "sigmoid": Sigmoid,
    "spline": Spline,
}

__all__ = ["DGE", "SLOPES", "STRAIGHT_THROUGH", "Sigmoid", "Slope", "Spline", "StraightThrough"]
