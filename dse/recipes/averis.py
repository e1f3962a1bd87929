"""Averis: NVFP4 of residuals, the means over tokens of X and G split off as rank-one terms.

X = 1 mu_X^T + X_R, G = 1 mu_G^T + G_R; all products of residuals, means and W are of NVFP4 numbers (E2M1 in blocks of
16, E4M3 scales, a tensor scale each), stochastically rounded. Known from the abstract and from secondary summaries of
version 1 alone; the size of blocks, tensor scales and what W's blocks are follow NVFP4 (arXiv 2509.25149) here.

- ``averis``: version 1, without rotation; all six operands and the means stochastic.
- ``nvfp4_averis``: NVIDIA's layout (16 x 16 weight tiles, stochastic G, Hadamard 16 in the weight gradient) with means
  in BF16: the combination with a Hadamard rotation, which the abstract reports to be better than either.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.decompositions import Mean
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes.nvfp4 import NVFP4

_Q = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current(), rounding=Stochastic())
_GEMM = Gemm(_Q, _Q)

AVERIS = Recipe(
    "averis",
    "stochastic NVFP4, 1x16 blocks; means over tokens of X and G split off and quantized apart",
    "arXiv 2603.10444 (Averis), abstract and secondary summaries",
    fprop=_GEMM,
    dgrad=_GEMM,
    wgrad=_GEMM,
    decomposition=Mean(outer=_Q),
)

NVFP4_AVERIS = replace(
    NVFP4,
    name="nvfp4_averis",
    summary="nvfp4 with the means over tokens of X and G split off as rank-one terms in BF16",
    source="arXiv 2603.10444 (Averis with Hadamard), abstract; layout of arXiv 2509.25149",
    decomposition=Mean(),
)
