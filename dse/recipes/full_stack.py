"""Full-Stack FP4: NVFP4 with four-over-six and a BF16 low-rank branch in linears, and NVFP4 in attention's scores.

W = A B + R: Y = Q(X) Q(R)^T + (X B^T) A^T, with the factors of W's leading singular directions found anew every 4,000
steps. Attention is that of ``full_stack_attention``. Known from the abstract and secondary summaries alone: the rank 32
is ours, the factors are those of an exact decomposition where theirs is randomized, and they are held between two of
them, while the rest follows the weight. The optimizer's part is options of the training: second_moment and Newton-
Schulz products in NVFP4.
"""

from dataclasses import replace

from dse.numerics.techniques.decompositions import LowRank
from dse.recipes.attention import FULL_STACK_ATTENTION

FULL_STACK_FP4 = replace(
    FULL_STACK_ATTENTION,
    name="full_stack_fp4",
    summary="full_stack_attention with a BF16 branch of rank 32 in linears, found anew every 4,000 steps",
    source="arXiv 2607.04422 (Full-Stack FP4), abstract and secondary summaries",
    decomposition=LowRank(),
)
