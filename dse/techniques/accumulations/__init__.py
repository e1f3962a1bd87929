"""Accumulation models: how a GEMM adds up its products."""

from dse.techniques.accumulations.base import Accumulation
from dse.techniques.accumulations.groups import Groups

ACCUMULATIONS: dict[str, type[Accumulation]] = {"groups": Groups}

__all__ = ["ACCUMULATIONS", "Accumulation", "Groups"]
