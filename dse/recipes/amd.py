"""AMD's native MXFP4 training: a deterministic Hadamard on every GEMM, and nothing random.

s = 2^(floor(log2 amax) - 2) per block of 32, nearest-even; both operands of all three GEMMs times H_16 / 4 without
signs. Their finding, against most others': stochastic rounding or random signs do not help in this setting.
"""

from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.recipes.mxfp4 import MXFP4

_GEMM = Gemm(MXFP4.fprop.lhs, MXFP4.fprop.rhs, Hadamard(16, "none"))

AMD_MXFP4 = Recipe(
    "amd_mxfp4",
    "OCP MXFP4 with a deterministic Hadamard 16 in all three GEMMs, nearest-even everywhere",
    "arXiv 2605.09825 (AMD, native MXFP4 training)",
    fprop=_GEMM,
    dgrad=_GEMM,
    wgrad=_GEMM,
)
