"""HiFloat4: 64 elements under one scale and two levels of 1-bit exponents.

s = E6M2(amax_64 / 7), E6M2 from 2^-48 to 49,152; m_8 = [amax_8 / s >= 4], m_4 = [amax_4 / (s 2^m_8) >= 2];
f(X) = S1P2(X / (s 2^(m_8 + m_4))) s 2^(m_8 + m_4), S1P2 = 0, .25 ... 1.75, nearest with ties away: 7 is the largest
value of a block, 4.5 bits an element. Both operands of the backward GEMMs are rotated by a random Hadamard; the paper
says that RHT is all that training needs.

Ours, since the paper's text was not at hand: the Hadamard's size (64, the block), its place (both backward GEMMs) and
nearest G. Left out of the released quantizer: amax / 7 and 1 / s rounded to BF16.
"""

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import NearestAway

_Q = BlockQuantizer(ELEMENTS["s1p2"], SCALES["ue6m2"], 64, constant=7.0, rounding=NearestAway(), micro_exponents=(8, 4))
_TURNED = Gemm(_Q, _Q, Hadamard(64))

HIF4 = Recipe(
    "hif4",
    "HiFloat4: blocks of 64, E6M2 scale and 1-bit exponents of 8 and 4 elements; random Hadamard 64 backward",
    "arXiv 2602.11287 (HiFloat4) and its released quantizer; arXiv 2604.08826 (training)",
    fprop=Gemm(_Q, _Q),
    dgrad=_TURNED,
    wgrad=_TURNED,
)
