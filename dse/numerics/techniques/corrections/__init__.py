"""Corrections of block scales once the elements are known."""

from dse.numerics.techniques.corrections.base import Correction
from dse.numerics.techniques.corrections.eden import Eden

CORRECTIONS: dict[str, type[Correction]] = {"eden": Eden}

__all__ = ["CORRECTIONS", "Correction", "Eden"]
