"""NVFP4: E2M1 in blocks of 16 with E4M3 scales and an FP32 tensor scale.

S_enc = 448 * 6 / amax(tensor); s_b = E4M3(amax(block) * S_enc / 6); q = E2M1(x / (s_b / S_enc)).
Weights in 16 x 16 tiles, so that fprop and dgrad see the same codes; gradients stochastically rounded; the weight
gradient's operands rotated by a Hadamard 16 with one fixed sign vector, and their amax taken after it.

Left out of the system is one of its four stabilizers: linears that stay in BF16. The paper's 12B model keeps the first
two and the last eight of 62 blocks so (16 % of all linears; the last four suffice), guides for smaller models the last
15 % of the blocks: set ``exempt.first``, ``exempt.last`` or ``exempt.names``. Nor is anything switched to BF16 late in
the training (``schedule: last_stage``), which the paper tries from 8.2T of 10T tokens on.

- ``nvfp4``: all linears that a task quantizes; ``nvfp4_plain``: the ablation's base without any stabilizer, which the
  paper reports to diverge at 12B.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Current

_X = BlockQuantizer(E2M1, UE4M3, block=16, tensor_scale=Current())
_W = replace(_X, tile=16)
_G = replace(_X, rounding=Stochastic())

NVFP4 = Recipe(
    "nvfp4",
    "E2M1 x UE4M3, blocks of 16, tensor scale, 16x16 weight tiles, stochastic G, Hadamard 16 in wgrad",
    "arXiv 2509.25149 (NVIDIA, Pretraining LLMs with NVFP4); TransformerEngine",
    fprop=Gemm(_X, _W),
    dgrad=Gemm(_G, _W),
    wgrad=Gemm(_G, _X, Hadamard(16, "fixed")),
)

NVFP4_PLAIN = Recipe(
    "nvfp4_plain",
    "NVFP4 numbers without stabilizers: 1x16 blocks, nearest-even, no rotation",
    "arXiv 2509.25149, base of the ablation",
    fprop=Gemm(_X, _X),
    dgrad=Gemm(_X, _X),
    wgrad=Gemm(_X, _X),
)
