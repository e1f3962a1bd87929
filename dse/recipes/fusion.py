"""Format-aware fusion: routes for MXFP4 and NVFP4 whose quantization fits into fused kernels.

- MXFP4: s = 2^ceil(log2 amax) per block of 32, f(X) = E2M1(6 X / s) s / 6. It is written here as 2^floor(log2 amax)
  with the gain 3/4, the same but where amax is a power of two (then one binade coarser). 32 x 32 tiles for weights.
- NVFP4: S = 448 * 6 / amax, s = E4M3(amax_16 S / 6), 16 x 16 tiles for weights.
- Only dgrad's view of G is rounded stochastically; wgrad is deterministic. ``h32``: diag(S) H_32 on wgrad's X and G
  with one fixed sign vector (0x2817, which is TransformerEngine's, twice).

Left out: the adaptive halving of a weight tile's scale when amax / s < .87; the CTA-local routes, whose outer scale
belongs to a row tile; and the layers in BF16: the output head of every route (this project's tasks exempt theirs), and
the last four blocks of the TransformerEngine route that the paper compares with, its best in FP4 (+.87 % of the loss
against +1.34 % without, and +2.11 % for ``fusion_mxfp4_h32``): ``exempt.last``, ``exempt.names``.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic, TowardZero
from dse.numerics.techniques.tensor_scales import Current

_SOURCE = "arXiv 2610.00053 (Hu, Format-Aware Fusion for Fast FP4 Pretraining)"


def _route(name: str, summary: str, x: BlockQuantizer) -> Recipe:
    w, g = replace(x, tile=x.block), replace(x, rounding=Stochastic())
    return Recipe(name, summary, _SOURCE, fprop=Gemm(x, w), dgrad=Gemm(g, w), wgrad=Gemm(x, x))


FUSION_MXFP4 = _route(
    "fusion_mxfp4",
    "MXFP4 with scales rounded up to the block's binade, 32x32 weight tiles, stochastic G in dgrad only",
    BlockQuantizer(E2M1, E8M0, 32, constant=4.0, gain=0.75, scale_rounding=TowardZero()),
)

FUSION_MXFP4_H32 = replace(
    FUSION_MXFP4,
    name="fusion_mxfp4_h32",
    summary="fusion_mxfp4 with a fixed-sign Hadamard 32 in wgrad: the fastest route near NVFP4's loss",
    wgrad=replace(FUSION_MXFP4.wgrad, rotation=Hadamard(32, "fixed")),
)

FUSION_NVFP4 = _route(
    "fusion_nvfp4",
    "NVFP4 with 16x16 weight tiles, stochastic G in dgrad only, no rotation",
    BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current()),
)
