"""Outlier handling: what is done to an operand before its blocks are scaled."""

from dse.numerics.techniques.outliers.asymmetric import Asymmetric
from dse.numerics.techniques.outliers.base import Outliers, Parts
from dse.numerics.techniques.outliers.clamp import Clamp

OUTLIERS: dict[str, type[Outliers]] = {"clamp": Clamp, "asymmetric": Asymmetric}

__all__ = ["OUTLIERS", "Asymmetric", "Clamp", "Outliers", "Parts"]
