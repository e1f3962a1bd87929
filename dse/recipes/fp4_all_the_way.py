"""FP4 All the Way: NVFP4 with stochastic rounding of the gradients and of the activations of the weight gradient.

s = E4M3(amax_16 S / 6), S = 448 * 6 / amax; Y = RN(X) RN(W)^T, dX = SR(G) RN(W), dW = SR(G)^T SR(X): 1 x 16 blocks, no
rotation, W and X quantized anew. When a gradient's deviation falls below sqrt(3) times that of its quantization noise,
FP4 gradients no longer help, and the training goes on with FP4 forward and BF16 backward (QAF).
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.schedules import NoiseSwitch
from dse.numerics.techniques.tensor_scales import Current

_RN = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
_SR = replace(_RN, rounding=Stochastic())

FP4_ALL_THE_WAY = Recipe(
    "fp4_all_the_way",
    "NVFP4, 1x16 blocks, stochastic G in both backward GEMMs and X in wgrad, nearest elsewhere, no rotation",
    "arXiv 2505.19115 (FP4 All the Way), before its final phase",
    fprop=Gemm(_RN, _RN),
    dgrad=Gemm(_SR, _RN),
    wgrad=Gemm(_SR, _SR),
)

FP4_ALL_THE_WAY_QAF = replace(
    FP4_ALL_THE_WAY,
    name="fp4_all_the_way_qaf",
    summary="FP4 All the Way; a layer's backward GEMMs become BF16 once its gradient drowns in quantization noise",
    source="arXiv 2505.19115 (FP4 All the Way), with the sqrt(3) monitor",
    schedule=NoiseSwitch(),
)
