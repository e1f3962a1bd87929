"""Zhou et al.: FP4 forward where it is harmless, FP8 elsewhere, 16 bits at the end.

Feed-forward linears: Y = FP4(X) FP4(W)^T, dX = FP8(G) FP8(W), dW = FP8(G)^T FP8(X), per block of the contraction axis
with real-valued scales, f(X) = Q(X c/a) a/c. Gradients are FP8 because those of FP4 would underflow. The last stage
of the training runs in 16 bits (target precision schedule).

Attention's projections are FP8 in the paper, because FP4 flattens attention scores: so they are in
``zhou_modulewise_fp8``; in ``zhou_modulewise``, whose trials are older than rules about layers, they stay in BF16. The
attention itself is in 16 bits in the paper too. No code is public: block size (128), FP8
formats (E4M3, gradients E5M2) and the share of the last stage (a tenth) are ours.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E5M2, FP32
from dse.numerics.gemm import Gemm
from dse.numerics.layer_choice import Which
from dse.numerics.recipe import Exempt, Recipe, Rule
from dse.numerics.techniques.schedules import LastStage

_FP4, _FP8, _G = (BlockQuantizer(element, FP32, block=128) for element in (E2M1, E4M3, E5M2))

ZHOU_MODULEWISE = Recipe(
    "zhou_modulewise",
    "FP4 forward and FP8 backward in feed-forward layers, attention projections and the last stage in BF16",
    "arXiv 2502.11458 (Zhou et al., Towards Efficient Pre-training: Exploring FP4 Precision), secondary sources",
    fprop=Gemm(_FP4, _FP4),
    dgrad=Gemm(_G, _FP8),
    wgrad=Gemm(_G, _FP8),
    schedule=LastStage(),
    exempt=Exempt(names=("*attention*", "*attn*")),
)

ZHOU_MODULEWISE_FP8 = replace(
    ZHOU_MODULEWISE,
    name="zhou_modulewise_fp8",
    summary="FP4 forward and FP8 backward in feed-forward layers, attention projections FP8, the last stage in BF16",
    exempt=Exempt(),
    layers=(
        Rule(
            Which(kinds=("attention",)),
            replace(ZHOU_MODULEWISE, name="fp8", fprop=Gemm(_FP8, _FP8), exempt=Exempt()),
            optional=True,
        ),
    ),
)
