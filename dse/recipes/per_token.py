"""NVFP4 with one FP32 scale per row, of a token or an output channel, in place of one per tensor.

g = max |X| of a row, S = 448 * 6 / g, s = E4M3(amax_16 S / 6), f(X) = E2M1(X S / s) s / S; 1 / S of both operands is
the business of the GEMM's epilogue.

- ``per_token_nvfp4``: the route of reinforcement learning: X per token, W per tensor in 16 x 16 tiles; the backward
  pass in BF16, from the dequantized forward copies.
- ``per_token_nvfp4_backward``: all six operands per row, nearest everywhere; rotation and stochastic G are options.
"""

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.tensor_scales import Outer
from dse.recipes.bf16 import BF16
from dse.recipes.nvfp4 import NVFP4

_X = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Outer(0))
_ROW = Gemm(_X, _X)

PER_TOKEN_NVFP4 = Recipe(
    "per_token_nvfp4",
    "NVFP4 forward with an FP32 scale per token of X; BF16 backward from the dequantized copies",
    "TransformerEngine #2931 (row-scaled NVFP4 fprop); NeMo-RL #3566",
    fprop=Gemm(_X, NVFP4.fprop.rhs),
    dgrad=BF16.dgrad,
    wgrad=BF16.wgrad,
    backward_source="forward",
)

PER_TOKEN_NVFP4_BACKWARD = Recipe(
    "per_token_nvfp4_backward",
    "NVFP4, 1x16 blocks, with an FP32 scale per row of all six operands, nearest, no rotation",
    "TransformerEngine #3045, #3206, #3324 (per-token NVFP4)",
    fprop=_ROW,
    dgrad=_ROW,
    wgrad=_ROW,
)
