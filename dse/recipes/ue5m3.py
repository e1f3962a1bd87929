"""UE5M3 FP4 block scaling: NVFP4's layout with five exponent bits in the scale, hence no rotation and no exempt layers.

The published recipe holds each tensor reference for 50 steps; here it is taken from the current operand.
"""

from dataclasses import replace

from dse.block import BlockQuantizer
from dse.formats import E2M1
from dse.formats import UE5M3 as UE5M3_FORMAT
from dse.gemm import Gemm
from dse.recipe import Recipe
from dse.techniques.rounding import Stochastic
from dse.techniques.tensor_scales import Current

_X = BlockQuantizer(E2M1, UE5M3_FORMAT, block=16, tensor_scale=Current(target=448.0))
_W = replace(_X, tile=16)
_G = replace(_X, rounding=Stochastic())

UE5M3 = Recipe(
    "ue5m3",
    "E2M1 x UE5M3, blocks of 16, tensor scale with target 448, 16x16 weight tiles, stochastic G, no rotation",
    "arXiv 2609.02846 (UE5M3 FP4 Block Scaling)",
    fprop=Gemm(_X, _W),
    dgrad=Gemm(_G, _W),
    wgrad=Gemm(_G, _X),
)
