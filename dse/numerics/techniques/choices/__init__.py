"""Block choices: quantize a block in several ways and keep the one with the smallest error."""

from dse.numerics.techniques.choices.base import Candidate, Choice
from dse.numerics.techniques.choices.four_over_six import FourOverSix
from dse.numerics.techniques.choices.grids import Grids
from dse.numerics.techniques.choices.if4 import IF4
from dse.numerics.techniques.choices.scale_sweep import ScaleSweep

CHOICES: dict[str, type[Choice]] = {"four_over_six": FourOverSix, "if4": IF4, "grids": Grids, "scale_sweep": ScaleSweep}

__all__ = ["CHOICES", "IF4", "Candidate", "Choice", "FourOverSix", "Grids", "ScaleSweep"]
