"""MXFP4: E2M1 elements in blocks of 32 with a power-of-two scale.

OCP rule: s = 2^(floor(log2 amax) - 2), which is amax / 4 rounded down to a power of two; X / s saturates at 6.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import AwayFromZero, Stochastic, TowardZero

_Q = BlockQuantizer(E2M1, E8M0, block=32, constant=4.0, scale_rounding=TowardZero())
_GEMM = Gemm(_Q, _Q)

MXFP4 = Recipe(
    "mxfp4",
    "E2M1 x E8M0, blocks of 32, OCP floor scales, nearest-even everywhere",
    "OCP Microscaling Formats (MX) v1.0, 6.3; arXiv 2310.10537",
    fprop=_GEMM,
    dgrad=_GEMM,
    wgrad=_GEMM,
)

_UP = BlockQuantizer(E2M1, E8M0, block=32, scale_rounding=AwayFromZero())
_SR = replace(_UP, rounding=Stochastic())

MXFP4_RHT_SR = Recipe(
    "mxfp4_rht_sr",
    "MXFP4 with scales rounded up, stochastic gradients, and a random Hadamard 32 in both backward GEMMs",
    "composition of arXiv 2502.20853 (scales), 2502.20586 (rotation), 2509.25149 (stochastic gradients)",
    fprop=Gemm(_UP, _UP),
    dgrad=Gemm(_SR, _UP, Hadamard(32)),
    wgrad=Gemm(_SR, _UP, Hadamard(32)),
)
