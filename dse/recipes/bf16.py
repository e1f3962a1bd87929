"""Unquantized baselines."""

from dataclasses import replace

from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import BFloat16
from dse.numerics.recipe import Recipe

_GEMM = Gemm(BFloat16(), BFloat16())

BF16 = Recipe(
    "bf16",
    "the baseline: operands rounded to BF16, FP32 accumulation",
    "ordinary mixed-precision training",
    fprop=_GEMM,
    dgrad=_GEMM,
    wgrad=_GEMM,
)

FP32 = Recipe("fp32", "the identity recipe: nothing is quantized", "a plain nn.Linear, bit for bit")


def replace_gemms(recipe: Recipe, fprop: Gemm, dgrad: Gemm, wgrad: Gemm) -> Recipe:
    """The recipe with other GEMMs, without weight rule and decomposition where its forward GEMM is gone."""
    kept = fprop is recipe.fprop
    weights, decomposition = (recipe.weights, recipe.decomposition) if kept else (None, None)
    return replace(recipe, fprop=fprop, dgrad=dgrad, wgrad=wgrad, weights=weights, decomposition=decomposition)
