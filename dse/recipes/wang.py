"""Wang et al.: vector-wise FP4 forward, FP8 gradients, DGE for the weights, clamped outliers in the activations.

- X [M, K]: X_c = clamp(X, quantile .01, quantile .99); f(X) = E2M1(X_c 6/a_m) a_m/6 + (X - X_c), a_m = max_k |X_c| of a
  token; the sparse remainder stays in high precision.
- W [N, K]: f(W) = E2M1(W 6/a_n) a_n/6, a_n = max_k |W| of an output channel; dW = dL/df * f'(u), u = 6 W / a_n,
  f'(u) = (1/k) |2t - 1|^(1/k - 1), k = 5, at most 3.
- Y = f(X) f(W)^T; dX = E5M2(G) f(W); dW = E5M2(G)^T f(X): G per tensor, and W and X with their forward codes, which is
  what one scale per token or channel gives along the other axis too (``block`` 1, all rows in one ``tile``).

The paper multiplies the remainder with W in FP8 where f(W) is FP4; here both terms use f(W). FP8 optimizer states
are left out. The released code differs (power-of-two scales, input-channel scales, no remainder).
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E5M2, FP32
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.outliers import Clamp
from dse.numerics.techniques.slopes import DGE

_VECTOR = BlockQuantizer(E2M1, FP32, block=0)
_X, _W = replace(_VECTOR, outliers=Clamp(0.99)), replace(_VECTOR, slope=DGE())
_G = BlockQuantizer(E5M2, FP32, block=0, tile=0)

WANG_FP4 = Recipe(
    "wang_fp4",
    "token- and channel-wise FP4 forward with DGE and clamped outliers, E5M2 gradients (no FP8 optimizer states)",
    "arXiv 2501.17116 (Wang et al., Optimizing LLM Training Using FP4 Quantization)",
    fprop=Gemm(_X, _W),
    dgrad=Gemm(_G, replace(_VECTOR, block=1, tile=0)),
    wgrad=Gemm(_G, replace(_X, block=1, tile=0)),
)
