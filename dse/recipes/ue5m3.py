"""UE5M3 FP4 block scaling: NVFP4's layout with five exponent bits in the scale, so no rotation and no exempt blocks.

G = T * 6 / g, T = 448; s = UE5M3(amax_b G / 6), at most 61,440, a zero becomes 1; f(X) = E2M1(X G / s) s / G. Blocks
of 16, weights in 16 x 16 tiles, stochastic rounding of G (8 bits) in both backward GEMMs, nearest-even elsewhere. g =
max |X| of the tensor is sampled at step 0, 50, 100 ... and held in between; 61,440 / 448 leaves room for tensors that
grow 137 times. All points of one tensor sample at the same steps, so they share one reference, as published.

- ``ue5m3``: the published recipe's operands; ``ue5m3_b32``: the paper's control with blocks of 32;
- ``ue5m3_current``: g of the operand at hand, every step, and a zero scale flushes its block (published: D = 1 for
  inference, and a zero scale is 1).

What the published runs have besides:
- their GEMM ('probe-matched'): FP32 sums of 64 products each, added up in order with rounding toward zero, as
  Blackwell's tensor cores do; set ``*.accumulation: groups``. Here products are added up in plain FP32, the paper's
  'decoded-operand matmul', whose 8B run ended at 2.3157 against 2.3090 (one seed each);
- T = 2048 for G in the weight gradient of the last four down projections;
- the output head in FP32: exempt it (``exempt.names``), as this project's tasks do by themselves;
- a held g that starts cold after a resume; here it is in the checkpoint.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1
from dse.numerics.formats import UE5M3 as UE5M3_FORMAT
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.conventions import Decode
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Current, Delayed

_SOURCE = "arXiv 2609.02846 (UE5M3 FP4 Block Scaling)"


def _recipe(name: str, summary: str, source: str, x: BlockQuantizer) -> Recipe:
    w, g = replace(x, tile=x.block), replace(x, rounding=Stochastic())
    return Recipe(name, summary, source, fprop=Gemm(x, w), dgrad=Gemm(g, w), wgrad=Gemm(g, x))


_X = BlockQuantizer(E2M1, UE5M3_FORMAT, 16, tensor_scale=Delayed(50, 448.0), convention=Decode(zero="one"))

UE5M3 = _recipe(
    "ue5m3",
    "E2M1 x UE5M3, blocks of 16, tensor scale held for 50 steps, 16x16 weight tiles, stochastic G, no rotation",
    _SOURCE,
    _X,
)

UE5M3_CURRENT = _recipe(
    "ue5m3_current",
    "ue5m3 with the tensor scale of the operand at hand, and zero scales that flush their block",
    f"{_SOURCE}, D = 1",
    BlockQuantizer(E2M1, UE5M3_FORMAT, 16, tensor_scale=Current(target=448.0)),
)

UE5M3_B32 = _recipe(
    "ue5m3_b32", "ue5m3 with blocks of 32 and 32x32 weight tiles", f"{_SOURCE}, control", replace(_X, block=32)
)
