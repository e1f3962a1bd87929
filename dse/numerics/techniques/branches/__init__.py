"""Low-rank branches in 16 bits beside a quantized weight."""

from dse.numerics.techniques.branches.base import Branch, ThinFactors
from dse.numerics.techniques.branches.lqer import Lqer
from dse.numerics.techniques.branches.svdquant import SvdQuant

BRANCHES: dict[str, type[Branch]] = {"svdquant": SvdQuant, "lqer": Lqer}

__all__ = ["BRANCHES", "Branch", "Lqer", "SvdQuant", "ThinFactors"]
