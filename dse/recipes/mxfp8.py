"""MXFP8: E4M3 everywhere, scales amax / 448 rounded up to a power of two so that nothing saturates."""

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E4M3, E8M0
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rounding import AwayFromZero

_Q = BlockQuantizer(E4M3, E8M0, block=32, scale_rounding=AwayFromZero())
_GEMM = Gemm(_Q, _Q)

MXFP8 = Recipe(
    "mxfp8",
    "E4M3 x E8M0, blocks of 32, scales rounded up, nearest-even; gradients E4M3 too",
    "arXiv 2506.08027 (Mishra et al., Recipes for pre-training LLMs with MXFP8)",
    fprop=_GEMM,
    dgrad=_GEMM,
    wgrad=_GEMM,
)
