"""CHON: NVFP4 with the hot-channel patch, and the projection of the values in BF16.

Y = Q(X) Q(W)^T + dX_I Q(W)_I^T + Q(X)_I dW_I^T for the channels I with the largest quantization errors dX, dW. It
protects "post-QK" operations: of softmax attention the projection of the values, the most sensitive one in its table,
stays in BF16 here where a model has one of its own; of linear attention it would be the output projection. Everything
else is NVIDIA's NVFP4. Known from the abstract and secondary summaries alone: how many channels are patched, how often
they are chosen, and that the backward GEMMs are plain NVFP4 are our reading.
"""

from dataclasses import replace

from dse.numerics.recipe import Rule, Which
from dse.numerics.techniques.decompositions import HotChannels
from dse.recipes.bf16 import BF16
from dse.recipes.nvfp4 import NVFP4

CHON = replace(
    NVFP4,
    name="chon",
    summary="nvfp4 with the errors of 5 % hot channels added in BF16 in the forward GEMM, values' projection in BF16",
    source="arXiv 2602.02047 (CHON), abstract and secondary summaries; layout of arXiv 2509.25149",
    decomposition=HotChannels(),
    layers=(Rule(Which(kinds=("v",)), BF16, optional=True),),
)
