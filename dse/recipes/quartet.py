"""Quartet: MXFP4 in all three GEMMs, the forward one by QuEST, the backward ones unbiased.

- Forward, in the space of H_32 (no signs): s = 2^floor(log2(2.92247856 sigma / 6)), sigma the centered deviation of a
  block of 32 (of a constant one its root mean square), q = E2M1(X / s) saturating, Y = f(X) f(W)^T. Backward through
  f: dX = (dL/df * [|X / s| < 6]) H^T, the trust mask.
- Backward, from the forward copies: Q(A) = (4/3) s SR(.75 A / s), s = 2^(floor(log2 amax) - 2), both operands rotated
  by diag(+-1) H_32, fresh signs.

The released code rounds forward ties toward zero (here to even) and applies its random signs after the transform,
where they do nothing; Quartet II corrects that, and so does this recipe. Lengths that 32 does not divide, which it
refuses, are padded with zeros here.
"""

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import TowardZero
from dse.numerics.techniques.slopes import StraightThrough
from dse.numerics.techniques.statistics import Quest
from dse.recipes.tseng import SR_MXFP4

_QUEST = BlockQuantizer(
    E2M1, E8M0, 32, statistic=Quest(centered=True), scale_rounding=TowardZero(), slope=StraightThrough(outside="zero")
)
_BACKWARD = Gemm(SR_MXFP4, SR_MXFP4, Hadamard(32))

QUARTET = Recipe(
    "quartet",
    "QuEST's MXFP4, Hadamard 32 and trust mask forward; its copies in random Hadamard 32 and stochastic MXFP4 backward",
    "arXiv 2505.14669 (Quartet); arXiv 2502.05003 (QuEST)",
    fprop=Gemm(_QUEST, _QUEST, Hadamard(32, "none")),
    dgrad=_BACKWARD,
    wgrad=_BACKWARD,
    backward_source="forward",
)
