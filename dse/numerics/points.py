"""The six quantization points of a linear layer: both operands of its three GEMMs."""

from __future__ import annotations

from enum import IntEnum


class Point(IntEnum):
    """An operand that is quantized, by its number in random streams and in the memory of held scales.

    - ``FPROP_LHS``, ``FPROP_RHS``: X and W of the forward product Y = X W^T; weight rules draw at W's;
    - ``DGRAD_LHS``, ``DGRAD_RHS``: G and W^T of the data gradient dX = G (W^T)^T;
    - ``WGRAD_LHS``, ``WGRAD_RHS``: G^T and X^T of the weight gradient dW = G^T (X^T)^T.

    A GEMM's rotation draws at 64 plus the number of its left operand (``dse.numerics.gemm.rotation_key``).
    """

    FPROP_LHS = 0
    FPROP_RHS = 1
    DGRAD_LHS = 2
    DGRAD_RHS = 3
    WGRAD_LHS = 4
    WGRAD_RHS = 5

    @property
    def path(self) -> str:
        """Its name in the paths of options, such as ``wgrad.rhs``."""
        return self.name.lower().replace("_", ".")

    @property
    def gemm(self) -> str:
        """The GEMM it belongs to: 'fprop', 'dgrad' or 'wgrad'."""
        return self.path.partition(".")[0]

    @property
    def lhs(self) -> Point:
        """The left operand of its GEMM."""
        return Point(self & ~1)


GEMMS = ("fprop", "dgrad", "wgrad")
POINTS = tuple(point.path for point in Point)
"""Paths of the points, in the order of their numbers."""
