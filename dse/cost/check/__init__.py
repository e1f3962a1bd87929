"""The time model against published measurements: points, fit of its constants, agreement on what is held out."""

from dse.cost.check.fit import Agreement, Compared, agreement, compared, fitted
from dse.cost.check.measured import MeasuredPoint, measured_points
from dse.cost.check.predict import UNITS, predicted

__all__ = [
    "UNITS",
    "Agreement",
    "Compared",
    "MeasuredPoint",
    "agreement",
    "compared",
    "fitted",
    "measured_points",
    "predicted",
]
