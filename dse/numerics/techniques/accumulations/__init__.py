"""Accumulation models: how a GEMM adds up its products."""

from dse.numerics.techniques.accumulations.base import Accumulation
from dse.numerics.techniques.accumulations.groups import Groups

ACCUMULATIONS: dict[str, type[Accumulation]] = {"groups": Groups}

__all__ = ["ACCUMULATIONS", "Accumulation", "Groups"]
