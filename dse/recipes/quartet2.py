"""Quartet II's layout with its stochastic-rounding baseline in the backward pass.

- Forward: NVFP4, 1 x 16 blocks of X and W, no rotation, nearest with ties away, each block mapped to 6 or to 4 by the
  smaller squared error; S_enc = 256 * 6 / amax; a scale that rounds to zero is 1.
- Backward, from the forward copies: all four operands rotated by diag(+-1) H_128, fresh signs, then
  Q(A) = (17/16) s SR(16/17 A / s): the guard keeps |A / s| <= 6 although E4M3 rounds s down by up to 1/17.

Quartet II proper has MS-EDEN instead of SR: nearest elements, and E4M3 scales corrected by sum X^2 / sum X Q(X) per
rotation group and rounded stochastically. That correction is left out, hence the name.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.choices import FourOverSix
from dse.numerics.techniques.conventions import Decode
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import NearestAway, Stochastic
from dse.numerics.techniques.tensor_scales import Current

_NVFP4 = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current(), convention=Decode(zero="one"))
_FORWARD = replace(_NVFP4, rounding=NearestAway(), tensor_scale=Current(256.0), choice=FourOverSix())
_GUARDED = replace(_NVFP4, rounding=Stochastic(), gain=16 / 17)
_BACKWARD = Gemm(_GUARDED, _GUARDED, Hadamard(128))

QUARTET2_SR = Recipe(
    "quartet2_sr",
    "NVFP4 with four-over-six forward; its copies in random Hadamard 128 with guarded SR backward (MS-EDEN left out)",
    "arXiv 2601.22813 (Quartet II), SR baseline",
    fprop=Gemm(_FORWARD, _FORWARD),
    dgrad=_BACKWARD,
    wgrad=_BACKWARD,
    backward_source="forward",
)
