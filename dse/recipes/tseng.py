"""Tseng, Yu and Park: unbiased MXFP4 gradients, forward pass in BF16.

dX = Q(G S) Q(W^T S)^T and dW = Q(G^T S) Q(X^T S)^T with S = diag(+-1) H_64 / 8, fresh signs per GEMM and step, and
Q(A) = (4/3) s SR(.75 A / s), s = 2^(floor(log2 amax) - 2) per block of 32. The 3/4 keeps |.75 A / s| < 6 so that
nothing saturates and E[Q(A)] = A; the 4/3 per operand (16/9 per product) is undone in the epilogue. The rotation
bounds the variance that SR adds.
"""

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic, TowardZero
from dse.recipes.bf16 import BF16

SR_MXFP4 = BlockQuantizer(E2M1, E8M0, 32, constant=4.0, gain=0.75, scale_rounding=TowardZero(), rounding=Stochastic())
"""Unbiased MXFP4: OCP floor scales, elements times 3/4, stochastic rounding."""

_BACKWARD = Gemm(SR_MXFP4, SR_MXFP4, Hadamard(64))

TSENG_MXFP4 = Recipe(
    "tseng_mxfp4",
    "BF16 forward; both backward GEMMs in MXFP4 with 3/4 scaling, stochastic operands and a random Hadamard 64",
    "arXiv 2502.20586 (Tseng, Yu, Park, Training LLMs with MXFP4)",
    fprop=BF16.fprop,
    dgrad=_BACKWARD,
    wgrad=_BACKWARD,
)
