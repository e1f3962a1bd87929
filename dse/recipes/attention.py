"""Attention in few bits: systems that quantize the products Q K^T and P V, and what of the training they leave alone.

S = Q K^T / sqrt(D), P = softmax(S), O = P V; dP = dO V^T, dS = P (dP - rowsum(P dP)), dQ = dS K, dK = dS^T Q,
dV = P^T dO.

- ``sagebwd``: f(X) = round(127 X / amax) amax / 127 in INT8 for six of the seven products, dP = dO V^T in 16 bits (FP16
  there, BF16 here). One scale for FlashAttention's blocks of 128 queries or 64 keys, for P one per query and block of
  keys; K without its mean over the tokens. Linears stay in BF16.
- ``attn_qat``: NVFP4 for Q, K, V and P; the backward pass takes these copies, and is not quantized itself. With
  rowsum(P dP) it has P before quantization, as the paper asks (rowsum(dO O) with the quantized O diverges there).
- ``sageattention3``: Q and K in NVFP4 along D, P and V along the keys, scales in E4M3 with no tensor scale. K without
  its mean, Q without those of tiles of 128 tokens, whose product with K is added in FP32. P has two levels: an FP32
  factor per query makes its largest element 448 * 6 before it is quantized. An inference system: ``post: rtn`` with it
  quantizes attention alone after training; trained, its backward pass is BF16, straight through. The released kernel
  divides P by the scale before it is rounded (``convention: {decode: {encode_with: unquantized}}``).
- ``full_stack_attention``: the linears of ``nvfp4_4over6``, NVFP4 for Q K^T and both products of dS, BF16 for the
  others. Left out of the system: its low-rank branch in BF16, and Adam's moments in FP4.
- ``fp4_fa4``: the linears of ``nvfp4``; Q and K in NVFP4 rows of 16, P and V in E4M3, dO in E5M2 (E4M3 underflows
  there). Known from the project's description: the scales of P, V and dO, FP32 and one per row here, and BF16 for
  dQ = dS K and dK = dS^T Q are our reading.

Tensor scales are one per sample and head here, in the systems one per tensor.
"""

from dataclasses import replace

from dse.numerics.attention import Attention, Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E5M2, ELEMENTS, FP32, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.tensor_scales import Outer
from dse.recipes.bf16 import BF16
from dse.recipes.four_over_six import NVFP4_4OVER6
from dse.recipes.nvfp4 import NVFP4, NVFP4_PLAIN

_BF16, _NVFP4 = BF16.fprop, NVFP4_PLAIN.fprop
_QUERIES, _KEYS = 128, 64


def _int8(tile: int, block: int) -> BlockQuantizer:
    return BlockQuantizer(ELEMENTS["int8"], FP32, block=block, tile=tile)


_SAGE = Attention(
    scores=Product(
        fprop=Gemm(_int8(_QUERIES, 0), _int8(_KEYS, 0)),
        dgrad=Gemm(_int8(_QUERIES, _KEYS), _int8(0, _KEYS)),
        wgrad=Gemm(_int8(_KEYS, _QUERIES), _int8(0, _QUERIES)),
    ),
    outputs=Product(
        fprop=Gemm(_int8(1, _KEYS), _int8(0, _KEYS)),
        dgrad=_BF16,
        wgrad=Gemm(_int8(0, _QUERIES), _int8(_KEYS, _QUERIES)),
    ),
    smooth_keys=True,
)

SAGEBWD = replace(
    BF16,
    name="sagebwd",
    summary="INT8 in six of attention's seven products, keys without their mean; linears in BF16",
    source="arXiv 2505.11594, Sec. 4 (SageAttention3); arXiv 2603.02170 (SageBwd)",
    attention=_SAGE,
)

_QAT = Product(_NVFP4, _BF16, _BF16, backward_source="forward")

ATTN_QAT = replace(
    BF16,
    name="attn_qat",
    summary="NVFP4 for Q, K, V and P forward, their copies in an unquantized backward pass; linears in BF16",
    source="arXiv 2603.00040 (Attn-QAT)",
    attention=Attention(_QAT, _QAT),
)

_BLOCKS = BlockQuantizer(E2M1, UE4M3, 16)

SAGEATTENTION3 = replace(
    BF16,
    name="sageattention3",
    summary="NVFP4 for Q, K, V and P, queries and keys without their means, P in two levels; linears in BF16",
    source="arXiv 2505.11594, Sec. 3 (SageAttention3)",
    attention=Attention(
        Product(Gemm(_BLOCKS, _BLOCKS), _BF16, _BF16),
        Product(Gemm(replace(_BLOCKS, tensor_scale=Outer(0)), _BLOCKS), _BF16, _BF16),
        smooth_keys=True,
        smooth_queries=128,
    ),
)

FULL_STACK_ATTENTION: Recipe = replace(
    NVFP4_4OVER6,
    name="full_stack_attention",
    summary="nvfp4_4over6 with NVFP4 for attention's scores and both products of their gradient, BF16 for the outputs",
    source="arXiv 2607.04422 (Full-Stack FP4), attention and linears without the low-rank branch",
    attention=Attention(Product(_NVFP4, _NVFP4, _NVFP4), Product(_BF16, _BF16, _BF16)),
)

_E4M3, _E5M2 = (BlockQuantizer(element, FP32, block=0) for element in (E4M3, E5M2))
_FP8_BACKWARD = Gemm(_E5M2, _E4M3)

FP4_FA4: Recipe = replace(
    NVFP4,
    name="fp4_fa4",
    summary="nvfp4 with attention's Q and K in NVFP4, P and V in E4M3, dO in E5M2",
    source="github.com/MrHuff/fp4-fa4, description",
    attention=Attention(Product(_NVFP4, _BF16, _BF16), Product(Gemm(_E4M3, _E4M3), _FP8_BACKWARD, _FP8_BACKWARD)),
)
