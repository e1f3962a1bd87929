"""AMD ALTO's formats: amdfp4, and MXFP4 under an FP32 scale per macro-block of 128.

- ``amdfp4``: NVFP4 with UE5M3 scales (largest 114,688): S = 114688 * 6 / amax, s = UE5M3(amax_16 S / 6);
  ``amdfp4_one_level``: without the tensor scale, which the format leaves open.
- ``mxfp4_macro128``: g = amax of 128 consecutive elements, S = 6 / g, s = E8M0(amax_32 S / 4) by the MX 'even' rule,
  f(X) = E2M1(X S / s) s / S: the largest element of the 128 is 6, and its block wastes nothing to its power of two.

Layout as in ALTO's recipe for GPT-OSS: weights in tiles (16 x 16; 32 x 32), G stochastic, X in rows; Hadamard 16 with
fixed signs in wgrad. Left out: ALTO's macro-block factor keeps 8 bits of its mantissa (FP32 here), its 2-D
macro-blocks, DGE, clipping, de-oscillation and the low-rank branch, which are options there.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0, SCALES
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import MantissaEven, Stochastic
from dse.numerics.techniques.tensor_scales import Current, Outer

_SOURCE = "AMD-AGI/ALTO (2026), formats and recipe"


def _recipe(name: str, summary: str, x: BlockQuantizer, w: BlockQuantizer) -> Recipe:
    g = replace(x, rounding=Stochastic())
    return Recipe(name, summary, _SOURCE, fprop=Gemm(x, w), dgrad=Gemm(g, w), wgrad=Gemm(g, x, Hadamard(16, "fixed")))


_AMDFP4 = BlockQuantizer(E2M1, SCALES["ue5m3_114688"], 16, tensor_scale=Current())
_ONE_LEVEL = replace(_AMDFP4, tensor_scale=None)
_MACRO = BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=MantissaEven(1), tensor_scale=Outer(4, 1.5))

AMDFP4 = _recipe(
    "amdfp4",
    "E2M1 x UE5M3, blocks of 16, tensor scale, 16x16 weight tiles, stochastic G, Hadamard 16 in wgrad",
    _AMDFP4,
    replace(_AMDFP4, tile=16),
)

AMDFP4_ONE_LEVEL = _recipe(
    "amdfp4_one_level", "amdfp4 without a tensor scale", _ONE_LEVEL, replace(_ONE_LEVEL, tile=16)
)

MXFP4_MACRO128 = _recipe(
    "mxfp4_macro128",
    "MXFP4 under an FP32 scale per 128 elements, 32x32 weight tiles, stochastic G, Hadamard 16 in wgrad",
    _MACRO,
    replace(_MACRO, tile=32),
)
