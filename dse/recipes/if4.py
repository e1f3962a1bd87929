"""IF4: every block of 16 holds E2M1 or INT4 elements, whichever fit better.

S = 448 * 6 / amax, s = E4M3((amax_b / 6) S), u = X S / s; FP4: E2M1(u) s / S; INT4: (6/7) round(7/6 u) s / S, at most
+-7; least squares, a tie is FP4; the sign bit of s says which. Layout as in NVIDIA's NVFP4: 16 x 16 weight tiles,
stochastic G, Hadamard 16 in the weight gradient.

All six operands choose, as in the authors' library: G too, in both backward GEMMs, where each block takes the nearer
one of two stochastic roundings (both from the same random bits here, from separate draws there), so that G is no longer
unbiased; and G and X of the weight gradient after their rotation.

Left out: the last four transformer layers, which the paper keeps in BF16 (``exempt.names``), and its variant with
MS-EDEN in the backward pass, where the gain is larger.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.choices import IF4 as IF4_CHOICE
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Current

_X = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current(), choice=IF4_CHOICE())
_W = replace(_X, tile=16)
_G = replace(_X, rounding=Stochastic())

IF4 = Recipe(
    "if4",
    "E2M1 or INT4 by block, flagged in the E4M3 scale's sign; otherwise NVIDIA's NVFP4 layout",
    "arXiv 2603.28765 (IF4)",
    fprop=Gemm(_X, _W),
    dgrad=Gemm(_G, _W),
    wgrad=Gemm(_G, _X, Hadamard(16, "fixed")),
)
