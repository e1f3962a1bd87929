"""Four over six: NVFP4 in which every block chooses between the constants 6 and 4.

S = 256 * 6 / amax; s_6 = E4M3((amax_b / 6) S), s_4 = E4M3(1.5 (amax_b / 6) S), f_c(X) = E2M1(X S / s_c) s_c / S; the
smaller error wins, compared exactly, a tie is 6. With 4 the coarse step from 4 to 6 is not used; 256 leaves E4M3 room
for 1.5 times the scale.

- ``four_over_six``: NVIDIA's layout (16 x 16 weight tiles, stochastic G, Hadamard 16 in the weight gradient). X and W
  are chosen by least squares in fprop, W in dgrad. Nothing is chosen for G, in neither backward GEMM, nor for X in the
  weight gradient: these are plain NVFP4 (S = 448 * 6 / amax), since choosing after a random draw would bias it. The
  authors' library chooses for all six operands by default, stochastic and rotated ones included.
- ``nvfp4_4over6``: TransformerEngine's variant: least absolute error, no rotation (it refuses both together), chosen
  for X and W in all three GEMMs; G is plain and stochastic. TransformerEngine adds errors up in FP32, in order, so that
  blocks whose errors nearly tie may go the other way there.

Left out: linears in BF16, as for ``nvfp4`` (``exempt``).
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.choices import FourOverSix
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Current

_PLAIN = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
_G = replace(_PLAIN, rounding=Stochastic())
_X = replace(_PLAIN, tensor_scale=Current(256.0), choice=FourOverSix())
_W = replace(_X, tile=16)

FOUR_OVER_SIX = Recipe(
    "four_over_six",
    "NVFP4 as NVIDIA trains it, with blocks of X and W mapped to 6 or 4 by squared error where nothing is rotated",
    "arXiv 2512.02010 (Four Over Six)",
    fprop=Gemm(_X, _W),
    dgrad=Gemm(_G, _W),
    wgrad=Gemm(_G, _PLAIN, Hadamard(16, "fixed")),
)

_X_MAE, _W_MAE = (replace(q, choice=FourOverSix("mae")) for q in (_X, _W))

NVFP4_4OVER6 = Recipe(
    "nvfp4_4over6",
    "NVFP4 with four-over-six by absolute error for X and W, stochastic G, no rotation",
    "TransformerEngine, NVFP4 recipe with 4over6",
    fprop=Gemm(_X_MAE, _W_MAE),
    dgrad=Gemm(_G, _W_MAE),
    wgrad=Gemm(_G, _X_MAE),
)
