"""AMD's MLPerf fine-tuning of Llama 2 70B: MXFP4, healed in FP8 for the last 210 of 550 steps.

- MXFP4: E2M1 x E8M0 in blocks of 32, s = 2^(floor(log2 amax) - 2), nearest-even, in all three
  GEMMs.
- From 34/55 of the steps on FP8 per tensor: X and W in E4M3, G in E5M2, scales max / 448 and max / 57344 in FP32.

What the public configuration leaves open is ours: rounding and scale rule of the MXFP4 kernels, and FP8's formats. Its
FP8 scales are delayed, from a history of maxima; here each is of the operand at hand. LoRA, which it trains, is left
out: all weights are trained.
"""

from dataclasses import replace

from dse.numerics.attention import Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E4M3, E5M2, FP32
from dse.numerics.gemm import Gemm
from dse.numerics.techniques.schedules import Switch
from dse.recipes.mxfp4 import MXFP4

_E4M3, _E5M2 = (BlockQuantizer(element, FP32, block=0, tile=0) for element in (E4M3, E5M2))
_BACKWARD = Gemm(_E5M2, _E4M3)

MLPERF_MXFP4_HEALING = replace(
    MXFP4,
    name="mlperf_mxfp4_healing",
    summary="OCP MXFP4 in all three GEMMs, per-tensor FP8 for the last 38 % of the steps",
    source="AMD-AGI/Primus #877 (MLPerf Training 6.0, Llama 2 70B LoRA)",
    schedule=Switch(Product(Gemm(_E4M3, _E4M3), _BACKWARD, _BACKWARD), share=210 / 550),
)
