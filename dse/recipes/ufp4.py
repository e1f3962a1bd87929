"""UFP4: a uniform 4-bit grid and rotations in all three GEMMs.

E1M2 is the grid 0, .5 ... 3.5 (INT4's -7 ... 7), with one FP32 scale per 1 x 16 block: f(X) = E1M2(3.5 X / a) a /
3.5. Its bins are even, so nearest rounding does not shrink values as E2M1's does, and after a rotation nothing needs
E2M1's range. Random Hadamard on every GEMM's contraction axis, stochastic rounding of G only, no weight tiles.

Hadamard size (16, the block) and sign policy (fresh) are ours: only summaries of the paper were at hand.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, FP32
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic

_Q = BlockQuantizer(ELEMENTS["e1m2"], FP32, 16)
_G = replace(_Q, rounding=Stochastic())

UFP4 = Recipe(
    "ufp4",
    "E1M2 (uniform grid) x FP32, blocks of 16, random Hadamard 16 in all three GEMMs, stochastic G",
    "arXiv 2606.20381 (UFP4), secondary summary",
    fprop=Gemm(_Q, _Q, Hadamard(16)),
    dgrad=Gemm(_G, _Q, Hadamard(16)),
    wgrad=Gemm(_G, _Q, Hadamard(16)),
)
