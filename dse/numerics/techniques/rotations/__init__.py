"""Rotations of a GEMM's contraction axis."""

from dse.numerics.techniques.rotations.base import Rotation
from dse.numerics.techniques.rotations.hadamard import Hadamard

ROTATIONS: dict[str, type[Rotation]] = {"hadamard": Hadamard}

__all__ = ["ROTATIONS", "Hadamard", "Rotation"]
