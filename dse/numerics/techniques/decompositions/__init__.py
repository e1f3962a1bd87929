"""Decompositions: products of a linear as a low-precision product plus terms in higher precision."""

from dse.numerics.techniques.decompositions.base import (
    DecodedOperands,
    Decomposition,
    Kept,
    Shared,
    SplitProduct,
    Term,
)
from dse.numerics.techniques.decompositions.hot_channels import HotChannels
from dse.numerics.techniques.decompositions.low_rank import LowRank
from dse.numerics.techniques.decompositions.mean import Mean
from dse.numerics.techniques.decompositions.out_control import OutControl

DECOMPOSITIONS: dict[str, type[Decomposition]] = {
    "out_control": OutControl,
    "mean": Mean,
    "hot_channels": HotChannels,
    "low_rank": LowRank,
}

__all__ = [
    "DECOMPOSITIONS",
    "DecodedOperands",
    "Decomposition",
    "HotChannels",
    "Kept",
    "LowRank",
    "Mean",
    "OutControl",
    "Shared",
    "SplitProduct",
    "Term",
]
